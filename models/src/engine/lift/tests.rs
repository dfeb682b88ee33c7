use super::*;
use crate::EngineConfig;
use crate::testing::{self, DAY, STEP_US};

/// At 18 o'clock of a day.
fn event(id: &str, kind: &str, day: i64, weight: f64) -> KnownEvent {
    testing::event(id, kind, day * DAY + 72, weight)
}

/// Three times the load during each match and two hours behind it, half of it during a maintenance.
fn engine(events: &[KnownEvent], days: i64) -> Engine {
    engine_of(events, days, |event| match event.kind.as_str() {
        "match" => 3.0,
        "maintenance" => 0.5,
        _ => 1.0,
    })
}

/// So many times the load during each event and two hours behind it.
fn engine_of(events: &[KnownEvent], days: i64, times: impl Fn(&KnownEvent) -> f64) -> Engine {
    let config = EngineConfig { step_us: STEP_US, horizon_steps: 96, ..EngineConfig::default() };
    let mut engine = Engine::try_new(config).expect("legal");
    events.iter().for_each(|event| engine.signal(event.clone()));
    for step in 0..days * DAY {
        let phase = (step % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
        let noise = 1.0 + 0.05 * ((step * 7919 % 101) as f64 / 50.0 - 1.0);
        let at_us = step * STEP_US;
        let within = |event: &&KnownEvent| (event.starts_at_us..event.ends_at_us + TAIL_US).contains(&at_us);
        let times = events.iter().find(within).map_or(1.0, &times);
        engine.observe(at_us, (200.0 + 100.0 * phase.sin()) * noise * times);
    }
    engine
}

fn matches(days: &[i64]) -> Vec<KnownEvent> {
    days.iter().map(|day| event(&format!("m{day}"), "match", *day, 1.0)).collect()
}

/// Campaigns by mail every other day and by push on the days between; mail brings three times the load, push as much again
/// as without.
#[test]
fn each_channel_of_a_kind_lifts_as_it_did() {
    let by = |day: i64, channel: &str| KnownEvent {
        channel: channel.to_owned(),
        ..event(&format!("{channel}-{day}"), "campaign", day, 1.0)
    };
    let of_day = |day: i64| by(day, if day % 2 == 0 { "mail" } else { "push" });
    let mut events: Vec<KnownEvent> = (8..24).map(of_day).collect();
    events.push(by(24, "sms"));
    let times = |event: &KnownEvent| if event.channel == "mail" { 3.0 } else { 1.0 };
    let engine = engine_of(&events, 23, times);
    let lift = |id: &str| engine.lifts(LiftOf::Signal(id)).expect("fitted").remove(0);
    let (mail, push, sms) = (lift("mail-22"), lift("push-23"), lift("sms-24"));
    assert!((2.4..3.6).contains(&mail.window.lift), "{:?}", mail.window);
    assert!((0.8..1.4).contains(&push.window.lift), "{:?}", push.window);
    // A channel that was never seen is like the kind, and less certain.
    assert!((1.3..2.4).contains(&sms.window.lift) && sms.unlike.contains("sms"), "{:?} {}", sms.window, sms.unlike);
}

#[test]
fn a_coming_match_lifts_as_past_ones_did_and_names_them() {
    let mut events = matches(&[8, 10, 12, 14, 16]);
    events.push(event("upkeep", "maintenance", 11, 1.0));
    let engine = engine(&events, 16);
    let found = engine.lifts(LiftOf::Signal("m16")).expect("fitted");
    let [lift] = found.as_slice() else { panic!("{found:?}") };
    let near = |value: f64, expected: f64, part: f64| (value / expected - 1.0).abs() < part;
    // Noise of 5 %, and a peak is the noisiest of its steps.
    assert!(near(lift.window.lift, 3.0, 0.15) && near(lift.peak.lift, 3.0, 0.25), "{lift:?}");
    assert!(lift.window.low < 3.0 && 3.0 < lift.window.high, "{:?}", lift.window);
    let ids: Vec<&str> = lift.past.iter().map(|seen| seen.event.id.as_str()).collect();
    assert_eq!(ids, ["m14", "m12", "m10", "m8"]);
    assert!(lift.past.iter().all(|seen| near(seen.observed.window, 3.0, 0.15)), "{:?}", lift.past);
    assert!(lift.observed.is_none() && lift.unlike.is_empty(), "{}", lift.unlike);
    let all = engine.lifts(LiftOf::All).expect("fitted");
    assert_eq!(all.len(), 6);
    let upkeep = all.iter().find(|lift| lift.event.id == "upkeep").expect("listed");
    assert!(upkeep.observed.is_some_and(|seen| near(seen.window, 0.5, 0.15)), "{upkeep:?}");
}

#[test]
fn what_is_unlike_is_told_and_less_sure() {
    let mut events = matches(&[8, 10, 12, 14]);
    events.push(event("final", "match", 16, 4.0));
    events.push(event("launch", "launch", 16, 1.0));
    let engine = engine(&events, 16);
    let width = |id: &str| {
        let found = engine.lifts(LiftOf::Signal(id)).expect("fitted");
        let lift = found.first().expect("known");
        (lift.window.high / lift.window.low, lift.unlike.clone())
    };
    let (usual, like) = engine
        .lifts(LiftOf::Kind("match"))
        .expect("fitted")
        .first()
        .map(|lift| (lift.window.high / lift.window.low, lift.unlike.clone()))
        .expect("made up");
    assert!(like.is_empty(), "{like}");
    let (heavier, why) = width("final");
    assert!(heavier > 1.3 * usual && why.contains("weight is 4"), "{heavier} {usual} {why}");
    let (unseen, why) = width("launch");
    assert!(unseen > 1.3 * usual && why.contains("no event of the kind launch"), "{unseen} {usual} {why}");
}

#[test]
fn intervals_narrow_with_events_and_without_history_nothing_is_said() {
    let few = interval(2.0, &[0.1, -0.1], 0.0);
    let many = interval(2.0, &[0.1, -0.1].repeat(20), 0.0);
    assert!(few.high / few.low > 1.5 * (many.high / many.low), "{few:?} {many:?}");
    // 40 events with a deviation of .1 and the prior: 2 exp(1.31 * .139 * 1.01).
    assert!((many.high / 2.0_f64 - (1.302_f64 * 0.133 * 1.012).exp()).abs() < 0.02, "{many:?}");
    for (freedom, t) in [(2.0, 1.886), (5.0, 1.476), (30.0, 1.310)] {
        assert!((student_90(freedom) / t - 1.0_f64).abs() < 0.025);
    }
    assert!(engine(&[], 2).lifts(LiftOf::All).is_err());
}
