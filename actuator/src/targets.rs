//! The systems whose capacity is changed.

pub mod simulated;
