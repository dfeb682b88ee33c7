//! The core of the service: what it knows, and what follows from each record. No clock, no input, no output.

use std::collections::BTreeMap;
use std::sync::Arc;

use headroom_ingest_broker::{Received, Record};
use headroom_models::{Engine, LiftOf, OutcomeFeedback, Outlook, Profile, Shared};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Forecast, ListLiftsRequest, Model, Outcome, SignalLift};
use headroom_proto::{EventTime, WorkloadId, headers, signal};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::ForecasterConfig;
use crate::groups::Group;
use crate::intake::Batch;
use crate::lineage::Lineage;
use crate::metrics::{Fate, Tally};
use crate::positions::Positions;
use crate::signals::{Added, SignalBook};
use crate::windows::{self, TargetWindow};
use crate::workload::Workload;

/// Everything that a restart needs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) positions: Positions,
    /// The last origin published, by workload.
    pub(crate) published: BTreeMap<String, i64>,
    /// The last origin of an outlook published, by workload or group.
    pub(crate) outlooks: BTreeMap<String, i64>,
    groups: BTreeMap<String, Group>,
    signals: SignalBook,
    workloads: BTreeMap<String, Workload>,
    /// The trees of all workloads.
    trees: Shared,
    /// The week of those with history enough, and the day on which it was last looked at.
    pool: Option<(i64, Option<Profile>)>,
}

const DAY_US: i64 = 86_400_000_000;

/// What followed from a batch.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Model records and the event time they belong to.
    pub(crate) models: Vec<(i64, Model)>,
    pub(crate) forecasts: Vec<Forecast>,
    /// By the hour, at full hours.
    pub(crate) outlooks: Vec<Forecast>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) tally: Tally,
    /// The newest end of a window that was handled.
    pub(crate) handled_us: Option<i64>,
    /// Workloads with an engine.
    pub(crate) workloads: usize,
}

/// A record that cannot be read, and why.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    record: Received,
    reason: String,
}

/// Why nothing can be said of signals.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiftError {
    #[error("no such workload; there are: {}", .0.join(", "))]
    Unknown(Vec<String>),
    #[error("{0}")]
    TooEarly(String),
}

/// The engines of all workloads.
#[derive(Debug)]
pub(crate) struct Learners {
    config: Arc<ForecasterConfig>,
    /// A new workload starts as a copy of this.
    engine: Engine,
    outlook: Option<Outlook>,
    group_outlook: Option<Outlook>,
    state: State,
    /// Engines that have learned elsewhere, by the workload that starts from one.
    adopted: BTreeMap<String, Engine>,
    /// The limits are logged once, and counted always.
    limit_logged: bool,
}

impl Learners {
    pub(crate) fn new(config: Arc<ForecasterConfig>, engine: Engine, mut state: State) -> Self {
        // A state on disk holds them once.
        state.workloads.values_mut().for_each(|workload| workload.borrow_from(&state.trees));
        Self {
            config,
            engine,
            outlook: None,
            group_outlook: None,
            state,
            adopted: BTreeMap::new(),
            limit_logged: false,
        }
    }

    /// The same, where workloads without history start from models that were learned elsewhere.
    pub(crate) fn adopting(self, adopted: BTreeMap<String, Engine>) -> Self {
        Self { adopted, ..self }
    }

