//! The logs as the topics hold them: the records, and the leaves and checkpoints that were signed.

use std::collections::BTreeMap;

use headroom_actuator_decide::audit::log::{Entry, LogView};
use headroom_actuator_decide::audit::merkle::{Hash, Tree};
use headroom_actuator_decide::audit::note::Checkpoint;
use headroom_ingest_broker::{Broker, BrokerError, Received};
use headroom_proto::headers;
use headroom_proto::topics::Topic;
use headroom_proto::v1::LogCheckpoint;
use prost::Message;

/// The topics of the record.
const LOGGED: [Topic; 3] = [Topic::Actions, Topic::Plans, Topic::Outcomes];

/// What was signed of each log, by its name.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    logs: BTreeMap<String, Signed>,
}

#[derive(Debug, Default)]
struct Signed {
    tree: Tree,
    checkpoints: Vec<(usize, String)>,
    /// Where the first leaf stands, and the one that is not signed yet.
    first_offset: i64,
    next_offset: i64,
}

/// Records of one log, in order.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) origin: String,
    pub(crate) topic: Topic,
    pub(crate) partition: i32,
    pub(crate) from_offset: i64,
    pub(crate) entries: Vec<Entry>,
}

/// What was read of the logs, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) logs: Logs,
    pub(crate) held: Vec<Held>,
    /// The topics do not hold what was signed.
    pub(crate) problems: Vec<String>,
}

impl Logs {
    /// The tree of a log; empty for a new one.
    pub(crate) fn tree(&self, origin: &str) -> Tree {
        self.logs.get(origin).map(|signed| signed.tree.clone()).unwrap_or_default()
    }

    /// Takes in a checkpoint and the tree it was made of.
    pub(crate) fn take(&mut self, record: &LogCheckpoint, tree: Tree) {
        let signed = self.logs.entry(record.log.clone()).or_default();
        if signed.checkpoints.is_empty() {
            signed.first_offset = record.from_offset;
        }
        signed.next_offset = record.from_offset + i64::try_from(record.leaves.len()).unwrap_or(0);
        signed.checkpoints.push((tree.len(), record.note.clone()));
        signed.tree = tree;
    }

    /// The logs with their records, as they are exported.
    pub(crate) fn views(self, held: Vec<Held>) -> Vec<LogView> {
        let mut entries: BTreeMap<String, Held> = held.into_iter().map(|held| (held.origin.clone(), held)).collect();
        let view = |(origin, signed): (String, Signed)| {
            let held = entries.remove(&origin);
            let from = held.as_ref().map_or(signed.next_offset, |held| held.from_offset);
            let first = usize::try_from(from - signed.first_offset).unwrap_or(0);
            let entries = held.map(|held| held.entries).unwrap_or_default();
            LogView { origin, tree: signed.tree, checkpoints: signed.checkpoints, first, entries }
        };
        self.logs.into_iter().map(view).collect()
    }
}

/// Reads everything, and holds it against what was signed.
pub(crate) async fn read(broker: &Broker, name: &str) -> Result<Read, BrokerError> {
    let mut read = Read::default();
    let mut checkpoints: Vec<Received> = Vec::new();
    for (partition, low, high) in broker.ends(Topic::Checkpoints).await? {
        checkpoints.extend(broker.read(Topic::Checkpoints, partition, low..high).await?);
    }
    for topic in LOGGED {
        for (partition, low, high) in broker.ends(topic).await? {
            let records = broker.read(topic, partition, low..high).await?;
            let entries = records.iter().map(entry).collect();
            read.held.push(Held {
                origin: origin(name, topic, partition),
                topic,
                partition,
                from_offset: low,
                entries,
            });
        }
    }
    for record in &checkpoints {
        match LogCheckpoint::decode(&*record.value) {
            Ok(checkpoint) => read.add(&checkpoint, &record.origin()),
            Err(error) => read.problems.push(format!("{} cannot be read: {error}", record.origin())),
        }
    }
    Ok(read)
}

