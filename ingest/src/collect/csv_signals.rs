//! Event signals from a CSV file: one line an announcement. A line with the id of an earlier one reschedules it, or with
//! the `status` cancelled calls it off.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use headroom_proto::EventTime;
use headroom_proto::signal::{SignalError, kind_of, validate};
use headroom_proto::v1::{AudienceQuality, Signal, SignalStatus};

/// The columns that must be there.
const REQUIRED: [&str; 9] =
    ["event_id", "kind", "announced_at", "starts_at", "ends_at", "expected_reach", "weight", "audience", "name"];
/// Between the selectors of the column `workloads`.
const SELECTORS: char = '|';
/// Columns that begin so hold what was only known afterwards.
const OUTCOME_PREFIX: &str = "actual_";

/// A signals file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CsvSignalsError {
    /// It cannot be read.
    #[error("signals {file}: {reason}: give the path of a CSV file")]
    Read {
        /// The file.
        file: String,
        /// What went wrong.
        reason: String,
    },
    /// Columns are missing.
    #[error(
        "signals {file}: no column {missing}; found {found}: the columns must be event_id, kind, announced_at, starts_at, ends_at, expected_reach, weight, audience, name"
    )]
    NoColumn {
        /// The file.
        file: String,
        /// What is missing.
        missing: String,
        /// What is there.
        found: String,
    },
    /// A line says what cannot be.
    #[error("signals {file}, line {line}, `{column}`: {how}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The column.
        column: String,
        /// What was found and what is expected.
        how: String,
    },
}

/// Reads and checks every signal of a file, in the order of their announcement.
///
/// # Errors
/// When the file cannot be read, lacks a column, or a line is not a legal signal: then nothing is used.
pub fn read(path: &Path) -> Result<Vec<Signal>, CsvSignalsError> {
    let file = path.display().to_string();
    let unreadable = |reason: String| CsvSignalsError::Read { file: file.clone(), reason };
    let input = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let header = reader.headers().map_err(|error| unreadable(error.to_string()))?;
    let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
    check_columns(&file, &names)?;
    let mut signals = Vec::new();
    let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells: BTreeMap<&str, &str> = names.iter().map(String::as_str).zip(&record).collect();
        let weight = cells.get("weight").and_then(|weight| weight.parse::<f64>().ok());
        if weight.is_some_and(|weight| weight.abs() < f64::EPSILON) {
            tracing::warn!(file, line, "ignored: an event of weight 0 moves no load");
            continue;
        }
        let mut signal =
            parse(&cells).map_err(|(column, how)| CsvSignalsError::Line { file: file.clone(), line, column, how })?;
        let seen = revisions.entry(signal.signal_id.clone()).or_default();
        if *seen > 0 && signal.status() == SignalStatus::Announced {
            signal.set_status(SignalStatus::Rescheduled);
        }
        *seen += 1;
        signal.revision = *seen;
        signals.push(signal);
    }
    signals.sort_by_key(|signal| signal.announced_at_us);
    Ok(signals)
}

fn check_columns(file: &str, names: &[String]) -> Result<(), CsvSignalsError> {
    let missing: Vec<String> =
        REQUIRED.iter().filter(|required| !names.iter().any(|n| n == *required)).map(|n| format!("`{n}`")).collect();
    if !missing.is_empty() {
        let found = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(CsvSignalsError::NoColumn { file: file.to_owned(), missing: missing.join(", "), found });
    }
    for name in names.iter().filter(|name| name.starts_with(OUTCOME_PREFIX)) {
        tracing::warn!(file, column = %name, "ignored: an outcome is not known in advance");
    }
    Ok(())
}

/// A signal, or the column and what is wrong with it.
fn parse(cells: &BTreeMap<&str, &str>) -> Result<Signal, (String, String)> {
    let cell = |name: &str| cells.get(name).copied().unwrap_or("");
    let time = |name: &str| {
        EventTime::parse(cell(name)).map(EventTime::micros).map_err(|error| (name.to_owned(), error.to_string()))
    };
    let audience_size = match cell("expected_reach") {
        "" => None,
        text => Some(reach(text).ok_or_else(|| {
            (
                "expected_reach".to_owned(),
                format!("`{text}` is not a number of people: write one such as 120000, or nothing"),
            )
        })?),
    };
    let weight = match cell("weight") {
        "" => 1.0,
        text => text.parse().map_err(|_| {
            ("weight".to_owned(), format!("`{text}` is not a number: write one such as 1.5, or nothing for 1"))
        })?,
    };
    let status = match cell("status") {
        "" | "announced" | "rescheduled" => SignalStatus::Announced,
        "cancelled" => SignalStatus::Cancelled,
        text => {
            let how = format!("`{text}` is no status: write announced, rescheduled or cancelled, or nothing");
            return Err(("status".to_owned(), how));
        }
    };
    let workloads = cell("workloads").split(SELECTORS).map(str::trim).filter(|selector| !selector.is_empty());
    let quality = if audience_size.is_some() { AudienceQuality::Estimate } else { AudienceQuality::Unknown };
    let signal = Signal {
        signal_id: cell("event_id").to_owned(),
        kind: kind_of(cell("kind")).into(),
        status: status.into(),
        workloads: workloads.map(str::to_owned).collect(),
        starts_at_us: time("starts_at")?,
        ends_at_us: time("ends_at")?,
        announced_at_us: time("announced_at")?,
        name: cell("name").to_owned(),
        channel: cell("channel").to_owned(),
        audience_size,
        audience_quality: quality.into(),
        weight,
        ..Signal::default()
    };
    validate(signal).map_err(|error| {
        let SignalError::Field { field, problem } = error else { return ("event_id".to_owned(), error.to_string()) };
        (if field == "signal_id" { "event_id" } else { field }.to_owned(), problem)
    })
}

