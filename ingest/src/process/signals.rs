//! Signal features: what was known of event signals when a window ended, beside the window's own columns.
//!
//! A window is told only of signals that were announced by its end, each in the newest revision of that time. So that a
//! restart tells it the same, the processor first reads what was on the signals' topic when the telemetry had come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use headroom_ingest_broker::{Broker, BrokerError, Consumer, Start};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Signal, SignalStatus};
use headroom_proto::{EventTime, WorkloadId, schema, signal};

/// Signals that are under way in the window.
pub(crate) const ACTIVE: &str = "signals_active";
/// Seconds from the window's end to the start of the next signal; null when none is announced.
pub(crate) const NEXT_START: &str = "signals_next_start_s";
/// People whom the active signals reach, times the weight and the expected response of each.
pub(crate) const WEIGHTED_AUDIENCE: &str = "signals_weighted_audience";

const POLL: usize = 1_000;
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Signals beyond are forgotten, those that ended first before others.
const MAX_SIGNALS: usize = 10_000;
const SECOND_US: f64 = 1e6;

/// Every revision of every signal, and how far their topic has been read.
#[derive(Debug)]
pub(crate) struct SignalFeatures {
    broker: Broker,
    consumer: Consumer,
    next_offset: i64,
    revisions: BTreeMap<String, Vec<Signal>>,
}

/// What a window is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Known {
    active: f64,
    next_start_s: Option<f64>,
    weighted_audience: f64,
}

impl SignalFeatures {
    pub(crate) async fn begin(broker: &Broker) -> Result<Self, BrokerError> {
        let consumer = broker.consumer("headroom-process-signals")?;
        consumer.assign_all(&[Topic::Signals], Start::Earliest).await?;
        Ok(Self { broker: broker.clone(), consumer, next_offset: 0, revisions: BTreeMap::new() })
    }

    /// Reads what is on the topic now.
    pub(crate) async fn catch_up(&mut self) -> Result<(), BrokerError> {
        let end = self.broker.ends(Topic::Signals).await?.iter().map(|(_, _, high)| *high).max().unwrap_or(0);
        while self.next_offset < end {
            for record in self.consumer.poll(POLL, POLL_WAIT).await? {
                self.next_offset = record.offset + 1;
                let received_at = record.time.unwrap_or(EventTime::MIN);
                match signal::from_record(&record.headers, &record.value, received_at) {
                    Ok(signal) => self.add(signal),
                    // The store keeps it as a dead letter.
                    Err(error) => tracing::debug!(%error, offset = record.offset, "no signal"),
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, signal: Signal) {
        self.revisions.entry(signal.signal_id.clone()).or_default().push(signal);
        while self.revisions.len() > MAX_SIGNALS {
            let ended = |revisions: &Vec<Signal>| revisions.iter().map(|one| one.ends_at_us).max();
            let first = self.revisions.iter().min_by_key(|(_, revisions)| ended(revisions)).map(|(id, _)| id.clone());
            let Some(first) = first else { break };
            self.revisions.remove(&first);
        }
    }

    /// The windows with the signals' columns behind their own.
    ///
    /// # Errors
    /// When the batch has no envelope.
    pub(crate) fn beside(&self, windows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if windows.column_by_name(ACTIVE).is_some() {
            return Ok(windows.clone());
        }
        let times = |name: &str| {
            let column =
                windows.column_by_name(name).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
            column.cloned().ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
        };
        let (starts, ends) = (times("window_start")?, times("window_end")?);
        let workloads = windows
            .column_by_name(schema::WORKLOAD)
            .and_then(|column| column.as_string_opt::<i32>())
            .ok_or_else(|| ArrowError::SchemaError(format!("no column `{}`", schema::WORKLOAD)))?;
        let mut seen: BTreeMap<(&str, i64, i64), Known> = BTreeMap::new();
        let rows = starts.values().iter().zip(ends.values()).zip(workloads.iter());
        let known: Vec<Known> = rows
            .map(|((start, end), workload)| {
                let workload = workload.unwrap_or_default();
                *seen.entry((workload, *start, *end)).or_insert_with(|| self.known(workload, *start, *end))
            })
            .collect();
        let columns: [(&str, ArrayRef); 3] = [
            (ACTIVE, Arc::new(known.iter().map(|known| Some(known.active)).collect::<Float64Array>())),
            (NEXT_START, Arc::new(known.iter().map(|known| known.next_start_s).collect::<Float64Array>())),
            (
                WEIGHTED_AUDIENCE,
                Arc::new(known.iter().map(|known| Some(known.weighted_audience)).collect::<Float64Array>()),
            ),
        ];
        let mut fields = windows.schema().fields().to_vec();
        let mut all = windows.columns().to_vec();
        for (name, column) in columns {
            fields.push(Arc::new(Field::new(name, DataType::Float64, true)));
            all.push(column);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), all)
    }

    fn known(&self, workload: &str, start_us: i64, end_us: i64) -> Known {
        let Ok(workload) = WorkloadId::try_new(workload) else { return Known::default() };
        let mut known = Known::default();
        for revisions in self.revisions.values() {
            let told = revisions.iter().filter(|one| one.announced_at_us <= end_us);
            let Some(newest) = told.max_by_key(|one| one.revision) else { continue };
            if newest.status() == SignalStatus::Cancelled || !workload.is_selected(&newest.workloads) {
                continue;
            }
            if newest.starts_at_us >= end_us {
                #[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
                let ahead = (newest.starts_at_us - end_us) as f64 / SECOND_US;
                known.next_start_s = Some(known.next_start_s.map_or(ahead, |nearest: f64| nearest.min(ahead)));
            } else if newest.ends_at_us > start_us {
                known.active += 1.0;
                known.weighted_audience += reached(newest);
            }
        }
        known
    }
}

/// People, weighted; an audience that is not known counts for nothing.
fn reached(signal: &Signal) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact below 9e15 people")]
    let audience = signal.audience_size.map_or(0.0, |people| people as f64);
    audience * signal.weight * signal.expected_response_ratio.unwrap_or(1.0)
}
