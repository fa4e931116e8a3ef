//! What an Envoy is told before it asks: who it is, and that all else comes from the agent.
//!
//! In: the host's record, the relay's socket, whether the host speaks IPv6. Out: JSON, the same for the same host. Every local user can reach the
//! admin page, so of it only what reads, and what asks callers to go elsewhere, is open.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hawser_api::names::{metadata as names, ports};
use hawser_api::proto::core::Node;
use hawser_api::proto::host::Record;
use prost_types::value::Kind;
use prost_types::{Struct, Value as Field};
use serde_json::{Map, Value, json};

use crate::relay;

/// How statistics of its own listener and clusters begin.
pub(super) const OWN: &str = "hawser";
/// As many as a hawser-proxy would have descriptors for.
const MOST_CONNECTIONS: u32 = 65_536;

/// The bootstrap of a host's Envoy.
pub(super) fn bootstrap(record: &Record, socket: &Path, ipv6: bool) -> Value {
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    json!({
        "node": node(record, ipv6),
        "admin": {
            "address": at("127.0.0.1", ports::PROXY_ADMIN),
            "ignore_global_conn_limit": true,
            "allow_paths": [
                {"exact": "/ready"}, {"exact": "/server_info"}, {"exact": "/memory"}, {"exact": "/init_dump"},
                {"exact": "/certs"}, {"exact": "/healthcheck/fail"}, {"prefix": "/stats"}, {"prefix": "/clusters"},
                {"prefix": "/listeners"}, {"prefix": "/config_dump"},
            ],
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": OWN,
                    // An agent that was restarted is to be found at once.
                    "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "2s"}},
                }}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "listeners": [readiness()],
            "clusters": [
                cluster(OWN, &json!({"pipe": {"path": socket}}), true),
                cluster("hawser_admin", &at("127.0.0.1", ports::PROXY_ADMIN), false),
            ],
        },
        "overload_manager": {"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": MOST_CONNECTIONS,
            },
        }]},
    })
}

/// Whether this host speaks IPv6 at all.
pub(super) fn speaks_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|interfaces| !interfaces.trim().is_empty())
}

/// Writes it where the proxy's user can read it. It holds no secret.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    crate::state::write_atomic(path, text.as_bytes(), false)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

/// As the relay says it to discovery, whatever an Envoy says of itself.
fn node(record: &Record, ipv6: bool) -> Value {
    let node = relay::complete(&Node::default(), record);
    let mut metadata = node.metadata.map(|metadata| object(&metadata)).unwrap_or_default();
    if ipv6 {
        metadata.insert(names::IPV6.to_owned(), json!("true"));
    }
    json!({"id": node.id, "cluster": node.cluster, "metadata": metadata})
}

/// `GET /healthz/ready` on 15021, as a hawser-proxy has it.
fn readiness() -> Value {
    json!({
        "name": OWN,
        "stat_prefix": OWN,
        "address": at("0.0.0.0", ports::READINESS),
        "ignore_global_conn_limit": true,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": OWN,
                "route_config": {"virtual_hosts": [{
                    "name": OWN,
                    "domains": ["*"],
                    "routes": [{
                        "match": {"path": "/healthz/ready"},
                        "route": {"cluster": "hawser_admin", "prefix_rewrite": "/ready", "timeout": "1s"},
                    }],
                }]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}

fn cluster(name: &str, address: &Value, http2: bool) -> Value {
    let mut made = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    });
    if http2 {
        made["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    made
}

fn at(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn object(fields: &Struct) -> Map<String, Value> {
    fields.fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect()
}

fn plain(field: &Field) -> Value {
    match &field.kind {
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::BoolValue(value)) => json!(value),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields)),
        Some(Kind::ListValue(list)) => list.values.iter().map(plain).collect(),
        Some(Kind::NullValue(_)) | None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::proto::host::{HostAddress, Workload};

    use super::*;

    #[test]
    fn it_names_the_workload_and_leads_to_the_relay_and_nowhere_else() {
        let workload = Workload {
            id: "reviews".into(),
            namespace: "default".into(),
            name: "reviews-1234".into(),
            group: "reviews".into(),
            labels: [("app".to_owned(), "reviews".to_owned())].into(),
            ..Workload::default()
        };
        let address = HostAddress { address: "10.0.0.5".into(), network: String::new() };
        let record = Record { workloads: vec![workload], addresses: vec![address], ..Record::default() };
        let made = bootstrap(&record, "/run/hawser/proxy.sock".as_ref(), true);
        assert_eq!(made["node"]["metadata"]["HAWSER_IPV6"], "true");
        assert_eq!(made["node"]["id"], "sidecar~10.0.0.5~reviews-1234.default~default.svc.cluster.local");
        assert_eq!(made["node"]["metadata"]["LABELS"]["app"], "reviews");
        // Without it discovery takes the client for an Envoy.
        assert_eq!(made["node"]["metadata"].get("HAWSER_XDS"), None);
        assert_eq!(made["dynamic_resources"]["ads_config"]["api_type"], "DELTA_GRPC");
        let admin = &made["admin"];
        assert_eq!(admin["address"]["socket_address"]["address"], "127.0.0.1");
        let open = admin["allow_paths"].to_string();
        assert!(!open.contains("quit") && !open.contains("logging") && !open.contains("runtime"), "{open}");
        assert_eq!(made, bootstrap(&record, "/run/hawser/proxy.sock".as_ref(), true));
    }
}
