//! Collect, process, store.
