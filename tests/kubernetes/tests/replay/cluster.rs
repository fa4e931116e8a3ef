//! The server that is asked: a double, or, if the environment says so, a real one.

use std::time::Duration;

use hawser_kube_double::{Double, Options, User};
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::real::{ADMIN, Real};
use crate::recordings::Exchange;

/// A server with the definitions that the recordings were made with.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) admin: String,
    kind: Kind,
}

enum Kind {
    Double(Double),
    Real(Real),
}

impl Cluster {
    /// What is asked of both: a real server if the environment says so, else a double in which nothing happens by itself
    /// but what controllers do.
    pub(crate) async fn start() -> Self {
        if !Real::is_asked_for() {
            return Self::double_alone().await;
        }
        let real = Real::start().await;
        let client = Client::new(&real.address, &real.authority);
        Self { client, admin: ADMIN.to_owned(), kind: Kind::Real(real) }
    }

    pub(crate) async fn double_alone() -> Self {
        Self::with(Options { kubelet: None, ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let double = Double::start(options).await.unwrap();
        let client = Client::new(&double.address().to_string(), double.authority());
        let admin = User {
            name: "admin".into(),
            uid: "admin".into(),
            groups: vec!["system:masters".into()],
            ..User::default()
        };
        let admin = double.user(admin);
        Self { client, admin, kind: Kind::Double(double) }
    }

    /// The same with Istio's kinds, as far as schemas are known here.
    pub(crate) async fn with_definitions() -> Self {
        let cluster = Self::start().await;
        cluster.define().await;
        cluster
    }

    pub(crate) async fn double_with_definitions() -> Self {
        let cluster = Self::double_alone().await;
        cluster.define().await;
        cluster
    }

    /// The double that this is.
    pub(crate) fn double(&self) -> &Double {
        match &self.kind {
            Kind::Double(double) => double,
            Kind::Real(real) => panic!("{} is no double", real.address),
        }
    }

    /// Waits for as long as a real server remembers whose a token was.
    pub(crate) async fn forgets_tokens(&self) {
        if matches!(self.kind, Kind::Real(_)) {
            tokio::time::sleep(Duration::from_millis(10_500)).await;
        }
    }

    pub(crate) async fn define(&self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for definition in definitions() {
            let made = self.ask("POST", path, definition.clone()).await;
            assert_eq!(made.status, 201, "{}", made.body);
            let spec = &definition["spec"];
            let (group, plural) = (spec["group"].as_str().unwrap(), spec["names"]["plural"].as_str().unwrap());
            for version in spec["versions"].as_array().unwrap() {
                let list = format!("/apis/{group}/{}/{plural}", version["name"].as_str().unwrap());
                until("a definition is served", async || {
                    (self.ask("GET", &list, Value::Null).await.status == 200).then_some(())
                })
                .await;
            }
        }
    }

    /// Makes an object.
    pub(crate) async fn make(&self, collection: &str, object: Value) -> Value {
        let made = self.ask("POST", collection, object).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body
    }

    /// A token of a service account, which is made if it is not there.
    pub(crate) async fn token(&self, namespace: &str, account: &str, audiences: &[&str]) -> String {
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let object = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": account}});
        let made = self.ask("POST", &accounts, object).await;
        assert!(matches!(made.status, 201 | 409), "{}", made.body);
        let mut request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
        if !audiences.is_empty() {
            request["spec"]["audiences"] = json!(audiences);
        }
        let made = self.make(&format!("{accounts}/{account}/token"), request).await;
        made["status"]["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask_as(Some(&self.admin), method, path, "application/json", body).await
    }

    /// Makes a namespace.
    pub(crate) async fn namespace(&self, name: &str) {
        let space = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        self.make("/api/v1/namespaces", space).await;
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask_as(Some(&self.admin), "PATCH", path, "application/merge-patch+json", body).await
    }

    pub(crate) async fn ask_as(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        kind: &str,
        body: Value,
    ) -> Answer {
        let headers = [("content-type".to_owned(), kind.to_owned())];
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.client.ask(token, method, path, &headers, bytes).await
    }

    /// Sends a recorded request, with another body.
    pub(crate) async fn replay(&self, exchange: &Exchange, body: &Value, token: Option<&str>) -> Answer {
        let bytes = match body {
            Value::Null => Vec::new(),
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        let headers: Vec<(String, String)> =
            exchange.headers.iter().filter(|(name, _)| name != "Authorization").cloned().collect();
        self.client.ask(token, &exchange.method, &exchange.path, &headers, bytes).await
    }
}

/// Waits until something is there.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(what, Duration::from_secs(20), look).await
}

/// The same, with more patience.
pub(crate) async fn until_within<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Definitions of Istio's kinds in the recorded order of versions. WorkloadEntry and ServiceEntry have the schemas that
/// their recorded faults need, and a rule that always holds, for a server says when it did not look at rules.
pub(crate) fn definitions() -> Vec<Value> {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let networking = "networking.istio.io";
    let kinds = [
        (networking, "DestinationRule", "destinationrules", "dr", any.clone()),
        (networking, "Gateway", "gateways", "gw", any.clone()),
        (networking, "ServiceEntry", "serviceentries", "se", service_entry()),
        (networking, "Sidecar", "sidecars", "", any.clone()),
        (networking, "VirtualService", "virtualservices", "vs", any.clone()),
        (networking, "WorkloadEntry", "workloadentries", "we", workload_entry()),
        (networking, "WorkloadGroup", "workloadgroups", "wg", any),
    ];
    kinds.iter().map(|(group, kind, plural, short, spec)| definition(group, kind, plural, short, spec)).collect()
}

pub(crate) fn definition(group: &str, kind: &str, plural: &str, short: &str, spec: &Value) -> Value {
    let condition = json!({"type": "object", "properties": {
        "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"}, "message": {"type": "string"},
        "lastProbeTime": {"type": "string", "format": "date-time"},
        "lastTransitionTime": {"type": "string", "format": "date-time"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": spec,
        "status": {"type": "object", "properties": {"observedGeneration": {"type": "integer"}, "conditions": {"type": "array", "items": condition}}}}}});
    let names: &[&str] =
        if group.starts_with("security") { &["v1", "v1beta1"] } else { &["v1", "v1alpha3", "v1beta1"] };
    let version = |name: &&str| json!({"name": name, "served": true, "storage": *name == "v1", "schema": schema, "subresources": {"status": {}}});
    let versions: Vec<Value> = names.iter().map(version).collect();
    let short: Vec<&str> = Some(short).filter(|s| !s.is_empty()).into_iter().collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "versions": versions, "names": {"kind": kind, "plural": plural,
            "singular": kind.to_lowercase(), "shortNames": short, "categories": ["istio-io", group.replace('.', "-")]}}})
}

fn workload_entry() -> Value {
    json!({"type": "object", "x-kubernetes-validations": [{"rule": "true"}], "properties": {
        "address": {"type": "string", "maxLength": 256},
        "labels": {"type": "object", "maxProperties": 256, "additionalProperties": {"type": "string"}},
        "locality": {"type": "string"}, "network": {"type": "string"}, "serviceAccount": {"type": "string"},
        "ports": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 4_294_967_295u32}},
        "weight": {"type": "integer", "minimum": 0, "maximum": 4_294_967_295u32}}})
}

fn service_entry() -> Value {
    let port = json!({"type": "object", "required": ["number", "name"], "properties": {
        "name": {"type": "string"}, "number": {"type": "integer"}, "protocol": {"type": "string"},
        "targetPort": {"type": "integer"}}});
    let resolution = ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"];
    json!({"type": "object", "x-kubernetes-validations": [{"rule": "true"}], "required": ["hosts"], "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "hosts": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "resolution": {"type": "string", "enum": resolution},
        "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}}})
}
