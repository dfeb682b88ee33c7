//! PgBouncer's ini file as text: one database's `pool_size` is changed and every other byte is left as it is.

use std::ops::Range;

use crate::targets::governed::{Failure, Setting};
use crate::targets::ledger::Ledger;

/// Begins the comment that keeps the record of changes of a database, above its line.
const COMMENT: &str = ";headroom ";
const PARAMETER: &str = "pool_size";

/// Where a database's line stands.
#[derive(Debug)]
pub(super) struct Place {
    /// The line, without its end.
    line: Range<usize>,
    /// What stands behind `name =`.
    value: Range<usize>,
    /// The comment above it, with its end.
    comment: Option<Range<usize>>,
}

/// Finds the line of a database in the section `[databases]`.
pub(super) fn find(text: &str, database: &str) -> Result<Place, Failure> {
    let mark = mark(database);
    let (mut at, mut is_inside, mut comment, mut found) = (0, false, None, None);
    for line in text.split_inclusive('\n') {
        let (start, content) = (at, line.trim_end());
        at += line.len();
        let trimmed = content.trim_start();
        if trimmed.starts_with('[') {
            is_inside = trimmed == "[databases]";
        } else if content.starts_with(&mark) {
            comment = Some(start..at);
        } else if let Some(offset) = is_inside.then(|| value_of(content, database)).flatten() {
            let end = start + content.len();
            let place = Place { line: start..end, value: start + offset..end, comment: comment.clone() };
            if found.replace(place).is_some() {
                return Err(Failure::refused(format!("it has two lines for the database `{database}`")));
            }
        }
    }
    found.ok_or_else(|| Failure::refused(format!("it has no line for the database `{database}` in [databases]")))
}

impl Place {
    /// The text of `pool_size`, exactly as it stands there.
    pub(super) fn pool_size(&self, text: &str) -> Result<Setting, Failure> {
        Ok(self.parameter(text)?.and_then(|(_, value)| text.get(value)).map(str::to_owned))
    }

    /// The text with that `pool_size`, or without one.
    pub(super) fn with_pool_size(&self, text: &str, pool_size: &Setting) -> Result<String, Failure> {
        let (range, new) = match (self.parameter(text)?, pool_size) {
            (Some((_, value)), Some(number)) => (value, number.clone()),
            (Some((whole, _)), None) => (whole, String::new()),
            (None, Some(number)) => (self.line.end..self.line.end, format!(" {PARAMETER}={number}")),
            (None, None) => return Ok(text.to_owned()),
        };
        Ok(spliced(text, range, &new))
    }

    /// The record of changes that stands above the line.
    pub(super) fn ledger(&self, text: &str, database: &str) -> Result<Ledger, Failure> {
        let comment = self.comment.clone().and_then(|range| text.get(range));
        let Some(json) = comment.and_then(|comment| comment.strip_prefix(&mark(database))) else {
            return Ok(Ledger::default());
        };
        Ledger::parse(json.trim_end())
    }

    /// The text with that record above the line.
    pub(super) fn with_ledger(&self, text: &str, database: &str, ledger: &Ledger) -> String {
        let new = format!("{}{}\n", mark(database), ledger.text());
        let range = self.comment.clone().unwrap_or(self.line.start..self.line.start);
        spliced(text, range, &new)
    }

    /// Where `pool_size` stands: the whole with the blank before it, and its value.
    fn parameter(&self, text: &str) -> Result<Option<(Range<usize>, Range<usize>)>, Failure> {
        let connection = text.get(self.value.clone()).unwrap_or_default();
        let mut found = None;
        for (key, whole, value) in pairs(connection)? {
            let from_start = |range: Range<usize>| self.value.start + range.start..self.value.start + range.end;
            if key == PARAMETER && found.replace((from_start(whole), from_start(value))).is_some() {
                return Err(Failure::refused(format!("a line sets {PARAMETER} twice")));
            }
        }
        Ok(found)
    }
}

fn mark(database: &str) -> String {
    format!("{COMMENT}{database} ")
}

fn spliced(text: &str, range: Range<usize>, new: &str) -> String {
    let (before, after) = (text.get(..range.start), text.get(range.end..));
    [before.unwrap_or_default(), new, after.unwrap_or_default()].concat()
}

