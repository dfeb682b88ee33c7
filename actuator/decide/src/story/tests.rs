//! The story's numbers, worked out by hand.

use headroom_proto::v1::{SignalKind, SignalUse};

use super::*;

const HOUR_US: i64 = 3_600_000_000;

fn plan() -> Plan {
    Plan {
        plan_id: "plan-shop-1".to_owned(),
        workload: "shop".to_owned(),
        decided_at_us: 894_844_800_000_000,
        units_before: 2,
        units_now: 5,
        quantile: 0.75,
        cost_per_unit_hour: 1.0,
        cost_per_violation_minute: 1.0 / 15.0,
        lead_time_us: HOUR_US / 4,
        look_ahead_us: HOUR_US / 2,
        binding: "forecast".to_owned(),
        reason: "p75 of the forecast peaks at 330.0 at 1998-05-11T01:00:00Z: 5 units".to_owned(),
        forecast_origin_us: 894_844_800_000_000,
        model_version: "model-7".to_owned(),
        verdict: "fresh".to_owned(),
        signal_ids: vec!["final".to_owned()],
        signals: vec![SignalUse { signal_id: "final".to_owned(), revision: 2 }],
        observed_load: 120.0,
        expected_peak: 330.0,
        unit_capacity: 100.0,
        target_utilisation: 0.7,
        violation_utilisation: 0.85,
        peak_at_us: 894_844_800_000_000 + HOUR_US,
        levels: vec![0.1, 0.5, 0.9],
        peak_values: vec![200.0, 260.0, 460.0],
        horizon_peak: 900.0,
        static_units: 13,
        ..Plan::default()
    }
}

fn moved(state: ActionState, actor: &str, reason: &str) -> ActionRecord {
    ActionRecord {
        action_id: "shop-1".to_owned(),
        plan_id: "plan-shop-1".to_owned(),
        workload: "shop".to_owned(),
        state: state.into(),
        actor: actor.to_owned(),
        reason: reason.to_owned(),
        units_before: 2,
        units_after: 5,
        undo_units: 2,
        stage: "automate".to_owned(),
        policy_version: "abc".to_owned(),
        at_us: 894_844_800_000_000,
        ..ActionRecord::default()
    }
}

fn told(moves: &[ActionRecord], outcomes: &[Outcome]) -> String {
    let signal = Signal {
        signal_id: "final".to_owned(),
        revision: 2,
        kind: SignalKind::Match.into(),
        name: "The final".to_owned(),
        weight: 1.5,
        starts_at_us: 894_844_800_000_000 + HOUR_US,
        ends_at_us: 894_844_800_000_000 + 3 * HOUR_US,
        ..Signal::default()
    };
    Story { plan: &plan(), moves, outcomes, signals: &[signal] }.text()
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "not there: {part}\n{text}");
    }
}

#[test]
fn the_story_tells_the_numbers_and_where_they_come_from() {
    let moves =
        [moved(ActionState::Proposed, "planner", "p75"), moved(ActionState::Holding, "verifier", "ready by then")];
    holds(
        &told(&moves, &[]),
        &[
            "Plan plan-shop-1 of shop: 2 -> 5 units",
            "State: holding",
            "made 1998-05-11T00:00:00Z by model model-7; its verdict was fresh",
            "p10 200.0, p50 260.0, p90 460.0",
            "Signal final \"The final\" (match): 1998-05-11T01:00:00Z to 1998-05-11T03:00:00Z, weight 1.5, revision 2",
            "1 - unit / (60 x violation) = 1 - 1.00 / (60 x 0.0667) = 0.750",
            "So it is sized for p75",
            // 330 / 70 = 4.714
            "330.0 / (100.0 x 0.70) = 4.71, rounded up 5",
            "5 units cost 5.00 an hour: 3.00 more than doing nothing (2 units)",
            "Over the 30m that it covers: 2.50, 1.50 more than doing nothing",
            "(p90 900.0) would be 13 units: 13.00 an hour. This is 8.00 below it",
            // 0.85 * 100 * 5 = 425; 165 of the 200 between p50 and p90: level 0.83, so 17 %, at 1/15 a minute.
            "above 425.0 (85 % of 5 units)",
            "about 17.0 %: 0.0113 a minute",
            // 260 / 70 = 3.7: 4 units.
            "260.0 (the median at the peak), 4 would do; the surplus of 1 costs 1.00 an hour",
            "headroom rollback plan-shop-1",
            "returns shop to 2 units",
            "proposed by planner",
            "Stage automate, policy abc",
            "Nothing is measured yet",
        ],
    );
}

