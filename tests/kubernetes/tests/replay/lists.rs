//! Lists and single objects: the recorded world, asked for as it was.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::compare::{Verdict, exact};
use crate::recordings::{named, read};

/// What is left out: encodings that nobody here asks for.
const LEFT_OUT: [&str; 3] = ["gzip-small", "gzip-big", "accept-protobuf-crd"];

#[tokio::test]
async fn a_recorded_world_is_listed_as_the_real_server_listed_it() {
    let recorded = read("list.json");
    // Only what was recorded: no default account of a namespace, no slice of a controller.
    let quiet = hawser_kube_double::Options { kubelet: None, slices: false, version: 1, ..Default::default() };
    let cluster = Cluster::with(quiet).await;
    cluster.define().await;
    for space in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        cluster.double().erase("Namespace", space);
        cluster.double().erase("ServiceAccount", &format!("{space}/default"));
        cluster.double().erase("ConfigMap", &format!("{space}/kube-root-ca.crt"));
    }
    let lists = [
        "namespaces",
        "services-all",
        "endpointslices-all",
        "endpoints-all",
        "pods-all",
        "nodes",
        "serviceaccounts",
        "rv-0",
        "bare-kube-path",
        "workloadentries",
        "serviceentries",
        "workloadgroups",
        "virtualservices",
        "destinationrules",
    ];
    for list in lists {
        let body = &named(&recorded, list).answered;
        let (kind, version) = (body["kind"].as_str().unwrap(), &body["apiVersion"]);
        for item in body["items"].as_array().unwrap() {
            let mut item = item.clone();
            item["kind"] = kind.strip_suffix("List").unwrap().into();
            item["apiVersion"] = version.clone();
            cluster.double().put_as_is(&item).unwrap();
        }
    }
    let behind = 561 - cluster.double().version();
    cluster.double().advance(behind);
    let mut verdict = Verdict::default();
    for exchange in recorded.iter().filter(|x| !LEFT_OUT.contains(&x.name.as_str())) {
        if exchange.name == "page-changed-2" {
            let late = named(&recorded, "rv-exact").answered["items"][3].clone();
            cluster.double().put_next(&late).unwrap();
            cluster.double().erase("WorkloadEntry", "shop/vm-uds");
            // Reads from the cache may be behind; this one was.
            assert_eq!(cluster.double().version(), 563);
        }
        if exchange.name == "metadata-list" {
            cluster.double().advance(1);
        }
        let answer = cluster.replay(exchange, &Value::Null, Some(&cluster.admin)).await;
        let mut wrong = Vec::new();
        if answer.status != exchange.status {
            wrong.push(format!("status {} instead of {}", answer.status, exchange.status));
        }
        let (mut expected, mut actual) = (exchange.answered.clone(), answer.body);
        if exchange.name == "rv-0" {
            // It came from a cache that was two writes behind, which it may.
            expected["metadata"]["resourceVersion"] = "563".into();
        }
        if exchange.name == "rv-future" {
            // The version that it says it has got to is one further or not, by what else the server did.
            for body in [&mut expected, &mut actual] {
                body["message"] = body["message"].as_str().unwrap().split(", current").next().unwrap().into();
            }
        }
        wrong.extend(exact(&expected, &actual));
        for name in ["warning", "retry-after", "content-type"] {
            let recorded = exchange.answer_headers[name].as_str();
            let found = answer.headers.get(name).map(|v| v.to_str().unwrap());
            if recorded != found {
                wrong.push(format!("header {name}: {found:?} instead of {recorded:?}"));
            }
        }
        verdict.add(&exchange.name, wrong);
    }
    verdict.hold(50);
}
