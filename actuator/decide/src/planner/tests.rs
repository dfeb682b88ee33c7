use super::*;
use crate::calendar::Quiet;

const STEP_US: i64 = 300_000_000;

fn config() -> PlannerConfig {
    PlannerConfig {
        unit_capacity: 10.0,
        target_utilisation: 0.5,
        max_units: 50,
        quantile: Some(0.75),
        ..PlannerConfig::default()
    }
}

fn seen(load: f64, units: u32) -> Observation {
    let now = EventTime::from_micros(1_000 * STEP_US);
    Observation { now, load: Some(load), units_commanded: units, last_change: now - Span::from_hours(1) }
}

/// Levels .5 and .9; the median is `median(step)`, the .9 quantile 8 more.
fn values(median: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..12).flat_map(|step| [median(step), median(step) + 8.0]).collect()
}

fn view(values: &[f32], verdict: Verdict) -> ForecastView<'_> {
    ForecastView { origin_us: 1_000 * STEP_US, step_us: STEP_US, levels: &[0.5, 0.9], values, verdict }
}

#[test]
fn a_peak_behind_the_lead_time_is_prepared_for_and_one_beyond_the_look_ahead_is_not() {
    for (peak_step, units) in [(2, 4), (3, 11), (9, 11), (10, 4)] {
        let values = values(|step| if step == peak_step { 50.0 } else { 15.0 });
        let decision = decide(&config(), &seen(10.0, 2), Some(&view(&values, Verdict::Fresh)));
        // p75 lies 5 above the median: 55 / (10 * 0.5) = 11 units, and 20 / 5 = 4.
        assert_eq!((decision.units_now, decision.binding), (units, "forecast"), "peak in step {peak_step}");
    }
}

#[test]
fn never_below_the_load_of_now_and_the_guard_alone_when_the_forecast_is_not_trusted() {
    let values = values(|_| 50.0);
    let low = decide(&config(), &seen(80.0, 2), Some(&view(&values, Verdict::Fresh)));
    assert_eq!((low.units_now, low.binding), (16, "guard"));
    for (verdict, said) in [
        (Verdict::Stale, "the forecast is stale"),
        (Verdict::Abstain, "the forecast abstains"),
        (Verdict::Unspecified, "the forecast has no verdict"),
    ] {
        let alone = decide(&config(), &seen(10.0, 2), Some(&view(&values, verdict)));
        assert_eq!((alone.units_now, alone.binding), (2, "guard"), "{verdict:?}");
        assert!(alone.reason.contains(said), "{}", alone.reason);
    }
    assert!(decide(&config(), &seen(10.0, 2), None).reason.contains("no forecast"));
}

#[test]
fn a_forecast_that_lacks_values_where_they_are_needed_leaves_the_guard_alone() {
    // Looked at are steps 3 to 9: the lead time of 15 minutes is 3 steps, the look-ahead of 35 is 7.
    let whole = values(|_| 50.0);
    let guard = |values: &[f32]| {
        let decision = decide(&config(), &seen(10.0, 2), Some(&view(values, Verdict::Fresh)));
        (decision.binding == "guard", decision.reason)
    };
    assert!(!guard(&whole).0 && !guard(&whole[..20]).0, "ten steps will do");
    let hole = |step: usize| {
        let mut values = whole.clone();
        values[step * 2] = f32::NAN;
        values
    };
    for values in [&whole[..18], &whole[..4], &[], &hole(3), &hole(9)] {
        let (is_guard, reason) = guard(values);
        assert!(is_guard && reason.contains("incomplete"), "{reason}");
    }
    assert!(!guard(&hole(2)).0 && !guard(&hole(10)).0, "what is not looked at may be missing");
    let incomplete = hole(5);
    assert_eq!(view(&incomplete, Verdict::Suspect).trust(&config(), &Learned::default()), "incomplete");
    assert_eq!(view(&incomplete, Verdict::Stale).trust(&config(), &Learned::default()), "stale");
}

#[test]
fn bounds_rate_limits_and_dwell_bind() {
    let high = values(|_| 1_000.0);
    assert_eq!(decide(&config(), &seen(10.0, 2), Some(&view(&high, Verdict::Fresh))).units_now, 50);
    let limited = PlannerConfig { max_step_up: 3, max_step_down: 2, ..config() };
    let up = decide(&limited, &seen(10.0, 2), Some(&view(&high, Verdict::Fresh)));
    assert_eq!((up.units_now, up.binding), (5, "rate limit"));
    let low = values(|_| 5.0);
    let down = decide(&limited, &seen(10.0, 20), Some(&view(&low, Verdict::Fresh)));
    assert_eq!((down.units_now, down.binding), (18, "rate limit"));
    let mut fresh_change = seen(10.0, 20);
    fresh_change.last_change = fresh_change.now - Span::from_mins(29);
    let held = decide(&config(), &fresh_change, Some(&view(&low, Verdict::Fresh)));
    assert_eq!((held.units_now, held.binding), (20, "dwell"));
}

