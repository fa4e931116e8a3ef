//! Clients that hold a body back until they are asked for it (`expect: 100-continue`): we ask, the server never hears of it.

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};

use crate::wire::{Server, collect};
use crate::world::{Setup, run};

const HELD: &str = "POST / HTTP/1.1\r\nhost: a.b\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_client_is_asked_for_its_body_and_its_server_is_not_told() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(HELD).await;
        assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
        client.send("body").await;
        let mut far = server.accept().await;
        let seen = far.head().await;
        assert!(!seen.contains("expect"), "{seen}");
        assert_eq!(far.exact(4).await, "body");
        // A server that asks all the same asks nobody.
        far.send(&format!("HTTP/1.1 100 Continue\r\n\r\n{OK}")).await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
        assert_eq!(client.exact(2).await, "ok");
        client.send("GET / HTTP/1.1\r\nhost: a.b\r\n\r\n").await;
        assert!(far.head().await.starts_with("get / "), "both connections go on");
    });
}

#[test]
fn a_client_of_http2_is_asked_too() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let request = Request::post("http://a.b/").header("expect", "100-continue").body(()).unwrap();
        let (mut answer, mut body) = client.send_request(request, false).unwrap();
        let asked = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(asked.status(), 100);
        body.send_data(Bytes::from_static(b"body"), true).unwrap();
        let (request, mut respond) = requests.recv().await.unwrap();
        assert!(request.headers().get("expect").is_none());
        assert_eq!(collect(&mut request.into_body()).await.0, b"body");
        respond.send_response(Response::new(()), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    });
}

#[test]
fn a_server_that_refuses_first_gets_no_body() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(HELD).await;
        client.head().await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await;
        let answer = client.head().await;
        // Whether a body follows can't be told.
        assert!(answer.starts_with("http/1.1 417 ") && answer.contains("connection: close\r\n"), "{answer}");
        client.send("body").await;
        assert_eq!(client.rest().await, "no");
        assert_eq!(far.rest().await, "", "nothing was sent, and the connection is not used again");
    });
}

#[test]
fn a_server_of_http2_that_refuses_first_gets_no_body() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.client();
        client.send(HELD).await;
        client.head().await;
        let (request, mut respond) = requests.recv().await.unwrap();
        respond.send_response(Response::builder().status(417).body(()).unwrap(), true).unwrap();
        assert!(client.head().await.starts_with("http/1.1 417 "));
        client.send("body").await;
        let mut body = request.into_body();
        let rest = body.data().await;
        assert!(rest.as_ref().is_none_or(Result::is_err), "{rest:?}");
    });
}

#[test]
fn who_gets_no_server_is_not_asked_for_a_body() {
    run(async {
        let world = Setup::to(&[]).start();
        let mut client = world.client();
        client.send(HELD).await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("connection: close\r\n"), "{answer}");
    });
}

#[test]
fn a_client_that_never_sends_its_body_holds_nothing_for_ever() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        setup.manager.request_timeout = Some(std::time::Duration::from_millis(50).try_into().unwrap());
        let world = setup.start();
        let mut client = world.client();
        client.send(HELD).await;
        client.head().await;
        assert!(client.head().await.starts_with("http/1.1 408 "));
        let mut far = server.accept().await;
        far.head().await;
        assert_eq!(far.rest().await, "");
    });
}
