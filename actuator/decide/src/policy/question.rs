//! What the policies are asked, and the values they see.

use std::collections::BTreeMap;

use cedar_policy::{Context, RestrictedExpression};
use headroom_proto::EventTime;

use crate::risk::Risk;
use crate::roles::{Role, Roles};
use crate::stage::{Kind, Stage};

const MINUTE_US: i64 = 60_000_000;
const DAY_MINUTES: i64 = 1_440;
/// 1970-01-01 was a Thursday.
const WEEKDAYS: [&str; 7] = ["thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday"];

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// A person's name; none for Headroom itself.
    pub person: Option<&'a str>,
    /// The person's roles.
    pub roles: Roles,
    /// `apply` or `rollback`.
    pub action: &'a str,
    /// The workload.
    pub workload: &'a str,
    /// The target's name.
    pub target: &'a str,
    /// The stage that holds for the workload and kind of action.
    pub stage: Stage,
    /// The configured stage.
    pub ceiling: Stage,
    /// `fresh`, `suspect`, `stale`, `abstain` or `none`.
    pub verdict: &'a str,
    /// Does the load of now alone need these units?
    pub needed_now: bool,
    /// Has a person stopped automation?
    pub paused: bool,
    /// Can it be undone?
    pub reversible: bool,
    /// Size, reversibility and time in one word.
    pub risk: Risk,
    /// Does it come in a window in which nothing should change?
    pub blackout: bool,
    /// Units before.
    pub units_before: u32,
    /// Units after.
    pub units_after: u32,
    /// Different people who want it, the asking one included.
    pub approvals: u32,
    /// When.
    pub at: EventTime,
}

/// A small reversible raise that nobody has stopped, asked by Headroom itself.
impl Default for Question<'_> {
    fn default() -> Self {
        Self {
            person: None,
            roles: Roles::ALL,
            action: "apply",
            workload: "",
            target: "",
            stage: Stage::default(),
            ceiling: Stage::default(),
            verdict: "none",
            needed_now: false,
            paused: false,
            reversible: true,
            risk: Risk::Low,
            blackout: false,
            units_before: 0,
            units_after: 0,
            approvals: 0,
            at: EventTime::from_micros(0),
        }
    }
}

/// One value of the context.
enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Bool(bool),
}

impl Question<'_> {
    /// Raise or release.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.units_before, self.units_after)
    }

    /// The names and values of the context, in the order of the schema.
    fn values(&self) -> [(&'static str, Value<'_>); 15] {
        let minutes = self.at.micros().div_euclid(MINUTE_US);
        let weekday = usize::try_from(minutes.div_euclid(DAY_MINUTES).rem_euclid(7)).unwrap_or(0);
        [
            ("stage", Value::Text(self.stage.name())),
            ("ceiling", Value::Text(self.ceiling.name())),
            ("kind", Value::Text(self.kind().name())),
            ("target", Value::Text(self.target)),
            ("verdict", Value::Text(self.verdict)),
            ("needed_now", Value::Bool(self.needed_now)),
            ("paused", Value::Bool(self.paused)),
            ("reversible", Value::Bool(self.reversible)),
            ("risk", Value::Text(self.risk.name())),
            ("blackout", Value::Bool(self.blackout)),
            ("units_before", Value::Number(i64::from(self.units_before))),
            ("units_after", Value::Number(i64::from(self.units_after))),
            ("approvals", Value::Number(i64::from(self.approvals))),
            ("weekday", Value::Text(WEEKDAYS.get(weekday).copied().unwrap_or_default())),
            ("minute_of_day", Value::Number(minutes.rem_euclid(DAY_MINUTES))),
        ]
    }

    /// Everything that was asked, by name, for the record.
    #[must_use]
    pub fn shown(&self) -> BTreeMap<String, String> {
        let text = |value: Value<'_>| match value {
            Value::Text(text) => text.to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(is) => is.to_string(),
        };
        let values = self.values().into_iter().map(|(name, value)| (name.to_owned(), text(value)));
        let who = self.person.map_or_else(|| "headroom".to_owned(), |person| format!("person {person}"));
        let asked = [("principal", who), ("action", self.action.to_owned()), ("workload", self.workload.to_owned())];
        let roles = self.roles.each().map(Role::name).collect::<Vec<_>>().join(", ");
        let roles = (self.person.is_some() && self.roles != Roles::ALL).then_some(("roles", roles));
        values.chain(asked.into_iter().chain(roles).map(|(name, value)| (name.to_owned(), value))).collect()
    }

    /// The values as Cedar has them.
    pub(super) fn context(&self) -> Result<Context, String> {
        let expression = |value: Value<'_>| match value {
            Value::Text(text) => RestrictedExpression::new_string(text.to_owned()),
            Value::Number(number) => RestrictedExpression::new_long(number),
            Value::Bool(is) => RestrictedExpression::new_bool(is),
        };
        let pairs = self.values().into_iter().map(|(name, value)| (name.to_owned(), expression(value)));
        Context::from_pairs(pairs).map_err(|error| error.to_string())
    }
}
