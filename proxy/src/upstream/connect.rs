//! A new connection: TCP, then TLS if the endpoint takes it; or a pipe to our own inbound side.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustls::pki_types::{DnsName, ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::{Fault, Problem, Target, own_identity};
use crate::config::{Cluster, ClusterSpec, Config, Transport, UpstreamTls};
use crate::hbone;
use crate::listen;
use crate::stream::{Plain, Stream};
use crate::tcp::tunnel::into_stream;
use crate::tcp::tunnels::{self, Opened, Way};
use crate::tls::{self, Expected, Offer};
use crate::worker::Worker;

/// Data that nobody acknowledges for so long ends a connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);
/// What a pipe in memory holds.
const PIPE: usize = 64 * 1024;

/// A connection that was made.
#[derive(Debug)]
pub struct Made {
    /// It.
    pub stream: Stream,
    /// The protocol that the other end chose.
    pub chosen: Option<Vec<u8>>,
    /// Counts it while it lives.
    pub counted: Rc<Counted>,
}

/// A connection of a cluster, counted.
#[derive(Debug)]
pub struct Counted(Arc<Cluster>);

impl Counted {
    /// Counts one more.
    ///
    /// # Errors
    /// If there are as many as there may be.
    pub fn new(cluster: &Arc<Cluster>) -> Result<Self, Problem> {
        let state = &cluster.state;
        if state.connections.fetch_add(1, Relaxed) >= cluster.spec.limits.connections {
            state.connections.fetch_sub(1, Relaxed);
            return Err(Problem::Limit);
        }
        Ok(Self(cluster.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.state.connections.fetch_sub(1, Relaxed);
    }
}

/// Connects. What is offered decides whether the other end sees bytes or HTTP.
///
/// # Errors
/// If there is no connection; a lost endpoint ends the attempt at once.
pub async fn connect(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    offer: Offer,
) -> Result<Made, Problem> {
    if offer != Offer::Hbone && target.is_hbone() {
        return tunnelled(worker, config, target).await;
    }
    let counted = Rc::new(Counted::new(target.cluster)?);
    if target.is_own(config) {
        return Ok(Made { stream: own(worker, config, target, offer), chosen: None, counted });
    }
    let limit = target.cluster.spec.connect_timeout;
    let attempt = tokio::time::timeout(limit, dial(worker, config, target, offer));
    let made = match target.endpoint() {
        None => attempt.await,
        Some(endpoint) => {
            tokio::select! {
                made = attempt => made,
                () = endpoint.state.lost.cancelled() => Ok(Err(Problem::Connect(Fault::Lost))),
            }
        }
    };
    worker.counters().connects.fetch_add(1, Relaxed);
    match made {
        Ok(Ok((stream, chosen))) => Ok(Made { stream, chosen, counted }),
        Ok(Err(problem)) => {
            worker.counters().connect_failures.fetch_add(1, Relaxed);
            Err(problem)
        }
        Err(_) => {
            worker.counters().connect_failures.fetch_add(1, Relaxed);
            Err(Problem::Connect(Fault::Slow))
        }
    }
}

async fn dial(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    offer: Offer,
) -> Result<(Stream, Option<Vec<u8>>), Problem> {
    let tls = match target.transport() {
        Transport::Raw => None,
        Transport::Tls(tls) => Some((tls, tls_config(worker, config, target, tls, offer).ok_or(Problem::NoSecret)?)),
    };
    let address = tunnels::door(target.address(), offer);
    if let Some(path) = target.endpoint().and_then(|endpoint| endpoint.spec.socket.as_deref()) {
        let stream = unix(path).await.map_err(|e| {
            tracing::debug!(path, cluster = %target.cluster.spec.name, error = %e, "no connection");
            Problem::Connect(Fault::of_tcp(&e))
        })?;
        return Ok((Stream::plain(Plain::unix(stream)), None));
    }
    let tcp = tcp(address, &target.cluster.spec, target.endpoint().is_some()).await.map_err(|e| {
        tracing::debug!(%address, cluster = %target.cluster.spec.name, error = %e, "no connection");
        Problem::Connect(Fault::of_tcp(&e))
    })?;
    let Some((tls, tls_config)) = tls else { return Ok((Stream::plain(Plain::tcp(tcp)), None)) };
    let name = match DnsName::try_from(tls.sni.clone()) {
        Ok(name) if offer != Offer::Hbone => ServerName::DnsName(name),
        // No name is sent.
        _ => ServerName::IpAddress(address.ip().into()),
    };
    let made = tls::connect(tls_config, name, Plain::tcp(tcp)).await.map_err(|e| {
        tracing::debug!(%address, cluster = %target.cluster.spec.name, error = %e, "TLS failed");
        Problem::Connect(Fault::of_tls(&e))
    })?;
    Ok((made.stream, made.protocol))
}

fn tls_config(
    worker: &Worker,
    config: &Config,
    target: &Target<'_>,
    tls: &UpstreamTls,
    offer: Offer,
) -> Option<Arc<rustls::ClientConfig>> {
    // Of the mesh: the endpoint's own identity, and the mesh's protocols. Of others: what the context lists.
    let mesh = tls.certificate.is_some();
    let identity = target.endpoint().and_then(|e| e.spec.identity.clone()).filter(|_| mesh);
    // Several names: trust domains that count as one.
    let expected = match identity {
        None => Expected::Context(tls.fingerprint),
        Some(identity) if tls.names.len() > 1 => Expected::Like(identity, tls.fingerprint),
        Some(identity) => Expected::Identity(identity),
    };
    worker.client_tls.borrow_mut().get(config, tls, expected, mesh.then_some(offer))
}

/// A program of this host that listens at a Unix socket; it is spoken to as it is.
async fn unix(path: &str) -> io::Result<UnixStream> {
    match path.strip_prefix('@') {
        Some(name) => UnixStream::connect(format!("\0{name}")).await,
        None => UnixStream::connect(path).await,
    }
}

async fn tcp(address: SocketAddr, spec: &ClusterSpec, remote: bool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = spec.source.filter(|s| s.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let options = SockRef::from(&stream);
    if remote {
        options.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    }
    let probes = match spec.options.keepalive {
        None => TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)),
        Some(said) => {
            let probes = TcpKeepalive::new().with_time(said.time).with_interval(said.interval);
            said.probes.map_or(probes.clone(), |n| probes.with_retries(n))
        }
    };
    options.set_tcp_keepalive(&probes)?;
    Ok(stream)
}

/// What is spoken is spoken within a tunnel.
async fn tunnelled(worker: &Rc<Worker>, config: &Arc<Config>, target: &Target<'_>) -> Result<Made, Problem> {
    // A tunnel needs a connection itself, which this is on the way to.
    match Box::pin(tunnels::open(worker, config, target, Way::Hbone, &hbone::said(config, None))).await? {
        Opened::Own(made) => Ok(made),
        Opened::Tunnel(tunnel, counted) => Ok(Made { stream: into_stream(tunnel), chosen: None, counted }),
    }
}

/// Our own inbound side takes the other end of a pipe, with the policy it has for everybody.
fn own(worker: &Rc<Worker>, config: &Arc<Config>, target: &Target<'_>, offer: Offer) -> Stream {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    worker.counters().handed_over.fetch_add(1, Relaxed);
    let transport = target.transport();
    let caller = match transport {
        Transport::Raw => None,
        Transport::Tls(_) => own_identity(config, transport),
    };
    listen::hand_over(worker, Plain::memory(theirs), target.address(), caller, offer);
    Stream::plain(Plain::memory(ours))
}
