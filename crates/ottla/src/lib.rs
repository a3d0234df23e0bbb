//! An Apache Kafka consumer with no C in it.
#![forbid(unsafe_code)]