/// Where the value begins in `name = value`, when the line is of that database.
fn value_of(line: &str, database: &str) -> Option<usize> {
    let quoted = format!("\"{}\"", database.replace('"', "\"\""));
    let trimmed = line.trim_start();
    let rest = trimmed.strip_prefix(&quoted).or_else(|| trimmed.strip_prefix(database))?;
    let value = rest.trim_start().strip_prefix('=')?;
    Some(line.len() - value.len())
}

type Pair<'a> = (&'a str, Range<usize>, Range<usize>);

/// The pairs `key=value` of a connection string; a value may be quoted, with quotes in it doubled.
fn pairs(connection: &str) -> Result<Vec<Pair<'_>>, Failure> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = connection.get(at..).unwrap_or_default();
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(found);
        }
        let Some((key, value)) = rest.split_once('=') else {
            // What stands there may be a password.
            return Err(Failure::refused("a line has something that is no parameter of a database".to_owned()));
        };
        let value = value.trim_start();
        let value_start = connection.len() - value.len();
        let length = value_length(value);
        // With the blanks before it, so that a parameter that was added can be taken away without a trace.
        found.push((key.trim_end(), at..value_start + length, value_start..value_start + length));
        at = value_start + length;
    }
}

fn value_length(value: &str) -> usize {
    if !value.starts_with('\'') {
        return value.find(char::is_whitespace).unwrap_or(value.len());
    }
    let bytes = value.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return at + 1,
            _ => at += 1,
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
; databases
[databases]
shop2 = host=a pool_size=1
shop = host=127.0.0.1 password='it''s pool_size=9'  pool_size=25 dbname=shop
bank =
\"odd name\" = host=b
[pgbouncer]
shop = host=nothing
";

    #[test]
    fn one_value_is_changed_and_every_other_byte_is_kept() {
        let place = find(TEXT, "shop").expect("is there");
        assert_eq!(place.pool_size(TEXT).expect("reads"), Some("25".to_owned()));
        let raised = place.with_pool_size(TEXT, &Some("40".to_owned())).expect("writes");
        assert_eq!(raised, TEXT.replace("pool_size=25", "pool_size=40"));
        let without = find(&raised, "shop").and_then(|place| place.with_pool_size(&raised, &None)).expect("writes");
        assert_eq!(without, TEXT.replace("  pool_size=25", ""));
    }

    #[test]
    fn what_was_not_set_is_added_and_taken_away_without_a_trace() {
        for database in ["bank", "odd name"] {
            let place = find(TEXT, database).expect("is there");
            assert_eq!(place.pool_size(TEXT).expect("reads"), None);
            let set = place.with_pool_size(TEXT, &Some("7".to_owned())).expect("writes");
            let place = find(&set, database).expect("is there");
            assert_eq!(place.pool_size(&set).expect("reads"), Some("7".to_owned()));
            let back = place.with_pool_size(&set, &None).expect("writes");
            assert_eq!(back, TEXT, "{database}");
        }
    }

    #[test]
    fn the_record_stands_above_the_line_and_mistakes_are_named() {
        let ledger = Ledger::default();
        let place = find(TEXT, "shop").expect("is there");
        let kept = place.with_ledger(TEXT, "shop", &ledger);
        assert_eq!(kept, TEXT.replace("shop = host=127", ";headroom shop []\nshop = host=127"));
        let place = find(&kept, "shop").expect("is there");
        assert_eq!(place.ledger(&kept, "shop").expect("reads"), ledger);
        assert_eq!(place.with_ledger(&kept, "shop", &ledger), kept);
        for (text, said) in [
            ("[databases]\n", "no line"),
            ("[databases]\nshop = a=1\nshop = b=2\n", "two lines"),
            ("[databases]\nshop = pool_size=1 pool_size=2\n", "twice"),
            ("[databases]\nshop = nonsense\n", "no parameter"),
        ] {
            let outcome = find(text, "shop").and_then(|place| place.pool_size(text));
            assert!(outcome.expect_err("a mistake").problem.contains(said), "{text}");
        }
    }
}
