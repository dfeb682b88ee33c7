//! Frames worked out by hand, and the future that must not show.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use headroom_models::{EngineConfig, ForecastSet};
use headroom_proto::schema;
use headroom_proto::v1::{SignalKind, SignalStatus};
use polars::prelude::{IntoLazy, col, lit};

use super::*;
use crate::backtest;
use crate::testing::{DAY_US, HOUR_US, START_US};

/// Hour of the window's start, revision, load, is it complete?
type Window = (i64, i32, f64, bool);

fn at(hour: i64) -> i64 {
    START_US + hour * HOUR_US
}

/// Rows of the table, those of a query without the load among them.
fn table(windows: &[Window]) -> RecordBatch {
    let mut fields = schema::window_envelope();
    fields.push(Field::new("load", DataType::Float64, true));
    let rows: Vec<(&str, Window)> = windows.iter().flat_map(|row| [("load", *row), ("other", *row)]).collect();
    let times = |add: i64| -> ArrayRef {
        let times = rows.iter().map(|(_, row)| at(row.0 + add));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(query, _)| query))),
        Arc::new(Int32Array::from_value(3_600, rows.len())),
        times(0),
        times(1),
        Arc::new(StringArray::new_repeated("shop", rows.len())),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|(_, row)| row.1))),
        Arc::new(rows.iter().map(|(_, row)| Some(row.3)).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|(query, row)| (*query == "load").then_some(row.2)).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("the columns fit")
}

fn loads(windows: &[Window]) -> Loads {
    // The order of rows in a table means nothing.
    let reversed: Vec<Window> = windows.iter().rev().copied().collect();
    Loads::try_new(&[table(&reversed)], "load", Span::from_hours(1)).expect("reads")
}

fn shape(horizon_h: i64, every_h: i64) -> FrameShape {
    FrameShape { horizon: Span::from_hours(horizon_h), origins_every: Span::from_hours(every_h) }
}

/// A signal of these hours: announced, from, to.
fn signal(id: &str, revision: u64, kind: SignalKind, (announced, from, to): (i64, i64, i64), weight: f64) -> Signal {
    let mut signal = Signal {
        signal_id: id.to_owned(),
        revision,
        announced_at_us: at(announced),
        starts_at_us: at(from),
        ends_at_us: at(to),
        weight,
        ..Signal::default()
    };
    signal.set_kind(kind);
    signal.set_status(SignalStatus::Announced);
    signal
}

fn cancelled(mut signal: Signal) -> Signal {
    signal.set_status(SignalStatus::Cancelled);
    signal
}

fn floats(frame: &DataFrame, name: &str) -> Vec<Option<f64>> {
    frame.column(name).expect("a column").f64().expect("numbers").iter().collect()
}

fn hours(frame: &DataFrame, name: &str) -> Vec<i64> {
    let times = frame.column(name).expect("a column").datetime().expect("times");
    times.phys.iter().map(|time| (time.expect("always") - START_US) / HOUR_US).collect()
}

