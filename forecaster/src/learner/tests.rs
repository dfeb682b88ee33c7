use headroom_proto::Span;
use headroom_proto::v1::{MarkKind, Verdict};

use super::*;
use std::collections::BTreeSet;

use crate::lineage::SCORED;
use crate::testing::{
    DAY_US, HOUR_US, Row, START_US, STEP_US, config, days, encoded, handle, learners, sale, window_records,
};
use crate::{ForecasterConfig, GroupConfig};

fn run(rows: &[Row], signals: Vec<Record>) -> Turn {
    handle(&mut learners(&config()), signals, window_records(rows, 1), 0)
}

fn ordered(forecast: &Forecast) -> bool {
    forecast
        .values
        .chunks(forecast.levels.len())
        .all(|step| step.is_sorted() && step.iter().all(|value| value.is_finite()))
}

#[test]
fn every_window_has_a_forecast_and_abstentions_come_first() {
    let rows = days(12);
    let turn = run(&rows, Vec::new());
    let origins: Vec<i64> = turn.forecasts.iter().map(|forecast| forecast.origin_us).collect();
    assert_eq!(origins, rows.iter().map(|row| row.end_us).collect::<Vec<_>>());
    let abstentions = turn.forecasts.iter().take_while(|forecast| forecast.verdict() == Verdict::Abstain).count();
    assert!(abstentions > 0 && abstentions < origins.len(), "{abstentions} of {}", origins.len());
    for forecast in &turn.forecasts[..abstentions] {
        assert!(forecast.values.is_empty() && !forecast.verdict_reason.is_empty());
    }
    for (forecast, row) in turn.forecasts.iter().zip(&rows).skip(abstentions) {
        assert_eq!(forecast.values.len(), 24 * 3, "{}", forecast.verdict_reason);
        assert!(ordered(forecast), "{:?}", forecast.values);
        let incomplete = forecast.marks.iter().any(|mark| mark.kind() == MarkKind::Incomplete);
        let step = (row.end_us - START_US) / STEP_US - 1;
        assert_eq!(incomplete, (150..153).contains(&(step % 288)), "{}", forecast.verdict_reason);
        assert_eq!(incomplete, forecast.verdict_reason.contains("1 of the last 12 windows are incomplete"));
        assert!(!incomplete || forecast.verdict() != Verdict::Fresh);
    }
    assert_eq!(turn.handled_us, origins.last().copied());
}

#[test]
fn the_same_windows_lead_to_the_same_bytes_however_they_are_cut() {
    let rows = days(10);
    let whole = run(&rows, Vec::new());
    let mut learners = learners(&config());
    let mut pieces = Vec::new();
    for (offset, record) in (0..).zip(window_records(&rows, 1)) {
        pieces.extend(handle(&mut learners, Vec::new(), vec![record], offset).forecasts);
    }
    assert_eq!(encoded(&pieces), encoded(&whole.forecasts));
}

#[test]
fn a_signal_acts_from_its_announcement_on_and_not_before() {
    let rows = days(12);
    let announced_us = START_US + 10 * DAY_US;
    let plain = run(&rows, Vec::new());
    let told = run(&rows, vec![sale(announced_us, announced_us + HOUR_US)]);
    let (mut used, mut flagged) = (0, 0);
    for (plain, told) in plain.forecasts.iter().zip(&told.forecasts) {
        if told.origin_us < announced_us {
            assert_eq!(told, plain, "looked ahead at {}", told.origin_us);
        } else if told.signals.iter().any(|signal| signal.signal_id == "sale") {
            used += 1;
            flagged += i32::from(told.event_steps.contains(&true));
        }
    }
    assert!(used > 0 && flagged > 0, "used {used} times, flagged {flagged} times");
}

#[test]
fn models_carry_their_lineage_and_scores_follow_by_the_hour() {
    let turn = run(&days(12), vec![sale(START_US, START_US + DAY_US)]);
    let (scored, trained): (Vec<_>, Vec<_>) =
        turn.models.iter().map(|(_, model)| model).partition(|model| model.reason == SCORED);
    let first = trained.first().expect("a model was trained");
    assert_eq!((first.workload.as_str(), first.feature_schema_hash.len()), ("shop", 64));
    assert!(first.table_versions["headroom.windows/0"] > 0 && first.table_versions["headroom.signals/0"] == 1);
    assert!(!first.reason.is_empty() && !first.code_version.is_empty() && first.parameters_json.starts_with('{'));
    let score = scored.first().expect("forecasts have matured");
    let view = crate::lineage::score_view(Model::clone(score));
    assert_eq!((view.to_us - view.from_us, view.from_us % HOUR_US), (HOUR_US, 0));
    assert!(view.scores["wql"] >= 0.0, "{view:?}");
}

