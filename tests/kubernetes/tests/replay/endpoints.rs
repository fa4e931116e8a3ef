//! EndpointSlices, told after the recording of services and pods side by side.

use serde_json::{Value, json};

use crate::client::{Line, Lines};
use crate::cluster::Cluster;

const SPACE: &str = "/api/v1/namespaces/w4";

/// The slice as it is after a change, when it says what is expected.
async fn slice(lines: &mut Lines, what: &str, expected: Value) -> Value {
    loop {
        let Line::Event(event) = lines.next().await else { panic!("the watch ended before {what}") };
        assert_ne!(event["type"], "DELETED", "{what}");
        let seen = shown(&event["object"]);
        if seen == expected {
            return event["object"].clone();
        }
        // A slow controller tells what was in between, too.
        eprintln!("before {what}: {seen}");
    }
}

/// Address, ready, serving, terminating of each endpoint, by address.
fn shown(slice: &Value) -> Value {
    let Some(endpoints) = slice["endpoints"].as_array() else { return slice["endpoints"].clone() };
    let mut all: Vec<Value> = endpoints
        .iter()
        .map(|e| {
            let conditions = &e["conditions"];
            json!([e["addresses"][0], conditions["ready"], conditions["serving"], conditions["terminating"]])
        })
        .collect();
    all.sort_by_key(Value::to_string);
    all.into()
}

async fn status(cluster: &Cluster, pod: &str, ip: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    let change = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": ready}]}});
    let answer = cluster.patch(&format!("{SPACE}/pods/{pod}/status"), change).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn pod(cluster: &Cluster, name: &str, node: &str) {
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "app.example/app:1",
            "ports": [{"name": "http", "containerPort": 8080}]}]}});
    let answer = cluster.ask("POST", &format!("{SPACE}/pods"), pod).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
}

#[tokio::test]
async fn slices_follow_pods_as_those_of_the_real_controller() {
    let cluster = Cluster::start().await;
    cluster.namespace("w4").await;
    for (node, zone) in [("node-a", "eu-1-a"), ("node-b", "eu-1-b")] {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": node, "labels": labels}});
        cluster.ask("POST", "/api/v1/nodes", node).await;
    }
    let path = "/apis/discovery.k8s.io/v1/namespaces/w4/endpointslices?watch=true&timeoutSeconds=120";
    let mut lines = cluster.client.watch(Some(&cluster.admin), path, &[]).await;
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "x"},
        "spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    assert_eq!(cluster.ask("POST", &format!("{SPACE}/services"), service).await.status, 201);
    let empty = slice(&mut lines, "the service", Value::Null).await;
    assert_eq!(empty["ports"], Value::Null);
    assert_eq!(
        empty["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(empty["metadata"]["labels"]["kubernetes.io/service-name"], "x");
    assert_eq!(empty["metadata"]["ownerReferences"][0]["kind"], "Service");
    pod(&cluster, "a", "node-a").await;
    let (a, b) = ("10.244.11.60", "10.244.12.61");
    status(&cluster, "a", a, false).await;
    let one = slice(&mut lines, "a with an address", json!([[a, false, false, false]])).await;
    let endpoint = &one["endpoints"][0];
    assert_eq!((&endpoint["nodeName"], &endpoint["zone"]), (&json!("node-a"), &json!("eu-1-a")));
    assert_eq!((&endpoint["targetRef"]["kind"], &endpoint["targetRef"]["name"]), (&json!("Pod"), &json!("a")));
    assert_eq!(one["ports"], json!([{"name": "http", "protocol": "TCP", "port": 8080}]));
    status(&cluster, "a", a, true).await;
    slice(&mut lines, "a ready", json!([[a, true, true, false]])).await;
    pod(&cluster, "b", "node-b").await;
    status(&cluster, "b", b, true).await;
    slice(&mut lines, "b ready", json!([[a, true, true, false], [b, true, true, false]])).await;
    cluster.ask("DELETE", &format!("{SPACE}/pods/a"), Value::Null).await;
    slice(&mut lines, "a ends, still ready", json!([[a, false, true, true], [b, true, true, false]])).await;
    status(&cluster, "a", a, false).await;
    slice(&mut lines, "a ends, not ready", json!([[a, false, false, true], [b, true, true, false]])).await;
    let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
    cluster.ask("DELETE", &format!("{SPACE}/pods/a"), now).await;
    slice(&mut lines, "a is gone", json!([[b, true, true, false]])).await;
    cluster.patch(&format!("{SPACE}/pods/b"), json!({"metadata": {"labels": {"app": "y"}}})).await;
    let none = slice(&mut lines, "b left", Value::Null).await;
    assert_eq!(none["ports"], Value::Null);
    let ports = json!([{"name": "http", "port": 80, "targetPort": "http"},
        {"name": "grpc", "port": 9090, "targetPort": 9090, "appProtocol": "grpc"}]);
    cluster.patch(&format!("{SPACE}/services/x"), json!({"spec": {"ports": ports}})).await;
    cluster.patch(&format!("{SPACE}/pods/b"), json!({"metadata": {"labels": {"app": "x"}}})).await;
    let back = slice(&mut lines, "b is back", json!([[b, true, true, false]])).await;
    let mut ports = back["ports"].as_array().unwrap().clone();
    ports.sort_by_key(|p| p["name"].to_string());
    let grpc = json!({"name": "grpc", "protocol": "TCP", "port": 9090, "appProtocol": "grpc"});
    assert_eq!(ports, [grpc, json!({"name": "http", "protocol": "TCP", "port": 8080})]);
    cluster.ask("DELETE", &format!("{SPACE}/services/x"), Value::Null).await;
    lines.event("DELETED").await;
}

#[tokio::test]
async fn what_is_open_before_it_is_ready_and_what_is_over_are_told_apart() {
    let cluster = Cluster::start().await;
    cluster.namespace("w4").await;
    let path = "/apis/discovery.k8s.io/v1/namespaces/w4/endpointslices?watch=true&timeoutSeconds=120";
    let mut lines = cluster.client.watch(Some(&cluster.admin), path, &[]).await;
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "early"},
        "spec": {"selector": {"app": "x"}, "clusterIP": "None", "publishNotReadyAddresses": true,
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    assert_eq!(cluster.ask("POST", &format!("{SPACE}/services"), service).await.status, 201);
    let empty = slice(&mut lines, "the service", Value::Null).await;
    assert_eq!(empty["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    pod(&cluster, "a", "node-a").await;
    status(&cluster, "a", "10.244.11.60", false).await;
    slice(&mut lines, "published before it is ready", json!([["10.244.11.60", true, false, false]])).await;
    status(&cluster, "a", "10.244.11.60", true).await;
    slice(&mut lines, "it is ready", json!([["10.244.11.60", true, true, false]])).await;
    // As a kubelet says it: of the phase alone the real controller takes no notice.
    let failed = json!({"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]});
    cluster.patch(&format!("{SPACE}/pods/a/status"), json!({"status": failed})).await;
    slice(&mut lines, "failed pods are left out", Value::Null).await;
}
