//! Queries that are not ours: asked of the host's own servers, byte for byte.
//!
//! In: a query. Out: the first answer that belongs to it, unchanged. Each query has a socket of its own, so that its port
//! is as hard to guess as its id; queries under way are bounded, and so is their time.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::answer::{Transport, failure, matches};
use super::upstreams::Upstreams;
use crate::mark::OwnMark;

/// Time for a query, over all servers.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one server while there are others.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_UNDER_WAY: usize = 512;
const LARGEST_UDP: usize = 16 * 1024;
const PORT: u16 = 53;

/// Asks. Clones share the bounds.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    upstreams: Upstreams,
    mark: OwnMark,
    places: Arc<Semaphore>,
    /// Ports of our own sockets: a query from one of them is ours, led back to us.
    own: Arc<Mutex<HashSet<u16>>>,
}

/// Room for one query.
pub(crate) struct Place(#[allow(dead_code)] OwnedSemaphorePermit);

impl Forwarder {
    /// Asks these servers.
    pub(crate) fn new(upstreams: Upstreams, mark: OwnMark) -> Self {
        Self { upstreams, mark, places: Arc::new(Semaphore::new(MOST_UNDER_WAY)), own: Arc::default() }
    }

    /// Room for one more query, if there is.
    pub(crate) fn place(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok().map(Place)
    }

    /// Whether a query comes from ourselves.
    pub(crate) fn is_own(&self, from: SocketAddr) -> bool {
        self.own.lock().contains(&from.port())
    }

    /// The answer to a query; `SERVFAIL` if nobody gave one.
    pub(crate) async fn ask(&self, query: &[u8], transport: Transport, _place: Place) -> Option<Vec<u8>> {
        let end = Instant::now() + TIMEOUT;
        let servers = self.upstreams.servers();
        for (index, server) in servers.iter().enumerate() {
            let last = index + 1 == servers.len();
            let deadline = if last { end } else { end.min(Instant::now() + PATIENCE) };
            let asked = async {
                match transport {
                    Transport::Udp => self.ask_udp(query, *server).await,
                    Transport::Tcp => self.ask_tcp(query, *server).await,
                }
            };
            match timeout_at(deadline, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server could not be asked"),
                Err(_) => tracing::debug!(%server, "a name server did not answer"),
            }
        }
        failure(query)
    }

    /// The answer of one server, however long that takes.
    pub(crate) async fn ask_udp(&self, query: &[u8], server: IpAddr) -> io::Result<Vec<u8>> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        self.mark.set(&socket);
        // Connected: the kernel drops what comes from anybody else.
        socket.connect((server, PORT)).await?;
        let _own = Own::new(self, socket.local_addr()?.port());
        socket.send(query).await?;
        let mut buffer = vec![0; LARGEST_UDP];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if matches(query, &buffer[..length]) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    async fn ask_tcp(&self, query: &[u8], server: IpAddr) -> io::Result<Vec<u8>> {
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        self.mark.set(&socket);
        socket.bind(SocketAddr::new(
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
            0,
        ))?;
        let _own = Own::new(self, socket.local_addr()?.port());
        let mut stream = socket.connect((server, PORT).into()).await?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        if matches(query, &answer) { Ok(answer) } else { Err(io::Error::other("it answered something else")) }
    }
}

struct Own<'a> {
    forwarder: &'a Forwarder,
    port: u16,
}

impl<'a> Own<'a> {
    fn new(forwarder: &'a Forwarder, port: u16) -> Self {
        forwarder.own.lock().insert(port);
        Self { forwarder, port }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.forwarder.own.lock().remove(&self.port);
    }
}
