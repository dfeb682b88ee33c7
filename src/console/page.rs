//! What a page says of itself and what it must know to draw.

use std::fmt;

use headroom_proto::{EventTime, Span};
use serde::{Deserialize, Serialize};

use super::view::Request;
use super::{ConsoleConfig, Scale};

/// What a page must know to draw; times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    target: String,
    window: i64,
    unit_capacity: f64,
    violation_utilisation: f64,
    history: i64,
    forecast_lead: i64,
}

impl Facts {
    /// From the configuration of the console and of the stages it shows.
    pub(super) fn new(config: &ConsoleConfig, scale: &Scale) -> Self {
        Self {
            target: scale.target.clone(),
            window: scale.window.micros() / 1_000,
            unit_capacity: scale.unit_capacity,
            violation_utilisation: scale.violation_utilisation,
            history: config.history.micros() / 1_000,
            forecast_lead: config.forecast_lead.micros() / 1_000,
        }
    }
}

/// Where a page stands: the run of the program that it follows, and the view's sequence that it has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) run: String,
    pub(super) sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.sequence)
    }
}

impl Position {
    /// Reads what [`Position`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (run, sequence) = text.split_once('-')?;
        Some(Self { run: run.to_owned(), sequence: sequence.parse().ok()? })
    }
}

/// The query of `/api/state` and `/api/events`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    workload: Option<String>,
    from: Option<String>,
    to: Option<String>,
    /// A position that the page has seen; `Last-Event-ID` goes before it.
    since: Option<String>,
}

impl Query {
    /// The request, which is for a snapshot unless the page has seen a position of this run.
    ///
    /// # Errors
    /// Says which time cannot be read.
    pub(super) fn request(self, last_event_id: Option<&str>, run: &str, recent: Span) -> Result<Request, String> {
        let seen = last_event_id.or(self.since.as_deref()).and_then(Position::parse);
        Ok(Request {
            workload: self.workload.filter(|workload| !workload.is_empty()),
            since: seen.filter(|position| position.run == run).map(|position| position.sequence),
            from_us: self.from.as_deref().map(|text| time_us("from", text)).transpose()?,
            to_us: self.to.as_deref().map(|text| time_us("to", text)).transpose()?,
            recent,
        })
    }
}

/// Milliseconds since the Unix epoch, or a time as people write it.
fn time_us(name: &str, text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(EventTime::from_millis(millis).micros());
    }
    EventTime::parse(text)
        .map(EventTime::micros)
        .map_err(|error| format!("`{name}`: {error}, or milliseconds since 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_it_stood_in_the_same_run_only() {
        let position = Position { run: "00ff".to_owned(), sequence: 17 };
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        let request = |since: &str, last: Option<&str>| {
            Query { since: Some(since.to_owned()), ..Query::default() }
                .request(last, "00ff", Span::default())
                .expect("no times")
        };
        assert_eq!(request("00ff-17", None).since, Some(17));
        assert_eq!(request("00ff-17", Some("00ff-20")).since, Some(20), "the browser's memory goes first");
        for other in ["0a-17", "nonsense", "00ff-x", ""] {
            assert_eq!(request(other, None).since, None, "{other}");
        }
    }

    #[test]
    fn times_are_milliseconds_or_text() {
        let query =
            |from: &str| Query { from: Some(from.to_owned()), ..Query::default() }.request(None, "", Span::default());
        assert_eq!(query("1500").expect("milliseconds").from_us, Some(1_500_000));
        assert_eq!(query("1970-01-01T00:00:01Z").expect("RFC 3339").from_us, Some(1_000_000));
        assert!(query("soon").expect_err("no time").contains("`from`"));
    }
}
