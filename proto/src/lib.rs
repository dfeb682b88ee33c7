//! Every contract that crosses a process: topics, Arrow schemas, protobuf messages, event signals, ids and time.
//!
//! Architecture invariant: this crate knows no transport. The gRPC stubs are behind the feature `grpc`, the wall clock
//! behind the feature `clock`, so that a pure crate depends on neither.

#[cfg(feature = "clock")]
pub mod clock;
pub mod codec;
pub mod headers;
pub mod schema;
pub mod signal;
pub mod status;
pub mod time;
pub mod topics;
pub mod workload;

#[cfg(feature = "clock")]
pub use clock::Clock;
pub use prost::{DecodeError, Message};
pub use time::{EventTime, Span};
pub use workload::WorkloadId;

/// The protobuf messages of `headroom.v1` and, with the feature `grpc`, their services.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::missing_errors_doc,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/headroom/v1, where the documentation stands"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/headroom.v1.rs"));
}

/// What KEDA asks an external scaler.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::missing_errors_doc,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/externalscaler, where the documentation stands"
)]
pub mod externalscaler {
    include!(concat!(env!("OUT_DIR"), "/externalscaler.rs"));
}

/// The encoded `FileDescriptorSet` of all of them, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/headroom.v1.bin"));
