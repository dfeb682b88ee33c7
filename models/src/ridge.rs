//! Multiplicative ridge: log load = random-walk level + season + event response.
//!
//! A linear model on the log scale, fitted by penalised least squares: a level that is linear between days and whose
//! daily differences are penalised, harmonics of the day and the week, and a response kernel for each kind of event,
//! shrunk towards a prior. Huber weights keep outliers from bending the quiet part, rows within events keep their full
//! weight, and older rows count less (half after ten days). Steps within half an hour share a row. A forecast is the seasonal and event part, plus the level
//! of the last day, to which the deviation of the last minutes returns.

use nalgebra::{Cholesky, DMatrix, DVector};
use serde::{Deserialize, Serialize};

use crate::event::{Acting, EventColumns, KnownEvent, Responses};
use crate::family::Model;
use crate::scales::{log, median};
use crate::season::Season;
use crate::{History, ModelError};

const DAY_US: i64 = 86_400_000_000;
/// The level may turn daily as far back as this, weekly before.
const DAILY_LEVEL_DAYS: i64 = 35;
/// Penalty on the squared difference of the level between days, for each row of a day.
const LEVEL_PENALTY: f64 = 0.5;
const SEASON_PENALTY: f64 = 0.3;
/// Penalty on the first harmonic of the year when two years were seen, for each row of a day.
const YEAR_PENALTY: f64 = 1.0;
const TWO_YEARS_DAYS: f64 = 730.5;
/// Penalty on the squared distance of a response from its prior, for each row of an hour.
const EVENT_PENALTY: f64 = 0.3;
/// Residuals beyond this many robust deviations count less (Huber).
const HUBER_DEVIATIONS: f64 = 2.5;
const PASSES: usize = 3;
/// What is left of a deviation from the level after an hour.
const DEVIATION_LEFT_PER_HOUR: f64 = 0.834;
/// The level is the median of a day, and of as many steps at the least.
const LEVEL_STEPS: usize = 7;

/// Steps within so much share a row of a fit.
const ROW_US: i64 = 30 * 60_000_000;

/// How long a ridge remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Memory {
    /// Rows of ten days ago count half: what is true now.
    Short,
    /// Rows of half a year ago count half: the year, and events that return with it.
    Long,
}

impl Memory {
    /// After how many days a row counts half: outside and within events, which are rare and change less.
    fn half_lives_days(self, history_days: f64) -> (f64, f64) {
        match self {
            Self::Short => (10.0, 10.0),
            Self::Long => {
                let half_life = (history_days / 6.0).max(180.0);
                (half_life, 2.0 * half_life)
            }
        }
    }

    /// How far back rows are looked at.
    const fn reach_us(self) -> i64 {
        match self {
            Self::Short => 70 * DAY_US,
            Self::Long => i64::MAX,
        }
    }

    const fn family(self) -> &'static str {
        match self {
            Self::Short => "ridge-events",
            Self::Long => "ridge-long",
        }
    }
}

/// A fitted ridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ridge {
    memory: Memory,
    seasonal: Season,
    season: Vec<f32>,
    columns: EventColumns,
    response: Vec<f32>,
}

/// The rows of a fit. The level's two cells are kept as a position; the rest of a row is dense.
struct Rows {
    seasonal: Season,
    width: usize,
    /// Where the level may turn, in days since the first row, ascending.
    knots: Vec<f64>,
    level: Vec<(usize, f64)>,
    dense: Vec<f64>,
    targets: Vec<f64>,
    weights: Vec<f64>,
    in_event: Vec<bool>,
}

/// The lower triangle, row by row, and the right-hand side.
#[derive(Clone)]
struct NormalEquations {
    normal: Vec<f64>,
    right: Vec<f64>,
}

