//! Arrow schemas of the topics. A change of a schema is a new version.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Version of [`queries`].
pub const QUERIES_VERSION: u32 = 1;
/// Version of [`metrics`].
pub const METRICS_VERSION: u32 = 1;
/// Version of the windows' envelope.
pub const WINDOWS_VERSION: u32 = 1;

/// Name of the event-time column of every telemetry schema.
pub const EVENT_TIME: &str = "event_time";
/// Name of the workload column of every schema.
pub const WORKLOAD: &str = "workload";

/// The type of every time column: microseconds, UTC.
#[must_use]
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Query events: one row a query, or one row for `count` like queries. Literals never appear.
#[must_use]
pub fn queries() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new(EVENT_TIME, timestamp(), false),
            Field::new(WORKLOAD, DataType::Utf8, false),
            Field::new("db_system_name", DataType::Utf8, true),
            Field::new("db_namespace", DataType::Utf8, true),
            Field::new("db_operation_name", DataType::Utf8, true),
            Field::new("db_query_summary", DataType::Utf8, true),
            Field::new("fingerprint", DataType::Utf8, true),
            Field::new("duration_ms", DataType::Float64, true),
            Field::new("rows", DataType::Int64, true),
            Field::new("bytes", DataType::Int64, true),
            Field::new("error", DataType::Boolean, false),
            Field::new("count", DataType::Int64, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Metric samples: a gauge's value, or a counter's increase since the sample before.
#[must_use]
pub fn metrics() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new(EVENT_TIME, timestamp(), false),
            Field::new(WORKLOAD, DataType::Utf8, false),
            Field::new("name", DataType::Utf8, false),
            Field::new("value", DataType::Float64, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The columns that every window begins with, in order: `query` (Utf8), `window_size_s` (Int32), `window_start` and
/// `window_end` (timestamps, half open), `workload` (Utf8), `revision` (Int32, 0 at first), `complete` (Boolean). After
/// them come the columns of the feature query, numbers as nullable Float64, dimensions as Utf8.
pub const WINDOW_ENVELOPE: [&str; 7] =
    ["query", "window_size_s", "window_start", "window_end", WORKLOAD, "revision", "complete"];

/// The fields of [`WINDOW_ENVELOPE`].
#[must_use]
pub fn window_envelope() -> Vec<Field> {
    vec![
        Field::new("query", DataType::Utf8, false),
        Field::new("window_size_s", DataType::Int32, false),
        Field::new("window_start", timestamp(), false),
        Field::new("window_end", timestamp(), false),
        Field::new(WORKLOAD, DataType::Utf8, false),
        Field::new("revision", DataType::Int32, false),
        Field::new("complete", DataType::Boolean, false),
    ]
}
