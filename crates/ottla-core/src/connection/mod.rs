//! One connection to one broker: framing, correlation, version negotiation, request timeouts, throttling.
//!
//! | state             | connected   | versions               | error 35               | other answer           | wrong id | send         | time is over |
//! |-------------------|-------------|------------------------|------------------------|------------------------|----------|--------------|--------------|
//! | Connecting        | Negotiating | fail                   | fail                   | fail                   | fail     | refused      | fail         |
//! | Negotiating       | –           | Ready                  | Negotiating again      | fail                   | fail     | refused      | fail         |
//! | Negotiating again | –           | Ready                  | fail                   | fail                   | fail     | refused      | fail         |
//! | Ready             | –           | fail                   | fail                   | fail                   | fail     | Ready, asked | –            |
//! | Ready, asked      | –           | Ready, "m" is answered | Ready, "m" is answered | Ready, "m" is answered | fail     | –            | fail         |
//!
//! A test writes the table anew and compares. *Fail*, which a closed transport is too, ends the connection and
//! fails everything in flight, once. A broker answers one connection strictly in order, so an answer belongs to the
//! oldest request in flight or the connection cannot be trusted any more.

mod network;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_wire::frame::FrameReader;
use ottla_wire::messages::ApiVersionsRequest;
use ottla_wire::{ApiKey, Request, frame};

pub(crate) use network::{Io, NetEvent, Network, Role, Target};
use versions::Negotiated;
pub(crate) use versions::Versions;

use crate::{BrokerId, Error, ErrorKind, Timestamp};

/// The version that negotiation begins with. Version 5 (KIP-1242) is not used: it would cost every broker
/// before 4.4 a second round trip.
const FIRST_API_VERSIONS: i16 = 4;

/// Who is at the other end, for errors and logs.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) broker: Option<BrokerId>,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl Peer {
    /// An error about this peer.
    pub(crate) fn error(&self, kind: ErrorKind, text: &str) -> Error {
        let error = Error::new(kind, format!("{}:{}: {text}", self.host, self.port));
        match self.broker {
            Some(broker) => error.with_broker(broker),
            None => error,
        }
    }
}

#[derive(Debug)]
enum State {
    Connecting,
    Negotiating { downgraded: bool },
    Ready(Versions),
}

#[derive(Debug)]
struct InFlight<T> {
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    deadline: Timestamp,
    /// Since when its owner waits; `None` for the negotiation, which is the connection's own.
    tag: Option<(T, Timestamp)>,
}

/// An answer, still encoded.
#[derive(Debug)]
pub(crate) struct Response<T> {
    pub(crate) tag: T,
    pub(crate) version: i16,
    /// When it was asked for.
    pub(crate) sent: Timestamp,
    /// The whole payload; the body begins at `body_at`.
    pub(crate) payload: Bytes,
    pub(crate) body_at: usize,
}

/// What a frame meant.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// Negotiation is over: requests can be sent.
    Ready,
    /// A request was answered.
    Response(Response<T>),
    /// Nothing for the outside.
    Nothing,
}

/// The state machine of one connection. `T` is what the owner wants back with the answer.
#[derive(Debug)]
pub(crate) struct Connection<T> {
    pub(crate) peer: Peer,
    client_id: Arc<str>,
    state: State,
    in_flight: VecDeque<InFlight<T>>,
    next_correlation_id: i32,
    out: BytesMut,
    /// The broker asked us to be silent until then (KIP-219).
    muted_until: Timestamp,
    setup_deadline: Timestamp,
    frames: FrameReader,
}

impl<T> Connection<T> {
    pub(crate) fn new(
        peer: Peer,
        client_id: Arc<str>,
        max_frame_bytes: usize,
        setup_deadline: Timestamp,
    ) -> Self {
        Self {
            peer,
            client_id,
            state: State::Connecting,
            in_flight: VecDeque::new(),
            next_correlation_id: 0,
            out: BytesMut::new(),
            muted_until: Timestamp::ZERO,
            setup_deadline,
            frames: FrameReader::new(max_frame_bytes),
        }
    }