impl Ridge {
    /// Fits to a history with these events, of which `elsewhere` tells what they do at other workloads.
    pub(crate) fn fit(
        history: &History,
        events: &[&KnownEvent],
        memory: Memory,
        elsewhere: &Responses,
    ) -> Result<Self, ModelError> {
        let from_us = history.start_us().max(history.end_us().saturating_sub(memory.reach_us()));
        let seasonal = Season::of(history.end_us() - from_us, history.step_us());
        let events: Vec<_> = events.iter().copied().filter(|event| event.acts(from_us, i64::MAX)).collect();
        let columns = EventColumns::of(&events, history.end_us(), elsewhere);
        let rows = Rows::of(history, from_us, &events, &columns, seasonal, memory);
        if rows.targets.len() < 2 * seasonal.width() {
            let problem = format!("{} steps with values are too few", rows.targets.len());
            return Err(ModelError::Fit { family: memory.family(), problem });
        }
        let coefficients = rows.solve(history, &columns.prior(elsewhere), seasonal.width(), memory)?;
        let knots = rows.knots.len();
        let season_end = knots + seasonal.width();
        Ok(Self {
            memory,
            seasonal,
            season: single(coefficients.get(knots..season_end).unwrap_or_default()),
            response: single(coefficients.get(season_end..).unwrap_or_default()),
            columns,
        })
    }

    /// Season and event response of one step, on the log scale.
    fn structure(&self, events: &[Acting], start_us: i64, step_us: i64, row: &mut Vec<f64>) -> (f64, f64) {
        row.clear();
        self.seasonal.push_row(start_us, row);
        let seasonal = dot_single(row, &self.season);
        row.clear();
        row.resize(self.columns.len(), 0.0);
        EventColumns::row(events, start_us, step_us, row);
        (seasonal, dot_single(row, &self.response))
    }

    /// What these events do to a step, on the log scale.
    fn response_at(&self, events: &[Acting], start_us: i64, step_us: i64) -> f64 {
        let mut row = vec![0.0; self.columns.len()];
        EventColumns::row(events, start_us, step_us, &mut row);
        dot_single(&row, &self.response)
    }

    /// What the events do that it has seen.
    pub(crate) fn responses(&self, events: &[&KnownEvent], span_us: (i64, i64)) -> Responses {
        Responses::of(&self.columns, &self.response, events, span_us)
    }

    /// Was there enough history for a season of the year?
    pub(crate) fn knows_years(&self) -> bool {
        self.seasonal.is_yearly()
    }

    /// Where a forecast behind the end of a history starts from.
    pub(crate) fn standing(&self, history: &History, events: &[&KnownEvent]) -> Standing<'_> {
        let step_us = history.step_us();
        let events = self.columns.acting(events);
        let mut row = Vec::new();
        let mut rest_of = |log: f64, start_us: i64, length_us: i64| {
            let (seasonal, response) = self.structure(&events, start_us, length_us, &mut row);
            log - seasonal - response
        };
        let day = usize::try_from(DAY_US / step_us).unwrap_or(1).max(LEVEL_STEPS);
        let coarse = coarse_rows(history.last(day), step_us);
        let level =
            median(coarse.iter().map(|row| rest_of(row.sum / row.count, row.middle_us(step_us), step_us)).collect());
        let known = history.last(day).rev().filter_map(|(at_us, value)| Some((at_us, log(value?))));
        let recent: Vec<f64> = known.take(3).map(|(at_us, log)| rest_of(log, at_us, step_us)).collect();
        #[expect(clippy::cast_precision_loss, reason = "three values")]
        let now = if recent.is_empty() { level } else { recent.iter().sum::<f64>() / recent.len() as f64 };
        #[expect(clippy::cast_precision_loss, reason = "hours of a step")]
        let left = DEVIATION_LEFT_PER_HOUR.powf(step_us as f64 / 3.6e9);
        Standing { ridge: self, events, end_us: history.end_us(), step_us, level, deviation: now - level, left }
    }
}

