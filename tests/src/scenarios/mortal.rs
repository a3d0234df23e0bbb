//! Connections that are slow and do not live long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ottla::Builder;
use ottla_broker::Broker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// How the connections of a test are.
#[derive(Clone, Debug)]
pub struct Network {
    /// Each dies 0.5 to 1.5 s after it was made.
    mortal: bool,
    /// How many were made, and how many of them have died.
    counts: Arc<watch::Sender<(u64, u64)>>,
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytes for S {}

impl Network {
    /// Connections that live as long as both sides want them.
    pub fn good() -> Self {
        Self { mortal: false, counts: Arc::default() }
    }

    /// Connections that die 0.5 to 1.5 s after they were made, and whose answers take up to 16 ms, so that some are
    /// lost on the way.
    pub fn mortal() -> Self {
        Self { mortal: true, counts: Arc::default() }
    }

    /// Whether its connections die.
    pub fn is_mortal(&self) -> bool {
        self.mortal
    }

    /// How many connections have died.
    pub fn deaths(&self) -> u64 {
        self.counts.borrow().1
    }

    /// Waits until this many connections have died.
    pub async fn died(&self, deaths: u64) {
        // The sender lives as long as `self`.
        let _ = self.counts.subscribe().wait_for(|(_, died)| *died >= deaths).await;
    }

    /// Lets a client connect over this network. On a broker without sockets it lives on the test's runtime and clock.
    pub fn plug(&self, without_sockets: Option<&Arc<Broker>>, builder: Builder) -> Builder {
        match without_sockets {
            Some(broker) => {
                let (network, broker) = (self.clone(), Arc::clone(broker));
                let connect = move |host: String, port| {
                    let connection = broker.connect_in_memory(&host, port);
                    let network = network.clone();
                    async move { Ok(network.connection(connection?)) }
                };
                builder.on_current_runtime().__connect_with(connect)
            }
            None if self.mortal => {
                let network = self.clone();
                builder.__connect_with(move |host, port| {
                    let network = network.clone();
                    async move { Ok(network.connection(TcpStream::connect((host.as_str(), port)).await?)) }
                })
            }
            None => builder,
        }
    }

    fn connection(&self, stream: impl Bytes + 'static) -> Connection {
        let mut number = 0;
        self.counts.send_modify(|(made, _)| {
            number = *made;
            *made += 1;
        });
        // Spread by the golden ratio: neighbours do not die together.
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let life = Duration::from_millis(500 + spread % 1001);
        let lateness = Duration::from_millis(if self.mortal { 1 + spread % 16 } else { 1 });
        Connection {
            stream: Box::new(stream),
            death: self.mortal.then(|| Box::pin(tokio::time::sleep(life))),
            // What a reset and an end look like to the one who reads.
            reset: spread.is_multiple_of(2),
            room: vec![0; 64 << 10],
            inbox: Vec::new(),
            given: 0,
            counted: false,
            lateness,
            due: Box::pin(tokio::time::sleep(Duration::ZERO)),
            counts: Arc::clone(&self.counts),
        }
    }
}

/// A connection whose bytes come late, and that may end.
struct Connection {
    stream: Box<dyn Bytes>,
    /// When it dies.
    death: Option<Pin<Box<Sleep>>>,
    reset: bool,
    room: Vec<u8>,
    /// Came, and is on its way.
    inbox: Vec<u8>,
    given: usize,
    counted: bool,
    lateness: Duration,
    due: Pin<Box<Sleep>>,
    counts: Arc<watch::Sender<(u64, u64)>>,
}

impl Connection {
    /// Resolves when it has died.
    fn poll_death(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(death) = &mut self.death else { return Poll::Pending };
        ready!(death.as_mut().poll(cx));
        if !std::mem::replace(&mut self.counted, true) {
            self.counts.send_modify(|(_, died)| *died += 1);
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.poll_death(cx).is_ready() {
            let reset = Err(io::ErrorKind::ConnectionReset.into());
            return Poll::Ready(if me.reset { reset } else { Ok(()) });
        }
        if me.given == me.inbox.len() {
            let mut bytes = ReadBuf::new(&mut me.room);
            ready!(Pin::new(&mut me.stream).poll_read(cx, &mut bytes))?;
            me.inbox.clear();
            me.inbox.extend_from_slice(bytes.filled());
            me.given = 0;
            me.due.as_mut().reset(Instant::now() + me.lateness);
        }
        ready!(me.due.as_mut().poll(cx));
        let most = (me.inbox.len() - me.given).min(buf.remaining());
        buf.put_slice(&me.inbox[me.given..me.given + most]);
        me.given += most;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The reader is woken by the death, so only it may wait for it.
        if self.death.as_ref().is_some_and(|death| death.is_elapsed()) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
