//! Suites that run on the embedded broker and on real Kafka, the vector suite and the simulator.

pub use ottla_kafka as kafka;

pub mod generated;
pub mod hostile;
pub mod json;
pub mod scenarios;
pub mod sim;
pub mod vectors;