/// A ridge at the end of a history.
#[derive(Clone, Debug)]
pub(crate) struct Standing<'a> {
    ridge: &'a Ridge,
    events: Vec<Acting>,
    end_us: i64,
    step_us: i64,
    level: f64,
    deviation: f64,
    /// What is left of the deviation after a step.
    left: f64,
}

impl Standing<'_> {
    /// A step on the log scale: what it is without events, and what they do.
    pub(crate) fn at(&self, step: usize, row: &mut Vec<f64>) -> (f64, f64) {
        let steps = i32::try_from(step).unwrap_or(i32::MAX);
        let at_us = self.end_us + self.step_us * i64::from(steps);
        let (seasonal, response) = self.ridge.structure(&self.events, at_us, self.step_us, row);
        (self.level + self.deviation * self.left.powi(steps.saturating_add(1)) + seasonal, response)
    }

    /// What events do to a step that starts at this time, on the log scale.
    pub(crate) fn response_at(&self, start_us: i64) -> f64 {
        self.ridge.response_at(&self.events, start_us, self.step_us)
    }
}

impl Model for Ridge {
    fn name(&self) -> &'static str {
        self.memory.family()
    }

    fn predict(&self, history: &History, events: &[&KnownEvent], steps: usize) -> Vec<f64> {
        let (standing, mut row) = (self.standing(history, events), Vec::new());
        (0..steps).map(|step| standing.at(step, &mut row)).map(|(without, response)| without + response).collect()
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::json!({
            "memory": self.memory, "season": self.seasonal,
            "events": self.columns, "response": self.response,
        })
    }
}

impl Rows {
    #[expect(clippy::cast_precision_loss, reason = "days of history")]
    fn of(
        history: &History,
        from_us: i64,
        events: &[&KnownEvent],
        columns: &EventColumns,
        seasonal: Season,
        memory: Memory,
    ) -> Self {
        let step_us = history.step_us();
        let steps = usize::try_from((history.end_us() - from_us).div_euclid(step_us)).unwrap_or(0);
        let knots = knots((history.end_us() - from_us).div_euclid(DAY_US) + 1);
        let width = seasonal.width() + columns.len();
        let mut rows = Self {
            seasonal,
            width,
            knots,
            level: Vec::new(),
            dense: Vec::with_capacity(width * steps),
            targets: Vec::new(),
            weights: Vec::new(),
            in_event: Vec::new(),
        };
        let mut response = vec![0.0; columns.len()];
        let acting = columns.acting(events);
        let (half_life, event_half_life) = memory.half_lives_days((history.end_us() - from_us) as f64 / DAY_US as f64);
        let mut knot = 0;
        for row in coarse_rows(history.last(steps), step_us) {
            let middle_us = row.middle_us(step_us);
            let position = (middle_us - from_us).max(0) as f64 / DAY_US as f64;
            let [mut low, mut high] = rows.gap(knot);
            while position >= high && knot + 2 < rows.knots.len() {
                knot += 1;
                [low, high] = rows.gap(knot);
            }
            rows.level.push((knot, (position - low) / (high - low)));
            seasonal.push_row(middle_us, &mut rows.dense);
            EventColumns::row(&acting, row.start_us, row.length_us, &mut response);
            rows.dense.extend(&response);
            rows.in_event.push(response.iter().any(|cell| *cell > 0.0));
            rows.targets.push(row.sum / row.count);
            let age_days = (history.end_us() - middle_us) as f64 / DAY_US as f64;
            let half_life = if rows.in_event.last() == Some(&true) { event_half_life } else { half_life };
            rows.weights.push(row.count * 0.5_f64.powf(age_days / half_life));
        }
        rows
    }

