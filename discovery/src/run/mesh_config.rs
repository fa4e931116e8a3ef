//! Istio's MeshConfig: one strict file of settings of the whole mesh.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hawser_api::identity::TrustDomain;
use hawser_api::istio::MeshConfig;
use hawser_api::istio::mesh_config::{AccessLogEncoding, ExtensionProvider, MeshLabelSelector, MeshOutboundMode};
use hawser_api::istio::parse_mesh_config;

use crate::registry::{AccessLogging, AuthzProvider, AuthzProviders, LogFormat, Settings};

/// What discovery takes from the file.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// `trustDomain`.
    pub(super) trust_domain: Option<TrustDomain>,
    /// `discoverySelectors`.
    pub(super) discovery_selectors: Vec<MeshLabelSelector>,
    trust_domain_aliases: Vec<TrustDomain>,
    root_namespace: Option<String>,
    registry_only: bool,
    dns_refresh: Option<Duration>,
    detect: Option<Duration>,
    access_logging: Option<AccessLogging>,
    authorization: AuthzProviders,
}

/// Reads the file, if there is one. Keys that have no effect yet are logged by name.
pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Chosen> {
    let Some(path) = path else { return Ok(Chosen::default()) };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("--mesh-config {name}"))?;
    let config = parse_mesh_config(&name, &text)?;
    let chosen = Chosen {
        trust_domain: Some(&config.trust_domain).filter(|d| !d.is_empty()).map(|d| d.parse()).transpose()?,
        trust_domain_aliases: config.trust_domain_aliases.iter().map(|d| d.parse()).collect::<Result<_, _>>()?,
        discovery_selectors: config.discovery_selectors.clone(),
        root_namespace: Some(config.root_namespace.clone()).filter(|n| !n.is_empty()),
        registry_only: config
            .outbound_traffic_policy
            .as_ref()
            .is_some_and(|p| p.mode == Some(MeshOutboundMode::RegistryOnly)),
        dns_refresh: config.dns_refresh_rate.map(|d| d.get()).filter(|d| !d.is_zero()),
        detect: config.protocol_detection_timeout.map(|d| d.get()),
        access_logging: access_logging(&config).with_context(|| format!("--mesh-config {name}"))?,
        authorization: authorization(&config),
    };
    let others = |provider: &ExtensionProvider| !chosen.authorization.contains_key(&provider.name);
    let rest = MeshConfig {
        trust_domain: String::new(),
        trust_domain_aliases: Vec::new(),
        discovery_selectors: Vec::new(),
        root_namespace: String::new(),
        outbound_traffic_policy: None,
        dns_refresh_rate: None,
        protocol_detection_timeout: None,
        access_log_file: String::new(),
        access_log_encoding: AccessLogEncoding::default(),
        access_log_format: String::new(),
        disable_envoy_listener_log: false,
        extension_providers: config.extension_providers.iter().filter(|p| others(p)).cloned().collect(),
        ..config
    };
    if let Ok(serde_json::Value::Object(rest)) = serde_json::to_value(&rest) {
        for key in rest.keys() {
            tracing::warn!(file = name, key, "mesh configuration: known, but without effect yet");
        }
    }
    Ok(chosen)
}

impl Chosen {
    /// Puts what was chosen into the registry's settings.
    pub(super) fn apply(&self, settings: &mut Settings) {
        if let Some(namespace) = &self.root_namespace {
            settings.root_namespace.clone_from(namespace);
        }
        settings.trust_domain_aliases.clone_from(&self.trust_domain_aliases);
        settings.allow_any = !self.registry_only;
        settings.dns_refresh = self.dns_refresh.unwrap_or(settings.dns_refresh);
        settings.detect = self.detect.unwrap_or(settings.detect);
        settings.access_logging.clone_from(&self.access_logging);
        settings.authorization.clone_from(&self.authorization);
    }
}

/// What `accessLogFile`, `accessLogEncoding`, `accessLogFormat` and `disableEnvoyListenerLog` say together.
fn access_logging(config: &MeshConfig) -> anyhow::Result<Option<AccessLogging>> {
    let format = LogFormat::new(config.access_log_encoding, &config.access_log_format)
        .map_err(|e| anyhow::anyhow!("accessLogFormat: {e}"))?;
    let logging = AccessLogging {
        file: config.access_log_file.clone(),
        format,
        of_listeners: !config.disable_envoy_listener_log,
    };
    Ok(Some(logging).filter(|logging| !logging.file.is_empty()))
}

