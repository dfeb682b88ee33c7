//! Each number that is derived, with what it rests on.

use headroom_actuator_decide::PlannerConfig;
use headroom_models::derived::{
    EQUALLY_LIKELY, Growth, LatencyCurve, LatencySample, Range, Sessions, SessionsSample, pool_for,
};
use headroom_models::score::at_level;
use headroom_proto::EventTime;
use headroom_proto::v1::{Derived, DerivedStep};

use super::DerivedConfig;
use super::sources::{Outlook, Window};

const DAY_US: i64 = 86_400_000_000;
/// Storage is told twelve weeks ahead.
const STORAGE_DAYS: usize = 84;
/// Share of moments in which a pool is to have a free connection.
const POOL_SHARE: f64 = 0.99;

fn empty(outlook: &Outlook, quantity: &str, unit: &str) -> Derived {
    Derived {
        workload: outlook.workload.clone(),
        quantity: quantity.to_owned(),
        unit: unit.to_owned(),
        origin_us: outlook.origin_us,
        step_us: outlook.step_us,
        ..Derived::default()
    }
}

fn abstains(derived: Derived, reason: impl Into<String>) -> Derived {
    Derived { abstains: reason.into(), ..derived }
}

/// Why nothing follows from an outlook; none when something does.
fn no_outlook(outlook: &Outlook) -> Option<String> {
    let why = outlook.steps.is_empty() || outlook.verdict == "abstain";
    why.then(|| "the outlook abstains: `headroom forecast show --days 14` tells why".to_owned())
}

/// The load of a step as equally likely values.
fn loads(outlook: &Outlook, row: &[f32]) -> [f64; 9] {
    EQUALLY_LIKELY.map(|level| at_level(&outlook.levels, row, level))
}

fn steps(outlook: &Outlook, of: impl Fn(&[f32]) -> Range) -> Vec<DerivedStep> {
    let step = |(at_us, row): &(i64, Vec<f32>)| {
        let Range { low, middle, high } = of(row);
        DerivedStep { at_us: *at_us, low, middle, high }
    };
    outlook.steps.iter().map(step).collect()
}

fn highest(steps: &[DerivedStep]) -> Option<&DerivedStep> {
    steps.iter().max_by(|one, other| one.middle.total_cmp(&other.middle))
}

fn at(time_us: i64) -> EventTime {
    EventTime::from_micros(time_us)
}

/// Sessions at work by Little's law, and the pool that suffices for them.
pub(super) fn sessions(outlook: &Outlook, windows: &[Window], columns: &DerivedConfig) -> Derived {
    let mut derived = empty(outlook, "sessions", "average sessions at work");
    if let Some(reason) = no_outlook(outlook) {
        return abstains(derived, reason);
    }
    let samples: Vec<SessionsSample> =
        windows.iter().map(|window| SessionsSample { load: window.load, sessions: window.sessions }).collect();
    let learned = match Sessions::fit(&samples) {
        Ok(learned) => learned,
        Err(reason) => {
            return abstains(derived, format!("{reason} (columns {} and {})", outlook.target, columns.sessions));
        }
    };
    derived.steps = steps(outlook, |row| learned.at(&loads(outlook, row)));
    let (least, most) = learned.seen;
    derived.rests_on = format!(
        "the outlook times {} over {} in {} windows of four weeks, with load from {least:.2} to {most:.2} (Little's law)",
        columns.sessions, outlook.target, learned.windows
    );
    let open = windows.iter().map(|window| window.connections).filter(|open| open.is_finite()).fold(f64::NAN, f64::max);
    let open =
        if open.is_finite() { format!("; at the most {open:.0} were open in four weeks") } else { String::new() };
    derived.finding = highest(&derived.steps).map_or_else(String::new, |step| {
        format!(
            "in the hour from {} {:.2} ({:.2} to {:.2}) sessions are at work on average: {} connections have one free in \
             {:.0} % of moments, at the upper end{open}",
            at(step.at_us),
            step.middle,
            step.low,
            step.high,
            pool_for(step.high, POOL_SHARE),
            100.0 * POOL_SHARE
        )
    });
    derived
}

/// Latency at the units of now.
pub(super) fn latency(outlook: &Outlook, windows: &[Window], columns: &DerivedConfig) -> Derived {
    let mut derived = empty(outlook, "latency", &format!("as {}", columns.latency));
    if let Some(reason) = no_outlook(outlook) {
        return abstains(derived, reason);
    }
    let now = windows.iter().rev().map(|window| window.ready).find(|ready| *ready > 0.0);
    let units_of = |window: &Window| if now.is_some() { window.ready } else { 1.0 };
    let known = windows.iter().filter(|window| units_of(window) > 0.0);
    let samples: Vec<LatencySample> =
        known.map(|window| LatencySample { load: window.load / units_of(window), latency: window.latency }).collect();
    let curve = match LatencyCurve::fit(&samples) {
        Ok(curve) => curve,
        Err(reason) => {
            return abstains(derived, format!("{reason} (columns {} and {})", outlook.target, columns.latency));
        }
    };
    let units = now.unwrap_or(1.0);
    derived.steps = steps(outlook, |row| curve.at(&loads(outlook, row).map(|load| load / units)));
    let of_units = match now {
        Some(units) => format!("{units:.0} units, as many as are ready now"),
        None => "the capacity of those windows, since no plan tells of units".to_owned(),
    };
    derived.rests_on = format!(
        "{} windows of four weeks, with load up to {:.2}{}, and {of_units}",
        curve.windows,
        curve.seen,
        if now.is_some() { " a unit" } else { "" }
    );
    let beyond =
        outlook.steps.iter().filter(|(_, row)| at_level(&outlook.levels, row, 0.9) / units > curve.seen).count();
    let beyond = match beyond {
        0 => String::new(),
        hours => format!("; the upper end of {hours} hours is beyond the load that was seen"),
    };
    let saturated = derived.steps.iter().find(|step| step.high.is_infinite());
    derived.finding = match (saturated, highest(&derived.steps)) {
        (Some(step), _) => format!(
            "from {} on the load may be more than is borne ({:.2}{}): there is no latency to tell then{beyond}",
            at(step.at_us),
            curve.capacity() * units,
            if now.is_some() { "" } else { ", by the windows" },
        ),
        (None, Some(step)) => {
            let (low, high) = (step.low, step.high);
            format!("in the hour from {} {:.2} ({low:.2} to {high:.2}){beyond}", at(step.at_us), step.middle)
        }
        (None, None) => String::new(),
    };
    derived
}

