//! `headroom bench windows`: from a topic to closed windows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use clap::Args;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use headroom_ingest::process::{ProcessConfig, ProcessService};
use headroom_ingest_broker::{Broker, BrokerConfig, Record, Start};
use headroom_ingest_window::{FeatureConfig, FeatureQuery, Telemetry, WindowAggregate};
use headroom_proto::topics::Topic;
use headroom_proto::{Clock, Span, codec, headers, schema};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::peers::Peer;
use super::rows::Workload;
use super::usage::{Measured, Watch};
use crate::cli::UserError;
use crate::terminal::{answer, say};

const PATIENCE: Duration = Duration::from_secs(600);
const LATENESS: Span = Span::from_secs(10);
/// Batches that the in-memory contestants take at once: as many as the processor polls.
const AT_ONCE: usize = 200;
const PLAIN: &str =
    "sum(count) AS queries, avg(duration_ms) AS mean_ms, max(duration_ms) AS slowest_ms, sum(rows) AS rows";
const PERCENTILES: &str = "approx_percentile_cont(duration_ms, 0.5) AS p50_ms, \
    approx_percentile_cont(duration_ms, 0.95) AS p95_ms, approx_percentile_cont(duration_ms, 0.99) AS p99_ms";

/// `headroom bench windows`
#[derive(Debug, Args)]
pub(crate) struct WindowsArgs {
    /// `bootstrap.servers` of a Kafka whose topics may be filled: use one of its own.
    #[arg(long, value_name = "HOST:PORT")]
    servers: String,
    /// How many events.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Groups in each window.
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Events of a record.
    #[arg(long, default_value_t = 4_096)]
    batch: u64,
    /// Events of a window of ten seconds.
    #[arg(long, default_value_t = 1_000_000)]
    per_window: u64,
    /// A contestant of your own, as `NAME=COMMAND`; see bench/windows/README.md.
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<Peer>,
}

/// Measures every contestant and prints a table.
pub(crate) async fn run(args: WindowsArgs) -> anyhow::Result<()> {
    let task = Workload { events: args.events, keys: args.keys, batch: args.batch, per_window: args.per_window };
    if task.events == 0 || task.keys == 0 || task.batch == 0 || task.per_window == 0 {
        return Err(UserError::new("--events, --keys, --batch and --per-window must be above 0"));
    }
    let config = BrokerConfig { partitions: 1, fetch_ahead_bytes: 64 << 20, ..BrokerConfig::default() };
    let broker = Broker::new(&args.servers, &config);
    broker.ensure_topics().await.context("creating the topics")?;
    let held: i64 = broker.ends(Topic::Queries).await?.iter().map(|(_, low, high)| high - low).sum();
    if held > 0 {
        let topic = Topic::Queries.name();
        return Err(UserError::new(format!("{topic} at {} holds {held} records: give an empty Kafka", args.servers)));
    }
    let folder = tempfile::tempdir().context("a folder for the benchmark")?;
    let parquet = folder.path().join("events.parquet");
    say(format_args!("publishing {} events of {} keys", task.events, task.keys));
    publish(&broker, &task, &parquet).await?;

    let mut table = Table::default();
    table.row("consume and decode: the ceiling", consume(&broker, &task).await?);
    table.row("headroom, from topic to windows on a topic", process(&broker, &task, folder.path()).await?);
    let batches = read(&parquet)?;
    for (name, columns) in [("p50/p95/p99", format!("{PLAIN}, {PERCENTILES}")), ("no percentiles", PLAIN.to_owned())] {
        table.row(&format!("headroom windows, in memory, {name}"), stream(&task, &columns, &batches).await?);
        table.row(&format!("DataFusion, one shot in memory, {name}"), one_shot(&columns, &batches).await?);
    }
    drop(batches);
    for peer in &args.peer {
        say(format_args!("running {}", peer.name));
        table.row(&peer.name, peer.run(&args.servers, Topic::Queries.name(), &parquet, &task).await?);
    }
    table.print(&task)
}

