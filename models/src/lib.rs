//! Forecast mathematics.