impl Read {
    /// The first record that is not what was signed, or that is missing.
    pub(crate) fn unlike(&self) -> Option<String> {
        self.logs.logs.iter().find_map(|(origin, signed)| {
            let held = self.held.iter().find(|held| held.origin == *origin);
            let Some(held) = held else { return Some(format!("the topic of {origin} is gone")) };
            let first = usize::try_from(held.from_offset - signed.first_offset).unwrap_or(0);
            let leaves = held.entries.iter().map(Entry::leaf).map(Some).chain(std::iter::repeat(None));
            let mut pairs = (first..signed.tree.len()).zip(leaves);
            let (index, leaf) = pairs.find(|(index, leaf)| signed.tree.leaf(*index) != *leaf)?;
            let what = if leaf.is_none() { "is missing" } else { "is not what was signed" };
            let offset = signed.first_offset + i64::try_from(index).unwrap_or(0);
            Some(format!("record {index} of {origin}, {}/{}/{offset}, {what}", held.topic.name(), held.partition))
        })
    }

    /// Adds a checkpoint: its leaves as they were published or, when these do not give the signed root, as the topic has
    /// them.
    fn add(&mut self, checkpoint: &LogCheckpoint, at: &str) {
        let mut problem = |what: String| self.problems.push(format!("checkpoint {at} of {}: {what}", checkpoint.log));
        let text = checkpoint.note.rsplit_once("\n\n").map(|(text, _)| text).unwrap_or_default();
        let Ok(signed) = Checkpoint::parse(text) else { return problem("its note is no checkpoint".to_owned()) };
        let known = self.logs.tree(&checkpoint.log);
        let from = usize::try_from(checkpoint.from_index).unwrap_or(usize::MAX);
        if from > known.len() {
            return problem(format!("it begins at record {from}, behind record {} of the one before", known.len()));
        }
        let held = self.held.iter().find(|held| held.origin == checkpoint.log);
        let of_topic = |place: usize| -> Option<Hash> {
            let offset = checkpoint.from_offset + i64::try_from(place).ok()?;
            let place = usize::try_from(offset - held?.from_offset).ok()?;
            held?.entries.get(place).map(Entry::leaf)
        };
        let published =
            |place: usize| checkpoint.leaves.get(place).and_then(|leaf| Hash::try_from(leaf.as_slice()).ok());
        let count = signed.size.saturating_sub(from);
        let mut whole = None;
        for leaves in [&published as &dyn Fn(usize) -> Option<Hash>, &of_topic] {
            let mut tree = known.clone();
            let is_same = (0..count).all(|place| match (leaves(place), tree.leaf(from + place)) {
                (Some(leaf), Some(known)) => leaf == known,
                (Some(leaf), None) => {
                    tree.push(leaf);
                    true
                }
                (None, _) => false,
            });
            if is_same && tree.root(signed.size) == Some(signed.root) {
                whole = Some(tree);
                break;
            }
        }
        let Some(tree) = whole else {
            return problem(format!(
                "neither its leaves nor the topic's records from {from} on have the root it signs"
            ));
        };
        let other = (0..count).find(|place| published(*place) != tree.leaf(from + place));
        if let Some(other) = other.filter(|_| checkpoint.leaves.len() == count) {
            problem(format!("the leaf it publishes for record {} is not the one it signs", from + other));
        } else if checkpoint.leaves.len() != count {
            problem(format!("it publishes {} leaves and signs {count}", checkpoint.leaves.len()));
        }
        self.logs.take(checkpoint, tree);
    }
}

/// What is not signed yet, by log.
pub(crate) async fn new_records(broker: &Broker, logs: &Logs, name: &str) -> Result<Vec<Held>, BrokerError> {
    let mut found = Vec::new();
    for topic in LOGGED {
        for (partition, low, high) in broker.ends(topic).await? {
            let origin = origin(name, topic, partition);
            let signed = logs.logs.get(&origin).filter(|signed| !signed.tree.is_empty());
            let from = signed.map_or(low, |signed| signed.next_offset);
            if from >= high {
                continue;
            }
            let records = broker.read(topic, partition, from..high).await?;
            let entries = records.iter().map(entry).collect();
            found.push(Held { origin, topic, partition, from_offset: from, entries });
        }
    }
    Ok(found)
}

fn entry(record: &Received) -> Entry {
    Entry {
        message: record.header(headers::MESSAGE).unwrap_or_default().to_owned(),
        key: record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned(),
        value: record.value.to_vec(),
    }
}

/// A log's name: `headroom/actions/0`.
fn origin(name: &str, topic: Topic, partition: i32) -> String {
    let topic = topic.name();
    format!("{name}/{}/{partition}", topic.rsplit('.').next().unwrap_or(topic))
}
