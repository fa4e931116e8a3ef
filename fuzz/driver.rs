//! What strangers' bytes meet first, each as a function of bytes: for fuzzing, and for the replay of seeds.
//!
//! In: any bytes. Out: what the proxy made of them. Invariant: no panic, an end within the deadline, an answer of
//! bounded size.

#![allow(dead_code)]

pub(crate) mod access_log;
pub(crate) mod forward;
pub(crate) mod http1;
pub(crate) mod records;
mod wire1;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use hawser_api::any::pack;
use hawser_api::proto::http_connection_manager::HttpConnectionManager;
use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::listener::{Filter, FilterChain, Listener, filter};
use hawser_api::proto::route::{
    DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route, route_match,
};
use hawser_proxy::access_log::{AccessLogs, Writer};
use hawser_proxy::config::{Config, Kind, Store};
use hawser_proxy::detect::{self, HttpSniff, TlsSniff};
use hawser_proxy::http::channel::{Broken, Channel as _, Client as _, Piece};
use hawser_proxy::http::h2::{self, Side, State};
use hawser_proxy::http::message::{Length, RequestHead, Version};
use hawser_proxy::listen::hand_over;
use hawser_proxy::stream::{Plain, Stream};
use hawser_proxy::telemetry::Registry;
use hawser_proxy::tls::Offer;
use hawser_proxy::worker::{Demand, Shared, Worker};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// An answer to a whole request comes within it.
const MOMENT: Duration = Duration::from_millis(200);

/// Detection of TLS: a longer prefix never takes an answer back.
pub(crate) fn client_hello(bytes: &[u8]) -> TlsSniff {
    let whole = detect::client_hello(bytes);
    let half = detect::client_hello(&bytes[..bytes.len() / 2]);
    assert!(half == TlsSniff::More || half == whole, "{half:?} became {whole:?}");
    whole
}

/// Detection of HTTP, with the same promise.
pub(crate) fn http_preface(bytes: &[u8]) -> HttpSniff {
    let whole = detect::http(bytes);
    for half in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let half = detect::http(&bytes[..half]);
        assert!(half == HttpSniff::More || half == whole, "{half:?} became {whole:?}");
    }
    whole
}

/// Paths made plain: what comes out is plain, and stays as it is.
pub(crate) fn path(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    for (dots, slashes) in [(true, false), (false, true), (true, true)] {
        let Ok(plain) = hawser_proxy::route::normalize(text, dots, slashes) else { return false };
        assert_eq!(hawser_proxy::route::normalize(&plain, dots, slashes).as_deref(), Ok(&*plain));
        if text.starts_with('/') {
            assert!(plain.starts_with('/'));
            assert!(!dots || !plain.split('/').any(|part| matches!(part, "." | "..")), "{plain}");
            assert!(!slashes || !plain.contains("//"), "{plain}");
        }
    }
    true
}

/// Answers to the question with the number 7 for the addresses of `api.example.com`; the first byte chooses the family.
pub(crate) fn dns_answer(bytes: &[u8]) -> bool {
    let [kind, answer @ ..] = bytes else { return false };
    let v6 = kind & 1 == 1;
    let of = |name| hawser_proxy::dns::answered(name, v6, 7, answer);
    let Some(all) = of("api.example.com") else { return false };
    assert!(answer.starts_with(&[0, 7]) && all.len() <= 64);
    assert!(all.is_sorted() && all.iter().all(|a| a.is_ipv6() == v6 && !a.is_unspecified() && !a.is_multicast()));
    assert!(
        all.is_empty() || of("other.example.com").is_none_or(|other| other.is_empty()),
        "an answer to two questions"
    );
    true
}

/// A plaintext connection to an HTTP port whose every route answers 200: what the client reads.
pub(crate) fn http_head(bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let worker = worker();
        let (client, server) = tokio::io::duplex(4 << 20);
        hand_over(&worker, Plain::memory(server), ([10, 0, 0, 1], 80).into(), (None, None), Offer::Http1);
        let (reader, mut writer) = tokio::io::split(client);
        let mut reader = reader.take(1 << 20);
        let exchange = async {
            let mut answer = Vec::new();
            // The other end may close before it has read all.
            let _ = tokio::join!(writer.write_all(bytes), tokio::time::timeout(MOMENT, reader.read_buf(&mut answer)));
            // A request that has no end gets one.
            let _ = writer.shutdown().await;
            let _ = reader.read_to_end(&mut answer).await;
            answer
        };
        tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("a connection that is closed has an end")
    })
}

