//! Connections whose bytes are carried, not read.
//!
//! In: a connection and the clusters it may go to. Out: the same bytes at an endpoint and back, counted. Connecting is
//! tried at several endpoints; once connected, a connection lives and dies with its endpoint.

mod carry;

pub use carry::{Carried, carry};

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::balance::{self, Outcome, Tried};
use crate::config::{Chain, Cluster, Discovery, Endpoint, TcpSpec};
use crate::listen::{Arrival, Side};
use crate::stream::Stream;
use crate::telemetry::{Flow, FlowLabels, Party, Refusal, Reporter};
use crate::tls::{Offer, Peer};
use crate::upstream::{self, Made, Target, To};
use crate::worker::{Worker, chance};

/// Carries a connection.
pub async fn proxy(
    worker: &Rc<Worker>,
    mut stream: Stream,
    arrival: Arrival,
    side: Side,
    spec: &TcpSpec,
    chain: &Chain,
    peer: Option<Peer>,
) {
    let Some((target, made)) = reach(worker, arrival, spec).await else {
        return worker.counters().refuse(Refusal::NoEndpoint);
    };
    let flow = flow(worker, side, &target, chain, peer.as_ref());
    let series = flow.tcp();
    series.opened.fetch_add(1, Relaxed);
    let _active = target.endpoint().map(Active::new);
    let mut upstream = made.stream;
    let carried = carry(&mut stream, &mut upstream, spec.idle, |moved| {
        series.received.fetch_add(moved.forth, Relaxed);
        series.sent.fetch_add(moved.back, Relaxed);
    });
    let ended = match target.endpoint() {
        None => carried.await,
        Some(endpoint) => {
            let lost = endpoint.state.lost.clone();
            tokio::select! {
                ended = carried => ended,
                () = lost.cancelled() => Err(std::io::Error::other("the endpoint is lost")),
            }
        }
    };
    series.closed.fetch_add(1, Relaxed);
    drop(made.counted);
    if let Err(e) = ended {
        tracing::debug!(to = %arrival.to, error = %e, "connection broke");
    }
}

async fn reach(worker: &Rc<Worker>, arrival: Arrival, spec: &TcpSpec) -> Option<(Target, Made)> {
    let name = weighted(spec);
    let mut tried = Tried::new();
    for _ in 0..spec.attempts.max(1) {
        // Each attempt sees the newest health.
        let config = worker.config();
        let cluster = config.clusters.get(name)?.clone();
        let to = to(&cluster, arrival, &tried)?;
        let target = Target { cluster, to };
        match upstream::connect(worker, &config, &target, Offer::Tcp).await {
            Ok(made) => return Some((target, made)),
            Err(_) => {
                let endpoint = target.endpoint()?;
                tried.push(endpoint.state.id);
                if balance::report(&target.cluster, endpoint, Outcome::NoAnswer, crate::clock::now_ms()) {
                    worker.counters().ejections.fetch_add(1, Relaxed);
                }
            }
        }
    }
    None
}

fn to(cluster: &Arc<Cluster>, arrival: Arrival, tried: &Tried) -> Option<To> {
    if cluster.spec.discovery == Discovery::Original {
        return Some(To::Address(arrival.to));
    }
    balance::choose(cluster, crate::clock::now_ms(), tried, chance).cloned().map(To::Endpoint)
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

fn flow(worker: &Worker, side: Side, target: &Target, chain: &Chain, peer: Option<&Peer>) -> Flow {
    let config = worker.config();
    let own = worker.own(&config);
    let labels = match side {
        Side::Outbound => FlowLabels {
            reporter: Reporter::Source,
            source: own,
            destination: target.endpoint().map_or_else(Party::default, |e| Party {
                workload: e.spec.workload.clone(),
                principal: e.spec.identity.clone(),
            }),
            service: FlowLabels::of(&target.cluster.spec.service),
            mutual_tls: None,
        },
        Side::Inbound => FlowLabels {
            reporter: Reporter::Destination,
            source: Party::of_peer(peer),
            destination: own,
            service: FlowLabels::of(&target.cluster.spec.service),
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