#[test]
fn a_forecast_that_comes_and_goes_about_one_unit_s_worth_changes_nothing_twice() {
    // The p75 lies 5 above the median; one unit bears 5, and a release leaves a tenth: 4.5 are released to one unit.
    let small = PlannerConfig { unit_capacity: 70.0, target_utilisation: 0.7, ..config() };
    let at = |units, median: f32| {
        let values = values(|_| median);
        decide(&small, &seen(30.0, units), Some(&view(&values, Verdict::Fresh)))
    };
    let mut units = 1;
    let mut changes = 0;
    for median in [40.0, 45.0, 42.0, 45.2, 41.0, 44.9, 43.0, 45.0] {
        let decision = at(units, median);
        changes += u32::from(decision.units_now != units);
        units = decision.units_now;
    }
    assert_eq!((changes, units), (1, 2));
    assert_eq!((at(2, 40.0).units_now, at(2, 40.0).binding), (2, "hysteresis"));
    assert_eq!((at(2, 39.0).units_now, at(2, 39.0).binding), (1, "forecast"), "44 and a tenth fit into 49");
    // At many units a tenth is many: 1,000 fit into 21, and 1,100 need 23.
    let many = |units| at(units, 995.0).units_now;
    assert_eq!((many(23), many(24)), (23, 21));
}

#[test]
fn what_is_released_is_not_wanted_again_before_it_could_be_changed() {
    // Lead time 15, dwell 30, look-ahead 35 minutes: what comes in step 15 is too far for a raise, and holds a release.
    let long = |peak: usize| -> Vec<f32> {
        (0..30).flat_map(|step| if step == peak { [50.0, 58.0] } else { [5.0, 13.0] }).collect()
    };
    let decision = |values: &[f32], units| decide(&config(), &seen(5.0, units), Some(&view(values, Verdict::Fresh)));
    let held = decision(&long(15), 11);
    assert_eq!((held.units_now, held.binding), (11, "hysteresis"), "{}", held.reason);
    let part = decision(&long(15), 20);
    assert_eq!((part.units_now, part.binding), (11, "forecast"));
    assert!(part.reason.ends_with("2 units; 11 until it could be changed again"), "{}", part.reason);
    assert_eq!(decision(&long(16), 11).units_now, 2, "it is beyond");
    assert_eq!(decision(&long(15), 1).units_now, 2, "a raise looks less far");
}

#[test]
fn the_quantile_follows_from_the_costs() {
    let of = |unit: f64, violation: f64| {
        PlannerConfig { cost_per_unit_hour: unit, cost_per_violation_minute: violation, ..PlannerConfig::default() }
            .sizing_quantile()
    };
    assert!((of(1.0, 1.0 / 15.0) - 0.75).abs() < 1e-12);
    assert!((of(1.0, 1.0 / 6.0) - 0.9).abs() < 1e-12);
    assert!((of(1.0, 0.001) - 0.5).abs() < 1e-12, "never below the median");
}

/// Fridays from 12:00 on, for three hours; step 1,000 is on Sunday, 1970-01-04, at 11:20.
fn with_blackout(when: &str, guard_raises: bool) -> PlannerConfig {
    let quiet = Quiet { name: "freeze".to_owned(), when: when.parse().expect("a window"), guard_raises };
    let calendar = Calendar { blackouts: vec![quiet], ..Calendar::default() };
    PlannerConfig { calendar, ..config() }
}

#[test]
fn before_a_blackout_capacity_is_raised_for_all_of_it() {
    // 12 steps of an hour's forecast; look-ahead until 12:10, blackout 12:00 to 12:05, so until 12:20 = step 12.
    let values = values(|step| if step == 11 { 50.0 } else { 15.0 });
    let plain = decide(&config(), &seen(10.0, 2), Some(&view(&values, Verdict::Fresh)));
    assert_eq!(plain.units_now, 4, "{}", plain.reason);
    let ahead = decide(&with_blackout("sun 12:00-12:05", false), &seen(10.0, 2), Some(&view(&values, Verdict::Fresh)));
    assert_eq!((ahead.units_now, ahead.binding), (11, "forecast"));
    assert!(
        ahead.reason.contains("within blackout freeze, which lasts until 1970-01-04T12:05:00Z"),
        "{}",
        ahead.reason
    );
    let later = with_blackout("sun 20:00-21:00", false);
    assert_eq!(decide(&later, &seen(10.0, 2), Some(&view(&values, Verdict::Fresh))).units_now, 4);
}

