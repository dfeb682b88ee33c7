//! Records against the leaves of their log.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet};

use super::chain::Chain;
use super::{LogLines, Numbered, Report};
use crate::audit::locate::{ChangedByte, changed_byte, difference};
use crate::audit::log::{Entry, Line, RecordLine, texts, unhash, unhex};
use crate::audit::merkle::{Hash, Tree, is_included};
use crate::audit::note::Checkpoint;

/// How many records of a log are searched for the byte that was changed.
const MAX_SEARCHES: usize = 20;
/// The messages of the topics that are logged.
const MESSAGES: [&str; 5] = ["ActionRecord", "Switch", "Plan", "Outcome", "Approval"];

/// A log as its lines tell it.
pub(super) struct Log<'a> {
    pub(super) origin: &'a str,
    pub(super) lines: &'a LogLines<'a>,
    is_complete: bool,
    tree: OnceCell<Option<Tree>>,
    /// Where each leaf stands that a line states.
    stated: OnceCell<BTreeMap<Hash, usize>>,
    searches: Cell<usize>,
}

impl<'a> Log<'a> {
    pub(super) fn new(origin: &'a str, lines: &'a LogLines<'a>, is_complete: bool) -> Self {
        let (tree, stated) = (OnceCell::new(), OnceCell::new());
        Self { origin, lines, is_complete, tree, stated, searches: Cell::new(MAX_SEARCHES) }
    }

    /// The tree over the records' own bytes, of an export that holds them all, in order.
    pub(super) fn tree(&self) -> Option<&Tree> {
        let whole = || {
            let mut tree = Tree::default();
            for (at, numbered) in self.lines.records.iter().enumerate() {
                if numbered.line.index != at {
                    return None;
                }
                tree.push(entry(&numbered.line)?.leaf());
            }
            Some(tree)
        };
        self.tree.get_or_init(|| if self.is_complete { whole() } else { None }).as_ref()
    }

    /// The place of the record that has this leaf.
    fn place_of(&self, leaf: &Hash) -> Option<usize> {
        let pairs = || self.lines.records.iter().filter_map(|line| Some((unhash(&line.line.leaf)?, line.line.index)));
        self.stated.get_or_init(|| pairs().collect()).get(leaf).copied()
    }

    /// Looks for the byte that was changed, if that was not done too often.
    fn search(&self, entry: &Entry, leaf: &Hash) -> Option<(ChangedByte, Entry)> {
        self.searches.set(self.searches.get().checked_sub(1)?);
        changed_byte(entry, leaf)
    }

    pub(super) fn root(&self, size: usize) -> Option<Hash> {
        self.tree().and_then(|tree| tree.root(size))
    }
}

fn entry(line: &RecordLine) -> Option<Entry> {
    Some(Entry { message: line.message.clone(), key: line.key.clone(), value: unhex(&line.bytes)? })
}

/// Checks every record of a log, and that none is missing or out of its place.
pub(super) fn check(log: &Log<'_>, last: Option<&Checkpoint>, chain: &mut Chain, report: &mut Report) {
    let mut seen = BTreeSet::new();
    chain.begin();
    for numbered in &log.lines.records {
        let place = named(log, numbered);
        if let Some(larger) = seen.last().copied().filter(|larger| *larger >= numbered.line.index) {
            let problem = format!("it stands behind record {larger}: moved, swapped or repeated");
            report.find(numbered.number, &place, problem);
        }
        seen.insert(numbered.line.index);
        let before = report.findings.len();
        let holds = last.map(|last| judge(log, numbered, last, report));
        let is_clean = report.findings.len() == before;
        match holds {
            Some(Some(held)) => {
                report.records += usize::from(is_clean);
                chain.follow(numbered.number, &place, &held, report);
            }
            Some(None) => chain.lose(&numbered.line.key),
            None => report.find(numbered.number, &place, "no valid checkpoint covers it".to_owned()),
        }
    }
    if log.is_complete {
        missing(log, &seen, last.map_or(0, |last| last.size), report);
    }
}

fn named(log: &Log<'_>, numbered: &Numbered<'_, RecordLine>) -> String {
    let line = &numbered.line;
    let field = |name: &str| line.fields.get(name).map(ToString::to_string).unwrap_or_default();
    let which = match line.message.as_str() {
        "ActionRecord" => format!(" (move {} of {}, action {})", field("sequence"), line.key, field("action_id")),
        _ => format!(" ({} of {})", line.message, line.key),
    };
    format!("record {} of {}{which}", line.index, log.origin)
}

