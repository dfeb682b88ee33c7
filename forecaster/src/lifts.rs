//! Lifts of event signals: asked for by people, told as records.

use headroom_models::{self as models};
use headroom_proto::v1::{Lift, LiftRange, ListLiftsRequest, PastLift, SignalLift};
use tokio::sync::oneshot;

use crate::learner::LiftError;

/// A question for the engines, which the loop answers between two batches.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: ListLiftsRequest,
    pub(crate) answer: oneshot::Sender<Result<Vec<SignalLift>, LiftError>>,
}

/// A lift as a record; past events are named only when they are asked for.
pub(crate) fn record(workload: &str, lift: models::SignalLift, names_past: bool) -> SignalLift {
    let past_events = u32::try_from(lift.past.len()).unwrap_or(u32::MAX);
    let event = lift.event;
    SignalLift {
        workload: workload.to_owned(),
        signal_id: event.id,
        kind: event.kind,
        name: event.name,
        weight: event.weight,
        starts_at_us: event.starts_at_us,
        ends_at_us: event.ends_at_us,
        peak: Some(range(lift.peak)),
        window: Some(range(lift.window)),
        observed: lift.observed.map(one),
        unlike: lift.unlike,
        past_events,
        past: if names_past { lift.past.into_iter().map(past).collect() } else { Vec::new() },
    }
}

fn past(past: models::PastLift) -> PastLift {
    let event = past.event;
    PastLift {
        signal_id: event.id,
        kind: event.kind,
        name: event.name,
        weight: event.weight,
        starts_at_us: event.starts_at_us,
        ends_at_us: event.ends_at_us,
        expected: Some(one(past.expected)),
        observed: Some(one(past.observed)),
    }
}

fn one(lift: models::Lift) -> Lift {
    Lift { peak: lift.peak, window: lift.window }
}

fn range(range: models::LiftRange) -> LiftRange {
    LiftRange { lift: range.lift, low: range.low, high: range.high }
}