    /// The same, where each new workload, and each group, has an outlook that starts as a copy of these.
    pub(crate) fn looking_out(self, outlook: Option<Outlook>, group_outlook: Option<Outlook>) -> Self {
        Self { outlook, group_outlook, ..self }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn workloads(&self) -> usize {
        self.state.workloads.len()
    }

    /// The newest end of a window that any engine has observed.
    pub(crate) fn handled_us(&self) -> Option<i64> {
        self.state.workloads.values().filter_map(Workload::origin_us).max()
    }

    /// Takes a batch in; `now` stands in for the time of a record that has none.
    pub(crate) fn handle(&mut self, batch: Batch, now: EventTime) -> Turn {
        let mut turn = Turn::default();
        for record in batch.signals.into_iter().chain(batch.records) {
            if !self.state.positions.advance(&record) {
                turn.tally.add(Fate::Repeat, 1);
                continue;
            }
            let taken = if record.topic == Topic::Windows {
                self.windows(&record, &mut turn)
            } else if record.topic == Topic::Signals {
                self.signal(&record, now, &mut turn)
            } else {
                self.outcome(&record, &mut turn)
            };
            if let Err(reason) = taken {
                turn.tally.add(Fate::Dead, 1);
                turn.dead.push(DeadLetter { record, reason });
            }
        }
        turn.workloads = self.state.workloads.len();
        turn
    }

    /// What event signals do to one workload, or to every one when none is named.
    ///
    /// # Errors
    /// When no workload of that name is known, or it has too little history.
    pub(crate) fn lifts(&self, request: &ListLiftsRequest) -> Result<Vec<SignalLift>, LiftError> {
        let of = match (request.signal_id.as_str(), request.kind.as_str()) {
            ("", "") => LiftOf::All,
            ("", kind) => LiftOf::Kind(kind),
            (id, _) => LiftOf::Signal(id),
        };
        if request.workload.is_empty() {
            // Those with too little history have nothing to tell.
            let told = self.state.workloads.iter().filter_map(|(name, workload)| workload.lifts(name, of).ok());
            return Ok(told.flatten().collect());
        }
        let unknown = || LiftError::Unknown(self.state.workloads.keys().cloned().collect());
        let workload = self.state.workloads.get(&request.workload).ok_or_else(unknown)?;
        workload.lifts(&request.workload, of).map_err(|abstention| LiftError::TooEarly(abstention.reason))
    }

    fn signal(&mut self, record: &Received, now: EventTime, turn: &mut Turn) -> Result<(), String> {
        let received_at = record.time.unwrap_or(now);
        let signal =
            signal::from_record(&record.headers, &record.value, received_at).map_err(|error| error.to_string())?;
        let added = self.state.signals.add(signal.clone(), self.config.max_signals);
        if added == Added::Repeat {
            turn.tally.add(Fate::Repeat, 1);
            return Ok(());
        }
        turn.tally.add(Fate::Learned, 1);
        if added == Added::InsteadOfOldest {
            turn.tally.add(Fate::Forgotten, 1);
        }
        for (name, group) in &mut self.state.groups {
            let members = self.state.workloads.keys().filter(|member| self.config.group_of(member) == Some(name));
            let events = members.filter_map(|member| {
                self.state.signals.event_for(&signal, &WorkloadId::try_new(member.as_str()).ok()?)
            });
            // It acts on the group as long as it acts on one of its members.
            if let Some(event) = events.min_by_key(|event| event.cancelled) {
                group.signal(event);
            }
        }
        for (name, workload) in &mut self.state.workloads {
            let Ok(id) = WorkloadId::try_new(name.as_str()) else { continue };
            if let Some(event) = self.state.signals.event_for(&signal, &id) {
                workload.signal(event);
            }
        }
        Ok(())
    }

    fn outcome(&mut self, record: &Received, turn: &mut Turn) -> Result<(), String> {
        let outcome = Outcome::decode(&*record.value).map_err(|error| error.to_string())?;
        let Some(workload) = self.state.workloads.get_mut(&outcome.workload) else {
            turn.tally.add(Fate::Unknown, 1);
            return Ok(());
        };
        match feedback(outcome) {
            Some(feedback) => {
                workload.outcome(feedback);
                turn.tally.add(Fate::Learned, 1);
            }
            None => turn.tally.add(Fate::Capped, 1),
        }
        Ok(())
    }

    fn windows(&mut self, record: &Received, turn: &mut Turn) -> Result<(), String> {
        let read = windows::read(&record.value, &self.config.target, self.config.window_size_s());
        let found = read.map_err(|error| error.to_string())?;
        turn.tally.add(Fate::OtherWindow, found.other_rows);
        let config = Arc::clone(&self.config);
        let lineage = Lineage::new(&config.target, &found.schema_hash);
        for window in found.windows {
            let end_us = window.end_us;
            let fate = self.window(window, &lineage, turn);
            turn.tally.add(fate, 1);
            turn.handled_us = turn.handled_us.max(Some(end_us));
        }
        Ok(())
    }

    fn window(&mut self, window: TargetWindow, lineage: &Lineage<'_>, turn: &mut Turn) -> Fate {
        if window.revision > 0 {
            return Fate::Stale;
        }
        if !self.state.workloads.contains_key(&window.workload) {
            let Ok(id) = WorkloadId::try_new(window.workload.as_str()) else { return Fate::BadName };
            if self.state.workloads.len() >= self.config.max_workloads {
                self.log_limit(&window.workload);
                return Fate::BeyondLimit;
            }
            let engine = self.adopted.get(&window.workload).unwrap_or(&self.engine).clone();
            let engine = engine.sharing_trees(&window.workload);
            let workload = Workload::new(engine, self.outlook.clone(), self.state.signals.events_for(&id));
            self.state.workloads.insert(window.workload.clone(), workload);
        }
        if self.state.workloads.get(&window.workload).is_some_and(Workload::is_young) {
            self.state.look_at_pool(window.end_us);
        }
        let Some(workload) = self.state.workloads.get_mut(&window.workload) else { return Fate::BadName };
        if workload.origin_us().is_some_and(|origin_us| window.start_us < origin_us) {
            return Fate::Stale;
        }
        let published_us = self.state.published.get(&window.workload).copied();
        let is_new = |at_us: i64| published_us.is_none_or(|published_us| at_us > published_us);
        let forecasts = self.config.forecast_from.is_none_or(|from| window.end_us >= from.micros());
        let models = workload.observe(&window, lineage, &self.state.positions, &mut self.state.trees);
        if workload.origin_us() != Some(window.end_us) {
            return Fate::Stale;
        }
        turn.models.extend(models.into_iter().filter(|_| is_new(window.end_us)).map(|model| (window.end_us, model)));
        let group = self.config.group_of(&window.workload).zip(self.group_outlook.as_ref());
        if let (Some((name, outlook)), Some((hour_us, mean))) = (group, workload.closed_hour(window.end_us)) {
            let group = self.state.groups.entry(name.to_owned()).or_insert_with(|| Group::new(outlook.clone()));
            if group.is_new(&window.workload) {
                let events = WorkloadId::try_new(window.workload.as_str()).map(|id| self.state.signals.events_for(&id));
                events.into_iter().flatten().filter(|event| !event.cancelled).for_each(|event| group.signal(event));
            }
            let cards = group.hour(&window.workload, hour_us, mean);
            let records = cards.into_iter().map(|card| lineage.trained(name, card, &self.state.positions));
            turn.models.extend(records.filter(|_| is_new(window.end_us)).map(|model| (window.end_us, model)));
        }
        if forecasts {
            let pool = self.state.pool.as_ref().and_then(|(_, pool)| pool.as_ref());
            let (forecast, outlook) = workload.forecast(&window, lineage, pool);
            let held = outlook.map(|outlook| workload.held(outlook));
            let outlooks = match group.and_then(|(name, _)| Some((name, self.state.groups.get_mut(name)?))) {
                Some((name, group)) => held.map(|held| group.outlook(name, &window.workload, held)).unwrap_or_default(),
                None => held.map(|held| held.outlook).into_iter().collect(),
            };
            turn.outlooks.extend(outlooks.into_iter().filter(|outlook| self.state.is_new_outlook(outlook)));
            if is_new(forecast.origin_us) {
                self.state.published.insert(window.workload, forecast.origin_us);
                turn.forecasts.push(forecast);
            }
        }
        Fate::Observed
    }

    fn log_limit(&mut self, workload: &str) {
        if !self.limit_logged {
            self.limit_logged = true;
            let limit = self.config.max_workloads;
            tracing::warn!(
                workload,
                limit,
                "too many workloads: this one and others are not forecast; raise max_workloads"
            );
        }
    }
}

impl State {
    /// The engine of a workload, with the trees that it borrows.
    pub(crate) fn engine(&self, workload: &str) -> Option<Engine> {
        let mut engine = self.workloads.get(workload)?.engine().clone();
        self.trees.lend(&mut engine);
        Some(engine)
    }

