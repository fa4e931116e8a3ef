//! What `hawser manifest generate` prints, given to the server: definitions that take what Istio's take, and rights that
//! are enough.

use hawser_api::istio::{Kind, definition};
use hawser_api::join_request;
use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn defined() -> Cluster {
    let cluster = Cluster::start().await;
    for kind in Kind::ALL {
        cluster.make(DEFINITIONS, definition(kind)).await;
    }
    cluster.make(DEFINITIONS, join_request::definition()).await;
    for kind in Kind::ALL {
        for version in kind.versions() {
            let list = format!("/apis/{}/{version}/{}", kind.group(), kind.plural());
            until("a kind is served", async || {
                (cluster.ask("GET", &list, Value::Null).await.status == 200).then_some(())
            })
            .await;
        }
    }
    cluster
}

fn documents(file: &str) -> Vec<Value> {
    let path = format!("{}/../../api/tests/conformance/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    // Some parsers take an address that ends with a colon for a key.
    let text = text.replace("001:db8::]", "\"001:db8::\"]");
    serde_saphyr::from_multiple::<Value>(&text).unwrap().into_iter().filter(|d| d.is_object()).collect()
}

#[tokio::test]
async fn definitions_take_what_istio_takes_and_keep_every_field() {
    let cluster = defined().await;
    cluster.namespace("w").await;
    let mut taken = 0;
    for file in ["destinationrule-valid.yaml", "serviceentry-valid.yaml", "workloadentry-valid.yaml"] {
        for (at, mut document) in documents(file).into_iter().enumerate() {
            let kind: Kind = document["kind"].as_str().unwrap().parse().unwrap();
            let version = document["apiVersion"].as_str().unwrap().to_owned();
            document["metadata"]["name"] = format!("d{at}").into();
            document["metadata"]["namespace"] = "w".into();
            let path = format!("/apis/{version}/namespaces/w/{}?fieldValidation=Strict", kind.plural());
            let answer = cluster.ask("POST", &path, document.clone()).await;
            assert_eq!(answer.status, 201, "{file} {at}: {}", answer.body);
            assert_eq!(plain(&answer.body["spec"]), plain(&document["spec"]), "{file} {at}");
            taken += 1;
        }
    }
    assert!(taken >= 10, "only {taken} documents");
}

/// With numbers as they count: 5.0 is 5.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), plain(v))).collect::<serde_json::Map<_, _>>().into(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn what_no_field_has_and_what_is_of_another_type_is_refused() {
    let cluster = defined().await;
    cluster.namespace("w").await;
    let entries = "/apis/networking.istio.io/v1/namespaces/w/workloadentries";
    let entry = |spec: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": "x"}, "spec": spec});
    let ask = async |spec: Value| cluster.ask("POST", &format!("{entries}?fieldValidation=Strict"), entry(spec)).await;
    let unknown = ask(json!({"address": "10.0.0.1", "adress2": "x"})).await;
    assert_eq!(unknown.status, 400);
    assert!(unknown.body["message"].as_str().unwrap().contains("unknown field \"spec.adress2\""), "{}", unknown.body);
    let typed = ask(json!({"address": "10.0.0.1", "weight": "heavy"})).await;
    assert_eq!((typed.status, &typed.body["details"]["causes"][0]["field"]), (422, &json!("spec.weight")));
    let rules = "/apis/networking.istio.io/v1/namespaces/w/destinationrules";
    let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "x"},
        "spec": {"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "FASTEST"}}}});
    let word = cluster.ask("POST", rules, rule).await;
    assert_eq!((word.status, &word.body["details"]["causes"][0]["reason"]), (422, &json!("FieldValueNotSupported")));
}

#[tokio::test]
async fn the_printed_manifest_is_taken_and_its_rights_are_enough() {
    let cluster = Cluster::start().await;
    let path = format!("{}/../../packaging/kubernetes/discovery.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        let part = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let plural = format!("{}s", part("/kind").to_lowercase());
        let (version, namespace) = (part("/apiVersion"), part("/metadata/namespace"));
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let space = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let answer =
            cluster.ask("POST", &format!("{root}{space}/{plural}?fieldValidation=Strict"), object.clone()).await;
        assert_eq!(answer.status, 201, "{}: {}", part("/kind"), answer.body);
    }
    let token = cluster.token("hawser-system", "hawser-discovery", &[]).await;
    let may = async |verb: &str, group: &str, resource: &str, namespace: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {
            "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "subresource": subresource,
                "namespace": namespace}}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = cluster.ask_as(Some(&token), "POST", path, "application/json", review).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["status"]["allowed"] == true
    };
    until("its rights are known", async || may("list", "", "pods", "").await.then_some(())).await;
    let (read, write) = (["list", "watch"], ["create", "delete", "patch"]);
    for (group, resource, verbs) in rights() {
        let mut allowed = Vec::new();
        for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
            if may(verb, group, &resource, "").await {
                allowed.push(verb);
            }
        }
        let wanted: Vec<&str> = match verbs {
            "read" => read.to_vec(),
            "read and write" => {
                let mut both = [&read[..], &write[..]].concat();
                both.sort_unstable();
                both
            }
            "none" => Vec::new(),
            "answer" => vec!["delete", "list", "watch"],
            one => vec![one],
        };
        assert_eq!(allowed, wanted, "{resource} of {group:?}");
    }
    assert!(!may("create", "", "events", "hawser-system").await && !may("list", "", "secrets", "istio-system").await);
}

