//! A real Envoy in the lab: its bootstrap, its admin page.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::mesh::{PROXY_USER, as_user};
use crate::testbeds::Testbed;
use crate::{Host, Process, wait};

const ADMIN: u16 = 19_000;

/// How Envoy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Changes only.
    Delta,
    /// Everything each time.
    StateOfTheWorld,
}

/// Where Envoy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Discovery's plaintext port on the same host.
    Discovery,
    /// The agent's socket.
    Agent,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy<'a> {
    host: &'a Host,
    /// Its process.
    pub process: Process,
}

impl<'a> Envoy<'a> {
    /// Starts an Envoy that takes listeners and clusters from its upstream, besides `listeners` of its own.
    /// With listeners of its own it asks for clusters only.
    ///
    /// # Errors
    /// If its admin page does not answer within 10 seconds.
    pub fn start(
        testbed: &Testbed,
        host: &'a Host,
        name: &str,
        mode: Mode,
        upstream: Upstream,
        listeners: Vec<Value>,
    ) -> Result<Self> {
        let file = host.disk().join(format!("{name}.json"));
        std::fs::write(&file, bootstrap(host, name, mode, upstream, listeners).to_string())?;
        let path = file.display().to_string();
        let args = [&testbed.envoy(), "-c", &path, "--concurrency", "1", "--use-dynamic-base-id", "-l", "warn"];
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let process = host.spawn_command(name, as_user(host, PROXY_USER, &["net_admin", "net_raw"], &args))?;
        let mut envoy = Self { host, process };
        wait::for_true("Envoy's admin page", Duration::from_secs(10), || {
            envoy.stat("server.live").is_ok_and(|s| s > 0)
        })
        .with_context(|| crate::process::tail(&envoy.process.log()))?;
        ensure!(envoy.process.is_running(), "Envoy ended:\n{}", envoy.process.log());
        Ok(envoy)
    }

    /// One page of its admin interface.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn page(&self, path: &str) -> Result<String> {
        let seen = self.host.curl(&["--fail", &format!("http://127.0.0.1:{ADMIN}{path}")])?;
        ensure!(seen.ok(), "{path}: {}", seen.err);
        Ok(seen.out)
    }

    /// A counter or gauge by its whole name.
    ///
    /// # Errors
    /// If there is none.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let page = self.page("/stats")?;
        let line = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
        Ok(line.with_context(|| format!("there is no {name}"))?.trim().parse()?)
    }

    /// The sum of all that end so.
    ///
    /// # Errors
    /// If the page can't be had.
    pub fn sum(&self, suffix: &str) -> Result<u64> {
        let page = self.page("/stats")?;
        let values = page.lines().filter_map(|l| l.split_once(": ")).filter(|(name, _)| name.ends_with(suffix));
        Ok(values.filter_map(|(_, v)| v.trim().parse::<u64>().ok()).sum())
    }
}

/// The bootstrap of an Envoy that is called `name`: where it asks, its admin page, `listeners` of its own.
pub fn bootstrap(host: &Host, name: &str, mode: Mode, upstream: Upstream, listeners: Vec<Value>) -> Value {
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "20s"});
    let address = match upstream {
        Upstream::Discovery => json!({"socket_address": {"address": "127.0.0.1", "port_value": 15_010}}),
        Upstream::Agent => json!({"pipe": {"path": "/run/hawser/proxy.sock"}}),
    };
    let mut dynamic = json!({
        "ads_config": {
            "api_type": if mode == Mode::Delta { "DELTA_GRPC" } else { "GRPC" },
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
        },
        "cds_config": ads,
    });
    if listeners.is_empty() {
        dynamic["lds_config"] = ads;
    }
    json!({
        "node": {
            "id": format!("sidecar~{}~{name}.default~default.svc.cluster.local", host.v4()),
            "cluster": format!("{name}.default"),
            "metadata": {"NAMESPACE": "default", "LABELS": {"app": name}},
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN}}},
        "dynamic_resources": dynamic,
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "xds",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
                "load_assignment": {
                    "cluster_name": "xds",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                },
            }, {
                "name": "local-app",
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": {
                    "cluster_name": "local-app",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
                        {"socket_address": {"address": "127.0.0.1", "port_value": 9_080}}}}]}],
                },
            }],
        },
    })
}

/// A listener of Envoy's own that sends every request to `cluster`; with TLS, as a sidecar of Istio serves it.
pub fn listener(port: u16, cluster: &str, mesh_tls: bool) -> Value {
    // As discovery writes it: then Envoy shares one subscription for a secret between its clusters and this listener. To
    // a second one, made later for a name that it already holds, Envoy's delta client never hands anything.
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let mut chain = json!({
        "filters": [{
            "name": "hcm",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "lab",
                "route_config": {"validate_clusters": false, "virtual_hosts": [{
                    "name": "all", "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
                }]},
                "http_filters": [{
                    "name": "router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }],
    });
    if mesh_tls {
        chain["transport_socket"] = json!({
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": {
                    "alpn_protocols": ["istio-h2", "h2", "istio-http/1.1", "http/1.1"],
                    "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": ads}],
                    "combined_validation_context": {
                        "default_validation_context": {},
                        "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": ads},
                    },
                },
            },
        });
    }
    json!({
        "name": format!("lab-{port}"),
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "filter_chains": [chain],
    })
}
