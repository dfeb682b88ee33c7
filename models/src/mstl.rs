//! MSTL decomposition with an ETS trend (crate `augurs`), of hourly means on the log scale. The forecast is made once,
//! when the model is fitted; it is the field's benchmark without event signals.

use augurs::ets::AutoETS;
use augurs::mstl::MSTLModel;
use augurs::prelude::*;
use serde::{Deserialize, Serialize};

use crate::event::KnownEvent;
use crate::family::Model;
use crate::scales::log;
use crate::{History, ModelError};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// Steps that a fit forecasts beyond its horizon, for the time that it serves.
const DAYS_SERVED: i64 = 2;
/// A fit looks back this far.
const DAYS_BACK: i64 = 84;
const FAMILY: &str = "augurs-mstl-ets";

/// A forecast by MSTL and ETS.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mstl {
    from_us: i64,
    step_us: i64,
    periods: Vec<usize>,
    path: Vec<f64>,
}

impl Mstl {
    pub(crate) fn fit(history: &History, horizon_steps: usize) -> Result<Self, ModelError> {
        let fail = |problem: String| ModelError::Fit { family: FAMILY, problem };
        let step_us = history.step_us().max(HOUR_US);
        let back_us = (DAYS_BACK * DAY_US).max(300 * step_us);
        let series = coarse(&history.until(history.end_us(), back_us), step_us);
        let horizon_us = history.step_us() * i64::try_from(horizon_steps).unwrap_or(0);
        let ahead = usize::try_from((horizon_us + DAYS_SERVED * DAY_US) / step_us).unwrap_or(1).max(1);
        let day = usize::try_from(DAY_US / step_us).unwrap_or(1);
        let periods: Vec<usize> = [day, 7 * day].into_iter().filter(|p| *p > 1 && series.len() > 2 * p).collect();
        if periods.is_empty() {
            return Err(fail("needs two days of history and more than one step a day".to_owned()));
        }
        let trend = AutoETS::non_seasonal().into_trend_model();
        let model = MSTLModel::new(periods.clone(), trend).fit(&series).map_err(|e| fail(e.to_string()))?;
        let forecast = model.predict(ahead, None).map_err(|e| fail(e.to_string()))?;
        let path: Vec<f64> = forecast.point;
        if !path.iter().all(|value| value.is_finite()) {
            return Err(fail("the fit did not converge".to_owned()));
        }
        let from_us = history.end_us().div_euclid(step_us) * step_us;
        Ok(Self { from_us, step_us, periods, path })
    }
}

impl Model for Mstl {
    fn name(&self) -> &'static str {
        FAMILY
    }

    fn predict(&self, history: &History, _: &[&KnownEvent], steps: usize) -> Vec<f64> {
        let last = self.path.len().saturating_sub(1);
        let at = |k: i64| {
            let index = (history.end_us() + k * history.step_us() - self.from_us).div_euclid(self.step_us);
            let index = usize::try_from(index).unwrap_or(0).min(last);
            self.path.get(index).copied().unwrap_or(0.0)
        };
        (0..).take(steps).map(at).collect()
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::json!({ "periods": self.periods, "step_minutes": self.step_us / 60_000_000 })
    }
}

/// Log means over longer steps that have ended; gaps are bridged by a straight line.
fn coarse(history: &History, step_us: i64) -> Vec<f64> {
    let mut sums: std::collections::BTreeMap<i64, (f64, u32)> = std::collections::BTreeMap::new();
    let end_us = history.end_us().div_euclid(step_us) * step_us;
    for (start_us, value) in history.last(history.len()) {
        if let Some(value) = value
            && start_us < end_us
        {
            let sum = sums.entry(start_us.div_euclid(step_us)).or_default();
            *sum = (sum.0 + value, sum.1 + 1);
        }
    }
    let mut series = Vec::new();
    let mut before: Option<(i64, f64)> = None;
    for (index, (sum, count)) in sums {
        let value = log(sum / f64::from(count));
        if let Some((last, from)) = before {
            let missing = index - last;
            for k in 1..missing {
                #[expect(clippy::cast_precision_loss, reason = "hours of a gap")]
                let part = k as f64 / missing as f64;
                series.push(from + (value - from) * part);
            }
        }
        series.push(value);
        before = Some((index, value));
    }
    series
}
