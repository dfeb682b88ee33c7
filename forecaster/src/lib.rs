//! The learning service.
