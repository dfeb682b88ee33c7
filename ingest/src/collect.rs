//! COLLECT: what comes in. Recorded telemetry is replayed, event signals are taken over HTTP and gRPC; both end as
//! acknowledged records on the topics, or as dead letters that keep bytes, reason and origin.

pub mod csv_signals;
mod dead_letter;
pub mod replay;
pub mod signals;
pub mod trace;
