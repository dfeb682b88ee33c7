//! Where an earlier run of the same replay stopped, told by the topics alone.

use std::collections::{BTreeSet, HashSet};

use headroom_ingest_broker::{Broker, Received};
use headroom_proto::signal::from_record;
use headroom_proto::topics::Topic;
use headroom_proto::v1::Signal;
use headroom_proto::{EventTime, WorkloadId, headers};

use super::ReplayError;

/// Records looked at first; eight times more each time until enough is known.
const FIRST_LOOK: usize = 32;

/// Rows read, and whether the trace was ended there; later positions are larger.
type Position = (u64, bool);

/// What is on the topics already.
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// The last round's position; it may be there for some workloads only.
    last: Position,
    /// The workloads of the last round.
    at_last: BTreeSet<String>,
    /// The position of the round before, which is there in full.
    before: Position,
    /// The last row among the dead letters.
    dead_row: u64,
    signals: HashSet<(String, u64)>,
}

impl Resume {
    /// Reads the ends of the topics.
    pub(super) async fn read(broker: &Broker, source: &str) -> Result<Self, ReplayError> {
        let mut resume = Self::default();
        resume.note_rounds(&last_rounds(broker, source).await?);
        let is_ours = |record: &Received| dead_row(record, source).is_some();
        for (partition, _, _) in broker.ends(Topic::DeadLetter).await? {
            let records =
                tail_until(broker, Topic::DeadLetter, partition, |records| records.iter().any(is_ours)).await?;
            resume.dead_row =
                records.iter().filter_map(|record| dead_row(record, source)).fold(resume.dead_row, u64::max);
        }
        for (partition, low, high) in broker.ends(Topic::Signals).await? {
            let count = usize::try_from(high - low).unwrap_or(0);
            let records = broker.tail(Topic::Signals, partition, count).await?;
            let signals = records.iter().filter_map(|r| from_record(&r.headers, &r.value, EventTime::MIN).ok());
            resume.signals.extend(signals.map(|signal| (signal.signal_id, signal.revision)));
        }
        if resume.last.0 > 0 {
            tracing::info!(source, rows = resume.last.0, "the replay goes on where it stopped");
        }
        Ok(resume)
    }

    fn note_rounds(&mut self, seen: &[(Position, String)]) {
        self.last = seen.iter().map(|(position, _)| *position).max().unwrap_or_default();
        for (position, workload) in seen {
            if *position == self.last {
                self.at_last.insert(workload.clone());
            } else {
                self.before = self.before.max(*position);
            }
        }
    }

    /// Is this row on the topic?
    pub(super) fn has_row(&self, workload: &WorkloadId, row: u64) -> bool {
        row <= self.before.0 || (row <= self.last.0 && self.at_last.contains(workload.as_str()))
    }

    /// Is the end of the trace behind `rows` on the topic?
    pub(super) fn has_end(&self, workload: &WorkloadId, rows: u64) -> bool {
        self.last == (rows, true) && self.at_last.contains(workload.as_str())
    }

    /// Is this row among the dead letters?
    pub(super) fn has_dead_letter(&self, row: u64) -> bool {
        row <= self.dead_row
    }

    pub(super) fn has_signal(&self, signal: &Signal) -> bool {
        self.signals.contains(&(signal.signal_id.clone(), signal.revision))
    }

    /// Rows read when the last round was sent.
    pub(super) fn last_rows(&self) -> u64 {
        self.last.0
    }
}

/// The positions of the last two rounds in each partition, with their workloads.
async fn last_rounds(broker: &Broker, source: &str) -> Result<Vec<(Position, String)>, ReplayError> {
    let mut seen = Vec::new();
    for (partition, _, _) in broker.ends(Topic::Metrics).await? {
        let two_rounds = |records: &[Received]| {
            let positions: BTreeSet<Position> =
                records.iter().filter_map(|r| position(r, source)).map(|(p, _)| p).collect();
            positions.len() > 1
        };
        let records = tail_until(broker, Topic::Metrics, partition, two_rounds).await?;
        seen.extend(records.iter().filter_map(|record| position(record, source)));
    }
    Ok(seen)
}

/// The end of a partition, as much of it as `enough` asks for.
async fn tail_until(
    broker: &Broker,
    topic: Topic,
    partition: i32,
    enough: impl Fn(&[Received]) -> bool,
) -> Result<Vec<Received>, ReplayError> {
    let mut look = FIRST_LOOK;
    loop {
        let records = broker.tail(topic, partition, look).await?;
        if records.len() < look || enough(&records) {
            return Ok(records);
        }
        look = look.saturating_mul(8);
    }
}

fn position(record: &Received, source: &str) -> Option<(Position, String)> {
    if record.header(headers::SOURCE)? != source {
        return None;
    }
    let rows = record.header(headers::SOURCE_POSITION)?.parse().ok()?;
    let workload = String::from_utf8(record.key.as_deref()?.to_vec()).ok()?;
    Some(((rows, record.header(headers::WATERMARK).is_some()), workload))
}

fn dead_row(record: &Received, source: &str) -> Option<u64> {
    record.header(headers::DEAD_ORIGIN)?.strip_prefix(source)?.strip_prefix('/')?.parse().ok()
}