    /// Penalised least squares, a few times with new Huber weights.
    fn solve(&self, history: &History, prior: &[f64], seasonal: usize, memory: Memory) -> Result<Vec<f64>, ModelError> {
        #[expect(clippy::cast_precision_loss, reason = "steps of a day")]
        let day_rows = (DAY_US / history.step_us()).max(1) as f64;
        let days = self.knots.last().copied().unwrap_or_default().max(1.0);
        let knots = self.knots.len();
        let size = knots + self.width;
        let mut huber = vec![1.0; self.targets.len()];
        let mut coefficients = vec![0.0; size];
        let mut sums = NormalEquations { normal: vec![0.0; size * size], right: vec![0.0; size] };
        let mut counted = vec![0.0; self.targets.len()];
        for _ in 0..PASSES {
            // Of most rows the weight stays: only the others are counted again.
            self.count(&mut sums, &huber, &counted);
            let NormalEquations { mut normal, mut right } = sums.clone();
            for knot in 1..knots {
                let [low, high] = self.gap(knot - 1);
                let penalty = LEVEL_PENALTY * day_rows / (high - low);
                *cell(&mut normal, size, knot, knot) += penalty;
                *cell(&mut normal, size, knot - 1, knot - 1) += penalty;
                *cell(&mut normal, size, knot, knot - 1) -= penalty;
            }
            for column in 0..seasonal {
                let penalty = self.seasonal.harmonic_of_year(column).map_or(SEASON_PENALTY, |harmonic| {
                    // A year that was seen once proves little, least of all its finer turns.
                    YEAR_PENALTY * day_rows * (harmonic * TWO_YEARS_DAYS / days).powi(2)
                });
                *cell(&mut normal, size, knots + column, knots + column) += penalty;
            }
            let penalty = EVENT_PENALTY * (day_rows / 24.0).max(1.0);
            for (column, prior) in prior.iter().enumerate() {
                let at = knots + seasonal + column;
                *cell(&mut normal, size, at, at) += penalty;
                if let Some(right) = right.get_mut(at) {
                    *right += penalty * prior;
                }
            }
            for k in 0..size {
                *cell(&mut normal, size, k, k) += 1e-6;
            }
            coefficients = solved(size, &normal, right, memory.family())?;
            counted = std::mem::replace(&mut huber, self.huber_weights(&coefficients));
        }
        Ok(coefficients)
    }

    /// A knot and the next.
    fn gap(&self, knot: usize) -> [f64; 2] {
        let at = |index: usize| self.knots.get(index).copied().unwrap_or_default();
        [at(knot), at(knot + 1)]
    }

    /// Adds what rows weigh more, or less, than was counted.
    fn count(&self, NormalEquations { normal, right }: &mut NormalEquations, huber: &[f64], counted: &[f64]) {
        let knots = self.knots.len();
        let size = knots + self.width;
        let rows =
            self.level.iter().zip(self.dense.chunks_exact(self.width)).zip(self.targets.iter().zip(&self.weights));
        for (((level, dense), (target, weight)), (huber, counted)) in rows.zip(huber.iter().zip(counted)) {
            let weight = weight * (huber - counted);
            if weight == 0.0 {
                continue;
            }
            let (knot, part) = *level;
            let cells = [(knot, 1.0 - part), (knot + 1, part)];
            for (at, value) in cells {
                if let Some(right) = right.get_mut(at) {
                    *right += weight * value * target;
                }
            }
            *cell(normal, size, knot, knot) += weight * (1.0 - part) * (1.0 - part);
            *cell(normal, size, knot + 1, knot) += weight * part * (1.0 - part);
            *cell(normal, size, knot + 1, knot + 1) += weight * part * part;
            for (column, value) in dense.iter().enumerate() {
                let weighted = weight * value;
                if weighted == 0.0 {
                    continue;
                }
                let at = knots + column;
                if let Some(right) = right.get_mut(at) {
                    *right += weighted * target;
                }
                let Some(line) = normal.get_mut(at * size..(at + 1) * size) else { continue };
                for (knot, value) in cells {
                    if let Some(cell) = line.get_mut(knot) {
                        *cell += weighted * value;
                    }
                }
                let Some(line) = line.get_mut(knots..) else { continue };
                for (cell, other) in line.iter_mut().zip(dense.iter().take(column + 1)) {
                    *cell += weighted * other;
                }
            }
        }
    }

