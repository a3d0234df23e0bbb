//! Messages as JSON, written as Kafka's own JSON converters write it: the generated code says it of structs, this
//! module of what they are made of.

use bytes::{Bytes, BytesMut};
use ottla_wire::{Array, DecodeError, Element, Encode, Reader, Request, Uuid, View, frame};
use serde_json::{Map, Value};

/// What a view into received bytes says, in JSON.
pub trait ToJson {
    /// Only the fields of `version`; tagged fields only if they do not have their default.
    fn to_json(&self, version: i16) -> Value;
}

/// An owned value from JSON.
pub trait FromJson: Sized {
    /// Takes the fields of `version`.
    ///
    /// # Errors
    /// When a field is missing or of another type.
    fn from_json(json: &Value, version: i16) -> Result<Self, String>;
}

/// The fields of a struct.
///
/// # Errors
/// When `json` is no object.
pub fn object(json: &Value) -> Result<&Map<String, Value>, String> {
    json.as_object().ok_or_else(|| format!("no object: {json}"))
}

/// A field that must be there.
///
/// # Errors
/// When it is not, or of another type.
pub fn required<T: FromJson>(json: &Map<String, Value>, name: &str, version: i16) -> Result<T, String> {
    let value = json.get(name).ok_or_else(|| format!("no {name}"))?;
    T::from_json(value, version).map_err(|why| format!("{name}: {why}"))
}

/// A field that has its default when it is not there.
///
/// # Errors
/// When it is of another type.
pub fn optional<T: FromJson>(
    json: &Map<String, Value>,
    name: &str,
    version: i16,
    default: T,
) -> Result<T, String> {
    json.get(name).map_or(Ok(default), |value| T::from_json(value, version))
}

/// Decodes `body`: its JSON and the bytes left.
///
/// # Errors
/// When it is no such message.
pub fn decode<'a, T: View<'a> + ToJson>(version: i16, body: &'a [u8]) -> Result<(Value, usize), DecodeError> {
    let mut reader = Reader::new(body);
    let view = T::decode_from(version, &mut reader)?;
    // The strict form must agree.
    assert_eq!(T::decode(version, body).is_ok(), reader.remaining() == 0, "decode and decode_from differ");
    Ok((view.to_json(version), reader.remaining()))
}

/// Decodes the whole of `body` and looks no further: what a client does with a response that it receives.
///
/// # Errors
/// When it is no such message.
pub fn strict<'a, T: View<'a>>(version: i16, body: &'a [u8]) -> Result<(), DecodeError> {
    T::decode(version, body).map(drop)
}

/// Encodes `json`.
///
/// # Errors
/// When it is no such message or the version cannot say it.
pub fn encode<T: Encode + FromJson>(version: i16, json: &Value) -> Result<Vec<u8>, String> {
    let mut out = BytesMut::new();
    T::from_json(json, version)?.encode(version, &mut out).map_err(|e| e.to_string())?;
    Ok(out.to_vec())
}

/// Encodes `json` as the body of a request.
///
/// # Errors
/// When it is no such request or the version cannot say it.
pub fn encode_request<T: Request + FromJson>(version: i16, json: &Value) -> Result<Vec<u8>, String> {
    let mut out = BytesMut::new();
    T::from_json(json, version)?.encode(version, &mut out).map_err(|e| e.to_string())?;
    Ok(out.to_vec())
}

/// Encodes `json` as a whole frame with a request.
///
/// # Errors
/// When it is no such request or the version cannot say it.
pub fn encode_frame<T: Request + FromJson>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    json: &Value,
) -> Result<Vec<u8>, String> {
    let mut out = BytesMut::new();
    let request = T::from_json(json, version)?;
    frame::encode_request(version, correlation_id, client_id, &request, &mut out)
        .map_err(|e| e.to_string())?;
    Ok(out.to_vec())
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl ToJson for $type {
            fn to_json(&self, _version: i16) -> Value {
                Value::from(*self)
            }
        }

        impl FromJson for $type {
            fn from_json(json: &Value, _version: i16) -> Result<Self, String> {
                let value = json.as_i64().ok_or_else(|| format!("no integer: {json}"))?;
                Self::try_from(value).map_err(|e| format!("{json}: {e}"))
            }
        }
    )*};
}

integers! { i8 i16 u16 i32 u32 i64 }

impl ToJson for bool {
    fn to_json(&self, _version: i16) -> Value {
        Value::from(*self)
    }
}

impl FromJson for bool {
    fn from_json(json: &Value, _version: i16) -> Result<Self, String> {
        json.as_bool().ok_or_else(|| format!("no bool: {json}"))
    }
}

impl ToJson for &str {
    fn to_json(&self, _version: i16) -> Value {
        Value::from(*self)
    }
}

impl FromJson for String {
    fn from_json(json: &Value, _version: i16) -> Result<Self, String> {
        json.as_str().map(str::to_owned).ok_or_else(|| format!("no string: {json}"))
    }
}

impl ToJson for &[u8] {
    fn to_json(&self, _version: i16) -> Value {
        Value::from(to_base64(self))
    }
}

impl FromJson for Bytes {
    fn from_json(json: &Value, version: i16) -> Result<Self, String> {
        from_base64(&String::from_json(json, version)?).map(Self::from)
    }
}

impl ToJson for Uuid {
    fn to_json(&self, _version: i16) -> Value {
        Value::from(self.to_string())
    }
}

impl FromJson for Uuid {
    fn from_json(json: &Value, version: i16) -> Result<Self, String> {
        String::from_json(json, version)?.parse().map_err(|e| format!("{json}: {e}"))
    }
}

impl<'a, T: Element<'a> + ToJson> ToJson for Array<'a, T> {
    fn to_json(&self, version: i16) -> Value {
        let elements: Vec<Value> = self.iter().map(|element| element.to_json(version)).collect();
        assert_eq!(elements.len(), self.len(), "iteration ended early");
        Value::from(elements)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(json: &Value, version: i16) -> Result<Self, String> {
        let elements = json.as_array().ok_or_else(|| format!("no array: {json}"))?;
        elements.iter().map(|element| T::from_json(element, version)).collect()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self, version: i16) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.to_json(version))
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(json: &Value, version: i16) -> Result<Self, String> {
        if json.is_null() { Ok(None) } else { T::from_json(json, version).map(Some) }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut block = [0; 4];
        block[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(block);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let digits: Vec<u32> = chunk
            .iter()
            .take_while(|c| **c != b'=')
            .map(|c| {
                DIGITS.iter().position(|d| d == c).map(|at| at as u32).ok_or_else(|| format!("{text:?}"))
            })
            .collect::<Result<_, _>>()?;
        if chunk.len() != 4 || digits.len() < 2 {
            return Err(format!("no base64: {text:?}"));
        }
        let bits = digits.iter().enumerate().fold(0, |bits, (at, digit)| bits | digit << (18 - 6 * at));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..digits.len()]);
    }
    Ok(bytes)
}
