//! The Apache Kafka wire protocol for ottla: messages, record batches, codecs. No I/O, no clock.
//!
//! This crate is a part of `ottla` and makes no semver promise of its own.
//!
//! - [`messages`]: every message, generated from `schema/*.msg`. Requests are owned structs that are encoded,
//!   responses are views into the received bytes.
//! - [`frame`]: the 4-byte length, the request header and the response header.
//! - [`consumer_protocol`]: the bytes inside JoinGroup and SyncGroup.
//! - [`records`]: record batches and their codecs.
//! - [`ErrorCode`], [`Uuid`], [`murmur2`], [`varint`]: what the messages are made of.
//!
//! Whatever is decoded is hostile: decoding never panics, never allocates and fails with a [`DecodeError`] that
//! says where.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod array;
pub mod consumer_protocol;
mod error;
mod error_code;
pub mod frame;
mod generated;
mod hash;
mod message;
mod reader;
pub mod records;
mod uuid;
pub mod varint;
mod writer;

pub use array::{Array, ArrayIter};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use error_code::ErrorCode;
pub use generated::api_key::ApiKey;
pub use hash::{murmur2, partition_for_key};
pub use message::{Check, Element, Encode, Fields, Mode, Read, Request, Skip, View};
pub use reader::{Reader, Tags};
pub use uuid::{ParseUuidError, Uuid};
pub use writer::Writer;

/// Every message: the top-level structs flat, and one module per message (snake case of its name) that holds the
/// message and its nested structs under Kafka's names.
pub mod messages {
    pub use crate::generated::*;
}
