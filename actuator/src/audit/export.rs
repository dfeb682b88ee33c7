//! The lines of an export.

use std::collections::BTreeMap;

use headroom_actuator_decide::audit::log::{EndLine, Entry, Extent, FORMAT, Header, Line};
use headroom_actuator_decide::audit::note::Signer;
use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, AuditExportRequest, Outcome, Plan, Switch};
use prost::Message;

use crate::notary::Read;

/// Bytes of lines that travel together.
const CHUNK_BYTES: usize = 256 * 1024;

/// What was asked for.
struct Selection {
    workload: String,
    since_us: i64,
    until_us: i64,
    /// First and last move of each workload within that time: what lies between is chosen with them.
    spans: BTreeMap<String, (u64, u64)>,
}

/// The export, in pieces.
pub(crate) fn chunks(read: Read, request: &AuditExportRequest, signer: &Signer) -> Vec<String> {
    let until_us = if request.until_us == 0 { i64::MAX } else { request.until_us };
    let (workload, since_us) = (request.workload.clone(), request.since_us);
    let mut selection = Selection { workload, since_us, until_us, spans: BTreeMap::new() };
    selection.measure(read.held.iter().flat_map(|held| &held.entries));
    let problems = read.problems;
    let logs = read.logs.views(read.held);
    let header = Header {
        format: FORMAT,
        key: signer.verifier().to_string(),
        complete: selection.is_all() && logs.iter().all(|log| log.first == 0),
        selection: selection.words(),
        logs: logs.iter().map(|log| (log.origin.clone(), log.size())).collect(),
        problems,
    };
    let words = header.selection.clone();
    let mut chunks = vec![Line::Export(header).text() + "\n"];
    for log in &logs {
        for line in log.lines(|entry| selection.holds(entry)) {
            match chunks.last_mut().filter(|chunk| chunk.len() < CHUNK_BYTES) {
                Some(chunk) => *chunk += &line.text(),
                None => chunks.push(line.text()),
            }
            if let Some(chunk) = chunks.last_mut() {
                chunk.push('\n');
            }
        }
    }
    let end = EndLine { note: signer.sign(&Extent::of(&words, &chunks.concat()).text()) };
    chunks.push(Line::End(end).text() + "\n");
    chunks
}

impl Selection {
    fn is_all(&self) -> bool {
        self.workload.is_empty() && self.since_us == 0 && self.until_us == i64::MAX
    }

    fn words(&self) -> String {
        let mut words = Vec::new();
        if !self.workload.is_empty() {
            words.push(format!("of {}", self.workload));
        }
        if self.since_us != 0 {
            words.push(format!("since {}", EventTime::from_micros(self.since_us)));
        }
        if self.until_us != i64::MAX {
            words.push(format!("until {}", EventTime::from_micros(self.until_us)));
        }
        if words.is_empty() { "everything".to_owned() } else { words.join(" ") }
    }

    /// A part of a chain has no gaps.
    fn measure<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) {
        for entry in entries.filter(|entry| entry.message == "ActionRecord") {
            let Ok(action) = ActionRecord::decode(entry.value.as_slice()) else { continue };
            if self.is_within(action.at_us) {
                let span = self.spans.entry(action.workload).or_insert((action.sequence, action.sequence));
                *span = (span.0.min(action.sequence), span.1.max(action.sequence));
            }
        }
    }

    fn is_within(&self, at_us: i64) -> bool {
        (self.since_us..=self.until_us).contains(&at_us) || self.since_us == 0 && at_us <= self.until_us
    }

    /// A switch of all workloads concerns each of them.
    fn holds(&self, entry: &Entry) -> bool {
        if !self.workload.is_empty() && entry.key != self.workload && !entry.key.is_empty() {
            return false;
        }
        let bytes = entry.value.as_slice();
        let at_us = match entry.message.as_str() {
            "ActionRecord" => {
                let Ok(action) = ActionRecord::decode(bytes) else { return true };
                let span = self.spans.get(&action.workload);
                return span.is_some_and(|(first, last)| (*first..=*last).contains(&action.sequence));
            }
            "Switch" => Switch::decode(bytes).map(|switch| switch.at_us),
            "Plan" => Plan::decode(bytes).map(|plan| plan.decided_at_us),
            "Outcome" => Outcome::decode(bytes).map(|outcome| outcome.measured_to_us),
            _ => return true,
        };
        // What cannot be read is shown, that it may be found.
        at_us.map_or(true, |at_us| self.is_within(at_us))
    }
}
