//! Bytes to requests and answers to bytes, by way of kafka-protocol.

pub(crate) mod extra;
pub(crate) mod frame;
pub(crate) mod guard;
mod shapes;