#[test]
fn what_waits_what_was_undone_and_what_was_measured() {
    let waiting = [moved(ActionState::Proposed, "planner", "p75")];
    holds(&told(&waiting, &[]), &["headroom rollback plan-shop-1", "ends the waiting: nothing has been done yet"]);
    let rejected = [waiting[0].clone(), moved(ActionState::Rejected, "ann", "rejected: too dear")];
    holds(&told(&rejected, &[]), &["There is nothing to undo: it is rejected", "rejected by ann: too dear"]);
    let outcome = Outcome {
        expected_peak: 330.0,
        observed_peak: 310.0,
        observed_mean: 280.0,
        units: 5,
        peak_utilisation: 0.62,
        completeness: 1.0,
        judgement: "good".to_owned(),
        counterfactual_violation_minutes: 25.0,
        counterfactual_peak_utilisation: 1.55,
        counterfactual_method: "estimate: the same load on the 2 units before".to_owned(),
        ..Outcome::default()
    };
    let undone = [
        waiting[0].clone(),
        moved(ActionState::Applied, "actuator", "taken"),
        moved(ActionState::RolledBack, "ann", "a drill"),
    ];
    holds(
        &told(&undone, std::slice::from_ref(&outcome)),
        &[
            "It was undone 1998-05-11T00:00:00Z by ann (a drill): back to 2 units",
            "highest load 310.0 (expected 330.0)",
            "Judged good. Without it: used up to 155 %, 25 minutes in violation (estimate: the same load on the 2 units",
        ],
    );
    let unseen = Outcome { completeness: 0.0, judgement: "unmeasured".to_owned(), ..outcome.clone() };
    let said = told(&undone, &[unseen]);
    assert!(
        said.contains("No window came") && !said.contains("Without it"),
        "nothing was seen to estimate from: {said}"
    );
    let (text, document) = record_of(&undone, Some(&plan()), Some(&outcome)).expect("moves");
    holds(
        &text,
        &["shop 2 -> 5 units", "Approved by  nobody", "Policy       abc", "taken", "by ann (a drill)", "Judged good"],
    );
    assert_eq!(document["summary"]["undone"].as_str().map(|said| said.contains("ann")), Some(true));
    assert!(record_of(&[], None, None).is_none());
}

#[test]
fn other_ways_to_a_quantile_and_a_plan_without_a_forecast() {
    let set = Plan { quantile: 0.9, set_quantile: 0.9, ..plan() };
    let said = |plan: &Plan| Story { plan, moves: &[], outcomes: &[], signals: &[] }.text();
    holds(&said(&set), &["sized for p90 all the same, which the configuration sets"]);
    let cheap = Plan { cost_per_violation_minute: 0.02, quantile: 0.5, ..plan() };
    // 1 - 1 / 1.2 = 0.167
    holds(&said(&cheap), &["= 0.167", "sized for p50, the nearest within p50 to p99"]);
    let (reason, verdict) =
        ("the load of now, 300.0, needs 5 units; no forecast has come".to_owned(), "none".to_owned());
    let guard =
        Plan { forecast_origin_us: 0, levels: vec![], peak_values: vec![], peak_at_us: 0, reason, verdict, ..plan() };
    holds(
        &said(&guard),
        &[
            "There was no forecast",
            "the chance is not known",
            "(the load of now)",
            "Signal final.".trim_end_matches("Signal final."),
        ],
    );
    let observed =
        Plan { would: "at stage automate it would be done: allowed by automate-reversible".to_owned(), ..plan() };
    holds(
        &said(&observed),
        &[
            "State: observed",
            "There is nothing to undo: it was only observed",
            "Nobody: at stage observe nothing is done. At stage automate it would be done: allowed by automate-reversible.",
        ],
    );
    let edge = |units: u32| chance(&Plan { units_now: units, ..plan() });
    // 85 a unit: 1 unit bears 85, below p10; 6 bear 510, above p90.
    assert!((edge(1) - 0.9).abs() < 1e-9 && (edge(6) - 0.1).abs() < 1e-9, "{} {}", edge(1), edge(6));
}

fn chance(plan: &Plan) -> f64 {
    parts::chance_of_violation(plan).expect("there are quantiles")
}
