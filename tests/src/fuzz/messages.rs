//! Messages: the first two bytes of an input choose message and version, the rest is the body.

use std::sync::LazyLock;

use crate::heap::measure;
use crate::register::{Kind, MESSAGES, Message};

/// Every message of `kind` in every version.
fn all(kinds: &[Kind]) -> Vec<(&'static Message, i16)> {
    let of_kind = MESSAGES.iter().filter(|message| kinds.contains(&message.kind));
    of_kind.flat_map(|m| (m.versions.0..=m.versions.1).map(move |version| (m, version))).collect()
}

/// What a client reads: responses, their header, and the data structures inside them and inside records.
static READ: LazyLock<Vec<(&Message, i16)>> =
    LazyLock::new(|| all(&[Kind::Response, Kind::Header, Kind::Data]));

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

/// An input of [`decode_response`] for a body; `None` for what a client does not read.
pub fn response_seed(message: &str, version: i16, body: &[u8]) -> Option<Vec<u8>> {
    Some([&choice(&READ, message, version)?[..], body].concat())
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
