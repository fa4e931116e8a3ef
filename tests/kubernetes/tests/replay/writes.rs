//! Writes, in the order in which they were recorded.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, until_within};
use crate::compare::{Names, Verdict, differences};
use crate::recordings::{Exchange, read};

const ENTRIES: &str = "/apis/networking.istio.io/v1/namespaces/w/workloadentries";
const GROUPS: &str = "/apis/networking.istio.io/v1/namespaces/w/workloadgroups";

/// Rules in CEL and schemas that only Istio's own definitions have: the double does not carry them out. And faults that
/// the double has at a wish (`What::TooMany`), which `faults.rs` looks at.
const LEFT_OUT: [&str; 36] = [
    "create-wrong-kind",
    "we-port-range",
    "we-port-name",
    "we-no-address",
    "we-uds-ports",
    "we-uds-relative",
    "we-uds-dir",
    "we-two-faults",
    "we-update-invalid",
    "we-apply-invalid",
    "se-host-star",
    "se-both",
    "se-dup-port",
    "se-none-endpoints",
    "se-rr",
    "se-port-zero",
    "se-endpoint-port",
    "vs-no-dest",
    "vs-dest-no-host",
    "vs-timeout",
    "vs-timeout-small",
    "vs-match-two",
    "vs-tcp-no-match",
    "dr-no-host",
    "dr-subset-no-name",
    "dr-lb-enum",
    "dr-lb-two",
    "dr-interval",
    "dr-selector",
    "dr-tls-mode",
    "duplicate-field-warn",
    "too-many",
    "too-many-watch",
    "status-bad-time",
    "lease-time-format",
    "lease-time-nanos",
];

#[tokio::test]
async fn writes_are_answered_as_the_real_server_answered_them() {
    let cluster = Cluster::with_definitions().await;
    cluster.namespace("w").await;
    cluster.namespace("shop").await;
    let powerless = cluster.token("w", "default", &[]).await;
    let mut names = Names::default();
    let mut verdict = Verdict::default();
    for exchange in read("write.json").iter().filter(|x| !LEFT_OUT.contains(&x.name.as_str())) {
        prepare(&cluster, exchange).await;
        let authorization = exchange.headers.iter().find(|(name, _)| name == "Authorization").map(|(_, v)| v.as_str());
        let token = match authorization {
            None if exchange.name == "anonymous" => None,
            None => Some(cluster.admin.as_str()),
            Some("Bearer <token of service account w/default>") => Some(powerless.as_str()),
            Some(other) => other.strip_prefix("Bearer "),
        };
        let body = body(&cluster, exchange, &names).await;
        let answer = cluster.replay(exchange, &body, token).await;
        names.learn(&exchange.answered, &answer.body);
        let mut wrong = Vec::new();
        if answer.status != exchange.status {
            wrong.push(format!("status {} instead of {}", answer.status, exchange.status));
        }
        let recorded = exchange.answer_headers["warning"].as_str();
        let found = answer.headers.get("warning").map(|v| v.to_str().unwrap());
        if recorded != found {
            wrong.push(format!("warning {found:?} instead of {recorded:?}"));
        }
        wrong.extend(differences(&exchange.answered, &answer.body).into_iter().filter(|l| !known(&exchange.name, l)));
        verdict.add(&exchange.name, wrong);
    }
    verdict.hold(120);
}

/// What was done between the recorded exchanges.
async fn prepare(cluster: &Cluster, exchange: &Exchange) {
    let entry = |name: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": name, "namespace": "w"},
            "spec": {"address": "10.50.3.9"}})
    };
    match exchange.name.as_str() {
        "dryrun-delete-trap" => drop(cluster.make(ENTRIES, entry("vm-trap")).await),
        "owner-create" => {
            for group in ["grp", "grp2"] {
                let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "metadata": {"name": group},
                    "spec": {"template": {"serviceAccount": "default"}}});
                cluster.make(GROUPS, object).await;
            }
            let mut held = entry("vm-owned-f");
            held["spec"]["address"] = "10.50.5.3".into();
            held["metadata"]["finalizers"] = json!(["mesh.example/hold"]);
            held["metadata"]["ownerReferences"] = json!([owner(cluster, "grp2").await]);
            cluster.make(ENTRIES, held).await;
        }
        "owner-absent-gone" => gone(cluster, &format!("{ENTRIES}/vm-orphan")).await,
        "owner-dependent-gone" => gone(cluster, &format!("{ENTRIES}/vm-owned")).await,
        "owner-foreground-dependent" => {
            let ending = async || {
                let entry = cluster.ask("GET", &format!("{ENTRIES}/vm-owned-f"), Value::Null).await.body;
                entry["metadata"]["deletionTimestamp"].is_string().then_some(())
            };
            until_within("the dependent is being deleted", Duration::from_secs(120), ending).await;
        }
        "owner-foreground-gone" => gone(cluster, &format!("{GROUPS}/grp2")).await,
        _ => {}
    }
}

/// A reference to a group, as its controller.
async fn owner(cluster: &Cluster, name: &str) -> Value {
    let group = cluster.ask("GET", &format!("{GROUPS}/{name}"), Value::Null).await.body;
    json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "name": name, "uid": group["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true})
}

async fn gone(cluster: &Cluster, path: &str) {
    // A real collector looks for new kinds every 30 s.
    let gone = async || (cluster.ask("GET", path, Value::Null).await.status == 404).then_some(());
    until_within("it is collected", Duration::from_secs(120), gone).await;
}

/// The body of a recorded request, here.
async fn body(cluster: &Cluster, exchange: &Exchange, names: &Names) -> Value {
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "big"},
        "addressType": "IPv4"});
    let entry = |annotation: usize| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": "huge", "annotations": {"a": "x".repeat(annotation - 1)}}, "spec": {"address": "10.0.0.1"}})
    };
    match exchange.name.as_str() {
        "slice-too-many" => {
            let mut slice = slice;
            slice["endpoints"] = vec![json!({"addresses": ["10.0.0.1"]}); 1001].into();
            slice
        }
        "slice-101-addresses" => {
            let mut slice = slice;
            slice["endpoints"] = json!([{"addresses": vec!["10.0.0.1"; 101]}]);
            slice
        }
        // The recorded bodies were noted after they had been changed for the next ones.
        "owner-create" | "owner-two-controllers" => {
            let mut body = names.put_in(&exchange.body);
            body["metadata"]["ownerReferences"][0] = owner(cluster, "grp").await;
            body
        }
        "too-large" => entry((3 << 20) + 10),
        "annotations-too-long" => entry((256 << 10) + 1),
        _ => names.put_in(&exchange.body),
    }
}

/// What is meant to differ.
fn known(exchange: &str, line: &str) -> bool {
    match exchange {
        // The list of what was deleted is in the order of names, of which some are random.
        "delete-collection" => line.starts_with("/items"),
        _ => false,
    }
}