/// A worker of a proxy with one listener, within a set of local tasks.
fn worker() -> Rc<Worker> {
    let (demand, _asked) = Demand::channel();
    let (_trigger, drain) = hawser_daemon::drain::channel();
    let shared = Shared {
        config: Arc::new(ArcSwap::new(CONFIG.clone())),
        counters: Arc::default(),
        demand,
        drain,
        changed: tokio::sync::watch::channel(()).0,
        yields: Arc::default(),
        overload: Arc::default(),
        most_connections: 10,
        tcp_tunnels: true,
        access_logs: AccessLogs::off(),
        log_writer: Writer::new(Arc::default()),
    };
    Worker::new(shared, Arc::new(Registry::default()))
}

/// HTTP/2 as a server, after the preface and SETTINGS; every request is answered. How many were, if no rule was broken.
pub(crate) fn h2_server(bytes: &[u8]) -> Option<usize> {
    let mut state = State::new(Side::Server, h2::Limits::default(), || 0);
    state.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut answered = 0;
    let mut broken = false;
    for part in bytes.chunks(1 + bytes.len() / 3) {
        state.receive(part);
        answered += state.answer_all(204);
        broken |= complains(state.output());
        assert!(state.output().len() < 1 << 20, "{} bytes wait", state.output().len());
        state.wrote(state.output().len());
    }
    (!broken && state.fatal().is_none()).then_some(answered)
}

/// Whether frames reset a stream or end the connection for an error.
fn complains(mut frames: &[u8]) -> bool {
    while let Some((head, rest)) = frames.split_first_chunk::<9>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at(len);
        let code = if head[3] == 7 { &payload[4..8] } else { payload };
        if matches!(head[3], 3 | 7) && code != [0; 4] {
            return true;
        }
        frames = rest;
    }
    assert!(frames.is_empty(), "frames are queued whole");
    false
}

/// HTTP/2 as a client that asks three things: how many were answered, to the end.
pub(crate) fn h2_client(bytes: &[u8]) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(4 << 20);
        let (connection, driver) = h2::connect(Stream::plain(Plain::memory(near)), h2::Limits::default(), true);
        let ask = async {
            let mut streams = Vec::new();
            for method in ["GET", "HEAD", "POST"] {
                let mut head = RequestHead::new(method.parse().expect("a method"), Version::Http11);
                head.set_authority(b"a.b");
                head.set_path(b"/");
                let mut stream = connection.open().expect("room");
                stream.request(&head, Length::None).expect("a connection");
                streams.push(stream);
            }
            // The other end may have gone before it has read all.
            let _ = far.write_all(bytes).await;
            let _ = far.shutdown().await;
            let mut whole = 0;
            for mut stream in streams {
                whole += usize::from(read(&mut stream).await.is_ok());
            }
            whole
        };
        let both = async { tokio::join!(ask, driver).0 };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("a connection that is closed has an end")
    })
}

async fn read(stream: &mut h2::ClientStream) -> Result<(), Broken> {
    while poll_fn(|cx| stream.poll_response(cx)).await?.status < 200 {}
    loop {
        let n = poll_fn(|cx| {
            stream.poll_piece(cx).map_ok(|piece| match piece {
                Piece::Data { bytes, .. } => bytes.len(),
                Piece::Trailers(_) | Piece::End => 0,
            })
        });
        match n.await? {
            0 => return Ok(()),
            n => stream.consume(n),
        }
    }
}

/// Header blocks, each behind its length: how many fields they have, if they can be decoded.
pub(crate) fn hpack(mut bytes: &[u8]) -> Option<usize> {
    let mut blocks = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (block, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        blocks.push(block);
        bytes = rest;
    }
    h2::count_fields(&blocks).ok()
}

static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(config);

fn config() -> Arc<Config> {
    let everything =
        RouteMatch { path_specifier: Some(route_match::PathSpecifier::Prefix("/".into())), ..RouteMatch::default() };
    let action = route::Action::DirectResponse(DirectResponseAction { status: 200, body: None });
    let route = Route { r#match: Some(everything), action: Some(action), ..Route::default() };
    let host =
        VirtualHost { name: "all".into(), domains: vec!["*".into()], routes: vec![route], ..VirtualHost::default() };
    let routes = RouteConfiguration { name: "r".into(), virtual_hosts: vec![host], ..RouteConfiguration::default() };
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        normalize_path: Some(true),
        ..HttpConnectionManager::default()
    };
    let config_type = Some(filter::ConfigType::TypedConfig(pack(&manager)));
    let chain = FilterChain { filters: vec![Filter { name: "http".into(), config_type }], ..FilterChain::default() };
    let listener = Listener { name: "virtualInbound".into(), filter_chains: vec![chain], ..Listener::default() };
    let mut store = Store::default();
    store.put(Kind::Listener, "virtualInbound", &listener.encode_to_vec()).expect("a good listener");
    store.snapshot()
}
