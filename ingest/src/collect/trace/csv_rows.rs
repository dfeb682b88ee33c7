//! CSV, one row a line: a stray quote spoils its own line only, and a rejected line is kept byte for byte.

use std::io::{BufRead, ErrorKind, Read};

use bytes::Bytes;
use headroom_proto::{EventTime, WorkloadId};

use super::{Entry, Places, Rejected, Row, RowError, Sample, TraceColumns, TraceError, shortened};

/// A longer line means that this is no CSV.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// A text file, read line by line.
struct Lines {
    file: String,
    input: Box<dyn BufRead + Send>,
    /// The number of the line in `line`, from 1.
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    fn new(file: String, input: Box<dyn BufRead + Send>) -> Self {
        Self { file, input, number: 0, line: Vec::new() }
    }

    /// Reads the next line that is not empty; false at the end.
    fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            self.line.clear();
            let read = (&mut self.input).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line);
            let failed = |source| TraceError::Read { file: self.file.clone(), line: self.number, source };
            if read.map_err(failed)? == 0 {
                return Ok(false);
            }
            if self.line.last() != Some(&b'\n') && self.line.len() as u64 == MAX_LINE_BYTES {
                let problem = format!("a line above {MAX_LINE_BYTES} bytes");
                return Err(failed(std::io::Error::new(ErrorKind::InvalidData, problem)));
            }
            self.number += 1;
            let end = self.line.trim_ascii_end().len();
            self.line.truncate(end);
            if !self.line.is_empty() {
                return Ok(true);
            }
        }
    }

    /// The fields of the line; those that are not UTF-8 with replacement characters.
    fn fields(&self) -> Vec<String> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .buffer_capacity(self.line.len().max(64))
            .from_reader(self.line.as_slice());
        let mut record = csv::ByteRecord::new();
        // One line in memory has no way to fail: lengths are free and bytes need not be text.
        let _found = reader.read_byte_record(&mut record);
        record.iter().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect()
    }
}

/// The rows of a CSV file.
pub(super) struct CsvRows {
    lines: Lines,
    names: Vec<String>,
    places: Places,
    default_workload: WorkloadId,
    row: u64,
}

impl CsvRows {
    pub(super) fn open(
        file: String,
        input: Box<dyn BufRead + Send>,
        columns: &TraceColumns,
    ) -> Result<Self, TraceError> {
        let mut lines = Lines::new(file, input);
        lines.advance()?;
        let mut names = lines.fields();
        if let Some(first) = names.first_mut() {
            *first = first.trim_start_matches('\u{feff}').trim_matches('"').to_owned();
        }
        let places = Places::find(&lines.file, &names, columns)?;
        Ok(Self { lines, names, places, default_workload: columns.default_workload.clone(), row: 0 })
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        self.row += 1;
        let entry = self
            .parse(&self.lines.fields())
            .unwrap_or_else(|error| Entry::Rejected(Rejected { raw: Bytes::copy_from_slice(&self.lines.line), error }));
        Ok(Some(Row { number: self.row, entry }))
    }

    fn parse(&self, fields: &[String]) -> Result<Entry, RowError> {
        if fields.len() != self.names.len() {
            let how = format!("the header names {} columns, this line has {}", self.names.len(), fields.len());
            return Err(self.error(self.places.time, &fields.join(","), how));
        }
        let cell = |place: usize| fields.get(place).map_or("", String::as_str);
        let text = cell(self.places.time);
        let time = EventTime::parse(text).map_err(|_| self.error(self.places.time, text, TIME_HOW.to_owned()))?;
        if let Some(place) = self.places.gap {
            match cell(place) {
                "1" | "true" => return Ok(Entry::Gap(time)),
                "0" | "false" | "" => {}
                other => return Err(self.error(place, other, "write 1 for a gap and 0 for none".to_owned())),
            }
        }
        let workload = match self.places.workload {
            Some(place) => {
                WorkloadId::try_new(cell(place)).map_err(|error| self.error(place, cell(place), error.to_string()))?
            }
            None => self.default_workload.clone(),
        };
        let text = cell(self.places.value);
        if text.is_empty() || text.eq_ignore_ascii_case("nan") {
            return Ok(Entry::Gap(time));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Entry::Sample(Sample { workload, time, value })),
            _ => Err(self.error(self.places.value, text, VALUE_HOW.to_owned())),
        }
    }

    fn error(&self, place: usize, found: &str, how: String) -> RowError {
        RowError {
            file: self.lines.file.clone(),
            place: format!("line {}", self.lines.number),
            column: self.names.get(place).cloned().unwrap_or_default(),
            found: shortened(found),
            how,
        }
    }
}

pub(super) const TIME_HOW: &str =
    "not a time: write RFC 3339, such as 1998-06-10T15:30:00Z, or 1998-06-10 15:30:00 for UTC";
pub(super) const VALUE_HOW: &str = "not a finite number: write one such as 12.5, or leave it empty for a gap";

/// How many rows stand below the header.
pub(super) fn count(file: String, input: Box<dyn BufRead + Send>) -> Result<u64, TraceError> {
    let mut lines = Lines::new(file, input);
    let mut found = 0_u64;
    while lines.advance()? {
        found += 1;
    }
    Ok(found.saturating_sub(1))
}
