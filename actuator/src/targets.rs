//! The systems whose capacity is changed.
//!
//! A section `[actuate.targets.<name>]` is one value of one system; `[actuate.workloads.<workload>]` names the target of a
//! workload. What every real target keeps to stands in `governed.rs`; each module is how one system is read and written.

pub mod aws;
pub mod exec;
pub mod git;
mod governed;
pub mod keda;
pub mod kubernetes;
mod ledger;
pub mod pgbouncer;
pub mod postgres;
pub mod request;
mod secret;
mod server;
mod settings;
pub mod simulated;
pub mod webhook;

use headroom_proto::time::Span;

pub use secret::SecretSettings;
pub use server::{ServerSettings, Tls};
pub use settings::{TargetSettings, WorkloadSettings};

fn one() -> u32 {
    1
}

fn default_timeout() -> Span {
    Span::from_secs(10)
}

fn default_settle() -> Span {
    Span::from_secs(3)
}

/// A drain holds up what else is decided for its workload.
fn drain_problem(drain: Span) -> Option<String> {
    let is_fine = drain.micros() >= 0 && drain <= Span::from_mins(10);
    (!is_fine).then(|| "`drain` must not be negative, and 10m at the most".to_owned())
}

/// What is out of range among the settings that all have.
fn common_problems(per_unit: u32, timeout: Span, settle: Span) -> Vec<String> {
    let mut problems = Vec::new();
    if per_unit == 0 {
        problems.push("`per_unit` must be positive".to_owned());
    }
    if settle.micros() <= 0 || timeout <= settle || timeout > Span::from_mins(5) {
        problems.push("`settle` must be positive and shorter than `timeout`, which is at most 5m".to_owned());
    }
    problems
}
