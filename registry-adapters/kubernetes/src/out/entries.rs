//! A joined host as a WorkloadEntry, as an istiod beside us understands it. Pure.
//!
//! Only annotations of ours say whose it is: what istiod itself puts on entries, it also deletes by.

use hawser_mesh::{Health, Workload};
use serde_json::{Map, Value, json};

use super::conditions::Condition;
use super::{INSTANCE, MESH};

/// Type of the condition that Istio's health checks write.
pub(super) const HEALTHY: &str = "Healthy";

/// The entry; `None` for a host without an address.
pub(super) fn entry(workload: &Workload, mesh: &str, api_version: &str) -> Option<Value> {
    let (network, address) = address(workload)?;
    let mut spec = Map::new();
    spec.insert("address".to_owned(), address.into());
    if !network.is_empty() {
        spec.insert("network".to_owned(), network.into());
    }
    let ports: Map<String, Value> =
        workload.ports.iter().filter(|(_, number)| **number != 0).map(|(k, v)| (k.clone(), (*v).into())).collect();
    if !ports.is_empty() {
        spec.insert("ports".to_owned(), ports.into());
    }
    if !workload.labels.is_empty() {
        spec.insert("labels".to_owned(), json!(workload.labels));
    }
    let at = &workload.locality;
    let locality = [&at.region, &at.zone, &at.sub_zone].map(String::as_str).join("/");
    if !at.region.is_empty() {
        spec.insert("locality".to_owned(), locality.trim_end_matches('/').into());
    }
    if workload.weight > 0 {
        spec.insert("weight".to_owned(), workload.weight.into());
    }
    if !workload.service_account.is_empty() {
        spec.insert("serviceAccount".to_owned(), workload.service_account.as_str().into());
    }
    let mut annotations = Map::new();
    annotations.insert(MESH.to_owned(), mesh.into());
    if let Some(instance) = &workload.instance {
        annotations.insert(INSTANCE.to_owned(), (*instance.instance_id).into());
    }
    let (namespace, name) = (&*workload.key.namespace, &*workload.key.name);
    Some(json!({
        "apiVersion": api_version, "kind": "WorkloadEntry",
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
        "spec": spec,
    }))
}

/// The address of an entry has one network: the default one, if the host is in it.
fn address(workload: &Workload) -> Option<(&str, &str)> {
    let with = workload.addresses.iter().filter(|(_, list)| !list.is_empty());
    let (network, list) = with.min_by_key(|(network, _)| !network.is_empty())?;
    Some((network, list.first()?))
}

/// How it is: as bad as the worst of its ports.
pub(super) fn health(workload: &Workload) -> Condition {
    let down = workload.port_health.iter().filter(|(_, health)| **health >= Health::Draining);
    let down: Vec<String> = down.map(|(port, _)| port.to_string()).collect();
    let (status, reason, message) = match workload.health {
        Health::Draining => ("False", "Draining", "it leaves, and ends what it has".to_owned()),
        Health::Unhealthy => ("False", "LeaseEnded", "its lease ended".to_owned()),
        _ if !down.is_empty() => {
            let ports = if down.len() == 1 { "port" } else { "ports" };
            ("False", "ProbeFailed", format!("{ports} {} can't serve", down.join(", ")))
        }
        Health::Degraded => {
            ("Unknown", "Frozen", "it fell silent together with many others: it may be the network".to_owned())
        }
        Health::Healthy => ("True", "", String::new()),
    };
    Condition { kind: HEALTHY, status, reason: reason.to_owned(), message, generation: None, probed: true }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hawser_mesh::{InstanceRef, Locality, WorkloadKey};

    use super::*;

    fn host() -> Workload {
        Workload {
            addresses: [(String::new(), vec!["10.0.0.5".to_owned(), "fd00::5".to_owned()])].into(),
            ports: [("http".to_owned(), 9080), ("off".to_owned(), 0)].into(),
            labels: [("app".to_owned(), "reviews".to_owned())].into(),
            service_account: "reviews".to_owned(),
            locality: Locality { region: "eu".to_owned(), zone: "a".to_owned(), sub_zone: String::new() },
            weight: 3,
            instance: Some(InstanceRef { instance_id: "0b0f".into(), workload_id: "reviews".into() }),
            ..Workload::new(WorkloadKey { namespace: "default".into(), name: "reviews-0b0f".into() })
        }
    }

    #[test]
    fn an_entry_says_what_istiod_reads_and_nothing_that_istiod_writes() {
        let entry = entry(&host(), "example.org", "networking.istio.io/v1").unwrap();
        let wanted = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"namespace": "default", "name": "reviews-0b0f",
                "annotations": {"hawser.io/mesh": "example.org", "hawser.io/instance": "0b0f"}},
            "spec": {"address": "10.0.0.5", "ports": {"http": 9080}, "labels": {"app": "reviews"},
                "locality": "eu/a", "weight": 3, "serviceAccount": "reviews"},
        });
        assert_eq!(entry, wanted);
        hawser_api::istio::Resource::from_json(&entry).expect("it is one that we read ourselves");
    }

    #[test]
    fn the_default_network_goes_before_others_and_a_host_without_an_address_is_none() {
        let with = |addresses: &[(&str, &[&str])]| {
            let list = |all: &[&str]| all.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
            let addresses: BTreeMap<_, _> = addresses.iter().map(|(n, all)| ((*n).to_owned(), list(all))).collect();
            entry(&Workload { addresses, ..host() }, "m", "v").map(|e| e["spec"].clone())
        };
        let both = with(&[("", &["10.0.0.5"]), ("a", &["192.0.2.1"])]).unwrap();
        assert_eq!((&both["address"], &both["network"]), (&json!("10.0.0.5"), &Value::Null));
        let only = with(&[("", &[]), ("vms", &["192.0.2.1"])]).unwrap();
        assert_eq!((&only["address"], &only["network"]), (&json!("192.0.2.1"), &json!("vms")));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn health_is_the_worst_of_its_ports() {
        let of = |health: Health, port: Health| {
            let condition = health_of(health, port);
            (condition.status, condition.reason)
        };
        fn health_of(health: Health, port: Health) -> Condition {
            super::health(&Workload { health, port_health: [(9080, port)].into(), ..host() })
        }
        assert_eq!(of(Health::Healthy, Health::Healthy), ("True", String::new()));
        assert_eq!(of(Health::Healthy, Health::Unhealthy), ("False", "ProbeFailed".to_owned()));
        assert_eq!(of(Health::Draining, Health::Healthy), ("False", "Draining".to_owned()));
        assert_eq!(of(Health::Degraded, Health::Healthy), ("Unknown", "Frozen".to_owned()));
        assert_eq!(health_of(Health::Healthy, Health::Unhealthy).message, "port 9080 can't serve");
    }
}
