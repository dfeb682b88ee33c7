//! Seasonal naive: what was a week before, or a day before while there is no week.

use serde::{Deserialize, Serialize};

use crate::event::KnownEvent;
use crate::family::Model;
use crate::scales::log;
use crate::{History, ModelError};

const DAY_US: i64 = 86_400_000_000;

/// The benchmark that every other family must beat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SeasonalNaive {
    period_us: i64,
}

impl SeasonalNaive {
    pub(crate) fn fit(history: &History) -> Result<Self, ModelError> {
        let length_us = history.end_us() - history.start_us();
        if history.is_empty() || length_us < DAY_US {
            let problem = "needs a day of history".to_owned();
            return Err(ModelError::Fit { family: "seasonal-naive", problem });
        }
        Ok(Self { period_us: if length_us >= 7 * DAY_US { 7 * DAY_US } else { DAY_US } })
    }
}

impl Model for SeasonalNaive {
    fn name(&self) -> &'static str {
        "seasonal-naive"
    }

    fn predict(&self, history: &History, _: &[&KnownEvent], steps: usize) -> Vec<f64> {
        let (origin_us, step_us) = (history.end_us(), history.step_us());
        let mut before = history.last(history.len()).rev().find_map(|(_, value)| value).unwrap_or(0.0);
        let mut path = Vec::with_capacity(steps);
        for k in (0..).take(steps) {
            let at_us = origin_us + k * step_us;
            // The newest whole period that is known at the origin; a gap there takes the step before it.
            let periods = (at_us - origin_us).div_euclid(self.period_us) + 1;
            let earlier = (periods..periods + 4).find_map(|n| history.at(at_us - n * self.period_us));
            before = earlier.unwrap_or(before);
            path.push(log(before));
        }
        path
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::json!({ "period_hours": self.period_us / 3_600_000_000 })
    }
}
