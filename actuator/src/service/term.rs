//! Who acts: one actuator at a time, for a term.
//!
//! A term begins with a record on every partition of the actions topic. From that record on moves of earlier terms do not
//! count there, whoever wrote them: every reader drops them by the order of the log, so the record cannot fork. Before an
//! effect an actuator reads the topic to its end: its intent counts only if no newer term began before it.

use std::collections::BTreeMap;
use std::time::Duration;

use headroom_actuator_decide::audit::succession::Succession;
use headroom_ingest_broker::{Broker, BrokerError, Consumer, Producer, Received, Start};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Switch, Term as TermRecord};
use headroom_proto::{EventTime, headers};
use prost::Message;

use super::Work;
use crate::{ActuatorError, journal};

const POLL: Duration = Duration::from_millis(200);
const MAX_RECORDS: usize = 1_000;
/// Which of several that begin at once has the term is settled here.
const FIRST: i32 = 0;

/// The term of this actuator, and how far it has read the topic.
pub(super) struct Term {
    pub(super) number: u64,
    reader: Reader,
}

/// Reads the actions topic on.
pub(super) struct Reader {
    broker: Broker,
    consumer: Consumer,
    /// The offset behind the last record read, by partition.
    next: BTreeMap<i32, i64>,
}

/// Which moves count, by partition.
#[derive(Debug, Default)]
pub(crate) struct Successions(BTreeMap<i32, Succession>);

impl Reader {
    /// From the first record on.
    pub(super) async fn open(broker: &Broker) -> Result<Self, BrokerError> {
        let ends = broker.ends(Topic::Actions).await?;
        let consumer = broker.consumer("headroom-actuate-term")?;
        let parts: Vec<_> = ends.iter().map(|(number, _, _)| (Topic::Actions, *number, Start::Earliest)).collect();
        consumer.assign(&parts).await?;
        let next = ends.iter().map(|(number, low, _)| (*number, *low)).collect();
        Ok(Self { broker: broker.clone(), consumer, next })
    }

    /// Everything up to the end that the topic has now.
    pub(super) async fn read_to_end(&mut self) -> Result<Vec<Received>, BrokerError> {
        let ends = self.broker.ends(Topic::Actions).await?;
        let mut records = Vec::new();
        while ends.iter().any(|(number, low, high)| low < high && self.next.get(number).is_none_or(|n| n < high)) {
            records.extend(self.poll(POLL).await?);
        }
        Ok(records)
    }

    async fn poll(&mut self, wait: Duration) -> Result<Vec<Received>, BrokerError> {
        let records = self.consumer.poll(MAX_RECORDS, wait).await?;
        for record in &records {
            self.next.insert(record.partition, record.offset + 1);
        }
        Ok(records)
    }
}

impl Term {
    /// Begins the next term. Gives every record of the topic up to then.
    pub(super) async fn begin(
        broker: &Broker,
        producer: &Producer,
        holder: &str,
        at: EventTime,
    ) -> Result<(Self, Vec<Received>), ActuatorError> {
        let mut reader = Reader::open(broker).await?;
        let mut records = reader.read_to_end().await?;
        // A replay that has not begun stands before every time.
        let at = records.iter().filter_map(|record| record.time).max().map_or(at, |newest| newest.max(at));
        let record = |term| TermRecord { term, holder: holder.to_owned(), at_us: at.micros().max(0) };
        let number = loop {
            let number = newest(&records).map_or(0, |term| term.term) + 1;
            let offset = producer.send(journal::term(&record(number), FIRST)).await?.await?;
            let more = reader.read_to_end().await?;
            let is_before = |other: &Received| other.partition == FIRST && other.offset < offset;
            let is_taken = more.iter().filter(|other| is_before(other)).filter_map(term_of).any(|t| t.term >= number);
            records.extend(more);
            if !is_taken {
                break number;
            }
        };
        let others: Vec<i32> = reader.next.keys().copied().filter(|partition| *partition != FIRST).collect();
        let terms = others.into_iter().map(|partition| journal::term(&record(number), partition)).collect();
        producer.send_all(terms).await?;
        records.extend(reader.read_to_end().await?);
        Ok((Self { number, reader }, records))
    }

    /// Reads to the end: with this, what was written and acknowledged before counts.
    async fn confirm(&mut self) -> Result<Vec<Received>, ActuatorError> {
        let records = self.reader.read_to_end().await?;
        self.check(records)
    }

    /// What has come meanwhile.
    async fn look(&mut self) -> Result<Vec<Received>, ActuatorError> {
        let records = self.reader.poll(Duration::ZERO).await?;
        self.check(records)
    }

    fn check(&self, records: Vec<Received>) -> Result<Vec<Received>, ActuatorError> {
        match records.iter().filter_map(term_of).find(|term| term.term > self.number) {
            Some(newer) => Err(ActuatorError::Succeeded { by: newer.holder }),
            None => Ok(records),
        }
    }
}

impl Successions {
    /// Does a record count, by those before it in its partition? `term` is that of a move.
    pub(crate) fn counts(&self, record: &Received, term: u64) -> bool {
        self.0.get(&record.partition).is_none_or(|succession| succession.counts(term))
    }

    /// Takes in a record that begins a term; whether it is one.
    pub(crate) fn take(&mut self, record: &Received) -> bool {
        let Some(term) = term_of(record) else { return false };
        self.0.entry(record.partition).or_default().begin(term.term);
        true
    }
}

impl Work {
    /// Is this still the actuator that acts? Asked before an effect, once its intent is acknowledged.
    pub(super) async fn confirm_term(&mut self) -> Result<(), ActuatorError> {
        let records = self.term.confirm().await?;
        self.hear(&records);
        Ok(())
    }

    /// Hears what others have written: a newer term, and stops that were told to an actuator that stands by.
    pub(super) async fn listen(&mut self) -> Result<(), ActuatorError> {
        let records = self.term.look().await?;
        self.hear(&records);
        Ok(())
    }

    fn hear(&mut self, records: &[Received]) {
        for record in records {
            let is_ours = record.header(headers::WRITER) == Some(self.board.holder());
            if is_ours || record.header(headers::MESSAGE) != Some("Switch") {
                continue;
            }
            if let Ok(switch) = Switch::decode(&*record.value) {
                self.replay_switch(&switch);
                self.board.hear(switch);
            }
        }
    }
}

/// The record of the newest term among these.
pub(super) fn newest(records: &[Received]) -> Option<TermRecord> {
    records.iter().filter_map(term_of).max_by_key(|term| term.term)
}

fn term_of(record: &Received) -> Option<TermRecord> {
    let is_term = record.header(headers::MESSAGE) == Some("Term");
    is_term.then(|| TermRecord::decode(&*record.value).ok()).flatten()
}
