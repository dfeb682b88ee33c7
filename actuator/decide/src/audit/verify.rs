//! Verifies an export: each record against its log's signed root, the chains, the legal moves, the order, and that each
//! checkpoint continues the one before. What does not hold is located.

mod chain;
mod checkpoints;
mod records;

use std::collections::BTreeMap;
use std::fmt;

use super::locate::difference;
use super::log::{CheckpointLine, EndLine, Extent, FORMAT, Header, Line, RecordLine};
use super::note::Verifier;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the export, from 1; 0 is the whole.
    pub line: usize,
    /// The record or checkpoint, and the part of it.
    pub place: String,
    /// What does not hold.
    pub problem: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that hold.
    pub records: usize,
    /// Checkpoints that hold.
    pub checkpoints: usize,
    /// The size that is signed last, by log.
    pub logs: BTreeMap<String, usize>,
    /// Workloads whose chain was followed.
    pub workloads: usize,
    /// Does the export claim to hold every record?
    pub is_complete: bool,
    /// The key that the signatures were held against.
    pub key: String,
    /// What does not hold; empty when all does.
    pub findings: Vec<Finding>,
}

/// A line and its number.
struct Numbered<'a, T> {
    number: usize,
    raw: &'a str,
    line: T,
}

type End<'a> = Numbered<'a, EndLine>;

/// The lines of one log.
#[derive(Default)]
struct LogLines<'a> {
    records: Vec<Numbered<'a, RecordLine>>,
    checkpoints: Vec<Numbered<'a, CheckpointLine>>,
}

/// Verifies the text of an export. Without a key the export's own is taken, which shows that it holds together, and not
/// who made it.
#[must_use]
pub fn verify(text: &str, key: Option<&Verifier>) -> Report {
    let mut report = Report::default();
    let (header, end, mut logs) = read(text, &mut report);
    let Some(header) = header else { return report };
    report.is_complete = header.complete;
    let Some(key) = trusted(&header, key, &mut report) else { return report };
    report.key = key.to_string();
    for problem in &header.problems {
        report.find(0, "the topics", problem.clone());
    }
    for origin in header.logs.keys() {
        logs.entry(origin.clone()).or_default();
    }
    let mut chain = chain::Chain::new(header.complete);
    for (origin, lines) in &logs {
        let size = header.logs.get(origin).copied();
        let log = records::Log::new(origin, lines, header.complete);
        let signed = checkpoints::check(&log, &key, &mut report);
        let last = signed.last();
        if size != Some(last.map_or(0, |checkpoint| checkpoint.size)) {
            let said = size.map_or_else(|| "nothing".to_owned(), |size| size.to_string());
            let signed = last.map_or(0, |checkpoint| checkpoint.size);
            let problem = format!("the export says {said}, its last valid checkpoint says {signed}");
            report.find(1, &format!("`logs`, the size of {origin}"), problem);
        }
        report.logs.insert(origin.clone(), last.map_or(0, |checkpoint| checkpoint.size));
        records::check(&log, last, &mut chain, &mut report);
    }
    chain.finish(&mut report);
    check_end(text, &header, end.as_ref(), &key, &mut report);
    report.findings.sort_by_key(|finding| finding.line);
    report
}

/// Reads the lines, by log. What is no line is found.
fn read<'a>(text: &'a str, report: &mut Report) -> (Option<Header>, Option<End<'a>>, BTreeMap<String, LogLines<'a>>) {
    let mut logs: BTreeMap<String, LogLines<'a>> = BTreeMap::new();
    let (mut header, mut end) = (None, None);
    if !text.ends_with('\n') {
        report.find(
            text.lines().count(),
            "its end",
            "the last line does not end: the file is cut or changed".to_owned(),
        );
    }
    let mut before = "the beginning".to_owned();
    for (at, raw) in text.split_terminator('\n').enumerate() {
        let number = at + 1;
        let line = match serde_json::from_str::<Line>(raw) {
            Ok(line) => line,
            Err(error) => {
                let place = format!("byte {}, after {before}", error.column());
                report.find(number, &place, format!("it cannot be read: {error}"));
                continue;
            }
        };
        if let Some((byte, part)) = difference(raw, &line.text()) {
            let place = format!("byte {}, in {part}", byte + 1);
            report.find(number, &place, "it is not written as an export is".to_owned());
        }
        match line {
            Line::End(line) => end = Some(Numbered { number, raw, line }),
            Line::Export(found) if at == 0 => header = Some(found),
            Line::Export(_) => report.find(number, "the line", "a second beginning".to_owned()),
            Line::Record(line) => {
                before = format!("record {} of {}", line.index, line.log);
                logs.entry(line.log.clone()).or_default().records.push(Numbered { number, raw, line });
            }
            Line::Checkpoint(line) => {
                before = format!("the checkpoint of size {} of {}", line.size, line.log);
                logs.entry(line.log.clone()).or_default().checkpoints.push(Numbered { number, raw, line });
            }
        }
    }
    match &header {
        None => report.find(1, "the line", "it does not say what this export is: the first line is missing".to_owned()),
        Some(header) if header.format != FORMAT => {
            let problem = format!("format {}, this program reads {FORMAT}", header.format);
            report.find(1, "`format`", problem);
        }
        Some(_) => {}
    }
    (header.filter(|header| header.format == FORMAT), end, logs)
}

/// What was exported is signed as a whole: nothing was left out or added, not even in words.
fn check_end(text: &str, header: &Header, end: Option<&End<'_>>, key: &Verifier, report: &mut Report) {
    let Some(end) = end else {
        return report.find(0, "its end", "the signed end is missing: the file is cut".to_owned());
    };
    let extent = match key.open(&end.line.note) {
        Ok(text) => Extent::parse(text),
        Err(error) => return report.find(end.number, "`note` of the end", error.to_string()),
    };
    let Some(signed) = extent else {
        return report.find(end.number, "`note` of the end", "it is no end of an export".to_owned());
    };
    let before: usize = text.split_inclusive('\n').take(end.number - 1).map(str::len).sum();
    let found = Extent::of(&header.selection, text.get(..before).unwrap_or_default());
    if signed.selection != found.selection {
        let problem = format!("the export was signed as `{}`", signed.selection);
        report.find(1, "`selection`", problem);
    }
    if signed.lines != found.lines || text.len() > before + end.raw.len() + 1 {
        let problem = format!("{} lines were signed, {} stand before the end", signed.lines, found.lines);
        report.find(0, "the lines", problem);
    } else if signed.digest != found.digest && report.holds() {
        report.find(0, "the lines", "they are not what was signed".to_owned());
    }
}

/// The key to hold signatures against.
fn trusted(header: &Header, given: Option<&Verifier>, report: &mut Report) -> Option<Verifier> {
    match (Verifier::parse(&header.key), given) {
        (Ok(own), Some(given)) if own != *given => {
            report.find(1, "`key`", format!("it names another key than the one to verify with, {given}"));
            Some(given.clone())
        }
        (Err(error), _) => {
            report.find(1, "`key`", error.to_string());
            given.cloned()
        }
        (Ok(own), _) => Some(own),
    }
}

impl Report {
    /// Does everything hold?
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, line: usize, place: &str, problem: String) {
        self.findings.push(Finding { line, place: place.to_owned(), problem });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        write!(f, "{}: {}", self.place, self.problem)
    }
}

#[cfg(test)]
mod tests;
