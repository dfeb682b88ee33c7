//! The only user of rdkafka.
