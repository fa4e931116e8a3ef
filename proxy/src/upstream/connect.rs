//! A new connection: TCP, then TLS if the endpoint takes it; or a pipe to our own inbound side.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustls::pki_types::{DnsName, ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::{Fault, Problem, Target, announce, own_identity};
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
    if target.is_own(config) && !target.is_foreign() {
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
    let failed = |e: io::Error| {
        tracing::debug!(%address, cluster = %target.cluster.spec.name, error = %e, "no connection");
        Problem::Connect(Fault::of_tcp(&e))
    };
    let (mut plain, ends) = if target.is_own(config) {
        // What is said is for the application: our own inbound side looks at it as at anybody's.
        let (ours, theirs) = tokio::io::duplex(PIPE);
        listen::take_in(worker, Plain::memory(theirs), address);
        (Plain::memory(ours), None)
    } else {
        let tcp = tcp(address, &target.cluster.spec, target.endpoint().is_some()).await.map_err(failed)?;
        let ends = tcp.local_addr().ok().zip(tcp.peer_addr().ok());
        (Plain::tcp(tcp), ends)
    };
    if offer != Offer::Hbone {
        announce(target, &mut plain, ends).await.map_err(failed)?;
    }
    let Some((tls, tls_config)) = tls else { return Ok((Stream::plain(plain), None)) };
    let asked = target.host.filter(|_| tls.foreign.is_some());
    let by_address = || asked.and_then(|host| host.parse::<IpAddr>().ok());
    let name = match DnsName::try_from(asked.map_or_else(|| tls.sni.clone(), str::to_owned)) {
        Ok(name) if offer != Offer::Hbone => ServerName::DnsName(name),
        // No name is sent.
        _ => ServerName::IpAddress(by_address().unwrap_or(address.ip()).into()),
    };
    let made = tls::connect(tls_config, name, plain).await.map_err(|e| {
        tracing::debug!(%address, cluster = %target.cluster.spec.name, error = %e, "TLS failed");
        Problem::Connect(Fault::of_tls(&e))
    })?;
    Ok((made.stream, made.protocol))
}

/// Says whose the connection is, where its servers want to hear that. `ends` are its own.
async fn announce(
    target: &Target<'_>,
    stream: &mut (impl AsyncWrite + Unpin),
    ends: Option<(SocketAddr, SocketAddr)>,
) -> io::Result<()> {
    let Some(version) = target.cluster.spec.header else { return Ok(()) };
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let header = announce::header(version, target.caller, ends.unwrap_or((nowhere, target.address())));
    stream.write_all(&header).await?;
    stream.flush().await
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
    let offer = (mesh || tls.foreign.is_some()).then_some(offer);
    let by_host = target.host.is_some() && target.cluster.spec.options.host_in_certificate;
    worker.client_tls.borrow_mut().get(config, tls, expected, offer, by_host)
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
        Opened::Tunnel(tunnel, counted) => {
            let mut stream = into_stream(tunnel);
            announce(target, &mut stream, None).await.map_err(|_| Problem::Connect(Fault::Reset))?;
            Ok(Made { stream, chosen: None, counted })
        }
        Opened::Through(..) => Err(Problem::Connect(Fault::Tunnel)),
    }
}

/// Our own inbound side takes the other end of a pipe, with the policy it has for everybody.
fn own(worker: &Rc<Worker>, config: &Arc<Config>, target: &Target<'_>, offer: Offer) -> Stream {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    worker.counters().handed_over.fetch_add(1, Relaxed);
    let transport = target.transport();
    let (caller, named) = match transport {
        Transport::Raw => (None, None),
        Transport::Tls(tls) => (own_identity(config, transport), Some(tls.sni.clone()).filter(|sni| !sni.is_empty())),
    };
    listen::hand_over(worker, Plain::memory(theirs), target.address(), (caller, named), offer);
    Stream::plain(Plain::memory(ours))
}