/// The windows' query, for each of the groups.
fn sql(columns: &str) -> String {
    format!(
        "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload, fingerprint, {columns} \
         FROM queries GROUP BY 1, 2, 3"
    )
}

fn feature(columns: &str) -> FeatureConfig {
    let windows = vec!["10s".to_owned()];
    FeatureConfig { name: "bench".to_owned(), source: Telemetry::Queries, windows, sql: sql(columns) }
}

async fn publish(broker: &Broker, task: &Workload, parquet: &Path) -> anyhow::Result<()> {
    let producer = broker.producer()?;
    let file = std::fs::File::create(parquet).with_context(|| parquet.display().to_string())?;
    let mut writer = ArrowWriter::try_new(file, schema::queries(), None)?;
    let mut deliveries = Vec::new();
    for number in 0..task.batches() {
        let rows = task.rows(number)?;
        writer.write(&rows)?;
        deliveries.push(producer.send(record(&rows)?).await?);
    }
    let promise = RecordBatch::new_empty(schema::queries());
    let promise = record(&promise)?.header(headers::WATERMARK, task.end().micros().to_string());
    deliveries.push(producer.send(promise).await?);
    for delivery in deliveries {
        delivery.await?;
    }
    writer.close()?;
    Ok(())
}

fn record(rows: &RecordBatch) -> anyhow::Result<Record> {
    Ok(Record::new(Topic::Queries, codec::encode_bare(rows)?)
        .partition(0)
        .header(headers::SCHEMA, "queries")
        .header(headers::SCHEMA_VERSION, schema::QUERIES_VERSION.to_string()))
}

/// Every record read and decoded, and nothing done with it.
async fn consume(broker: &Broker, task: &Workload) -> anyhow::Result<Measured> {
    let watch = Watch::start();
    let consumer = broker.consumer("headroom-bench")?;
    consumer.assign_all(&[Topic::Queries], Start::Earliest).await?;
    let mut events = 0;
    while events < task.events {
        let records = consumer.poll(AT_ONCE, Duration::from_secs(5)).await?;
        ensure!(!records.is_empty(), "the topic ended after {events} events");
        for record in records {
            let rows = codec::decode_bare(&record.value, schema::queries())?;
            events += u64::try_from(rows.num_rows())?;
        }
    }
    Ok(watch.stop(0, events))
}

/// The processor as it runs in production: checkpoints on disk, windows and ledger back to the broker.
async fn process(broker: &Broker, task: &Workload, folder: &Path) -> anyhow::Result<Measured> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder)?);
    let features = vec![feature(&format!("{PLAIN}, {PERCENTILES}"))];
    let config = ProcessConfig { allowed_lateness: LATENESS, ..ProcessConfig::default() };
    let clock = Clock::replay();
    let watch = Watch::start();
    let (service, handle) =
        ProcessService::new(config, features, broker.clone(), clock, store, &mut Registry::default());
    let shutdown = CancellationToken::new();
    let mut running = tokio::spawn(service.run(shutdown.clone()));
    let done = async {
        while handle.status().event_time.is_none_or(|reached| reached < task.end()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = &mut running => ended.context("the processor panicked")??,
        reached = tokio::time::timeout(PATIENCE, done) => reached.context("the processor did not come to the end")?,
    }
    shutdown.cancel();
    running.await.context("the processor panicked")??;
    let mut measured = watch.stop(0, 0);
    for (partition, _, _) in broker.ends(Topic::Windows).await? {
        for record in broker.tail(Topic::Windows, partition, usize::MAX).await? {
            for windows in codec::decode_stream(&record.value)? {
                measured.windows += u64::try_from(windows.num_rows())?;
                measured.events += counted(&windows)?;
            }
        }
    }
    Ok(measured)
}

