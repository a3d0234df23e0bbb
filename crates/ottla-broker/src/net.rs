//! Sockets and the clock around the sans-IO core.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::core::{Cluster, ConnectionId};
use crate::time::Timestamp;
use crate::wire::frame::MAX_FRAME;

/// A connection is not read while this much waits to be written to it.
const MAX_BACKLOG: usize = 64 * 1024 * 1024;

/// A connection is not read while this many of its requests wait.
const MAX_QUEUED: usize = 256;

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) runtime: Handle,
    started: Instant,
    next_connection: AtomicU64,
    /// Wakes the timer task when the next deadline came nearer.
    timer: Notify,
    /// Goes up with everything that happens.
    changed: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    write_chunk: Option<usize>,
    /// Ends the broker's own thread, if it has one.
    keep_alive: Mutex<Option<oneshot::Sender<()>>>,
}

#[derive(Debug)]
struct State {
    cluster: Cluster,
    writers: BTreeMap<ConnectionId, Writer>,
    listeners: BTreeMap<i32, Listener>,
    armed: Option<Timestamp>,
}

#[derive(Debug)]
struct Writer {
    frames: mpsc::UnboundedSender<Bytes>,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    drained: Notify,
}

/// The socket lives in a slot so that emptying the slot closes it at once, whatever the accept task does.
#[derive(Debug)]
struct Listener {
    slot: Arc<Mutex<Option<TcpListener>>>,
    task: tokio::task::AbortHandle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in somebody's assertion must not hide the broker from the test's cleanup.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Makes the shared part. `runtime` is where everything runs and whose clock counts.
    pub(crate) fn new(
        cluster: Cluster,
        runtime: Handle,
        write_chunk: Option<usize>,
        keep_alive: Option<oneshot::Sender<()>>,
    ) -> Arc<Self> {
        let guard = runtime.enter();
        let started = Instant::now();
        drop(guard);
        let shared = Arc::new(Self {
            state: Mutex::new(State {
                cluster,
                writers: BTreeMap::new(),
                listeners: BTreeMap::new(),
                armed: None,
            }),
            runtime: runtime.clone(),
            started,
            next_connection: AtomicU64::new(1),
            timer: Notify::new(),
            changed: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            write_chunk,
            keep_alive: Mutex::new(keep_alive),
        });
        runtime.spawn(run_timers(Arc::clone(&shared)));
        shared
    }

    fn now(&self) -> Timestamp {
        let _context = self.runtime.enter();
        let nanos = Instant::now().saturating_duration_since(self.started).as_nanos();
        Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Looks at the cluster without changing it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        look(&lock(&self.state).cluster)
    }

    /// Does something to the cluster and carries out what follows from it.
    pub(crate) fn act<T>(&self, act: impl FnOnce(&mut Cluster, Timestamp) -> T) -> T {
        let now = self.now();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let result = act(&mut state.cluster, now);
        while let Some((connection, bytes)) = state.cluster.poll_response() {
            if let Some(writer) = state.writers.get(&connection) {
                writer.backlog.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
                // A writer that is gone has a connection that is about to be reported closed.
                let _ = writer.frames.send(bytes);
            }
        }
        while let Some(connection) = state.cluster.poll_close() {
            // Without a sender the writer writes what it has and closes.
            state.writers.remove(&connection);
        }
        let next = state.cluster.next_timeout();
        if next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed)) {
            state.armed = next;
            self.timer.notify_one();
        }
        drop(guard);
        self.changed.send_modify(|count| *count += 1);
        result
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        let mut state = lock(&self.state);
        state.writers.clear();
        for (_, listener) in std::mem::take(&mut state.listeners) {
            lock(&listener.slot).take();
            listener.task.abort();
        }
        drop(state);
        lock(&self.keep_alive).take();
    }

    /// Binds a node's port (0: any) and accepts on it. Returns the port.
    pub(crate) fn listen(self: &Arc<Self>, node: i32, host: &str, port: u16) -> io::Result<u16> {
        let socket = std::net::TcpListener::bind((host, port))?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let _context = self.runtime.enter();
        let slot = Arc::new(Mutex::new(Some(TcpListener::from_std(socket)?)));
        let task = self.runtime.spawn(accept(Arc::clone(self), node, Arc::clone(&slot))).abort_handle();
        lock(&self.state).listeners.insert(node, Listener { slot, task });
        Ok(port)
    }

    pub(crate) fn stop_listening(&self, node: i32) {
        if let Some(listener) = lock(&self.state).listeners.remove(&node) {
            lock(&listener.slot).take();
            listener.task.abort();
        }
    }

    /// Serves one connection to a node until either side ends it.
    pub(crate) fn serve<S>(self: &Arc<Self>, node: i32, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let (frames, queue) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        lock(&self.state).writers.insert(connection, Writer { frames, backlog: Arc::clone(&backlog) });
        self.act(|cluster, now| cluster.handle_connected(now, node, connection));
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut stop = shared.stop.subscribe();
            let (reader, writer) = tokio::io::split(stream);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {}
                () = write_all(writer, queue, &backlog, shared.write_chunk) => {}
                () = read_all(&shared, connection, reader, &backlog) => {}
            }
            lock(&shared.state).writers.remove(&connection);
            shared.act(|cluster, now| cluster.handle_closed(now, connection));
        });
    }
}