/// What the account may, of all that discovery could ever want.
fn rights() -> Vec<(&'static str, String, &'static str)> {
    let mut all = Vec::new();
    for (group, resources, verbs) in [
        ("", "pods services nodes namespaces", "read"),
        ("", "secrets configmaps serviceaccounts endpoints events persistentvolumes", "none"),
        ("", "pods/exec pods/status services/status nodes/proxy namespaces/finalize serviceaccounts/token", "none"),
        ("discovery.k8s.io", "endpointslices", "read and write"),
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("events.k8s.io", "events", "create"),
        ("hawser.io", "jointokenrequests", "answer"),
        ("hawser.io", "jointokenrequests/status", "patch"),
        ("apps", "deployments", "none"),
        ("coordination.k8s.io", "leases", "none"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "none"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "none"),
        ("rbac.authorization.k8s.io", "clusterroles clusterrolebindings", "none"),
    ] {
        all.extend(resources.split(' ').map(|resource| (group, resource.to_owned(), verbs)));
    }
    for kind in Kind::ALL {
        let verbs = if kind == Kind::WorkloadEntry { "read and write" } else { "read" };
        all.push((kind.group(), kind.plural().to_owned(), verbs));
        all.push((kind.group(), format!("{}/status", kind.plural()), "patch"));
    }
    all
}

#[tokio::test]
async fn a_request_for_a_join_token_is_taken_as_it_is_made_and_does_not_change() {
    let cluster = defined().await;
    cluster.namespace("w").await;
    let requests = "/apis/hawser.io/v1/namespaces/w/jointokenrequests";
    until("the kind is served", async || (cluster.ask("GET", requests, Value::Null).await.status == 200).then_some(()))
        .await;
    let key = join_request::Opener::new().unwrap().public_key();
    let object = |spec: Value| json!({"apiVersion": "hawser.io/v1", "kind": "JoinTokenRequest", "metadata": {"name": "x"}, "spec": spec});
    let spec = join_request::Spec {
        group: "web".into(),
        uses: Some(2),
        public_key: key.clone(),
        ..join_request::Spec::default()
    };
    let strict = format!("{requests}?fieldValidation=Strict");
    let made = cluster.ask("POST", &strict, object(serde_json::to_value(&spec).unwrap())).await;
    assert_eq!(made.status, 201, "{}", made.body);
    for (spec, field) in [
        (json!({"publicKey": key}), "spec.group"),
        (json!({"group": "web"}), "spec.publicKey"),
        (json!({"group": "web", "publicKey": "short"}), "spec.publicKey"),
        (json!({"group": "web", "publicKey": key, "uses": 0}), "spec.uses"),
        (
            json!({"group": "web", "publicKey": key, "ports": [{"name": "http", "number": 70000}]}),
            "spec.ports[0].number",
        ),
    ] {
        let refused = cluster.ask("POST", &strict, object(spec)).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(refused.body["message"].as_str().unwrap().contains(field), "{}", refused.body);
    }
    let status = json!({"status": {"tokenId": "t", "sealedToken": "AA==", "conditions": [
        {"type": "Ready", "status": "True", "reason": "Made", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let patch = "application/merge-patch+json";
    let written = cluster.ask_as(Some(&cluster.admin), "PATCH", &format!("{requests}/x/status"), patch, status).await;
    assert_eq!((written.status, &written.body["status"]["tokenId"]), (200, &json!("t")), "{}", written.body);
    // Rules in CEL are the real server's alone.
    if hawser_tests::apiserver::is_asked_for() {
        let other = json!({"spec": {"group": "pay"}});
        let changed = cluster.ask_as(Some(&cluster.admin), "PATCH", &format!("{requests}/x"), patch, other).await;
        assert_eq!(changed.status, 422, "{}", changed.body);
    }
}