fn missing(log: &Log<'_>, seen: &BTreeSet<usize>, size: usize, report: &mut Report) {
    let gaps: Vec<usize> = (0..size).filter(|index| !seen.contains(index)).collect();
    for gap in gaps.chunk_by(|a, b| a + 1 == *b) {
        let (Some(first), Some(end)) = (gap.first(), gap.last()) else { continue };
        let which = if first == end { format!("record {first}") } else { format!("records {first} to {end}") };
        let cut = if end + 1 == size { ", at the end" } else { "" };
        let problem = format!("missing{cut}: a signed checkpoint of size {size} covers them");
        report.find(0, &format!("{which} of {}", log.origin), problem);
    }
}

/// The record as the log has it, when that is known; what differs is found.
fn judge(log: &Log<'_>, numbered: &Numbered<'_, RecordLine>, last: &Checkpoint, report: &mut Report) -> Option<Entry> {
    let line = &numbered.line;
    let place = named(log, numbered);
    let mut find = |part: &str, problem: String| report.find(numbered.number, &format!("{place}, in {part}"), problem);
    let proof: Option<Vec<Hash>> = line.proof.iter().map(|hash| unhash(hash)).collect();
    let is_in =
        |leaf: &Hash| proof.as_ref().is_some_and(|proof| is_included(leaf, line.index, last.size, proof, &last.root));
    let stated = unhash(&line.leaf);
    let Some(found) = entry(line) else {
        find("`bytes`", "they are not hexadecimal".to_owned());
        return None;
    };
    let own = found.leaf();
    let proven = |leaf: &Hash| is_in(leaf) || log.root(last.size) == Some(last.root);
    if proven(&own) {
        let expected = expected(log, numbered, &found, last.size, is_in(&own));
        if let Some((at, part)) = difference(numbered.raw, &expected) {
            let problem = format!("byte {} of the line is not as its bytes and the signed root have it", at + 1);
            find(&part, problem);
        }
        return Some(found);
    }
    let Some(leaf) = stated.filter(is_in) else {
        let of = |index: &usize| proof.as_ref().is_some_and(|p| is_included(&own, *index, last.size, p, &last.root));
        if let Some(was) = (0..last.size).find(of) {
            find("`index`", format!("it is {}, it was {was}", line.index));
            return Some(found);
        }
        find("the whole", "it is not what the log holds in this place, or its proof was changed with it".to_owned());
        return None;
    };
    for message in MESSAGES {
        let other = Entry { message: message.to_owned(), ..found.clone() };
        if other.leaf() == leaf {
            find("`message`", format!("it is `{}`, it was `{message}`", found.message));
            return Some(other);
        }
    }
    if let Some(key) = line.fields.get("workload").and_then(|name| name.as_str()) {
        let other = Entry { key: key.to_owned(), ..found.clone() };
        if other.leaf() == leaf {
            find("`key`", format!("it is `{}`, it was `{key}`", found.key));
            return Some(other);
        }
    }
    if let Some(other) = log.place_of(&own).filter(|other| *other != line.index) {
        find("the whole", format!("it is record {other}: one was removed, added or moved before it"));
        return None;
    }
    if let Some((byte, was)) = log.search(&found, &leaf) {
        let part = format!("field `{}`, byte {} of {}", byte.field, byte.offset, found.value.len());
        find(&part, format!("it is {:#04x}, it was {:#04x}", byte.found, byte.was));
        return Some(was);
    }
    find(&differing(line, &found), "its bytes are not those of its leaf in the log".to_owned());
    None
}

/// The line as it was written, given what the record is.
fn expected(log: &Log<'_>, numbered: &Numbered<'_, RecordLine>, entry: &Entry, size: usize, is_proven: bool) -> String {
    let line = &numbered.line;
    let from_tree = || log.tree().and_then(|tree| tree.inclusion(line.index, size)).map(|proof| texts(&proof));
    let proof = if is_proven { None } else { from_tree() };
    let whole = RecordLine {
        fields: entry.fields().unwrap_or_default(),
        leaf: crate::audit::hex(&entry.leaf()),
        proof: proof.unwrap_or_else(|| line.proof.clone()),
        ..line.clone()
    };
    Line::Record(whole).text()
}

/// The fields whose copy for people is another than the bytes say.
fn differing(line: &RecordLine, found: &Entry) -> String {
    let Ok(fields) = found.fields() else { return "`bytes`, which are no such message".to_owned() };
    let (Some(told), Some(fields)) = (line.fields.as_object(), fields.as_object()) else { return "`bytes`".to_owned() };
    let other =
        fields.iter().filter(|(name, value)| told.get(*name) != Some(value)).map(|(name, _)| format!("`{name}`"));
    let names: Vec<String> = other.collect();
    if names.is_empty() { "`bytes`".to_owned() } else { format!("the fields {}", names.join(", ")) }
}
