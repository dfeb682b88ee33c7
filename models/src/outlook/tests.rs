use super::*;
use crate::testing::{self, DAY, STEP_US};

const HOURS: usize = 24 * 14;

fn config() -> EngineConfig {
    EngineConfig { step_us: STEP_US, horizon_steps: 192, levels: vec![0.1, 0.5, 0.9], ..EngineConfig::default() }
}

fn event(day: i64, announced_day: i64) -> KnownEvent {
    let announced_at_us = announced_day * DAY * STEP_US;
    KnownEvent { announced_at_us, ..testing::event(&format!("m{day}"), "match", day * DAY + 72, 1.0) }
}

/// A daily rhythm, lower on two days of seven, noise of 4 %, and three times as much during events.
fn load(step: i64, events: &[KnownEvent]) -> f64 {
    let phase = (step % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
    let noise = 1.0 + 0.04 * ((step * 7919 % 101) as f64 / 50.0 - 1.0);
    let start_us = step * STEP_US;
    let acts = events.iter().any(|event| start_us >= event.starts_at_us && start_us < event.ends_at_us);
    let week = if matches!(step.div_euclid(DAY) % 7, 2 | 3) { 0.6 } else { 1.0 };
    week * (200.0 + 100.0 * phase.sin()) * noise * if acts { 3.0 } else { 1.0 }
}

struct Both {
    fine: Engine,
    outlook: Outlook,
}

impl Both {
    fn new(events: &[KnownEvent]) -> Self {
        let mut both = Self {
            fine: Engine::try_new(config()).expect("legal"),
            outlook: Outlook::try_new(&config(), HOURS).expect("legal").expect("reaches further"),
        };
        for event in events {
            both.fine.signal(event.clone());
            both.outlook.signal(event.clone());
        }
        both
    }

    /// The fine forecasts and outlooks of full hours.
    fn run(&mut self, steps: std::ops::Range<i64>, value: impl Fn(i64) -> f64) -> Vec<(ForecastSet, ForecastSet)> {
        let mut made = Vec::new();
        for step in steps {
            self.fine.observe(step * STEP_US, value(step));
            self.outlook.observe(step * STEP_US, value(step));
            let fine = self.fine.forecast();
            if (step + 1) % 4 == 0
                && let Ok(outlook) = self.outlook.forecast(fine.as_ref())
            {
                made.extend(fine.map(|fine| (fine, outlook)));
            }
        }
        made
    }
}

fn level(set: &ForecastSet, step: usize, level: usize) -> f64 {
    f64::from(set.values[step * set.levels.len() + level])
}

#[test]
fn hours_are_the_means_of_their_steps_and_the_joint_does_not_jump() {
    let made = Both::new(&[]).run(0..21 * DAY, |step| load(step, &[]));
    assert!(made.len() > 300, "{}", made.len());
    for (fine, outlook) in &made {
        assert_eq!((outlook.origin_us, outlook.step_us), (fine.origin_us, HOUR_US));
        assert_eq!(outlook.values.len(), HOURS * 3);
        for hour in 0..48 {
            for of in 0..3 {
                let mean = (0..4).map(|step| level(fine, hour * 4 + step, of)).sum::<f64>() / 4.0;
                let own = level(outlook, hour, of);
                // Both are rounded to seven digits.
                assert!((own - mean).abs() <= 1e-6 * mean, "hour {hour}: {own} {mean}");
            }
        }
        for row in outlook.values.chunks_exact(3) {
            assert!(row.is_sorted() && row.iter().all(|value| value.is_finite() && *value >= 0.0));
        }
        // From the last hour of the one to the first of the other the median moves as the load does.
        let at = |hour: i64| {
            let first = outlook.origin_us / STEP_US + hour * 4;
            (first..first + 4).map(|step| load(step, &[])).sum::<f64>() / 4.0
        };
        let (moved, moves) = (level(outlook, 48, 1) / level(outlook, 47, 1), at(48) / at(47));
        assert!((moved / moves - 1.0).abs() < 0.12, "{moved} {moves}");
    }
    let (_, last) = made.last().expect("made");
    assert!(last.model_version.starts_with("hourly-ensemble-"), "{}", last.model_version);
}

#[test]
fn it_is_right_about_the_second_week_and_its_event() {
    let events: Vec<KnownEvent> = [8, 10, 12, 14, 16, 18, 30].map(|day| event(day, 0)).into();
    let made = Both::new(&events).run(0..20 * DAY, |step| load(step, &events));
    let (_, last) = made.last().expect("made");
    assert!(last.signals.contains(&("m30".to_owned(), 1)), "{:?}", last.signals);
    let truth = |hour: usize| {
        let first = 20 * DAY + 4 * i64::try_from(hour).expect("small");
        (first..first + 4).map(|step| load(step, &events)).sum::<f64>() / 4.0
    };
    let off = |hours: std::ops::Range<usize>| {
        let (error, sum) = hours
            .fold((0.0, 0.0), |sums, hour| (sums.0 + (level(last, hour, 1) - truth(hour)).abs(), sums.1 + truth(hour)));
        error / sum
    };
    assert!(off(168..230) < 0.12, "{}", off(168..230));
    let during = level(last, 259, 1) / truth(259);
    assert!(last.event_steps[259] && (during - 1.0).abs() < 0.35, "{during}");
}

#[test]
fn no_outlook_moves_when_the_future_changes() {
    let told = [event(8, 0), event(10, 0)];
    let mut late = told.to_vec();
    late.push(event(16, 12));
    let before = Both::new(&told).run(0..12 * DAY - 1, |step| load(step, &told));
    let same = Both::new(&late).run(0..12 * DAY - 1, |step| load(step, &told));
    assert!(!before.is_empty() && before == same, "an event announced later changed an outlook");
    // Other loads from a moment on change nothing made before it, and what comes after.
    let cut = 11 * DAY;
    let changed = Both::new(&told).run(0..12 * DAY - 1, |step| load(step, &told) * if step < cut { 1.0 } else { 2.0 });
    let is_early = |(_, outlook): &&(ForecastSet, ForecastSet)| outlook.origin_us <= cut * STEP_US;
    assert!(before.iter().filter(is_early).eq(changed.iter().filter(is_early)), "looked ahead");
    assert_ne!(before.last(), changed.last());
    // From its announcement on the signal acts.
    let mut both = Both::new(&late);
    let after = both.run(0..12 * DAY + 4, |step| load(step, &told));
    assert!(after.last().expect("made").1.signals.contains(&("m16".to_owned(), 1)));
}

#[test]
fn a_snapshot_goes_on_the_same_and_gaps_are_told() {
    let mut both = Both::new(&[]);
    both.run(0..10 * DAY + 2, |step| if step % 50 < 3 { f64::NAN } else { load(step, &[]) });
    let bytes = postcard::to_stdvec(&both.outlook).expect("serialises");
    assert!(bytes.len() < 200_000, "{} bytes", bytes.len());
    let restored = Outlook::clone(&postcard::from_bytes(&bytes).expect("comes back"));
    let mut other = Both { fine: both.fine.clone(), outlook: restored };
    let expected = both.run(10 * DAY + 2..11 * DAY, |step| load(step, &[]));
    assert!(!expected.is_empty() && expected == other.run(10 * DAY + 2..11 * DAY, |step| load(step, &[])));
    // Without a fine forecast it stands alone, and says so.
    let alone = both.outlook.forecast(Err(&Abstention { reason: "7 of the last 12 steps are gaps".to_owned() }));
    let alone = alone.expect("an outlook");
    assert_eq!(alone.verdict, Verdict::Suspect);
    assert!(alone.verdict_reason.contains("gaps"), "{}", alone.verdict_reason);
    let mut young = Both::new(&[]);
    young.run(0..6 * DAY, |step| load(step, &[]));
    assert!(young.outlook.forecast(Err(&Abstention { reason: String::new() })).is_err());
}

#[test]
fn there_is_none_where_it_could_add_nothing() {
    let odd = EngineConfig { step_us: 45 * 60_000_000, ..config() };
    assert!(Outlook::try_new(&odd, HOURS).expect("legal").is_none());
    assert!(Outlook::try_new(&config(), 48).expect("legal").is_none());
}
