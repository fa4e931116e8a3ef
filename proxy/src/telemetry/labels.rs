//! Labels as Istio's sidecars write them, so that existing dashboards work.

use std::fmt::Write as _;
use std::sync::Arc;

use hawser_api::identity::SpiffeId;

use crate::config::{Service, Workload};
use crate::tls::Peer;

/// Which end reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reporter {
    /// The caller's.
    Source,
    /// The callee's.
    Destination,
}

/// One end of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// Its workload, as far as known.
    pub workload: Arc<Workload>,
    /// Its identity, where mTLS proved it.
    pub principal: Option<Arc<str>>,
}

impl Party {
    /// A caller, of which its certificate tells identity and namespace, and it more of itself perhaps.
    pub fn of_peer(peer: Option<&Peer>) -> Self {
        let Some(peer) = peer else { return Self::default() };
        if let Some(workload) = &peer.workload {
            return Self { workload: workload.clone(), principal: Some(peer.identity.clone()) };
        }
        let id = peer.identity.parse::<SpiffeId>().ok();
        let namespace = id.as_ref().and_then(|id| id.workload()).map(|(ns, _)| ns.to_owned()).unwrap_or_default();
        let workload = Arc::new(Workload { namespace, ..Workload::default() });
        Self { workload, principal: Some(peer.identity.clone()) }
    }
}

/// What all requests of a flow share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowLabels {
    /// Which end reports.
    pub reporter: Reporter,
    /// The caller.
    pub source: Party,
    /// The callee.
    pub destination: Party,
    /// Host, name, namespace of the service called.
    pub service: (Arc<str>, Arc<str>, Arc<str>),
    /// Whether mTLS was spoken; absent where the reporter does not know, as Istio has it for callers.
    pub mutual_tls: Option<bool>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestResult {
    /// Whether it was gRPC.
    pub grpc: bool,
    /// Status; 0 if there was no response.
    pub status: u16,
    /// Status of gRPC.
    pub grpc_status: Option<u8>,
    /// Envoy's flags: `-`, `UH`, `UF`, `UC`, `UO`, `UT`, `NR`, `NC`, `URX`, `DC`.
    pub flags: &'static str,
}

impl FlowLabels {
    /// The service as labels.
    pub fn of(service: &Service) -> (Arc<str>, Arc<str>, Arc<str>) {
        (service.host.clone(), service.name.clone(), service.namespace.clone())
    }

    /// Writes the labels, without braces.
    pub(super) fn write(&self, out: &mut String) {
        let reporter = match self.reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        label(out, "reporter", reporter);
        for (side, party) in [("source", &self.source), ("destination", &self.destination)] {
            let w = &party.workload;
            for (name, value) in [
                ("workload", w.name.as_str()),
                ("workload_namespace", &w.namespace),
                ("principal", party.principal.as_deref().unwrap_or_default()),
                ("app", &w.service),
                ("version", &w.revision),
                ("cluster", &w.cluster),
                ("canonical_service", &w.service),
                ("canonical_revision", if w.revision.is_empty() { "latest" } else { &w.revision }),
            ] {
                out.push_str(side);
                out.push('_');
                // Istio writes principals without their scheme.
                label(out, name, value.strip_prefix("spiffe://").unwrap_or(value));
            }
        }
        label(out, "destination_service", &self.service.0);
        label(out, "destination_service_name", &self.service.1);
        label(out, "destination_service_namespace", &self.service.2);
        let security = match self.mutual_tls {
            None => "unknown",
            Some(true) => "mutual_tls",
            Some(false) => "none",
        };
        label(out, "connection_security_policy", security);
    }
}

impl RequestResult {
    pub(super) fn write(&self, out: &mut String) {
        label(out, "request_protocol", if self.grpc { "grpc" } else { "http" });
        let _ = write!(out, "response_code=\"{}\",", self.status);
        match self.grpc_status {
            Some(status) => drop(write!(out, "grpc_response_status=\"{status}\",")),
            None => label(out, "grpc_response_status", ""),
        }
        label(out, "response_flags", self.flags);
    }
}

/// `name="value",`; an empty value of a party or service is `unknown`.
pub(super) fn label(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    let value = if value.is_empty() && name != "grpc_response_status" { "unknown" } else { value };
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push_str("\",");
}
