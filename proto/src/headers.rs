//! Names of the Kafka record headers.

/// The schema's id: `queries`, `metrics` or `windows`.
pub const SCHEMA: &str = "headroom-schema";
/// The schema's version, a decimal number.
pub const SCHEMA_VERSION: &str = "headroom-schema-version";
/// Who produced the record, such as `replay:trace.csv`.
pub const SOURCE: &str = "headroom-source";
/// How far the source has been read once this record is durable; the source resumes behind it.
pub const SOURCE_POSITION: &str = "headroom-source-position";
/// Event time up to which the source promises to be complete, in microseconds since the Unix epoch.
pub const WATERMARK: &str = "headroom-watermark";
/// The processor's shard that made the record: `<topic>/<partition>`.
pub const SHARD: &str = "headroom-shard";
/// Counts the records of a shard from 1; a reader drops what it has seen.
pub const SEQUENCE: &str = "headroom-seq";
/// The protobuf message in the value: its name within `headroom.v1`, such as `ActionRecord`.
pub const MESSAGE: &str = "headroom-message";
/// The actuator that wrote a switch: it knows of its own.
pub const WRITER: &str = "headroom-writer";
/// Why a record is in the dead-letter topic.
pub const DEAD_REASON: &str = "headroom-dead-reason";
/// Where a dead letter came from: `<topic>/<partition>/<offset>`, or the entry point.
pub const DEAD_ORIGIN: &str = "headroom-dead-origin";
/// The media type of the value.
pub const CONTENT_TYPE: &str = "content-type";
