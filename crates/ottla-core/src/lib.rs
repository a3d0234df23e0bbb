//! The sans-IO state machines of ottla, an Apache Kafka consumer: no tokio, no clock, no random numbers of its own.
#![forbid(unsafe_code)]

pub mod assignor;