/// Those of `extensionProviders` that authorize.
fn authorization(config: &MeshConfig) -> AuthzProviders {
    let named = |written: &ExtensionProvider| Some((written.name.clone(), AuthzProvider::new(written)?));
    config.extension_providers.iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_proxies_log() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.yaml");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(Some(&file)).map(|chosen| chosen.access_logging)
        };
        assert_eq!(said("accessLogEncoding: JSON\n").unwrap(), None, "without a file there is no log");
        let text = said("accessLogFile: /dev/stdout\n").unwrap().unwrap();
        assert_eq!((text.file.as_str(), text.of_listeners), ("/dev/stdout", true));
        assert_eq!(Ok(text.format), LogFormat::new(AccessLogEncoding::Text, ""));
        let json = said(
            "accessLogFile: /var/log/x\naccessLogEncoding: JSON\naccessLogFormat: '{\"a\": \"%DURATION%\"}'\n\
             disableEnvoyListenerLog: true\n",
        );
        let json = json.unwrap().unwrap();
        assert_eq!(Ok(json.format), LogFormat::new(AccessLogEncoding::Json, r#"{"a": "%DURATION%"}"#));
        assert!(!json.of_listeners);
        let wrong = said("accessLogFile: /dev/stdout\naccessLogFormat: '%NO%'\n").unwrap_err();
        assert!(format!("{wrong:#}").ends_with("accessLogFormat: operator %NO% is not supported"), "{wrong:#}");
    }

    #[test]
    fn the_file_says_who_authorizes_and_what_nobody_could_follow_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.yaml");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(Some(&file)).map(|chosen| chosen.authorization).map_err(|e| format!("{e:#}"))
        };
        let grpc = "extensionProviders:\n- name: opa\n  envoyExtAuthzGrpc: {service: opa.default.svc, port: 9191}\n\
                    - {name: z, zipkin: {service: z.default.svc, port: 1}}\n";
        let all = said(grpc).unwrap();
        let opa = &all["opa"];
        assert_eq!((all.len(), opa.port, opa.timeout, opa.fail_open), (1, 9191, Duration::from_secs(600), false));
        let http = "extensionProviders:\n- name: oauth\n  envoyExtAuthzHttp:\n    service: auth/oauth.example\n    port: 80\n    ";
        let all = said(&format!("{http}statusOnError: '503'\n")).unwrap();
        assert_eq!(all["oauth"].namespace.as_deref(), Some("auth"));
        assert_eq!(all["oauth"].status_on_error, Some(503));
        for (text, at, why) in [
            ("statusOnError: '299'", ":6: extensionProviders[0].envoyExtAuthzHttp.statusOnError: ", "write 403 or 503"),
            ("pathPrefix: check", "pathPrefix: ", "does not begin with a slash"),
            ("headersToUpstreamOnAllow: ['*']", "headersToUpstreamOnAllow[0]: ", "write a beginning"),
            ("includeRequestBodyInCheck: {allowPartialMessage: true}", "maxRequestBytes: ", "leave the body out"),
            ("includeAdditionalHeadersInCheck: {a: '%REQ(x)%'}", "includeAdditionalHeadersInCheck.a: ", "write %%"),
            ("timeout: 0s", "timeout: ", "10 minutes"),
        ] {
            let refused = said(&format!("{http}{text}\n")).unwrap_err();
            assert!(refused.contains(at) && refused.contains(why), "{refused}");
        }
        assert!(said(&grpc.replace("opa.default.svc", "'*.default.svc'")).unwrap_err().contains("is not a service"));
        assert!(said(&grpc.replace("name: opa", "name: Opa")).unwrap_err().contains("extensionProviders[0].name: "));
    }

    #[test]
    fn the_file_says_which_trust_domains_count_as_the_meshs_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.yaml");
        std::fs::write(&file, "trustDomainAliases: [old.example, cluster.local]\n").unwrap();
        let mut settings = Settings::new("cluster.local".parse().unwrap());
        read(Some(&file)).unwrap().apply(&mut settings);
        let all: Vec<&str> = settings.trust_domains().into_iter().map(|domain| domain.as_str()).collect();
        assert_eq!(all, ["cluster.local", "old.example"]);
        std::fs::write(&file, "trustDomainAliases: [a/b]\n").unwrap();
        let refused = read(Some(&file)).unwrap_err();
        assert!(format!("{refused:#}").contains("trustDomainAliases[0]"), "{refused:#}");
    }

    #[test]
    fn the_file_says_how_long_first_bytes_are_waited_for() {
        let mut settings = Settings::new("cluster.local".parse().unwrap());
        read(None).unwrap().apply(&mut settings);
        assert_eq!(settings.detect, Duration::from_secs(1));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.yaml");
        for (text, is) in [("100ms", Duration::from_millis(100)), ("0s", Duration::ZERO)] {
            std::fs::write(&file, format!("protocolDetectionTimeout: {text}\n")).unwrap();
            read(Some(&file)).unwrap().apply(&mut settings);
            assert_eq!(settings.detect, is);
        }
    }
}
