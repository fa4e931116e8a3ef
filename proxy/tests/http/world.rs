//! A worker, configured with a listener, a route and a cluster; and what is counted in it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hawser_api::any::pack;
use hawser_api::proto::cluster::{self, CircuitBreakers, Cluster, circuit_breakers::Thresholds};
use hawser_api::proto::core::{self, HealthStatus, address, socket_address};
use hawser_api::proto::endpoint::{self, ClusterLoadAssignment};
use hawser_api::proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options as options,
};
use hawser_api::proto::http_connection_manager::HttpConnectionManager;
use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::listener::{Filter, FilterChain, Listener, filter};
use hawser_api::proto::route::{self, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost};
use hawser_api::proto::tcp_proxy::{TcpProxy, tcp_proxy};
use hawser_proxy::access_log::{AccessLog, AccessLogs, Filter as Lets, Format, Writer};
use hawser_proxy::config::{Kind, Store};
use hawser_proxy::listen::hand_over;
use hawser_proxy::stream::Plain;
use hawser_proxy::telemetry::{Registry, render};
use hawser_proxy::tls::Offer;
use hawser_proxy::worker::{Demand, Shared, Worker};
use prost::Message as _;
use tokio::io::DuplexStream;

use crate::wire::Wire;

/// Nothing here takes longer.
const LONGEST: Duration = Duration::from_secs(20);

/// Runs a test on one thread, as a worker does.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(LONGEST, test).await.expect("it hangs") };
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Resources, to be changed before they are given in.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) manager: HttpConnectionManager,
    pub(crate) host: VirtualHost,
    pub(crate) route: Route,
    pub(crate) action: RouteAction,
    pub(crate) cluster: Cluster,
    endpoints: Vec<(SocketAddr, HealthStatus)>,
    /// Bytes are carried, whatever they say.
    tcp: bool,
}

impl Setup {
    /// All requests go to these endpoints.
    pub(crate) fn to(endpoints: &[SocketAddr]) -> Self {
        let everything = RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
            ..Default::default()
        };
        let kind = cluster::cluster::DiscoveryType::Static as i32;
        let mut setup = Self {
            manager: HttpConnectionManager::default(),
            host: VirtualHost { name: "all".into(), domains: vec!["*".into()], ..Default::default() },
            route: Route { r#match: Some(everything), ..Default::default() },
            action: RouteAction {
                cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster("c".into())),
                ..Default::default()
            },
            cluster: Cluster {
                name: "c".into(),
                cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(kind)),
                ..Default::default()
            },
            endpoints: endpoints.iter().map(|at| (*at, HealthStatus::Healthy)).collect(),
            tcp: false,
        };
        setup.upstream(options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(Default::default()));
        setup
    }

    /// Connections instead of requests.
    pub(crate) fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// The endpoints speak HTTP/2.
    pub(crate) fn http2(mut self) -> Self {
        self.speaks(options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(Default::default()));
        self
    }

    /// The endpoints speak HTTP/1.1, whatever comes in.
    pub(crate) fn http1(mut self) -> Self {
        self.speaks(options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(Default::default()));
        self
    }

    fn speaks(&mut self, protocol: options::explicit_http_config::ProtocolConfig) {
        let config = options::ExplicitHttpConfig { protocol_config: Some(protocol) };
        self.upstream(options::UpstreamProtocolOptions::ExplicitHttpConfig(config));
    }

    fn upstream(&mut self, options: options::UpstreamProtocolOptions) {
        let any = pack(&HttpProtocolOptions { upstream_protocol_options: Some(options), ..Default::default() });
        self.cluster.typed_extension_protocol_options = [("http".to_owned(), any)].into();
    }

    /// Limits of the cluster.
    pub(crate) fn limits(mut self, limits: Thresholds) -> Self {
        self.cluster.circuit_breakers = Some(CircuitBreakers { thresholds: vec![limits] });
        self
    }

    /// An endpoint is said to be dead.
    pub(crate) fn lost(mut self, lost: SocketAddr) -> Self {
        for (at, health) in &mut self.endpoints {
            if *at == lost {
                *health = HealthStatus::Unhealthy;
            }
        }
        self
    }

    /// A worker that has it.
    pub(crate) fn start(self) -> World {
        self.start_with(None)
    }

    /// A worker that has it, and writes a line of this format of each request.
    pub(crate) fn logging(self, format: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log").to_str().unwrap().into();
        let format = Arc::new(Format::text(&format!("{format}\n"), false).unwrap());
        self.start_with(Some((AccessLog { filter: Lets::All, format, file }, dir)))
    }

    fn start_with(self, log: Option<(AccessLog, tempfile::TempDir)>) -> World {
        let (demand, _) = Demand::channel();
        let (trigger, drain) = hawser_daemon::drain::channel();
        let mut store = Store::default();
        self.put(&mut store);
        let shared = Shared {
            config: Arc::new(ArcSwap::new(store.snapshot())),
            counters: Arc::default(),
            demand,
            drain,
            changed: tokio::sync::watch::channel(()).0,
            yields: std::sync::Arc::default(),
            overload: Arc::default(),
            most_connections: 100,
            tcp_tunnels: true,
            access_logs: log.as_ref().map_or_else(AccessLogs::off, |(log, _)| AccessLogs::instead(log.clone())),
            log_writer: Writer::new(Arc::default()),
        };
        let registry = Arc::new(Registry::default());
        let worker = Worker::new(shared, registry.clone());
        World { worker, store: RefCell::new(store), registry, _trigger: trigger, log }
    }

    fn put(mut self, store: &mut Store) {
        self.route.action = Some(route::route::Action::Route(self.action));
        self.host.routes = vec![self.route];
        let routes = RouteConfiguration { name: "r".into(), virtual_hosts: vec![self.host], ..Default::default() };
        self.manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes));
        let specifier = Some(tcp_proxy::ClusterSpecifier::Cluster("c".into()));
        let tcp = TcpProxy { cluster_specifier: specifier, ..Default::default() };
        let any = if self.tcp { pack(&tcp) } else { pack(&self.manager) };
        let config_type = Some(filter::ConfigType::TypedConfig(any));
        let chain = FilterChain { filters: vec![Filter { name: "h".into(), config_type }], ..Default::default() };
        let listener = Listener { name: "virtualInbound".into(), filter_chains: vec![chain], ..Default::default() };
        let lb_endpoints = self.endpoints.iter().map(|(at, health)| lb_endpoint(*at, *health)).collect();
        let group = endpoint::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
        self.cluster.load_assignment =
            Some(ClusterLoadAssignment { cluster_name: "c".into(), endpoints: vec![group], policy: None });
        store.put(Kind::Cluster, "c", &self.cluster.encode_to_vec()).unwrap();
        store.put(Kind::Listener, "virtualInbound", &listener.encode_to_vec()).unwrap();
    }
}