#[test]
fn what_was_published_is_not_published_again() {
    let rows = days(9);
    let whole = run(&rows, Vec::new());
    let half_us = rows[rows.len() / 2].end_us;
    let mut state = State::default();
    state.published.insert("shop".to_owned(), half_us);
    let rest = handle(&mut crate::testing::with_state(&config(), state), Vec::new(), window_records(&rows, 1), 0);
    let expected: Vec<Forecast> =
        whole.forecasts.iter().filter(|forecast| forecast.origin_us > half_us).cloned().collect();
    assert_eq!(encoded(&rest.forecasts), encoded(&expected));
    assert!(rest.models.iter().all(|(at_us, _)| *at_us > half_us));
}

#[test]
fn repeats_late_windows_and_excess_workloads_are_counted() {
    let config = ForecasterConfig { max_workloads: 1, ..config() };
    let mut learners = learners(&config);
    let mut rows = days(1);
    rows.truncate(12);
    rows.push(Row::new("shop", START_US + STEP_US, 1.0));
    rows.push(Row::new("bank", START_US + STEP_US, 1.0));
    rows.push(Row::new("no name", START_US + STEP_US, 1.0));
    let mut records = window_records(&rows, 1);
    records.push(records[0].clone());
    records.push(Record::new(Topic::Windows, "nonsense"));
    records.push(Record::new(Topic::Outcomes, "nonsense"));
    let tally = handle(&mut learners, Vec::new(), records, 0).tally;
    for (fate, count) in [
        (Fate::Observed, 12),
        (Fate::Stale, 1),
        (Fate::BeyondLimit, 1),
        (Fate::BadName, 1),
        (Fate::Repeat, 1),
        (Fate::Dead, 2),
    ] {
        assert_eq!(tally.of(fate), count, "{fate:?}");
    }
}

#[test]
fn nothing_is_forecast_before_its_time() {
    let from_us = START_US + 9 * DAY_US;
    let config = ForecasterConfig { forecast_from: Some(EventTime::from_micros(from_us)), ..config() };
    let turn = handle(&mut learners(&config), Vec::new(), window_records(&days(10), 1), 0);
    assert_eq!(turn.forecasts.first().map(|forecast| forecast.origin_us), Some(from_us));
    assert!(turn.forecasts.iter().all(|forecast| !forecast.values.is_empty()), "it has learned from what came before");
}

#[test]
fn what_is_incomplete_is_less_sure_and_with_too_much_of_it_nothing_is_said() {
    let mut rows = days(9);
    let whole = run(&rows, Vec::new());
    let last = rows.len() - 1;
    let width = |forecast: &Forecast| forecast.values[2] / forecast.values[0];
    rows[last].complete = false;
    let one = run(&rows, Vec::new());
    let (whole, one) = (whole.forecasts.last().expect("made"), one.forecasts.last().expect("made"));
    assert!(width(one) > width(whole) && one.values[1].to_bits() == whole.values[1].to_bits(), "{one:?}");
    assert_eq!((whole.verdict(), one.verdict()), (Verdict::Fresh, Verdict::Suspect));
    rows[last - 6..].iter_mut().for_each(|row| row.complete = false);
    let turn = run(&rows, Vec::new());
    let seven = turn.forecasts.last().expect("made");
    assert_eq!((seven.verdict(), seven.values.len()), (Verdict::Abstain, 0));
    assert!(seven.verdict_reason.contains("7 of the last 12 windows are incomplete"), "{}", seven.verdict_reason);
}

#[test]
fn outlooks_come_by_the_hour_and_rest_on_the_forecasts_of_their_origin() {
    let config = ForecasterConfig { outlook: Span::from_hours(72), ..config() };
    let announced_us = START_US + 9 * DAY_US;
    let rows = days(10);
    let told = |signals| handle(&mut learners(&config), signals, window_records(&rows, 1), 0);
    let plain = told(Vec::new());
    // A sale in two days: beyond the forecast's two hours.
    let turn = told(vec![sale(announced_us, announced_us + 2 * DAY_US)]);
    assert!(turn.outlooks.iter().all(|outlook| outlook.origin_us % HOUR_US == 0 && outlook.step_us == HOUR_US));
    assert!(turn.outlooks.first().is_some_and(|first| first.verdict() == Verdict::Abstain && first.values.is_empty()));
    let made: Vec<&Forecast> = turn.outlooks.iter().filter(|outlook| !outlook.values.is_empty()).collect();
    assert!(made.len() > 48, "{}", made.len());
    for outlook in &made {
        assert_eq!((outlook.values.len(), outlook.workload.as_str()), (72 * 3, "shop"));
        assert!(ordered(outlook));
        let forecast =
            turn.forecasts.iter().find(|forecast| forecast.origin_us == outlook.origin_us).expect("beside it");
        for hour in 0..2 {
            let steps = forecast.values.chunks(3).skip(hour * 12).take(12).map(|row| f64::from(row[1]));
            let mean = steps.sum::<f64>() / 12.0;
            assert!((f64::from(outlook.values[hour * 3 + 1]) - mean).abs() <= 1e-6 * mean, "hour {hour}");
        }
    }
    // The signal acts on outlooks from its announcement on, and on none before.
    for (outlook, before) in turn.outlooks.iter().zip(&plain.outlooks) {
        let acts = outlook.signals.iter().any(|signal| signal.signal_id == "sale");
        assert_eq!(acts, outlook.origin_us >= announced_us, "{}", outlook.origin_us);
        assert_eq!(outlook == before, outlook.origin_us < announced_us, "{}", outlook.origin_us);
    }
    let families: Vec<&str> = turn.models.iter().map(|(_, model)| model.family.as_str()).collect();
    assert!(families.contains(&"hourly-ridge-long") && families.contains(&"ridge-long"), "{families:?}");
}

