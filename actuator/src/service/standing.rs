//! The track record of each workload and kind of action: what is marked, what is earned, what is lost.
//!
//! Nothing of it is kept but turns (records `StageMove` of the actions topic): after a start the marks are counted again
//! from the outcomes and the moves.

use std::collections::BTreeMap;

use headroom_actuator_decide::judgement::is_good;
use headroom_actuator_decide::stage::{Kind, Stage};
use headroom_actuator_decide::track::Turn;
use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, ActionState, StageMove, StageStanding, StagesRequest};

use super::Work;
use super::verify::VERIFIER;
use crate::journal;
use crate::notify::Notice;

impl Work {
    /// The stage that the track record has earned.
    pub(super) fn earned(&self, workload: &str, kind: Kind) -> Stage {
        self.tracks.get(&(workload.to_owned(), kind)).map_or(Stage::Recommend, |earned| earned.earned())
    }

    /// Takes in how the effect of an action was judged.
    pub(super) fn judge(&mut self, action: &ActionRecord, judgement: &str, at: EventTime) {
        let kind = kind_of(action);
        let Some(good) = is_good(kind, judgement) else { return };
        self.mark(action, good);
        self.review(&action.workload, kind, at);
    }

    /// Takes in a move: a failed verification loses what was earned, a rollback by a person counts as a bad outcome.
    pub(super) fn track_move(&mut self, record: &ActionRecord) {
        let (kind, at) = (kind_of(record), EventTime::from_micros(record.at_us));
        if is_failed_verification(record) && self.config.earn.enabled {
            let reason = format!("the verification of {} has failed: {}", record.action_id, record.reason);
            self.lose(&record.workload, kind, at, &reason);
        } else if is_failed_verification(record) || record.state() == ActionState::RolledBack {
            self.mark(record, false);
            self.review(&record.workload, kind, at);
        }
    }

    /// A forecast that cannot be trusted loses what was earned with it.
    pub(super) fn track_verdict(&mut self, workload: &str, at: EventTime) {
        let verdict = self.workloads.get(workload).map(|known| known.verdict.clone()).unwrap_or_default();
        if !self.config.earn.enabled || !matches!(verdict.as_str(), "stale" | "abstain") {
            return;
        }
        for kind in Kind::ALL {
            if self.earned(workload, kind) > Stage::Recommend {
                self.lose(workload, kind, at, &format!("the forecast's verdict is {verdict}"));
            }
        }
    }

    /// Counts again what the topics tell, and goes on where a crash came between an outcome and what follows from it.
    pub(super) fn rebuild_tracks(&mut self, outcomes: &[(String, String)]) {
        let all = self.workloads.values().flat_map(|workload| workload.actions());
        let by_id: BTreeMap<&str, &ActionRecord> = all.map(|action| (action.action_id.as_str(), action)).collect();
        let judged: Vec<(ActionRecord, &str)> = outcomes
            .iter()
            .filter_map(|(id, judgement)| Some(((*by_id.get(id.as_str())?).clone(), judgement.as_str())))
            .collect();
        for (action, judgement) in judged {
            if let Some(good) = is_good(kind_of(&action), judgement) {
                self.mark(&action, good);
            }
        }
        let mut ended: Vec<ActionRecord> =
            self.workloads.values().flat_map(|workload| workload.actions().cloned()).collect();
        ended.retain(|action| matches!(action.state(), ActionState::Failed | ActionState::RolledBack));
        ended.sort_by_key(|action| (action.at_us, action.sequence));
        for action in ended {
            if !self.is_counted_anew(&action) {
                self.track_move(&action);
            }
        }
        let keys: Vec<(String, Kind)> = self.tracks.keys().cloned().collect();
        for (workload, kind) in keys {
            let at = self.now_of(&workload);
            self.review(&workload, kind, at);
        }
    }

