//! What a Sidecar asks of a proxy that would be silently open or lead elsewhere: TLS that is ended here, listeners that are not
//! named whole or would lead to themselves, sockets that are files.
//!
//! In: a checked Sidecar. Out: why it must be refused, if it must, and what of it has no effect.

use std::net::{IpAddr, SocketAddr};

use super::{Report, Unhonoured};
use crate::istio::sidecar::{CaptureMode, IstioIngressListener};
use crate::istio::{FieldPath, Segment, Sidecar};
use crate::names::ports;

const TLS: &str = "TLS that ends here is not honoured; say in a PeerAuthentication what ports take";
const CAPTURED: &str = "without captureMode: NONE nothing is bound; leave it out, or say captureMode: NONE";
const UNPLACED: &str = "without captureMode: NONE it has no effect: nothing is bound";
const PROXY: &str = "HTTP_PROXY is not honoured: connections are captured, and applications need no proxy to be named";
const UNIX_BIND: &str = "Unix sockets are not honoured; name an address of this host and a port";
const EVERY_PORT: &str = "NONE needs a port: ports that nobody named are not taken from the host";
const NOWHERE: &str = "with captureMode: NONE it is needed: the port itself is the proxy's";
const ITSELF: &str = "it is the listener itself; name another port, or bind another address";
const OWN: &str = "the mesh or SSH has it on every host; name another port";

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
    let number =
        |port: &Option<crate::istio::sidecar::SidecarPort>| port.as_ref().and_then(|port| port.number.number());
    for (index, listener) in sidecar.ingress.iter().enumerate() {
        if listener.tls.is_some() {
            refuse(at("ingress", index, "tls"), TLS);
        }
        if listener.capture_mode == CaptureMode::None {
            if number(&listener.port).is_some_and(ports::is_own) {
                refuse(at("ingress", index, "port"), OWN);
            }
            if listener.default_endpoint.is_empty() {
                refuse(at("ingress", index, "defaultEndpoint"), NOWHERE);
            } else if leads_to_itself(listener) {
                refuse(at("ingress", index, "defaultEndpoint"), ITSELF);
            }
        } else if !listener.bind.is_empty() {
            let path = at("ingress", index, "bind");
            report.unhonoured.push(Unhonoured { path, why: UNPLACED.to_owned() });
        }
    }
    for (index, listener) in sidecar.egress.iter().enumerate() {
        if listener.port.as_ref().is_some_and(|port| port.protocol.eq_ignore_ascii_case("HTTP_PROXY")) {
            refuse(at("egress", index, "port"), PROXY);
        }
        if listener.bind.starts_with("unix://") {
            refuse(at("egress", index, "bind"), UNIX_BIND);
        }
        match listener.capture_mode {
            CaptureMode::None => match number(&listener.port) {
                None => refuse(at("egress", index, "captureMode"), EVERY_PORT),
                Some(port) if ports::is_own(port) => refuse(at("egress", index, "port"), OWN),
                Some(_) => {}
            },
            _ if !listener.bind.is_empty() => refuse(at("egress", index, "bind"), CAPTURED),
            _ => {}
        }
    }
}

/// Whether what comes in at a listener that is bound would come in there again.
fn leads_to_itself(listener: &IstioIngressListener) -> bool {
    let Ok(to) = listener.default_endpoint.parse::<SocketAddr>() else { return false };
    let port = listener.port.as_ref().and_then(|port| port.number.number());
    // Without an address it is the workload's own, and so is an endpoint at any address.
    let bound = listener.bind.parse::<IpAddr>().ok();
    let apart = match bound {
        None => to.ip().is_loopback(),
        Some(bound) if bound.is_unspecified() => false,
        Some(bound) if bound.is_loopback() => to.ip().is_unspecified(),
        Some(_) => to.ip().is_loopback(),
    };
    port == Some(to.port()) && !apart
}
