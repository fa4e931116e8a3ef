//! ProxyConfig: settings of each proxy, as `MeshConfig.defaultConfig` has them.

use std::collections::BTreeMap;

use super::{ConnectionSettings, ProxyTracing};
use crate::istio::check::{Checker, net, text};
use crate::istio::destination_rule::{ClientTlsSettings, TcpKeepalive};
use crate::istio::message::{enumeration, message};
use crate::istio::workload_group::ReadinessProbe;
use crate::istio::{Duration, Port};

message! {
    /// Settings of each proxy.
    pub struct ProxyConfig [check_proxy] {
        /// Directory of what the agent writes for the proxy.
        config_path: String,
        /// The proxy's program.
        binary_path: String,
        /// Name of the proxy's service in traces and metrics.
        service_cluster: Option<String>,
        /// The same, by a rule.
        tracing_service_name: Option<TracingServiceName>,
        /// For requests in flight when the proxy is replaced; unset is 45 s.
        drain_duration: Option<Duration>,
        /// `host:port` of discovery.
        discovery_address: String,
        /// Known, and without effect.
        discovery_refresh_delay: Option<Duration>,
        /// Old form of `tracing.zipkin.address`.
        zipkin_address: String,
        /// `host:port` of a statsd.
        statsd_udp_address: String,
        /// Old form of `envoyMetricsService`.
        envoy_metrics_service_address: String,
        /// The proxy's admin page; unset is 15000.
        proxy_admin_port: Port,
        /// Known, and without effect.
        availability_zone: String,
        /// How discovery is spoken to.
        control_plane_auth_policy: AuthenticationPolicy,
        /// The proxy's bootstrap, ready made.
        custom_config_file: String,
        /// Known, and without effect.
        stat_name_length: i32,
        /// Threads; unset is as many as the workload has processors, 0 as many as the host has.
        concurrency: Option<i32>,
        /// Template of the proxy's bootstrap.
        proxy_bootstrap_template_path: String,
        /// How inbound connections are redirected.
        interception_mode: InboundInterceptionMode,
        /// Traces.
        tracing: Option<ProxyTracing>,
        /// Known, and without effect.
        sds: Option<Sds>,
        /// Access logs to a service.
        envoy_access_log_service: Option<RemoteService>,
        /// Metrics to a service.
        envoy_metrics_service: Option<RemoteService>,
        /// Environment of agent and proxy.
        proxy_metadata: BTreeMap<String, String>,
        /// Switches of the proxy.
        runtime_values: BTreeMap<String, String>,
        /// The agent's page; unset is 15020.
        status_port: Port,
        /// Further tags of metrics.
        extra_stat_tags: Vec<String>,
        /// What stands before a gateway.
        gateway_topology: Option<Topology>,
        /// For requests in flight when the proxy ends; unset is 5 s.
        termination_drain_duration: Option<Duration>,
        /// Name of the mesh.
        mesh_id: String,
        /// How the workload's health is found.
        readiness_probe: Option<ReadinessProbe>,
        /// Which of the proxy's own metrics are made.
        proxy_stats_matcher: Option<ProxyStatsMatcher>,
        /// Application containers wait for the proxy.
        hold_application_until_proxy_starts: Option<bool>,
        /// Roots of discovery's certificate, PEM.
        ca_certificates_pem: Vec<String>,
        /// The proxy's container image.
        image: Option<ProxyImage>,
        /// Hardware for private keys.
        private_key_provider: Option<PrivateKeyProvider>,
        /// Headers that the proxy adds.
        proxy_headers: Option<ProxyHeaders>,
        /// Time between writes of access logs.
        file_flush_interval: Option<Duration>,
        /// Amount between writes of access logs.
        file_flush_min_size_kb: u32,
        /// Compressed metrics.
        stats_compression: Option<bool>,
        /// Limits of connections.
        connection_settings: Option<ConnectionSettings>,
    }

    /// A service elsewhere.
    pub struct RemoteService [check_remote] {
        /// `host:port`.
        address: String,
        /// TLS towards it.
        tls_settings: Option<ClientTlsSettings>,
        /// Probes of idle connections.
        tcp_keepalive: Option<TcpKeepalive>,
    }

    /// Secrets over a socket.
    pub struct Sds {
        /// Used.
        enabled: bool,
        /// The token's file.
        k8s_sa_jwt_path: String,
    }

    /// What stands before a gateway.
    pub struct Topology {
        /// So many proxies that are trusted.
        num_trusted_proxies: u32,
        /// What becomes of `x-forwarded-client-cert`.
        forward_client_cert_details: ForwardClientCertDetails,
        /// Connections start with a PROXY header.
        proxy_protocol: Option<ProxyProtocolConfiguration>,
    }

    /// Connections start with a PROXY header.
    pub struct ProxyProtocolConfiguration {}

    /// Which of the proxy's own metrics are made.
    pub struct ProxyStatsMatcher [check_matcher] {
        /// Those that start so.
        inclusion_prefixes: Vec<String>,
        /// Those that end so.
        inclusion_suffixes: Vec<String>,
        /// Those that match.
        inclusion_regexps: Vec<String>,
    }

    /// The proxy's container image.
    pub struct ProxyImage {
        /// `default`, `debug` or `distroless`.
        image_type: String,
    }

    /// Hardware for private keys.
    pub struct PrivateKeyProvider [check_provider] {
        /// CryptoMb.
        cryptomb: Option<KeyHardware>,
        /// QuickAssist.
        qat: Option<KeyHardware>,
    }

    /// One kind of hardware.
    pub struct KeyHardware {
        /// Longest wait for a batch.
        poll_delay: Option<Duration>,
        /// Without the hardware, in software.
        fallback: Option<bool>,
    }

    /// Headers that the proxy adds.
    pub struct ProxyHeaders {
        /// What becomes of `x-forwarded-client-cert`.
        forwarded_client_cert: ForwardClientCertDetails,
        /// What of the client's certificate is told.
        set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
        /// `x-request-id`.
        request_id: Option<DisableHeader>,
        /// `server`.
        server: Option<ServerHeader>,
        /// `x-envoy-attempt-count`.
        attempt_count: Option<DisableHeader>,
        /// `x-envoy-*` for debugging.
        envoy_debug_headers: Option<DisableHeader>,
        /// `x-envoy-peer-metadata`.
        metadata_exchange_headers: Option<MetadataExchangeHeaders>,
        /// Names of HTTP/1.1 headers as they came.
        preserve_http1_header_case: Option<bool>,
        /// `x-forwarded-host`.
        x_forwarded_host: Option<EnableHeader>,
        /// `x-forwarded-port`.
        x_forwarded_port: Option<EnableHeader>,
    }

    /// `server`.
    pub struct ServerHeader {
        /// Not added.
        disabled: Option<bool>,
        /// Its value.
        value: String,
    }

    /// A header that is added unless.
    pub struct DisableHeader {
        /// Not added.
        disabled: Option<bool>,
    }

    /// A header that is added if.
    pub struct EnableHeader {
        /// Added.
        enabled: Option<bool>,
    }

    /// `x-envoy-peer-metadata`.
    pub struct MetadataExchangeHeaders {
        /// To whom.
        mode: MetadataExchangeMode,
    }

    /// What of the client's certificate is told.
    pub struct SetCurrentClientCertDetails {
        /// Subject.
        subject: Option<bool>,
        /// All of it.
        cert: Option<bool>,
        /// Its chain.
        chain: Option<bool>,
        /// Its DNS names.
        dns: Option<bool>,
        /// Its URIs.
        uri: Option<bool>,
    }
}

