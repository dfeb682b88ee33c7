//! How far each topic has been read.

use std::collections::BTreeMap;

use headroom_ingest_broker::Received;
use headroom_proto::headers;
use headroom_proto::topics::Topic;
use serde::{Deserialize, Serialize};

/// Next offsets by topic and partition, and what has been seen of each shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Positions {
    next: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Last sequence by windows partition and shard: a shard's records are in order within one partition only.
    sequences: BTreeMap<i32, BTreeMap<String, u64>>,
}

impl Positions {
    /// The next offset to read of a partition; none when nothing of it was read.
    pub(crate) fn next(&self, topic: &str, partition: i32) -> Option<i64> {
        self.next.get(topic)?.get(&partition).copied()
    }

    /// Every known position: topic, partition, next offset.
    pub(crate) fn next_offsets(&self) -> Vec<(Topic, i32, i64)> {
        let known =
            self.next.iter().filter_map(|(name, partitions)| Topic::from_name(name).map(|topic| (topic, partitions)));
        known
            .flat_map(|(topic, partitions)| partitions.iter().map(move |(partition, next)| (topic, *partition, *next)))
            .collect()
    }

    /// Notes that a record was read. False when it was read before: the offset, or its shard's sequence, is known.
    pub(crate) fn advance(&mut self, record: &Received) -> bool {
        let next = self.next.entry(record.topic.name().to_owned()).or_default().entry(record.partition).or_insert(0);
        if record.offset < *next {
            return false;
        }
        *next = record.offset.saturating_add(1);
        let sequence = record.header(headers::SEQUENCE).and_then(|text| text.parse::<u64>().ok());
        let (Some(shard), Some(sequence)) = (record.header(headers::SHARD), sequence) else { return true };
        let last = self.sequences.entry(record.partition).or_default().entry(shard.to_owned()).or_insert(0);
        let fresh = sequence > *last;
        *last = sequence.max(*last);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64, sequence: u64) -> Received {
        let header = |name: &str, value: String| (name.to_owned(), value.into());
        Received {
            topic: Topic::Windows,
            partition,
            offset,
            key: None,
            value: Vec::new().into(),
            headers: vec![
                header(headers::SHARD, "headroom.telemetry.metrics/0".to_owned()),
                header(headers::SEQUENCE, sequence.to_string()),
            ],
            time: None,
        }
    }

    #[test]
    fn repeats_are_known_by_offset_and_by_sequence() {
        let mut positions = Positions::default();
        assert!(positions.advance(&record(0, 0, 1)));
        assert!(!positions.advance(&record(0, 0, 1)), "the same offset");
        assert!(!positions.advance(&record(0, 1, 1)), "sent again by the processor");
        assert!(positions.advance(&record(0, 2, 2)));
        assert!(positions.advance(&record(1, 0, 1)), "another partition has its own order");
        assert_eq!(positions.next("headroom.windows", 0), Some(3));
        assert_eq!(positions.next_offsets().len(), 2);
    }
}
