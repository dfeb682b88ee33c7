//! The records of a log, and the JSON lines of an export.

use std::collections::BTreeMap;

use headroom_proto::v1::{ActionRecord, Approval, Outcome, Plan, Switch, Term};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::hex;
use super::merkle::{Hash, Tree, leaf_hash};

/// The format of exports.
pub const FORMAT: u32 = 1;

/// One record of a topic, as it is a leaf of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The protobuf message: `ActionRecord`.
    pub message: String,
    /// The record's key.
    pub key: String,
    /// The message's bytes.
    pub value: Vec<u8>,
}

impl Entry {
    /// Its leaf: message and key, each on a line after the key's length, then the bytes.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        leaf_hash(&[self.head().as_slice(), self.value.as_slice()].concat())
    }

    /// What stands before the bytes in a leaf.
    pub(super) fn head(&self) -> Vec<u8> {
        format!("{}\n{}\n{}\n", self.message, self.key.len(), self.key).into_bytes()
    }

    /// The message's fields for people.
    ///
    /// # Errors
    /// When the bytes are no such message.
    pub fn fields(&self) -> Result<Value, String> {
        fn read<M: Message + Default + Serialize>(bytes: &[u8]) -> Result<Value, String> {
            let message = M::decode(bytes).map_err(|error| error.to_string())?;
            serde_json::to_value(message).map(exact).map_err(|error| error.to_string())
        }
        match self.message.as_str() {
            "ActionRecord" => read::<ActionRecord>(&self.value),
            "Switch" => read::<Switch>(&self.value),
            "Plan" => read::<Plan>(&self.value),
            "Outcome" => read::<Outcome>(&self.value),
            "Approval" => read::<Approval>(&self.value),
            "Term" => read::<Term>(&self.value),
            _ => Ok(Value::Null),
        }
    }
}

/// With numbers that are not whole as text: a reader of JSON may round them, and a line must be written again as it was.
fn exact(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::String(number.to_string()),
        Value::Array(values) => values.into_iter().map(exact).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, exact(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// A line of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Export(Header),
    /// A record.
    Record(RecordLine),
    /// A checkpoint.
    Checkpoint(CheckpointLine),
    /// The last: what was exported, signed.
    End(EndLine),
}

/// What an export is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Of these lines.
    pub format: u32,
    /// The key that verifies its checkpoints, as its maker says.
    pub key: String,
    /// Does it hold every record?
    pub complete: bool,
    /// What was asked for, in words.
    pub selection: String,
    /// How many leaves each log has.
    pub logs: BTreeMap<String, usize>,
    /// What the maker found wrong while it gathered them.
    pub problems: Vec<String>,
}

/// A record and the proof that its log holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordLine {
    /// The log.
    pub log: String,
    /// Its place there, from 0.
    pub index: usize,
    /// The protobuf message.
    pub message: String,
    /// The record's key.
    pub key: String,
    /// The fields, for people.
    pub fields: Value,
    /// The bytes, hexadecimal.
    pub bytes: String,
    /// The leaf's hash, as the checkpoints have it.
    pub leaf: String,
    /// The inclusion proof in the log's last checkpoint.
    pub proof: Vec<String>,
}

/// A checkpoint and the proof that the one before is its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointLine {
    /// The log.
    pub log: String,
    /// How many leaves it has.
    pub size: usize,
    /// The signed note.
    pub note: String,
    /// The consistency proof from the log's checkpoint before.
    pub consistency: Vec<String>,
}

/// A signed note over the lines before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndLine {
    /// The signed note; its text is that of an [`Extent`].
    pub note: String,
}

/// What an export consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// What was asked for, in words.
    pub selection: String,
    /// Lines before the end.
    pub lines: usize,
    /// SHA-256 of their bytes, hexadecimal.
    pub digest: String,
}

impl Extent {
    /// Of these lines.
    #[must_use]
    pub fn of(selection: &str, text: &str) -> Self {
        let digest = hex(&Sha256::digest(text));
        Self { selection: selection.to_owned(), lines: text.matches('\n').count(), digest }
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("headroom export\n{}\n{}\n{}\n", self.selection, self.lines, self.digest)
    }

    /// Reads such a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_prefix("headroom export\n")?.lines();
        let selection = lines.next()?.to_owned();
        Some(Self { selection, lines: lines.next()?.parse().ok()?, digest: lines.next()?.to_owned() })
    }
}

/// A log as it is exported.
#[derive(Clone, Debug, Default)]
pub struct LogView {
    /// Its name.
    pub origin: String,
    /// Its leaves, as its checkpoints have them.
    pub tree: Tree,
    /// Sizes and notes of its checkpoints, in order.
    pub checkpoints: Vec<(usize, String)>,
    /// The place of the first record that the topic still holds.
    pub first: usize,
    /// Its records from there on.
    pub entries: Vec<Entry>,
}

impl LogView {
    /// The lines of its records, those chosen, and of its checkpoints.
    pub fn lines(&self, is_chosen: impl Fn(&Entry) -> bool) -> impl Iterator<Item = Line> {
        let size = self.size();
        let chosen = (self.first..size).zip(&self.entries).filter(move |(_, entry)| is_chosen(entry));
        let records = chosen.map(move |(index, entry)| Line::Record(self.record(index, entry, size)));
        let mut before = 0;
        let checkpoints = self.checkpoints.iter().map(move |(size, note)| {
            let consistency = texts(&self.tree.consistency(before, *size).unwrap_or_default());
            before = *size;
            Line::Checkpoint(CheckpointLine { log: self.origin.clone(), size: *size, note: note.clone(), consistency })
        });
        records.chain(checkpoints)
    }

    /// How many leaves are signed.
    #[must_use]
    pub fn size(&self) -> usize {
        self.checkpoints.last().map_or(0, |(size, _)| *size)
    }

    fn record(&self, index: usize, entry: &Entry, size: usize) -> RecordLine {
        RecordLine {
            log: self.origin.clone(),
            index,
            message: entry.message.clone(),
            key: entry.key.clone(),
            fields: entry.fields().unwrap_or_default(),
            bytes: hex(&entry.value),
            leaf: hex(&self.tree.leaf(index).unwrap_or_default()),
            proof: texts(&self.tree.inclusion(index, size).unwrap_or_default()),
        }
    }
}

impl Line {
    /// As it is written, without its line break.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "texts, numbers and lists of them can be written")]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and lists of them")
    }
}

pub(super) fn texts(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(|hash| hex(hash)).collect()
}

/// Bytes of a hexadecimal text in lower case.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some(digit(*high)? << 4 | digit(*low)?) } else { None }).collect()
}

pub(super) fn unhash(text: &str) -> Option<Hash> {
    unhex(text)?.try_into().ok()
}
