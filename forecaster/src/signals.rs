//! The signals known so far, for every workload that appears later too.

use headroom_models::KnownEvent;
use headroom_proto::WorkloadId;
use headroom_proto::signal::kind_word;
use headroom_proto::v1::{Signal, SignalStatus};
use serde::{Deserialize, Serialize};

/// Every revision of every signal, in the order of arrival.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SignalBook {
    revisions: Vec<Signal>,
}

impl SignalBook {
    /// Adds a revision unless it is known; with more than `limit`, drops the one that ended first and says so.
    pub(crate) fn add(&mut self, signal: Signal, limit: usize) -> Added {
        if self.revisions.contains(&signal) {
            return Added::Repeat;
        }
        self.revisions.push(signal);
        if self.revisions.len() <= limit {
            return Added::New;
        }
        let oldest = self.revisions.iter().enumerate().min_by_key(|(_, known)| known.ends_at_us).map(|(at, _)| at);
        if let Some(at) = oldest {
            self.revisions.remove(at);
        }
        Added::InsteadOfOldest
    }

    /// What a workload's engine is told of a revision. A revision that no longer selects the workload cancels the
    /// earlier one that did; one that never did is not its concern.
    pub(crate) fn event_for(&self, signal: &Signal, workload: &WorkloadId) -> Option<KnownEvent> {
        let selects = |signal: &Signal| workload.is_selected(&signal.workloads);
        let withdrawn = !selects(signal);
        let mut revisions = self.revisions.iter().filter(|known| known.signal_id == signal.signal_id);
        let concerned = !withdrawn || revisions.any(selects);
        concerned.then(|| {
            let event = known_event(signal);
            KnownEvent { cancelled: withdrawn || event.cancelled, ..event }
        })
    }

    /// Everything a new workload's engine is to be told.
    pub(crate) fn events_for(&self, workload: &WorkloadId) -> Vec<KnownEvent> {
        self.revisions.iter().filter_map(|signal| self.event_for(signal, workload)).collect()
    }
}

/// A signal as the models know it.
pub(crate) fn known_event(signal: &Signal) -> KnownEvent {
    KnownEvent {
        id: signal.signal_id.clone(),
        revision: signal.revision,
        kind: kind_word(signal.kind()),
        name: signal.name.clone(),
        channel: signal.channel.clone(),
        weight: signal.weight,
        #[expect(clippy::cast_precision_loss, reason = "exact below 9e15 people")]
        audience_size: signal.audience_size.map(|people| people as f64),
        announced_at_us: signal.announced_at_us,
        starts_at_us: signal.starts_at_us,
        ends_at_us: signal.ends_at_us,
        cancelled: signal.status() == SignalStatus::Cancelled,
    }
}

/// What became of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Repeat,
    InsteadOfOldest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(revision: u64, workloads: &[&str]) -> Signal {
        Signal {
            signal_id: "sale".to_owned(),
            revision,
            ends_at_us: 1 + i64::try_from(revision).expect("small"),
            weight: 1.0,
            workloads: workloads.iter().map(|&name| name.to_owned()).collect(),
            ..Signal::default()
        }
    }

    #[test]
    fn a_revision_that_leaves_a_workload_out_cancels_it_there() {
        let mut book = SignalBook::default();
        for signal in [revision(1, &["shop-*"]), revision(2, &["shop-eu"])] {
            assert_eq!(book.add(signal, 10), Added::New);
        }
        assert_eq!(book.add(revision(2, &["shop-eu"]), 10), Added::Repeat);
        let told = |name: &str| {
            let workload = WorkloadId::try_new(name).expect("legal");
            book.events_for(&workload).iter().map(|event| (event.revision, event.cancelled)).collect::<Vec<_>>()
        };
        assert_eq!(told("shop-eu"), [(1, false), (2, false)]);
        assert_eq!(told("shop-us"), [(1, false), (2, true)]);
        assert!(told("bank").is_empty());
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = SignalBook::default();
        assert_eq!(book.add(revision(1, &[]), 1), Added::New);
        assert_eq!(book.add(revision(2, &[]), 1), Added::InsteadOfOldest);
        assert_eq!(book.revisions.iter().map(|signal| signal.revision).collect::<Vec<_>>(), [2]);
    }
}
