//! Connections whose bytes are carried, not read.
//!
//! In: a connection and the clusters it may go to. Out: the same bytes at an endpoint and back, counted. Connecting is
//! tried at several endpoints; once connected, a connection lives and dies with its endpoint.

mod carry;
pub mod tunnel;
pub mod tunnels;

pub use carry::{Carried, carry};

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use self::tunnel::Asked;
use self::tunnels::{Opened, Way};
use crate::balance::{self, Outcome, Tried};
use crate::config::{Chain, Cluster, Discovery, Endpoint, Filter, TcpSpec};
use crate::hbone;
use crate::http::message::Fields;
use crate::http::progress::Ending;
use crate::listen::{Arrival, Side};
use crate::stream::Stream;
use crate::telemetry::{Flow, FlowLabels, Party, Refusal, Reporter};
use crate::tls::Peer;
use crate::upstream::{Target, To};
use crate::worker::{Worker, chance};

/// No application answers there.
const UNAVAILABLE: u16 = 503;
/// The tunnel leads elsewhere.
const NOT_HERE: u16 = 404;

/// Carries a connection.
pub async fn proxy(
    worker: &Rc<Worker>,
    stream: Stream,
    arrival: Arrival,
    side: Side,
    spec: &TcpSpec,
    chain: &Chain,
    peer: Option<Peer>,
) {
    match reach(worker, arrival, spec).await {
        None => worker.counters().refuse(Refusal::NoEndpoint),
        Some(reached) => run(worker, stream, arrival, side, reached, spec.idle, chain, peer.as_ref()).await,
    }
}

/// Carries a connection that comes in a tunnel: it is opened when there is somebody to take it.
pub async fn through(
    worker: &Rc<Worker>,
    asked: Asked,
    arrival: Arrival,
    spec: &TcpSpec,
    chain: &Chain,
    peer: Option<&Peer>,
) {
    let Some(reached) = reach(worker, arrival, spec).await else {
        worker.counters().refuse(Refusal::NoEndpoint);
        return asked.refuse(UNAVAILABLE);
    };
    let Ok(tunnel) = asked.accept() else { return };
    run(worker, tunnel, arrival, Side::Inbound, reached, spec.idle, chain, peer).await;
}

/// Serves a connection of another hawser-proxy that carries tunnels to the port that it came to.
pub async fn serve_tunnels(
    worker: &Rc<Worker>,
    stream: Stream,
    arrival: Arrival,
    chain: &Arc<Chain>,
    peer: Option<Peer>,
) {
    let peer = Rc::new(peer);
    let until = async {
        tokio::select! {
            () = worker.shared.drain.draining() => {}
            () = chain.replaced.cancelled() => {}
        }
    };
    let served = tunnel::serve(stream, until, |asked| {
        let here = asked.authority().parse::<SocketAddr>().is_ok_and(|to| to.port() == arrival.to.port());
        let (true, Filter::Tcp(spec)) = (here, &chain.filter) else { return asked.refuse(NOT_HERE) };
        let Some(open) = worker.open() else {
            worker.counters().refuse(Refusal::TooMany);
            return asked.refuse(UNAVAILABLE);
        };
        let (serving, spec, chain, peer) = (worker.clone(), spec.clone(), chain.clone(), peer.clone());
        worker.spawn(async move {
            let _open = open;
            through(&serving, asked, arrival, &spec, &chain, (*peer).as_ref()).await;
        });
    });
    if let Err(e) = served.await {
        tracing::debug!(to = %arrival.to, error = %e, "a connection of tunnels broke");
    }
}

