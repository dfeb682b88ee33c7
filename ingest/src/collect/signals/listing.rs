//! What is known of each signal: its highest revision on the topic.

use std::collections::BTreeMap;

use headroom_ingest_broker::{Broker, BrokerError};
use headroom_proto::EventTime;
use headroom_proto::signal::from_record;
use headroom_proto::topics::Topic;
use headroom_proto::v1::Signal;
use tokio::sync::Mutex;

/// The signals read so far, by id.
pub(super) struct Listing {
    broker: Broker,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    next_offset: i64,
    signals: BTreeMap<String, Signal>,
}

impl Listing {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, known: Mutex::default() }
    }

    /// Reads what is new on the topic and gives all signals, ordered by their start.
    pub(super) async fn signals(&self) -> Result<Vec<Signal>, BrokerError> {
        let mut known = self.known.lock().await;
        for (partition, low, high) in self.broker.ends(Topic::Signals).await? {
            let unread = usize::try_from(high - known.next_offset.max(low)).unwrap_or(0);
            for record in self.broker.tail(Topic::Signals, partition, unread).await? {
                known.next_offset = record.offset + 1;
                if let Ok(signal) = from_record(&record.headers, &record.value, EventTime::MIN) {
                    known.note(signal);
                }
            }
        }
        let mut signals: Vec<Signal> = known.signals.values().cloned().collect();
        signals.sort_by_key(|signal| signal.starts_at_us);
        Ok(signals)
    }
}

impl Known {
    fn note(&mut self, signal: Signal) {
        let is_older = self.signals.get(&signal.signal_id).is_some_and(|known| known.revision > signal.revision);
        if !is_older {
            self.signals.insert(signal.signal_id.clone(), signal);
        }
    }
}
