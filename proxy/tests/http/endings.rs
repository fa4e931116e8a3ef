//! Clients, endpoints and chains that go away.

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};

use crate::wire::{Server, Wire};
use crate::world::{Setup, run};

const GET: &str = "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: 0\r\n\r\n";
const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[test]
fn a_server_hears_that_its_http1_client_is_gone() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        drop(client);
        assert_eq!(far.rest().await, "");
        world.counted("DC").await;
    });
}

#[test]
fn a_server_hears_that_its_http2_client_has_reset_the_stream() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let (answer, body) = client.send_request(Request::get("http://a.b/").body(()).unwrap(), true).unwrap();
        let (_request, mut respond) = requests.recv().await.unwrap();
        drop((answer, body));
        let reason = poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, h2::Reason::CANCEL);
        world.counted("DR").await;
    });
}

/// Two servers, and the one of them that a request has reached.
async fn reached(one: &Server, two: &Server) -> (bool, Wire<tokio::net::TcpStream>) {
    tokio::select! {
        far = one.accept() => (true, far),
        far = two.accept() => (false, far),
    }
}

#[test]
fn a_get_at_an_endpoint_that_is_lost_goes_to_another() {
    run(async {
        let (one, two) = (Server::new().await, Server::new().await);
        let setup = Setup::to(&[one.at(), two.at()]);
        let world = setup.clone().start();
        let mut client = world.client();
        client.send(GET).await;
        let (first, mut silent) = reached(&one, &two).await;
        silent.head().await;
        let (lost, other) = if first { (&one, &two) } else { (&two, &one) };
        world.change(setup.lost(lost.at()));
        let mut far = other.accept().await;
        far.head().await;
        far.send(NONE).await;
        assert!(client.head().await.starts_with("http/1.1 204 "));
        assert_eq!(silent.rest().await, "", "the connection is closed");
    });
}

#[test]
fn a_post_at_an_endpoint_that_is_lost_ends_at_once() {
    run(async {
        let (one, two) = (Server::new().await, Server::new().await);
        let setup = Setup::to(&[one.at(), two.at()]);
        let world = setup.clone().start();
        let mut client = world.client();
        client.send(POST).await;
        let (first, mut silent) = reached(&one, &two).await;
        silent.head().await;
        world.change(setup.lost(if first { one.at() } else { two.at() }));
        assert!(client.head().await.starts_with("http/1.1 503 "));
        assert!(one.is_alone() && two.is_alone());
    });
}

#[test]
fn a_stream_to_an_endpoint_that_is_lost_ends_at_once() {
    run(async {
        let server = Server::new().await;
        let setup = Setup::to(&[server.at()]).http2();
        let lost = server.at();
        let world = setup.clone().start();
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let (answer, _) = client.send_request(Request::post("http://a.b/").body(()).unwrap(), true).unwrap();
        let _silent = requests.recv().await.unwrap();
        world.change(setup.lost(lost));
        assert_eq!(answer.await.unwrap().status(), 503);
    });
}

#[test]
fn a_response_from_an_endpoint_that_is_lost_breaks_off() {
    run(async {
        let server = Server::new().await;
        let setup = Setup::to(&[server.at()]);
        let world = setup.clone().start();
        let mut client = world.client();
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        client.head().await;
        assert_eq!(client.exact(4).await, "half");
        world.change(setup.lost(server.at()));
        assert_eq!(client.rest().await, "");
        assert_eq!(far.rest().await, "");
    });
}

#[test]
fn a_websocket_at_an_endpoint_that_is_lost_ends() {
    run(async {
        use hawser_api::proto::http_connection_manager::http_connection_manager::UpgradeConfig;
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        setup.manager.upgrade_configs = vec![UpgradeConfig { upgrade_type: "websocket".into(), enabled: None }];
        let world = setup.clone().start();
        let mut client = world.client();
        client.send("GET / HTTP/1.1\r\nhost: a.b\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        let mut far = server.accept().await;
        far.head().await;
        far.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        client.head().await;
        world.change(setup.lost(server.at()));
        assert_eq!(client.rest().await, "");
        assert_eq!(far.rest().await, "");
    });
}

#[test]
fn an_idle_connection_to_an_endpoint_that_is_lost_is_not_used_again() {
    run(async {
        let server = Server::new().await;
        let setup = Setup::to(&[server.at()]);
        let world = setup.clone().start();
        let mut client = world.client();
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send(NONE).await;
        client.head().await;
        world.change(setup.clone().lost(server.at()));
        assert_eq!(far.rest().await, "", "it is closed");
        world.change(setup);
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        far.send(NONE).await;
        assert!(client.head().await.starts_with("http/1.1 204 "));
    });
}

#[test]
fn an_http1_connection_whose_chain_was_replaced_closes_after_its_answer() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        let world = setup.clone().start();
        let mut client = world.client();
        client.send(GET).await;
        let mut far = server.accept().await;
        far.head().await;
        setup.manager.merge_slashes = true;
        world.change(setup);
        far.send(NONE).await;
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 204 ") && answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn an_http2_connection_whose_chain_was_replaced_ends_after_its_answers() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]).http2();
        let world = setup.clone().start();
        let mut requests = server.http2();
        let mut client = world.http2().await;
        let (answer, _) = client.send_request(Request::get("http://a.b/").body(()).unwrap(), true).unwrap();
        let (_request, mut respond) = requests.recv().await.unwrap();
        setup.manager.merge_slashes = true;
        world.change(setup);
        let refused = loop {
            // Told to go, the client opens no stream.
            match client.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(refused) => break refused,
            }
        };
        assert!(refused.is_go_away() || refused.is_remote(), "{refused}");
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"whole"), true).unwrap();
        let (body, _) = crate::wire::collect(&mut answer.await.unwrap().into_body()).await;
        assert_eq!(body, b"whole");
    });
}
