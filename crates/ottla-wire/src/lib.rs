//! The Apache Kafka wire protocol for ottla: messages, record batches, codecs. No I/O, no clock.
#![forbid(unsafe_code)]

pub mod records;
