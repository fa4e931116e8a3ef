//! Connections whose bytes are carried, not read.
//!
//! In: a connection and the clusters it may go to. Out: the same bytes at an endpoint and back, counted. Connecting is
//! tried at several endpoints; once connected, a connection lives and dies with its endpoint.

mod carry;
mod guarded;
mod habit;
mod log;
mod onward;
pub mod tunnel;
pub mod tunnels;

pub use carry::{Carried, carry};
pub(crate) use guarded::{Admitted, Asked as AskedOf};
pub use habit::Habit;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Instant;

use self::habit::Lesson;
use self::log::{Bytes, Came, Went};
use self::tunnel::Asked;
use self::tunnels::{Opened, Way};
use crate::access_log::Flags;
use crate::balance::{self, Outcome, Tried};
use crate::config::{Chain, Cluster, Discovery, Endpoint, Filter, TcpSpec};
use crate::hbone;
use crate::http::message::Fields;
use crate::http::progress::Ending;
use crate::listen::{Arrival, Incoming, Side};
use crate::stream::Stream;
use crate::stream::end::End;
use crate::telemetry::{Flow, FlowLabels, Party, Refusal, Reporter};
use crate::tls::Peer;
use crate::upstream::{Fault, Problem, Target, To};
use crate::worker::{Worker, chance};

/// No application answers there.
const UNAVAILABLE: u16 = 503;
/// The tunnel leads elsewhere.
const NOT_HERE: u16 = 404;
/// A policy refuses it.
pub(crate) const DENIED: u16 = 401;

/// Carries a connection.
pub async fn proxy(
    worker: &Rc<Worker>,
    mut stream: Stream,
    arrival: Arrival,
    side: Side,
    spec: &TcpSpec,
    chain: &Arc<Chain>,
    (peer, server_name): (Option<Peer>, Option<String>),
) {
    let came = Came { worker, arrival, spec, chain, peer: peer.as_ref(), server_name: server_name.as_deref() };
    let Some(consents) = guarded::admit(came, side, stream.left()).await else { return };
    if let Some(reached) = reach(worker, came).await {
        run(worker, came, stream, (side, consents), reached).await;
    }
}

/// Carries a connection that comes in a tunnel: it is opened when there is somebody to take it.
pub async fn through(
    worker: &Rc<Worker>,
    mut asked: Asked,
    arrival: Arrival,
    spec: &TcpSpec,
    chain: &Arc<Chain>,
    (peer, server_name): (Option<&Peer>, Option<&str>),
) {
    let came = Came { worker, arrival, spec, chain, peer, server_name };
    let Some(consents) = guarded::admit(came, Side::Inbound, asked.left()).await else { return asked.refuse(DENIED) };
    let Some(reached) = reach(worker, came).await else { return asked.refuse(UNAVAILABLE) };
    let Ok(tunnel) = asked.accept() else { return };
    run(worker, came, tunnel, (Side::Inbound, consents), reached).await;
}

/// Serves a connection of another hawser-proxy that carries tunnels to the port that it came to.
pub async fn serve_tunnels(
    worker: &Rc<Worker>,
    stream: Stream,
    arrival: Arrival,
    chain: &Arc<Chain>,
    (peer, server_name): (Option<Peer>, Option<String>),
) {
    let peer = Rc::new((peer, server_name));
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
            let config = worker.config();
            Incoming::new(worker, arrival, config.inbound.as_deref()).refuse(Refusal::TooMany);
            return asked.refuse(UNAVAILABLE);
        };
        let (serving, spec, chain, peer) = (worker.clone(), spec.clone(), chain.clone(), peer.clone());
        worker.spawn(async move {
            let _open = open;
            through(&serving, asked, arrival, &spec, &chain, (peer.0.as_ref(), peer.1.as_deref())).await;
        });
    });
    if let Err(e) = served.await {
        tracing::debug!(to = %arrival.to, error = %e, "a connection of tunnels broke");
    }
}

