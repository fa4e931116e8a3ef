//! What strangers' bytes meet first, each as a function of bytes: for cargo-fuzz, and for the replay of its seeds.
//!
//! In: any bytes. Out: what the proxy made of them. Invariant: no panic, an end within the deadline, an answer of
//! bounded size.

#![allow(dead_code)]

use std::sync::Arc;
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
use hawser_proxy::listen::hand_over;
use hawser_proxy::stream::Plain;
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

/// Detection of HTTP, with the same promise for yes.
pub(crate) fn http_preface(bytes: &[u8]) -> HttpSniff {
    let whole = detect::http(bytes);
    if detect::http(&bytes[..bytes.len() / 2]) == HttpSniff::NotHttp {
        assert_eq!(whole, HttpSniff::NotHttp);
    }
    whole
}

/// Paths made plain: what comes out is plain.
pub(crate) fn path(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(plain) = hawser_proxy::route::normalize(text, true, true) else { return false };
    if text.starts_with('/') {
        assert!(
            plain.starts_with('/') && !plain.split('/').any(|part| part == "..") && !plain.contains("//"),
            "{plain}"
        );
    }
    true
}

/// A plaintext connection to an HTTP port whose every route answers 200: what the client reads.
pub(crate) fn http_head(bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (demand, _asked) = Demand::channel();
        let (_trigger, drain) = hawser_daemon::drain::channel();
        let config: Arc<Config> = config();
        let shared = Shared {
            config: Arc::new(ArcSwap::new(config)),
            counters: Arc::default(),
            demand,
            drain,
            changed: tokio::sync::watch::channel(()).0,
            overload: Arc::default(),
            most_connections: 10,
            tcp_tunnels: true,
            access_logs: AccessLogs::off(),
            log_writer: Writer::new(Arc::default()),
        };
        let worker = Worker::new(shared, Arc::new(Registry::default()));
        let (client, server) = tokio::io::duplex(4 << 20);
        hand_over(&worker, Plain::memory(server), ([10, 0, 0, 1], 80).into(), None, Offer::Http1);
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
