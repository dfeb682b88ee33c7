//! The notary: makes Merkle logs of what is on the topics of the record, and signs checkpoints of them.
//!
//! It reads back what the broker holds, whoever wrote it. A log is one partition of one topic, so that its order is the
//! partition's: two notaries make the same log, and anyone can make it anew from the topic.

mod key;
mod logs;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use headroom_actuator_decide::audit::note::{Checkpoint, Signer};
use headroom_ingest_broker::{Broker, Producer, Record};
use headroom_proto::headers;
use headroom_proto::time::{Span, span_text};
use headroom_proto::topics::Topic;
use headroom_proto::v1::LogCheckpoint;
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ActuatorError;
use logs::Logs;
pub(crate) use logs::{Read, read};

/// How often the notary looks whether a checkpoint is due.
const LOOK: Duration = Duration::from_secs(1);
const MAX_REQUESTS: usize = 16;

/// Settings of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// The key that signs checkpoints, made when it is missing; in the data folder unless given. Actuators that stand by
    /// for each other need the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name of the key and of the logs; other programs tell our checkpoints from others by it.
    pub name: String,
    /// A checkpoint is signed after so many records.
    pub every_records: usize,
    /// A record waits at most so long for a checkpoint, in wall time.
    #[serde(with = "span_text")]
    pub every: Span,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { key_file: None, name: "headroom".to_owned(), every_records: 100, every: Span::from_mins(1) }
    }
}

impl AuditConfig {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.name.is_empty() || self.name.contains('+') || self.name.contains(char::is_whitespace) {
            problems.push("audit: `name` must not be empty nor hold white space or `+`".to_owned());
        }
        if self.every_records == 0 || self.every.micros() <= 0 {
            problems.push("audit: `every_records` and `every` must be positive".to_owned());
        }
        problems
    }
}

/// Asks the notary for a checkpoint now; tells of the records that were written.
#[derive(Clone, Debug)]
pub(crate) struct NotaryHandle {
    requests: mpsc::Sender<oneshot::Sender<()>>,
    written: Arc<AtomicUsize>,
    acts: Arc<AtomicBool>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) name: String,
}

impl NotaryHandle {
    /// So many records were written.
    pub(crate) fn wrote(&self, records: usize) {
        self.written.fetch_add(records, Ordering::Relaxed);
    }

    /// Whether its actuator acts; one that stands by signs nothing.
    pub(crate) fn acts(&self, acts: bool) {
        self.acts.store(acts, Ordering::Relaxed);
    }

    /// Returns when everything that is on the topics is covered by a checkpoint; none when the notary has ended.
    pub(crate) async fn catch_up(&self) -> Option<()> {
        let (reply, done) = oneshot::channel();
        self.requests.send(reply).await.ok()?;
        done.await.ok()
    }
}

/// The notary.
pub(crate) struct Notary {
    config: AuditConfig,
    broker: Broker,
    signer: Arc<Signer>,
    logs: Logs,
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    written: Arc<AtomicUsize>,
    acts: Arc<AtomicBool>,
    /// Another may have signed since.
    is_behind: bool,
}

impl Notary {
    /// A notary with its key; none when no key file is named.
    pub(crate) fn new(config: &AuditConfig, broker: &Broker) -> Result<Option<(Self, NotaryHandle)>, ActuatorError> {
        let Some(path) = &config.key_file else { return Ok(None) };
        let signer = Arc::new(key::load_or_make(path, &config.name)?);
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let handle = NotaryHandle {
            requests: sender,
            written: Arc::default(),
            acts: Arc::new(AtomicBool::new(true)),
            signer: Arc::clone(&signer),
            name: config.name.clone(),
        };
        let (written, acts) = (Arc::clone(&handle.written), Arc::clone(&handle.acts));
        let (config, broker, logs) = (config.clone(), broker.clone(), Logs::default());
        let notary = Self { config, broker, signer, logs, requests, written, acts, is_behind: false };
        Ok(Some((notary, handle)))
    }

    /// Takes in what was signed before.
    ///
    /// # Errors
    /// When the topics do not hold what was signed.
    pub(crate) async fn open(&mut self) -> Result<(), ActuatorError> {
        let read = read(&self.broker, &self.config.name).await?;
        if let Some(problem) = read.problems.first().cloned().or_else(|| read.unlike()) {
            return Err(ActuatorError::Log(problem));
        }
        self.logs = read.logs;
        Ok(())
    }

    /// Signs until it is told to stop, and once more then.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), ActuatorError> {
        let producer = self.broker.producer()?;
        let every = Duration::from_micros(self.config.every.micros().unsigned_abs());
        let mut ticks = tokio::time::interval(LOOK);
        // What a crash has left is covered at once.
        self.cover(&producer).await;
        let mut last = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(reply) = self.requests.recv() => {
                    self.cover(&producer).await;
                    last = Instant::now();
                    let _whether_anyone_waits = reply.send(());
                }
                _ = ticks.tick() => {
                    let written = self.written.load(Ordering::Relaxed);
                    // Others may have written too.
                    if written >= self.config.every_records || last.elapsed() >= every {
                        self.cover(&producer).await;
                        last = Instant::now();
                    }
                }
            }
        }
        self.cover(&producer).await;
        Ok(())
    }

    /// Signs what is new. A broker that fails is asked again the next time; the loop's own writes tell of it.
    async fn cover(&mut self, producer: &Producer) {
        let written = self.written.swap(0, Ordering::Relaxed);
        if let Err(error) = self.checkpoint(producer).await {
            self.written.fetch_add(written.max(1), Ordering::Relaxed);
            tracing::warn!(%error, "no checkpoint could be signed");
        }
    }

    async fn checkpoint(&mut self, producer: &Producer) -> Result<(), ActuatorError> {
        if !self.acts.load(Ordering::Relaxed) {
            self.is_behind = true;
            return Ok(());
        }
        if self.is_behind {
            self.open().await?;
            self.is_behind = false;
        }
        for held in logs::new_records(&self.broker, &self.logs, &self.config.name).await? {
            let mut tree = self.logs.tree(&held.origin);
            let from_index = tree.len();
            let leaves: Vec<Vec<u8>> = held.entries.iter().map(|entry| entry.leaf().to_vec()).collect();
            held.entries.iter().for_each(|entry| tree.push(entry.leaf()));
            let size = tree.len();
            let Some(root) = tree.root(size) else { continue };
            let checkpoint = Checkpoint { origin: held.origin.clone(), size, root };
            let record = LogCheckpoint {
                log: held.origin.clone(),
                topic: held.topic.name().to_owned(),
                partition: held.partition,
                from_index: u64::try_from(from_index).unwrap_or(u64::MAX),
                from_offset: held.from_offset,
                leaves,
                note: self.signer.sign(&checkpoint.text()),
            };
            producer.send_all(vec![published(&record)]).await?;
            self.logs.take(&record, tree);
            tracing::debug!(log = held.origin, size, "checkpoint signed");
        }
        Ok(())
    }
}

fn published(checkpoint: &LogCheckpoint) -> Record {
    Record::new(Topic::Checkpoints, checkpoint.encode_to_vec())
        .key(checkpoint.log.clone())
        .header(headers::MESSAGE, "LogCheckpoint")
}
