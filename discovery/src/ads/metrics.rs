//! What is counted of xDS: clients, pushes, refusals, resumes, how long a change takes.

use std::time::Duration;

use hawser_xds::TypeUrl;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::view::Class;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    r#type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: &'static str,
}

/// Metrics of xDS; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    clients: Family<OfClass, Gauge>,
    pushes: Family<OfType, Counter>,
    resources: Family<OfType, Counter>,
    removed: Family<OfType, Counter>,
    resumed: Family<OfType, Counter>,
    nacks: Family<OfType, Counter>,
    refused: Counter,
    latency: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            clients: Family::default(),
            pushes: Family::default(),
            resources: Family::default(),
            removed: Family::default(),
            resumed: Family::default(),
            nacks: Family::default(),
            refused: Counter::default(),
            latency: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
        }
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("hawser_xds_clients", "Connected xDS clients by class", self.clients.clone());
        registry.register("hawser_xds_pushes", "xDS responses by type", self.pushes.clone());
        registry.register("hawser_xds_resources_sent", "xDS resources sent by type", self.resources.clone());
        registry.register("hawser_xds_resources_removed", "xDS removals sent by type", self.removed.clone());
        registry.register(
            "hawser_xds_resources_resumed",
            "xDS resources that a reconnecting client held already, so that they were not sent",
            self.resumed.clone(),
        );
        registry.register("hawser_xds_nacks", "xDS responses that clients refused, by type", self.nacks.clone());
        registry.register("hawser_xds_streams_refused", "xDS streams that were not served", self.refused.clone());
        registry.register(
            "hawser_xds_push_latency_seconds",
            "Time from an event of a registry to the response on its way to a client",
            self.latency.clone(),
        );
    }

    pub(super) fn connected(&self, class: Class, change: i64) {
        self.clients.get_or_create(&OfClass { class: class.as_str() }).inc_by(change);
    }

    pub(super) fn sent(&self, url: &str, resources: usize, removed: usize) {
        let label = label(url);
        self.pushes.get_or_create(&label).inc();
        self.resources.get_or_create(&label).inc_by(resources as u64);
        self.removed.get_or_create(&label).inc_by(removed as u64);
    }

    pub(super) fn resumed(&self, url: &str, resources: usize) {
        self.resumed.get_or_create(&label(url)).inc_by(resources as u64);
    }

    pub(super) fn nack(&self, url: &str) {
        self.nacks.get_or_create(&label(url)).inc();
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn pushed_after(&self, time: Duration) {
        self.latency.observe(time.as_secs_f64());
    }
}

/// Types that we know by their short name, all others by one: a stranger makes no series.
fn label(url: &str) -> OfType {
    const KNOWN: [TypeUrl; 7] = [
        TypeUrl::CLUSTER,
        TypeUrl::ENDPOINTS,
        TypeUrl::ROUTE,
        TypeUrl::LISTENER,
        TypeUrl::SECRET,
        TypeUrl::NAME,
        TypeUrl::CAPTURE,
    ];
    let known = KNOWN.iter().find(|ty| ty.as_str() == url);
    OfType { r#type: known.map_or("other", |ty| ty.short()).to_owned() }
}