#[test]
fn within_a_blackout_nothing_changes_but_for_the_guard_where_it_may() {
    let values = values(|_| 50.0);
    let (frozen, guarded) = (with_blackout("sun 11:00-12:00", false), with_blackout("sun 11:00-12:00", true));
    let held = decide(&frozen, &seen(40.0, 2), Some(&view(&values, Verdict::Fresh)));
    assert_eq!((held.units_now, held.binding), (2, "blackout"));
    assert!(held.reason.ends_with("blackout freeze, until 1970-01-04T12:00:00Z, keeps it at 2"), "{}", held.reason);
    let raised = decide(&guarded, &seen(40.0, 2), Some(&view(&values, Verdict::Fresh)));
    assert_eq!((raised.units_now, raised.binding), (8, "blackout"), "{}", raised.reason);
    assert_eq!(decide(&guarded, &seen(10.0, 20), Some(&view(&values, Verdict::Fresh))).units_now, 20, "no release");
    let quiet =
        Quiet { name: "upgrade".to_owned(), when: "sun 11:00-12:00".parse().expect("a window"), guard_raises: false };
    let upkeep = PlannerConfig { calendar: Calendar { maintenance: vec![quiet], ..Calendar::default() }, ..config() };
    assert_eq!(decide(&upkeep, &seen(40.0, 2), None).binding, "maintenance");
}

#[test]
fn units_are_released_in_their_times_and_raised_in_all() {
    let calendar = Calendar { release: vec!["sun 02:00-04:00".parse().expect("a window")], ..Calendar::default() };
    let config = PlannerConfig { calendar, ..config() };
    let low = values(|_| 5.0);
    let held = decide(&config, &seen(10.0, 20), Some(&view(&low, Verdict::Fresh)));
    assert_eq!((held.units_now, held.binding), (20, "release time"));
    assert!(held.reason.ends_with("units are released from 1970-01-11T02:00:00Z: it stays at 20"), "{}", held.reason);
    let mut night = seen(10.0, 20);
    (night.now, night.last_change) = (night.now - Span::from_hours(9), night.last_change - Span::from_hours(9));
    assert!(decide(&config, &night, Some(&view(&low, Verdict::Fresh))).units_now < 20);
    assert!(decide(&config, &seen(80.0, 2), None).units_now > 2);
}

#[test]
fn units_are_sizes_also_when_a_rate_limit_binds() {
    let sizes = Sizes { list: vec![2, 4, 8, 16, 32], step: 0 };
    let classes = PlannerConfig { sizes, max_step_up: 1, max_step_down: 3, ..config() };
    let high = values(|_| 50.0);
    let up = decide(&classes, &seen(10.0, 4), Some(&view(&high, Verdict::Fresh)));
    assert_eq!((up.units_now, up.binding), (8, "rate limit"), "the next size, though it is four more");
    assert_eq!(up.units, [16; 12]);
    let down = decide(&classes, &seen(10.0, 32), None);
    assert_eq!((down.units_now, down.binding), (16, "rate limit"));
}

#[test]
fn what_was_learned_is_planned_with_and_told() {
    // A unit alone serves 10, eleven of them 5 each: N / C(N) = 0.1 + 0.01 (N - 1).
    let curve = Curve::from_parts([0.1, 0.01, 0.0], [0.0; 6], 312, (1, 40)).expect("a curve");
    let values = values(|step| if step == 5 { 20.0 } else { 15.0 });
    let late = LeadTime { span: Span::from_mins(25), actions: 31 };
    let learned = Learned { curve: Some(&curve), why_no_curve: None, lead_time: Some(late) };
    let decision = decide_with(&config(), &learned, &seen(10.0, 2), Some(&view(&values, Verdict::Fresh)));
    // 25 / 0.5 = 50 units' worth of load: N = 0.5 * 10 ... N / (0.1 + 0.01 (N - 1)) >= 50 from N = 9 on.
    assert_eq!(decision.units_now, 9, "{}", decision.reason);
    assert!((decision.unit_capacity - 1.0 / 0.18).abs() < 1e-9, "{decision:?}");
    assert!(
        decision
            .reason
            .ends_with("a unit serves learned 5.6 (5.6..5.6) from 312 windows; lead time learned 25m from 31 raises")
    );
    assert_eq!(decision.lead_time, late);
    // A peak that is nearer than the lead time comes too soon for a change of now.
    let soon = Learned { lead_time: Some(LeadTime { span: Span::from_mins(30), actions: 31 }), ..learned };
    assert!(decide_with(&config(), &soon, &seen(10.0, 2), Some(&view(&values, Verdict::Fresh))).units_now < 9);
    let waiting = Learned { why_no_curve: Some("12 of the 200 windows have come"), ..Learned::default() };
    let declared = decide_with(&config(), &waiting, &seen(10.0, 2), Some(&view(&values, Verdict::Fresh)));
    assert!(
        declared.reason.ends_with("a unit serves declared 10.0: 12 of the 200 windows have come"),
        "{}",
        declared.reason
    );
}
