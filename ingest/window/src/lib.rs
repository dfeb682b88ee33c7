//! Streaming aggregation.
