//! What the policy is asked for an offer of the model.

use headroom_actuator_decide::policy::{Question, Stage};

use super::rules::Offer;

pub(super) fn of(offer: Offer, is_stopped: bool) -> Question<'static> {
    let (units_before, units_after) = if offer.is_release { (4, 3) } else { (3, 4) };
    Question {
        workload: "shop",
        stage: Stage::Automate,
        ceiling: Stage::Automate,
        verdict: if offer.is_fresh { "fresh" } else { "stale" },
        paused: is_stopped,
        reversible: offer.is_reversible,
        units_before,
        units_after,
        ..Question::default()
    }
}
