//! Times and numbers that end requests.

use std::rc::Rc;
use std::time::Duration;

use hawser_api::proto::cluster::circuit_breakers::Thresholds;
use hawser_api::proto::route::RetryPolicy;
use http::Request;

use crate::wire::Server;
use crate::world::{Setup, run};

const GET: &str = "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n";
const RPC: &str = "POST /s/m HTTP/1.1\r\nhost: a.b\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_call_of_grpc_ends_when_its_caller_said() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(&RPC.replace("content-length", "grpc-timeout: 50m\r\ncontent-length")).await;
        let mut silent = server.accept().await;
        assert!(silent.head().await.contains("grpc-timeout: 50m\r\n"));
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 200 ok\r\n") && answer.contains("grpc-status: 4\r\n"), "{answer}");
        assert_eq!(silent.rest().await, "", "the server hears that nobody waits");
    });
}

#[test]
fn a_route_ends_what_takes_longer_than_it_says() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        setup.action.timeout = Some(Duration::from_millis(50).try_into().unwrap());
        let world = setup.start();
        let mut client = world.client();
        client.send(GET).await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 504 "), "{answer}");
        let mut rpc = world.client();
        rpc.send(RPC).await;
        let answer = rpc.head().await;
        assert!(answer.contains("grpc-status: 4\r\n"), "{answer}");
        world.counted("UT").await;
    });
}

#[test]
fn a_request_that_takes_too_long_to_arrive_is_ended() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        setup.manager.request_timeout = Some(Duration::from_millis(50).try_into().unwrap());
        let world = setup.start();
        let mut client = world.client();
        client.send("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: 4\r\n\r\nbo").await;
        assert!(client.head().await.starts_with("http/1.1 408 "));
        let mut far = server.accept().await;
        far.head().await;
        assert_eq!(far.rest().await, "bo");
    });
}

#[test]
fn a_try_ends_when_its_route_says_and_another_follows() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        setup.action.retry_policy = Some(RetryPolicy {
            retry_on: "gateway-error".into(),
            num_retries: Some(1),
            per_try_timeout: Some(Duration::from_millis(200).try_into().unwrap()),
            ..Default::default()
        });
        let world = setup.start();
        let mut client = world.client();
        client.send(GET).await;
        let mut silent = server.accept().await;
        silent.head().await;
        let mut quick = server.accept().await;
        quick.head().await;
        quick.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 204 "));
        assert_eq!(silent.rest().await, "");
    });
}

#[test]
fn a_cluster_takes_so_many_requests_and_not_one_more() {
    run(async {
        let server = Server::new().await;
        let limits = Thresholds { max_requests: Some(1), ..Default::default() };
        let world = Setup::to(&[server.at()]).limits(limits).start();
        let (mut first, mut second, mut rpc) = (world.client(), world.client(), world.client());
        first.send(GET).await;
        let mut served = server.accept().await;
        served.head().await;
        second.send(GET).await;
        let answer = second.head().await;
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
        rpc.send(RPC).await;
        let answer = rpc.head().await;
        assert!(answer.contains("grpc-status: 8\r\n"), "{answer}");
        world.counted("UO").await;
        served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(first.head().await.starts_with("http/1.1 204 "));
        first.send(GET).await;
        served.head().await;
        served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(first.head().await.starts_with("http/1.1 204 "), "there is room again");
    });
}

#[test]
fn a_cluster_where_nobody_may_wait_takes_what_has_a_connection_alone() {
    run(async {
        let server = Server::new().await;
        let limits = Thresholds { max_pending_requests: Some(0), ..Default::default() };
        let world = Setup::to(&[server.at()]).limits(limits).start();
        let mut client = world.client();
        client.send(GET).await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
        let mut rpc = world.client();
        rpc.send(RPC).await;
        assert!(rpc.head().await.contains("grpc-status: 8\r\n"));
        assert!(server.is_alone());
    });
}