    /// The transport is connected: negotiation begins.
    pub(crate) fn connected(&mut self) -> Result<(), Error> {
        if matches!(self.state, State::Connecting) {
            self.negotiate(FIRST_API_VERSIONS, false)
        } else {
            Ok(())
        }
    }

    /// What the broker offers, once that is known.
    pub(crate) fn versions(&self) -> Option<&Versions> {
        match &self.state {
            State::Ready(versions) => Some(versions),
            State::Connecting | State::Negotiating { .. } => None,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many bytes to read next at the most: see [`FrameReader::read_hint`].
    pub(crate) fn read_hint(&self) -> usize {
        self.frames.read_hint()
    }

    /// Takes the next whole frame out of `buf`; `None` until one is there.
    pub(crate) fn next_frame(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        self.frames.next_frame(buf).map_err(|e| {
            self.peer.error(ErrorKind::BrokerMisbehaved, "sent what is no Kafka frame").with_source(e)
        })
    }

    /// Takes in a frame's payload.
    pub(crate) fn handle_frame(&mut self, payload: Bytes) -> Result<Received<T>, Error> {
        let Some(request) = self.in_flight.pop_front() else {
            return Err(self
                .peer
                .error(ErrorKind::BrokerMisbehaved, "sent an answer although nothing was asked"));
        };
        let header = frame::decode_response_header(request.api, request.version, &payload);
        let (correlation_id, body_at) = match header {
            Ok(header) => header,
            Err(e) => {
                let text = format!("sent an answer to {} with a broken header", request.api.name());
                // It is not answered: whoever asked is told so with everything else in flight.
                self.in_flight.push_front(request);
                return Err(self.peer.error(ErrorKind::BrokerMisbehaved, &text).with_source(e));
            }
        };
        if correlation_id != request.correlation_id {
            let text = format!(
                "sent answer {correlation_id} where {} ({} version {}) was due",
                request.correlation_id,
                request.api.name(),
                request.version
            );
            self.in_flight.push_front(request);
            return Err(self.peer.error(ErrorKind::BrokerMisbehaved, &text));
        }
        match request.tag {
            Some((tag, sent)) => {
                let version = request.version;
                Ok(Received::Response(Response { tag, version, sent, payload, body_at }))
            }
            None => self.negotiated(request.version, payload.get(body_at..).unwrap_or_default()),
        }
    }

    fn negotiated(&mut self, version: i16, body: &[u8]) -> Result<Received<T>, Error> {
        let State::Negotiating { downgraded } = self.state else {
            return Ok(Received::Nothing);
        };
        match versions::read_answer(version, body) {
            Ok(Negotiated::Accepted(versions)) => {
                self.state = State::Ready(versions);
                Ok(Received::Ready)
            }
            Ok(Negotiated::TooNew { retry_at }) if !downgraded => {
                self.negotiate(retry_at, true)?;
                Ok(Received::Nothing)
            }
            Ok(Negotiated::TooNew { .. }) => Err(self.peer.error(
                ErrorKind::Unsupported,
                "refuses every version of ApiVersions: is this a Kafka broker of version 2.1 or newer?",
            )),
            Err(error) => {
                Err(self.peer.error(error.kind(), "negotiation of versions failed").with_source(error))
            }
        }
    }

    fn negotiate(&mut self, version: i16, downgraded: bool) -> Result<(), Error> {
        let request = ApiVersionsRequest {
            client_software_name: "ottla".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ApiVersionsRequest::default()
        };
        let correlation_id = self.encode(&request, version)?;
        self.state = State::Negotiating { downgraded };
        self.in_flight.push_back(InFlight {
            correlation_id,
            api: ApiKey::ApiVersions,
            version,
            deadline: self.setup_deadline,
            tag: None,
        });
        Ok(())
    }

    /// Sends `request` in the highest version that both sides and `max_version` allow, and gives that version.
    /// When there is none the tag comes back and nothing was sent.
    pub(crate) fn send<R: Request>(
        &mut self,
        now: Timestamp,
        request: &R,
        max_version: i16,
        tag: T,
        timeout: Duration,
    ) -> Result<i16, (T, Error)> {
        let sent = match &self.state {
            State::Ready(versions) => versions
                .pick(R::API, R::MIN_VERSION, R::MAX_VERSION.min(max_version))
                .map_err(|e| self.peer.error(ErrorKind::Unsupported, "cannot be asked").with_source(e)),
            State::Connecting | State::Negotiating { .. } => {
                Err(self.peer.error(ErrorKind::Transport, "is not connected yet"))
            }
        };
        match sent.and_then(|version| Ok((version, self.encode(request, version)?))) {
            Ok((version, correlation_id)) => {
                // Silence that the broker asked for is not held against it.
                let deadline = now.max(self.muted_until) + timeout;
                let api = R::API;
                let tag = Some((tag, now));
                self.in_flight.push_back(InFlight { correlation_id, api, version, deadline, tag });
                Ok(version)
            }
            Err(error) => Err((tag, error)),
        }
    }

    fn encode<R: Request>(&mut self, request: &R, version: i16) -> Result<i32, Error> {
        let correlation_id = self.next_correlation_id;
        frame::encode_request(version, correlation_id, Some(&self.client_id), request, &mut self.out)
            .map_err(|e| Error::new(ErrorKind::Unsupported, "a request cannot be written").with_source(e))?;
        self.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        Ok(correlation_id)
    }

    /// The broker asked for silence (KIP-219): what is sent from now on waits until the time is over.
    pub(crate) fn throttle(&mut self, now: Timestamp, millis: i32) {
        if let Ok(millis @ 1..) = u64::try_from(millis) {
            self.muted_until = self.muted_until.max(now + Duration::from_millis(millis));
        }
    }

    /// Whether what is sent now waits.
    pub(crate) fn is_muted(&self, now: Timestamp) -> bool {
        now < self.muted_until
    }

    /// Until when what is sent waits.
    pub(crate) fn muted_until(&self) -> Timestamp {
        self.muted_until
    }

    /// What is to be written now.
    pub(crate) fn poll_send(&mut self, now: Timestamp) -> Option<Bytes> {
        (!self.out.is_empty() && !self.is_muted(now)).then(|| self.out.split().freeze())
    }

    /// When this connection wants to be looked at again if nothing else happens.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        let setup = (!self.is_ready()).then_some(self.setup_deadline);
        // A long poll and a parked join are overdue later than what was sent after them.
        let answer = self.in_flight.iter().map(|r| r.deadline).min();
        let unmute = (!self.out.is_empty()).then_some(self.muted_until);
        [setup, answer, unmute].into_iter().flatten().min()
    }

    /// Whether an answer, or the set-up as a whole, is overdue.
    pub(crate) fn overdue(&self, now: Timestamp) -> Option<Error> {
        if !self.is_ready() && now >= self.setup_deadline {
            let what = match self.state {
                State::Connecting => "did not accept a connection in time",
                State::Negotiating { .. } | State::Ready(_) => {
                    "did not answer ApiVersions in time (does the port speak TLS?)"
                }
            };
            return Some(self.peer.error(ErrorKind::Transport, what));
        }
        let late = self.in_flight.iter().find(|r| now >= r.deadline)?;
        let text = format!("did not answer {} version {} in time", late.api.name(), late.version);
        Some(self.peer.error(ErrorKind::Transport, &text))
    }

    /// The end: what was in flight, oldest first.
    pub(crate) fn into_unanswered(self) -> impl Iterator<Item = T> {
        self.in_flight.into_iter().filter_map(|r| r.tag).map(|(tag, _)| tag)
    }
}
