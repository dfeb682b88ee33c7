//! What people may do, by the roles that their token gives them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything.
    Viewer,
    /// Announces event signals.
    Planner,
    /// Stops and resumes automation, rejects and rolls back.
    Operator,
    /// Approves plans.
    Approver,
    /// All of that.
    Admin,
}

/// The roles of a person; an administrator has all, and everyone who has one is a viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Planner, Self::Operator, Self::Approver, Self::Admin];

    /// In tokens and policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Planner => "planner",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| format!("`{text}` is none of {}", known()))
    }
}

impl Roles {
    /// Those of everyone, where nobody is asked who they are.
    pub const ALL: Self = Self(0b1_1111);

    /// These roles, with what follows from them.
    pub fn of(roles: impl IntoIterator<Item = Role>) -> Self {
        let mut all = Self::default();
        for role in roles {
            all = if role == Role::Admin { Self::ALL } else { Self(all.0 | bit(role) | bit(Role::Viewer)) };
        }
        all
    }

    /// Is the role among them?
    #[must_use]
    pub fn has(self, role: Role) -> bool {
        self.0 & bit(role) != 0
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

fn bit(role: Role) -> u8 {
    match role {
        Role::Viewer => 1,
        Role::Planner => 2,
        Role::Operator => 4,
        Role::Approver => 8,
        Role::Admin => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_may_all_and_everyone_with_a_role_may_look() {
        let roles = Roles::of([Role::Approver]);
        assert_eq!(roles.each().collect::<Vec<_>>(), [Role::Viewer, Role::Approver]);
        assert!(!roles.has(Role::Operator));
        assert_eq!(Roles::of([Role::Admin, Role::Planner]), Roles::ALL);
        assert_eq!(Roles::of([]).each().count(), 0);
        assert_eq!("operator".parse(), Ok(Role::Operator));
        assert!("root".parse::<Role>().is_err());
    }
}