    /// Was it decided before what the record counts?
    fn is_counted_anew(&self, action: &ActionRecord) -> bool {
        let decided_at = EventTime::from_micros(action.decided_at_us);
        let track = self.tracks.get(&(action.workload.clone(), kind_of(action)));
        track.is_some_and(|earned| decided_at <= earned.since())
    }

    /// Takes in a turn that is on the topic.
    pub(super) fn replay_stage(&mut self, moved: &StageMove) {
        let (Some(kind), Some(to)) = (Kind::named(&moved.kind), Stage::named(&moved.to)) else { return };
        let at = EventTime::from_micros(moved.at_us);
        let earned = self.tracks.entry((moved.workload.clone(), kind)).or_default();
        earned.restore(to, at, &moved.reason, moved.anew);
    }

    /// The stages of one workload, or of all.
    pub(super) fn stages(&self, request: &StagesRequest) -> Vec<StageStanding> {
        let names = self.workloads.keys().filter(|name| request.workload.is_empty() || **name == request.workload);
        names.flat_map(|name| Kind::ALL.map(|kind| self.stage_standing(name, kind))).collect()
    }

    fn stage_standing(&self, workload: &str, kind: Kind) -> StageStanding {
        let config = self.config.earn;
        let earned = self.tracks.get(&(workload.to_owned(), kind)).cloned().unwrap_or_default();
        let track = earned.track(config.confidence);
        StageStanding {
            workload: workload.to_owned(),
            kind: kind.name().to_owned(),
            stage: self.stage_of(workload, kind).name().to_owned(),
            configured: self.config.stage_of(workload, kind).name().to_owned(),
            earned: earned.earned().name().to_owned(),
            earning: config.enabled,
            good: track.good,
            total: track.total,
            rate: track.rate,
            lower_bound: track.lower_bound,
            required_bound: config.bound,
            confidence: config.confidence,
            automate_after: config.automate_after,
            expand_after: config.expand_after,
            reason: earned.reason().to_owned(),
        }
    }

    fn mark(&mut self, action: &ActionRecord, good: bool) {
        let decided_at = EventTime::from_micros(action.decided_at_us);
        let earned = self.tracks.entry((action.workload.clone(), kind_of(action))).or_default();
        earned.mark(&action.action_id, decided_at, good);
    }

    fn review(&mut self, workload: &str, kind: Kind, at: EventTime) {
        if !self.config.earn.enabled {
            return;
        }
        let config = self.config.earn;
        let turn = self.tracks.entry((workload.to_owned(), kind)).or_default().review(&config);
        self.turned(workload, kind, at, turn);
    }

    fn lose(&mut self, workload: &str, kind: Kind, at: EventTime, reason: &str) {
        let turn = self.tracks.entry((workload.to_owned(), kind)).or_default().lose(at, reason);
        self.turned(workload, kind, at, turn);
    }

    fn turned(&mut self, workload: &str, kind: Kind, at: EventTime, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let track = self.tracks.entry((workload.to_owned(), kind)).or_default().track(self.config.earn.confidence);
        let moved = StageMove {
            workload: workload.to_owned(),
            kind: kind.name().to_owned(),
            from: turn.from.name().to_owned(),
            to: turn.to.name().to_owned(),
            reason: turn.reason,
            at_us: at.micros(),
            good: track.good,
            total: track.total,
            lower_bound: track.lower_bound,
            anew: turn.anew,
        };
        tracing::info!(workload, kind = kind.name(), from = moved.from, to = moved.to, reason = moved.reason, "stage");
        self.notifier.tell(Notice::of_stage(&moved, turn.to < turn.from));
        self.outbox.push(journal::stage(&moved));
    }
}

fn kind_of(action: &ActionRecord) -> Kind {
    Kind::of(action.units_before, action.units_after)
}

fn is_failed_verification(record: &ActionRecord) -> bool {
    record.actor == VERIFIER && matches!(record.state(), ActionState::Failed | ActionState::RolledBack)
}
