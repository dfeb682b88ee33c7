//! What several workloads share: connections, above all. Application pods times their pool must stay within what PgBouncer
//! takes in, and what PgBouncer opens within what PostgreSQL allows.
//!
//! A budget has a limit, and members that each use so much of it per unit. The limit is a number, or what the units of
//! another workload provide (its provider). Whatever order things happen in, a member counts with the most units that it
//! may have at any moment of its change, a provider with the fewest: so a provider is raised and ready before its members
//! grow, and released only after they have shrunk.
//!
//! Invariant `budget-held`: what the members use never exceeds what is provided, less the reserve.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `[actuate.budgets.<name>]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What there is; or `provider`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What is kept free: PostgreSQL's `superuser_reserved_connections`, people's sessions.
    #[serde(default)]
    pub reserved: u64,
    /// What is done with a raise that does not fit.
    #[serde(default)]
    pub excess: Excess,
    /// The workload whose units provide the limit; it is raised before its members and released after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Who uses it, by workload.
    pub members: BTreeMap<String, Member>,
}

/// Who uses a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What one unit uses: the pool size of one pod.
    pub per_unit: u64,
}

/// Whose units provide a budget's limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The workload.
    pub workload: String,
    /// What one unit provides.
    pub per_unit: u64,
}

/// What is done with a raise that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Excess {
    /// Nothing is raised.
    #[default]
    Refuse,
    /// As many units as fit.
    Cut,
}

/// Units that a workload has or may have at this moment: those ready, those commanded, those of a change under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Fewest.
    pub least: u32,
    /// Most.
    pub most: u32,
}

/// What a budget says to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It fits.
    Fits,
    /// Fewer units fit.
    Cut {
        /// As many as fit; not fewer than there are.
        units: u32,
        /// The arithmetic.
        why: String,
    },
    /// It waits until the provider has as many units and they are ready.
    Waits {
        /// The provider.
        provider: String,
        /// Units that it needs.
        units: u32,
        /// The arithmetic.
        why: String,
    },
    /// It does not fit.
    Refused {
        /// The arithmetic.
        why: String,
    },
}

impl Held {
    /// Neither more nor less.
    #[must_use]
    pub fn exactly(units: u32) -> Self {
        Self { least: units, most: units }
    }

    /// With a change to `units` under way.
    #[must_use]
    pub fn and(self, units: u32) -> Self {
        Self { least: self.least.min(units), most: self.most.max(units) }
    }
}

impl Budget {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match (self.limit, &self.provider) {
            (None, None) => problems.push("give a `limit` or a `provider`".to_owned()),
            (Some(_), Some(_)) => problems.push("a `limit` or a `provider`, not both".to_owned()),
            (Some(limit), None) if limit <= self.reserved => {
                problems.push("`reserved` must be below `limit`".to_owned());
            }
            (None, Some(provider)) if provider.per_unit == 0 => {
                problems.push("`provider.per_unit` must be positive".to_owned());
            }
            (None, Some(provider)) if self.members.contains_key(&provider.workload) => {
                problems.push(format!("`{}` cannot provide what it uses itself", provider.workload));
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        if self.members.is_empty() {
            problems.push("`members`: none".to_owned());
        }
        let idle = self.members.iter().filter(|(_, member)| member.per_unit == 0);
        problems.extend(idle.map(|(name, _)| format!("`members.{name}.per_unit` must be positive")));
        problems
    }

    /// May `name` have `wanted` units, beside what everyone holds? Says `Fits` to workloads that it does not concern.
    /// `name` itself is among `held`.
    #[must_use]
    pub fn ask(&self, name: &str, wanted: u32, held: &dyn Fn(&str) -> Held) -> Answer {
        if self.provider.as_ref().is_some_and(|provider| provider.workload == name) {
            return self.ask_provider(name, wanted, held);
        }
        let Some(member) = self.members.get(name) else { return Answer::Fits };
        let now = held(name);
        if wanted <= now.least {
            return Answer::Fits;
        }
        let used = self.used(&|other| if other == name { now.and(wanted).most } else { held(other).most });
        let there = self.there(held);
        if used <= there {
            return Answer::Fits;
        }
        let why = format!("{} > {}", self.sum(name, now.and(wanted).most, held), self.bound(held));
        if let Some(provider) = &self.provider {
            let needed = used.saturating_add(self.reserved).div_ceil(provider.per_unit.max(1));
            let units = u32::try_from(needed).unwrap_or(u32::MAX);
            return Answer::Waits { provider: provider.workload.clone(), units, why };
        }
        let others = self.used(&|other| if other == name { 0 } else { held(other).most });
        let fitting = there.saturating_sub(others) / member.per_unit.max(1);
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        if self.excess == Excess::Cut && fitting > now.least {
            return Answer::Cut { units: fitting.min(wanted), why };
        }
        Answer::Refused { why }
    }

