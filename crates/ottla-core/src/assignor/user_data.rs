//! The bytes which the sticky assignors add to a subscription, written and read as Kafka does.
//!
//! | assignor | layout |
//! |---|---|
//! | sticky, version 0 | array of (topic, array of partitions) |
//! | sticky, version 1 (KIP-341) | the same, then the generation |
//! | cooperative-sticky | the generation |
//!
//! There is no version field: version 1 is what can be read as version 1. Numbers are big-endian int32, strings
//! have an int16 length; bytes behind the end do not count.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Assignor, GroupMember};

/// What a member says it had. The partitions may be anything.
pub(super) struct Previous<'a> {
    pub(super) topics: Vec<(Cow<'a, str>, Partitions<'a>)>,
    pub(super) generation: Option<i32>,
}

/// Partitions as a list, or as they are on the wire; the other one is empty.
#[derive(Clone, Copy)]
pub(super) struct Partitions<'a> {
    list: &'a [i32],
    wire: &'a [u8],
}

impl<'a> Partitions<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = i32> + 'a {
        let wire =
            self.wire.chunks_exact(4).map(|four| four.iter().fold(0, |sum, &b| (sum << 8) | i32::from(b)));
        self.list.iter().copied().chain(wire)
    }
}

/// What `member` says it had, as `assignor` reads it.
pub(super) fn previous(assignor: Assignor, member: &GroupMember) -> Previous<'_> {
    let user_data = member.user_data.as_deref();
    match assignor {
        Assignor::Range | Assignor::RoundRobin => Previous { topics: Vec::new(), generation: None },
        Assignor::Sticky => match user_data {
            None | Some([]) => Previous { topics: Vec::new(), generation: None },
            Some(bytes) => {
                decode_sticky(bytes).unwrap_or(Previous { topics: Vec::new(), generation: Some(-1) })
            }
        },
        Assignor::CooperativeSticky => {
            let owned = member.owned_partitions.iter();
            let topics =
                owned.map(|(name, list)| (Cow::Borrowed(name.as_str()), Partitions { list, wire: &[] }));
            let from_user_data = || user_data.map(|bytes| Reader(bytes).int32().unwrap_or(-1));
            Previous { topics: topics.collect(), generation: member.generation_id.or_else(from_user_data) }
        }
    }
}

fn decode_sticky(bytes: &[u8]) -> Option<Previous<'_>> {
    let mut reader = Reader(bytes);
    let count = usize::try_from(reader.int32()?).ok()?;
    // The count is only believed as far as there are bytes: a topic takes six at least.
    let mut topics = Vec::with_capacity(count.min(bytes.len() / 6));
    for _ in 0..count {
        let length = usize::try_from(reader.int16()?).ok()?;
        // As in Java a name that is no UTF-8 is read with replacement characters. There is no such topic.
        let name = String::from_utf8_lossy(reader.take(length)?);
        let partitions = usize::try_from(reader.int32()?).ok()?;
        let wire = reader.take(partitions.checked_mul(4)?)?;
        topics.push((name, Partitions { list: &[], wire }));
    }
    Some(Previous { topics, generation: reader.int32() })
}

pub(super) fn encode_sticky(owned: &[(String, Vec<i32>)], generation: i32) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    // Kafka's topic names have at most 249 characters.
    for (name, partitions) in
        owned.iter().filter(|(name, list)| i16::try_from(name.len()).is_ok() && !list.is_empty())
    {
        topics.entry(name).or_default().extend(partitions);
    }
    let size = topics.iter().map(|(name, partitions)| 6 + name.len() + 4 * partitions.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(8 + size);
    out.put_i32(i32::try_from(topics.len()).unwrap_or(i32::MAX));
    for (name, partitions) in topics {
        out.put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
        out.put_slice(name.as_bytes());
        out.put_i32(i32::try_from(partitions.len()).unwrap_or(i32::MAX));
        partitions.iter().for_each(|&partition| out.put_i32(partition));
    }
    out.put_i32(generation);
    out.freeze()
}

pub(super) fn encode_cooperative(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn int16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }
}
