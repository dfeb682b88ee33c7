//! The mathematics of forecasts: families of models, calibration of quantiles, scores, and the online engine of one
//! workload that joins them. Pure: observations and times come in as arguments, and the same input gives the same output.

pub mod boost;
mod calibration;
mod champion;
mod config;
pub mod derived;
mod engine;
mod ensemble;
mod error;
mod event;
mod family;
mod histogram;
mod history;
mod learned;
mod mstl;
mod outlook;
pub mod reconcile;
mod ridge;
mod scales;
pub mod score;
mod season;
mod seasonal_naive;
mod shared;
#[cfg(test)]
mod testing;

pub use champion::MaturedScore;
pub use config::EngineConfig;
pub use engine::{
    Abstention, Engine, ForecastSet, Gap, Lift, LiftOf, LiftRange, ModelCard, Moved, Note, OutcomeFeedback, PastLift,
    Profile, SignalLift, Verdict,
};
pub use error::ModelError;
pub use event::KnownEvent;
pub use family::{Family, Model};
pub use history::History;
pub use outlook::Outlook;
pub use shared::Shared;
