//! What a Sidecar asks of a proxy that would be silently open or lead elsewhere: TLS that is ended here, addresses to listen at,
//! sockets that are files.
//!
//! In: a checked Sidecar. Out: why it must be refused, if it must.

use super::Report;
use crate::istio::{FieldPath, Segment, Sidecar};

const TLS: &str = "TLS that ends here is not honoured; say in a PeerAuthentication what ports take";
const BIND: &str = "proxies listen at no addresses of their own; leave it out, and connections to services and declared ports are \
                    captured";
const PROXY: &str = "HTTP_PROXY is not honoured: connections are captured, and applications need no proxy to be named";
const UNIX: &str = "Unix sockets are not honoured; name a port of this host";

/// Adds what is to be said to a report.
pub(super) fn look(sidecar: &Sidecar, path: &FieldPath, report: &mut Report) {
    let at = |list: &str, index: usize, field: &str| {
        let mut path = path.clone();
        path.push_field(list);
        path.0.push(Segment::Index(index));
        path.push_field(field);
        path
    };
    let mut refuse = |path: FieldPath, why: &str| {
        report.refuse.get_or_insert_with(|| format!("{path}: {why}"));
    };
    for (index, listener) in sidecar.ingress.iter().enumerate() {
        if listener.tls.is_some() {
            refuse(at("ingress", index, "tls"), TLS);
        }
        if !listener.bind.is_empty() {
            refuse(at("ingress", index, "bind"), BIND);
        }
        if listener.default_endpoint.starts_with("unix://") {
            refuse(at("ingress", index, "defaultEndpoint"), UNIX);
        }
    }
    for (index, listener) in sidecar.egress.iter().enumerate() {
        if listener.port.as_ref().is_some_and(|port| port.protocol.eq_ignore_ascii_case("HTTP_PROXY")) {
            refuse(at("egress", index, "port"), PROXY);
        }
        if !listener.bind.is_empty() {
            refuse(at("egress", index, "bind"), BIND);
        }
    }
}
