//! What access logs say of requests that went wrong: flags and details as Envoy writes them.

use futures_util::future::poll_fn;
use hawser_api::proto::cluster::circuit_breakers::Thresholds;
use hawser_api::proto::http_connection_manager::http_connection_manager::PathWithEscapedSlashesAction;
use hawser_api::proto::route::RetryPolicy;
use http::{Request, Response};

use crate::wire::{Server, Wire};
use crate::world::{Setup, World, run};

const FORMAT: &str = "%REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%";
const GET: &str = "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n";

/// An address where nobody listens.
async fn nowhere() -> std::net::SocketAddr {
    Server::new().await.at()
}

fn retries(mut setup: Setup, most: u32) -> Setup {
    let policy = RetryPolicy { retry_on: "5xx".into(), num_retries: Some(most), ..Default::default() };
    setup.action.retry_policy = Some(policy);
    setup
}

async fn line_of(setup: Setup, request: &str) -> String {
    let world = setup.logging(FORMAT);
    let mut client = world.client();
    client.send(request).await;
    client.head().await;
    world.line().await
}

#[test]
fn an_endpoint_that_refuses_connections_is_named_with_the_reason() {
    run(async {
        let setup = Setup::to(&[nowhere().await]);
        let refused = "upstream_reset_before_response_started{remote_connection_failure|\
                       delayed_connect_error:_Connection_refused}";
        assert_eq!(line_of(setup.clone(), GET).await, format!("GET 503 UF {refused}"));
        assert_eq!(line_of(retries(setup, 1), GET).await, format!("GET 503 URX,UF {refused}"));
    });
}

#[test]
fn clusters_without_room_endpoints_or_routes_have_flags_of_their_own() {
    run(async {
        let at = nowhere().await;
        let full = || Setup::to(&[at]).limits(Thresholds { max_requests: Some(0), ..Default::default() });
        let overflow = "GET 503 UO upstream_reset_before_response_started{overflow}";
        assert_eq!(line_of(full(), GET).await, overflow);
        let waiting = Setup::to(&[at]).limits(Thresholds { max_pending_requests: Some(0), ..Default::default() });
        assert_eq!(line_of(retries(waiting, 2), GET).await, overflow, "it is not tried again");
        assert_eq!(line_of(Setup::to(&[]), GET).await, "GET 503 UH no_healthy_upstream");
        let mut none = Setup::to(&[]);
        none.host.domains = vec!["other".into()];
        assert_eq!(line_of(none, GET).await, "GET 404 NR route_not_found");
        let mut unknown = Setup::to(&[]);
        unknown.action.cluster_specifier =
            Some(hawser_api::proto::route::route_action::ClusterSpecifier::Cluster("x".into()));
        assert_eq!(line_of(unknown, GET).await, "GET 503 NC cluster_not_found");
    });
}

#[test]
fn requests_that_are_none_are_logged_too() {
    run(async {
        let mut setup = Setup::to(&[]);
        setup.manager.path_with_escaped_slashes_action = PathWithEscapedSlashesAction::RejectRequest as i32;
        for (request, line) in [
            ("BAD\r\n\r\n".to_owned(), "- 400 DPE http1.codec_error"),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), "- 400 - missing_host_header"),
            (
                format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(62_000)),
                "- 431 DPE http1.headers_too_large",
            ),
            (
                format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(101)),
                "- 431 DPE http1.too_many_headers",
            ),
            ("GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "GET 400 - path_normalization_failed"),
        ] {
            assert_eq!(line_of(setup.clone(), &request).await, line);
        }
    });
}

/// A client whose request has reached a server.
async fn reached(
    setup: impl FnOnce(Setup) -> Setup,
) -> (World, Wire<tokio::io::DuplexStream>, Wire<tokio::net::TcpStream>) {
    let server = Server::new().await;
    let world = setup(Setup::to(&[server.at()])).logging(FORMAT);
    let mut client = world.client();
    client.send(&GET.replace("GET", "POST")).await;
    let mut far = server.accept().await;
    far.head().await;
    (world, client, far)
}

