//! Sharing partitions with the other members of a consumer group.
//!
//! The group says which partitions are whose; where to begin in them is the member's own business. So what it gives is
//! told first, and read only when the member has assigned it; what it takes away is not read from that moment on.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use headroom_proto::topics::Topic;
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

/// What a group has decided about its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These partitions are the member's, to be assigned: all it has.
    Given(Vec<(Topic, i32)>),
    /// It has none any more.
    Taken,
}

/// Keeps the changes until the member asks for them.
#[derive(Debug, Default)]
pub(crate) struct GroupContext {
    changes: Mutex<VecDeque<Change>>,
}

impl GroupContext {
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn tell(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}

impl ClientContext for GroupContext {}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, parts: &mut TopicPartitionList) {
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let elements = parts.elements();
            let known = elements.iter().filter_map(|part| Some((Topic::from_name(part.topic())?, part.partition())));
            self.tell(Change::Given(known.collect()));
            return;
        }
        if let Err(error) = consumer.unassign() {
            tracing::warn!(%error, "giving partitions back");
        }
        self.tell(Change::Taken);
    }
}