/// Two workloads of different sizes and rhythms; one hour of the second is missing.
fn two(count: i64) -> Vec<Row> {
    let rows = days(count).into_iter().flat_map(|row| {
        let other = row.value.map(|value| 500.0 - 2.0 * value);
        let is_gone = (row.end_us - START_US).div_euclid(HOUR_US) == 9 * 24 + 5;
        let other = Row { workload: "bank".to_owned(), value: other, ..row.clone() };
        [Some(row), Some(other).filter(|_| !is_gone)]
    });
    rows.flatten().collect()
}

#[test]
fn outlooks_of_a_group_add_up() {
    let group = GroupConfig { workloads: vec!["shop".to_owned(), "ba*".to_owned()] };
    let groups = [("cluster".to_owned(), group)].into();
    let config = ForecasterConfig { outlook: Span::from_hours(48), groups, ..config() };
    let turn = handle(&mut learners(&config), Vec::new(), window_records(&two(11), 1), 0);
    let of = |name: &'static str| {
        let made = turn.outlooks.iter().filter(move |outlook| outlook.workload == name && !outlook.values.is_empty());
        made.map(|outlook| (outlook.origin_us, outlook)).collect::<BTreeMap<_, _>>()
    };
    let (cluster, shop, bank) = (of("cluster"), of("shop"), of("bank"));
    assert!(cluster.len() > 60, "{}", cluster.len());
    let mut moved = 0;
    for (origin_us, group) in &cluster {
        let (shop, bank) = (shop[origin_us], bank[origin_us]);
        assert!(ordered(group) && ordered(shop) && ordered(bank));
        for (row, (one, other)) in group.values.chunks(3).zip(shop.values.chunks(3).zip(bank.values.chunks(3))) {
            let sum = f64::from(one[1]) + f64::from(other[1]);
            assert!((f64::from(row[1]) / sum - 1.0).abs() < 1e-6, "{} {sum}", row[1]);
        }
        assert!(shop.basis.contains("reconciled with cluster") && group.basis.contains("the sum of 2 workloads"));
        let forecast = turn.forecasts.iter().find(|made| made.origin_us == *origin_us && made.workload == "shop");
        let steps = forecast.expect("beside it").values.chunks(3).take(12).map(|row| f64::from(row[1]));
        moved += i32::from((f64::from(shop.values[1]) / (steps.sum::<f64>() / 12.0) - 1.0).abs() > 1e-4);
    }
    assert!(moved > 0, "the group's forecast was never heard");
    // Each outlook is published once, also those that waited in vain for the hour that is missing.
    let mut seen = BTreeSet::new();
    assert!(turn.outlooks.iter().all(|outlook| seen.insert((&outlook.workload, outlook.origin_us))));
    let gone_us = START_US + (9 * 24 + 6) * HOUR_US;
    assert!(shop[&gone_us].basis.contains("not reconciled"), "{}", shop[&gone_us].basis);
    assert!(turn.models.iter().any(|(_, model)| model.workload == "cluster" && model.family == "hourly-ensemble"));
}

#[test]
fn a_group_goes_on_the_same_from_its_state() {
    let group = GroupConfig { workloads: vec!["*".to_owned()] };
    let groups = [("cluster".to_owned(), group)].into();
    let config = ForecasterConfig { outlook: Span::from_hours(48), groups, ..config() };
    let mut windows = window_records(&two(9), 1);
    let later = windows.split_off(windows.len() * 9 / 10);
    let at = i64::try_from(windows.len()).expect("few");
    let mut running = learners(&config);
    handle(&mut running, Vec::new(), windows, 0);
    let bytes = postcard::to_stdvec(running.state()).expect("serialises");
    let mut restored = crate::testing::with_state(&config, postcard::from_bytes(&bytes).expect("comes back"));
    let expected = handle(&mut running, Vec::new(), later.clone(), at).outlooks;
    assert!(expected.iter().any(|outlook| outlook.workload == "cluster" && !outlook.values.is_empty()));
    assert_eq!(encoded(&handle(&mut restored, Vec::new(), later, at).outlooks), encoded(&expected));
}
