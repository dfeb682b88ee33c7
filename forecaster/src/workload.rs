//! One workload: its engine, and the records of its models.

use std::collections::BTreeMap;

use headroom_models::{
    Abstention, Engine, ForecastSet, KnownEvent, LiftOf, Note, OutcomeFeedback, Outlook, Profile, Shared, Verdict,
};
use headroom_proto::v1::{self, Forecast, Mark, MarkKind, Model, SignalUse};
use serde::{Deserialize, Serialize};

use crate::groups::Held;
use crate::lifts;
use crate::lineage::{self, Lineage};
use crate::positions::Positions;
use crate::windows::TargetWindow;

/// An engine, and the newest record of each family's model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Workload {
    engine: Engine,
    /// By the hour, further ahead.
    outlook: Option<Outlook>,
    models: BTreeMap<String, Model>,
    /// Which of the newest windows were incomplete, the newest in the lowest bit.
    incomplete: u32,
}

/// Windows whose completeness is looked at, as many as the engine looks at for gaps.
const NEWEST: u32 = 12;
/// The models take the level from so many of the newest windows: one that is incomplete makes the forecast less sure.
const LEVEL: u32 = 3;
/// Incomplete windows among the newest above which no forecast is made.
const MAX_INCOMPLETE: u32 = 6;
const HOUR_US: i64 = 3_600_000_000;