#[allow(clippy::too_many_arguments)]
async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    worker: &Rc<Worker>,
    mut stream: S,
    arrival: Arrival,
    side: Side,
    Reached { cluster, endpoint, opened }: Reached,
    idle: Duration,
    chain: &Chain,
    peer: Option<&Peer>,
) {
    let flow = flow(worker, side, &cluster, endpoint.as_deref(), chain, peer);
    let series = flow.tcp();
    series.opened.fetch_add(1, Relaxed);
    let _active = endpoint.as_ref().map(Active::new);
    let progress = worker.watch.endpoint(endpoint.as_ref().map(|e| &e.state));
    let count = |moved: Carried| {
        series.received.fetch_add(moved.forth, Relaxed);
        series.sent.fetch_add(moved.back, Relaxed);
    };
    let mut carried = std::pin::pin!(async {
        match opened {
            Opened::Own(mut made) => carry(&mut stream, &mut made.stream, idle, count).await,
            Opened::Tunnel(mut tunnel, _counted) => carry(&mut stream, &mut tunnel, idle, count).await,
        }
    });
    let ended = poll_fn(|cx| match progress.ending(cx) {
        Ending::Now => Poll::Ready(Err(std::io::Error::other("the endpoint is lost"))),
        Ending::No | Ending::Graceful => carried.as_mut().poll(cx),
    })
    .await;
    series.closed.fetch_add(1, Relaxed);
    if let Err(e) = ended {
        tracing::debug!(to = %arrival.to, error = %e, "connection broke");
    }
}

struct Reached {
    cluster: Arc<Cluster>,
    endpoint: Option<Arc<Endpoint>>,
    opened: Opened,
}

async fn reach(worker: &Rc<Worker>, arrival: Arrival, spec: &TcpSpec) -> Option<Reached> {
    let name = weighted(spec);
    let mut tried = Tried::new();
    for _ in 0..spec.attempts.max(1) {
        // Each attempt sees the newest health.
        let config = worker.config();
        let cluster = config.clusters.get(name)?;
        let target = Target { cluster, to: to(cluster, arrival, &tried)? };
        let (way, said) = match tunnels::way(worker.shared.tcp_tunnels, &config, &target) {
            Way::Hbone => (Way::Hbone, hbone::said(&config, arrival.peer)),
            way => (way, Fields::default()),
        };
        match tunnels::open(worker, &config, &target, way, &said).await {
            Ok(opened) => {
                return Some(Reached { cluster: cluster.clone(), endpoint: target.endpoint().cloned(), opened });
            }
            Err(_) => {
                let endpoint = target.endpoint()?;
                tried.push(endpoint.state.id);
                if balance::report(cluster, endpoint, Outcome::NoAnswer, crate::clock::now_ms()) {
                    worker.counters().ejections.fetch_add(1, Relaxed);
                }
            }
        }
    }
    None
}

fn to<'c>(cluster: &'c Arc<Cluster>, arrival: Arrival, tried: &Tried) -> Option<To<'c>> {
    if cluster.spec.discovery == Discovery::Original {
        return Some(To::Address(arrival.to));
    }
    balance::choose(cluster, crate::clock::now_ms(), tried, chance).map(To::Endpoint)
}

fn weighted(spec: &TcpSpec) -> &Arc<str> {
    let total: u64 = spec.clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut left = u64::from(chance()) % total.max(1);
    for (name, weight) in &spec.clusters {
        match left.checked_sub(u64::from(*weight)) {
            None => return name,
            Some(rest) => left = rest,
        }
    }
    &spec.clusters[0].0
}

fn flow(
    worker: &Worker,
    side: Side,
    cluster: &Cluster,
    endpoint: Option<&Endpoint>,
    chain: &Chain,
    peer: Option<&Peer>,
) -> Flow {
    let config = worker.config();
    let own = worker.own(&config);
    let labels = match side {
        Side::Outbound => FlowLabels {
            reporter: Reporter::Source,
            source: own,
            destination: endpoint.map_or_else(Party::default, |e| Party {
                workload: e.spec.workload.clone(),
                principal: e.spec.identity.clone(),
            }),
            service: FlowLabels::of(&cluster.spec.service),
            mutual_tls: None,
        },
        Side::Inbound => FlowLabels {
            reporter: Reporter::Destination,
            source: Party::of_peer(peer),
            destination: own,
            service: FlowLabels::of(&cluster.spec.service),
            mutual_tls: Some(chain.tls.is_some()),
        },
    };
    Flow::new(labels, worker.registry.clone())
}

/// Counts a request or connection of an endpoint while it lives.
#[derive(Debug)]
pub(crate) struct Active(Arc<Endpoint>);

impl Active {
    pub(crate) fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.state.active.fetch_add(1, Relaxed);
        Self(endpoint.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.state.active.fetch_sub(1, Relaxed);
    }
}