fn lb_endpoint(at: SocketAddr, health: HealthStatus) -> endpoint::LbEndpoint {
    let address = core::Address {
        address: Some(address::Address::SocketAddress(core::SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(at.port().into())),
            ..Default::default()
        })),
    };
    let endpoint = endpoint::Endpoint { address: Some(address), ..Default::default() };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        health_status: health as i32,
        ..Default::default()
    }
}

/// A worker.
pub(crate) struct World {
    pub(crate) worker: Rc<Worker>,
    store: RefCell<Store>,
    registry: Arc<Registry>,
    _trigger: hawser_daemon::drain::Trigger,
    log: Option<(AccessLog, tempfile::TempDir)>,
}

impl World {
    /// Another configuration.
    pub(crate) fn change(&self, setup: Setup) {
        let mut store = self.store.borrow_mut();
        setup.put(&mut store);
        self.worker.shared.config.store(store.snapshot());
        self.worker.shared.changed.send_replace(());
    }

    fn connect(&self, offer: Offer) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        hand_over(&self.worker, Plain::memory(server), ([10, 0, 0, 1], 80).into(), (None, None), offer);
        client
    }

    /// A client of HTTP/1.1.
    pub(crate) fn client(&self) -> Wire<DuplexStream> {
        Wire::new(self.connect(Offer::Http1))
    }

    /// A client that says bytes.
    pub(crate) fn bytes(&self) -> Wire<DuplexStream> {
        Wire::new(self.connect(Offer::Tcp))
    }

    /// A client of HTTP/2.
    pub(crate) async fn http2(&self) -> h2::client::SendRequest<bytes::Bytes> {
        let (sender, connection) = h2::client::handshake(self.connect(Offer::Http2)).await.unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        sender.ready().await.unwrap()
    }

    /// The first line of the log that is not empty, and no other.
    pub(crate) async fn line(&self) -> String {
        let (log, _) = self.log.as_ref().unwrap();
        loop {
            assert!(self.worker.shared.log_writer.flush(LONGEST));
            let text = std::fs::read_to_string(&*log.file).unwrap_or_default();
            if !text.is_empty() {
                assert_eq!(text.lines().count(), 1, "{text}");
                return text.trim_end().to_owned();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a request with these flags was counted.
    pub(crate) async fn counted(&self, flags: &str) {
        let wanted = format!("response_flags=\"{flags}\"");
        while !render(std::slice::from_ref(&self.registry), self.worker.counters()).contains(&wanted) {
            tokio::task::yield_now().await;
        }
    }
}
