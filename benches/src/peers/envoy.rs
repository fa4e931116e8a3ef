//! Envoy: HTTP/2 between the pair, one worker.

use hawser_tests::Process;
use serde_json::{Value, json};

use super::{Kit, Ports};
use crate::certificates::{Files, IDENTITY};
use crate::mesh::{HTTP, Side, TCP};

/// Starts both.
pub(super) fn start(kit: &Kit<'_>, ports: Ports) -> anyhow::Result<Vec<Process>> {
    let files = kit.certificates.write(kit.hosts.dir())?;
    let at = &kit.server();
    let upstream_tls = |alpn| transport("UpstreamTlsContext", &files, alpn, "upstream");
    let downstream_tls = |alpn| transport("DownstreamTlsContext", &files, alpn, "downstream");
    let caller = bootstrap(
        vec![
            listener("127.0.0.1", ports.local_http, http_filter("b"), None),
            listener("127.0.0.1", ports.local_tcp, tcp_filter("b-tcp"), None),
        ],
        vec![
            cluster("b", at, ports.tls_http, true, Some(upstream_tls(&["h2"]))),
            cluster("b-tcp", at, ports.tls_tcp, false, Some(upstream_tls(&[]))),
        ],
    );
    let server = bootstrap(
        vec![
            listener(at, ports.tls_http, http_filter("up"), Some(downstream_tls(&["h2"]))),
            listener(at, ports.tls_tcp, tcp_filter("up-tcp"), Some(downstream_tls(&[]))),
        ],
        vec![cluster("up", at, HTTP, false, None), cluster("up-tcp", at, TCP, false, None)],
    );
    let mut processes = vec![];
    for (side, name, config) in [(Side::Caller, "envoy-caller", caller), (Side::Server, "envoy-server", server)] {
        let file = kit.hosts.dir().join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        let id = if side == Side::Caller { "100" } else { "101" };
        let mut args: Vec<String> =
            [kit.envoy, "--concurrency", "1", "--log-level", "error", "--base-id", id, "-c"].map(str::to_owned).into();
        args.push(file.display().to_string());
        processes.push(kit.hosts.spawn(side, name, &args)?);
    }
    Ok(processes)
}

fn bootstrap(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn socket(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

fn listener(address: &str, port: u16, filter: Value, tls: Option<Value>) -> Value {
    let mut chain = json!({ "filters": [filter] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({ "name": format!("l{port}"), "address": socket(address, port), "filter_chains": [chain] })
}

fn http_filter(cluster: &str) -> Value {
    json!({ "name": "hcm", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "generate_request_id": true,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
            "match": { "prefix": "/" },
            "route": { "cluster": cluster, "timeout": "0s",
                       "retry_policy": { "retry_on": "connect-failure,refused-stream", "num_retries": 2 } } }] }] },
        "http_filters": [{ "name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }] } })
}

fn tcp_filter(cluster: &str) -> Value {
    json!({ "name": "tcp", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp", "cluster": cluster } })
}

fn cluster(name: &str, address: &str, port: u16, http2: bool, tls: Option<Value>) -> Value {
    let mut cluster = json!({ "name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(address, port) } }] }] } });
    if http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} } } });
    }
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}

fn transport(kind: &str, files: &Files, alpn: &[&str], name: &str) -> Value {
    let mut context = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
        "common_tls_context": {
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "alpn_protocols": alpn,
            "tls_certificates": [{ "certificate_chain": { "filename": files.chain }, "private_key": { "filename": files.key } }],
            "validation_context": { "trusted_ca": { "filename": files.root },
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": IDENTITY } }] } } });
    if kind == "DownstreamTlsContext" {
        context["require_client_certificate"] = json!(true);
    }
    json!({ "name": format!("tls-{name}"), "typed_config": context })
}
