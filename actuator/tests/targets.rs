//! One contract for every target, against real servers of Debian on free ports of the loopback address.
//!
//! A bench is a system with a target over it. What the suite asks of all stands in `targets/contract.rs`.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod targets {
    #[cfg(feature = "aws")]
    mod aws;
    mod contract;
    mod exec;
    mod git;
    mod keda;
    mod kubernetes;
    mod kubernetes_server;
    mod pgbouncer;
    mod postgres;
    mod process;
    mod settings;
    mod simulated;
    mod tap;
    mod webhook;
}
