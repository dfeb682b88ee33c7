//! Tests of policies: questions with the answer that is expected.

use headroom_proto::EventTime;
use serde::Deserialize;

use super::{Policy, Question};
use crate::risk::Risk;
use crate::roles::{Role, Roles};
use crate::stage::Stage;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// `[[case]]`, one after the other.
    pub case: Vec<Case>,
}

/// One question and what is expected. What is not given is that of a small raise at stage `automate`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is shown.
    pub name: String,
    /// `allow` or `deny`.
    pub expect: Expected,
    /// A rule that must be among those that decide.
    #[serde(default)]
    pub rule: Option<String>,
    /// A person's name; Headroom itself without.
    #[serde(default)]
    pub person: Option<String>,
    /// The person's roles; all of them unless given.
    #[serde(default)]
    pub roles: Option<Vec<Role>>,
    /// `apply` or `rollback`.
    #[serde(default = "apply")]
    pub action: String,
    /// The workload.
    #[serde(default = "workload")]
    pub workload: String,
    /// The target.
    #[serde(default)]
    pub target: String,
    /// The stage that holds.
    #[serde(default = "automate")]
    pub stage: Stage,
    /// The configured stage; as `stage` without.
    #[serde(default)]
    pub ceiling: Option<Stage>,
    /// The forecast's verdict.
    #[serde(default = "fresh")]
    pub verdict: String,
    /// Does the load of now alone need the units?
    #[serde(default)]
    pub needed_now: bool,
    /// Is automation stopped?
    #[serde(default)]
    pub paused: bool,
    /// Can it be undone?
    #[serde(default = "yes")]
    pub reversible: bool,
    /// The risk.
    #[serde(default)]
    pub risk: Risk,
    /// In a blackout?
    #[serde(default)]
    pub blackout: bool,
    /// Units before.
    #[serde(default = "two")]
    pub units_before: u32,
    /// Units after.
    #[serde(default = "four")]
    pub units_after: u32,
    /// Different people who want it; 1 for a person unless given.
    #[serde(default)]
    pub approvals: Option<u32>,
    /// When, in RFC 3339.
    #[serde(default)]
    pub at: Option<String>,
}

/// The answer that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
}

fn apply() -> String {
    "apply".to_owned()
}

fn workload() -> String {
    "shop".to_owned()
}

fn automate() -> Stage {
    Stage::Automate
}

fn fresh() -> String {
    "fresh".to_owned()
}

fn yes() -> bool {
    true
}

fn two() -> u32 {
    2
}

fn four() -> u32 {
    4
}

impl Case {
    /// Asks; none when the answer is the expected one, else what is different.
    #[must_use]
    pub fn failure(&self, policy: &Policy) -> Option<String> {
        let at = match self.at.as_deref().map(EventTime::parse) {
            None => EventTime::from_micros(0),
            Some(Ok(at)) => at,
            Some(Err(error)) => return Some(format!("at: {error}")),
        };
        let question = Question {
            person: self.person.as_deref(),
            roles: self.roles.as_ref().map_or(Roles::ALL, |roles| Roles::of(roles.iter().copied())),
            action: &self.action,
            workload: &self.workload,
            target: &self.target,
            stage: self.stage,
            ceiling: self.ceiling.unwrap_or(self.stage),
            verdict: &self.verdict,
            needed_now: self.needed_now,
            paused: self.paused,
            reversible: self.reversible,
            risk: self.risk,
            blackout: self.blackout,
            units_before: self.units_before,
            units_after: self.units_after,
            approvals: self.approvals.unwrap_or_else(|| u32::from(self.person.is_some())),
            at,
        };
        let answer = match policy.ask(&question) {
            Ok(answer) => answer,
            Err(error) => return Some(error.to_string()),
        };
        if answer.allowed != (self.expect == Expected::Allow) {
            let expected = if answer.allowed { "denied" } else { "allowed" };
            return Some(format!("expected to be {expected}, but {}", answer.told()));
        }
        let rule = self.rule.as_ref().filter(|rule| !answer.rules.contains(rule))?;
        Some(format!("as expected, but not by `{rule}`: {}", answer.told()))
    }
}
