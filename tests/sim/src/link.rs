//! A connection as the network sees it.

use std::collections::BTreeMap;

use bytes::BytesMut;
use ottla_core::{ConnectionId, Timestamp};

use super::MemberId;

/// A connection between a client and a broker.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) member: MemberId,
    pub(super) conn: ConnectionId,
    pub(super) node: i32,
    /// What was asked on it and not answered: API and version by correlation id.
    pub(super) asked: BTreeMap<i32, (i16, i16)>,
    pub(super) buf: BytesMut,
    /// Nothing reaches the client any more, and it is not told.
    pub(super) stalled: bool,
    /// The broker's end is gone without a word: what is sent gets a reset once the node answers again.
    pub(super) half_open: bool,
    /// It was reset: so many of the bytes that are on their way still reach the client.
    pub(super) left: Option<usize>,
    /// Bytes on their way to the client.
    pub(super) coming: usize,
    /// Both ends know each other; nothing is delivered to a link that is gone.
    pub(super) open: bool,
    /// Bytes of one direction never overtake each other: when the last ones arrive, at the broker and at the client.
    pub(super) last: [Timestamp; 2],
    /// When the wire of each direction is free again.
    pub(super) busy: [Timestamp; 2],
}

impl Link {
    pub(super) fn new(member: MemberId, conn: ConnectionId, node: i32) -> Self {
        Self {
            member,
            conn,
            node,
            asked: BTreeMap::new(),
            buf: BytesMut::new(),
            stalled: false,
            half_open: false,
            left: None,
            coming: 0,
            open: true,
            last: [Timestamp::ZERO; 2],
            busy: [Timestamp::ZERO; 2],
        }
    }

    /// Keeps in mind what is asked; gives API key, version and correlation id of each request.
    pub(super) fn ask(&mut self, mut frames: &[u8], mut tell: impl FnMut(i16, i16, i32)) {
        while let Some((length, rest)) = frames.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (Some(&[k, e, v, r, c0, c1, c2, c3]), Some(next)) =
                (rest.first_chunk::<8>(), rest.get(length..))
            else {
                return;
            };
            let id = i32::from_be_bytes([c0, c1, c2, c3]);
            let (key, version) = (i16::from_be_bytes([k, e]), i16::from_be_bytes([v, r]));
            self.asked.insert(id, (key, version));
            tell(key, version, id);
            frames = next;
        }
    }

    /// `at`, or later if that would overtake what was sent before the same way.
    pub(super) fn after(&mut self, to_client: bool, at: Timestamp) -> Timestamp {
        let last = &mut self.last[usize::from(to_client)];
        *last = (*last).max(at);
        *last
    }
}
