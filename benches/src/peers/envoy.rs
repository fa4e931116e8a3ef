//! Envoy: HTTP/2 between the pair.

use hawser_tests::Process;
use serde_json::{Value, json};

use super::{Kit, Ports};
use crate::certificates::{Files, IDENTITY};
use crate::mesh::{Door, REGEX, ROUTES, Side};

/// Starts both.
pub(super) fn start(kit: &Kit<'_>, ports: Ports) -> anyhow::Result<Vec<Process>> {
    let files = kit.certificates.write(kit.hosts.dir())?;
    let mut processes = vec![];
    for (side, name, id) in [(Side::Caller, "envoy-caller", 100), (Side::Server, "envoy-server", 101)] {
        let log = kit.hosts.host(side).disk().join(format!("{name}-access.log"));
        let config = config(side, &kit.server(), ports, &files, &log.display().to_string());
        let file = kit.hosts.dir().join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        let (workers, id) = (kit.hosts.workers().to_string(), (id + 10 * kit.hosts.workers()).to_string());
        let mut args: Vec<String> =
            [kit.envoy, "--concurrency", &workers, "--log-level", "error", "--base-id", &id, "-c"]
                .map(str::to_owned)
                .into();
        args.push(file.display().to_string());
        processes.push(kit.hosts.spawn(side, name, &args)?);
    }
    Ok(processes)
}

fn config(side: Side, server: &str, ports: Ports, files: &Files, log: &str) -> Value {
    let (mut listeners, mut clusters) = (vec![], vec![]);
    for door in Door::ALL {
        let (name, is_http) = (format!("d{}", door.index()), door != Door::Tcp);
        let filter = if is_http { http_filter(&name, side, log) } else { tcp_filter(&name) };
        let alpn: &[&str] = if is_http { &["h2"] } else { &[] };
        if side == Side::Caller {
            let tls = transport("UpstreamTlsContext", files, alpn, "upstream");
            listeners.push(listener("127.0.0.1", ports.local(door), filter, None));
            clusters.push(cluster(&name, server, ports.tls(door), is_http, door == Door::Fresh, Some(tls)));
        } else {
            let tls = transport("DownstreamTlsContext", files, alpn, "downstream");
            listeners.push(listener(server, ports.tls(door), filter, Some(tls)));
            clusters.push(cluster(&name, server, door.port(), door == Door::Grpc, false, None));
        }
    }
    bootstrap(listeners, clusters)
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

fn http_filter(cluster: &str, side: Side, log: &str) -> Value {
    let mut action = json!({ "cluster": cluster, "timeout": "0s" });
    if side == Side::Caller {
        action["retry_policy"] = json!({ "retry_on": "connect-failure,refused-stream,5xx", "num_retries": 2 });
    }
    let header = |name: &str, matcher: Value| json!({ "match": { "prefix": "/", "headers": [{ "name": name, "string_match": matcher }] }, "route": action });
    let mut routes = vec![];
    if side == Side::Caller {
        routes.extend((0..ROUTES).map(|number| header("x-group", json!({ "exact": format!("g{number}") }))));
        routes.push(header("user-agent", json!({ "safe_regex": { "regex": REGEX } })));
    }
    routes.push(json!({ "match": { "prefix": "/" }, "route": action }));
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "generate_request_id": true,
        "forward_client_cert_details": "SANITIZE",
        "access_log": [{ "name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": log } }],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
        "http_filters": [{ "name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }] });
    if side == Side::Server {
        manager["forward_client_cert_details"] = json!("APPEND_FORWARD");
        manager["set_current_client_cert_details"] = json!({ "subject": true, "uri": true });
    }
    json!({ "name": "hcm", "typed_config": manager })
}

fn tcp_filter(cluster: &str) -> Value {
    json!({ "name": "tcp", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp", "cluster": cluster } })
}

fn cluster(name: &str, address: &str, port: u16, http2: bool, fresh: bool, tls: Option<Value>) -> Value {
    let mut cluster = json!({ "name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(address, port) } }] }] },
        // Its default of 1,024 is below what some loads need at a time.
        "circuit_breakers": { "thresholds": [
            { "max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000, "max_retries": 100 }] } });
    if http2 {
        let mut options = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} } });
        if fresh {
            options["common_http_protocol_options"] = json!({ "max_requests_per_connection": 1 });
        }
        cluster["typed_extension_protocol_options"] =
            json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
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
