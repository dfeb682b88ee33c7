//! The columns of a frame, for one workload.

use headroom_models::KnownEvent;
use headroom_proto::Span;
use polars::prelude::{
    AsofStrategy, DataFrame, DataType, Expr, IntoLazy, IntoSeries, JoinArgs, JoinType, LazyFrame, MaintainOrderJoin,
    PolarsResult, SortMultipleOptions, TimeUnit, TimeZone, col, df, len, lit,
};

use super::{FrameError, FrameShape, known};

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;
const WEEK_US: i64 = 7 * DAY_US;
/// The mean year of the Gregorian calendar.
const YEAR_US: i64 = 31_556_952 * SECOND_US;

/// The columns, in order.
const COLUMNS: [&str; 22] = [
    "workload",
    "origin",
    "step",
    "at",
    "target",
    "target_complete",
    "load_last",
    "load_last_age_s",
    "load_mean_1h",
    "load_mean_1d",
    "load_day_before",
    "load_week_before",
    "hour_of_day",
    "day_of_week",
    "year_fraction",
    "signals_active",
    "signals_weight",
    "signals_audience",
    "signals_kind",
    "signals_channel",
    "signals_next_start_s",
    "signals_since_end_s",
];

/// Where the rows are, in microseconds and steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    step_us: i64,
    steps: i32,
    every_us: i64,
}

impl Grid {
    pub(super) fn try_new(step: Span, shape: FrameShape) -> Result<Self, FrameError> {
        let refused = |setting, value, problem| Err(FrameError::Setting { setting, value, problem });
        let (step_us, every) = (step.micros(), shape.origins_every);
        if step_us <= 0 {
            return refused("step", step, "write a positive length, such as 5m".to_owned());
        }
        let steps = shape.horizon.micros() / step_us;
        let Some(steps) = i32::try_from(steps).ok().filter(|steps| *steps > 0) else {
            return refused("horizon", shape.horizon, format!("write a length of at least a step, {step}"));
        };
        if every.micros() <= 0 || every.micros() % step_us != 0 {
            return refused("origins-every", every, format!("write a multiple of the step, {step}"));
        }
        Ok(Self { step_us, steps, every_us: every.micros() })
    }

    /// From the end of the first window to that of the last.
    fn origins(&self, loads: &DataFrame) -> PolarsResult<Vec<i64>> {
        let starts = loads.column("start")?.i64()?;
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return Ok(Vec::new()) };
        let from = (first + self.step_us + self.every_us - 1).div_euclid(self.every_us);
        let to = (last + self.step_us).div_euclid(self.every_us);
        Ok((from..=to).map(|number| number * self.every_us).collect())
    }

    /// How many rows are held for a workload: those of the frame, or those of all signals at all origins if they are more.
    pub(super) fn rows(&self, loads: &DataFrame, signals: usize) -> PolarsResult<usize> {
        let steps = usize::try_from(self.steps).unwrap_or(usize::MAX);
        Ok(self.origins(loads)?.len().saturating_mul(steps.max(signals)))
    }

    /// `origin`, `step` (0 is the one that starts at the origin, as in the table `forecasts`) and `at`, its start.
    fn places(&self, origins: &[i64]) -> PolarsResult<DataFrame> {
        let steps = || 0..self.steps;
        df!(
            "origin" => origins.iter().flat_map(|origin| steps().map(move |_| *origin)).collect::<Vec<i64>>(),
            "step" => origins.iter().flat_map(|_| steps()).collect::<Vec<i32>>(),
            "at" => origins
                .iter()
                .flat_map(|origin| steps().map(move |step| origin + i64::from(step) * self.step_us))
                .collect::<Vec<i64>>(),
        )
    }
}

