//! Settings of a replay.

use std::path::PathBuf;

use headroom_proto::time::span_text;
use headroom_proto::{EventTime, Span, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::collect::trace::TraceColumns;

/// A single wait for the pace is cut at ten years of real time.
pub(super) const MAX_WAIT_S: f64 = 3e8;

/// What to replay, and how fast.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayConfig {
    /// The trace: CSV (plain or gzip) or Parquet.
    pub file: PathBuf,
    /// Its time column.
    pub time_column: String,
    /// Its value column.
    pub value_column: String,
    /// Its workload column; without one all rows belong to `workload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_column: Option<String>,
    /// The workload of a trace without a workload column.
    pub workload: WorkloadId,
    /// The name under which the values travel.
    pub metric: String,
    /// Event signals as CSV, each published at its announcement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals: Option<PathBuf>,
    /// Event seconds per second of real time; 0 is as fast as possible.
    pub speed: f64,
    /// Leave out what is earlier.
    #[serde(with = "time_text", skip_serializing_if = "Option::is_none")]
    pub from: Option<EventTime>,
    /// Stop before this time; the trace is then complete up to it.
    #[serde(with = "time_text", skip_serializing_if = "Option::is_none")]
    pub until: Option<EventTime>,
    /// At most this much event time in one record.
    #[serde(with = "span_text")]
    pub batch_span: Span,
    /// At most this many rows in one round of records.
    pub batch_rows: usize,
    /// How far the replay may be ahead of downstream, in event time.
    #[serde(with = "span_text")]
    pub max_ahead: Span,
    /// A trace without `until` is complete up to the next multiple of this after its last row.
    #[serde(with = "span_text")]
    pub close_span: Span,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            time_column: "ts".to_owned(),
            value_column: "value".to_owned(),
            workload_column: None,
            workload: WorkloadId::try_new("default").expect("a legal name"),
            metric: "requests".to_owned(),
            signals: None,
            speed: 0.0,
            from: None,
            until: None,
            batch_span: Span::from_hours(1),
            batch_rows: 10_000,
            max_ahead: Span::from_hours(6),
            close_span: Span::from_mins(5),
        }
    }
}

impl ReplayConfig {
    /// Everything that makes it unusable, each with a way to mend it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for path in [Some(&self.file), self.signals.as_ref()].into_iter().flatten() {
            if !path.is_file() {
                problems.push(format!(
                    "{}: no such file",
                    if path.as_os_str().is_empty() { "`file`".into() } else { path.to_string_lossy() }
                ));
            }
        }
        if !(self.speed.is_finite() && self.speed >= 0.0) {
            problems
                .push(format!("speed = {}: write event seconds per second, or 0 for as fast as possible", self.speed));
        }
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            problems.push(format!("until = {until} must be later than from = {from}"));
        }
        for (name, span) in [("batch_span", self.batch_span), ("close_span", self.close_span)] {
            if span.micros() <= 0 {
                problems.push(format!("{name} = {span}: write a positive length, such as 5m"));
            }
        }
        if self.batch_rows == 0 {
            problems.push("batch_rows = 0: write at least 1".to_owned());
        }
        if self.max_ahead < Span::from_hours(1) {
            problems.push(format!("max_ahead = {}: windows close late, so write at least 1h", self.max_ahead));
        }
        problems
    }

    /// Who the records say they are from.
    pub(super) fn source(&self) -> String {
        let name = self.file.file_name().unwrap_or_default();
        format!("replay:{}", name.to_string_lossy())
    }

    pub(super) fn columns(&self) -> TraceColumns {
        TraceColumns {
            time: self.time_column.clone(),
            value: self.value_column.clone(),
            workload: self.workload_column.clone(),
            default_workload: self.workload.clone(),
        }
    }

    /// How much event time one record may hold: at a set speed no more than passes in a second.
    pub(super) fn span(&self) -> Span {
        if self.speed <= 0.0 {
            return self.batch_span;
        }
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and the minimum follows")]
        let per_second = Span::from_micros((self.speed * 1e6) as i64);
        self.batch_span.min(per_second)
    }
}

/// An optional moment as text.
mod time_text {
    use headroom_proto::EventTime;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Option<EventTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EventTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| EventTime::parse(&text).map_err(D::Error::custom)).transpose()
    }
}
