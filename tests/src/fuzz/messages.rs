//! Messages: the first two bytes of an input choose message and version, the rest is the body.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};
use ottla_broker::sim::{Cluster, ClusterConfig, ConnectionId, Timestamp};
use ottla_wire::consumer_protocol::{Assignment, Subscription};
use ottla_wire::{ApiKey, frame};
use serde_json::Value;

use crate::generated::frame_from_json;
use crate::heap::{allowed, measure};
use crate::register::{Kind, MESSAGES, Message};

/// Every message of `kind` in every version.
fn all(kinds: &[Kind]) -> Vec<(&'static Message, i16)> {
    let of_kind = MESSAGES.iter().filter(|message| kinds.contains(&message.kind));
    of_kind.flat_map(|m| (m.versions.0..=m.versions.1).map(move |version| (m, version))).collect()
}

/// What a client reads: responses, their header, and the data structures inside them and inside records.
static READ: LazyLock<Vec<(&Message, i16)>> =
    LazyLock::new(|| all(&[Kind::Response, Kind::Header, Kind::Data]));

/// What a client sends.
static SENT: LazyLock<Vec<(&Message, i16)>> = LazyLock::new(|| all(&[Kind::Request]));

/// What both ottla and kafka-protocol know.
static SHARED: LazyLock<Vec<(&Message, i16)>> = LazyLock::new(|| {
    let mut shared = all(&[Kind::Request, Kind::Response]);
    shared
        .retain(|(message, version)| theirs(message).is_some_and(|(_, versions)| versions.contains(version)));
    shared
});

/// The message and version that the first two bytes choose, and the body.
fn choose<'a>(of: &[(&'static Message, i16)], data: &'a [u8]) -> Option<(&'static Message, i16, &'a [u8])> {
    let (choice, body) = data.split_first_chunk::<2>()?;
    let (message, version) = of.get(usize::from(u16::from_be_bytes(*choice)) % of.len())?;
    Some((message, *version, body))
}

