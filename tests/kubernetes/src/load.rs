//! Many objects at once, for tests of footprint: services and the pods behind them, as large as real ones.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admit;
use crate::fields::Shape;
use crate::kinds::Place;
use crate::managed::{self, Manager};
use crate::server::{Server, locked};
use crate::store::Store;
use crate::write::now;

/// How many of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Namespaces, `load-0` and so on.
    pub namespaces: usize,
    /// Nodes, in three zones.
    pub nodes: usize,
    /// Services, spread over the namespaces.
    pub services: usize,
    /// Pods, spread over the services.
    pub pods: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self { namespaces: 20, nodes: 100, services: 2000, pods: 10_000 }
    }
}

/// Puts them in; what is there already stays.
pub(crate) fn fill(server: &Server, load: &Load) {
    let namespaces = load.namespaces.max(1);
    for n in 0..namespaces {
        let name = format!("load-{n}");
        keep(server, "namespaces", json!({"kind": "Namespace", "metadata": {"name": name}}));
        crate::after::furnish(&mut server.store(), &name);
    }
    for n in 0..load.nodes {
        let zone = format!("eu-1-{}", ["a", "b", "c"][n % 3]);
        keep(
            server,
            "nodes",
            json!({"kind": "Node", "metadata": {"name": format!("load-node-{n}"), "labels": {
            "kubernetes.io/hostname": format!("load-node-{n}"), "topology.kubernetes.io/region": "eu-1",
            "topology.kubernetes.io/zone": zone}}}),
        );
    }
    for n in 0..load.services {
        let name = format!("svc-{n}");
        keep(
            server,
            "services",
            json!({"kind": "Service",
            "metadata": {"name": name, "namespace": format!("load-{}", n % namespaces), "labels": {"app": name}},
            "spec": {"selector": {"app": name}, "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"},
                {"name": "grpc", "port": 9090, "targetPort": 9090}]}}),
        );
    }
    for n in 0..load.pods {
        let of = n % load.services.max(1);
        let address = locked(&server.addresses).pod().to_string();
        let node = format!("load-node-{}", n % load.nodes.max(1));
        keep(server, "pods", pod(n, of, &format!("load-{}", of % namespaces), &address, &node));
    }
}

fn pod(n: usize, of: usize, namespace: &str, address: &str, node: &str) -> Value {
    let time = now();
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": time});
    let conditions: Vec<Value> =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
            .map(condition)
            .to_vec();
    json!({
        "kind": "Pod",
        "metadata": {"name": format!("svc-{of}-7d9c6bd5f4-{n:05}"), "generateName": format!("svc-{of}-7d9c6bd5f4-"),
            "namespace": namespace,
            "labels": {"app": format!("svc-{of}"), "pod-template-hash": "7d9c6bd5f4", "version": "v1",
                "service.istio.io/canonical-name": format!("svc-{of}"), "service.istio.io/canonical-revision": "v1"}},
        "spec": {
            "nodeName": node,
            "volumes": [{"name": "kube-api-access-x", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}}],
            "containers": [{"name": "app", "image": format!("registry.example/shop/svc-{of}:1.4.2"),
                "env": [{"name": "PORT", "value": "8080"}, {"name": "LEVEL", "value": "info"}],
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9090}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "volumeMounts": [{"name": "kube-api-access-x", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
        },
        "status": {"phase": "Running", "conditions": conditions, "hostIP": "192.168.0.1", "hostIPs": [{"ip": "192.168.0.1"}],
            "podIP": address, "podIPs": [{"ip": address}], "startTime": time, "qosClass": "Burstable",
            "containerStatuses": [{"name": "app", "state": {"running": {"startedAt": time}}, "lastState": {}, "ready": true,
                "restartCount": 0, "image": format!("registry.example/shop/svc-{of}:1.4.2"), "imageID": "", "started": true}]},
    })
}

/// Keeps an object with what a server adds to it, without the checks.
fn keep(server: &Server, plural: &str, mut object: Value) {
    let place = Place::new("", plural);
    let mut store: std::sync::MutexGuard<'_, Store> = server.store();
    let Some(kind) = store.kind(&place) else { return };
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    if store.get(&place, &text("/metadata/namespace"), &text("/metadata/name")).is_some() {
        return;
    }
    admit::default(&kind, &mut object, None, &mut locked(&server.addresses));
    let manager = Manager {
        name: "kube-controller-manager".to_owned(),
        api_version: "v1".to_owned(),
        subresource: String::new(),
        time: now(),
    };
    managed::updated(&Shape { kind: &kind, schema: None }, &kind.empty(), &mut object, &manager);
    if let Some(metadata) = admit::metadata_of(&mut object) {
        metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".to_owned(), now().into());
        if kind.generations {
            metadata.insert("generation".to_owned(), 1.into());
        }
    }
    store.put(&place, &object);
}