/// A count of people, whole or written with a fraction such as `1e6`.
fn reach(text: &str) -> Option<u64> {
    if let Ok(count) = text.parse() {
        return Some(count);
    }
    let number: f64 = text.parse().ok()?;
    let in_range = (0.0..=1e15).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let count = number.round() as u64;
    in_range.then_some(count)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const HEADER: &str = "event_id,kind,announced_at,starts_at,ends_at,expected_reach,weight,audience,name,actual_end";

    fn read_text(text: &str) -> Result<Vec<Signal>, CsvSignalsError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("writes");
        read(file.path())
    }

    #[test]
    fn lines_become_signals_in_the_order_of_announcement() {
        let text = format!(
            "{HEADER}\nb,match,1998-06-02 10:00:00,1998-06-10T15:30:00Z,1998-06-10T17:20:00Z,,,A|B,\"A, then B\",x\n\
             a,sale,1998-06-01,1998-06-03,1998-06-04,1e6,2.5,,Sale,\n\
             c,other,1998-06-01,1998-06-03,1998-06-04,,0,,No effect,\n\
             b,match,1998-06-05,1998-06-11T15:30:00Z,1998-06-11T17:20:00Z,,3,,Later,\n"
        );
        let signals = read_text(&text).expect("legal");
        let seen: Vec<_> =
            signals.iter().map(|s| (s.signal_id.as_str(), s.revision, s.weight, s.audience_size)).collect();
        assert_eq!(seen, [("a", 1, 2.5, Some(1_000_000)), ("b", 1, 1.0, None), ("b", 2, 3.0, None)]);
        assert_eq!(signals[1].name, "A, then B");
        assert_eq!(signals[2].status(), SignalStatus::Rescheduled);
    }

    #[test]
    fn a_line_may_name_workloads_and_a_channel_and_call_an_event_off() {
        let text = "event_id,kind,announced_at,starts_at,ends_at,expected_reach,weight,audience,name,workloads,channel,status\n\
             a,sale,1998-06-01,1998-06-03,1998-06-04,,,,Sale,shop-* | bank,push,\n\
             a,sale,1998-06-02,1998-06-03,1998-06-04,,,,Sale,shop-*,push,cancelled\n";
        let signals = read_text(text).expect("legal");
        let seen: Vec<_> = signals.iter().map(|s| (s.revision, s.status(), s.workloads.join(" "))).collect();
        let expected = [(1, SignalStatus::Announced, "shop-* bank"), (2, SignalStatus::Cancelled, "shop-*")];
        assert_eq!(seen, expected.map(|(revision, status, workloads)| (revision, status, workloads.to_owned())));
        assert!(signals.iter().all(|signal| signal.channel == "push"), "{signals:?}");
        let error = read_text(&text.replace("cancelled", "maybe")).expect_err("no status").to_string();
        assert!(error.contains("line 3, `status`"), "{error}");
    }

    #[test]
    fn each_mistake_is_named() {
        for (line, expected) in [
            ("a,sale,soon,1998-06-03,1998-06-04,,,,", "line 2, `announced_at`"),
            ("a,sale,1998-06-01,1998-06-04,1998-06-03,,,,", "later than starts_at"),
            ("a,sale,1998-06-01,1998-06-03,1998-06-04,many,,,", "`many` is not a number of people"),
            ("a,sale,1998-06-01,1998-06-03,1998-06-04,,-1,,", "positive"),
            (",sale,1998-06-01,1998-06-03,1998-06-04,,,,", "`event_id`"),
        ] {
            let error = read_text(&format!("{HEADER}\n{line},\n")).expect_err(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let error = read_text("id,kind\n1,sale\n").expect_err("columns are missing").to_string();
        assert!(error.contains("`event_id`") && error.contains("found `id`, `kind`"), "{error}");
        assert!(read(Path::new("nowhere.csv")).expect_err("no file").to_string().contains("nowhere.csv"));
    }
}
