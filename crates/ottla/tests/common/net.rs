//! A network in memory between the driver and an embedded broker: every byte is late, may come in pieces, may never
//! come; everything that happens is a step, is counted and goes into a hash.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part of it")]

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ottla_broker::Broker;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// How long bytes and connections take. The finest that tokio's clock knows.
const LATENCY: Duration = Duration::from_millis(1);

/// What the network does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Every byte arrives.
    Fair,
    /// Every byte arrives, in pieces of random length.
    Choppy,
    /// Every byte arrives, one at a time.
    Drizzle,
    /// Half open: what is written is taken and goes nowhere, nothing is read, connecting is never answered.
    Silent,
    /// As `Silent`, but nothing is taken either: the peer's window is closed.
    Clogged,
    /// Connections are reset and refused.
    Gone,
    /// Every connection is reset when this much was read on it.
    Cut(usize),
}

/// The network: cheap to clone, one for each run.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    broker: Arc<Broker>,
    started: Instant,
    state: Mutex<State>,
    steps: watch::Sender<u64>,
}

struct State {
    weather: Weather,
    dice: u64,
    trace: Fnv,
    next: u64,
    /// Sockets, those that are being connected included, and who waits at them.
    open: BTreeMap<u64, [Option<Waker>; 2]>,
}

#[derive(Clone, Copy)]
enum What {
    Connecting,
    Connected,
    Read,
    Written,
    Closed,
}

impl Net {
    pub fn new(broker: Arc<Broker>, seed: u64) -> Self {
        let state = State {
            weather: Weather::Fair,
            dice: seed,
            trace: Fnv::default(),
            next: 0,
            open: BTreeMap::new(),
        };
        let (started, steps) = (Instant::now(), watch::Sender::new(0));
        Self(Arc::new(Inner { broker, started, state: Mutex::new(state), steps }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the weather now, also for those who wait.
    pub fn set(&self, weather: Weather) {
        let wakers = self.state().change(weather);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many steps were made: connections that began or were there, reads, writes, ends.
    pub fn steps(&self) -> u64 {
        *self.0.steps.borrow()
    }

    /// Resolves when this many steps were made.
    pub async fn reached(&self, step: u64) {
        // The sender lives as long as `self`.
        let _ = self.0.steps.subscribe().wait_for(|steps| *steps >= step).await;
    }

    /// Sockets that exist, those that are being connected included.
    pub fn sockets(&self) -> usize {
        self.state().open.len()
    }

    /// Connections that were begun, ever.
    pub fn connections(&self) -> u64 {
        self.state().next
    }

    /// Every byte and every end so far, with its connection and its time, as one number.
    pub fn trace(&self) -> u64 {
        self.state().trace.0
    }

    /// For the builder: connects to the node that has the port.
    pub async fn connect(self, host: String, port: u16) -> io::Result<Socket> {
        let end = End::new(self);
        let net = &end.net;
        net.step(end.id, What::Connecting, &port.to_be_bytes());
        tokio::time::sleep(LATENCY).await;
        let weather = net.state().weather;
        match weather {
            Weather::Silent | Weather::Clogged => pending().await,
            Weather::Gone => return Err(io::ErrorKind::ConnectionRefused.into()),
            Weather::Fair | Weather::Choppy | Weather::Drizzle | Weather::Cut(_) => {}
        }
        let inner = net.0.broker.connect_in_memory(&host, port)?;
        net.step(end.id, What::Connected, &[]);
        let due = Box::pin(tokio::time::sleep(Duration::ZERO));
        Ok(Socket { end, inner, inbox: BytesMut::new(), ended: false, due, read: 0 })
    }

    fn step(&self, id: u64, what: What, bytes: &[u8]) {
        let at = u64::try_from(self.0.started.elapsed().as_nanos()).expect("a run is shorter than a century");
        {
            let mut state = self.state();
            for part in [&at.to_be_bytes()[..], &id.to_be_bytes(), &[what as u8], bytes] {
                state.trace.add(part);
            }
        }
        self.0.steps.send_modify(|steps| *steps += 1);
    }
}

impl State {
    fn change(&mut self, weather: Weather) -> Vec<Waker> {
        self.weather = weather;
        self.open.values_mut().flatten().filter_map(Option::take).collect()
    }

    /// How much of `most` arrives at once.
    fn piece(&mut self, most: usize) -> usize {
        match self.weather {
            Weather::Drizzle => 1,
            Weather::Choppy => {
                self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let few = usize::try_from(self.dice >> 33).expect("31 bits");
                // Half of the time a few bytes, so that lengths and headers are cut too.
                if few.is_multiple_of(2) { (few / 2 % 8 + 1).min(most) } else { few / 2 % most + 1 }
            }
            _ => most,
        }
    }
}

/// Where a socket is known; the last thing of it that goes.
struct End {
    net: Net,
    id: u64,
}

impl End {
    fn new(net: Net) -> Self {
        let mut state = net.state();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, [None, None]);
        drop(state);
        Self { net, id }
    }

    /// The weather, and who is to be woken when it changes: the reader (0) or the writer (1).
    fn look(&self, side: usize, cx: &Context<'_>) -> Weather {
        let mut state = self.net.state();
        if let Some(wakers) = state.open.get_mut(&self.id) {
            wakers[side] = Some(cx.waker().clone());
        }
        state.weather
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.net.state().open.remove(&self.id);
        self.net.step(self.id, What::Closed, &[]);
    }
}

pub struct Socket {
    end: End,
    inner: DuplexStream,
    /// Came from the broker and is on its way.
    inbox: BytesMut,
    ended: bool,
    due: Pin<Box<Sleep>>,
    read: usize,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let weather = me.end.look(0, cx);
        match weather {
            Weather::Silent | Weather::Clogged => return Poll::Pending,
            Weather::Gone => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            _ => {}
        }
        if me.inbox.is_empty() && !me.ended {
            let mut bytes = [0; 16 * 1024];
            let mut bytes = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut me.inner).poll_read(cx, &mut bytes))?;
            me.ended = bytes.filled().is_empty();
            me.inbox.extend_from_slice(bytes.filled());
            me.due.as_mut().reset(Instant::now() + LATENCY);
        }
        ready!(me.due.as_mut().poll(cx));
        let mut most = me.inbox.len().min(buf.remaining());
        if most > 0 {
            most = me.end.net.state().piece(most);
        }
        if let Weather::Cut(limit) = weather {
            most = most.min(limit.saturating_sub(me.read));
            if most == 0 {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        let piece = me.inbox.split_to(most);
        me.read += most;
        buf.put_slice(&piece);
        if me.inbox.has_remaining() {
            me.due.as_mut().reset(Instant::now() + LATENCY);
        }
        me.end.net.step(me.end.id, What::Read, &piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        let written = match me.end.look(1, cx) {
            Weather::Clogged => return Poll::Pending,
            Weather::Gone => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Weather::Silent => bytes.len(),
            _ => ready!(Pin::new(&mut me.inner).poll_write(cx, bytes))?,
        };
        me.end.net.step(me.end.id, What::Written, &bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// FNV-1a: the same on every machine and in every release.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