async fn run<S: End>(
    worker: &Rc<Worker>,
    came: Came<'_>,
    mut stream: S,
    (side, consents): (Side, guarded::Consents),
    Reached { cluster, endpoint, opened, attempts, began }: Reached,
) {
    let flow = flow(worker, side, &cluster, endpoint.as_ref(), came);
    let series = flow.tcp();
    series.opened.fetch_add(1, Relaxed);
    let _active = endpoint.as_ref().map(Active::new);
    let state = endpoint.as_ref().map(|e| &e.state);
    let progress = match side {
        Side::Outbound => worker.watch.endpoint(state),
        Side::Inbound => worker.watch.carried(state, Admitted::new(came, consents), &worker.config()),
    };
    let (idle, bytes) = (came.spec.idle, Bytes::default());
    let mut lesson = Lesson::new(&cluster.state);
    let count = |moved: Carried| {
        bytes.add(moved);
        lesson.add(moved.forth + moved.back);
        series.received.fetch_add(moved.forth, Relaxed);
        series.sent.fetch_add(moved.back, Relaxed);
    };
    let mut carried = std::pin::pin!(async {
        match opened {
            Opened::Own(mut made) => carry(&mut stream, &mut made.stream, idle, count).await,
            Opened::Tunnel(mut tunnel, _counted) => carry(&mut stream, &mut tunnel, idle, count).await,
            Opened::Through(mut end, _rest) => carry(&mut stream, &mut end, idle, count).await,
        }
    });
    let (mut told, mut over) = (false, false);
    let mut longest = came.spec.longest.map(|longest| Box::pin(tokio::time::sleep(longest)));
    let ended = poll_fn(|cx| match progress.ending(cx) {
        Ending::Now => {
            told = true;
            Poll::Ready(Err(std::io::Error::other("the endpoint is lost, or a policy forbids it now")))
        }
        Ending::No | Ending::Last | Ending::Graceful => {
            if longest.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                over = true;
                return Poll::Ready(Err(std::io::Error::other("it has lasted as long as it may")));
            }
            carried.as_mut().poll(cx)
        }
    })
    .await;
    series.closed.fetch_add(1, Relaxed);
    let forbidden = told && !endpoint.as_ref().is_some_and(|e| e.state.lost.is_cancelled());
    let flags = match &ended {
        _ if told && !forbidden => Flags::UC,
        _ if told => Flags::NONE,
        _ if over => Flags::DT,
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut => Flags::SI,
        _ => Flags::NONE,
    };
    let address = endpoint.as_ref().map_or(came.arrival.to, |e| e.spec.address);
    let went = Went {
        cluster: &cluster.spec.name,
        endpoint: Some(address),
        attempts,
        flags,
        failure: None,
        lasted: began.elapsed(),
        ended_by: forbidden.then_some(guarded::FORBIDDEN),
        details: None,
        marks: None,
    };
    came.log(&bytes, &went);
    if let Err(e) = ended {
        tracing::debug!(to = %came.arrival.to, error = %e, "connection broke");
    }
}

struct Reached {
    cluster: Arc<Cluster>,
    endpoint: Option<Arc<Endpoint>>,
    opened: Opened,
    attempts: u32,
    began: Instant,
}

