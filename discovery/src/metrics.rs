//! What is counted: joins, leases, freezes, certificates, token uses, connections.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of identities and hosts. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    joins: Family<Outcome, Counter>,
    leases: Family<State, Gauge>,
    freezes: Counter,
    frozen: Gauge,
    certificates: Family<Kind, Counter>,
    token_uses: Counter,
    handshakes: Family<Outcome, Counter>,
    connections: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: CertificateKind,
}

/// For whom a certificate was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum CertificateKind {
    /// A joined host.
    Host,
    /// A workload of a joined host.
    Workload,
    /// A client of the certificate service.
    Caller,
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let inner = &self.inner;
        registry.register("hawser_joins", "Joins and rejoins by outcome", inner.joins.clone());
        registry.register("hawser_leases", "Leases of joined hosts by state", inner.leases.clone());
        registry.register("hawser_freezes", "Times that leases were frozen", inner.freezes.clone());
        registry.register("hawser_frozen_hosts", "Hosts that lapsed and are kept by a freeze", inner.frozen.clone());
        registry.register("hawser_certificates_issued", "Certificates signed by kind", inner.certificates.clone());
        registry.register("hawser_token_uses", "Uses of join tokens", inner.token_uses.clone());
        registry.register("hawser_tls_handshakes", "TLS handshakes by outcome", inner.handshakes.clone());
        registry.register("hawser_connections", "Open connections of the TLS port", inner.connections.clone());
    }

    /// A join or rejoin ended: `joined`, `rejoined`, or the reason of its refusal.
    pub fn join(&self, outcome: &str) {
        self.inner.joins.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc();
    }

    /// Leases in a state.
    pub fn leases(&self, state: &'static str, count: usize) {
        self.inner.leases.get_or_create(&State { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A freeze began.
    pub fn freeze(&self) {
        self.inner.freezes.inc();
    }

    /// Hosts that a freeze keeps.
    pub fn frozen(&self, count: usize) {
        self.inner.frozen.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A certificate was signed.
    pub fn certificate(&self, kind: CertificateKind) {
        self.inner.certificates.get_or_create(&Kind { kind }).inc();
    }

    /// A use of a token was taken.
    pub fn token_use(&self) {
        self.inner.token_uses.inc();
    }

    /// A handshake ended: `ok`, `failed`, `timeout`, `refused`.
    pub fn handshake(&self, outcome: &str) {
        self.inner.handshakes.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc();
    }

    /// A connection opened or closed.
    pub fn connections(&self, change: i64) {
        self.inner.connections.inc_by(change);
    }
}
