//! The acting service.
