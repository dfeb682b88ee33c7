//! Reads what the forecaster learns from, in an order that cannot look ahead or miss a signal.

use std::sync::Arc;
use std::time::Duration;

use headroom_ingest_broker::{Broker, BrokerError, Consumer, Received, Start};
use headroom_proto::topics::Topic;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::positions::Positions;
use crate::recovery::Ends;

/// The group under which the advisory commits stand.
const GROUP: &str = "headroom-forecaster";

const INPUTS: [Topic; 2] = [Topic::Windows, Topic::Outcomes];
const POLL_WAIT: Duration = Duration::from_millis(500);
const RETRY_WAIT: Duration = Duration::from_secs(1);
const SIGNALS_PATIENCE: Duration = Duration::from_secs(30);
/// Batches read ahead of the one that is being handled.
const BATCHES_AHEAD: usize = 2;

/// What one turn of reading brought. The signals are to be handled first: they hold everything that was announced
/// when the records were read.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) signals: Vec<Received>,
    pub(crate) records: Vec<Received>,
}

/// The reader of windows, outcomes and signals.
#[derive(Debug)]
pub(crate) struct Intake {
    broker: Broker,
    inputs: Arc<Consumer>,
    signals: Consumer,
    next_signal: i64,
    /// An end of the signals that was waited for in vain.
    beyond_reach: i64,
    max_records: usize,
}

impl Intake {
    /// Starts behind what `positions` has seen, at the first kept record where it has seen nothing.
    pub(crate) async fn open(
        broker: &Broker,
        ends: &Ends,
        positions: &Positions,
        max_records: usize,
    ) -> Result<Self, BrokerError> {
        let inputs = broker.consumer(GROUP)?;
        inputs.assign(&INPUTS.into_iter().flat_map(|topic| starts(ends, positions, topic)).collect::<Vec<_>>()).await?;
        let signals = broker.consumer(GROUP)?;
        let signal_starts = starts(ends, positions, Topic::Signals);
        signals.assign(&signal_starts).await?;
        let next_signal = match signal_starts.first() {
            Some((_, _, Start::Offset(next))) => *next,
            _ => 0,
        };
        Ok(Self {
            broker: broker.clone(),
            inputs: Arc::new(inputs),
            signals,
            next_signal,
            beyond_reach: -1,
            max_records,
        })
    }

    /// Reads until told to stop or the first error, which is the last thing it sends. The consumer is for commits.
    pub(crate) fn spawn(
        mut self,
        shutdown: CancellationToken,
    ) -> (mpsc::Receiver<Result<Batch, BrokerError>>, Arc<Consumer>) {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let inputs = Arc::clone(&self.inputs);
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    () = shutdown.cancelled() => return,
                    batch = self.next() => batch,
                };
                let last = batch.is_err();
                if sender.send(batch).await.is_err() || last {
                    return;
                }
            }
        });
        (receiver, inputs)
    }

    async fn next(&mut self) -> Result<Batch, BrokerError> {
        loop {
            let records = self.inputs.poll(self.max_records, POLL_WAIT).await?;
            let signals = if records.iter().any(|record| record.topic == Topic::Windows) {
                self.announced().await?
            } else {
                Vec::new()
            };
            if !records.is_empty() {
                return Ok(Batch { signals, records });
            }
        }
    }

    /// The signals up to the end that their topic has now. An end that no record reaches, such as the marker of a
    /// stranger's transaction, is waited for once.
    async fn announced(&mut self) -> Result<Vec<Received>, BrokerError> {
        let (low, high) = self.signal_ends().await?;
        self.next_signal = self.next_signal.max(low);
        let deadline = Instant::now() + SIGNALS_PATIENCE;
        let mut signals = Vec::new();
        while self.next_signal < high {
            let given_up = self.beyond_reach == high;
            let wait = if given_up { Duration::ZERO } else { POLL_WAIT };
            let received = self.signals.poll(self.max_records, wait).await?;
            if received.is_empty() && given_up {
                break;
            }
            self.next_signal = received.last().map_or(self.next_signal, |last| last.offset.saturating_add(1));
            signals.extend(received);
            if Instant::now() > deadline && self.next_signal < high {
                tracing::warn!(next = self.next_signal, high, "the last signals do not come: going on without them");
                self.beyond_reach = high;
            }
        }
        Ok(signals)
    }

    async fn signal_ends(&self) -> Result<(i64, i64), BrokerError> {
        loop {
            match self.broker.ends(Topic::Signals).await {
                Ok(ends) => return Ok(ends.first().map_or((0, 0), |(_, low, high)| (*low, *high))),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "cannot see the end of the signals, trying again");
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Where to begin in each partition.
fn starts(ends: &Ends, positions: &Positions, topic: Topic) -> Vec<(Topic, i32, Start)> {
    let start = |(partition, low, _): &(i32, i64, i64)| {
        let next = positions.next(topic.name(), *partition).unwrap_or(*low);
        if next < *low {
            tracing::warn!(
                topic = topic.name(),
                partition,
                next,
                low,
                "records are gone from the topic: a gap remains"
            );
        }
        (topic, *partition, Start::Offset(next.max(*low)))
    };
    ends.of(topic).iter().map(start).collect()
}
