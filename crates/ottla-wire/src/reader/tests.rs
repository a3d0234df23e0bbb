//! Primitives from a hostile peer: each is an error that says where, and nothing panics.

use bytes::BytesMut;

use super::*;
use crate::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use crate::messages::{ApiVersionsResponse, HeartbeatResponse};
use crate::{View, varint};

fn kind<T>(result: Result<T, DecodeError>) -> DecodeErrorKind {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.kind,
    }
}

/// A flexible section of tagged fields by itself.
fn tags(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::checked(bytes, 0, true);
    reader.skip_tags("tags")?;
    reader.finish("tags")
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_anything_is_done() {
    let huge = [0x7f, 0xff, 0xff, 0xff, 1, 2, 3];
    let refused = DecodeErrorKind::CountTooLarge { count: i32::MAX as u32, left: 3 };
    assert_eq!(kind(parse_all::<Strings<'_>>(&huge, false)), refused);
    assert_eq!(kind(parse_all::<Ints<'_>>(&huge, false)), refused);
    let compact = [0xff, 0xff, 0xff, 0xff, 0x07, 1];
    let refused = DecodeErrorKind::CountTooLarge { count: 0x7fff_fffe, left: 1 };
    assert_eq!(kind(parse_all::<Strings<'_>>(&compact, true)), refused);
    let five_of_four = [0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    let refused = DecodeErrorKind::Truncated { needed: 20, left: 12 };
    assert_eq!(kind(parse_all::<Ints<'_>>(&five_of_four, false)), refused);
}

/// Kafka before 4.2.1 took a count of 2^32 - 1 for null; it is no count.
#[test]
fn compact_lengths_of_2_to_the_31_are_refused() {
    let length = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let refused = DecodeErrorKind::LengthTooLarge { length: 0xffff_fffe };
    assert_eq!(kind(parse_all::<Strings<'_>>(&length, true)), refused);
    assert_eq!(kind(parse_all::<&[u8]>(&length, true)), refused);
}

#[test]
fn null_where_null_is_not_allowed() {
    for null in [&[0xff, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xfe]] {
        assert_eq!(kind(parse_all::<Strings<'_>>(null, false)), DecodeErrorKind::Null);
        assert_eq!(kind(parse_all::<&[u8]>(null, false)), DecodeErrorKind::Null);
    }
    assert_eq!(kind(parse_all::<&str>(&[0xff, 0xff], false)), DecodeErrorKind::Null);
    assert_eq!(kind(parse_all::<&str>(&[0], true)), DecodeErrorKind::Null);
    assert_eq!(kind(parse_all::<Strings<'_>>(&[0], true)), DecodeErrorKind::Null);
}

#[test]
fn strings_must_be_utf_8_and_short() {
    assert_eq!(kind(parse_all::<&str>(&[0, 1, 0xff], false)), DecodeErrorKind::Utf8);
    assert_eq!(kind(parse_all::<&str>(&[2, 0xff], true)), DecodeErrorKind::Utf8);
    let mut long = vec![0x81, 0x80, 0x02];
    long.extend(std::iter::repeat_n(b'x', 32_768));
    assert_eq!(kind(parse_all::<&str>(&long, true)), DecodeErrorKind::LengthTooLarge { length: 32_768 });
}

#[test]
fn varints_must_end() {
    for varint in [&[][..], &[0x80], &[0xff, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x10, 0]] {
        assert_eq!(kind(parse_all::<&str>(varint, true)), DecodeErrorKind::Varint);
        assert_eq!(kind(tags(varint)), DecodeErrorKind::Varint);
    }
}

#[test]
fn tags_must_ascend_and_fit() {
    assert_eq!(tags(&[2, 1, 0, 5, 1, 9]), Ok(()));
    assert_eq!(kind(tags(&[2, 1, 0, 1, 0])), DecodeErrorKind::TagOrder { tag: 1 });
    assert_eq!(kind(tags(&[2, 3, 0, 1, 0])), DecodeErrorKind::TagOrder { tag: 1 });
    assert_eq!(kind(tags(&[1, 3, 2, 1])), DecodeErrorKind::Truncated { needed: 2, left: 1 });
    // A count of 2^32 - 1.
    let count = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    assert_eq!(kind(tags(&count)), DecodeErrorKind::CountTooLarge { count: u32::MAX, left: 2 });
    // The highest tag there is, twice.
    let last = [2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert_eq!(kind(tags(&last)), DecodeErrorKind::TagOrder { tag: u32::MAX });
}

/// CVE-2026-111115: each of these was an object in older Kafka.
#[test]
fn ten_million_empty_unknown_tags_are_stepped_over() {
    let mut bytes = BytesMut::new();
    varint::write_unsigned(10_000_000, &mut bytes);
    for tag in 0..10_000_000 {
        varint::write_unsigned(tag, &mut bytes);
        varint::write_unsigned(0, &mut bytes);
    }
    assert_eq!(tags(&bytes), Ok(()));
}

#[test]
fn a_known_tagged_field_must_fill_its_size() {
    // ApiVersions 3: no error, no keys, throttle 0, then tag 1 (an i64) of 9 bytes.
    let mut body = vec![0, 0, 1, 0, 0, 0, 0, 1, 1, 9];
    body.extend([0; 9]);
    let error = ApiVersionsResponse::decode(3, &body).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::TrailingBytes { left: 1 });
    assert_eq!(error.field, "FinalizedFeaturesEpoch");
    assert_eq!(error.offset, 18);
    // And of 7 bytes, with more behind it that it must not reach.
    let mut body = vec![0, 0, 1, 0, 0, 0, 0, 1, 1, 7];
    body.extend([0; 9]);
    let error = ApiVersionsResponse::decode(3, &body).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::Truncated { needed: 8, left: 7 });
}

#[test]
fn bodies_shorter_and_longer_than_the_message() {
    let error = HeartbeatResponse::decode(1, &[0, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::Truncated { needed: 2, left: 1 });
    assert_eq!(
        error.to_string(),
        "cannot decode HeartbeatResponse version 1: ErrorCode at byte 4: the value takes 2 bytes but 1 are left"
    );
    let error = HeartbeatResponse::decode(1, &[0; 8]).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::TrailingBytes { left: 2 });
    let mut reader = Reader::new(&[0; 8]);
    assert!(HeartbeatResponse::decode_from(1, &mut reader).is_ok());
    assert_eq!(reader.remaining(), 2);
}

#[test]
fn unknown_versions_are_refused() {
    for version in [-1, 5, i16::MIN, i16::MAX] {
        let kind = kind(HeartbeatResponse::decode(version, &[0; 6]));
        assert_eq!(kind, DecodeErrorKind::UnsupportedVersion { min: 0, max: 4 });
    }
}

#[test]
fn an_error_deep_inside_is_found_when_decoding_and_says_where() {
    // Metadata 0: no brokers; one topic with error, name "t" and one partition whose replicas are cut.
    let body = [
        0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0,
    ];
    let error = MetadataResponse::decode(0, &body).unwrap_err();
    assert_eq!(error.field, "MetadataResponsePartition.ReplicaNodes");
    assert_eq!(error.kind, DecodeErrorKind::Truncated { needed: 8, left: 2 });
}

#[test]
fn arrays_iterate_what_was_checked() {
    let bytes = [0, 0, 0, 3, 0, 1, b'a', 0, 0, 0, 2, b'b', b'c'];
    let strings: Strings<'_> = parse_all(&bytes, false).unwrap();
    assert_eq!(strings.0.len(), 3);
    assert_eq!(strings.0.iter().len(), 3);
    assert!(strings.0.iter().eq(["a", "", "bc"]));
    assert_eq!(strings.0.first(), Some("a"));
    assert!(Array::<'_, MetadataResponseTopic<'_>>::default().iter().next().is_none());
    assert!(Array::<'_, i32>::default().is_empty());
}

/// An array by itself.
struct Strings<'a>(Array<'a, &'a str>);

/// An array of elements of one size by itself.
struct Ints<'a>(#[expect(dead_code, reason = "only decoding it matters")] Array<'a, i32>);

impl<'a> Element<'a> for Strings<'a> {
    fn parse<M: Mode>(r: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        r.array::<M, &str>(field).map(Self)
    }
}

impl<'a> Element<'a> for Ints<'a> {
    fn parse<M: Mode>(r: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        r.array::<M, i32>(field).map(Self)
    }
}
