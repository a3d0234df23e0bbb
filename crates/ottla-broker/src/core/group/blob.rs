//! What classic members say and are told inside of the group protocol: Kafka's consumer protocol.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The newest version of both messages that Kafka has.
const NEWEST: i16 = 3;

/// ConsumerProtocolSubscription, without what only a leader looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: BTreeSet<String>,
    /// What the member says it owns: since version 1.
    pub(super) owned: Vec<(String, i32)>,
    /// Since version 3.
    pub(super) rack: Option<String>,
}

impl Subscription {
    /// None: it is something else.
    pub(super) fn read(mut bytes: Bytes) -> Option<Self> {
        let version = bytes.try_get_i16().ok().filter(|v| *v >= 0)?.min(NEWEST);
        let topics = names(&mut bytes)?.into_iter().collect();
        let mut read = Self { version, topics, ..Self::default() };
        user_data(&mut bytes)?;
        if version >= 1 {
            read.owned = topic_partitions(&mut bytes)?;
        }
        if version >= 2 {
            bytes.try_get_i32().ok()?;
        }
        if version >= 3 {
            read.rack = match bytes.try_get_i16().ok()? {
                -1 => None,
                length => Some(text(&mut bytes, length)?),
            };
        }
        Some(read)
    }

    pub(super) fn write<'a>(topics: impl ExactSizeIterator<Item = &'a String>) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(0);
        out.put_i32(topics.len() as i32);
        topics.for_each(|name| put_name(&mut out, name));
        out.put_i32(-1);
        out.freeze()
    }
}

/// ConsumerProtocolAssignment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) partitions: Vec<(String, i32)>,
    /// What an assignor has to say besides.
    pub(super) user_data: usize,
}

impl Assigned {
    /// None: it is something else.
    pub(super) fn read(mut bytes: Bytes) -> Option<Self> {
        bytes.try_get_i16().ok().filter(|v| *v >= 0)?;
        let partitions = topic_partitions(&mut bytes)?;
        let user_data = user_data(&mut bytes)?;
        Some(Self { partitions, user_data })
    }

    /// In the version of a subscription, whose bytes differ in nothing else.
    pub(super) fn write(version: i16, topics: &BTreeMap<String, Vec<i32>>) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(version);
        out.put_i32(topics.len() as i32);
        for (name, partitions) in topics {
            put_name(&mut out, name);
            out.put_i32(partitions.len() as i32);
            partitions.iter().for_each(|p| out.put_i32(*p));
        }
        out.put_i32(-1);
        out.freeze()
    }
}

fn put_name(out: &mut BytesMut, name: &str) {
    out.put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
    out.put_slice(name.as_bytes());
}

fn user_data(bytes: &mut Bytes) -> Option<usize> {
    let length = usize::try_from(bytes.try_get_i32().ok()?).unwrap_or(0);
    if length > bytes.len() {
        return None;
    }
    bytes.advance(length);
    Some(length)
}

fn topic_partitions(bytes: &mut Bytes) -> Option<Vec<(String, i32)>> {
    let mut all = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let topic = name(bytes)?;
        for _ in 0..bytes.try_get_i32().ok()? {
            all.push((topic.clone(), bytes.try_get_i32().ok()?));
        }
    }
    Some(all)
}

fn names(bytes: &mut Bytes) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        all.push(name(bytes)?);
    }
    Some(all)
}

fn name(bytes: &mut Bytes) -> Option<String> {
    let length = bytes.try_get_i16().ok()?;
    text(bytes, length)
}

fn text(bytes: &mut Bytes, length: i16) -> Option<String> {
    let length = usize::try_from(length).ok()?;
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_survives_garbage() {
        let topics = BTreeMap::from([("t".to_owned(), vec![3, 4])]);
        let assigned = Assigned::write(1, &topics);
        let read = Assigned::read(assigned.clone()).unwrap();
        assert_eq!(read.partitions, [("t".to_owned(), 3), ("t".to_owned(), 4)]);
        assert_eq!(read.user_data, 0);
        for length in 0..assigned.len() {
            assert_eq!(Assigned::read(assigned.slice(..length)), None);
        }
        let subscribed = Subscription::write(["t".to_owned()].iter());
        assert_eq!(Subscription::read(subscribed).unwrap().topics, BTreeSet::from(["t".to_owned()]));
        assert_eq!(Subscription::read(Bytes::from_static(&[0, 0, 127, 255, 255, 255, 0, 9])), None);
    }

    #[test]
    fn reads_every_version_of_a_subscription() {
        let body: &[u8] = &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 7, 7];
        let owned: &[u8] = &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5];
        let generation: &[u8] = &[0, 0, 0, 9];
        let rack: &[u8] = &[0, 1, b'r'];
        for (version, parts) in [
            (0, vec![body]),
            (1, vec![body, owned]),
            (2, vec![body, owned, generation]),
            (3, vec![body, owned, generation, rack]),
            (4, vec![body, owned, generation, rack]),
        ] {
            let bytes = Bytes::from([&[0, version][..], &parts.concat()].concat());
            let read = Subscription::read(bytes.clone()).unwrap();
            assert_eq!(read.topics, BTreeSet::from(["t".to_owned()]));
            assert_eq!(read.owned.len(), usize::from(version >= 1));
            assert_eq!(read.rack.is_some(), version >= 3);
            for length in 0..bytes.len() {
                assert_eq!(Subscription::read(bytes.slice(..length)), None, "{version} {length}");
            }
        }
    }
}