#[test]
fn a_cluster_takes_so_many_connections_and_not_one_more() {
    run(async {
        let server = Server::new().await;
        let limits = Thresholds { max_connections: Some(1), ..Default::default() };
        let world = Setup::to(&[server.at()]).limits(limits).start();
        let (mut first, mut second, mut rpc) = (world.client(), world.client(), world.client());
        first.send(GET).await;
        let mut served = server.accept().await;
        served.head().await;
        second.send(GET).await;
        let answer = second.head().await;
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
        rpc.send(RPC).await;
        assert!(rpc.head().await.contains("grpc-status: 8\r\n"));
        world.counted("UO").await;
        served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        first.head().await;
        let told = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
        second.exact(told.len()).await;
        second.send(GET).await;
        served.head().await;
        served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(second.head().await.starts_with("http/1.1 204 "), "the connection is used again");
    });
}

#[test]
fn a_server_without_a_free_stream_is_no_reason_to_wait() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut how = h2::server::Builder::new();
        how.max_concurrent_streams(1);
        let mut requests = server.http2_with(how, Rc::default());
        let mut client = world.http2().await;
        let mut held = Vec::new();
        let call = || {
            let request = Request::post("http://a.b/s/m").header("content-type", "application/grpc");
            request.body(()).unwrap()
        };
        // A stream each, on as many connections as there may be.
        for _ in 0..8 {
            held.push((client.send_request(call(), true).unwrap(), requests.recv().await.unwrap()));
        }
        let answer = client.send_request(call(), true).unwrap().0.await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"8".parse().unwrap()));
        let plain = client.send_request(Request::get("http://a.b/").body(()).unwrap(), true).unwrap().0.await.unwrap();
        assert_eq!((plain.status().as_u16(), &plain.headers()["x-envoy-overloaded"]), (503, &"true".parse().unwrap()));
        world.counted("UO").await;
    });
}

#[test]
fn a_head_of_http2_that_is_too_large_is_answered_at_once() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().logging("%RESPONSE_CODE% %RESPONSE_FLAGS%");
        let mut client = world.http2().await;
        let mut request = Request::get("http://a.b/");
        for n in 0..120 {
            request = request.header(format!("x-{n}"), "1");
        }
        let answer = client.send_request(request.body(()).unwrap(), true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), 431);
        assert_eq!(world.line().await, "431 DPE");
        assert!(server.is_alone());
    });
}

#[test]
fn a_connection_beyond_its_clusters_limit_is_closed_at_once() {
    run(async {
        let server = Server::new().await;
        let limits = Thresholds { max_connections: Some(1), ..Default::default() };
        let world = Setup::to(&[server.at()]).limits(limits).tcp().logging("%RESPONSE_CODE% %RESPONSE_FLAGS%");
        let mut first = world.bytes();
        first.send("ping").await;
        let mut far = server.accept().await;
        assert_eq!(far.exact(4).await, "ping");
        assert_eq!(world.bytes().rest().await, "");
        assert_eq!(world.line().await, "0 UO");
        far.send("pong").await;
        assert_eq!(first.exact(4).await, "pong", "the one that was there goes on");
    });
}

#[test]
fn a_proxy_short_of_memory_takes_no_connection() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).tcp().logging("%RESPONSE_CODE% %RESPONSE_FLAGS%");
        world.worker.shared.overload.set(true);
        assert_eq!(world.bytes().rest().await, "");
        assert_eq!(world.line().await, "0 OM");
        assert!(server.is_alone());
        world.worker.shared.overload.set(false);
        let mut client = world.bytes();
        client.send("ping").await;
        assert_eq!(server.accept().await.exact(4).await, "ping");
    });
}

#[test]
fn a_proxy_short_of_memory_turns_requests_away() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        world.worker.shared.overload.set(true);
        let (mut client, mut rpc) = (world.client(), world.client());
        client.send(GET).await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
        rpc.send(RPC).await;
        assert!(rpc.head().await.contains("grpc-status: 8\r\n"));
        world.counted("OM").await;
        assert!(server.is_alone());
    });
}