/// The rows of one workload; `loads` are its windows by start.
pub(super) fn of_workload(
    workload: &str,
    loads: &DataFrame,
    events: &[KnownEvent],
    grid: &Grid,
) -> PolarsResult<DataFrame> {
    let origins = grid.origins(loads)?;
    let places = grid.places(&origins)?;
    let known = known::at_origins(events, &origins)?;
    let windows = loads.clone().lazy();
    let rows = with_levels(places.lazy(), loads, &origins, grid)?;
    let rows = with_load(rows, &windows, before(DAY_US, grid), "first", "load_day_before");
    let rows = with_load(rows, &windows, before(WEEK_US, grid), "first", "load_week_before");
    let rows = with_load(rows, &windows, col("at"), "newest", "target");
    let rows = with_load(rows, &windows, col("at"), "complete", "target_complete");
    let rows = with_signals(rows, known.lazy(), grid);
    let mut rows = with_calendar(rows)
        .with_column(lit(workload.to_owned()).alias("workload"))
        .sort(["origin", "step"], SortMultipleOptions::default())
        .select(COLUMNS.map(col))
        .collect()?;
    for name in ["origin", "at"] {
        let times = rows.column(name)?.i64()?.clone();
        rows.with_column(times.into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)).into_series().into())?;
    }
    Ok(rows)
}

/// The start of the newest window, `period` or several of it before the step, that had ended at the origin.
fn before(period_us: i64, grid: &Grid) -> Expr {
    let reach = col("at") - col("origin") + lit(grid.step_us + period_us - 1);
    col("at") - (reach.clone() - reach % lit(period_us))
}

/// With a column of the windows that start at `start`.
fn with_load(rows: LazyFrame, windows: &LazyFrame, start: Expr, column: &str, name: &str) -> LazyFrame {
    let of_windows = windows.clone().select([col("start"), col(column).alias(name)]);
    rows.with_column(start.alias("start")).join(
        of_windows,
        [col("start")],
        [col("start")],
        JoinArgs::new(JoinType::Left),
    )
}

/// The level at the origin: the newest load and how old it is, the means of the last hour and day.
fn with_levels(rows: LazyFrame, loads: &DataFrame, origins: &[i64], grid: &Grid) -> PolarsResult<LazyFrame> {
    let mut ended = Ended::default();
    for (start, value) in loads.column("start")?.i64()?.iter().zip(loads.column("first")?.f64()?.iter()) {
        ended.add(start.map(|start| start + grid.step_us), value);
    }
    let means = |span_us: i64| origins.iter().map(|at| ended.mean(*at - span_us, *at)).collect::<Vec<Option<f64>>>();
    let at_origins = df!("origin" => origins, "load_mean_1h" => means(HOUR_US), "load_mean_1d" => means(DAY_US))?;
    let newest = df!("ended" => ended.ends.as_slice(), "load_last" => ended.values.as_slice())?;
    let levels = known::asof(at_origins.lazy(), newest.lazy(), ["origin", "ended"], AsofStrategy::Backward, None)
        .with_column(seconds(col("origin") - col("ended")).alias("load_last_age_s"))
        .select(["origin", "load_last", "load_last_age_s", "load_mean_1h", "load_mean_1d"].map(col));
    Ok(rows.join(levels, [col("origin")], [col("origin")], JoinArgs::new(JoinType::Left)))
}

/// Windows with a load as it was first told, by their ends.
#[derive(Debug, Default)]
struct Ended {
    ends: Vec<i64>,
    values: Vec<f64>,
}

impl Ended {
    fn add(&mut self, end_us: Option<i64>, value: Option<f64>) {
        if let (Some(end_us), Some(value)) = (end_us, value) {
            self.ends.push(end_us);
            self.values.push(value);
        }
    }

    /// The mean over windows that ended after `from_us`, up to `to_us`.
    fn mean(&self, from_us: i64, to_us: i64) -> Option<f64> {
        let until = |time_us: i64| self.ends.partition_point(|end_us| *end_us <= time_us);
        let values = self.values.get(until(from_us)..until(to_us)).filter(|values| !values.is_empty())?;
        #[expect(clippy::cast_precision_loss, reason = "a count of windows")]
        let count = values.len() as f64;
        Some(values.iter().sum::<f64>() / count)
    }
}

