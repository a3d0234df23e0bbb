//! An Apache Kafka broker inside your test process, with a fault script.
#![forbid(unsafe_code)]
