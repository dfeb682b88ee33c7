//! Policy as code: Cedar says who may do what to which workload.

use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision as Verdict, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::hex;

/// The policies that are shipped.
pub const DEFAULT: &str = include_str!("policy/default.cedar");

/// How much Headroom may do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Every action waits for a person.
    Observe,
    /// What is reversible and within bounds is done.
    Automate,
}

impl Stage {
    /// The stage's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Automate => "automate",
        }
    }
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("policy: {0}")]
pub struct PolicyError(String);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// A person's name; none for Headroom itself.
    pub person: Option<&'a str>,
    /// `apply` or `rollback`.
    pub action: &'a str,
    /// The workload.
    pub workload: &'a str,
    /// The stage of the workload.
    pub stage: Stage,
    /// `fresh`, `suspect`, `stale`, `abstain` or `none`.
    pub verdict: &'a str,
    /// Has a person stopped automation?
    pub paused: bool,
    /// Can it be undone?
    pub reversible: bool,
    /// Units before.
    pub units_before: u32,
    /// Units after.
    pub units_after: u32,
}

/// What the policies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// May it be done?
    pub allowed: bool,
    /// The ids of the policies that decided; empty when none applied, which denies.
    pub rules: Vec<String>,
}

/// A set of policies, read and checked.
#[derive(Debug)]
pub struct Policy {
    policies: PolicySet,
    version: String,
}

impl Policy {
    /// Reads policies in the Cedar language.
    ///
    /// # Errors
    /// Says where the text is not Cedar.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policies = PolicySet::from_str(text).map_err(|error| PolicyError(error.to_string()))?;
        Ok(Self { policies, version: hex(&Sha256::digest(text)) })
    }

    /// SHA-256 of the text, in hexadecimal.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Asks. What no policy permits is denied.
    ///
    /// # Errors
    /// When a name cannot be written as a Cedar entity.
    pub fn ask(&self, question: &Question<'_>) -> Result<Answer, PolicyError> {
        let principal = match question.person {
            Some(person) => entity("Person", person)?,
            None => entity("Service", "headroom")?,
        };
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let number = |value: u32| RestrictedExpression::new_long(i64::from(value));
        let context = Context::from_pairs([
            ("stage".to_owned(), text(question.stage.name())),
            ("verdict".to_owned(), text(question.verdict)),
            ("paused".to_owned(), RestrictedExpression::new_bool(question.paused)),
            ("reversible".to_owned(), RestrictedExpression::new_bool(question.reversible)),
            ("units_before".to_owned(), number(question.units_before)),
            ("units_after".to_owned(), number(question.units_after)),
        ])
        .map_err(|error| PolicyError(error.to_string()))?;
        let (action, workload) = (entity("Action", question.action)?, entity("Workload", question.workload)?);
        let request =
            Request::new(principal, action, workload, context, None).map_err(|e| PolicyError(e.to_string()))?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &Entities::empty());
        let rules = response.diagnostics().reason().map(|id| self.name_of(id)).collect();
        Ok(Answer { allowed: response.decision() == Verdict::Allow, rules })
    }

    /// The policy's `@id`, or its place in the text.
    fn name_of(&self, id: &cedar_policy::PolicyId) -> String {
        let named = self.policies.policy(id).and_then(|policy| policy.annotation("id").map(str::to_owned));
        named.unwrap_or_else(|| id.to_string())
    }
}

fn entity(kind: &str, name: &str) -> Result<EntityUid, PolicyError> {
    let kind = cedar_policy::EntityTypeName::from_str(kind).map_err(|error| PolicyError(error.to_string()))?;
    Ok(EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>() -> Question<'a> {
        Question {
            person: None,
            action: "apply",
            workload: "shop",
            stage: Stage::Automate,
            verdict: "fresh",
            paused: false,
            reversible: true,
            units_before: 2,
            units_after: 4,
        }
    }

    #[test]
    fn the_shipped_policies() {
        let policy = Policy::parse(DEFAULT).expect("valid");
        let allowed = |question: &Question<'_>| policy.ask(question).expect("answers").allowed;
        assert_eq!(policy.ask(&question()).expect("answers").rules, ["automate-reversible"]);
        assert!(!allowed(&Question { stage: Stage::Observe, ..question() }));
        assert!(!allowed(&Question { reversible: false, ..question() }));
        assert!(!allowed(&Question { paused: true, ..question() }));
        for (verdict, released) in
            [("fresh", true), ("suspect", true), ("stale", false), ("abstain", false), ("none", false)]
        {
            assert_eq!(allowed(&Question { verdict, units_after: 1, ..question() }), released, "release on {verdict}");
        }
        assert!(allowed(&Question { verdict: "stale", ..question() }), "the guard may raise");
        let person = Question { person: Some("ann"), stage: Stage::Observe, ..question() };
        assert!(allowed(&person) && allowed(&Question { action: "rollback", paused: true, ..person }));
    }

    #[test]
    fn a_mistake_is_an_error() {
        assert!(Policy::parse("permit (principal, action").is_err());
    }
}
