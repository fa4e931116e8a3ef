//! HBONE both ways, against an end made of other parts.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::listener::{FilterChain, FilterChainMatch};
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::ads::{Ads, World};
use crate::ambient::{self, Like, PROPER};
use crate::apps;
use crate::net::{CALLEE, Proxy, at};
use crate::resources::{Pki, hcm, routes};
use crate::world::{self, By, Speaks};

const DETECT: Duration = Duration::from_millis(500);

pub(crate) async fn inbound() {
    apps::start().await;
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let mut callee = World::default();
    pki.secrets(&mut callee, "reviews");
    let ports = [
        (9080, Speaks::Http),
        (9301, Speaks::Undeclared),
        (9100, Speaks::Tcp),
        (9200, Speaks::Tcp),
        (9300, Speaks::Undeclared),
    ];
    world::inbound(&mut callee, &ports, DETECT);
    let _ads = Ads::start(dir.path(), callee);
    let door = at(CALLEE, 15008);
    let bind = format!("hbone={door}");
    let proxy = Proxy::start(dir.path(), &["--bind", "inbound=0.0.0.0:15006", "--bind", &bind], 15100).await;
    let quiet = TcpListener::bind(at(CALLEE, 9300)).await.unwrap();
    tokio::spawn(apps::echo(quiet));
    tokio::spawn(asked(TcpListener::bind(at(CALLEE, 9301)).await.unwrap()));

    let client = ambient::connect(&pki, door, PROPER).await.unwrap();
    let open = |port: u16| ambient::tunnel(&client, Method::CONNECT, Box::leak(format!("{CALLEE}:{port}").into()));
    // Bytes, the client finishing first.
    let (status, send, receive) = open(9100).await;
    assert_eq!((status.as_u16(), ambient::exchange(b"ping", true, send, receive).await.as_str()), (200, "4 bytes"));
    // Requests: the application hears who calls.
    let request = b"GET /x HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n";
    let (_, send, receive) = open(9080).await;
    let seen = ambient::exchange(request, false, send, receive).await;
    assert!(seen.contains("saw: GET /x HTTP/1.1"), "{seen}");
    assert!(seen.contains("URI=spiffe://cluster.local/ns/default/sa/caller"), "{seen}");
    // A port that says nothing: what is in the tunnel decides.
    let (_, send, receive) = open(9300).await;
    assert_eq!(ambient::exchange(b"\x00any bytes", true, send, receive).await, "\0any bytes");
    let (_, send, receive) = open(9301).await;
    let seen =
        ambient::exchange(b"GET /y HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", false, send, receive).await;
    assert!(seen.ends_with("\r\n\r\ntrue"), "the proxy told who calls: {seen}");
    // Nobody listens there; nobody declared it; it is not ours; it is no address; it is no tunnel.
    assert_eq!(open(9200).await.0, 503);
    assert_eq!(open(22).await.0, 404);
    assert_eq!(ambient::tunnel(&client, Method::CONNECT, "10.77.0.1:9100").await.0, 404);
    assert_eq!(ambient::tunnel(&client, Method::CONNECT, "reviews.default:9100").await.0, 400);
    assert_eq!(ambient::tunnel(&client, Method::GET, "10.77.0.2:9100").await.0, 405);
    // Many at a time on one connection.
    let together = (0..50).map(|_| async {
        let (_, send, receive) = open(9100).await;
        ambient::exchange(b"together", true, send, receive).await
    });
    assert!(futures_util::future::join_all(together).await.iter().all(|said| said == "8 bytes"));
    assert_eq!(proxy.metric(&["hawser_proxy_connections_total", "inbound"]).await, 1);
    let opened = ["istio_tcp_connections_opened_total", "mutual_tls", "sa/caller"];
    assert!(proxy.metric(&opened).await >= 51);
    // What its baggage says of it is told by the counters.
    let named = [
        "source_canonical_service=\"caller\"",
        "source_workload_namespace=\"default\"",
        "source_cluster=\"Kubernetes\"",
    ];
    assert!(proxy.metric(&[&opened[..], &named].concat()).await >= 51);
    assert!(proxy.metric(&[&["istio_requests_total"], &named[..]].concat()).await >= 2);

    // Who shows no certificate, or does not say that it speaks HTTP/2, gets nothing.
    for like in
        [Like { certificate: false, ..PROPER }, Like { alpn: &[], ..PROPER }, Like { alpn: &["istio"], ..PROPER }]
    {
        assert!(ambient::connect(&pki, door, like).await.is_err());
    }
    let stranger = Pki::new();
    assert!(ambient::connect(&stranger, door, PROPER).await.is_err());
}

pub(crate) async fn outbound() {
    apps::start().await;
    let pki = Pki::new();
    let taken = ambient::serve(&pki, TcpListener::bind(at("10.77.0.3", 15008)).await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut caller = World::default();
    pki.secrets(&mut caller, "caller");
    let plain = FilterChainMatch::default;
    for (name, port) in [("bytes", 9100), ("web", 9080), ("rpc", 9090), ("nobody", 9200)] {
        world::upstream(&mut caller, name, at("10.77.0.3", port), By::Hbone);
        let chain = match port {
            9080 | 9090 => FilterChain {
                filters: vec![hcm(RouteSpecifier::RouteConfig(routes(name, name)), false)],
                ..Default::default()
            },
            _ => world::to(name, plain()),
        };
        world::outbound(&mut caller, &format!("240.240.0.4_{port}"), vec![chain], None, DETECT, &[name]);
    }
    let _ads = Ads::start(dir.path(), caller);
    let proxy = Proxy::start(dir.path(), &["--bind", "outbound=0.0.0.0:15001"], 15000).await;

    for _ in 0..10 {
        assert_eq!(apps::half_close("240.240.0.4:9100", b"ping").await.unwrap(), b"4 bytes");
    }
    let seen = apps::get("240.240.0.4:9080", "/hello", &[]).await.unwrap();
    assert!(seen.contains("saw: GET /hello HTTP/1.1"), "{seen}");
    let posted = apps::post("240.240.0.4:9080", "/count", 3 << 20).await.unwrap();
    assert!(posted.ends_with("3145728"), "{posted}");
    let (status, body, trailers) = apps::call_h2("240.240.0.4:9090").await;
    assert_eq!((status, body.as_slice()), (200, &b"pong"[..]));
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    // Each of two workers has one connection for each endpoint, at most.
    assert!(taken.load(Relaxed) <= 6, "{}", taken.load(Relaxed));

    // Nobody behind the tunnel: the connection ends without a byte.
    let said = apps::half_close("240.240.0.4:9200", b"ping").await;
    assert!(said.is_err() || said.unwrap().is_empty());
    assert!(proxy.metric(&["hawser_proxy_refused_connections_total", "no_endpoint"]).await >= 1);
}

/// Answers one request of each connection: whether it says who calls.
async fn asked(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
            let said = String::from_utf8(head).unwrap().contains("sa/caller").to_string();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}", said.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
    }
}