async fn run_timers(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    loop {
        let next = {
            let mut state = lock(&shared.state);
            state.armed = state.cluster.next_timeout();
            state.armed
        };
        let sleep = async {
            match next {
                Some(next) => tokio::time::sleep_until(shared.started + next.since_start()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = shared.timer.notified() => {}
            () = sleep => shared.act(|cluster, now| cluster.handle_timeout(now)),
        }
    }
}

async fn accept(shared: Arc<Shared>, node: i32, slot: Arc<Mutex<Option<TcpListener>>>) {
    loop {
        let accepted = poll_fn(|context| match &*lock(&slot) {
            Some(listener) => listener.poll_accept(context).map(Some),
            None => Poll::Ready(None),
        })
        .await;
        match accepted {
            Some(Ok((stream, _))) => {
                let _ = stream.set_nodelay(true);
                shared.serve(node, stream);
            }
            // Out of file descriptors and the like: the next accept may work.
            Some(Err(error)) => {
                tracing::warn!(node, %error, "accept failed");
                tokio::task::yield_now().await;
            }
            None => return,
        }
    }
}

async fn write_all(
    mut stream: impl AsyncWrite + Unpin,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    backlog: &Backlog,
    chunk: Option<usize>,
) {
    while let Some(bytes) = queue.recv().await {
        for piece in bytes.chunks(chunk.unwrap_or(usize::MAX)) {
            if stream.write_all(piece).await.is_err() {
                return;
            }
            if chunk.is_some() {
                // Let the other side see the piece alone.
                if stream.flush().await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
        backlog.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        backlog.drained.notify_one();
    }
    let _ = stream.shutdown().await;
}

async fn read_all(
    shared: &Shared,
    connection: ConnectionId,
    mut stream: impl AsyncRead + Unpin,
    backlog: &Backlog,
) {
    let mut changed = shared.subscribe();
    loop {
        while backlog.bytes.load(Ordering::Relaxed) > MAX_BACKLOG {
            backlog.drained.notified().await;
        }
        let Ok(length) = stream.read_i32().await else { return };
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= MAX_FRAME) else {
            tracing::warn!(
                connection = connection.0,
                length,
                "frame length out of bounds: connection closed"
            );
            return;
        };
        // Room is made as the bytes come, not as the length promises.
        let mut frame = BytesMut::with_capacity(length.min(1024 * 1024));
        while frame.len() < length {
            let missing = length - frame.len();
            match (&mut stream).take(missing as u64).read_buf(&mut frame).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        shared.act(|cluster, now| cluster.handle_request(now, connection, frame.freeze()));
        // A client that pipelines without end is held back, as by a socket that is not read.
        while shared.look(|cluster| cluster.queued(connection)) >= MAX_QUEUED {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
