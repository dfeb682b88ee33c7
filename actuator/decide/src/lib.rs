//! What to do: planner, policy, legal moves, the chain of records, and the simulation of scaling policies. Pure: time,
//! load and forecasts come in as arguments.

pub mod audit;
pub mod budget;
pub mod calendar;
pub mod capacity;
pub mod judgement;
pub mod lead_time;
pub mod limits;
pub mod planner;
pub mod policy;
pub mod protocol;
pub mod risk;
pub mod roles;
pub mod shadow;
pub mod simulation;
pub mod sizes;
pub mod stage;
pub mod story;
pub mod track;
pub mod transition;
pub mod verify;

pub use planner::{Decision, ForecastView, Learned, Observation, PlannerConfig, decide, decide_with};
