//! What discovery writes into a cluster, as the server takes it: of a double and of a real one alike.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::cluster::{Cluster, until};

const ENTRIES: &str = "/apis/networking.istio.io/v1/namespaces/w/workloadentries";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/w/endpointslices";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/w/events";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const BY: &str = "fieldManager=hawser-discovery";

async fn started() -> Cluster {
    let cluster = Cluster::with_definitions().await;
    cluster.namespace("w").await;
    cluster
}

fn entry(address: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "vm", "namespace": "w", "annotations": {"hawser.io/mesh": "cluster.local"}},
        "spec": {"address": address, "ports": {"http": 9080}, "labels": {"app": "web"}, "serviceAccount": "web"}})
}

async fn apply(cluster: &Cluster, path: &str, object: &Value, force: bool) -> Answer {
    let path = format!("{path}?{BY}&force={force}");
    cluster.ask_as(Some(&cluster.admin), "PATCH", &path, APPLY, object.clone()).await
}

#[tokio::test]
async fn an_entry_is_applied_once_and_never_over_somebody_elses() {
    let cluster = started().await;
    let path = format!("{ENTRIES}/vm");
    let first = apply(&cluster, &path, &entry("10.0.0.1"), false).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let again = apply(&cluster, &path, &entry("10.0.0.1"), true).await;
    assert_eq!((again.status, &again.body["metadata"]), (200, &first.body["metadata"]), "nothing changed");
    let mut of_another = entry("10.0.0.2");
    of_another["metadata"]["uid"] = "0b0f3c9e-0000-4000-8000-000000000000".into();
    let refused = apply(&cluster, &path, &of_another, true).await;
    let causes = json!([{"reason": "FieldValueInvalid", "field": "metadata.uid",
        "message": "Invalid value: \"0b0f3c9e-0000-4000-8000-000000000000\": field is immutable"}]);
    let causes = json!([causes[0], causes[0]]);
    assert_eq!((refused.status, &refused.body["details"]["causes"]), (422, &causes), "{}", refused.body);
    let delete = async |uid: &Value| {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        cluster.ask("DELETE", &path, options).await
    };
    assert_eq!(delete(&of_another["metadata"]["uid"]).await.status, 409);
    let deleted = delete(&first.body["metadata"]["uid"]).await;
    assert_eq!((deleted.status, &deleted.body["kind"]), (200, &json!("Status")));

    // Somebody else made one of that name a moment ago.
    let mut theirs = entry("192.0.2.1");
    theirs["metadata"]["annotations"] = Value::Null;
    let theirs = cluster.make(&format!("{ENTRIES}?fieldManager=people"), theirs).await;
    let refused = apply(&cluster, &path, &entry("10.0.0.1"), false).await;
    let cause = &refused.body["details"]["causes"][0];
    assert_eq!((refused.status, &cause["reason"]), (409, &json!("FieldManagerConflict")), "{}", refused.body);
    let shared = apply(&cluster, &path, &entry("192.0.2.1"), false).await;
    assert_eq!(shared.status, 200, "it says the same: {}", shared.body);
    let managers = |object: &Value| {
        let all = object["metadata"]["managedFields"].as_array().unwrap().iter();
        let mut all: Vec<String> = all.map(|m| m["manager"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    assert_eq!(managers(&shared.body), ["hawser-discovery", "people"]);
    let nothing = json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "vm", "namespace": "w", "uid": theirs["metadata"]["uid"]}});
    let let_go = apply(&cluster, &path, &nothing, false).await;
    assert_eq!((let_go.status, &let_go.body["spec"]), (200, &theirs["spec"]), "{}", let_go.body);
    assert_eq!(managers(&let_go.body), ["people"]);
    assert!(let_go.body["metadata"]["annotations"]["hawser.io/mesh"].is_null());
}

#[tokio::test]
async fn a_status_is_written_upon_the_version_that_was_seen() {
    let cluster = started().await;
    let path = format!("{ENTRIES}/vm");
    let made = apply(&cluster, &path, &entry("10.0.0.1"), false).await.body;
    let write = async |version: &Value, conditions: Value| {
        let change = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
        cluster.ask_as(Some(&cluster.admin), "PATCH", &format!("{path}/status?{BY}"), MERGE, change).await
    };
    let time = "2026-01-01T00:00:00Z";
    let healthy = json!([{"type": "Healthy", "status": "True", "lastProbeTime": time, "lastTransitionTime": time}]);
    let first = write(&made["metadata"]["resourceVersion"], healthy.clone()).await;
    assert_eq!((first.status, &first.body["status"]["conditions"]), (200, &healthy), "{}", first.body);
    assert_eq!(first.body["metadata"]["generation"], made["metadata"]["generation"]);
    let late = write(&made["metadata"]["resourceVersion"], json!([])).await;
    assert_eq!((late.status, &late.body["reason"]), (409, &json!("Conflict")), "{}", late.body);
    let mut both = json!([healthy[0], {"type": "hawser.io/Honoured", "status": "False", "reason": "Partly", "message": "m",
        "observedGeneration": 1, "lastTransitionTime": time}]);
    let second = write(&first.body["metadata"]["resourceVersion"], both.clone()).await;
    // These definitions know of no generation in a condition: that is dropped, and the rest is kept.
    both[1].as_object_mut().unwrap().remove("observedGeneration");
    assert_eq!((second.status, &second.body["status"]["conditions"]), (200, &both), "{}", second.body);
    // Applying says nothing of the status, and it stays.
    let applied = apply(&cluster, &path, &entry("10.0.0.9"), true).await;
    assert_eq!((applied.status, &applied.body["status"]["conditions"]), (200, &both));
}

