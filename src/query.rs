//! `headroom query`: the lake's tables in SQL, as a table, JSON, CSV or Parquet.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;
use clap::{Args, ValueEnum};
use headroom_ingest_lake::{QueryLimits, Rows};
use parquet::arrow::ArrowWriter;

use crate::cli::UserError;
use crate::lake_command::{LakePlace, told};

/// A table on the screen ends here unless `--limit` says otherwise.
const TABLE_ROWS: usize = 1_000;
const MEMORY_BYTES: usize = 1 << 30;
const SPILL_BYTES: u64 = 20 << 30;
const TIME: Duration = Duration::from_secs(3_600);

/// `headroom query "SELECT ..."`
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// One statement that only reads. `SHOW TABLES` lists the tables, `DESCRIBE windows` the columns
    /// of one; `FROM windows VERSION AS OF 12` reads a table as it was.
    #[arg(value_name = "SQL")]
    sql: String,
    #[command(flatten)]
    place: LakePlace,
    /// How to write the answer.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Where to write it; to stdout unless given. An existing file is replaced once the answer is whole.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// At most this many rows; a table has 1,000 unless given, the others all.
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns for reading.
    #[default]
    Table,
    /// An array of objects.
    Json,
    /// A header and a line for each row; lists and maps as text.
    Csv,
    /// A Parquet file.
    Parquet,
}

/// Asks the lake and writes the answer.
pub(crate) async fn run(args: QueryArgs) -> anyhow::Result<()> {
    if args.output == Output::Parquet && args.to.is_none() && io::stdout().is_terminal() {
        return Err(UserError::new("Parquet is no text: name a file with --to FILE, or pipe the output on"));
    }
    let lake = args.place.open_for_questions().await?;
    let rows = args.limit.or((args.output == Output::Table).then_some(TABLE_ROWS));
    let limits = QueryLimits { rows, memory_bytes: MEMORY_BYTES, spill_bytes: SPILL_BYTES, time: TIME };
    let mut answer = lake.query(&args.sql, &limits).await.map_err(told)?;
    if let Some(file) = &args.to {
        write_file(args.output, &mut answer, file).await?;
    } else {
        let is_closed = Arc::new(AtomicBool::new(false));
        let out = Stdout { out: BufWriter::new(io::stdout()), is_closed: Arc::clone(&is_closed) };
        let written = write(args.output, &mut answer, Box::new(out)).await;
        if is_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        written?;
    }
    if answer.is_truncated() && args.limit.is_none() {
        writeln!(io::stderr(), "these are the first {TABLE_ROWS} rows; --limit shows more")?;
    }
    Ok(())
}

/// Beside its place first, so that a file is never half an answer.
async fn write_file(output: Output, answer: &mut Rows, file: &Path) -> anyhow::Result<()> {
    let mut staged = file.as_os_str().to_owned();
    staged.push(".partial");
    let staged = PathBuf::from(staged);
    let created = File::create(&staged)
        .map_err(|error| UserError::new(format!("{}: {error}: is its folder there and writable?", staged.display())))?;
    if let Err(error) = write(output, answer, Box::new(BufWriter::new(created))).await {
        std::fs::remove_file(&staged).with_context(|| format!("removing {}", staged.display()))?;
        return Err(error);
    }
    std::fs::rename(&staged, file).with_context(|| format!("writing {}", file.display()))
}

async fn write(output: Output, answer: &mut Rows, mut out: Box<dyn Write + Send>) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            let mut batches = Vec::new();
            while let Some(batch) = answer.next().await.map_err(told)? {
                batches.push(batch);
            }
            writeln!(out, "{}", pretty_format_batches_with_schema(answer.schema(), &batches)?)?;
            out.flush()?;
        }
        Output::Json => {
            let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
            let mut writer = builder.build::<_, arrow::json::writer::JsonArray>(out);
            while let Some(batch) = answer.next().await.map_err(told)? {
                writer.write(&batch)?;
            }
            writer.finish()?;
            let mut out = writer.into_inner();
            writeln!(out)?;
            out.flush()?;
        }
        Output::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(out);
            writer.write(&as_texts(&RecordBatch::new_empty(answer.schema()))?)?;
            while let Some(batch) = answer.next().await.map_err(told)? {
                writer.write(&as_texts(&batch)?)?;
            }
            writer.into_inner().flush()?;
        }
        Output::Parquet => {
            let mut writer = ArrowWriter::try_new(out, answer.schema(), None)?;
            while let Some(batch) = answer.next().await.map_err(told)? {
                writer.write(&batch)?;
            }
            writer.into_inner()?.flush()?;
        }
    }
    Ok(())
}

/// CSV has no lists and maps: they are written as on the screen.
fn as_texts(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let options = FormatOptions::default();
    let (mut fields, mut columns): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let formatter = ArrayFormatter::try_new(column, &options)?;
        let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string()));
        fields.push(Arc::new(Field::new(field.name(), arrow::datatypes::DataType::Utf8, true)));
        columns.push(Arc::new(texts.collect::<StringArray>()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Stdout, whose reader may have seen enough before the end.
struct Stdout {
    out: BufWriter<io::Stdout>,
    is_closed: Arc<AtomicBool>,
}

impl Stdout {
    fn noted<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.is_closed.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.noted(flushed)
    }
}

#[cfg(test)]
mod tests;
