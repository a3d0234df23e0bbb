//! How bytes get to a broker and back: TCP, or whatever a test plugs in.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection's two directions in one.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection that is being made.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Makes connections.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Connects to `host` within `limit`. The error's text says which address failed why.
    fn connect(&self, host: String, port: u16, limit: Duration) -> Connecting;
}

/// Plain TCP.
pub(crate) struct Tcp;

impl Transport for Tcp {
    fn connect(&self, host: String, port: u16, limit: Duration) -> Connecting {
        Box::pin(async move {
            let stream = connect_tcp(&host, port, limit).await?;
            // Requests are small and waited for.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

async fn connect_tcp(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + limit;
    let addresses = resolve(host, port).await?;
    first_that_connects(host, addresses, deadline, TcpStream::connect).await
}

/// Tries the addresses in turn, each with its share of what is left of the time, so that a dead one does not
/// take it all.
async fn first_that_connects<C, R, S>(
    host: &str,
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    connect: C,
) -> io::Result<S>
where
    C: Fn(SocketAddr) -> R,
    R: Future<Output = io::Result<S>>,
{
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut failed: Option<(io::ErrorKind, String)> = None;
    for (address, left) in addresses.into_iter().zip((1..=count).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let error = match tokio::time::timeout(share, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {share:?}")),
        };
        // An address that was given as such is named by the caller.
        let given = address.ip().to_string() == host;
        let text = if given { plain(&error) } else { format!("{address}: {}", plain(&error)) };
        failed = Some(match failed {
            None => (error.kind(), text),
            Some((kind, texts)) => (kind, format!("{texts}; {text}")),
        });
    }
    let (kind, text) =
        failed.unwrap_or_else(|| (io::ErrorKind::NotFound, "the name has no address".to_owned()));
    Err(io::Error::new(kind, text))
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
        io::Error::new(error.kind(), format!("the name {host} cannot be resolved: {}", plain(&error)))
    })?;
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The error in lower case and without the number of the operating system.
pub(super) fn plain(error: &io::Error) -> String {
    if error.raw_os_error().is_some() && error.kind().to_string() != "uncategorized error" {
        error.kind().to_string()
    } else {
        error.to_string()
    }
}

/// A function that connects, for tests: an embedded broker's in-memory listener, or bytes from a script.
pub(crate) struct Plugged<F>(pub(crate) F);

impl<F, R, S> Transport for Plugged<F>
where
    F: Fn(String, u16) -> R + Send + Sync + 'static,
    R: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn connect(&self, host: String, port: u16, limit: Duration) -> Connecting {
        let connecting = (self.0)(host, port);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(stream) => Ok(Box::new(stream?) as Box<dyn Io>),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}"))),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_told_in_plain_words() {
        let port = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let error = connect_tcp("127.0.0.1", port, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "connection refused");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_said_so() {
        let error = connect_tcp("no-such-host.invalid", 9092, Duration::from_secs(5)).await.unwrap_err();
        assert!(error.to_string().starts_with("the name no-such-host.invalid cannot be resolved"), "{error}");
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The name may have an IPv6 address, which refuses, before the one that answers.
        connect_tcp("localhost", port, Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_of_a_name_has_its_share_of_the_time() {
        let addresses: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|a| a.parse().unwrap()).to_vec();
        let begun = Instant::now();
        let connected =
            first_that_connects("name", addresses.clone(), begun + Duration::from_secs(9), |a| async move {
                match a.ip().to_string().as_str() {
                    "10.0.0.1" => std::future::pending().await,
                    "10.0.0.2" => Err(io::ErrorKind::ConnectionRefused.into()),
                    _ => Ok(a),
                }
            })
            .await
            .unwrap();
        assert_eq!(connected, addresses[2]);
        assert_eq!(begun.elapsed(), Duration::from_secs(3));

        let nobody = |_| async { std::future::pending::<io::Result<()>>().await };
        let begun = Instant::now();
        let error =
            first_that_connects("name", addresses, begun + Duration::from_secs(9), nobody).await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::from_secs(9));
        let text = "10.0.0.1:1: no answer in 3s; 10.0.0.2:1: no answer in 3s; 10.0.0.3:1: no answer in 3s";
        assert_eq!(error.to_string(), text);
    }
}