    /// A provider may always be raised, and released down to what its members use.
    fn ask_provider(&self, name: &str, wanted: u32, held: &dyn Fn(&str) -> Held) -> Answer {
        let Some(provider) = &self.provider else { return Answer::Fits };
        let used = self.used(&|member| held(member).most).saturating_add(self.reserved);
        if u64::from(wanted).saturating_mul(provider.per_unit) >= used || wanted >= held(name).most {
            return Answer::Fits;
        }
        let needed = u32::try_from(used.div_ceil(provider.per_unit.max(1))).unwrap_or(u32::MAX);
        let sum = self.sum("", 0, held);
        let (each, reserved) = (provider.per_unit, self.reserved);
        let why =
            format!("{sum} + {reserved} reserved > {wanted} x {each} = {}", u64::from(wanted).saturating_mul(each));
        if needed < held(name).least { Answer::Cut { units: needed, why } } else { Answer::Refused { why } }
    }

    /// Units that the provider needs for what the members hold, at the least; none without a provider.
    #[must_use]
    pub fn provider_needs(&self, held: &dyn Fn(&str) -> Held) -> Option<(&str, u32)> {
        let provider = self.provider.as_ref()?;
        let used = self.used(&|member| held(member).most).saturating_add(self.reserved);
        let units = u32::try_from(used.div_ceil(provider.per_unit.max(1))).unwrap_or(u32::MAX);
        Some((&provider.workload, units))
    }

    /// What the members use with so many units.
    fn used(&self, units: &dyn Fn(&str) -> u32) -> u64 {
        let each = self.members.iter().map(|(name, member)| u64::from(units(name)).saturating_mul(member.per_unit));
        each.fold(0, u64::saturating_add)
    }

    /// What there surely is, less the reserve.
    fn there(&self, held: &dyn Fn(&str) -> Held) -> u64 {
        let provided = self
            .provider
            .as_ref()
            .map(|provider| u64::from(held(&provider.workload).least).saturating_mul(provider.per_unit));
        self.limit.or(provided).unwrap_or(0).saturating_sub(self.reserved)
    }

    /// `app 9 x 20 = 180 + reports 2 x 5 = 10 is 190`.
    fn sum(&self, name: &str, units: u32, held: &dyn Fn(&str) -> Held) -> String {
        let units_of = |member: &str| if member == name { units } else { held(member).most };
        let first = self.members.get_key_value(name);
        let others = self.members.iter().filter(|(member, _)| *member != name);
        let parts: Vec<String> = first
            .into_iter()
            .chain(others)
            .map(|(member, Member { per_unit })| {
                let units = units_of(member);
                format!("{member} {units} x {per_unit} = {}", u64::from(units).saturating_mul(*per_unit))
            })
            .collect();
        let total = self.used(&units_of);
        let parts_text = parts.join(" + ");
        if parts.len() > 1 { format!("{parts_text} is {total}") } else { parts_text }
    }

    /// `190 = 200 - 10 reserved`.
    fn bound(&self, held: &dyn Fn(&str) -> Held) -> String {
        let there = self.there(held);
        let from = match &self.provider {
            Some(provider) => {
                let units = held(&provider.workload).least;
                format!("{} {units} x {}", provider.workload, provider.per_unit)
            }
            None => self.limit.unwrap_or(0).to_string(),
        };
        format!("{there} = {from} - {} reserved", self.reserved)
    }
}

#[cfg(test)]
mod tests;
