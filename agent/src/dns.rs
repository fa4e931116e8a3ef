//! Name resolution for the host: the mesh's names from memory, all others from the host's own servers.
//!
//! In: queries on loopback, UDP and TCP, both families. Out: answers. Addresses of a name of ours never leave the host and never
//! wait; what others may know of it beside them (SRV of a Consul's service) is asked of them; a name that is not ours, unknown ones under the mesh's domain included, is answered as it was without us.

pub(crate) mod answer;
pub(crate) mod forward;
pub(crate) mod names;
mod upstreams;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hawser_api::names::ports;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use names::Names;
pub(crate) use upstreams::Upstreams;

use answer::{Answer, Transport, answer, is_known};
use forward::{Forwarder, Place};

use crate::mark::OwnMark;

const LARGEST_QUERY: usize = 8 * 1024;
const MOST_CONNECTIONS: usize = 128;
const IDLE: Duration = Duration::from_secs(10);

/// A server that runs; dropping it ends it.
pub(crate) struct Dns {
    pub(crate) upstreams: Upstreams,
    pub(crate) counters: Arc<Counters>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// Queries since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) answered: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

#[derive(Clone)]
struct Server {
    names: Names,
    forwarder: Forwarder,
    counters: Arc<Counters>,
}

/// Answers on loopback. A host without one of the families is served on the other.
pub(crate) async fn start(names: Names, mark: OwnMark) -> anyhow::Result<Dns> {
    let upstreams = Upstreams::new("/etc/resolv.conf");
    let counters = Arc::new(Counters::default());
    let server = Server { names, forwarder: Forwarder::new(upstreams.clone(), mark), counters: counters.clone() };
    let mut tasks = Vec::new();
    let mut failed = None;
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let address = SocketAddr::new(ip, ports::DNS);
        match bind(address).await {
            Ok((udp, tcp)) => {
                tasks.push(AbortOnDropHandle::new(tokio::spawn(server.clone().serve_udp(Arc::new(udp)))));
                tasks.push(AbortOnDropHandle::new(tokio::spawn(server.clone().serve_tcp(tcp))));
            }
            Err(error) => {
                tracing::warn!(%address, %error, "names are not answered here");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if tasks.is_empty() => {
            Err(anyhow::Error::from(error).context("the DNS port 15053 can't be opened"))
        }
        _ => Ok(Dns { upstreams, counters, _tasks: tasks }),
    }
}

async fn bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?))
}

/// What to do with a query now.
enum Next {
    Reply(Vec<u8>),
    /// Ask the host's servers; what to say if they know nothing.
    Ask(Place, Option<Vec<u8>>),
    Nothing,
}

impl Server {
    fn decide(&self, query: &[u8], from: SocketAddr, transport: Transport) -> Next {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let empty = match answer(query, &self.names, transport) {
            Answer::Reply(reply) => {
                count(&self.counters.answered);
                return Next::Reply(reply);
            }
            Answer::Ignore => {
                count(&self.counters.dropped);
                return Next::Nothing;
            }
            Answer::Forward => None,
            Answer::ForwardOr(empty) => Some(empty),
        };
        match self.forwarder.place().filter(|_| !self.forwarder.is_own(from)) {
            Some(place) => {
                count(&self.counters.forwarded);
                Next::Ask(place, empty)
            }
            None => {
                count(&self.counters.dropped);
                Next::Nothing
            }
        }
    }

    async fn ask(&self, query: &[u8], transport: Transport, place: Place, empty: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let reply = self.forwarder.ask(query, transport, place).await;
        match empty {
            // A resolver would believe that the name is not there at all.
            Some(empty) if !reply.as_deref().is_some_and(is_known) => Some(empty),
            _ => reply,
        }
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; LARGEST_QUERY];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // A client that went away before its answer came.
                    tracing::debug!(%error, "a query could not be received");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let query = &buffer[..length];
            match self.decide(query, from, Transport::Udp) {
                Next::Reply(reply) => _ = socket.send_to(&reply, from).await,
                Next::Nothing => {}
                Next::Ask(place, empty) => {
                    let (server, socket, query) = (self.clone(), socket.clone(), query.to_vec());
                    tokio::spawn(async move {
                        if let Some(reply) = server.ask(&query, Transport::Udp, place, empty).await {
                            let _ = socket.send_to(&reply, from).await;
                        }
                    });
                }
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let server = self.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = server.converse(stream, from).await {
                            tracing::debug!(%error, "a connection with queries broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection with queries was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream, from: SocketAddr) -> std::io::Result<()> {
        loop {
            let Ok(length) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
            let length = match length {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut query = vec![0; usize::from(length)];
            timeout(IDLE, stream.read_exact(&mut query)).await??;
            let reply = match self.decide(&query, from, Transport::Tcp) {
                Next::Reply(reply) => Some(reply),
                Next::Nothing => None,
                Next::Ask(place, empty) => self.ask(&query, Transport::Tcp, place, empty).await,
            };
            let Some(reply) = reply else { return Ok(()) };
            let length = u16::try_from(reply.len()).map_err(std::io::Error::other)?;
            timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())).await??;
        }
    }
}
