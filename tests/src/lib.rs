//! Suites that run on the embedded broker and on real Kafka, the vector suite, the simulator, and
//! the oracles of the fuzz targets.

pub use ottla_kafka as kafka;
pub use ottla_sim as sim;

pub mod fuzz;
pub mod generated;
pub mod heap;
pub mod hostile;
pub mod json;
pub mod register;
pub mod scenarios;

pub mod vectors;