/// Units that each quantile of the load asks for.
fn units_for(outlook: &Outlook, planner: &PlannerConfig) -> Vec<DerivedStep> {
    steps(outlook, |row| {
        let units = |level| f64::from(planner.units_for(at_level(&outlook.levels, row, level)));
        Range { low: units(0.1), middle: units(0.5), high: units(0.9) }
    })
}

fn sizing(planner: &PlannerConfig) -> String {
    format!(
        "the outlook at a utilisation of {:.2} of {:.2} a unit, from {} to {} units",
        planner.target_utilisation, planner.unit_capacity, planner.min_units, planner.max_units
    )
}

/// Units that serve the load at the target utilisation.
pub(super) fn units(outlook: &Outlook, planner: &PlannerConfig) -> Derived {
    let mut derived = empty(outlook, "units", "units");
    if let Some(reason) = no_outlook(outlook) {
        return abstains(derived, reason);
    }
    derived.steps = units_for(outlook, planner);
    derived.rests_on = sizing(planner);
    derived.finding = highest(&derived.steps).map_or_else(String::new, |step| {
        format!("in the hour from {} {} ({} to {})", at(step.at_us), step.middle, step.low, step.high)
    });
    derived
}

/// What these units cost. The interval of the sum is that of hours that are all off together, the widest there can be.
pub(super) fn cost(outlook: &Outlook, planner: &PlannerConfig) -> Derived {
    let mut derived = empty(outlook, "cost", "cost an hour");
    if let Some(reason) = no_outlook(outlook) {
        return abstains(derived, reason);
    }
    #[expect(clippy::cast_precision_loss, reason = "hours of a step")]
    let hours = outlook.step_us as f64 / 3.6e9;
    let price = planner.cost_per_unit_hour;
    let units = units_for(outlook, planner);
    let total = |of: fn(&DerivedStep) -> f64| units.iter().map(of).sum::<f64>() * hours;
    let (low, middle, high) = (total(|step| step.low), total(|step| step.middle), total(|step| step.high));
    derived.finding = format!(
        "{middle:.0} ({low:.0} to {high:.0}) unit-hours in {:.1} days: {:.2} ({:.2} to {:.2})",
        hours * f64::from(u32::try_from(units.len()).unwrap_or(u32::MAX)) / 24.0,
        middle * price,
        low * price,
        high * price
    );
    derived.rests_on = format!("{}, at {price} for a unit-hour", sizing(planner));
    let priced = |step: DerivedStep| DerivedStep {
        low: step.low * price,
        middle: step.middle * price,
        high: step.high * price,
        ..step
    };
    derived.steps = units.into_iter().map(priced).collect();
    derived
}

/// Storage by the day, weeks ahead, and when a limit is passed.
pub(super) fn storage(
    outlook: &Outlook,
    daily: &[Option<f64>],
    limit: Option<f64>,
    columns: &DerivedConfig,
) -> Derived {
    let today_us = outlook.origin_us.div_euclid(DAY_US) * DAY_US;
    let mut derived = Derived { origin_us: today_us, step_us: DAY_US, ..empty(outlook, "storage", "bytes") };
    let growth = match Growth::fit(daily, STORAGE_DAYS) {
        Ok(growth) => growth,
        Err(reason) => return abstains(derived, format!("{reason} (column {})", columns.storage)),
    };
    // The first day ahead is the one that has not ended.
    let day_us = |days: usize| today_us + DAY_US * (i64::try_from(days).unwrap_or(0) - 1);
    derived.steps = (1..=STORAGE_DAYS)
        .map(|days| {
            let Range { low, middle, high } = growth.after(days);
            DerivedStep { at_us: day_us(days), low, middle, high }
        })
        .collect();
    derived.rests_on = format!("what {} changed by on {} days", columns.storage, growth.days);
    let Range { low, middle, high } = growth.after(28);
    let in_weeks = format!("{middle:.4e} ({low:.4e} to {high:.4e}) in four weeks");
    derived.finding = match limit {
        None => format!("{in_weeks}; no limit is set in derived.storage_limits"),
        Some(limit) => {
            let crossing = growth.crosses(limit);
            let day = |days: Option<usize>| days.map_or("later".to_owned(), |days| day_told(day_us(days)));
            match crossing.early {
                None => format!("{in_weeks}; it stays below {limit:.4e} for {STORAGE_DAYS} days"),
                early => format!(
                    "{in_weeks}; it passes {limit:.4e} on {} (from {}, to {})",
                    day(crossing.middle),
                    day(early),
                    day(crossing.late)
                ),
            }
        }
    };
    derived
}

/// The date alone.
fn day_told(day_us: i64) -> String {
    at(day_us).to_string().split('T').next().unwrap_or_default().to_owned()
}
