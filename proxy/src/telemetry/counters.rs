//! Counters of the proxy's own life.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// No listener for where it was going.
    NoListener,
    /// It came straight to a capture port.
    Direct,
    /// No filter chain takes it: plaintext to a strict port, for one.
    NoChain,
    /// Too many connections.
    TooMany,
    /// A secret is not there yet.
    NoSecret,
    /// The TLS handshake failed.
    Handshake,
    /// Its first bytes took too long.
    Slow,
    /// The workload it belongs to is not known.
    NoWorkload,
    /// No endpoint could be reached.
    NoEndpoint,
    /// A policy refuses it.
    Policy,
}

impl Refusal {
    const ALL: [(Self, &'static str); 10] = [
        (Self::NoListener, "no_listener"),
        (Self::Direct, "direct"),
        (Self::NoChain, "no_chain"),
        (Self::TooMany, "too_many"),
        (Self::NoSecret, "no_secret"),
        (Self::Handshake, "handshake"),
        (Self::Slow, "slow"),
        (Self::NoWorkload, "no_workload"),
        (Self::NoEndpoint, "no_endpoint"),
        (Self::Policy, "policy"),
    ];
}

/// What somebody said who was asked about a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Consent {
    /// It may pass.
    Given,
    /// It may not.
    Denied,
    /// Nothing that can be used.
    Missing,
}

impl Consent {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Given, "allowed"), (Self::Denied, "denied"), (Self::Missing, "no_answer")];
}

/// What came of looking a name up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum LookedUp {
    /// Addresses.
    Found,
    /// That it has none.
    Nothing,
    /// Nobody could tell.
    Failed,
}

impl LookedUp {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Found, "found"), (Self::Nothing, "nothing"), (Self::Failed, "failed")];
}

/// Counters of the whole proxy.
#[derive(Debug, Default)]
pub struct Counters {
    refused: [AtomicU64; Refusal::ALL.len()],
    consents: [AtomicU64; Consent::ALL.len()],
    lookups: [AtomicU64; LookedUp::ALL.len()],
    /// Accepted connections, outbound.
    pub outbound: AtomicU64,
    /// Accepted connections, inbound.
    pub inbound: AtomicU64,
    /// Connections open now, from clients.
    pub open: AtomicI64,
    /// Calls to the own host that never left the process.
    pub handed_over: AtomicU64,
    /// Connections made to endpoints.
    pub connects: AtomicU64,
    /// Those that failed.
    pub connect_failures: AtomicU64,
    /// Retries.
    pub retries: AtomicU64,
    /// Copies of requests that were answered.
    pub mirrored: AtomicU64,
    /// Copies that found no room, no endpoint or no answer.
    pub mirrors_dropped: AtomicU64,
    /// Endpoints ejected.
    pub ejections: AtomicU64,
    /// Whether there is a stream to the agent.
    pub xds_connected: AtomicI64,
    /// Responses of the control plane that were taken.
    pub xds_accepted: AtomicU64,
    /// Those that were refused, in whole or in part.
    pub xds_rejected: AtomicU64,
    /// Resources held.
    pub xds_resources: AtomicI64,
    /// Listeners that a Sidecar asks for, and that are bound.
    pub bound_listeners: AtomicI64,
    /// Those that can't be bound.
    pub unbound_listeners: AtomicI64,
    /// Lines of access logs that found no room, or whose file can't be written.
    pub access_log_dropped_lines: AtomicU64,
}

impl Counters {
    /// Counts a refused connection.
    pub fn refuse(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts what somebody said.
    pub fn consented(&self, what: Consent) {
        self.consents[what as usize].fetch_add(1, Relaxed);
    }

    /// Counts a name that servers were asked for.
    pub fn looked_up(&self, what: LookedUp) {
        self.lookups[what as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn write(&self, out: &mut String) {
        use std::fmt::Write as _;
        let mut metric = |name: &str, kind: &str, samples: &[(String, i128)]| {
            let _ = writeln!(out, "# TYPE hawser_proxy_{name} {kind}");
            let suffix = if kind == "counter" { "_total" } else { "" };
            for (labels, value) in samples {
                let _ = writeln!(out, "hawser_proxy_{name}{suffix}{labels} {value}");
            }
        };
        let count = |c: &AtomicU64| i128::from(c.load(Relaxed));
        let level = |c: &AtomicI64| i128::from(c.load(Relaxed));
        let one = |value| [(String::new(), value)];
        let refused: Vec<_> = Refusal::ALL
            .iter()
            .map(|(why, name)| (format!("{{reason=\"{name}\"}}"), count(&self.refused[*why as usize])))
            .collect();
        metric("refused_connections", "counter", &refused);
        let sides = [("outbound", &self.outbound), ("inbound", &self.inbound)];
        let accepted = sides.map(|(side, c)| (format!("{{direction=\"{side}\"}}"), count(c)));
        metric("connections", "counter", &accepted);
        metric("open_connections", "gauge", &one(level(&self.open)));
        metric("handed_over_connections", "counter", &one(count(&self.handed_over)));
        metric("upstream_connects", "counter", &one(count(&self.connects)));
        metric("upstream_connect_failures", "counter", &one(count(&self.connect_failures)));
        metric("retries", "counter", &one(count(&self.retries)));
        metric("mirrored_requests", "counter", &one(count(&self.mirrored)));
        metric("mirrors_dropped", "counter", &one(count(&self.mirrors_dropped)));
        let consents =
            Consent::ALL.map(|(what, name)| (format!("{{result=\"{name}\"}}"), count(&self.consents[what as usize])));
        metric("external_authorizations", "counter", &consents);
        let lookups =
            LookedUp::ALL.map(|(what, name)| (format!("{{result=\"{name}\"}}"), count(&self.lookups[what as usize])));
        metric("name_lookups", "counter", &lookups);
        metric("ejections", "counter", &one(count(&self.ejections)));
        metric("xds_connected", "gauge", &one(level(&self.xds_connected)));
        metric("xds_accepted", "counter", &one(count(&self.xds_accepted)));
        metric("xds_rejected", "counter", &one(count(&self.xds_rejected)));
        metric("xds_resources", "gauge", &one(level(&self.xds_resources)));
        let listeners = [("bound", &self.bound_listeners), ("failed", &self.unbound_listeners)];
        let listeners = listeners.map(|(state, c)| (format!("{{state=\"{state}\"}}"), level(c)));
        metric("sidecar_listeners", "gauge", &listeners);
        metric("access_log_dropped_lines", "counter", &one(count(&self.access_log_dropped_lines)));
    }
}
