//! How risky a change is: from its size, whether it can be undone, and when it comes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How risky a change is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Small and reversible.
    #[default]
    Low,
    /// Larger, or small at a bad time.
    Medium,
    /// Very large, or larger at a bad time, or not reversible.
    High,
}

/// From which size on a change is larger. A size is a share of the range from `min_units` to `max_units`, 0..1: the bounds
/// are what the operator has said may happen at all. One unit is never large.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RiskConfig {
    /// From this share on it is of medium risk.
    pub medium: f64,
    /// From this share on it is of high risk.
    pub high: f64,
}

impl Default for RiskConfig {
    fn default() -> Self {
        Self { medium: 0.25, high: 0.5 }
    }
}

/// A change whose risk is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Units before.
    pub before: u32,
    /// Units after.
    pub after: u32,
    /// Fewest units.
    pub min_units: u32,
    /// Most units.
    pub max_units: u32,
    /// Can it be undone?
    pub reversible: bool,
    /// Does it come at a time at which nothing should change?
    pub blackout: bool,
}

impl RiskConfig {
    /// What is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        if self.medium > 0.0 && self.medium <= self.high {
            return Vec::new();
        }
        vec!["`medium` must be positive and not above `high`".to_owned()]
    }

    /// The risk of a change.
    #[must_use]
    pub fn of(&self, change: &Change) -> Risk {
        if !change.reversible {
            return Risk::High;
        }
        let moved = change.before.abs_diff(change.after);
        let range = change.max_units.saturating_sub(change.min_units).max(1);
        let share = f64::from(moved) / f64::from(range);
        let by_size = match share {
            _ if moved <= 1 => Risk::Low,
            share if share >= self.high => Risk::High,
            share if share >= self.medium => Risk::Medium,
            _ => Risk::Low,
        };
        match by_size {
            Risk::Low if change.blackout => Risk::Medium,
            Risk::Medium if change.blackout => Risk::High,
            risk @ (Risk::Low | Risk::Medium | Risk::High) => risk,
        }
    }
}

impl Risk {
    /// The risk in policies and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_time_and_irreversibility_count() {
        let change =
            |before, after| Change { before, after, min_units: 1, max_units: 101, reversible: true, blackout: false };
        let config = RiskConfig::default();
        for (before, after, normal, at_a_bad_time) in [
            (10, 34, Risk::Low, Risk::Medium),
            (10, 35, Risk::Medium, Risk::High),
            (35, 10, Risk::Medium, Risk::High),
            (10, 60, Risk::High, Risk::High),
        ] {
            assert_eq!(config.of(&change(before, after)), normal, "{before} -> {after}");
            let bad = Change { blackout: true, ..change(before, after) };
            assert_eq!(config.of(&bad), at_a_bad_time, "{before} -> {after} at a bad time");
        }
        assert_eq!(config.of(&Change { reversible: false, ..change(10, 11) }), Risk::High);
        assert_eq!(config.of(&Change { max_units: 2, ..change(1, 2) }), Risk::Low, "one unit");
        assert!(RiskConfig { medium: 0.6, high: 0.5 }.problems().len() == 1);
    }
}
