//! Frames: the 4-byte length, the request header, the response header.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{ApiKey, Check, DecodeError, EncodeError, EncodeErrorKind, Reader, Request, Writer};

/// Appends a whole frame to `out`: length, header and body of `request`. After an error `out` is as it was.
///
/// # Errors
/// When the version is unknown or cannot say what is set, or when the frame would be 2 GiB or longer.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = write_request(version, correlation_id, client_id, request, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn write_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_i32(0);
    let body = out.len();
    let header_version = R::API.request_header_version(version);
    // The client id has a 2-byte length in both header versions (KIP-482), hence never flexible.
    let mut header = Writer::new(out, "RequestHeader", header_version, false);
    header.int16(R::API.code());
    header.int16(version);
    header.int32(correlation_id);
    header.nullable_string("ClientId", client_id, true)?;
    if header_version >= 2 {
        header.set_flexible(true);
        header.tags(&[]);
    }
    request.encode(version, out)?;
    let length = out.len().saturating_sub(body);
    let Ok(size) = i32::try_from(length) else {
        let kind = EncodeErrorKind::TooLong { length, max: i32::MAX as usize };
        return Err(EncodeError { message: R::NAME, version, field: "", kind });
    };
    if let Some(place) = out.get_mut(start..body) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    Ok(())
}

/// Reads the header of a response to a request of `api` in `version`: the correlation id, and where in `payload`
/// (the frame without its length) the body begins.
///
/// # Errors
/// When the header is cut or its tagged fields are damaged.
pub fn decode_response_header(
    api: ApiKey,
    version: i16,
    payload: &[u8],
) -> Result<(i32, usize), DecodeError> {
    let header_version = api.response_header_version(version);
    let mut reader = Reader::new(payload);
    reader.enter("ResponseHeader", header_version, header_version >= 1);
    let correlation_id = reader.int32("CorrelationId")?;
    reader.skip_tags("")?;
    Ok((correlation_id, reader.offset()))
}

/// The header of a request, as the receiving side reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Number of the API, which may be none that we know.
    pub api_key: i16,
    /// Version of the request.
    pub api_version: i16,
    /// What the response must repeat.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
}

/// Reads the header of a request from `payload` (the frame without its length), and where the body begins. For
/// tools that look at requests; a client only writes them.
///
/// # Errors
/// When the header is cut, its client id is not UTF-8 or its tagged fields are damaged.
pub fn decode_request_header(payload: &[u8]) -> Result<(RequestHeader<'_>, usize), DecodeError> {
    let mut reader = Reader::new(payload);
    reader.enter("RequestHeader", 1, false);
    let api_key = reader.int16("RequestApiKey")?;
    let api_version = reader.int16("RequestApiVersion")?;
    let correlation_id = reader.int32("CorrelationId")?;
    let client_id = reader.nullable_string::<Check>("ClientId")?;
    if ApiKey::from_i16(api_key).is_some_and(|api| api.request_header_version(api_version) >= 2) {
        reader.set_flexible(true);
        reader.skip_tags("")?;
    }
    Ok((RequestHeader { api_key, api_version, correlation_id, client_id }, reader.offset()))
}

/// Why the four bytes in front of a frame are not a length that we follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A negative length.
    Negative {
        /// The length.
        length: i32,
    },
    /// Too short to hold a response header.
    TooSmall {
        /// The length.
        length: usize,
    },
    /// Longer than what is allowed.
    TooLarge {
        /// The length.
        length: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// The bytes are the beginning of a TLS alert: the port speaks TLS.
    TlsAlert,
    /// The bytes are `HTTP`: the port speaks HTTP.
    Http,
}

/// The length of a frame from its first four bytes, `max` being the longest that is allowed.
///
/// # Errors
/// When it is negative, too small to hold a response header, or larger than `max`. Two lengths that are really
/// something else are named as what they are.
pub fn frame_length(header: [u8; 4], max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(header);
    let Ok(size) = usize::try_from(length) else { return Err(FrameError::Negative { length }) };
    if size < 4 {
        return Err(FrameError::TooSmall { length: size });
    }
    if size <= max {
        return Ok(size);
    }
    Err(match header {
        // Record type 21 (alert), then version 3.0 to 3.4.
        [0x15, 0x03, 0..=4, _] => FrameError::TlsAlert,
        [b'H', b'T', b'T', b'P'] => FrameError::Http,
        _ => FrameError::TooLarge { length: size, max },
    })
}

/// What is read at once while it is not known how long the next frame is.
const READ_CHUNK: usize = 64 << 10;

/// A frame up to this size is copied out of the read buffer, which would else stay alive with it uncounted.
const SMALL_FRAME: usize = 8 << 10;

/// Cuts a stream of bytes into frames, and says how much to read next.
#[derive(Clone, Copy, Debug)]
pub struct FrameReader {
    max: usize,
    read_hint: usize,
}

impl FrameReader {
    /// What is reserved at once for a frame on the word of its length field alone.
    pub const TRUSTED: usize = (1 << 20) + READ_CHUNK;

    /// A reader that refuses frames longer than `max`.
    pub const fn new(max: usize) -> Self {
        Self { max, read_hint: READ_CHUNK }
    }