#[tokio::test]
async fn a_slice_of_hosts_is_taken_whole_and_goes_with_its_service() {
    let cluster = started().await;
    let services = "/api/v1/namespaces/w/services";
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}});
    let service = cluster.make(services, service).await;
    let endpoint = json!({"addresses": ["10.9.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
        "zone": "a", "hints": {"forZones": [{"name": "a"}]},
        "targetRef": {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "namespace": "w", "name": "vm"}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-hawser-0123456789-0", "namespace": "w", "annotations": {"hawser.io/mesh": "cluster.local"},
            "labels": {"endpointslice.kubernetes.io/managed-by": "hawser.io", "kubernetes.io/service-name": "web",
                "service.kubernetes.io/headless": "", "multicluster.kubernetes.io/service-name": "web"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": service["metadata"]["uid"]}]},
        "addressType": "IPv4", "endpoints": [endpoint],
        "ports": [{"name": "http", "port": 9080, "protocol": "TCP", "appProtocol": "http"}]});
    let path = format!("{SLICES}/web-hawser-0123456789-0");
    let made = apply(&cluster, &path, &slice, false).await;
    assert_eq!(made.status, 201, "{}", made.body);
    for part in ["endpoints", "ports", "addressType"] {
        assert_eq!(made.body[part], slice[part], "{part}");
    }
    let mut of_another = slice.clone();
    of_another["metadata"]["uid"] = "0b0f3c9e-0000-4000-8000-000000000000".into();
    let refused = apply(&cluster, &path, &of_another, true).await;
    assert_eq!((refused.status, &refused.body["reason"]), (422, &json!("Invalid")), "{}", refused.body);
    let mut empty = slice.clone();
    (empty["endpoints"], empty["ports"]) = (json!([]), json!([]));
    let emptied = apply(&cluster, &path, &empty, true).await;
    assert_eq!(
        (emptied.status, emptied.body["endpoints"].as_array().map_or(0, Vec::len)),
        (200, 0),
        "{}",
        emptied.body
    );
    assert_eq!(cluster.ask("DELETE", &format!("{services}/web"), Value::Null).await.status, 200);
    until("the slice goes with its service", async || {
        (cluster.ask("GET", &path, Value::Null).await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_is_there_once_and_says_all_that_it_must() {
    let cluster = started().await;
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "p.0123456789abcdef", "namespace": "w"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Warning", "reason": "Refused", "action": "Read", "note": "spec.rules: wrong",
        "reportingController": "hawser.io/discovery", "reportingInstance": "hawser-discovery",
        "regarding": {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "namespace": "w", "name": "p",
            "uid": "0b0f3c9e-0000-4000-8000-000000000000", "resourceVersion": "7"}});
    let post = async |event: Value| cluster.ask("POST", &format!("{EVENTS}?{BY}"), event).await;
    let made = post(event.clone()).await;
    assert_eq!((made.status, &made.body["note"]), (201, &event["note"]), "{}", made.body);
    let again = post(event.clone()).await;
    assert_eq!((again.status, &again.body["reason"]), (409, &json!("AlreadyExists")), "{}", again.body);
    for (field, value, cause) in [
        ("eventTime", Value::Null, "eventTime"),
        ("reportingController", json!(""), "reportingController"),
        ("reportingInstance", json!("x".repeat(129)), "reportingInstance"),
        ("action", json!(""), "action"),
        ("reason", json!(""), "reason"),
        ("type", json!("Error"), "type"),
        ("note", json!("x".repeat(1025)), "message"),
    ] {
        let mut wrong = event.clone();
        (wrong[field], wrong["metadata"]["name"]) = (value, "p.2".into());
        let answer = post(wrong).await;
        let causes = answer.body["details"]["causes"].as_array().cloned().unwrap_or_default();
        assert_eq!((answer.status, &causes[0]["field"]), (422, &json!(cause)), "{field}: {}", answer.body);
    }
}
