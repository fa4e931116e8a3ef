//! How registries are, for machines: made anew for each scrape.

use std::fmt;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Sources;
use crate::registry::Snapshots;

const STATES: [&str; 4] = ["synced", "syncing", "stale", "frozen"];

/// Metrics of all registries.
pub struct RegistryMetrics {
    snapshots: Snapshots,
    sources: Sources,
}

impl RegistryMetrics {
    /// Of what these show.
    pub fn new(snapshots: Snapshots, sources: Sources) -> Self {
        Self { snapshots, sources }
    }
}

impl fmt::Debug for RegistryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryMetrics").finish_non_exhaustive()
    }
}

impl Collector for RegistryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.snapshots.borrow().clone();
        let now = SystemTime::now();
        let all: Vec<_> =
            snapshot.registries.iter().map(|r| (r.id.to_string(), r.objects, self.sources.state(r))).collect();
        let mut states = encoder.encode_descriptor(
            "hawser_registry_state",
            "State of each registry: 1 for the one that it is in",
            None,
            MetricType::Gauge,
        )?;
        for (name, _, state) in &all {
            for of in STATES {
                let labels = [("registry", name.as_str()), ("state", of)];
                ConstGauge::new(i64::from(state.state == of)).encode(states.encode_family(&labels)?)?;
            }
        }
        let mut frozen = encoder.encode_descriptor(
            "hawser_registry_frozen",
            "1 while a registry lost much at once and nothing of it is removed",
            None,
            MetricType::Gauge,
        )?;
        for (name, _, state) in &all {
            let labels = [("registry", name.as_str())];
            ConstGauge::new(i64::from(state.state == "frozen")).encode(frozen.encode_family(&labels)?)?;
        }
        let mut workloads = encoder.encode_descriptor(
            "hawser_registry_workloads",
            "Workloads of each registry",
            None,
            MetricType::Gauge,
        )?;
        for (name, objects, _) in &all {
            let labels = [("registry", name.as_str())];
            let count = i64::try_from(*objects).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(workloads.encode_family(&labels)?)?;
        }
        let mut age = encoder.encode_descriptor(
            "hawser_registry_age_seconds",
            "Time since a registry of another system last answered, or, before it did in this run, since its state was \
             stored",
            None,
            MetricType::Gauge,
        )?;
        for (name, _, state) in &all {
            if let Some(at) = state.last_contact.or(state.stored) {
                let labels = [("registry", name.as_str())];
                let seconds = now.duration_since(at).unwrap_or_default().as_secs_f64();
                ConstGauge::new(seconds).encode(age.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
