//! Signatures, roots, and that each checkpoint continues the one before.

use super::Report;
use super::records::Log;
use crate::audit::locate::difference;
use crate::audit::log::{texts, unhash};
use crate::audit::merkle::{Hash, is_consistent};
use crate::audit::note::{Checkpoint, NoteError, Verifier};

/// The checkpoints of a log that hold, in order of their size.
pub(super) fn check(log: &Log<'_>, key: &Verifier, report: &mut Report) -> Vec<Checkpoint> {
    let mut signed: Vec<Checkpoint> = Vec::new();
    for numbered in &log.lines.checkpoints {
        let (line, number) = (&numbered.line, numbered.number);
        let place = |part: &str| format!("{part} of the checkpoint of size {} of {}", line.size, log.origin);
        let opened = key.open(&line.note).and_then(Checkpoint::parse);
        let checkpoint = match opened {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                report.find(number, &place("the note"), unsigned(log, line.size, &line.note, error));
                continue;
            }
        };
        if checkpoint.origin != *log.origin || checkpoint.size != line.size {
            let said = format!("the note is of size {} of {}", checkpoint.size, checkpoint.origin);
            report.find(number, &place("`log` or `size`"), said);
        }
        if signed.last().is_some_and(|before| before.size > checkpoint.size) {
            report.find(number, &place("the place"), "a larger one stands before it".to_owned());
            continue;
        }
        if let Some(root) = log.root(checkpoint.size).filter(|root| *root != checkpoint.root) {
            let lost =
                format!("it is signed for another root than that of the records here, {}", super::super::hex(&root));
            report.find(number, &place("the root"), lost);
        }
        let before = signed.last().map_or((0, Hash::default()), |before| (before.size, before.root));
        let proof: Option<Vec<Hash>> = line.consistency.iter().map(|hash| unhash(hash)).collect();
        let continues =
            |proof: &[Hash]| is_consistent((before.0, &before.1), (checkpoint.size, &checkpoint.root), proof);
        if proof.is_some_and(|proof| continues(&proof)) {
            report.checkpoints += 1;
        } else {
            report.find(number, &place("`consistency`"), broken(log, before.0, &checkpoint, &line.consistency));
        }
        signed.push(checkpoint);
    }
    signed
}

/// Why a note is not its signer's: its text, where that is known from the records, or its signature.
fn unsigned(log: &Log<'_>, size: usize, note: &str, error: NoteError) -> String {
    let Some(root) = log.root(size) else { return error.to_string() };
    let text = Checkpoint { origin: log.origin.to_owned(), size, root }.text();
    let found = note.get(..text.len()).unwrap_or(note);
    match difference(found, &text) {
        Some((at, _)) => format!("{error}: by the records here its text is another from byte {at} on"),
        None => format!("{error}: its text is that of the records here, so the signature was changed"),
    }
}

fn broken(log: &Log<'_>, before: usize, checkpoint: &Checkpoint, proof: &[String]) -> String {
    let expected = log.tree().and_then(|tree| tree.consistency(before, checkpoint.size)).map(|proof| texts(&proof));
    let other = expected.and_then(|expected| {
        expected
            .iter()
            .zip(proof)
            .position(|(expected, found)| expected != found)
            .or(Some(expected.len().min(proof.len())))
    });
    match other {
        Some(at) => format!("hash {at} of the proof is not that of the records here"),
        None => format!("it does not continue the one of size {before}, or the proof was changed"),
    }
}
