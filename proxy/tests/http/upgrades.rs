//! Connections that become something else.

use bytes::Bytes;
use h2::ext::Protocol;
use hawser_api::proto::cluster::circuit_breakers::Thresholds;
use hawser_api::proto::http_connection_manager::http_connection_manager::UpgradeConfig;
use http::{Method, Request};
use tokio::io::AsyncWriteExt as _;

use crate::wire::Server;
use crate::world::{Setup, run};

pub(crate) const WEBSOCKET: &str =
    "GET /chat HTTP/1.1\r\nhost: a.b\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: a2V5\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-accept: yes\r\n\r\n";

pub(crate) fn allowing(server: &Server, kind: &str) -> Setup {
    let mut setup = Setup::to(&[server.at()]);
    setup.manager.upgrade_configs = vec![UpgradeConfig { upgrade_type: kind.into(), enabled: None }];
    setup
}

#[test]
fn a_websocket_passes_from_http1_to_http1() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").start();
        let mut client = world.client();
        client.send(WEBSOCKET).await;
        let mut far = server.accept().await;
        let asked = far.head().await;
        assert!(asked.contains("upgrade: websocket\r\n") && asked.contains("connection: upgrade\r\n"), "{asked}");
        // What comes right behind the answer is not lost.
        far.send(&format!("{SWITCHED}hello")).await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 101 ") && answer.contains("sec-websocket-accept: yes\r\n"), "{answer}");
        assert_eq!(client.exact(5).await, "hello");
        client.send("frames").await;
        assert_eq!(far.exact(6).await, "frames");
        client.finish().await;
        assert_eq!(far.rest().await, "");
        far.send("bye").await;
        drop(far);
        assert_eq!(client.rest().await, "bye", "each direction ends alone");
    });
}

#[test]
fn a_websocket_passes_from_http2_to_http1() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").http1().start();
        let mut client = world.http2().await;
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://a.b/chat")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        let (answer, mut up) = client.send_request(request, false).unwrap();
        let mut far = server.accept().await;
        let asked = far.head().await;
        assert!(asked.starts_with("get /chat http/1.1\r\n") && asked.contains("upgrade: websocket\r\n"), "{asked}");
        assert!(asked.contains("sec-websocket-key: ") && !asked.contains("transfer-encoding"), "{asked}");
        far.send(SWITCHED).await;
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        up.send_data(Bytes::from_static(b"frames"), true).unwrap();
        assert_eq!(far.rest().await, "frames");
        far.send("bye").await;
        drop(far);
        let (down, _) = crate::wire::collect(&mut answer.into_body()).await;
        assert_eq!(down, b"bye");
    });
}

#[test]
fn a_websocket_counts_as_a_request_while_it_lasts() {
    run(async {
        let server = Server::new().await;
        let limits = Thresholds { max_requests: Some(1), ..Default::default() };
        let world = allowing(&server, "websocket").limits(limits).start();
        let (mut client, mut second) = (world.client(), world.client());
        client.send(WEBSOCKET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send(SWITCHED).await;
        client.head().await;
        second.send("GET / HTTP/1.1\r\nhost: a.b\r\n\r\n").await;
        let answer = second.head().await;
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
    });
}

#[test]
fn a_server_hears_that_nobody_waits_for_its_tunnel() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "CONNECT").http1().start();
        let mut client = world.http2().await;
        let request = Request::builder().method(Method::CONNECT).uri("a.b:1").body(()).unwrap();
        let gone = client.send_request(request, false).unwrap();
        let mut far = server.accept().await;
        far.head().await;
        drop(gone);
        assert_eq!(far.rest().await, "");
        world.counted("DR").await;
    });
}

#[test]
fn a_server_may_decline_to_switch() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").start();
        let mut client = world.client();
        client.send(WEBSOCKET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno").await;
        assert!(client.head().await.starts_with("http/1.1 400 "));
        assert_eq!(client.exact(2).await, "no");
    });
}

#[test]
fn what_no_configuration_allows_is_not_switched_to() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(WEBSOCKET).await;
        assert!(client.head().await.starts_with("http/1.1 403 "));
        let mut client = world.client();
        client.send("CONNECT a.b:1 HTTP/1.1\r\nhost: a.b:1\r\n\r\n").await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 403 ") || answer.starts_with("http/1.1 404 "), "{answer}");
        assert!(server.is_alone());
    });
}

#[test]
fn an_answer_101_that_nobody_asked_for_is_no_answer() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send("GET / HTTP/1.1\r\nhost: a.b\r\n\r\n").await;
        server.accept().await.send(SWITCHED).await;
        assert!(client.head().await.starts_with("http/1.1 502 "));
    });
}

#[test]
fn a_tunnel_carries_bytes_and_each_end_of_them() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "CONNECT").start();
        let mut client = world.client();
        client.send("CONNECT a.b:1 HTTP/1.1\r\nhost: a.b:1\r\n\r\n").await;
        let mut far = server.accept().await;
        let asked = far.head().await;
        assert!(asked.starts_with("connect a.b:1 http/1.1\r\n"), "{asked}");
        far.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 200 "), "{answer}");
        assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
        client.send("up").await;
        client.finish().await;
        assert_eq!(far.rest().await, "up");
        far.stream.write_all(b"down").await.unwrap();
        drop(far);
        assert_eq!(client.rest().await, "down");
    });
}

#[test]
fn a_tunnel_of_http2_carries_bytes_and_each_end_of_them() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "CONNECT").http1().start();
        let mut client = world.http2().await;
        let request = Request::builder().method(Method::CONNECT).uri("a.b:1").body(()).unwrap();
        let (answer, mut up) = client.send_request(request, false).unwrap();
        let mut far = server.accept().await;
        let asked = far.head().await;
        assert!(asked.starts_with("connect a.b:1 http/1.1\r\n") && !asked.contains("transfer-encoding"), "{asked}");
        far.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let answer = answer.await.unwrap();
        up.send_data(Bytes::from_static(b"up"), true).unwrap();
        assert_eq!(far.rest().await, "up");
        far.send("down").await;
        drop(far);
        let (down, _) = crate::wire::collect(&mut answer.into_body()).await;
        assert_eq!(down, b"down");
    });
}

#[test]
fn an_offer_of_plaintext_http2_is_not_taken_up() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").start();
        let mut client = world.client();
        client
            .send(
                "GET / HTTP/1.1\r\nhost: a.b\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
                 http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
            )
            .await;
        let mut far = server.accept().await;
        let head = far.head().await;
        assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
        far.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 204 "));
    });
}
