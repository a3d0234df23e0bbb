//! The bytes that members of a classic group send one another through the coordinator, inside JoinGroup and
//! SyncGroup: what a member subscribes to, and what the leader gave it.
//!
//! Both begin with a 2-byte version. Members of one group may be of any age, so a newer version is read as the
//! newest known one, whatever follows is left alone, and a member writes the version that the group can read.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::messages::consumer_protocol_assignment::{self as assignment, ConsumerProtocolAssignment};
use crate::messages::consumer_protocol_subscription::{self as subscription, ConsumerProtocolSubscription};
use crate::{DecodeError, DecodeErrorKind, Encode, EncodeError, Reader, View};

/// The highest version that we know of [`Subscription`] and [`Assignment`].
pub const MAX_VERSION: i16 = 3;

/// What a member tells the leader: metadata of a protocol in JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Subscription {
    /// The topics subscribed to. Written in order.
    pub topics: Vec<String>,
    /// Whatever the assignor adds.
    pub user_data: Option<Bytes>,
    /// The partitions that the member has (version 1, KIP-429). Written in order of topic and partition.
    pub owned_partitions: Vec<(String, Vec<i32>)>,
    /// The generation in which it got them (version 2, KIP-792). `None` is written as -1; a negative one is read
    /// as `None`.
    pub generation_id: Option<i32>,
    /// The rack it is in (version 3, KIP-881). An empty one is read as `None`.
    pub rack_id: Option<String>,
}

/// What the leader tells a member: its assignment in SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Assignment {
    /// The partitions by topic. Written in this order; a topic that comes twice is written once, at its first
    /// place.
    pub partitions: Vec<(String, Vec<i32>)>,
    /// Whatever the assignor adds.
    pub user_data: Option<Bytes>,
}

impl Subscription {
    /// The bytes of `version`, which comes first. What an older version cannot say is left out.
    ///
    /// # Errors
    /// When the version is unknown or a topic is longer than 32,767 bytes.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut topics = self.topics.clone();
        topics.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
        let mut owned_partitions: Vec<subscription::TopicPartition> = Vec::new();
        let mut sorted: Vec<&(String, Vec<i32>)> = self.owned_partitions.iter().collect();
        sorted.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
        for (topic, partitions) in sorted {
            match owned_partitions.last_mut() {
                Some(last) if last.topic == *topic => last.partitions.extend(partitions),
                _ if partitions.is_empty() => {}
                _ => {
                    let partitions = partitions.clone();
                    owned_partitions.push(subscription::TopicPartition { topic: topic.clone(), partitions });
                }
            }
        }
        owned_partitions.iter_mut().for_each(|topic| topic.partitions.sort_unstable());
        let message = ConsumerProtocolSubscription {
            topics,
            user_data: self.user_data.clone(),
            owned_partitions,
            generation_id: self.generation_id.unwrap_or(-1),
            rack_id: self.rack_id.clone(),
        };
        encode(version, &message)
    }

    /// What `bytes` say. A version above 3 is read as 3; bytes behind it are left alone.
    ///
    /// # Errors
    /// When the version is negative or the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message: subscription::view::ConsumerProtocolSubscription<'_> = decode(bytes)?;
        Ok(Self {
            topics: message.topics.iter().map(str::to_owned).collect(),
            user_data: message.user_data.map(Bytes::copy_from_slice),
            owned_partitions: message
                .owned_partitions
                .iter()
                .map(|owned| (owned.topic.to_owned(), owned.partitions.iter().collect()))
                .collect(),
            generation_id: Some(message.generation_id).filter(|generation| *generation >= 0),
            rack_id: message.rack_id.filter(|rack| !rack.is_empty()).map(str::to_owned),
        })
    }
}