fn texts(frame: &DataFrame, name: &str) -> Vec<Option<String>> {
    let texts = frame.column(name).expect("a column").str().expect("texts");
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn rows_are_as_worked_out_by_hand() {
    // Hour 1 is corrected later, 3 is missing, 4 is incomplete, 6 was told late and never at first.
    let windows = [
        (0, 0, 10.0, true),
        (1, 0, 11.0, true),
        (1, 1, 99.0, true),
        (2, 0, 12.0, true),
        (4, 0, 14.0, false),
        (5, 0, 15.0, true),
        (6, 1, 16.0, true),
    ];
    let signals = [
        // Told while it is almost there, moved by a second revision, and called off when it is over.
        Signal {
            audience_size: Some(100),
            channel: "mail".to_owned(),
            ..signal("late", 1, SignalKind::Sale, (3, 5, 6), 1.0)
        },
        signal("moved", 2, SignalKind::Campaign, (3, 7, 8), 3.0),
        signal("moved", 1, SignalKind::Campaign, (-1, 4, 5), 2.0),
        signal("off", 1, SignalKind::Match, (0, 3, 4), 0.5),
        cancelled(signal("off", 2, SignalKind::Match, (5, 3, 4), 0.5)),
        // An older revision that arrives behind a newer one, and one of another workload's.
        signal("moved", 1, SignalKind::Campaign, (4, 4, 9), 9.0),
        Signal { workloads: vec!["bank".to_owned()], ..signal("bank", 1, SignalKind::Sale, (0, 0, 9), 9.0) },
    ];
    let frame = Frame::try_new(&loads(&windows), &signals, shape(3, 2)).expect("fits");
    let rows = frame.rows();
    assert_eq!(hours(rows, "origin"), [2, 2, 2, 4, 4, 4, 6, 6, 6]);
    assert_eq!(hours(rows, "at"), [2, 3, 4, 4, 5, 6, 6, 7, 8]);
    let some = |values: &[f64]| values.iter().map(|value| Some(*value)).collect::<Vec<_>>();
    let (x, hour) = (None, Some(3_600.0));
    let target = [Some(12.0), x, Some(14.0), Some(14.0), Some(15.0), Some(16.0), Some(16.0), x, x];
    assert_eq!(floats(rows, "target"), target, "the newest revision, none where none has come");
    let complete: Vec<Option<bool>> =
        rows.column("target_complete").expect("there").bool().expect("so").iter().collect();
    assert_eq!(complete[..4], [Some(true), None, Some(false), Some(false)]);
    assert_eq!(floats(rows, "load_last"), some(&[11.0, 11.0, 11.0, 12.0, 12.0, 12.0, 15.0, 15.0, 15.0]));
    let age = floats(rows, "load_last_age_s");
    assert_eq!([age[0], age[3], age[6]], [Some(0.0), hour, Some(0.0)], "hour 3 is missing");
    let mean = floats(rows, "load_mean_1h");
    assert_eq!([mean[0], mean[3], mean[6]], [Some(11.0), None, Some(15.0)]);
    let mean = floats(rows, "load_mean_1d");
    assert_eq!([mean[0], mean[3], mean[6]], some(&[10.5, 11.0, 12.4])[..], "10, 11 as first told, 12, then 14, 15");
    assert_eq!(floats(rows, "load_day_before"), [x; 9]);
    assert_eq!(floats(rows, "hour_of_day"), some(&[2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 6.0, 7.0, 8.0]));
    let days: Vec<Option<i32>> = rows.column("day_of_week").expect("there").i32().expect("so").iter().collect();
    assert_eq!(days, [Some(1); 9], "a Monday");
    let active: Vec<Option<i32>> = rows.column("signals_active").expect("there").i32().expect("so").iter().collect();
    assert_eq!(active, [0, 1, 1, 0, 1, 0, 0, 1, 0].map(Some));
    assert_eq!(floats(rows, "signals_weight"), some(&[0.0, 0.5, 2.0, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0]));
    assert_eq!(floats(rows, "signals_audience"), some(&[0.0, 0.0, 0.0, 0.0, 100.0, 0.0, 0.0, 0.0, 0.0]));
    let kinds = [None, Some("match"), Some("campaign"), None, Some("sale"), None, None, Some("campaign"), None];
    assert_eq!(texts(rows, "signals_kind"), kinds.map(|kind| kind.map(str::to_owned)));
    let channels = [None, Some(""), Some(""), None, Some("mail"), None, None, Some(""), None];
    assert_eq!(texts(rows, "signals_channel"), channels.map(|channel| channel.map(str::to_owned)));
    let (now, next) = (Some(0.0), floats(rows, "signals_next_start_s"));
    assert_eq!(next, [now, now, x, now, hour, now, now, x, x], "from the end of the step");
    assert_eq!(floats(rows, "signals_since_end_s"), [x, x, now, now, hour, now, now, hour, now]);
}

#[test]
fn the_day_and_the_week_before_are_the_newest_that_had_ended() {
    let windows: Vec<Window> =
        (0..200).map(|hour| (hour, 0, f64::from(i32::try_from(hour).expect("small")), true)).collect();
    let frame = Frame::try_new(&loads(&windows), &[], shape(48, 24)).expect("fits");
    let of_day_8 =
        frame.rows().clone().lazy().filter(col("origin").cast(polars::prelude::DataType::Int64).eq(lit(at(192))));
    let rows = of_day_8.collect().expect("filters");
    let (day, week) = (floats(&rows, "load_day_before"), floats(&rows, "load_week_before"));
    let ago = |days: f64| days * 24.0;
    assert_eq!([day[0], day[23], day[24], day[47]], [168.0, 191.0, 168.0, 191.0].map(Some));
    assert_eq!([week[0], week[47]], [192.0 - ago(7.0), 239.0 - ago(7.0)].map(Some));
}

#[test]
fn shapes_and_columns_that_do_not_fit_are_refused_with_a_way_out() {
    let told = loads(&[(0, 0, 1.0, true)]);
    let refused = |shape: FrameShape| Frame::try_new(&told, &[], shape).expect_err("refused").to_string();
    assert!(
        refused(shape(0, 1)).contains("horizon 0ms: write a length of at least a step, 1h"),
        "{}",
        refused(shape(0, 1))
    );
    let odd = FrameShape { origins_every: Span::from_mins(90), ..shape(1, 1) };
    assert!(refused(odd).contains("origins-every 90m: write a multiple of the step, 1h"), "{}", refused(odd));
    let years: Vec<Window> = (0..3_000).map(|hour| (hour, 0, 1.0, true)).collect();
    let many = Frame::try_new(&loads(&years), &[], shape(10_000, 1)).expect_err("too many").to_string();
    assert!(many.contains("30000000 rows") && many.contains("rarer origins"), "{many}");
    let missing = Loads::try_new(&[table(&[(0, 0, 1.0, true)])], "rps", Span::from_hours(1)).expect_err("no column");
    assert!(missing.to_string().contains("`rps`"), "{missing}");
    assert!(Loads::try_new(&[], "rps", Span::from_hours(1)).expect("nothing").is_empty());
}

/// The day whose start is the origin behind which everything changes.
const NOW: i64 = 10 * 24;

/// Two weeks of a daily wave that a sale every other day lifts; told at first, and corrected an hour later.
fn world() -> (Vec<Window>, Vec<Signal>) {
    let sale = |day: i64| (24 * day + 15, 24 * day + 18);
    let days: Vec<i64> = (0..14).step_by(2).collect();
    let value = |hour: i64| {
        let turn = std::f64::consts::TAU * f64::from(i32::try_from(hour % 24).expect("small")) / 24.0;
        let lift = days.iter().any(|day| (sale(*day).0..sale(*day).1).contains(&hour));
        (100.0 + 40.0 * turn.sin()) * if lift { 2.0 } else { 1.0 }
    };
    let windows = (0..14 * 24).filter(|hour| *hour != 77).map(|hour| (hour, 0, value(hour), true)).collect();
    let announced = |day: &i64| {
        let (from, to) = sale(*day);
        signal(&format!("sale-{day}"), 1, SignalKind::Sale, (from - 80, from, to), 1.0)
    };
    (windows, days.iter().map(announced).collect())
}

/// The same until [`NOW`], and then another: other loads, corrections of all that was, sales that are called off, moved and
/// made heavier, those that were over as well, and new ones, some of which begin at once.
fn another_future() -> (Vec<Window>, Vec<Signal>) {
    let (windows, signals) = world();
    let later =
        windows.iter().filter(|row| row.0 >= NOW && row.0 % 5 != 0).map(|row| (row.0, 0, 7.0 + row.2 / 3.0, false));
    let before = windows.iter().filter(|row| row.0 < NOW);
    let windows: Vec<Window> =
        before.clone().copied().chain(before.map(|row| (row.0, 1, 3.0 * row.2, true))).chain(later).collect();
    let mut changed = signals.clone();
    for (place, of) in signals.iter().enumerate() {
        let mut next = Signal { revision: 2, announced_at_us: at(NOW) + 1, weight: 5.0, ..of.clone() };
        match place % 3 {
            0 => next = cancelled(next),
            1 => next.starts_at_us -= 2 * HOUR_US,
            _ => next.ends_at_us += DAY_US,
        }
        changed.push(next);
    }
    for new in 0..5 {
        changed.push(signal(&format!("a-{new}"), 1, SignalKind::Launch, (NOW + 1 + new, NOW + new, NOW + 9), 4.0));
    }
    (windows, changed)
}

/// What may be known at an origin, of rows with origins up to [`NOW`].
fn features((windows, signals): &(Vec<Window>, Vec<Signal>)) -> DataFrame {
    let frame = Frame::try_new(&loads(windows), signals, shape(48, 6)).expect("fits");
    let kept =
        frame.rows().clone().lazy().filter(col("origin").cast(polars::prelude::DataType::Int64).lt_eq(lit(at(NOW))));
    let mut rows = kept.collect().expect("filters");
    assert_eq!(i64::try_from(rows.height()), Ok(NOW / 6 * 48));
    for what_came in ["target", "target_complete"] {
        rows.drop_in_place(what_came).expect("there");
    }
    rows
}

/// What the engine forecasts up to [`NOW`] from loads as they were first told.
fn forecasts((windows, signals): &(Vec<Window>, Vec<Signal>)) -> Vec<(i64, ForecastSet)> {
    let told = loads(windows);
    let mut values = vec![f64::NAN; 14 * 24];
    for (_, start_us, value) in told.samples(Told::First).expect("there") {
        values[usize::try_from((start_us - START_US) / HOUR_US).expect("positive")] = value;
    }
    let shop = WorkloadId::try_new("shop").expect("legal");
    let config = EngineConfig { horizon_steps: 24, ..EngineConfig::default() };
    let (series, events) = (backtest::Series::uncorrected(START_US, HOUR_US, &values), events_for(signals, &shop));
    let mut made = Vec::new();
    let observer = |origin_us: i64, set: Result<&ForecastSet, &headroom_models::Abstention>| {
        made.extend(set.ok().filter(|_| origin_us <= at(NOW)).map(|set| (origin_us, set.clone())));
    };
    backtest::rolling(series, &events, &config, 0, None, observer).expect("runs");
    made
}

#[test]
fn a_changed_future_moves_no_feature_and_no_forecast_before_it() {
    let (before, after) = (world(), another_future());
    assert!(features(&before).equals_missing(&features(&after)), "a feature moved with the future");
    let first = forecasts(&before);
    assert!(first.len() > 48, "{} forecasts", first.len());
    assert!(first == forecasts(&after), "a forecast moved with the future");

    // So that the above would show a leak: told a step earlier, each of the changes is seen.
    let told_by_now = |mut signal: Signal| {
        signal.announced_at_us = signal.announced_at_us.min(at(NOW));
        signal
    };
    let signals = (before.0.clone(), after.1.iter().cloned().map(told_by_now).collect());
    assert!(!features(&before).equals_missing(&features(&signals)), "signals that were told by then are seen");
    assert!(first != forecasts(&signals));
    let at_first = |row: &Window| (row.0, 0, if row.1 == 1 { row.2 } else { row.2 + 1.0 }, row.3);
    let corrections = (after.0.iter().map(at_first).collect(), before.1.clone());
    assert!(!features(&before).equals_missing(&features(&corrections)), "loads that were told at first are seen");
}

#[test]
fn a_file_names_its_sources() {
    let (windows, signals) = world();
    let told = loads(&windows);
    let mut frame = Frame::try_new(&told, &signals, shape(24, 24)).expect("fits");
    let versions = BTreeMap::from([("windows".to_owned(), 3_u64), ("signals".to_owned(), 2)]);
    let sources = Sources::of(&told, "load", versions);
    let mut file = Vec::new();
    frame.write_parquet(&sources, &mut file).expect("writes");
    let end = &file[file.len().saturating_sub(20_000)..];
    let holds = |text: &str| end.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(
        holds(SOURCES_KEY)
            && holds(r#""table_versions":{"signals":2,"windows":3}"#)
            && holds(r#""workloads":["shop"]"#)
    );
    assert!(holds(SHAPE_KEY) && holds(r#""origins_every":"1d""#));
    let read: Sources = serde_json::from_str(&serde_json::to_string(&sources).expect("writes")).expect("reads");
    assert_eq!(read, sources);
}
