//! When capacity may be changed by itself: blackouts, maintenance, and times of release. All times are UTC.

use std::fmt;
use std::str::FromStr;

use headroom_proto::{EventTime, Span};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY_US: i64 = 86_400_000_000;
const WEEK_US: i64 = 7 * DAY_US;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// 1970-01-01 was a Thursday: this far into a week that begins on Monday.
const EPOCH_US: i64 = 3 * DAY_US;
/// Windows that touch are one; more than this many in a row are not followed.
const MOST_CHAINED: usize = 64;

/// When a window is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// On these days of the week, from a time of day to another; one that is not later is on the next day.
    Weekly {
        /// Monday first.
        days: [bool; 7],
        /// Start, after midnight.
        from: Span,
        /// End, after the same midnight.
        to: Span,
    },
    /// Once.
    Once {
        /// Start.
        from: EventTime,
        /// End; not in it.
        to: EventTime,
    },
}

/// A text that is no window of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no window of time: write `mon-fri 22:00-06:00`, `sat,sun 00:00-24:00`, `daily 02:00-04:00`, or \
     `2026-11-27T00:00:00Z/2026-11-28T00:00:00Z`; times are UTC"
)]
pub struct WhenError(String);

/// A time without automatic changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// What plans call it.
    pub name: String,
    /// When.
    pub when: When,
    /// May the load of now still raise capacity? Not while the target itself is under maintenance.
    #[serde(default)]
    pub guard_raises: bool,
}

/// When capacity may be changed by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calendar {
    /// Units are released within these times alone; empty: at any time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<When>,
    /// Times without changes: frozen systems, backups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blackouts: Vec<Quiet>,
    /// Times in which the target itself is worked on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Quiet>,
}

/// A time without changes that is open or to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// `blackout year-end` or `maintenance minor upgrade`.
    pub name: String,
    /// When it begins.
    pub from: EventTime,
    /// When changes are made again.
    pub until: EventTime,
    /// May the load of now still raise capacity?
    pub guard_raises: bool,
}

impl When {
    /// The open stretch that holds `at`, or else the next one.
    #[must_use]
    pub fn next(&self, at: EventTime) -> Option<(EventTime, EventTime)> {
        match self {
            Self::Once { from, to } => (at < *to).then_some((*from, *to)),
            Self::Weekly { days, from, to } => {
                let week = EventTime::from_micros((at.micros() + EPOCH_US).div_euclid(WEEK_US) * WEEK_US - EPOCH_US);
                // From the last day of the week before, which may reach over, to the end of the week after.
                let stretches = (-1..=13_i64).filter_map(|day| {
                    let weekday = usize::try_from(day.rem_euclid(7)).ok()?;
                    let midnight = week + Span::from_micros(day * DAY_US);
                    days.get(weekday).copied().unwrap_or(false).then(|| (midnight + *from, midnight + *to))
                });
                stretches.filter(|(_, end)| at < *end).min()
            }
        }
    }

    /// Is it open at that time?
    #[must_use]
    pub fn holds(&self, at: EventTime) -> bool {
        self.next(at).is_some_and(|(from, _)| from <= at)
    }
}

