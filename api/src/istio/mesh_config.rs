//! MeshConfig: settings of the whole mesh. It is a file of its own, without kind or metadata.

mod connection_settings;
mod providers;
mod proxy_config;
mod proxy_tracing;

pub use connection_settings::{
    ConnectionProfile, ConnectionSettings, HeadersWithUnderscoresAction, PathWithEscapedSlashesAction,
};
pub use providers::*;
pub use proxy_config::*;
pub use proxy_tracing::*;

use std::collections::BTreeMap;

use super::check::{Checker, net, text};
use super::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, LocalityLoadBalancerSetting, OutlierDetection, TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
};
use super::error::shown;
use super::message::{enumeration, message};
use super::virtual_service::HttpRetry;
use super::{Duration, Port};
use crate::identity::TrustDomain;

message! {
    /// Settings of the whole mesh.
    pub struct MeshConfig [check_mesh] {
        /// Where proxies take outbound connections; unset is 15001.
        proxy_listen_port: Port,
        /// Where proxies take inbound connections; unset is 15006.
        proxy_inbound_listen_port: Port,
        /// A port for explicit HTTP proxying.
        proxy_http_port: Port,
        /// Time to connect; unset is 10 s.
        connect_timeout: Option<Duration>,
        /// Longest time without a request in an HBONE tunnel.
        hbone_idle_timeout: Option<Duration>,
        /// Time in which a connection's protocol must show; unset or 0 is no limit.
        protocol_detection_timeout: Option<Duration>,
        /// Probes of idle connections.
        tcp_keepalive: Option<TcpKeepalive>,
        /// Class of the Ingress resources that count.
        ingress_class: String,
        /// Service of the ingress.
        ingress_service: String,
        /// Which Ingress resources count.
        ingress_controller_mode: IngressControllerMode,
        /// Gateway of the ingress.
        ingress_selector: String,
        /// Trace requests.
        enable_tracing: bool,
        /// File of access logs.
        access_log_file: String,
        /// Their format.
        access_log_format: String,
        /// Text or JSON.
        access_log_encoding: AccessLogEncoding,
        /// Send access logs to a service.
        enable_envoy_access_log_service: bool,
        /// No logs of listeners.
        disable_envoy_listener_log: bool,
        /// Settings of each proxy.
        default_config: Option<ProxyConfig>,
        /// Addresses that no service has; unset is `ALLOW_ANY`.
        outbound_traffic_policy: Option<MeshOutboundTrafficPolicy>,
        /// Ports that nobody declared; unset is `PASSTHROUGH`.
        inbound_traffic_policy: Option<InboundTrafficPolicy>,
        /// Where discovery takes configuration from.
        config_sources: Vec<ConfigSource>,
        /// Mutual TLS wherever both ends can; unset is true.
        enable_auto_mtls: Option<bool>,
        /// Trust domain; unset is `cluster.local`.
        trust_domain: String,
        /// Trust domains that count as this one.
        trust_domain_aliases: Vec<String>,
        /// Further roots.
        ca_certificates: Vec<CertificateData>,
        /// `exportTo` of services that have none; unset is `*`.
        default_service_export_to: Vec<String>,
        /// `exportTo` of VirtualServices that have none.
        default_virtual_service_export_to: Vec<String>,
        /// `exportTo` of DestinationRules that have none.
        default_destination_rule_export_to: Vec<String>,
        /// Namespace whose configuration counts for the whole mesh; unset is `istio-system`.
        root_namespace: String,
        /// By where endpoints are.
        locality_lb_setting: Option<LocalityLoadBalancerSetting>,
        /// By zone.
        zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        /// Time between look-ups of names; unset is 60 s.
        dns_refresh_rate: Option<Duration>,
        /// HTTP/1.1 as HTTP/2.
        h2_upgrade_policy: MeshH2UpgradePolicy,
        /// Pattern of names in metrics.
        inbound_cluster_stat_name: String,
        /// Pattern of names in metrics.
        outbound_cluster_stat_name: String,
        /// Known, and without effect.
        certificates: Vec<Certificate>,
        /// Settings of single services.
        service_settings: Vec<ServiceSettings>,
        /// Which services are known beyond their cluster.
        service_scope_configs: Vec<ServiceScopeConfigs>,
        /// Serve the application's metrics with the proxy's.
        enable_prometheus_merge: Option<bool>,
        /// Known, and without effect.
        verify_certificate_at_client: Option<bool>,
        /// An authority elsewhere.
        ca: Option<Ca>,
        /// What can be named by `provider` elsewhere.
        extension_providers: Vec<ExtensionProvider>,
        /// Those that are used where none is named.
        default_providers: Option<DefaultProviders>,
        /// Namespaces that discovery looks at.
        discovery_selectors: Vec<MeshLabelSelector>,
        /// How paths are cleaned before policies look at them.
        path_normalization: Option<ProxyPathNormalization>,
        /// Retries of routes that say nothing.
        default_http_retry_policy: Option<HttpRetry>,
        /// Mutual TLS between workloads.
        #[serde(rename = "meshMTLS")]
        mesh_mtls: Option<TlsConfig>,
        /// All other TLS.
        tls_defaults: Option<TlsConfig>,
        /// For services without a DestinationRule.
        default_traffic_policy: Option<DefaultTrafficPolicy>,
        /// Who sees ServiceEntries.
        service_entry_visibility: Option<ServiceEntryVisibility>,
    }

    /// Addresses that no service has.
    pub struct MeshOutboundTrafficPolicy {
        /// May they be called? Unset is `REGISTRY_ONLY`.
        mode: Option<MeshOutboundMode>,
        /// With TLS.
        tls: Option<ClientTlsSettings>,
    }

    /// Ports that nobody declared.
    pub struct InboundTrafficPolicy {
        /// Where such connections go.
        mode: InboundMode,
    }

    /// Where discovery takes configuration from.
    pub struct ConfigSource {
        /// `xds://host:port`, `fs:///directory` or `k8s://`.
        address: String,
        /// TLS towards it.
        tls_settings: Option<ClientTlsSettings>,
        /// What is asked for.
        subscribed_resources: Vec<ConfigSourceResource>,
    }

    /// Roots.
    pub struct CertificateData [check_certificate] {
        /// As PEM.
        pem: Option<String>,
        /// As a SPIFFE bundle, from there.
        spiffe_bundle_url: Option<String>,
        /// Signers they are for.
        cert_signers: Vec<String>,
        /// Trust domains they are for.
        trust_domains: Vec<String>,
    }

    /// A certificate in a Kubernetes secret.
    pub struct Certificate {
        /// The secret.
        secret_name: String,
        /// Names in it.
        dns_names: Vec<String>,
    }

    /// Settings of single services.
    pub struct ServiceSettings [check_service_settings] {
        /// The settings.
        settings: Option<Settings>,
        /// The services.
        hosts: Vec<String>,
    }

    /// Settings of a service.
    pub struct Settings {
        /// Its endpoints are those of the caller's cluster.
        cluster_local: bool,
    }

    /// Which services are known beyond their cluster.
    pub struct ServiceScopeConfigs {
        /// Their namespaces.
        namespace_selector: Option<MeshLabelSelector>,
        /// The services.
        services_selector: Option<MeshLabelSelector>,
        /// Where they are known.
        scope: Scope,
    }

    /// Labels, as Kubernetes selects by them.
    pub struct MeshLabelSelector {
        /// All of these.
        match_labels: BTreeMap<String, String>,
        /// And all of these.
        match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// A condition on a label.
    pub struct LabelSelectorRequirement [check_requirement] {
        /// The label.
        key: String,
        /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
        operator: String,
        /// For `In` and `NotIn`.
        values: Vec<String>,
    }

    /// An authority elsewhere.
    pub struct Ca [check_ca] {
        /// `host:port`.
        address: String,
        /// TLS towards it.
        tls_settings: Option<ClientTlsSettings>,
        /// For one request; unset is 10 s.
        request_timeout: Option<Duration>,
        /// Discovery signs through it.
        istiod_side: bool,
    }

    /// Providers that are used where none is named.
    pub struct DefaultProviders {
        /// For traces.
        tracing: Vec<String>,
        /// For metrics.
        metrics: Vec<String>,
        /// For access logs.
        access_logging: Vec<String>,
    }

    /// How paths are cleaned.
    pub struct ProxyPathNormalization {
        /// How far.
        normalization: NormalizationType,
    }

    /// What TLS may be.
    pub struct TlsConfig [check_tls_config] {
        /// Oldest version.
        min_protocol_version: MeshTlsProtocol,
        /// Curves of the key exchange.
        ecdh_curves: Vec<String>,
        /// Cipher suites of TLS 1.2.
        cipher_suites: Vec<String>,
    }

    /// For services without a DestinationRule.
    pub struct DefaultTrafficPolicy {
        /// How many connections and requests.
        connection_pool: Option<ConnectionPoolSettings>,
        /// When an endpoint is left out.
        outlier_detection: Option<OutlierDetection>,
    }

    /// Who sees ServiceEntries.
    pub struct ServiceEntryVisibility {
        /// If no policy matches.
        default_visibility: Visibility,
        /// Sidecars too.
        apply_to_sidecars: bool,
        /// The first that matches counts.
        policies: Vec<VisibilityPolicy>,
    }

    /// Who sees the ServiceEntries of some namespaces.
    pub struct VisibilityPolicy {
        /// Who.
        visibility: Visibility,
        /// Any of these.
        matching_rules: Vec<VisibilityMatchRule>,
    }

    /// Some namespaces.
    pub struct VisibilityMatchRule {
        /// By label.
        namespace_selector: Option<MeshLabelSelector>,
    }
}

enumeration! {
    /// Which Ingress resources count.
    pub enum IngressControllerMode {
        /// As `OFF`.
        Unspecified = "UNSPECIFIED",
        /// None.
        Off = "OFF",
        /// Those of the class, and those without one.
        Default = "DEFAULT",
        /// Those of the class.
        Strict = "STRICT",
    }

    /// How access logs are written.
    pub enum AccessLogEncoding {
        /// As lines.
        Text = "TEXT",
        /// As JSON.
        Json = "JSON",
    }

    /// May addresses that no service has be called?
    pub enum MeshOutboundMode {
        /// No.
        RegistryOnly = "REGISTRY_ONLY",
        /// Yes.
        AllowAny = "ALLOW_ANY",
        /// Yes, and names are looked up.
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }

    /// Where connections to ports that nobody declared go.
    pub enum InboundMode {
        /// To where they were going.
        Passthrough = "PASSTHROUGH",
        /// To the loopback.
        Localhost = "LOCALHOST",
    }

    /// What a source of configuration gives.
    pub enum ConfigSourceResource {
        /// Services.
        ServiceRegistry = "SERVICE_REGISTRY",
    }

    /// HTTP/1.1 as HTTP/2.
    pub enum MeshH2UpgradePolicy {
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }

    /// Where services are known.
    pub enum Scope {
        /// In their cluster.
        Local = "LOCAL",
        /// Everywhere.
        Global = "GLOBAL",
    }

    /// How far paths are cleaned.
    pub enum NormalizationType {
        /// As `BASE`.
        Default = "DEFAULT",
        /// Not at all.
        None = "NONE",
        /// RFC 3986.
        Base = "BASE",
        /// And slashes merged.
        MergeSlashes = "MERGE_SLASHES",
        /// And slashes decoded before.
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }

    /// Versions of TLS.
    pub enum MeshTlsProtocol {
        /// The proxy's choice.
        Auto = "TLS_AUTO",
        /// 1.2.
        V12 = "TLSV1_2",
        /// 1.3.
        V13 = "TLSV1_3",
    }

    /// Who sees something.
    pub enum Visibility {
        /// As `PUBLIC`.
        Unspecified = "VISIBILITY_UNSPECIFIED",
        /// Nobody.
        None = "NONE",
        /// Its namespace.
        Namespace = "NAMESPACE",
        /// Everybody.
        Public = "PUBLIC",
    }
}

fn check_mesh(mesh: &MeshConfig, c: &mut Checker) {
    at_least_0(c, mesh);
    let domains = std::iter::once(("trust_domain", &mesh.trust_domain)).filter(|(_, d)| !d.is_empty());
    for (field, domain) in domains {
        c.field(field, |c| text::tell(c, trust_domain(domain)));
    }
    c.each("trust_domain_aliases", &mesh.trust_domain_aliases, |c, domain| text::tell(c, trust_domain(domain)));
    if !mesh.root_namespace.is_empty() {
        c.field("root_namespace", |c| text::tell(c, text::label(&mesh.root_namespace)));
    }
    for (field, items) in [
        ("defaultServiceExportTo", &mesh.default_service_export_to),
        ("defaultVirtualServiceExportTo", &mesh.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", &mesh.default_destination_rule_export_to),
    ] {
        c.each(field, items, |c, item| {
            if !matches!(item.as_str(), "." | "*" | "~") {
                text::tell(c, text::label(item));
            }
        });
    }
    let mut seen = std::collections::BTreeSet::new();
    c.each("extension_providers", &mesh.extension_providers, |c, provider| {
        if !provider.name.is_empty() && !seen.insert(provider.name.clone()) {
            c.wrong("name", format!("Duplicate value: \"{}\" is the name of two providers", shown(&provider.name)));
        }
    });
    c.at_most_one(&[
        ("localityLbSetting", mesh.locality_lb_setting.is_some()),
        ("zoneAwareLbSetting", mesh.zone_aware_lb_setting.is_some()),
    ]);
}

fn at_least_0(c: &mut Checker, mesh: &MeshConfig) {
    use super::duration::at_least_1ms;
    at_least_1ms(c, "connect_timeout", mesh.connect_timeout);
    at_least_1ms(c, "dns_refresh_rate", mesh.dns_refresh_rate);
}

fn trust_domain(text: &str) -> Result<(), String> {
    text.parse::<TrustDomain>().map(|_| ()).map_err(|error| error.to_string())
}

fn check_certificate(data: &CertificateData, c: &mut Checker) {
    c.exactly_one(&[("pem", data.pem.is_some()), ("spiffeBundleUrl", data.spiffe_bundle_url.is_some())]);
    if data.pem.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        c.wrong("pem", "it holds no certificate in PEM form");
    }
    c.each("trust_domains", &data.trust_domains, |c, domain| text::tell(c, trust_domain(domain)));
}

fn check_service_settings(settings: &ServiceSettings, c: &mut Checker) {
    c.each("hosts", &settings.hosts, |c, host| text::tell(c, net::wildcard_host(host)));
}

fn check_requirement(requirement: &LabelSelectorRequirement, c: &mut Checker) {
    c.required("key", !requirement.key.is_empty());
    match requirement.operator.as_str() {
        "In" | "NotIn" => c.required("values", !requirement.values.is_empty()),
        "Exists" | "DoesNotExist" if requirement.values.is_empty() => {}
        "Exists" | "DoesNotExist" => c.wrong("values", "it is for In and NotIn only"),
        other => c.wrong("operator", format!("\"{}\" is not In, NotIn, Exists or DoesNotExist", shown(other))),
    }
}

fn check_ca(ca: &Ca, c: &mut Checker) {
    if ca.address.is_empty() {
        return c.required("address", false);
    }
    c.field("address", |c| text::tell(c, net::host_port(&ca.address)));
    super::duration::at_least_1ms(c, "request_timeout", ca.request_timeout);
}

fn check_tls_config(tls: &TlsConfig, c: &mut Checker) {
    const CURVES: [&str; 5] = ["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"];
    c.each("ecdh_curves", &tls.ecdh_curves, |c, curve| {
        if !CURVES.contains(&curve.as_str()) {
            c.problem(format!("\"{}\" is not one of {}", shown(curve), CURVES.join(", ")));
        }
    });
}
