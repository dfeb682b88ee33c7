//! The learning service: closed windows and event signals in, forecasts with quantiles and models with lineage out.
//!
//! Architecture invariant: what is forecast follows from the windows, in order, and from the signals announced by each
//! window's end; live, in a replay, in a backtest and after a crash alike. The mathematics stand in `headroom-models`.

pub mod backtest;
mod config;
mod error;
pub mod frames;
mod groups;
mod grpc;
mod handle;
mod intake;
mod learner;
mod lifts;
mod lineage;
mod metrics;
mod outbox;
mod positions;
mod recovery;
mod service;
mod signals;
mod snapshot;
#[cfg(test)]
mod testing;
pub mod transfer;
mod view;
mod windows;
mod workload;

pub use config::ForecasterConfig;
pub use error::ForecasterError;
pub use groups::GroupConfig;
pub use grpc::ForecastGrpc;
pub use handle::ForecasterHandle;
pub use service::ForecasterService;
pub use view::ScoreView;
