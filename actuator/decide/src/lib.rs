//! What to do: planner, policy, legal moves, the chain of records, and the simulation of scaling policies. Pure: time,
//! load and forecasts come in as arguments.

pub mod audit;
pub mod planner;
pub mod policy;
pub mod simulation;
pub mod transition;

pub use planner::{Decision, ForecastView, Observation, PlannerConfig, decide};
