use hawser_api::any::pack;
use hawser_api::proto::cluster::{self, Cluster};
use hawser_api::proto::http_connection_manager::HttpConnectionManager;
use hawser_api::proto::http_connection_manager::Rds;
use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::listener::{self, Filter, FilterChain, FilterChainMatch};
use hawser_api::proto::{core, route, tls};
use prost::Message as _;

use super::*;

fn http(route: &str) -> FilterChain {
    let routes = RouteSpecifier::Rds(Rds { route_config_name: route.into(), config_source: None });
    let manager = HttpConnectionManager { route_specifier: Some(routes), ..Default::default() };
    let config_type = Some(listener::filter::ConfigType::TypedConfig(pack(&manager)));
    FilterChain { filters: vec![Filter { name: "f".into(), config_type }], ..Default::default() }
}

fn listener(chains: Vec<FilterChain>) -> Vec<u8> {
    listener::Listener { filter_chains: chains, ..Default::default() }.encode_to_vec()
}

fn eds(name: &str) -> Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
    Cluster { name: name.into(), cluster_discovery_type: kind, ..Default::default() }
}

fn route_to(cluster: &str) -> Vec<u8> {
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    };
    let all = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
        ..Default::default()
    };
    let one =
        route::Route { r#match: Some(all), action: Some(route::route::Action::Route(action)), ..Default::default() };
    let host = route::VirtualHost { domains: vec!["*".into()], routes: vec![one], ..Default::default() };
    route::RouteConfiguration { virtual_hosts: vec![host], ..Default::default() }.encode_to_vec()
}

#[test]
fn a_listener_serves_when_all_it_needs_is_there() {
    let mut store = Store::default();
    let (name, address) = ("240.240.0.1_80", "240.240.0.1:80".parse().unwrap());
    store.put(Kind::Listener, name, &listener(vec![http("r")])).unwrap();
    let wanted: Vec<_> = store.wanted().into_iter().collect();
    assert_eq!(wanted, [(Kind::Route, "r".into())]);
    store.put(Kind::Route, "r", &route_to("c")).unwrap();
    assert!(store.wanted().contains(&(Kind::Cluster, "c".into())));
    store.put(Kind::Cluster, "c", &eds("c").encode_to_vec()).unwrap();
    assert!(!store.snapshot().outbound.contains_key(&address), "its endpoints are missing");
    store.put(Kind::Endpoints, "c", &[]).unwrap();
    assert!(store.snapshot().outbound.contains_key(&address));
}

#[test]
fn what_is_refused_leaves_what_was_there() {
    let mut store = Store::default();
    store.put(Kind::Cluster, "c", &eds("c").encode_to_vec()).unwrap();
    let mut bad = eds("c");
    bad.lb_policy = cluster::cluster::LbPolicy::LoadBalancingPolicyConfig as i32;
    let why = store.put(Kind::Cluster, "c", &bad.encode_to_vec()).unwrap_err().to_string();
    assert_eq!(why, "c: lb_policy LOAD_BALANCING_POLICY_CONFIG is not supported");
    assert!(store.snapshot().clusters.contains_key("c"));
    // A field that is not declared: number 999, a varint.
    let mut unknown = eds("c").encode_to_vec();
    unknown.extend_from_slice(&[0xb8, 0x3e, 1]);
    assert!(store.put(Kind::Cluster, "c", &unknown).is_err());
    assert!(store.put(Kind::Listener, "x", &listener(vec![http("r")])).is_err(), "no address in its name");
    assert!(store.put(Kind::Route, "r", &[0xff]).is_err());
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let source = |text: String| core::DataSource { specifier: Some(core::data_source::Specifier::InlineString(text)) };
    let made = |uri: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let secret = |chain: &str, key: &str| {
        let certificate = tls::TlsCertificate {
            certificate_chain: Some(source(chain.into())),
            private_key: Some(source(key.into())),
        };
        let r#type = Some(tls::secret::Type::TlsCertificate(certificate));
        tls::Secret { name: "default".into(), r#type }.encode_to_vec()
    };
    let (chain, key) = made("spiffe://cluster.local/ns/a/sa/b");
    let (other_chain, other_key) = made("https://a.example/b");
    let mut store = Store::default();
    store.put(Kind::Secret, "default", &secret(&chain, &key)).unwrap();
    for (chain, key) in [(&chain, &other_key), (&other_chain, &other_key), (&key, &chain)] {
        let why = store.put(Kind::Secret, "default", &secret(chain, key)).unwrap_err().to_string();
        assert!(!why.contains("PRIVATE"), "{why}");
    }
    let held = &store.snapshot().credentials["default"];
    assert_eq!(held.identity.as_str(), "spiffe://cluster.local/ns/a/sa/b");
}

#[test]
fn chains_that_stay_are_the_same_and_those_that_go_are_told() {
    let on = |port| FilterChain {
        filter_chain_match: Some(FilterChainMatch { destination_port: Some(port), ..Default::default() }),
        ..http("r")
    };
    let mut store = Store::default();
    store.put(Kind::Listener, "virtualInbound", &listener(vec![on(1), on(2)])).unwrap();
    let before = store.snapshot().inbound.clone().unwrap();
    store.put(Kind::Listener, "virtualInbound", &listener(vec![on(2), on(3)])).unwrap();
    let after = store.snapshot().inbound.clone().unwrap();
    assert!(std::sync::Arc::ptr_eq(&before.chains[1], &after.chains[0]));
    assert!(before.chains[0].replaced.is_cancelled() && !before.chains[1].replaced.is_cancelled());
}

#[test]
fn what_holds_of_a_port_at_any_address_is_found_by_the_port() {
    let said = prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) };
    let of_port = prost_types::Struct { fields: [("anywhere".to_owned(), said)].into() };
    let made = listener::Listener {
        filter_chains: vec![http("r")],
        metadata: Some(core::Metadata { filter_metadata: [("hawser".to_owned(), of_port)].into() }),
        ..Default::default()
    };
    let mut store = Store::default();
    store.put(Kind::Listener, "192.0.2.1_443", &made.encode_to_vec()).unwrap();
    store.put(Kind::Listener, "192.0.2.1_80", &listener(vec![http("r")])).unwrap();
    assert!(store.snapshot().anywhere.is_empty(), "its routes are not there yet");
    store.put(Kind::Route, "r", &route_to("PassthroughCluster")).unwrap();
    let config = store.snapshot();
    assert_eq!(config.anywhere.keys().collect::<Vec<_>>(), [&443]);
    assert_eq!(config.outbound.len(), 2);
}

