//! Connections that break, and requests that are tried again or not.

use hawser_api::proto::route::{RetryPolicy, retry_policy::RetryBackOff};

use crate::wire::Server;
use crate::world::{Setup, run};

const GET: &str = "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

#[test]
fn a_connection_that_was_kept_and_is_closed_is_replaced() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(GET).await;
        let mut first = server.accept().await;
        first.head().await;
        first.send(OK).await;
        client.head().await;
        assert_eq!(client.exact(2).await, "ok");
        drop(first);
        client.send(GET).await;
        let mut second = server.accept().await;
        second.head().await;
        second.send(OK).await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
    });
}

#[test]
fn a_post_that_may_have_been_done_is_not_sent_twice() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(GET).await;
        let mut kept = server.accept().await;
        kept.head().await;
        kept.send(OK).await;
        client.head().await;
        client.exact(2).await;
        client.send("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: 4\r\n\r\nbody").await;
        assert!(kept.head().await.starts_with("post "), "the connection was kept");
        kept.exact(4).await;
        drop(kept);
        let answer = client.head().await;
        assert!(answer.starts_with("http/1.1 503 "), "{answer}");
        assert!(server.is_alone());
        world.counted("UC").await;
    });
}

#[test]
fn a_get_whose_connection_broke_is_sent_again() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).start();
        let mut client = world.client();
        client.send(GET).await;
        let mut first = server.accept().await;
        first.head().await;
        drop(first);
        let mut second = server.accept().await;
        second.head().await;
        second.send(OK).await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
    });
}

#[test]
fn a_status_that_the_route_names_is_tried_again_so_many_times() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        setup.host.include_request_attempt_count = true;
        setup.action.retry_policy =
            Some(RetryPolicy { retry_on: "503".into(), num_retries: Some(1), ..Default::default() });
        let world = setup.start();
        for (second, status) in [(OK, "http/1.1 200 "), (BUSY, "http/1.1 503 ")] {
            let mut client = world.client();
            client.send("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: 0\r\n\r\n").await;
            for (n, answer) in [(1, BUSY), (2, second)] {
                let mut try_ = server.accept().await;
                let head = try_.head().await;
                assert!(head.contains(&format!("x-envoy-attempt-count: {n}\r\n")), "{head}");
                try_.send(answer).await;
                // It is not kept: each try can be told from the others.
                try_.finish().await;
            }
            let answer = client.head().await;
            assert!(answer.starts_with(status), "{answer}");
        }
        assert!(server.is_alone());
    });
}

fn tries_again(server: &Server, most: u32) -> Setup {
    let mut setup = Setup::to(&[server.at()]);
    setup.action.retry_policy =
        Some(RetryPolicy { retry_on: "503".into(), num_retries: Some(most), ..Default::default() });
    setup
}

#[test]
fn a_post_is_sent_again_with_its_body_and_what_comes_meanwhile() {
    run(async {
        let server = Server::new().await;
        let world = tries_again(&server, 3).start();
        let mut client = world.client();
        client.send("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: 8\r\n\r\nbody").await;
        let mut first = server.accept().await;
        first.head().await;
        assert_eq!(first.exact(4).await, "body");
        first.send(BUSY).await;
        let mut second = server.accept().await;
        second.head().await;
        assert_eq!(second.exact(4).await, "body", "what was taken is sent first");
        client.send("rest").await;
        assert_eq!(second.exact(4).await, "rest");
        second.send(OK).await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
    });
}

#[test]
fn a_post_whose_body_is_too_large_to_be_kept_is_not_sent_again() {
    run(async {
        let server = Server::new().await;
        for framing in ["content-length: 70000\r\n", "transfer-encoding: chunked\r\n"] {
            let world = tries_again(&server, 3).start();
            let mut client = world.client();
            client.send(&format!("POST / HTTP/1.1\r\nhost: a.b\r\n{framing}\r\n")).await;
            let body = "a".repeat(70_000);
            client
                .send(&if framing.contains("chunked") { format!("11170\r\n{body}\r\n0\r\n\r\n") } else { body })
                .await;
            let mut only = server.accept().await;
            only.head().await;
            only.exact(70_000).await;
            only.send(BUSY).await;
            assert!(client.head().await.starts_with("http/1.1 503 "));
            assert_eq!(client.exact(4).await, "busy");
            assert!(server.is_alone());
        }
    });
}

#[test]
fn a_request_that_http2_refused_unseen_is_sent_again_with_its_body() {
    run(async {
        let server = Server::new().await;
        let world = Setup::to(&[server.at()]).http2().start();
        let mut requests = server.http2();
        let mut client = world.client();
        client.send("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: 4\r\n\r\n").await;
        let (_request, mut respond) = requests.recv().await.unwrap();
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        let (request, mut respond) = requests.recv().await.unwrap();
        client.send("body").await;
        let (body, _) = crate::wire::collect(&mut request.into_body()).await;
        assert_eq!(body, b"body");
        respond.send_response(http::Response::new(()), true).unwrap();
        assert!(client.head().await.starts_with("http/1.1 200 "));
    });
}

#[test]
fn a_retry_that_nobody_waits_for_is_not_made() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        let wait = |millis| Some(std::time::Duration::from_millis(millis).try_into().unwrap());
        setup.action.retry_policy = Some(RetryPolicy {
            retry_on: "503".into(),
            num_retries: Some(1),
            // The pause is anything up to that: hours, but for a chance of one in many thousands.
            retry_back_off: Some(RetryBackOff { base_interval: wait(300_000_000), max_interval: wait(600_000_000) }),
            ..Default::default()
        });
        let world = setup.start();
        let mut client = world.client();
        client.send(GET).await;
        let mut only = server.accept().await;
        only.head().await;
        only.send(BUSY).await;
        assert_eq!(only.rest().await, "", "the first try is over");
        drop(client);
        world.counted("DC").await;
        assert!(server.is_alone());
    });
}