/// The two bytes that choose `message` in `version` among `of`.
fn choice(of: &[(&'static Message, i16)], message: &str, version: i16) -> Option<[u8; 2]> {
    let at = of.iter().position(|(m, v)| m.name == message && *v == version)?;
    Some(u16::try_from(at).ok()?.to_be_bytes())
}

/// The response of the API of this number.
pub fn response_of(api: i16) -> Option<&'static str> {
    let of_api = |m: &&Message| m.api_key == Some(api) && m.kind == Kind::Response;
    MESSAGES.iter().find(of_api).map(|m| m.name)
}

/// An input of [`decode_response`] and [`response_both_ways`]; `None` for what a client does not read.
pub fn response_seed(message: &str, version: i16, body: &[u8]) -> Option<Vec<u8>> {
    Some([&choice(&READ, message, version)?[..], body].concat())
}

/// An input of [`request_both_ways`]; `None` for what is no request.
pub fn request_seed(message: &str, version: i16, body: &[u8]) -> Option<Vec<u8>> {
    Some([&choice(&SENT, message, version)?[..], body].concat())
}

/// An input of [`against_kafka_protocol`]; `None` for what it does not know.
pub fn shared_seed(message: &str, version: i16, body: &[u8]) -> Option<Vec<u8>> {
    Some([&choice(&SHARED, message, version)?[..], body].concat())
}

/// Values that a body of `length` bytes may hold. A field of a struct takes a byte at least, but for those that
/// the version does not have: no struct has more than 24 of them.
fn values(length: usize) -> usize {
    64 + 24 * length
}

/// Decodes and walks a response: no panic, no allocation, and no more steps than the bytes are worth.
pub fn decode_response(data: &[u8]) {
    let Some((message, version, body)) = choose(&READ, data) else { return };
    let (walked, heap) = measure(|| (message.walk)(version, body));
    assert_eq!(heap.calls, 0, "{} {version} allocates", message.name);
    if let Ok(walked) = walked {
        assert!(walked <= values(body.len()), "{} {version}: {walked} steps", message.name);
    }
}

/// Everything that [`decode_response`] can choose, and the two bytes that do it.
pub fn read() -> impl Iterator<Item = ([u8; 2], &'static str, i16)> {
    READ.iter().filter_map(|(m, version)| Some((choice(&READ, m.name, *version)?, m.name, *version)))
}

/// The JSON of a body that is one message to its end.
fn json(message: &Message, version: i16, body: &[u8]) -> Option<Value> {
    (message.to_json)(version, body).ok().filter(|(_, left)| *left == 0).map(|(json, _)| json)
}

/// What was read can be written, says the same when it is read again, and then does not change any more.
fn both_ways(message: &Message, version: i16, body: &[u8]) -> Option<Value> {
    let json = json(message, version, body)?;
    let name = message.name;
    let encoded = (message.encode)(version, &json).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
    // Unknown tagged fields, and known ones that say what goes without saying, are left out.
    assert!(encoded.len() <= body.len(), "{name} {version} grows to {encoded:02x?}");
    let again = self::json(message, version, &encoded);
    assert_eq!(again.as_ref(), Some(&json), "{name} {version} reads {encoded:02x?}");
    assert_eq!((message.encode)(version, &json), Ok(encoded));
    Some(json)
}

/// Every response that can be read is what is written of it.
pub fn response_both_ways(data: &[u8]) {
    let Some((message, version, body)) = choose(&READ, data) else { return };
    both_ways(message, version, body);
}

/// Every request that can be written is read alike by us and by the embedded broker, whose answer we can read.
pub fn request_both_ways(data: &[u8]) {
    let Some((message, version, body)) = choose(&SENT, data) else { return };
    let Some(json) = both_ways(message, version, body) else { return };
    let framed = frame_from_json(message.name, version, 7, Some("fuzz"), &json).expect("a request");
    let framed = framed.unwrap_or_else(|e| panic!("{} {version}: {e}", message.name));
    let (header, at) = frame::decode_request_header(&framed[4..]).expect("our own header");
    assert_eq!((header.api_version, header.correlation_id, header.client_id), (version, 7, Some("fuzz")));
    let api = ApiKey::from_i16(header.api_key).expect("our own api");
    assert_eq!(Some(header.api_key), message.api_key);
    assert_eq!(self::json(message, version, &framed[4 + at..]).as_ref(), Some(&json));

    let conn = ConnectionId(1);
    let mut cluster = Cluster::new(ClusterConfig::default());
    cluster.create_topic("t", 2).expect("a topic");
    cluster.handle_connected(Timestamp::from_nanos(0), 1, conn);
    cluster.handle_bytes(Timestamp::from_nanos(0), conn, &framed);
    while let Some((_, answer)) = cluster.poll_response() {
        let payload = &answer[4..];
        let (correlation_id, at) = frame::decode_response_header(api, version, payload).expect("a header");
        assert_eq!(correlation_id, 7);
        let response = message.name.replace("Request", "Response");
        let response = Message::named(&response).expect("a response");
        // A version that the broker does not know is answered in version 0.
        let read = (response.walk)(version, &payload[at..]).or_else(|e| {
            if api == ApiKey::ApiVersions { (response.walk)(0, &payload[at..]) } else { Err(e) }
        });
        assert!(read.is_ok(), "{} {version}: {read:?} of {payload:02x?}", response.name);
    }
    while cluster.poll_close().is_some() {}
}

/// What kafka-protocol calls the API, and the versions that it knows.
fn theirs(message: &Message) -> Option<(TheirKey, std::ops::RangeInclusive<i16>)> {
    let key = TheirKey::try_from(message.api_key?).ok()?;
    let versions = key.valid_versions();
    Some((key, versions.min..=versions.max))
}

/// Messages with a struct that may be null: any byte in front of it but 1 is null to kafka-protocol, to Kafka only a
/// negative one. The other defect that is known, of its writer, is met below.
const WITH_NULLABLE_STRUCT: [&str; 4] = [
    "ConsumerGroupHeartbeatResponse",
    "DescribeTopicPartitionsRequest",
    "DescribeTopicPartitionsResponse",
    "ShareGroupHeartbeatResponse",
];

/// What kafka-protocol reads and writes again.
fn read_by_kafka_protocol(message: &Message, version: i16, body: &[u8]) -> Option<Bytes> {
    let (key, _) = theirs(message)?;
    let mut bytes = Bytes::copy_from_slice(body);
    let mut out = BytesMut::new();
    match message.kind {
        Kind::Request => {
            RequestKind::decode(key, &mut bytes, version).ok()?.encode(&mut out, version).ok()?
        }
        _ => ResponseKind::decode(key, &mut bytes, version).ok()?.encode(&mut out, version).ok()?,
    }
    bytes.is_empty().then(|| out.freeze())
}

/// What ottla and kafka-protocol both read is the same.
///
/// kafka-protocol reserves memory on the word of a count and aborts the process when there is not that much, so it
/// only gets what ottla has accepted: then no count is larger than the bytes.
pub fn against_kafka_protocol(data: &[u8]) {
    let Some((message, version, body)) = choose(&SHARED, data) else { return };
    let Some(ours) = json(message, version, body) else { return };
    if WITH_NULLABLE_STRUCT.contains(&message.name) {
        // With the byte as it is to be there is no difference.
        let body = (message.encode)(version, &ours).expect("what was read can be written");
        return compare(message, version, &body, &ours);
    }
    compare(message, version, body, &ours);
}

fn compare(message: &Message, version: i16, body: &[u8], ours: &Value) {
    let Some(theirs) = read_by_kafka_protocol(message, version, body) else { return };
    let Some(theirs) = json(message, version, &theirs) else {
        // An unknown tag above `i32::MAX` is negative to it: it counts the field and does not write it
        // (`written-again-it-cannot-be-read`). So it is missing from what it wrote.
        assert!(theirs.len() < body.len(), "{} {version}: kafka-protocol writes {theirs:02x?}", message.name);
        return;
    };
    assert_eq!(theirs, *ours, "{} {version}: kafka-protocol's reading and ours", message.name);
}

/// What members of a group send one another: bounded memory, and what was read is what is written of it.
pub fn between_members(data: &[u8]) {
    let (subscription, heap) = measure(|| Subscription::decode(data));
    assert!(heap.asked <= allowed(data.len()), "{} bytes for {}", heap.asked, data.len());
    if let Ok(mut subscription) = subscription {
        let encoded = subscription.encode(3).expect("what was read can be written");
        let again = Subscription::decode(&encoded).expect("what was written can be read");
        // Written in order, owned partitions joined by topic.
        assert_eq!(again.encode(3).expect("again"), encoded);
        subscription.topics.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
        assert_eq!(again.topics, subscription.topics);
        assert_eq!(partitions(&again.owned_partitions), partitions(&subscription.owned_partitions));
        assert_eq!(
            (again.user_data, again.generation_id, again.rack_id),
            (subscription.user_data, subscription.generation_id, subscription.rack_id)
        );
    }
    let (assignment, heap) = measure(|| Assignment::decode(data));
    assert!(heap.asked <= allowed(data.len()), "{} bytes for {}", heap.asked, data.len());
    if let Ok(assignment) = assignment {
        let again = Assignment::decode(&assignment.encode(3).expect("written")).expect("read again");
        assert_eq!(partitions(&again.partitions), partitions(&assignment.partitions));
        assert_eq!(again.user_data, assignment.user_data);
    }
}

/// Topic and partition of each, sorted.
fn partitions(topics: &[(String, Vec<i32>)]) -> Vec<(&str, i32)> {
    let mut all: Vec<(&str, i32)> =
        topics.iter().flat_map(|(topic, list)| list.iter().map(|p| (topic.as_str(), *p))).collect();
    all.sort_unstable();
    all
}