#[test]
fn first_bytes_are_waited_for_as_long_as_said_and_never_for_ever() {
    let detect = |timeout: Option<prost_types::Duration>| {
        let made = listener::Listener {
            filter_chains: vec![http("r")],
            listener_filters_timeout: timeout,
            ..Default::default()
        };
        let mut store = Store::default();
        store.put(Kind::Listener, "virtualInbound", &made.encode_to_vec()).unwrap();
        store.snapshot().inbound.as_ref().unwrap().detect.as_millis()
    };
    let of = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    assert_eq!(detect(None), 1000);
    assert_eq!(detect(of(0, 50_000_000)), 50);
    assert_eq!(detect(of(0, 0)), 15_000, "no limit is ours");
    assert_eq!(detect(of(60, 0)), 15_000);
}

fn named(kind: cluster::cluster::DiscoveryType, endpoints: &[(&str, u32)]) -> Cluster {
    use hawser_api::proto::endpoint::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
    };
    let endpoint = |(name, port): &(&str, u32)| {
        let socket = core::SocketAddress {
            address: (*name).to_owned(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(*port)),
            ..Default::default()
        };
        let address = Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) });
        let endpoint = Endpoint { address, ..Default::default() };
        LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() }
    };
    let group = LocalityLbEndpoints { lb_endpoints: endpoints.iter().map(endpoint).collect(), ..Default::default() };
    Cluster {
        name: "c".into(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(kind as i32)),
        load_assignment: Some(ClusterLoadAssignment { endpoints: vec![group], ..Default::default() }),
        ..Default::default()
    }
}

fn addresses(config: &Config) -> Vec<String> {
    config.clusters["c"].endpoints.iter().map(|e| e.spec.address.to_string()).collect()
}

#[test]
fn names_of_endpoints_are_looked_up_before_a_listener_serves_and_keep_what_is_counted() {
    use cluster::cluster::DiscoveryType;
    let (name, address) = ("240.240.0.1_80", "240.240.0.1:80".parse().unwrap());
    let mut store = Store::default();
    store.put(Kind::Listener, name, &listener(vec![http("r")])).unwrap();
    store.put(Kind::Route, "r", &route_to("c")).unwrap();
    let endpoints = [("a.test", 80), ("192.0.2.9", 81), ("b.test", 82)];
    let strict = named(DiscoveryType::StrictDns, &endpoints);
    store.put(Kind::Cluster, "c", &strict.encode_to_vec()).unwrap();
    assert_eq!(store.names_wanted().into_keys().collect::<Vec<_>>(), ["a.test".into(), "b.test".into()]);
    assert!(!store.snapshot().outbound.contains_key(&address), "nothing is known of its names");
    let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>();
    store.looked_up("b.test".into(), Vec::new());
    assert!(!store.snapshot().outbound.contains_key(&address), "one name is known, and stands for nothing");
    store.looked_up("a.test".into(), ips(&["192.0.2.1", "2001:db8::1"]));
    let before = store.snapshot();
    assert!(before.outbound.contains_key(&address));
    assert_eq!(addresses(&before), ["192.0.2.9:81", "192.0.2.1:80", "[2001:db8::1]:80"]);
    store.looked_up("a.test".into(), ips(&["192.0.2.1"]));
    let after = store.snapshot();
    assert_eq!(addresses(&after), ["192.0.2.9:81", "192.0.2.1:80"]);
    let state = |config: &Config| config.clusters["c"].endpoints[1].state.id;
    assert_eq!(state(&before), state(&after));
    let logical = named(DiscoveryType::LogicalDns, &[("a.test", 80)]);
    store.put(Kind::Cluster, "c", &logical.encode_to_vec()).unwrap();
    store.looked_up("a.test".into(), ips(&["192.0.2.5", "192.0.2.6"]));
    assert_eq!(addresses(&store.snapshot()), ["192.0.2.5:80"], "one address stands for all");
    store.put(Kind::Cluster, "c", &eds("c").encode_to_vec()).unwrap();
    assert!(store.names_wanted().is_empty());
}
