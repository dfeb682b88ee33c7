//! ACT: capacity plans from forecasts, carried out under policy, every move on the record before its effect.
//!
//! Read `service.rs` first: the loop and its one list of events. `workload.rs` is what is known of one workload,
//! `targets/` are the systems whose capacity is changed.

mod audit;
mod caller;
mod config;
mod course;
mod error;
mod governance;
mod grpc;
mod journal;
mod notary;
mod notify;
mod routes;
mod service;
mod target;
pub mod targets;
mod workload;

pub use audit::AuditRpc;
pub use caller::Caller;
pub use config::ActuatorConfig;
pub use error::ActuatorError;
pub use governance::ForeignChanges;
pub use notary::AuditConfig;
pub use notify::{NoticeKind, NotifyConfig, NotifyFormat};
pub use routes::Targets;
pub use service::{ActuatorHandle, ActuatorService, Membership};
pub use target::{Applied, ApplyRequest, Drain, Fault, Fence, Target, TargetError, TargetState};