    /// How many bytes to read next at the most: never past the end of a large frame, so that its buffer holds
    /// nothing else, and never more than a length field that nobody has verified deserves.
    pub const fn read_hint(&self) -> usize {
        self.read_hint
    }

    /// Takes the next whole frame out of `buf`, without its length; `None` until one is there.
    ///
    /// # Errors
    /// When what comes next is no frame, or a longer one than is allowed. Nothing is taken then.
    pub fn next_frame(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(&header) = buf.first_chunk::<4>() else {
            self.read_hint = READ_CHUNK;
            return Ok(None);
        };
        let whole = frame_length(header, self.max)?.saturating_add(4);
        if buf.len() < whole {
            self.read_hint = whole.saturating_sub(buf.len()).min(Self::TRUSTED.max(buf.len()));
            return Ok(None);
        }
        self.read_hint = READ_CHUNK;
        if whole <= SMALL_FRAME {
            let frame = buf.get(4..whole).map(Bytes::copy_from_slice);
            buf.advance(whole);
            return Ok(frame);
        }
        let mut framed = buf.split_to(whole);
        Ok(Some(framed.split_off(4).freeze()))
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative { length } => {
                write!(f, "frame with negative length {length}, not a kafka broker?")
            }
            Self::TooSmall { length } => write!(f, "frame of {length} bytes cannot hold a response"),
            Self::TooLarge { length, max } => {
                write!(f, "frame of {length} bytes is over the limit of {max}, raise max_frame or fetch less")
            }
            Self::TlsAlert => {
                write!(f, "the broker answered with a tls alert: this port speaks tls, connect with tls")
            }
            Self::Http => write!(f, "the answer is http: this port is no kafka listener"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100 << 20;

    #[test]
    fn lengths_that_no_broker_sends_are_refused() {
        assert_eq!(frame_length([0xff; 4], MAX), Err(FrameError::Negative { length: -1 }));
        assert_eq!(frame_length([0x80, 0, 0, 0], MAX), Err(FrameError::Negative { length: i32::MIN }));
        assert_eq!(frame_length([0; 4], MAX), Err(FrameError::TooSmall { length: 0 }));
        assert_eq!(frame_length([0, 0, 0, 3], MAX), Err(FrameError::TooSmall { length: 3 }));
        assert_eq!(
            frame_length((1i32 << 30).to_be_bytes(), MAX),
            Err(FrameError::TooLarge { length: 1 << 30, max: MAX })
        );
        assert_eq!(frame_length([0, 0, 0, 4], MAX), Ok(4));
        assert_eq!(frame_length((100i32 << 20).to_be_bytes(), MAX), Ok(MAX));
    }

    #[test]
    fn a_tls_alert_and_http_are_named() {
        assert_eq!(frame_length(352_518_912i32.to_be_bytes(), MAX), Err(FrameError::TlsAlert));
        assert_eq!(frame_length([0x15, 3, 1, 0], MAX), Err(FrameError::TlsAlert));
        assert_eq!(frame_length(1_213_486_160i32.to_be_bytes(), MAX), Err(FrameError::Http));
        assert_eq!(frame_length(*b"HTTP", MAX), Err(FrameError::Http));
        assert!(FrameError::TlsAlert.to_string().contains("tls"));
    }

    #[test]
    fn a_cut_response_header_is_an_error() {
        assert!(decode_response_header(ApiKey::Fetch, 12, &[0, 0, 0]).is_err());
        assert!(decode_response_header(ApiKey::Fetch, 12, &[0, 0, 0, 7]).is_err(), "no tags");
        assert_eq!(decode_response_header(ApiKey::Fetch, 12, &[0, 0, 0, 7, 0, 9]), Ok((7, 5)));
        assert_eq!(decode_response_header(ApiKey::Fetch, 11, &[0, 0, 0, 7, 9]), Ok((7, 4)));
    }

    /// KIP-511: the client may not know yet whether the broker knows flexible headers.
    #[test]
    fn api_versions_always_answers_with_header_0() {
        for version in 0..=5 {
            assert_eq!(ApiKey::ApiVersions.response_header_version(version), 0);
        }
        assert_eq!(ApiKey::ApiVersions.request_header_version(2), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
    }

    #[test]
    fn a_request_that_cannot_be_encoded_leaves_the_buffer_alone() {
        let mut out = BytesMut::from(&b"before"[..]);
        let long = "x".repeat(40_000);
        let request = crate::messages::HeartbeatRequest::default();
        assert!(encode_request(0, 1, Some(&long), &request, &mut out).is_err());
        let error = encode_request(99, 1, None, &request, &mut out).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot encode HeartbeatRequest version 99: unknown version, known are 0 to 4"
        );
        let member = crate::messages::HeartbeatRequest {
            group_instance_id: Some("instance".to_owned()),
            ..Default::default()
        };
        let error = encode_request(2, 1, None, &member, &mut out).unwrap_err();
        assert_eq!(error.field, "GroupInstanceId");
        assert_eq!(error.kind, EncodeErrorKind::NotInVersion);
        assert_eq!(&out[..], b"before");
    }
}
