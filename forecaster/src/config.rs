//! What the forecaster may be told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use headroom_models::{Engine, EngineConfig, Outlook};
use headroom_proto::time::span_text;
use headroom_proto::{EventTime, Span, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::{ForecasterError, GroupConfig};

/// The models of an outlook know signals and residuals no further ahead.
const MAX_OUTLOOK: Span = Span::from_hours(14 * 24);

/// Settings of the forecaster. Lengths of time are texts such as `5m`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForecasterConfig {
    /// The feature column that is forecast.
    pub target: String,
    /// The windows that are read, and the step of a forecast.
    #[serde(with = "span_text")]
    pub window_size: Span,
    /// How far ahead; a whole number of windows.
    #[serde(with = "span_text")]
    pub horizon: Span,
    /// How far ahead the outlook by the hour reaches; `0h` for none. It costs an engine of its own.
    #[serde(with = "span_text")]
    pub outlook: Span,
    /// Groups of workloads whose outlooks are to add up to that of their sum, by name. A workload counts with the first
    /// that has it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupConfig>,
    /// The quantiles, ascending, each in (0, 1).
    pub levels: Vec<f64>,
    /// No forecast has an origin before this; windows from before are still learned from.
    #[serde(with = "time_text", skip_serializing_if = "Option::is_none")]
    pub forecast_from: Option<EventTime>,
    /// The models. Its step, horizon and levels follow from the fields above.
    pub engine: EngineConfig,
    /// A folder of models that were learned elsewhere, `<workload>.model` each: a workload without history starts from
    /// its own. See `headroom model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt: Option<PathBuf>,
    /// Wall time between two snapshots of the state.
    #[serde(with = "span_text")]
    pub snapshot_interval: Span,
    /// Workloads beyond this many are not forecast, and counted.
    pub max_workloads: usize,
    /// Revisions of signals that are kept; beyond, the one that ended first goes, and is counted.
    pub max_signals: usize,
    /// Records read at a time.
    pub max_batch_records: usize,
    /// Forecasts on their way to the broker at a time.
    pub max_in_flight: usize,
    /// Forecasts that a watcher may fall behind before it is cut off.
    pub watch_lag: usize,
    /// Records at the end of each partition of forecasts and models that are read at the start, to learn what has been
    /// published: more than a partition has workloads.
    pub tail_records: usize,
    /// Model records that are kept in memory for each workload.
    pub kept_models: usize,
    /// Hourly scores that are kept in memory for each workload.
    pub kept_scores: usize,
}

impl Default for ForecasterConfig {
    fn default() -> Self {
        Self {
            target: "requests_per_s".to_owned(),
            window_size: Span::from_mins(5),
            horizon: Span::from_hours(24),
            outlook: Span::from_hours(14 * 24),
            groups: BTreeMap::new(),
            levels: vec![0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99],
            forecast_from: None,
            engine: EngineConfig::default(),
            adopt: None,
            snapshot_interval: Span::from_secs(5),
            max_workloads: 1_000,
            max_signals: 10_000,
            max_batch_records: 256,
            max_in_flight: 1_024,
            watch_lag: 1_024,
            tail_records: 256,
            kept_models: 100,
            kept_scores: 1_000,
        }
    }
}

impl ForecasterConfig {
    /// The engine's settings: those of `engine` with step, horizon and levels of the forecaster.
    ///
    /// # Errors
    /// Names every setting that is out of range.
    pub fn engine(&self) -> Result<EngineConfig, ForecasterError> {
        let problems = self.problems();
        if problems.is_empty() {
            Ok(self.unchecked_engine())
        } else {
            Err(ForecasterError::Config(problems.join("; ")))
        }
    }

