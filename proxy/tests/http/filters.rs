//! What a route has done before it forwards, and copies that nobody waits for.

use std::sync::atomic::Ordering::Relaxed;

use hawser_api::any::pack;
use hawser_api::proto::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use hawser_api::proto::envoy::extensions::filters::http::fault::v3::HttpFault;
use hawser_api::proto::envoy::r#type::v3::FractionalPercent;
use hawser_api::proto::route::route_action::RequestMirrorPolicy;

use crate::wire::Server;
use crate::world::{Setup, run};

const GET: &str = "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn mirrored(server: &Server) -> Setup {
    let mut setup = Setup::to(&[server.at()]);
    setup.action.request_mirror_policies =
        vec![RequestMirrorPolicy { cluster: "c".into(), ..RequestMirrorPolicy::default() }];
    setup
}

#[test]
fn a_client_waits_for_no_copy() {
    run(async {
        let server = Server::new().await;
        let world = mirrored(&server).start();
        let mut client = world.client();
        client.send(GET).await;
        let (mut one, mut other) = (server.accept().await, server.accept().await);
        let heads = [one.head().await, other.head().await];
        let copy = heads.iter().position(|head| head.contains("host: a.b-shadow\r\n")).expect("one is a copy");
        let request = if copy == 0 { &mut other } else { &mut one };
        request.send(OK).await;
        assert!(client.head().await.starts_with("http/1.1 200 "), "the copy is not answered yet");
        let copied = if copy == 0 { &mut one } else { &mut other };
        copied.send("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
        while world.worker.counters().mirrored.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_body_that_is_too_large_to_be_kept_is_not_copied() {
    run(async {
        let server = Server::new().await;
        let world = mirrored(&server).start();
        let mut client = world.client();
        let length = 1024 * 1024 + 1;
        client.send(&format!("POST / HTTP/1.1\r\nhost: a.b\r\ncontent-length: {length}\r\n\r\n")).await;
        let mut only = server.accept().await;
        only.head().await;
        let piece = "a".repeat(1024);
        for _ in 0..1024 {
            client.send(&piece).await;
            only.exact(1024).await;
        }
        client.send("a").await;
        only.exact(1).await;
        only.send(OK).await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
        assert_eq!(world.worker.counters().mirrors_dropped.load(Relaxed), 1);
        assert!(server.is_alone());
    });
}

#[test]
fn a_client_that_leaves_while_it_is_held_up_costs_no_request() {
    run(async {
        let server = Server::new().await;
        let mut setup = Setup::to(&[server.at()]);
        let fault = HttpFault {
            delay: Some(FaultDelay {
                fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(prost_types::Duration {
                    seconds: 3600,
                    nanos: 0,
                })),
                percentage: Some(FractionalPercent { numerator: 100, denominator: 0 }),
            }),
            abort: None,
        };
        setup.route.typed_per_filter_config = [("fault".to_owned(), pack(&fault))].into();
        let world = setup.start();
        let mut client = world.client();
        client.send(GET).await;
        drop(client);
        world.counted("DI,DC").await;
        assert!(server.is_alone());
    });
}
