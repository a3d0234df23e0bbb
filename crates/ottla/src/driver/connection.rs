//! One connection's socket: connecting, then reading into one buffer and writing a queue.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BufMut, Bytes};
use ottla_core::{ConnectionId, Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::buffers::{Buffers, ReadBuffer};
use super::hub::{ConnectionWaker, Hub};
use super::transport::{Connecting, Io, plain};

/// A connection from `Action::Connect` to its end.
pub(super) struct Connection {
    state: State,
    pub(super) buffer: ReadBuffer,
    address: String,
    wake: Arc<ConnectionWaker>,
    waker: Waker,
}

enum State {
    Connecting(Connecting),
    Open { io: Box<dyn Io>, queue: VecDeque<Bytes>, unflushed: bool },
}

/// What a connection has to tell.
pub(super) enum Progress {
    /// It is connected.
    Connected,
    /// Bytes were read into the buffer.
    Read,
}

impl Connection {
    pub(super) fn new(hub: &Arc<Hub>, conn: ConnectionId, address: String, connecting: Connecting) -> Self {
        let wake = ConnectionWaker::new(hub, conn);
        let waker = Waker::from(wake.clone());
        Self { state: State::Connecting(connecting), buffer: ReadBuffer::default(), address, wake, waker }
    }

    /// Asks for another turn.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// To be called before a turn.
    pub(super) fn taken(&self) {
        self.wake.taken();
    }

    /// The rest of a connection that ended, for the next one.
    pub(super) fn into_buffer(self) -> ReadBuffer {
        self.buffer
    }

    /// Whether it is being connected: then there is nothing to be read, and no hint of how much.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting(_))
    }

    /// Queues `bytes` behind those that wait; `write` sends them.
    pub(super) fn send(&mut self, bytes: Bytes) {
        if let State::Open { queue, .. } = &mut self.state
            && !bytes.is_empty()
        {
            queue.push_back(bytes);
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        let State::Open { io, queue, unflushed } = &mut self.state else { return Ok(()) };
        let mut cx = Context::from_waker(&self.waker);
        match poll_write(io, queue, unflushed, &mut cx) {
            Poll::Ready(Err(error)) => Err(self.error("writing to", error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// One step: connects, or reads once, at most `most` bytes.
    pub(super) fn step(&mut self, buffers: &mut Buffers, most: usize) -> Poll<Result<Progress, Error>> {
        let mut cx = Context::from_waker(&self.waker);
        match &mut self.state {
            State::Connecting(connecting) => match ready!(connecting.as_mut().poll(&mut cx)) {
                Ok(io) => {
                    self.state = State::Open { io, queue: VecDeque::new(), unflushed: false };
                    Poll::Ready(Ok(Progress::Connected))
                }
                Err(error) => Poll::Ready(Err(self.error("connecting to", error))),
            },
            State::Open { io, .. } => {
                let most = most.max(1);
                buffers.reserve(&mut self.buffer, most);
                let mut room = (&mut self.buffer.bytes).limit(most);
                // The future holds nothing: dropping it while it is pending loses no byte.
                match ready!(pin!(io.read_buf(&mut room)).poll(&mut cx)) {
                    Ok(0) => Poll::Ready(Err(Error::new(
                        ErrorKind::Transport,
                        format!("{} closed the connection", self.address),
                    ))),
                    Ok(_) => Poll::Ready(Ok(Progress::Read)),
                    Err(error) => Poll::Ready(Err(self.error("reading from", error))),
                }
            }
        }
    }

    fn error(&self, doing: &str, error: io::Error) -> Error {
        let text = format!("{doing} {} failed: {}", self.address, plain(&error));
        Error::new(ErrorKind::Transport, text).with_source(error)
    }
}

fn poll_write(
    io: &mut Box<dyn Io>,
    queue: &mut VecDeque<Bytes>,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while let Some(bytes) = queue.front_mut() {
        let written = ready!(Pin::new(&mut *io).poll_write(cx, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *unflushed = true;
        bytes.advance(written);
        if bytes.is_empty() {
            queue.pop_front();
        }
    }
    if *unflushed {
        ready!(Pin::new(io).poll_flush(cx))?;
        *unflushed = false;
    }
    Poll::Ready(Ok(()))
}