    /// Every setting that is out of range, and what it must be.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.mistakes();
        if problems.is_empty()
            && let Err(error) = Engine::try_new(self.unchecked_engine())
        {
            problems.push(error.to_string());
        }
        problems
    }

    /// What a new workload's outlook starts as; none when there is to be none.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub(crate) fn outlook(&self) -> Result<Option<Outlook>, ForecasterError> {
        let hours = usize::try_from(self.outlook.steps(Span::from_hours(1))).unwrap_or(0);
        Ok(if hours == 0 { None } else { Outlook::try_new(&self.engine()?, hours)? })
    }

    /// What a new group's outlook starts as, by hours; none when there is to be none.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub(crate) fn group_outlook(&self) -> Result<Option<Outlook>, ForecasterError> {
        let hours = usize::try_from(self.outlook.steps(Span::from_hours(1))).unwrap_or(0);
        let by_hours = EngineConfig { step_us: Span::from_hours(1).micros(), horizon_steps: 1, ..self.engine()? };
        Ok(if hours <= 1 { None } else { Outlook::try_new(&by_hours, hours)? })
    }

    /// The group that a workload counts with.
    pub(crate) fn group_of(&self, workload: &str) -> Option<&str> {
        self.groups.iter().find(|(_, group)| group.has(workload)).map(|(name, _)| name.as_str())
    }

    fn unchecked_engine(&self) -> EngineConfig {
        EngineConfig {
            step_us: self.window_size.micros(),
            horizon_steps: usize::try_from(self.horizon.steps(self.window_size)).unwrap_or(usize::MAX),
            levels: self.levels.clone(),
            ..self.engine.clone()
        }
    }

    /// The length of the windows in whole seconds, as it stands in the windows' envelope.
    pub(crate) fn window_size_s(&self) -> i64 {
        self.window_size.micros() / 1_000_000
    }

    pub(crate) fn snapshot_every(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.snapshot_interval.micros()).unwrap_or(u64::MAX))
    }

    fn mistakes(&self) -> Vec<String> {
        let step_us = self.window_size.micros();
        let whole_steps = step_us > 0 && self.horizon.micros() > 0 && self.horizon.micros() % step_us == 0;
        let ascending = self.levels.windows(2).all(|pair| pair.first() < pair.last());
        let levels_fit = self.levels.iter().all(|level| *level > 0.0 && *level < 1.0);
        let limits = [
            ("max_workloads", self.max_workloads),
            ("max_signals", self.max_signals),
            ("max_batch_records", self.max_batch_records),
            ("max_in_flight", self.max_in_flight),
            ("watch_lag", self.watch_lag),
            ("tail_records", self.tail_records),
            ("kept_models", self.kept_models),
            ("kept_scores", self.kept_scores),
        ];
        let checks = [
            (!self.target.trim().is_empty(), "`target` must name a feature column".to_owned()),
            (
                step_us > 0 && step_us % 1_000_000 == 0,
                format!("`window_size` {} must be whole seconds", self.window_size),
            ),
            (
                whole_steps,
                format!("`horizon` {} must be a multiple of `window_size` {}", self.horizon, self.window_size),
            ),
            (
                (0..=MAX_OUTLOOK.micros()).contains(&self.outlook.micros()),
                format!("`outlook` {} must be at most {MAX_OUTLOOK}", self.outlook),
            ),
            (!self.levels.is_empty() && ascending && levels_fit, "`levels` must ascend within (0, 1)".to_owned()),
            (self.snapshot_interval.micros() > 0, "`snapshot_interval` must be positive".to_owned()),
        ];
        let groups = self.groups.iter().map(|(name, group)| {
            let fits = WorkloadId::try_new(name.as_str()).is_ok() && !group.workloads.is_empty();
            (fits, format!("`groups.{name}` must have a name as workloads have, and `workloads`"))
        });
        let checks = checks.into_iter().chain(groups);
        let limits = limits.into_iter().map(|(name, limit)| (limit > 0, format!("`{name}` must be positive")));
        checks.chain(limits).filter(|(fits, _)| !fits).map(|(_, mistake)| mistake).collect()
    }
}

/// Serde form of an optional time as text.
mod time_text {
    use headroom_proto::EventTime;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Option<EventTime>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EventTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| EventTime::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_named_at_once() {
        let config = ForecasterConfig {
            target: " ".to_owned(),
            horizon: Span::from_secs(301),
            levels: vec![0.5, 0.1],
            max_workloads: 0,
            ..ForecasterConfig::default()
        };
        let message = config.engine().expect_err("four mistakes").to_string();
        for name in ["target", "horizon", "levels", "max_workloads"] {
            assert!(message.contains(name), "{name} in {message}");
        }
    }

    #[test]
    fn the_engine_follows_the_forecaster() {
        let config = ForecasterConfig { horizon: Span::from_hours(2), ..ForecasterConfig::default() };
        let engine = config.engine().expect("legal");
        assert_eq!((engine.step_us, engine.horizon_steps, engine.levels.len()), (300_000_000, 24, 10));
    }

    #[test]
    fn a_file_reads_back_and_unknown_fields_are_refused() {
        let config = ForecasterConfig {
            forecast_from: Some(EventTime::parse("1998-05-15").expect("a date")),
            ..ForecasterConfig::default()
        };
        let text = serde_json::to_string(&config).expect("writes");
        assert_eq!(serde_json::from_str::<ForecasterConfig>(&text).expect("reads"), config);
        assert!(serde_json::from_str::<ForecasterConfig>("{\"horizont\": \"24h\"}").is_err());
    }
}
