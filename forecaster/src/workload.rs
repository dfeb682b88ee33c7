//! One workload: its engine, and the records of its models.

use std::collections::BTreeMap;

use headroom_models::{Engine, ForecastSet, KnownEvent, Note, OutcomeFeedback, Verdict};
use headroom_proto::EventTime;
use headroom_proto::v1::{self, Forecast, Model, SignalUse};
use serde::{Deserialize, Serialize};

use crate::lineage::{self, Lineage};
use crate::positions::Positions;
use crate::windows::TargetWindow;

/// An engine, and the newest record of each family's model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Workload {
    engine: Engine,
    models: BTreeMap<String, Model>,
}

impl Workload {
    /// A new workload is told of everything that was announced before it appeared.
    pub(crate) fn new(mut engine: Engine, events: Vec<KnownEvent>) -> Self {
        for event in events {
            engine.signal(event);
        }
        Self { engine, models: BTreeMap::new() }
    }

    /// The end of the last window that was observed.
    pub(crate) fn origin_us(&self) -> Option<i64> {
        self.engine.origin_us()
    }

    pub(crate) fn signal(&mut self, event: KnownEvent) {
        self.engine.signal(event);
    }

    pub(crate) fn outcome(&mut self, outcome: OutcomeFeedback) {
        self.engine.outcome(outcome);
    }

    /// Takes the next window in; returns the model records that follow.
    pub(crate) fn observe(
        &mut self,
        window: &TargetWindow,
        lineage: &Lineage<'_>,
        positions: &Positions,
    ) -> Vec<Model> {
        let before_us = self.engine.origin_us().unwrap_or(window.start_us);
        let mut records = Vec::new();
        for note in self.engine.observe(window.start_us, window.value) {
            match note {
                Note::Refitted(card) => {
                    let model = lineage.trained(&window.workload, card, positions);
                    self.models.insert(model.family.clone(), model.clone());
                    records.push(model);
                }
                Note::Scored(score) => {
                    let model = self.models.get(&score.model);
                    records.extend(model.map(|model| lineage::scored(model, &score, before_us)));
                }
                Note::Promoted { from, to, reason } => records.extend(self.promoted(&from, &to, &reason)),
                Note::Ignored(reason) => {
                    tracing::debug!(
                        workload = window.workload,
                        start_us = window.start_us,
                        reason,
                        "the engine made no use of it"
                    );
                }
            }
        }
        records
    }

    fn promoted(&mut self, from: &str, to: &str, reason: &str) -> Option<Model> {
        for model in self.models.values_mut() {
            model.champion = model.model_version == to;
        }
        let model = self.models.values().find(|model| model.champion)?;
        Some(lineage::promoted(model, from, reason))
    }

    /// The forecast whose origin is the end of `window`, the last one observed; without values when none can be made.
    pub(crate) fn forecast(&mut self, window: &TargetWindow, lineage: &Lineage<'_>) -> Forecast {
        let mut forecast = match self.engine.forecast() {
            Ok(set) => made(set),
            Err(abstention) => Forecast {
                origin_us: window.end_us,
                step_us: window.end_us.saturating_sub(window.start_us),
                model_version: self.engine.champion().to_owned(),
                verdict: v1::Verdict::Abstain.into(),
                verdict_reason: abstention.reason,
                ..Forecast::default()
            },
        };
        forecast.workload.clone_from(&window.workload);
        lineage.target().clone_into(&mut forecast.target);
        lineage.feature_version().clone_into(&mut forecast.feature_version);
        if !window.complete {
            suspect(&mut forecast, window.end_us);
        }
        forecast
    }
}

fn made(set: ForecastSet) -> Forecast {
    let verdict = match set.verdict {
        Verdict::Fresh => v1::Verdict::Fresh,
        Verdict::Suspect => v1::Verdict::Suspect,
        Verdict::Stale => v1::Verdict::Stale,
    };
    Forecast {
        origin_us: set.origin_us,
        step_us: set.step_us,
        levels: set.levels,
        values: set.values,
        event_steps: set.event_steps,
        model_version: set.model_version,
        signals: set.signals.into_iter().map(|(signal_id, revision)| SignalUse { signal_id, revision }).collect(),
        verdict: verdict.into(),
        verdict_reason: set.verdict_reason,
        ..Forecast::default()
    }
}

/// A forecast that rests on an incomplete window is no longer fresh.
fn suspect(forecast: &mut Forecast, end_us: i64) {
    let end = EventTime::from_micros(end_us);
    let reason = format!("the window ending {end} is incomplete: some of its records are missing or came late");
    if forecast.verdict() == v1::Verdict::Fresh {
        forecast.set_verdict(v1::Verdict::Suspect);
    }
    let before = std::mem::take(&mut forecast.verdict_reason);
    forecast.verdict_reason = if before.is_empty() { reason } else { format!("{before}; {reason}") };
}
