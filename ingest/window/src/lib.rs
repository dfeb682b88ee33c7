//! Feature windows: SQL aggregation over unbounded telemetry, in event time.
//!
//! A feature query is planned once. The `Partial` half of DataFusion's two-phase aggregation runs on each micro-batch
//! and gives mergeable state; state is kept per pane, and the `Final` half, with all that stands above it, runs when the
//! watermark has passed the windows' end. Longer windows are rolled up from the panes' states. Pure: batches, watermark
//! and time come in as arguments.

mod aggregate;
mod checkpoint;
mod correct;
mod error;
mod fingerprints;
mod quantile;
mod query;
mod session;
mod sketch;
mod top;

pub use aggregate::{Emission, Split, WindowAggregate, split_rows};
pub use error::WindowError;
pub use query::{FeatureConfig, FeatureQuery, Telemetry};
pub use sketch::{LARGEST, RELATIVE_ERROR, SMALLEST};
