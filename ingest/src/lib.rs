//! The services that bring data in: COLLECT takes telemetry and event signals, PROCESS turns telemetry into feature
//! windows, STORE keeps the topics as tables. They meet on topics only.

pub mod collect;
pub mod process;
pub mod store;

#[cfg(test)]
mod test_broker;
