//! The story of a plan in plain words: why it was made, what it costs, what it risks, how it is undone, what came of it.

mod parts;
mod record;

use std::fmt::Write as _;

use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, ActionState, Outcome, Plan, Signal};
use serde_json::{Value, json};

use crate::transition::state_word;
pub use record::record_of;

/// Everything that is known of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Story<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Every move of its actions, oldest first.
    pub moves: &'a [ActionRecord],
    /// What was measured of them.
    pub outcomes: &'a [Outcome],
    /// The event signals that its forecast used, as it knew them.
    pub signals: &'a [Signal],
}

impl Story<'_> {
    /// In plain words.
    #[must_use]
    pub fn text(&self) -> String {
        let plan = self.plan;
        let mut text = format!(
            "Plan {} of {}: {} -> {}, decided {}\nState: {}\n",
            plan.plan_id,
            plan.workload,
            plan.units_before,
            units(plan.units_now),
            EventTime::from_micros(plan.decided_at_us),
            self.state()
        );
        for (title, lines) in [
            ("What is coming", parts::coming(self)),
            ("How much", parts::sizing(plan)),
            ("What it costs", parts::cost(plan)),
            ("If it is wrong", parts::risk(plan)),
            ("How it is undone", parts::undoing(self)),
            ("Who decided", parts::decided(self)),
            ("What came of it", parts::outcome(self)),
        ] {
            section(&mut text, title, &lines);
        }
        text
    }

    /// The same as a document: each section's lines, and the numbers they are made of.
    #[must_use]
    pub fn json(&self) -> Value {
        let plan = self.plan;
        json!({
            "plan": plan,
            "state": self.state(),
            "coming": parts::coming(self),
            "sizing": parts::sizing(plan),
            "cost": parts::cost(plan),
            "risk": parts::risk(plan),
            "undo": parts::undoing(self),
            "decided": parts::decided(self),
            "outcome": parts::outcome(self),
            "chance_of_violation": parts::chance_of_violation(plan),
            "quantile_from_costs": parts::quantile_from_costs(plan),
            "undo_command": parts::undo_command(self),
            "signals": self.signals,
            "moves": self.moves,
            "outcomes": self.outcomes,
        })
    }

    fn state(&self) -> String {
        let planned = if self.is_observed() { "observed" } else { "planned" };
        self.moves.last().map_or_else(|| planned.to_owned(), |last| state_word(last.state()))
    }

    /// Was it made at stage `observe`, where nothing follows from a plan?
    fn is_observed(&self) -> bool {
        self.moves.is_empty() && !self.plan.would.is_empty()
    }

    /// Has any of its actions had an effect that was not undone?
    fn is_in_effect(&self) -> bool {
        use ActionState::{Applied, Holding, RolledBack, Verified};
        let state = self.moves.last().map(ActionRecord::state);
        matches!(state, Some(Applied | Holding | Verified))
            || self.moves.iter().any(|record| record.state() == Applied)
                && !self.moves.iter().any(|record| record.state() == RolledBack)
    }
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    writeln!(text, "\n{title}").ok();
    for line in lines {
        writeln!(text, "  {line}").ok();
    }
}

fn units(count: u32) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}

fn time(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

/// A level as people say it: `p75`, `p97.5`.
fn level(level: f64) -> String {
    let text = format!("{:.1}", level * 100.0);
    format!("p{}", text.strip_suffix(".0").unwrap_or(&text))
}

/// A sum of money or the like, without a long tail.
fn sum(amount: f64) -> String {
    if amount.abs() < 0.1 { format!("{amount:.4}") } else { format!("{amount:.2}") }
}

#[cfg(test)]
mod tests;
