//! What a server sees of a request's head, and a client of a response's.

use hawser_api::proto::core::{HeaderValue, HeaderValueOption};
use hawser_api::proto::http_connection_manager::http_connection_manager::ForwardClientCertDetails;
use hawser_api::proto::route::{RouteAction, WeightedCluster, route_action, weighted_cluster::ClusterWeight};

use crate::wire::Server;
use crate::world::{Setup, run};

/// What a server sees of a request, and a client of its response.
async fn heads(setup: impl FnOnce(&mut Setup), request: &str, response: &str) -> (String, String) {
    let server = Server::new().await;
    let mut all = Setup::to(&[server.at()]);
    setup(&mut all);
    let world = all.start();
    let mut client = world.client();
    client.send(request).await;
    let mut far = server.accept().await;
    let seen = far.head().await;
    far.send(response).await;
    (seen, client.head().await)
}

const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(n, _)| *n == name).map(|(_, value)| value).collect()
}

fn set(name: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: name.into(), value: value.into() };
    HeaderValueOption { header: Some(header), append_action: 2, append: None }
}

#[test]
fn what_belongs_to_a_connection_stays_there() {
    run(async {
        let request = "GET / HTTP/1.1\r\nhost: a.b\r\nconnection: keep-alive, x-foo\r\nx-foo: 1\r\nkeep-alive: 5\r\n\
                       proxy-connection: keep-alive\r\nte: trailers, gzip\r\nx-bar: 2\r\n\r\n";
        let response = "HTTP/1.1 204 No Content\r\nconnection: x-own\r\nx-own: 1\r\nkeep-alive: 5\r\nx-bar: 3\r\n\r\n";
        let (seen, answer) = heads(|_| {}, request, response).await;
        for name in ["connection", "x-foo", "keep-alive", "proxy-connection"] {
            assert_eq!(values(&seen, name), [""; 0], "{seen}");
        }
        assert_eq!(values(&seen, "te"), ["trailers"]);
        assert_eq!(values(&seen, "x-bar"), ["2"]);
        for name in ["connection", "x-own", "keep-alive"] {
            assert_eq!(values(&answer, name), [""; 0], "{answer}");
        }
        assert_eq!(values(&answer, "x-bar"), ["3"]);
    });
}

#[test]
fn a_client_that_proves_nothing_names_no_caller() {
    run(async {
        let request = "GET / HTTP/1.1\r\nhost: a.b\r\nx-forwarded-client-cert: URI=spiffe://me\r\n\r\n";
        use ForwardClientCertDetails as Mode;
        for (mode, wanted) in [
            (Mode::Sanitize, &[][..]),
            (Mode::ForwardOnly, &[]),
            (Mode::AppendForward, &[]),
            (Mode::SanitizeSet, &[]),
            (Mode::AlwaysForwardOnly, &["uri=spiffe://me"]),
        ] {
            let (seen, _) = heads(|s| s.manager.forward_client_cert_details = mode as i32, request, NONE).await;
            assert_eq!(values(&seen, "x-forwarded-client-cert"), wanted, "{mode:?}");
        }
    });
}

#[test]
fn nobody_may_strip_what_says_who_calls() {
    run(async {
        let request = "GET / HTTP/1.1\r\nhost: a.b\r\nconnection: x-forwarded-client-cert\r\n\
                       x-forwarded-client-cert: URI=spiffe://me\r\n\r\n";
        let mode = ForwardClientCertDetails::AlwaysForwardOnly as i32;
        let (seen, _) = heads(|s| s.manager.forward_client_cert_details = mode, request, NONE).await;
        assert_eq!(values(&seen, "x-forwarded-client-cert"), ["uri=spiffe://me"]);
    });
}

#[test]
fn a_request_has_an_id_its_own_or_a_new_one() {
    run(async {
        let (seen, _) = heads(|_| {}, "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n", NONE).await;
        let id = values(&seen, "x-request-id").concat();
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
        assert_eq!(values(&seen, "x-forwarded-proto"), ["http"]);
        let (seen, _) = heads(|_| {}, "GET / HTTP/1.1\r\nhost: a.b\r\nx-request-id: own\r\n\r\n", NONE).await;
        assert_eq!(values(&seen, "x-request-id"), ["own"]);
    });
}

#[test]
fn a_host_is_rewritten_and_the_old_one_is_told() {
    run(async {
        let change = |s: &mut Setup| {
            let new = route_action::HostRewriteSpecifier::HostRewriteLiteral("new.b".into());
            s.action.host_rewrite_specifier = Some(new);
            s.action.append_x_forwarded_host = true;
            s.action.prefix_rewrite = "/api/".into();
        };
        let (seen, _) = heads(change, "GET /x?q=1 HTTP/1.1\r\nhost: old.b\r\n\r\n", NONE).await;
        assert!(seen.starts_with("get /api/x?q=1 http/1.1\r\n"), "{seen}");
        assert_eq!(values(&seen, "host"), ["new.b"]);
        assert_eq!(values(&seen, "x-forwarded-host"), ["old.b"]);
    });
}

#[test]
fn hosts_routes_and_clusters_change_fields_the_outer_ones_last() {
    run(async {
        let change = |s: &mut Setup| {
            s.host.request_headers_to_add = vec![set("x-a", "host"), set("x-c", "host")];
            s.route.request_headers_to_add = vec![set("x-a", "route"), set("x-b", "route")];
            s.route.request_headers_to_remove = vec!["x-gone".into()];
            s.route.response_headers_to_remove = vec!["server".into()];
            let weighted = ClusterWeight {
                name: "c".into(),
                weight: Some(1),
                request_headers_to_add: vec![set("x-b", "cluster"), set("x-d", "cluster")],
                response_headers_to_add: vec![set("x-e", "cluster")],
                ..Default::default()
            };
            let clusters = WeightedCluster { clusters: vec![weighted] };
            s.action = RouteAction {
                cluster_specifier: Some(route_action::ClusterSpecifier::WeightedClusters(clusters)),
                ..Default::default()
            };
        };
        let request = "GET / HTTP/1.1\r\nhost: a.b\r\nx-a: client\r\nx-gone: 1\r\n\r\n";
        let response = "HTTP/1.1 204 No Content\r\nserver: x\r\n\r\n";
        let (seen, answer) = heads(change, request, response).await;
        for (name, value) in [("x-a", "host"), ("x-b", "route"), ("x-c", "host"), ("x-d", "cluster")] {
            assert_eq!(values(&seen, name), [value], "{seen}");
        }
        assert_eq!(values(&seen, "x-gone"), [""; 0]);
        assert_eq!(values(&answer, "server"), [""; 0]);
        assert_eq!(values(&answer, "x-e"), ["cluster"]);
    });
}