impl Assignment {
    /// The bytes of `version`, which comes first.
    ///
    /// # Errors
    /// When the version is unknown or a topic is longer than 32,767 bytes.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut assigned_partitions: Vec<assignment::TopicPartition> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (topic, partitions) in self.partitions.iter().filter(|(_, partitions)| !partitions.is_empty()) {
            let place = *places.entry(topic).or_insert(assigned_partitions.len());
            match assigned_partitions.get_mut(place) {
                Some(known) => known.partitions.extend(partitions),
                None => assigned_partitions.push(assignment::TopicPartition {
                    topic: topic.clone(),
                    partitions: partitions.clone(),
                }),
            }
        }
        encode(
            version,
            &ConsumerProtocolAssignment { assigned_partitions, user_data: self.user_data.clone() },
        )
    }

    /// What `bytes` say. A version above 3 is read as 3; bytes behind it are left alone.
    ///
    /// # Errors
    /// When the version is negative or the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message: assignment::view::ConsumerProtocolAssignment<'_> = decode(bytes)?;
        Ok(Self {
            partitions: message
                .assigned_partitions
                .iter()
                .map(|assigned| (assigned.topic.to_owned(), assigned.partitions.iter().collect()))
                .collect(),
            user_data: message.user_data.map(Bytes::copy_from_slice),
        })
    }
}

fn encode<T: Encode>(version: i16, message: &T) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    out.put_i16(version);
    message.encode(version, &mut out)?;
    Ok(out.freeze())
}

fn decode<'a, T: View<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.enter(T::NAME, 0, false);
    let version = reader.int16("version")?;
    if version < 0 {
        reader.enter(T::NAME, version, false);
        let kind = DecodeErrorKind::UnsupportedVersion { min: T::MIN_VERSION, max: T::MAX_VERSION };
        return Err(reader.error("version", kind));
    }
    T::decode_from(version.min(T::MAX_VERSION), &mut reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(topic: &str, partitions: &[i32]) -> (String, Vec<i32>) {
        (topic.to_owned(), partitions.to_vec())
    }

    #[test]
    fn a_subscription_is_written_in_order_and_grouped() {
        let subscription = Subscription {
            topics: vec!["b".to_owned(), "a".to_owned()],
            owned_partitions: vec![owned("z", &[2, 0]), owned("y", &[1]), owned("z", &[1]), owned("x", &[])],
            generation_id: Some(7),
            rack_id: Some("r".to_owned()),
            ..Subscription::default()
        };
        let read = Subscription::decode(&subscription.encode(3).unwrap()).unwrap();
        assert_eq!(read.topics, ["a", "b"]);
        assert_eq!(read.owned_partitions, [owned("y", &[1]), owned("z", &[0, 1, 2])]);
        assert_eq!((read.generation_id, read.rack_id.as_deref()), (Some(7), Some("r")));
    }

    /// KIP-429, KIP-792, KIP-881: each version adds one field, and members of any age share a group.
    #[test]
    fn older_versions_leave_out_what_they_cannot_say() {
        let subscription = Subscription {
            owned_partitions: vec![owned("t", &[0])],
            generation_id: Some(7),
            rack_id: Some("r".to_owned()),
            ..Subscription::default()
        };
        for version in 0..=3 {
            let read = Subscription::decode(&subscription.encode(version).unwrap()).unwrap();
            assert_eq!(!read.owned_partitions.is_empty(), version >= 1);
            assert_eq!(read.generation_id.is_some(), version >= 2);
            assert_eq!(read.rack_id.is_some(), version >= 3);
        }
        assert!(subscription.encode(4).is_err());
    }

    #[test]
    fn an_assignment_keeps_its_order_and_joins_a_topic() {
        let assignment = Assignment {
            partitions: vec![owned("b", &[3]), owned("a", &[2, 1]), owned("b", &[0])],
            user_data: None,
        };
        let read = Assignment::decode(&assignment.encode(1).unwrap()).unwrap();
        assert_eq!(read.partitions, [owned("b", &[3, 0]), owned("a", &[2, 1])]);
    }

    #[test]
    fn a_negative_version_and_cut_bytes_are_errors() {
        for bytes in [&[][..], &[0], &[0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 0, 0, 1]] {
            assert!(Subscription::decode(bytes).is_err());
            assert!(Assignment::decode(bytes).is_err());
        }
        let error = Assignment::decode(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::CountTooLarge { count: i32::MAX as u32, left: 0 });
        assert_eq!(error.offset, 6);
    }
}