impl Calendar {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (kind, quiets) in [("blackouts", &self.blackouts), ("maintenance", &self.maintenance)] {
            let unnamed = quiets.iter().any(|quiet| quiet.name.trim().is_empty());
            if unnamed {
                problems.push(format!("`calendar.{kind}`: each needs a `name`, which plans tell"));
            }
        }
        if self.maintenance.iter().any(|quiet| quiet.guard_raises) {
            problems.push("`calendar.maintenance`: `guard_raises` is for blackouts alone".to_owned());
        }
        problems
    }

    /// The time without changes that holds `at`, or else the next one. Those that touch or overlap count as one, under the
    /// name of the first; the guard may raise where it may in all of them.
    #[must_use]
    pub fn closed(&self, at: EventTime) -> Option<Closed> {
        let mut closed = self.first(at)?;
        for _ in 0..MOST_CHAINED {
            let longer =
                self.stretches(closed.until).find(|next| next.from <= closed.until && next.until > closed.until);
            let Some(next) = longer else { break };
            closed.until = next.until;
            closed.guard_raises &= next.guard_raises;
        }
        Some(closed)
    }

    /// Changes are not made at that time.
    #[must_use]
    pub fn closed_at(&self, at: EventTime) -> Option<Closed> {
        let mut open = self.stretches(at).filter(|closed| closed.from <= at);
        let mut closed = open.next()?;
        closed.guard_raises &= open.all(|other| other.guard_raises);
        let until = self.closed(at).map_or(closed.until, |whole| whole.until);
        Some(Closed { until, ..closed })
    }

    /// May units be released at that time? If not, when they may.
    ///
    /// # Errors
    /// The start of the next time of release; none when there is none any more.
    pub fn may_release(&self, at: EventTime) -> Result<(), Option<EventTime>> {
        if self.release.is_empty() || self.release.iter().any(|when| when.holds(at)) {
            return Ok(());
        }
        Err(self.release.iter().filter_map(|when| when.next(at)).map(|(from, _)| from).min())
    }

    fn first(&self, at: EventTime) -> Option<Closed> {
        self.stretches(at).min_by_key(|closed| closed.from)
    }

    fn stretches(&self, at: EventTime) -> impl Iterator<Item = Closed> {
        let blackouts = self.blackouts.iter().map(|quiet| ("blackout", quiet));
        let all = blackouts.chain(self.maintenance.iter().map(|quiet| ("maintenance", quiet)));
        all.filter_map(move |(kind, quiet)| {
            let (from, until) = quiet.when.next(at)?;
            let guard_raises = quiet.guard_raises && kind == "blackout";
            Some(Closed { name: format!("{kind} {}", quiet.name), from, until, guard_raises })
        })
    }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || WhenError(text.to_owned());
        if let Some((from, to)) = text.split_once('/') {
            let (from, to) = (EventTime::parse(from).map_err(|_| error())?, EventTime::parse(to).map_err(|_| error())?);
            return if from < to { Ok(Self::Once { from, to }) } else { Err(error()) };
        }
        let (named, hours) = text.trim().split_once(' ').ok_or_else(error)?;
        let (from, to) = hours.trim().split_once('-').ok_or_else(error)?;
        let (from, mut to) = (time_of_day(from).ok_or_else(error)?, time_of_day(to).ok_or_else(error)?);
        if to <= from {
            to = Span::from_micros(to.micros() + DAY_US);
        }
        if from.micros() >= DAY_US {
            return Err(error());
        }
        Ok(Self::Weekly { days: weekdays(named).ok_or_else(error)?, from, to })
    }
}

/// `22:00`, up to `24:00`.
fn time_of_day(text: &str) -> Option<Span> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let in_range = (0..=24).contains(&hours) && (0..60).contains(&minutes) && (hours < 24 || minutes == 0);
    in_range.then(|| Span::from_mins(hours * 60 + minutes))
}

/// `daily`, `mon`, `mon-fri`, `sat,sun`, `fri-mon`.
fn weekdays(text: &str) -> Option<[bool; 7]> {
    if text == "daily" {
        return Some([true; 7]);
    }
    let number = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        let length = (last + 7 - first) % 7;
        for day in first..=first + length {
            *days.get_mut(day % 7)? = true;
        }
    }
    Some(days)
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once { from, to } => write!(f, "{from}/{to}"),
            Self::Weekly { days, from, to } => {
                let named: Vec<&str> = DAYS.iter().zip(days).filter(|(_, open)| **open).map(|(day, _)| *day).collect();
                let days = if named.len() == DAYS.len() { "daily".to_owned() } else { named.join(",") };
                let clock = |span: &Span| {
                    let minutes = span.steps(Span::from_mins(1));
                    format!("{:02}:{:02}", minutes / 60, minutes % 60)
                };
                let to = if to.micros() > DAY_US { Span::from_micros(to.micros() - DAY_US) } else { *to };
                write!(f, "{days} {}-{}", clock(from), clock(&to))
            }
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