/// The windows' core alone: batches in memory, as many at once as the processor polls.
async fn stream(task: &Workload, columns: &str, batches: &[RecordBatch]) -> anyhow::Result<Measured> {
    let query = Arc::new(FeatureQuery::try_new(feature(columns)).await?);
    let watch = Watch::start();
    let mut aggregate = WindowAggregate::new(query);
    let (mut windows, mut events) = (0, 0);
    let mut reached = 0;
    let mut take = |emissions: Vec<headroom_ingest_window::Emission>| -> anyhow::Result<()> {
        for emission in emissions {
            windows += u64::try_from(emission.batch.num_rows())?;
            events += counted(&emission.batch)?;
        }
        Ok(())
    };
    for some in batches.chunks(AT_ONCE) {
        aggregate.push(some.to_vec()).await?;
        reached += some.iter().map(RecordBatch::num_rows).sum::<usize>();
        let newest = Workload::start()
            + Span::from_micros(i64::try_from(u64::try_from(reached)? * 10_000_000 / task.per_window)?);
        take(aggregate.close(newest - LATENESS).await?)?;
    }
    take(aggregate.close(task.end()).await?)?;
    Ok(watch.stop(windows, events))
}

/// The same question to DataFusion, once, over all rows, on one thread.
async fn one_shot(columns: &str, batches: &[RecordBatch]) -> anyhow::Result<Measured> {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    let table = MemTable::try_new(schema::queries(), vec![batches.to_vec()])?;
    context.register_table("queries", Arc::new(table))?;
    let watch = Watch::start();
    let found = context.sql(&sql(columns)).await?.collect().await?;
    let mut measured = watch.stop(0, 0);
    for windows in &found {
        measured.windows += u64::try_from(windows.num_rows())?;
        measured.events += counted(windows)?;
    }
    Ok(measured)
}

/// The events in windows: the sum of their column `queries`.
fn counted(windows: &RecordBatch) -> anyhow::Result<u64> {
    let column = windows.column_by_name("queries").context("no column `queries`")?;
    if let Some(counts) = column.as_primitive_opt::<Int64Type>() {
        return Ok(u64::try_from(counts.iter().flatten().sum::<i64>())?);
    }
    let counts = column.as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, exact below 2^53")]
    Ok(counts as u64)
}

fn read(parquet: &Path) -> anyhow::Result<Vec<RecordBatch>> {
    let file = std::fs::File::open(parquet)?;
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)?;
    let reader = reader.with_batch_size(65_536).build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    // The file says UTC in its own way: the rows are those that were published.
    batches.into_iter().map(|batch| Ok(RecordBatch::try_new(schema::queries(), batch.columns().to_vec())?)).collect()
}

/// The contestants, in order; the second is the one that the others are compared with.
#[derive(Default)]
struct Table {
    rows: Vec<(String, Measured)>,
}

impl Table {
    fn row(&mut self, name: &str, measured: Measured) {
        say(format_args!("{name}: {:.1} s", measured.seconds));
        self.rows.push((name.to_owned(), measured));
    }

    /// Refuses to compare contestants that have not done the same.
    fn print(&self, task: &Workload) -> anyhow::Result<()> {
        let with_windows = || self.rows.iter().filter(|(_, measured)| measured.windows > 0);
        let windows = with_windows().next().map_or(0, |(_, measured)| measured.windows);
        for (name, measured) in with_windows() {
            let (found, events) = (measured.windows, measured.events);
            ensure!(
                found == windows && events == task.events,
                "{name} found {found} windows of {events} events, not {windows} of {}",
                task.events
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
        let (events, mib) = (task.events as f64, |bytes: u64| bytes as f64 / f64::from(1 << 20));
        let ours = self.rows.get(1).map_or(f64::NAN, |(_, measured)| events / measured.cpu_seconds);
        answer(format_args!("{} events, {} keys, {windows} windows with their groups", task.events, task.keys));
        answer(format_args!(
            "{:<48} {:>10} {:>16} {:>10} {:>22}",
            "", "M events/s", "M events/s/core", "peak MiB", "headroom / this, core"
        ));
        for (name, measured) in &self.rows {
            let per_core = events / measured.cpu_seconds;
            answer(format_args!(
                "{name:<48} {:>10.2} {:>16.2} {:>10.0} {:>22.2}",
                events / measured.seconds / 1e6,
                per_core / 1e6,
                mib(measured.peak_bytes),
                ours / per_core
            ));
        }
        Ok(())
    }
}
