//! Connections that become something else where the server speaks HTTP/2: extended CONNECT (RFC 8441), and CONNECT.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::Builder;
use http::{Method, Request, Response};

use crate::upgrades::{WEBSOCKET, allowing};
use crate::wire::{Server, collect};
use crate::world::run;

/// A server that takes extended CONNECT.
fn taking() -> Builder {
    let mut how = Builder::new();
    how.enable_connect_protocol();
    how
}

const FORMAT: &str = "%REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%";

#[test]
fn a_websocket_passes_from_http1_to_http2() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").http2().logging(FORMAT);
        let mut requests = server.http2_with(taking(), Rc::default());
        let mut client = world.client();
        client.send(&WEBSOCKET.replace("a2V5", "dGhlIHNhbXBsZSBub25jZQ==")).await;
        let (request, mut respond) = requests.recv().await.unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::CONNECT, "/chat"));
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert!(!request.headers().contains_key("upgrade") && !request.headers().contains_key("connection"));
        let mut down = respond.send_response(Response::new(()), false).unwrap();
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: websocket\r\n"), "{answer}");
        // The server has no key to answer; the client waits for one.
        assert!(answer.contains("connection: upgrade\r\n"), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
        client.send("frames").await;
        let mut up = request.into_body();
        assert_eq!(up.data().await.unwrap().unwrap(), "frames");
        down.send_data(Bytes::from_static(b"hello"), false).unwrap();
        assert_eq!(client.exact(5).await, "hello");
        client.finish().await;
        assert!(up.data().await.is_none_or(|last| last.unwrap().is_empty()));
        down.send_data(Bytes::from_static(b"bye"), true).unwrap();
        assert_eq!(client.rest().await, "bye", "each direction ends alone");
        assert_eq!(world.line().await, "GET 101 - via_upstream");
    });
}

#[test]
fn a_websocket_passes_from_http2_to_http2() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").start();
        let mut requests = server.http2_with(taking(), Rc::default());
        let mut client = world.http2().await;
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let request = Request::builder().method(Method::CONNECT).uri("http://a.b/chat");
        let request = request.extension(Protocol::from_static("websocket")).body(()).unwrap();
        let (answer, mut say) = client.send_request(request, false).unwrap();
        let (request, mut respond) = requests.recv().await.unwrap();
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        let mut down = respond.send_response(Response::new(()), false).unwrap();
        let answer = answer.await.unwrap();
        assert!(answer.status() == 200 && !answer.headers().contains_key("sec-websocket-accept"));
        say.send_data(Bytes::from_static(b"frames"), true).unwrap();
        assert_eq!(collect(&mut request.into_body()).await.0, b"frames");
        down.send_data(Bytes::from_static(b"bye"), true).unwrap();
        assert_eq!(collect(&mut answer.into_body()).await.0, b"bye");
    });
}

#[test]
fn a_server_that_takes_no_extended_connect_is_not_sent_one() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").http2().logging(FORMAT);
        let mut requests = server.http2();
        let mut client = world.client();
        client.send(WEBSOCKET).await;
        assert!(client.head().await.starts_with("http/1.1 503 "));
        assert_eq!(world.line().await, "GET 503 UR upstream_reset_before_response_started{remote_reset}");
        assert!(requests.try_recv().is_err());
    });
}

#[test]
fn a_server_of_http2_may_decline_to_switch() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").http2().start();
        let mut requests = server.http2_with(taking(), Rc::default());
        let mut client = world.client();
        client.send(WEBSOCKET).await;
        let (_request, mut respond) = requests.recv().await.unwrap();
        let mut body = respond.send_response(Response::builder().status(404).body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"no"), true).unwrap();
        assert!(client.head().await.starts_with("http/1.1 404 "));
        assert_eq!(client.chunks().await.0, "no");
    });
}

#[test]
fn a_tunnel_passes_from_http1_to_http2() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "CONNECT").http2().start();
        // It needs no word of the server's.
        let mut requests = server.http2();
        let mut client = world.client();
        client.send("CONNECT a.b:1 HTTP/1.1\r\nhost: a.b:1\r\n\r\nearly").await;
        let (request, mut respond) = requests.recv().await.unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::CONNECT, "a.b:1"));
        let mut down = respond.send_response(Response::new(()), false).unwrap();
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 200 ") && !answer.contains("transfer-encoding"), "{answer}");
        assert_eq!(request.into_body().data().await.unwrap().unwrap(), "early");
        down.send_data(Bytes::from_static(b"down"), true).unwrap();
        assert_eq!(client.exact(4).await, "down");
    });
}

#[test]
fn a_websocket_over_http2_ends_with_its_endpoint() {
    run(async {
        let server = Server::new().await;
        let at = server.at();
        let setup = allowing(&server, "websocket").http2();
        let world = setup.clone().start();
        let mut requests = server.http2_with(taking(), Rc::default());
        let mut client = world.client();
        client.send(WEBSOCKET).await;
        let (request, mut respond) = requests.recv().await.unwrap();
        let _down = respond.send_response(Response::new(()), false).unwrap();
        client.head().await;
        world.change(setup.lost(at));
        assert_eq!(client.rest().await, "");
        assert!(request.into_body().data().await.is_none_or(|last| last.is_err()), "the server hears it too");
        world.counted("UC").await;
    });
}

#[test]
fn what_lasts_shares_no_connection_with_requests_and_leaves_room_for_each_other() {
    run(async {
        let server = Server::new().await;
        let world = allowing(&server, "websocket").http2().start();
        let connections = Rc::new(Cell::new(0));
        let mut requests = server.http2_with(taking(), connections.clone());
        let mut plain = world.client();
        plain.send("GET / HTTP/1.1\r\nhost: a.b\r\n\r\n").await;
        requests.recv().await.unwrap().1.send_response(Response::new(()), true).unwrap();
        assert!(plain.head().await.starts_with("http/1.1 200 "));
        let mut open = Vec::new();
        // All of a connection may stand still, and those of another one go on.
        for n in 1..=17 {
            let mut client = world.client();
            client.send(WEBSOCKET).await;
            let (request, mut respond) = requests.recv().await.unwrap();
            let down = respond.send_response(Response::new(()), false).unwrap();
            client.head().await;
            open.push((client, request, down));
            assert_eq!(connections.get(), if n <= 16 { 2 } else { 3 }, "{n}");
        }
    });
}
