//! Event time: microseconds since the Unix epoch, UTC.

use std::fmt;
use std::ops::{Add, Sub};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A moment in event time, in microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(i64);

/// A length of event time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(i64);

/// A text that is not a time.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a time: write RFC 3339, such as 1998-06-10T15:30:00Z, or 1998-06-10 15:30:00 for UTC")]
pub struct TimeError {
    text: String,
}

impl EventTime {
    /// The earliest moment.
    pub const MIN: EventTime = EventTime(i64::MIN);

    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the Unix epoch; saturates at the ends of the range.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The start of the window of length `step` that holds this moment; windows are aligned to the Unix epoch.
    #[must_use]
    pub const fn floor(self, step: Span) -> Self {
        if step.0 <= 0 { self } else { Self(self.0.div_euclid(step.0) * step.0) }
    }

    /// Reads RFC 3339, or a date and time without an offset, which is taken as UTC; a bare date is its midnight.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let trimmed = text.trim();
        if let Ok(time) = DateTime::parse_from_rfc3339(trimmed) {
            return Ok(Self(time.timestamp_micros()));
        }
        for format in ["%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
            if let Ok(time) = DateTime::parse_from_str(trimmed, format) {
                return Ok(Self(time.timestamp_micros()));
            }
        }
        for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
            if let Ok(time) = chrono::NaiveDateTime::parse_from_str(trimmed, format) {
                return Ok(Self(time.and_utc().timestamp_micros()));
            }
        }
        if let Ok(date) = trimmed.parse::<chrono::NaiveDate>() {
            return Ok(Self(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()));
        }
        Err(TimeError { text: text.to_owned() })
    }
}

impl Span {
    /// From microseconds.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds; saturates.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// From whole minutes; saturates.
    #[must_use]
    pub const fn from_mins(minutes: i64) -> Self {
        Self::from_secs(minutes.saturating_mul(60))
    }

    /// From whole hours; saturates.
    #[must_use]
    pub const fn from_hours(hours: i64) -> Self {
        Self::from_secs(hours.saturating_mul(3_600))
    }

    /// In microseconds.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// In seconds, with fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
        let micros = self.0 as f64;
        micros / 1e6
    }

    /// In hours, with fraction.
    #[must_use]
    pub fn as_hours_f64(self) -> f64 {
        self.as_secs_f64() / 3_600.0
    }

    /// How many whole `step`s fit; 0 when `step` is not positive.
    #[must_use]
    pub const fn steps(self, step: Span) -> i64 {
        if step.0 <= 0 { 0 } else { self.0.div_euclid(step.0) }
    }

    /// This length times `n`; saturates.
    #[must_use]
    pub const fn times(self, n: i64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// Reads a whole number with a unit: `10s`, `5m`, `24h`, `7d`, `500ms`.
    ///
    /// # Errors
    /// When the text is not of that form or too long for the range.
    pub fn parse(text: &str) -> Result<Self, SpanError> {
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(unit_at);
        let error = || SpanError { text: text.to_owned() };
        let count: i64 = number.parse().map_err(|_| error())?;
        let micros_per_unit = match unit {
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return Err(error()),
        };
        count.checked_mul(micros_per_unit).map(Self).ok_or_else(error)
    }
}

/// A text that is not a length of time.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a length of time: write a whole number and a unit, such as 10s, 5m, 24h or 7d")]
pub struct SpanError {
    text: String,
}

impl std::str::FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl std::str::FromStr for EventTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} µs", self.0),
        }
    }
}

impl fmt::Display for Span {
    /// In the largest unit that divides it: the form that [`Span::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (micros, unit) in [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s")] {
            if self.0 != 0 && self.0 % micros == 0 {
                return write!(f, "{}{unit}", self.0 / micros);
            }
        }
        write!(f, "{}ms", self.0 / 1_000)
    }
}

impl Add<Span> for EventTime {
    type Output = EventTime;

    fn add(self, span: Span) -> EventTime {
        EventTime(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for EventTime {
    type Output = EventTime;

    fn sub(self, span: Span) -> EventTime {
        EventTime(self.0.saturating_sub(span.0))
    }
}

impl Sub for EventTime {
    type Output = Span;

    fn sub(self, earlier: EventTime) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// Serde form of a [`Span`] as text, for configuration: `#[serde(with = "headroom_proto::time::span_text")]`.
pub mod span_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Span;

    /// Writes `5m`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(span)
    }

    /// Reads `5m`.
    ///
    /// # Errors
    /// When the text is not a length of time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_an_offset_are_utc() {
        let expected = EventTime::parse("1998-06-10T15:30:00Z").expect("RFC 3339");
        for text in ["1998-06-10 15:30:00", "1998-06-10T15:30", "1998-06-10 17:30:00+02:00", "1998-06-10T17:30:00+0200"]
        {
            assert_eq!(EventTime::parse(text).expect(text), expected, "{text}");
        }
        assert_eq!(expected.to_string(), "1998-06-10T15:30:00Z");
        assert!(EventTime::parse("10 June").is_err());
    }

    #[test]
    fn floor_aligns_before_the_epoch_too() {
        assert_eq!(EventTime::from_micros(-1).floor(Span::from_secs(10)), EventTime::from_micros(-10_000_000));
    }

    #[test]
    fn spans_read_what_they_write() {
        for text in ["10s", "5m", "24h", "7d", "1500ms"] {
            let span = Span::parse(text).expect(text);
            assert_eq!(Span::parse(&span.to_string()).expect("written by us"), span);
        }
        for text in ["", "5", "m", "-5m", "1.5h", "9223372036854775807d"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }
}