/// UTC: the hour of the day (0 to 24) and the day of the week (1 is Monday) of the step's start, and how much of a mean
/// year has passed since one began with the Unix epoch (0 to 1).
fn with_calendar(rows: LazyFrame) -> LazyFrame {
    let share = |time: Expr, of_us: i64| time.cast(DataType::Float64) / lit(of_us).cast(DataType::Float64);
    // The Unix epoch was a Thursday.
    let since_monday = || col("at") + lit(3 * DAY_US);
    let day = since_monday() % lit(WEEK_US) - since_monday() % lit(DAY_US);
    rows.with_columns([
        share(col("at") % lit(DAY_US), HOUR_US).alias("hour_of_day"),
        (share(day, DAY_US).cast(DataType::Int32) + lit(1)).alias("day_of_week"),
        share(col("at") % lit(YEAR_US), YEAR_US).alias("year_fraction"),
    ])
}

fn seconds(micros: Expr) -> Expr {
    micros.cast(DataType::Float64) / lit(1e6)
}

/// Of the signals known at the origin: those under way in the step, and how far the next and the last one are.
fn with_signals(rows: LazyFrame, known: LazyFrame, grid: &Grid) -> LazyFrame {
    let in_order = || SortMultipleOptions::default().with_maintain_order(true);
    let end = || col("at") + lit(grid.step_us);
    let reach = col("origin") + lit(i64::from(grid.steps) * grid.step_us);
    let within = known.clone().filter(col("starts").lt(reach).and(col("ends").gt(col("origin"))));
    let kept = JoinArgs { maintain_order: MaintainOrderJoin::LeftRight, ..JoinArgs::new(JoinType::Inner) };
    let of_heaviest = |column: &str| {
        let heaviest = SortMultipleOptions::default().with_order_descending_multi([true, false]);
        col(column).sort_by([col("weight"), col("signal")], heaviest).first()
    };
    let places = rows.clone().select(["origin", "step", "at"].map(col)).sort(["origin", "step"], in_order());
    let active = places
        .clone()
        .join(within, [col("origin")], [col("origin")], kept)
        .filter(col("starts").lt(end()).and(col("ends").gt(col("at"))))
        .group_by_stable([col("origin"), col("step")])
        .agg([
            len().cast(DataType::Int32).alias("signals_active"),
            col("weight").sum().alias("signals_weight"),
            col("audience").sum().alias("signals_audience"),
            of_heaviest("kind").alias("signals_kind"),
            of_heaviest("channel").alias("signals_channel"),
        ]);
    let next = known::asof(
        places.clone().with_column(end().alias("end")),
        known.clone().select(["origin", "starts"].map(col)).sort(["starts"], in_order()),
        ["end", "starts"],
        AsofStrategy::Forward,
        Some("origin"),
    )
    .select([col("origin"), col("step"), seconds(col("starts") - col("end")).alias("signals_next_start_s")]);
    let last = known::asof(
        places,
        known.select(["origin", "ends"].map(col)).sort(["ends"], in_order()),
        ["at", "ends"],
        AsofStrategy::Backward,
        Some("origin"),
    )
    .select([col("origin"), col("step"), seconds(col("at") - col("ends")).alias("signals_since_end_s")]);
    let place = || [col("origin"), col("step")];
    [active, next, last]
        .into_iter()
        .fold(rows, |rows, told| rows.join(told, place(), place(), JoinArgs::new(JoinType::Left)))
        .with_columns([
            col("signals_active").fill_null(lit(0)),
            col("signals_weight").fill_null(lit(0.0)),
            col("signals_audience").fill_null(lit(0.0)),
        ])
}
