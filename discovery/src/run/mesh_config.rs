//! Istio's MeshConfig: one strict file of settings of the whole mesh.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hawser_api::identity::TrustDomain;
use hawser_api::istio::MeshConfig;
use hawser_api::istio::mesh_config::MeshOutboundMode;
use hawser_api::istio::parse_mesh_config;

use crate::registry::Settings;

/// What discovery takes from the file.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// `trustDomain`.
    pub(super) trust_domain: Option<TrustDomain>,
    root_namespace: Option<String>,
    registry_only: bool,
    detect: Option<Duration>,
}

/// Reads the file, if there is one. Keys that have no effect yet are logged by name.
pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Chosen> {
    let Some(path) = path else { return Ok(Chosen::default()) };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("--mesh-config {name}"))?;
    let config = parse_mesh_config(&name, &text)?;
    let chosen = Chosen {
        trust_domain: Some(&config.trust_domain).filter(|d| !d.is_empty()).map(|d| d.parse()).transpose()?,
        root_namespace: Some(config.root_namespace.clone()).filter(|n| !n.is_empty()),
        registry_only: config
            .outbound_traffic_policy
            .as_ref()
            .is_some_and(|p| p.mode == Some(MeshOutboundMode::RegistryOnly)),
        detect: config.protocol_detection_timeout.map(|d| d.get()),
    };
    let rest = MeshConfig {
        trust_domain: String::new(),
        root_namespace: String::new(),
        outbound_traffic_policy: None,
        protocol_detection_timeout: None,
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
        settings.allow_any = !self.registry_only;
        settings.detect = self.detect.unwrap_or(settings.detect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