impl Workload {
    /// A new workload is told of everything that was announced before it appeared.
    pub(crate) fn new(engine: Engine, outlook: Option<Outlook>, events: Vec<KnownEvent>) -> Self {
        let mut workload = Self { engine, outlook, models: BTreeMap::new(), incomplete: 0 };
        events.into_iter().for_each(|event| workload.signal(event));
        workload
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Borrows the newest trees that its next forecast may rest on.
    pub(crate) fn borrow_from(&mut self, trees: &Shared) {
        trees.lend(&mut self.engine);
    }

    /// The end of the last window that was observed.
    pub(crate) fn origin_us(&self) -> Option<i64> {
        self.engine.origin_us()
    }

    pub(crate) fn signal(&mut self, event: KnownEvent) {
        if let Some(outlook) = &mut self.outlook {
            outlook.signal(event.clone());
        }
        self.engine.signal(event);
    }

    pub(crate) fn outcome(&mut self, outcome: OutcomeFeedback) {
        self.engine.outcome(outcome);
    }

    /// What signals do to its load.
    pub(crate) fn lifts(&self, name: &str, of: LiftOf<'_>) -> Result<Vec<v1::SignalLift>, Abstention> {
        let is_all = of == LiftOf::All;
        Ok(self.engine.lifts(of)?.into_iter().map(|lift| lifts::record(name, lift, !is_all)).collect())
    }

    /// Takes the next window in; returns the model records that follow.
    pub(crate) fn observe(
        &mut self,
        window: &TargetWindow,
        lineage: &Lineage<'_>,
        positions: &Positions,
        trees: &mut Shared,
    ) -> Vec<Model> {
        let before_us = self.engine.origin_us().unwrap_or(window.start_us);
        self.incomplete = (self.incomplete << 1) | u32::from(!window.complete);
        let mut records = Vec::new();
        let mut notes = trees.observe(&mut self.engine, window.start_us, window.value);
        if let Some(outlook) = &mut self.outlook {
            notes.extend(outlook.observe(window.start_us, window.value));
        }
        for note in notes {
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

    /// Its week, when it has history enough.
    pub(crate) fn profile(&self) -> Option<Profile> {
        self.engine.profile()
    }

    /// Is it without models of its own?
    pub(crate) fn is_young(&self) -> bool {
        self.engine.champion().is_empty()
    }

    /// The forecast whose origin is the end of `window`, the last one observed; without values when none can be made. A
    /// workload that is too young for models of its own goes by `pool`. At a full hour the outlook from it as well.
    pub(crate) fn forecast(
        &mut self,
        window: &TargetWindow,
        lineage: &Lineage<'_>,
        pool: Option<&Profile>,
    ) -> (Forecast, Option<Forecast>) {
        let missing = (self.incomplete & ((1 << NEWEST) - 1)).count_ones();
        let (mut set, mut pooled) = (self.engine.forecast(), None);
        match &mut set {
            Ok(_) if missing > MAX_INCOMPLETE => {
                set = Err(Abstention { reason: format!("{missing} of the last {NEWEST} windows are incomplete") });
            }
            Ok(set) if self.is_incomplete() => set.widen(|_| true),
            Ok(_) => {}
            Err(_) => pooled = pool.and_then(|pool| self.engine.forecast_pooled(pool)),
        }
        let outlook = self.outlook.as_mut().filter(|_| window.end_us.rem_euclid(HOUR_US) == 0);
        let outlook = outlook.map(|outlook| outlook.forecast(set.as_ref()));
        let outlook = outlook.map(|set| Self::record(window, lineage, Forecast { step_us: HOUR_US, ..self.told(set) }));
        let forecast = pooled.map_or_else(|| self.told(set), made);
        (Self::record(window, lineage, forecast), outlook)
    }

    /// An outlook with what it is weighed by in a group.
    pub(crate) fn held(&self, outlook: Forecast) -> Held {
        let deviations =
            self.outlook.as_ref().map(|of| of.deviations(&outlook.levels, &outlook.values, &outlook.event_steps));
        Held { outlook, deviations: deviations.unwrap_or_default() }
    }

    /// Start and mean of the hour that ends at `end_us`; none when no hour ends there.
    pub(crate) fn closed_hour(&self, end_us: i64) -> Option<(i64, Option<f64>)> {
        self.outlook.as_ref()?.last_hour().filter(|(start_us, _)| start_us + HOUR_US == end_us)
    }

    fn is_incomplete(&self) -> bool {
        self.incomplete & ((1 << LEVEL) - 1) != 0
    }

    /// What was made, or why nothing was.
    fn told(&self, set: Result<ForecastSet, Abstention>) -> Forecast {
        let mut forecast = match set {
            Ok(set) => made(set),
            Err(abstention) => {
                return Forecast {
                    verdict: v1::Verdict::Abstain.into(),
                    verdict_reason: abstention.reason,
                    model_version: self.engine.champion().to_owned(),
                    ..Forecast::default()
                };
            }
        };
        if self.is_incomplete() {
            suspect(&mut forecast, (self.incomplete & ((1 << NEWEST) - 1)).count_ones());
        }
        forecast
    }

    /// The same with what it is of.
    fn record(window: &TargetWindow, lineage: &Lineage<'_>, forecast: Forecast) -> Forecast {
        let step_us =
            if forecast.step_us == 0 { window.end_us.saturating_sub(window.start_us) } else { forecast.step_us };
        Forecast {
            workload: window.workload.clone(),
            target: lineage.target().to_owned(),
            feature_version: lineage.feature_version().to_owned(),
            origin_us: window.end_us,
            step_us,
            ..forecast
        }
    }
}

pub(crate) fn made(set: ForecastSet) -> Forecast {
    let verdict = match set.verdict {
        _ if !set.held_back.is_empty() => v1::Verdict::Abstain,
        Verdict::Fresh => v1::Verdict::Fresh,
        Verdict::Suspect => v1::Verdict::Suspect,
        Verdict::Stale => v1::Verdict::Stale,
    };
    let reasons = [set.verdict_reason, set.held_back];
    let reasons: Vec<String> = reasons.into_iter().filter(|reason| !reason.is_empty()).collect();
    Forecast {
        origin_us: set.origin_us,
        step_us: set.step_us,
        levels: set.levels,
        values: set.values,
        event_steps: set.event_steps,
        model_version: set.model_version,
        signals: set.signals.into_iter().map(|(signal_id, revision)| SignalUse { signal_id, revision }).collect(),
        verdict: verdict.into(),
        verdict_reason: reasons.join("; "),
        basis: set.basis,
        marks: set.unlike.into_iter().map(|reason| mark(MarkKind::Unlike, reason)).collect(),
        ..Forecast::default()
    }
}

fn mark(kind: MarkKind, reason: String) -> Mark {
    Mark { kind: kind.into(), reason }
}

/// A forecast that rests on incomplete windows is no longer fresh.
fn suspect(forecast: &mut Forecast, missing: u32) {
    let reason = format!(
        "{missing} of the last {NEWEST} windows are incomplete: some of their records are missing or came late"
    );
    if forecast.verdict() == v1::Verdict::Fresh {
        forecast.set_verdict(v1::Verdict::Suspect);
    }
    let before = std::mem::take(&mut forecast.verdict_reason);
    forecast.verdict_reason = if before.is_empty() { reason.clone() } else { format!("{before}; {reason}") };
    forecast.marks.push(mark(MarkKind::Incomplete, reason));
}