    /// Was this outlook not published before? It is, from now on.
    fn is_new_outlook(&mut self, outlook: &Forecast) -> bool {
        let before_us = self.outlooks.get(&outlook.workload).copied();
        let is_new = before_us.is_none_or(|before_us| outlook.origin_us > before_us);
        if is_new {
            self.outlooks.insert(outlook.workload.clone(), outlook.origin_us);
        }
        is_new
    }

    /// Pools the weeks of the workloads anew, once a day of event time.
    fn look_at_pool(&mut self, now_us: i64) {
        let day = now_us.div_euclid(DAY_US);
        if self.pool.as_ref().is_some_and(|(looked, _)| *looked >= day) {
            return;
        }
        let profiles: Vec<Profile> = self.workloads.values().filter_map(Workload::profile).collect();
        self.pool = Some((day, Profile::pooled(&profiles)));
    }
}

impl DeadLetter {
    /// The record for the dead-letter topic: the original bytes, key and headers, with reason and origin.
    pub(crate) fn into_record(self) -> Record {
        let origin = self.record.origin();
        let mut record = Record::new(Topic::DeadLetter, self.record.value);
        record.key = self.record.key;
        record.headers = self.record.headers;
        record.time = self.record.time;
        record.header(headers::DEAD_REASON, self.reason).header(headers::DEAD_ORIGIN, origin)
    }
}

/// What an outcome says of the forecast behind it. The peak that saturated units served is below what was asked for: it
/// cannot speak against a higher expectation.
fn feedback(outcome: Outcome) -> Option<OutcomeFeedback> {
    let is_capped = outcome.peak_utilisation >= 1.0 && outcome.observed_peak < outcome.expected_peak;
    let feedback = OutcomeFeedback {
        expected_peak: outcome.expected_peak,
        observed_peak: outcome.observed_peak,
        completeness: outcome.completeness,
        from_us: outcome.measured_from_us,
        to_us: outcome.measured_to_us,
    };
    (!is_capped).then_some(feedback)
}

#[cfg(test)]
mod tests;