enumeration! {
    /// Name of a proxy's service.
    pub enum TracingServiceName {
        /// `app.namespace`.
        AppLabelAndNamespace = "APP_LABEL_AND_NAMESPACE",
        /// Canonical name.
        CanonicalNameOnly = "CANONICAL_NAME_ONLY",
        /// Canonical name and namespace.
        CanonicalNameAndNamespace = "CANONICAL_NAME_AND_NAMESPACE",
    }

    /// How discovery is spoken to.
    pub enum AuthenticationPolicy {
        /// In plain.
        None = "NONE",
        /// With mutual TLS.
        MutualTls = "MUTUAL_TLS",
        /// As elsewhere.
        Inherit = "INHERIT",
    }

    /// How inbound connections are redirected.
    pub enum InboundInterceptionMode {
        /// By NAT.
        Redirect = "REDIRECT",
        /// By TPROXY.
        Tproxy = "TPROXY",
        /// Not at all.
        None = "NONE",
    }

    /// What becomes of `x-forwarded-client-cert`.
    pub enum ForwardClientCertDetails {
        /// The default of the proxy's kind.
        Undefined = "UNDEFINED",
        /// Taken out.
        Sanitize = "SANITIZE",
        /// Passed on.
        ForwardOnly = "FORWARD_ONLY",
        /// Added to.
        AppendForward = "APPEND_FORWARD",
        /// Replaced.
        SanitizeSet = "SANITIZE_SET",
        /// Passed on, without mutual TLS too.
        AlwaysForwardOnly = "ALWAYS_FORWARD_ONLY",
    }

    /// Who gets `x-envoy-peer-metadata`.
    pub enum MetadataExchangeMode {
        /// Everybody.
        Undefined = "UNDEFINED",
        /// The mesh.
        InMesh = "IN_MESH",
    }
}

fn check_proxy(proxy: &ProxyConfig, c: &mut Checker) {
    c.at_most_one(&[
        ("serviceCluster", proxy.service_cluster.is_some()),
        ("tracingServiceName", proxy.tracing_service_name.is_some()),
    ]);
    for (field, address) in [
        ("discoveryAddress", &proxy.discovery_address),
        ("statsdUdpAddress", &proxy.statsd_udp_address),
        ("zipkinAddress", &proxy.zipkin_address),
        ("envoyMetricsServiceAddress", &proxy.envoy_metrics_service_address),
    ] {
        if !address.is_empty() {
            c.field(field, |c| text::tell(c, net::host_port(address)));
        }
    }
    net::count(c, "concurrency", proxy.concurrency.unwrap_or_default());
    crate::istio::duration::at_least_1ms(c, "drain_duration", proxy.drain_duration);
}

fn check_remote(remote: &RemoteService, c: &mut Checker) {
    if remote.address.is_empty() {
        return c.required("address", false);
    }
    c.field("address", |c| text::tell(c, net::host_port(&remote.address)));
}

fn check_matcher(matcher: &ProxyStatsMatcher, c: &mut Checker) {
    c.each("inclusion_regexps", &matcher.inclusion_regexps, |c, regex| text::tell(c, text::regex(regex)));
}

fn check_provider(provider: &PrivateKeyProvider, c: &mut Checker) {
    c.exactly_one(&[("cryptomb", provider.cryptomb.is_some()), ("qat", provider.qat.is_some())]);
}
