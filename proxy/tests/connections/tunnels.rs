//! TCP between two hawser-proxies: many connections on few.

use std::time::Duration;

use futures_util::future::join_all;
use hawser_api::proto::core::HealthStatus;
use hawser_api::proto::listener::FilterChainMatch;
use hawser_xds::TypeUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::ads::{Ads, World};
use crate::ambient;
use crate::apps;
use crate::net::{CALLEE, Proxy, at};
use crate::resources::Pki;
use crate::world::{self, By, Speaks};

const DETECT: Duration = Duration::from_millis(500);
const MANY: usize = 40;

fn caller(pki: &Pki) -> World {
    let mut world = World::default();
    pki.secrets(&mut world, "caller");
    for (name, to) in [
        ("bytes", at(CALLEE, 9100)),
        ("echo", at(CALLEE, 3306)),
        ("nobody", at(CALLEE, 8443)),
        ("other", at("10.77.0.3", 9100)),
    ] {
        world::upstream(&mut world, name, to, By::Mesh { hawser: true });
    }
    for (name, port) in [("bytes", 9100), ("echo", 3306), ("nobody", 8443), ("other", 9999)] {
        let chain = world::to(name, FilterChainMatch::default());
        world::outbound(&mut world, &format!("240.240.0.5_{port}"), vec![chain], None, DETECT, &[name]);
    }
    world
}

pub(crate) async fn story() {
    apps::start().await;
    tokio::spawn(apps::echo(TcpListener::bind(at(CALLEE, 3306)).await.unwrap()));
    let pki = Pki::new();
    let (caller_dir, callee_dir, single_dir) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut callee = World::default();
    pki.secrets(&mut callee, "reviews");
    let ports = [(9100, Speaks::Tcp), (3306, Speaks::Undeclared), (8443, Speaks::Tcp)];
    world::inbound(&mut callee, &ports, DETECT);
    let caller_ads = Ads::start(caller_dir.path(), caller(&pki));
    let _ads = (Ads::start(callee_dir.path(), callee), Ads::start(single_dir.path(), caller(&pki)));
    let outbound = ["--bind", "outbound=0.0.0.0:15001", "--tcp-tunnels", "on"];
    let proxy = Proxy::start(caller_dir.path(), &outbound, 15000).await;
    let inbound = Proxy::start(callee_dir.path(), &["--bind", "inbound=0.0.0.0:15006"], 15100).await;

    // Many at once, each ended by halves.
    let all = join_all((0..MANY).map(|_| apps::half_close("240.240.0.5:9100", b"ping"))).await;
    assert!(all.into_iter().all(|answer| answer.unwrap() == b"4 bytes"));
    let carriers = inbound.metric(&["hawser_proxy_connections_total", "inbound"]).await;
    assert!(carriers <= 2, "{carriers} connections for two workers");
    for side in [&proxy, &inbound] {
        apps::eventually(async || side.metric(&["istio_tcp_connections_closed_total"]).await == MANY as u64).await;
    }
    let metric =
        ["istio_tcp_connections_opened_total", "mutual_tls", "source_principal=\"cluster.local/ns/default/sa/caller\""];
    assert_eq!(inbound.metric(&metric).await, MANY as u64);

    // More than all windows, both ways at once, on two tunnels of one connection.
    let large = vec![7; 12 << 20];
    let both = join_all((0..2).map(|_| round("240.240.0.5:3306", &large))).await;
    assert!(both.into_iter().all(|back| back == large));

    // A service whose connections carry so much has each to itself, until they carry little again.
    let own = async || {
        let before = inbound.metric(&["hawser_proxy_connections_total", "inbound"]).await;
        assert_eq!(apps::half_close("240.240.0.5:3306", b"ping").await.unwrap(), b"ping");
        inbound.metric(&["hawser_proxy_connections_total", "inbound"]).await - before
    };
    assert_eq!(own().await, 1);
    apps::eventually(async || own().await == 0).await;

    // The application is away: so is the connection, and no other tunnel minds.
    assert!(closed("240.240.0.5:8443").await);
    assert_eq!(apps::half_close("240.240.0.5:9100", b"ping").await.unwrap(), b"4 bytes");

    // Another end that is said to be of our kind and does not agree: each connection is its own.
    let listener = TcpListener::bind(at("10.77.0.3", 9100)).await.unwrap();
    let acceptor = TlsAcceptor::from(ambient::server(&pki));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(async move {
                let mut asked = [0; 4];
                stream.read_exact(&mut asked).await.unwrap();
                stream.write_all(b"pong").await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
    for _ in 0..5 {
        assert_eq!(apps::half_close("240.240.0.5:9999", b"ping").await.unwrap(), b"pong");
    }

    // A lost endpoint takes its tunnels along.
    let mut open = TcpStream::connect("240.240.0.5:3306").await.unwrap();
    open.write_all(b"x").await.unwrap();
    open.read_exact(&mut [0]).await.unwrap();
    let mut lost = caller(&pki);
    let mut assignment = world::endpoint_by("echo", at(CALLEE, 3306), By::Mesh { hawser: true });
    assignment.endpoints[0].lb_endpoints[0].health_status = HealthStatus::Unhealthy as i32;
    lost.add(TypeUrl::ENDPOINTS, "echo", &assignment);
    caller_ads.set(lost);
    let ended = timeout(Duration::from_secs(10), open.read(&mut [0; 16])).await.expect("it is closed");
    assert!(ended.is_err() || ended.unwrap() == 0);
    drop(proxy);

    // Switched off, each connection is its own.
    let before = inbound.metric(&["hawser_proxy_connections_total", "inbound"]).await;
    let single = ["--bind", "outbound=0.0.0.0:15001", "--tcp-tunnels", "off"];
    let _proxy = Proxy::start(single_dir.path(), &single, 15000).await;
    for _ in 0..5 {
        assert_eq!(apps::half_close("240.240.0.5:9100", b"ping").await.unwrap(), b"4 bytes");
    }
    assert_eq!(inbound.metric(&["hawser_proxy_connections_total", "inbound"]).await, before + 5);
}

/// Sends all and reads as much back at the same time.
async fn round(to: &str, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = TcpStream::connect(to).await.unwrap().into_split();
    let mut back = Vec::new();
    let send = async {
        write.write_all(bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (_, n) = tokio::join!(send, read.read_to_end(&mut back));
    n.unwrap();
    back
}

async fn closed(to: &str) -> bool {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
    ended.is_ok_and(|end| end.is_err() || rest.is_empty())
}
