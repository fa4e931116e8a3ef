//! What an application hears of who calls, and from where: of a caller that proved it, and of one that did not.

use hawser_api::any::pack;
use hawser_api::proto::http_connection_manager::HttpConnectionManager;
use hawser_api::proto::http_connection_manager::http_connection_manager::{ForwardClientCertDetails, RouteSpecifier};
use hawser_api::proto::listener::{FilterChain, FilterChainMatch, Listener};
use hawser_xds::TypeUrl;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::ads::{Ads, World};
use crate::ambient::{self, Like};
use crate::apps;
use crate::net::{CALLEE, Proxy, at};
use crate::refusals::MESH;
use crate::resources::{Pki, downstream, filter, routes};
use crate::world;

/// What is said of others by whoever calls, true or not.
const SAID: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-client-cert: By=spiffe://b;Hash=1\r\n\
                    x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n\r\n";

pub(crate) async fn story() {
    apps::start().await;
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let ads = Ads::start(dir.path(), callee(&pki, ForwardClientCertDetails::AppendForward, false));
    let _proxy = Proxy::start(dir.path(), &["--bind", "inbound=0.0.0.0:15006"], 15100).await;

    // As sidecars of Istio are configured: a proven caller is added to what it says, others are not believed.
    let ours = |value: &str| {
        let (by, rest) = value.split_once(";Hash=").unwrap();
        assert_eq!(by, "By=spiffe://cluster.local/ns/default/sa/reviews");
        let (hash, rest) = rest.split_at(64);
        assert!(hash.bytes().all(|b| b.is_ascii_hexdigit()), "{value}");
        assert_eq!(rest, ";Subject=\"\";URI=spiffe://cluster.local/ns/default/sa/caller");
    };
    let seen = proven(&pki, SAID).await;
    let both = field(&seen, "x-forwarded-client-cert").unwrap();
    ours(both.strip_prefix("By=spiffe://b;Hash=1,").unwrap_or_else(|| panic!("{both}")));
    assert_eq!(field(&seen, "x-forwarded-for"), Some("192.0.2.1"), "nobody is added");
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    let seen = unproven(SAID).await;
    assert_eq!(field(&seen, "x-forwarded-client-cert"), None);
    assert_eq!(field(&seen, "x-forwarded-for"), Some("192.0.2.1"));
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"), "within the mesh it is believed");
    // What nobody says is said by us.
    let bare = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert_eq!(field(&unproven(bare).await, "x-forwarded-proto"), Some("http"));
    let seen = proven(&pki, bare).await;
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    ours(field(&seen, "x-forwarded-client-cert").unwrap());

    // As an edge is: it knows who is at the other end, and believes nobody.
    ads.set(callee(&pki, ForwardClientCertDetails::SanitizeSet, true));
    apps::eventually(async || field(&unproven(SAID).await, "x-forwarded-proto") == Some("http")).await;
    let seen = unproven(SAID).await;
    assert_eq!(field(&seen, "x-forwarded-client-cert"), None);
    assert_eq!(field(&seen, "x-forwarded-for"), Some("192.0.2.1,10.77.0.1"));
    let seen = proven(&pki, SAID).await;
    ours(field(&seen, "x-forwarded-client-cert").unwrap());
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&unproven(bare).await, "x-forwarded-for"), Some("10.77.0.1"));

    for (mode, wanted) in [
        (ForwardClientCertDetails::Sanitize, None),
        (ForwardClientCertDetails::ForwardOnly, Some("By=spiffe://b;Hash=1")),
        (ForwardClientCertDetails::AlwaysForwardOnly, Some("By=spiffe://b;Hash=1")),
    ] {
        ads.set(callee(&pki, mode, false));
        apps::eventually(async || {
            let seen = proven(&pki, SAID).await;
            seen.contains("saw: ") && field(&seen, "x-forwarded-client-cert") == wanted
        })
        .await;
    }
    assert_eq!(field(&unproven(SAID).await, "x-forwarded-client-cert"), Some("By=spiffe://b;Hash=1"));
}

fn field<'s>(seen: &'s str, name: &str) -> Option<&'s str> {
    let values: Vec<_> = seen.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).collect();
    assert!(values.len() <= 1, "{seen}");
    values.first().copied()
}

/// What the application sees of a caller that shows a certificate.
async fn proven(pki: &Pki, request: &str) -> String {
    let like = Like { certificate: true, alpn: MESH };
    ask(ambient::tls(pki, at(CALLEE, 9080), like).await.unwrap(), request).await
}

/// The same of one that speaks plaintext.
async fn unproven(request: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(at("10.77.0.1", 0)).unwrap();
    ask(socket.connect(at(CALLEE, 9080)).await.unwrap(), request).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    // Who changes how a port is served ends what is idle there: then nothing is seen.
    let _ = stream.read_to_string(&mut seen).await;
    seen
}

/// A port of HTTP that takes mTLS and plaintext.
fn callee(pki: &Pki, mode: ForwardClientCertDetails, remote: bool) -> World {
    let mut world = World::default();
    pki.secrets(&mut world, "reviews");
    let name = "inbound|9080||";
    let chain = |transport: &str, tls: bool| FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(9080),
            transport_protocol: transport.into(),
            ..Default::default()
        }),
        transport_socket: tls.then(downstream),
        filters: vec![filter(pack(&HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::RouteConfig(routes(name, name))),
            forward_client_cert_details: mode as i32,
            use_remote_address: Some(remote),
            ..Default::default()
        }))],
        ..Default::default()
    };
    world.add(TypeUrl::CLUSTER, name, &world::original(name));
    let listener = Listener {
        name: "virtualInbound".into(),
        filter_chains: vec![chain("tls", true), chain("raw_buffer", false)],
        ..Default::default()
    };
    world.add(TypeUrl::LISTENER, "virtualInbound", &listener);
    world.brings("virtualInbound", &[(TypeUrl::CLUSTER, name)]);
    world
}