#[test]
fn a_server_that_breaks_off_is_told_from_one_that_speaks_no_http() {
    run(async {
        let (world, mut client, far) = reached(|s| s).await;
        drop(far);
        client.head().await;
        let line = "POST 503 UC upstream_reset_before_response_started{connection_termination}";
        assert_eq!(world.line().await, line);

        let (world, mut client, mut far) = reached(|s| s).await;
        far.send("HELLO\r\n\r\n").await;
        client.head().await;
        assert_eq!(world.line().await, "POST 502 UPE upstream_reset_before_response_started{protocol_error}");

        let (world, mut client, mut far) = reached(|s| s).await;
        far.send("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok").await;
        client.head().await;
        drop(far);
        client.rest().await;
        assert_eq!(world.line().await, "POST 200 UPE upstream_reset_after_response_started{protocol_error}");
    });
}

#[test]
fn an_answer_that_used_up_all_retries_says_so() {
    run(async {
        let server = Server::new().await;
        let world = retries(Setup::to(&[server.at()]), 1).logging(FORMAT);
        let mut client = world.client();
        client.send(GET).await;
        for _ in 0..2 {
            let mut far = server.accept().await;
            far.head().await;
            far.send("HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        }
        client.head().await;
        assert_eq!(world.line().await, "GET 503 URX via_upstream");
    });
}

#[test]
fn a_retry_that_the_cluster_has_no_room_for_says_so() {
    run(async {
        let limits = Thresholds { max_retries: Some(0), ..Default::default() };
        let setup = retries(Setup::to(&[nowhere().await]), 1).limits(limits);
        let line = line_of(setup, GET).await;
        assert!(line.starts_with("GET 503 UO,UF upstream_reset_before_response_started{"), "{line}");
    });
}

#[test]
fn times_that_have_passed_are_told_apart() {
    run(async {
        let short = || Some(std::time::Duration::from_millis(50).try_into().unwrap());
        let (world, mut client, _far) = reached(|mut s| {
            s.action.timeout = short();
            s
        })
        .await;
        client.head().await;
        assert_eq!(world.line().await, "POST 504 UT response_timeout");
        let (world, mut client, _far) = reached(|mut s| {
            s = retries(s, 0);
            s.action.retry_policy.as_mut().unwrap().per_try_timeout = short();
            s
        })
        .await;
        client.head().await;
        assert_eq!(world.line().await, "POST 504 UT upstream_per_try_timeout");
    });
}

#[test]
fn a_client_that_goes_is_told_from_one_that_gives_up() {
    run(async {
        let (world, client, _far) = reached(|s| s).await;
        drop(client);
        assert_eq!(world.line().await, "POST 0 DC downstream_remote_disconnect");

        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().logging(FORMAT);
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let (answer, body) = client.send_request(Request::get("http://a.b/").body(()).unwrap(), true).unwrap();
        let (_request, mut respond) = requests.recv().await.unwrap();
        drop((answer, body));
        poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        assert_eq!(world.line().await, "GET 0 DR http2.remote_reset");
    });
}

#[test]
fn a_stream_that_a_server_gives_up_is_told_from_one_that_it_refused() {
    run(async {
        for (reason, line) in [
            (
                h2::Reason::REFUSED_STREAM,
                "POST 503 UR upstream_reset_before_response_started{remote_refused_stream_reset}",
            ),
            (h2::Reason::INTERNAL_ERROR, "POST 503 UR upstream_reset_before_response_started{remote_reset}"),
        ] {
            let server = Server::new().await;
            let world = Setup::to(&[server.at()]).http2().logging(FORMAT);
            let mut requests = server.http2();
            let mut client = world.client();
            client.send(&GET.replace("GET", "POST")).await;
            // What was refused unseen is sent again a few times.
            let resets = async {
                while let Some((_, mut respond)) = requests.recv().await {
                    respond.send_reset(reason);
                }
            };
            tokio::select! {
                () = resets => {}
                _ = client.head() => {}
            }
            assert_eq!(world.line().await, line);
        }
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().logging(FORMAT);
        let mut requests = server.http2();
        let mut client = world.client();
        client.send(GET).await;
        let (_request, mut respond) = requests.recv().await.unwrap();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        client.head().await;
        body.send_reset(h2::Reason::INTERNAL_ERROR);
        client.rest().await;
        assert_eq!(world.line().await, "GET 200 UR upstream_reset_after_response_started{remote_reset}");
    });
}
