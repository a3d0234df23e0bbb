//! Brokers that lie: honest answers changed on their way to the client.
//!
//! The embedded broker answers as Kafka would, and a [`Lie`] changes that answer: one field of it, its bytes, or
//! whether it comes at all. So a test says only what is wrong, and it is wrong in whatever version was negotiated.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use ottla_broker::Api;

/// An answer on its way from a broker.
#[derive(Debug)]
pub struct Answer {
    /// Who answers.
    pub node: i32,
    /// What is answered.
    pub api: Api,
    /// In which version.
    pub version: i16,
    /// The length of the header, behind the length prefix.
    header: usize,
    frame: Bytes,
    then: Then,
    told: bool,
}

/// What becomes of the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoesOn,
    Closes,
    Stalls,
}

impl Answer {
    pub(super) fn new(node: i32, api: Api, version: i16, frame: Bytes) -> Option<Self> {
        let key = ApiKey::try_from(api.key()).ok()?;
        let header = if key.response_header_version(version) == 0 { 4 } else { 5 };
        (frame.len() >= 4 + header).then_some(Self {
            node,
            api,
            version,
            header,
            frame,
            then: Then::GoesOn,
            told: false,
        })
    }

    pub(super) fn into_parts(self) -> (Bytes, Then) {
        (self.frame, self.then)
    }

    /// The message, without length prefix and header.
    pub fn body(&self) -> &[u8] {
        &self.frame[4 + self.header..]
    }

    /// The whole frame, length prefix included.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// Another message behind the right header.
    pub fn set_body(&mut self, body: &[u8]) {
        let mut frame = BytesMut::with_capacity(4 + self.header + body.len());
        frame.put_u32((self.header + body.len()) as u32);
        frame.extend_from_slice(&self.frame[4..4 + self.header]);
        frame.extend_from_slice(body);
        self.set_frame(frame.freeze());
    }

    /// Other bytes altogether; none at all for an answer that never comes.
    pub fn set_frame(&mut self, frame: Bytes) {
        self.told |= frame != self.frame;
        self.frame = frame;
    }

    /// The broker closes the connection behind this.
    pub fn close(&mut self) {
        (self.then, self.told) = (Then::Closes, true);
    }

    /// Nothing comes on the connection any more behind this, and it stays open.
    pub fn stall(&mut self) {
        (self.then, self.told) = (Then::Stalls, true);
    }

    /// Changes the message; `M` is what the API answers with.
    ///
    /// # Panics
    /// When the answer is no `M`.
    pub fn edit<M: Message + Encodable + Decodable>(&mut self, change: impl FnOnce(&mut M)) {
        assert!(self.try_edit(change), "the broker's own answer");
    }

    /// The same, unless the answer is nonsense already. Tells whether it was none.
    pub fn try_edit<M: Message + Encodable + Decodable>(&mut self, change: impl FnOnce(&mut M)) -> bool {
        // ListOffsets 11 has the layout of version 10.
        let mut version = self.version.min(M::VERSIONS.max);
        if self.api == Api::ApiVersions && self.body().starts_with(&[0, 35]) {
            // KIP-511: whatever was asked.
            version = 0;
        }
        let mut body = Bytes::copy_from_slice(self.body());
        let Ok(mut message) = M::decode(&mut body, version) else { return false };
        change(&mut message);
        let mut body = BytesMut::new();
        message.encode(&mut body, version).expect("an answer that can be written");
        self.set_body(&body);
        true
    }
}

/// A way to change answers.
pub struct Lie {
    api: Option<Api>,
    node: Option<i32>,
    skip: usize,
    times: usize,
    change: Box<dyn FnMut(&mut Answer)>,
    told: usize,
}

impl Lie {
    /// `change` makes a lie of each answer to `api`.
    pub fn about(api: Api, change: impl FnMut(&mut Answer) + 'static) -> Self {
        Self { api: Some(api), ..Self::about_anything(change) }
    }

    /// `change` makes a lie of each answer.
    pub fn about_anything(change: impl FnMut(&mut Answer) + 'static) -> Self {
        Self { api: None, node: None, skip: 0, times: usize::MAX, change: Box::new(change), told: 0 }
    }

    /// `change` makes a lie of each answer to `api`, whose message is an `M`.
    pub fn in_message<M: Message + Encodable + Decodable>(
        api: Api,
        mut change: impl FnMut(&mut M) + 'static,
    ) -> Self {
        Self::about(api, move |answer| answer.edit(&mut change))
    }

    /// Only so often; an answer that came out as it was does not count.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// The first answers are honest.
    #[must_use]
    pub fn skip(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Only this broker lies.
    #[must_use]
    pub fn by(mut self, node: i32) -> Self {
        self.node = Some(node);
        self
    }

    /// How often it was told.
    pub(super) fn told(&self) -> usize {
        self.told
    }

    pub(super) fn stop(&mut self) {
        self.times = 0;
    }

    pub(super) fn tell(&mut self, answer: &mut Answer) {
        let concerned = self.api.is_none_or(|api| api == answer.api)
            && self.node.is_none_or(|node| node == answer.node)
            && self.told < self.times;
        if !concerned {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        answer.told = false;
        (self.change)(answer);
        self.told += usize::from(answer.told);
    }
}

impl fmt::Debug for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lie").field("api", &self.api).field("told", &self.told).finish_non_exhaustive()
    }
}
