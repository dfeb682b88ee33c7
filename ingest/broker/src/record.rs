//! Records as they are sent and received.

use bytes::Bytes;
use headroom_proto::EventTime;
use headroom_proto::topics::Topic;

/// A record to send.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where to.
    pub topic: Topic,
    /// The partition; chosen by the key's hash unless given.
    pub partition: Option<i32>,
    /// Records of one key stay in order.
    pub key: Option<Bytes>,
    /// The bytes.
    pub value: Bytes,
    /// Names and values, in order.
    pub headers: Vec<(String, Bytes)>,
    /// The record's event time; the broker's clock unless given.
    pub time: Option<EventTime>,
}

impl Record {
    /// A record without key, headers and time.
    #[must_use]
    pub fn new(topic: Topic, value: impl Into<Bytes>) -> Self {
        Self { topic, partition: None, key: None, value: value.into(), headers: Vec::new(), time: None }
    }

    /// With a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With an event time.
    #[must_use]
    pub fn time(mut self, time: EventTime) -> Self {
        self.time = Some(time);
        self
    }

    /// To a partition of the caller's choice.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Received {
    /// Where from.
    pub topic: Topic,
    /// Its partition.
    pub partition: i32,
    /// Its position in the partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its bytes; empty for a tombstone.
    pub value: Bytes,
    /// Names and values, in order.
    pub headers: Vec<(String, Bytes)>,
    /// Its time, to the millisecond.
    pub time: Option<EventTime>,
}

impl Received {
    /// The first header of that name, when it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    /// Where it stands: `<topic>/<partition>/<offset>`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}/{}/{}", self.topic.name(), self.partition, self.offset)
    }
}
