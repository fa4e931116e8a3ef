//! What a Sidecar asks of a proxy that would be silently open or lead elsewhere: TLS that is ended here, listeners that are not
//! named whole or would lead to themselves, sockets that are files.
//!
//! In: a checked Sidecar. Out: why it must be refused, if it must, and what of it has no effect.

use std::net::{IpAddr, SocketAddr};

use super::{Report, Unhonoured};
use crate::istio::sidecar::{CaptureMode, IstioIngressListener};
use crate::istio::{FieldPath, Segment, Sidecar};
use crate::names::{MOST_BOUND, ports};

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
    let of_ingress = sidecar.ingress.iter().map(|listener| listener.capture_mode);
    let of_egress = sidecar.egress.iter().map(|listener| listener.capture_mode);
    let bound = of_ingress.chain(of_egress).filter(|mode| *mode == CaptureMode::None).count();
    if bound > MOST_BOUND {
        // A proxy would refuse all that comes in with them, policies too.
        let why = format!("{bound} listeners with captureMode: NONE, {MOST_BOUND} are the most; capture the others");
        refuse(path.clone(), &why);
    }
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

#[cfg(test)]
mod tests {
    use crate::istio::{honoured, parse_documents};

    fn look(spec: &str) -> (Option<String>, Vec<String>) {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: a, namespace: b}}\n\
             spec: {{workloadSelector: {{labels: {{app: a}}}}, {spec}}}\n"
        );
        let parsed = parse_documents("a.yaml", &text).into_iter().next().unwrap().unwrap();
        let report = honoured(&parsed.resource);
        (report.refuse, report.unhonoured.iter().map(|field| format!("{}: {}", field.path, field.why)).collect())
    }

    #[test]
    fn a_listener_that_would_be_bound_where_nobody_asked_or_lead_to_itself_is_refused() {
        let port = |number: u16| format!("port: {{number: {number}, protocol: HTTP, name: http}}");
        let egress = |rest: &str| look(&format!("egress: [{{hosts: ['./*'], {rest}}}]")).0;
        let ingress = |rest: &str| look(&format!("ingress: [{{{rest}}}]")).0;
        let none = "captureMode: NONE";
        for (refused, path) in [
            (egress(none), "spec.egress[0].captureMode: "),
            (egress(&format!("{}, {none}", port(15001))), "spec.egress[0].port: "),
            (egress(&format!("{}, {none}", port(15163))), "spec.egress[0].port: "),
            (egress(&format!("{}, bind: 10.0.0.1", port(80))), "spec.egress[0].bind: "),
            (egress(&format!("{}, {none}, bind: unix:///a", port(80))), "spec.egress[0].bind: "),
            (ingress(&format!("{}, {none}", port(80))), "spec.ingress[0].defaultEndpoint: "),
            (ingress(&format!("{}, {none}, defaultEndpoint: 127.0.0.1:8080", port(22))), "spec.ingress[0].port: "),
            (
                ingress(&format!("{}, tls: {{mode: SIMPLE, serverCertificate: /a, privateKey: /b}}", port(80))),
                "spec.ingress[0].tls: ",
            ),
        ] {
            assert!(refused.as_ref().is_some_and(|why| why.starts_with(path)), "{path} {refused:?}");
        }
        for (bind, endpoint, is) in [
            ("", "127.0.0.1:8080", true),
            ("", "0.0.0.0:8080", false),
            ("0.0.0.0", "127.0.0.1:8080", false),
            ("0.0.0.0", "127.0.0.1:8081", true),
            ("127.0.0.1", "127.0.0.1:8080", false),
            ("127.0.0.1", "0.0.0.0:8080", true),
            ("10.0.0.1", "127.0.0.1:8080", true),
            ("10.0.0.1", "0.0.0.0:8080", false),
            ("0.0.0.0", "unix:///run/a.sock", true),
            ("0.0.0.0", "unix://@a", true),
        ] {
            let bind = if bind.is_empty() { String::new() } else { format!("bind: {bind}, ") };
            let refused = ingress(&format!("{}, {none}, {bind}defaultEndpoint: '{endpoint}'", port(8080)));
            assert_eq!(refused.is_none(), is, "{bind}{endpoint}: {refused:?}");
        }
        assert_eq!(egress(&format!("{}, {none}, bind: 0.0.0.0", port(8080))), None);
        let (refused, told) = look(&format!("ingress: [{{{}, bind: 10.0.0.1}}]", port(80)));
        assert_eq!(refused, None);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("spec.ingress[0].bind: "), "{told:?}");
    }

    #[test]
    fn a_sidecar_has_no_more_bound_than_a_proxy_takes() {
        let many = |count: u16| {
            let each =
                |n| format!("{{hosts: ['./*'], captureMode: NONE, port: {{number: {n}, protocol: HTTP, name: a}}}}");
            look(&format!("egress: [{}]", (1024..1024 + count).map(each).collect::<Vec<_>>().join(", "))).0
        };
        assert_eq!(many(256), None);
        assert!(many(257).is_some_and(|why| why.contains("257 listeners")));
    }

    #[test]
    fn a_port_stands_once() {
        let twice = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a, namespace: b}\nspec: {egress: [\
                     {port: {number: 80, protocol: HTTP, name: a}, hosts: ['./*']}, \
                     {port: {number: 80, protocol: HTTP, name: b}, hosts: ['./*']}]}\n";
        let refused = parse_documents("a.yaml", twice).into_iter().next().unwrap().unwrap_err();
        assert!(refused.to_string().contains("port 80 stands twice"), "{refused}");
    }
}
