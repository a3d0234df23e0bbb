//! What can be done with any message, whichever it is: the entries of [`MESSAGES`].

use ottla_wire::{Array, DecodeError, Element, Uuid, View};
use serde_json::Value;

pub use crate::generated::MESSAGES;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client sends it.
    Request,
    /// A broker answers it.
    Response,
    /// In front of one of these.
    Header,
    /// Inside of one of these, or of a record.
    Data,
}

/// JSON, and how many bytes were left.
pub type Json = (Value, usize);

/// A message and what can be done with it.
#[derive(Debug)]
pub struct Message {
    /// Kafka's name of it: `FetchResponse`.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// The API of a request or response.
    pub api_key: Option<i16>,
    /// The lowest and the highest version.
    pub versions: (i16, i16),
    /// Decodes the whole of the bytes and looks no further: what a client does with a response.
    pub check: fn(i16, &[u8]) -> Result<(), DecodeError>,
    /// Decodes the whole of the bytes and visits every value in them; gives their number. Allocates nothing.
    pub walk: fn(i16, &[u8]) -> Result<usize, DecodeError>,
    /// Decodes: the JSON and the bytes left.
    pub to_json: fn(i16, &[u8]) -> Result<Json, DecodeError>,
    /// Encodes the JSON.
    pub encode: fn(i16, &Value) -> Result<Vec<u8>, String>,
}

impl Message {
    /// The message called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        MESSAGES.iter().find(|message| message.name == name)
    }
}

/// Visits everything that a view gives access to.
pub trait Walk {
    /// How many values there are, the structs and arrays among them.
    fn walk(&self) -> usize;
}

/// The versions of `T`.
pub const fn versions<'a, T: View<'a>>() -> (i16, i16) {
    (T::MIN_VERSION, T::MAX_VERSION)
}

/// Decodes the whole of `body` and visits every value in it.
///
/// # Errors
/// When it is no such message.
pub fn walk<'a, T: View<'a> + Walk>(version: i16, body: &'a [u8]) -> Result<usize, DecodeError> {
    T::decode(version, body).map(|view| view.walk())
}

macro_rules! values {
    ($($type:ty)*) => {$(
        impl Walk for $type {
            #[inline]
            fn walk(&self) -> usize {
                1
            }
        }
    )*};
}

values! { bool i8 i16 u16 i32 u32 i64 Uuid &str &[u8] }

impl<T: Walk> Walk for Option<T> {
    fn walk(&self) -> usize {
        self.as_ref().map_or(1, Walk::walk)
    }
}

impl<'a, T: Element<'a> + Walk> Walk for Array<'a, T> {
    fn walk(&self) -> usize {
        let mut elements = 0;
        let mut values = 1;
        for element in self {
            elements += 1;
            values += element.walk();
        }
        assert_eq!(elements, self.len(), "iteration ended early");
        values
    }
}