/// Reaches an endpoint; that none was is counted and logged.
async fn reach(worker: &Rc<Worker>, came: Came<'_>) -> Option<Reached> {
    let began = Instant::now();
    let name = weighted(came.spec);
    let mut tried = Tried::new();
    let mut failed = Went { cluster: name, attempts: 0, flags: Flags::NC, ..Went::nowhere() };
    let short = worker.shared.overload.is_on();
    if short {
        failed.flags = Flags::OM;
    }
    for attempt in 1..=if short { 0 } else { came.spec.attempts.max(1) } {
        // Each attempt sees the newest health.
        let config = worker.config();
        let Some(cluster) = config.clusters.get(name) else { break };
        let Some(to) = to(cluster, came, &tried) else {
            if failed.attempts == 0 {
                failed.flags = Flags::UH;
            }
            break;
        };
        let caller = came.arrival.peer.as_ref().map(|peer| (peer, &came.arrival.to));
        let target = Target { cluster, to, caller, host: None };
        let (way, said) = match tunnels::way(worker.shared.tcp_tunnels, &config, &target) {
            Way::Hbone => (Way::Hbone, hbone::said(&config, came.arrival.peer)),
            way => (way, Fields::default()),
        };
        let opened = match &came.spec.onward {
            Some(onward) => Box::pin(onward::open(worker, &config, &target, onward)).await,
            None => Box::pin(tunnels::open(worker, &config, &target, way, &said)).await,
        };
        let problem = match opened {
            Ok(opened) => {
                let endpoint = target.endpoint().cloned();
                return Some(Reached { cluster: cluster.clone(), endpoint, opened, attempts: attempt, began });
            }
            Err(problem) => problem,
        };
        failed.endpoint = Some(target.address());
        failed.attempts = attempt;
        (failed.flags, failed.failure) = match problem {
            Problem::Limit => (Flags::UO, None),
            Problem::NoSecret | Problem::NoSwitch => (Flags::UF | Flags::URX, None),
            Problem::Connect(fault) => (Flags::UF | Flags::URX, fault.words()),
        };
        if problem == Problem::Connect(Fault::Denied) {
            // It is well, and no other one is asked in its place.
            break;
        }
        let Some(endpoint) = target.endpoint() else { break };
        tried.push(endpoint.state.id);
        if balance::report(cluster, endpoint, Outcome::NoAnswer, crate::clock::now_ms()) {
            worker.counters().ejections.fetch_add(1, Relaxed);
        }
    }
    worker.counters().refuse(Refusal::NoEndpoint);
    failed.lasted = began.elapsed();
    came.log(&Bytes::default(), &failed);
    None
}

fn to<'c>(cluster: &'c Arc<Cluster>, came: Came<'_>, tried: &Tried) -> Option<To<'c>> {
    if cluster.spec.discovery == Discovery::Original {
        if came.arrival.bound {
            return None;
        }
        return Some(To::Address(cluster.spec.original_address(came.arrival.to)));
    }
    let source = came.arrival.peer.filter(|_| came.spec.by_source);
    let hash = source.map(|peer| balance::hash_of(peer.ip().to_string().as_bytes()));
    balance::choose_other(cluster, crate::clock::now_ms(), tried, hash, chance).map(To::Endpoint)
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
    cluster: &Arc<Cluster>,
    endpoint: Option<&Arc<Endpoint>>,
    came: Came<'_>,
) -> Rc<Flow> {
    let config = worker.config();
    let service = FlowLabels::of(&cluster.spec.service);
    match side {
        Side::Outbound => {
            // The flow keeps the workload, so its place tells it from others.
            let key = endpoint
                .map_or((0, Arc::as_ptr(&cluster.spec) as u64), |e| (e.state.id, Arc::as_ptr(&e.spec.workload) as u64));
            worker.flows.borrow_mut().get(key, || {
                let destination = endpoint.map_or_else(Party::default, |e| Party {
                    workload: e.spec.workload.clone(),
                    principal: e.spec.identity.clone(),
                });
                let source = worker.own(&config);
                let reporter = Reporter::Source;
                let labels = FlowLabels { reporter, source, destination, service, mutual_tls: None };
                Flow::new(labels, worker.registry.clone())
            })
        }
        Side::Inbound => {
            let labels = FlowLabels {
                reporter: Reporter::Destination,
                source: Party::of_peer(came.peer),
                destination: worker.own(&config),
                service,
                mutual_tls: Some(came.chain.tls.is_some()),
            };
            Rc::new(Flow::new(labels, worker.registry.clone()))
        }
    }
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