    fn huber_weights(&self, coefficients: &[f64]) -> Vec<f64> {
        let level_at = |knot: usize| coefficients.get(knot).copied().unwrap_or(0.0);
        let dense = coefficients.get(self.knots.len()..).unwrap_or_default();
        let residuals: Vec<f64> = self
            .level
            .iter()
            .zip(self.dense.chunks_exact(self.width))
            .zip(&self.targets)
            .map(|(((knot, part), row), target)| {
                target - level_at(*knot) * (1.0 - part) - level_at(knot + 1) * part - dot(row, dense)
            })
            .collect();
        let deviation = 1.4826 * median(residuals.iter().map(|residual| residual.abs()).collect()) + 1e-9;
        let limit = HUBER_DEVIATIONS * deviation;
        let weight = |(residual, in_event): (&f64, &bool)| {
            if *in_event || residual.abs() <= limit { 1.0 } else { limit / residual.abs() }
        };
        residuals.iter().zip(&self.in_event).map(weight).collect()
    }
}

/// Steps that lie together in one row.
struct Coarse {
    start_us: i64,
    length_us: i64,
    /// Of the logs.
    sum: f64,
    count: f64,
}

impl Coarse {
    /// Start of a step in its middle.
    fn middle_us(&self, step_us: i64) -> i64 {
        self.start_us + (self.length_us - step_us) / 2
    }
}

/// Steps shorter than [`ROW_US`] share a row: seasons and responses turn more slowly, and a fit takes a fraction of the time.
fn coarse_rows(steps: impl Iterator<Item = (i64, Option<f64>)>, step_us: i64) -> Vec<Coarse> {
    let length_us = step_us * (ROW_US / step_us).max(1);
    let mut rows: Vec<Coarse> = Vec::new();
    for (at_us, value) in steps {
        let Some(value) = value.map(log) else { continue };
        let start_us = at_us - at_us.rem_euclid(length_us);
        match rows.last_mut().filter(|row| row.start_us == start_us) {
            Some(row) => (row.sum, row.count) = (row.sum + value, row.count + 1.0),
            None => rows.push(Coarse { start_us, length_us, sum: value, count: 1.0 }),
        }
    }
    rows
}

/// A cell of the lower triangle. The index is within by construction of the callers.
#[expect(clippy::indexing_slicing, reason = "row and column are below `size`, the matrix has size * size cells")]
fn cell(matrix: &mut [f64], size: usize, row: usize, column: usize) -> &mut f64 {
    &mut matrix[row * size + column]
}

/// Weekly at first, daily towards the end.
fn knots(days: i64) -> Vec<f64> {
    let daily_from = (days - DAILY_LEVEL_DAYS).max(0);
    let days = (0..=days.max(1)).filter(|day| *day >= daily_from || (daily_from - day) % 7 == 0 || *day == 0);
    #[expect(clippy::cast_precision_loss, reason = "days of history")]
    let knots = days.map(|day| day as f64).collect();
    knots
}

fn solved(size: usize, lower: &[f64], right: Vec<f64>, family: &'static str) -> Result<Vec<f64>, ModelError> {
    let fail = || ModelError::Fit { family, problem: "the normal equations are singular".to_owned() };
    // nalgebra reads the lower triangle alone.
    let matrix = DMatrix::from_row_slice(size, size, lower);
    let factor = Cholesky::new(matrix).ok_or_else(fail)?;
    let solution = factor.solve(&DVector::from_vec(right));
    if solution.iter().all(|value| value.is_finite()) { Ok(solution.as_slice().to_vec()) } else { Err(fail()) }
}

/// As it is kept: seven digits are plenty, and 10,000 workloads keep four ridges each.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn single(coefficients: &[f64]) -> Vec<f32> {
    coefficients.iter().map(|coefficient| *coefficient as f32).collect()
}

fn dot_single(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
