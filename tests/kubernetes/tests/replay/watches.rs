//! Watches, told after the recorded ones: the same is done, the same events must come.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Line, Lines};
use crate::cluster::Cluster;

const ENTRIES: &str = "/apis/networking.istio.io/v1/namespaces/w/workloadentries";

async fn cluster() -> Cluster {
    let cluster = Cluster::with_definitions().await;
    cluster.namespace("w").await;
    cluster
}

fn entry(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": name, "labels": labels},
        "spec": {"address": "10.1.0.1"}})
}

/// The version of a list, to watch from.
async fn version(cluster: &Cluster, path: &str) -> String {
    cluster.ask("GET", path, Value::Null).await.body["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

async fn watch(cluster: &Cluster, path: &str, query: &str) -> Lines {
    cluster.client.watch(Some(&cluster.admin), &format!("{path}?watch=true&{query}"), &[]).await
}

#[tokio::test]
async fn every_change_is_told_and_what_changes_nothing_is_not() {
    let cluster = cluster().await;
    let from = version(&cluster, ENTRIES).await;
    let mut lines = watch(&cluster, ENTRIES, &format!("timeoutSeconds=20&resourceVersion={from}")).await;
    let one = format!("{ENTRIES}/vm-1");
    assert_eq!(cluster.ask("POST", ENTRIES, entry("vm-1", &json!({"app": "web"}))).await.status, 201);
    let added = lines.event("ADDED").await;
    assert_eq!((&added["kind"], &added["metadata"]["generation"]), (&json!("WorkloadEntry"), &json!(1)));
    cluster.patch(&one, json!({"spec": {"weight": 5}})).await;
    let modified = lines.event("MODIFIED").await;
    assert_eq!(modified["metadata"]["generation"], 2);
    let again = cluster.patch(&one, json!({"spec": {"weight": 5}})).await;
    assert_eq!(again.body["metadata"]["resourceVersion"], modified["metadata"]["resourceVersion"]);
    cluster.patch(&format!("{one}/status"), json!({"status": {"conditions": []}})).await;
    let status = lines.event("MODIFIED").await;
    assert_eq!((&status["metadata"]["generation"], &status["status"]), (&json!(2), &json!({"conditions": []})));
    cluster.ask("DELETE", &one, Value::Null).await;
    let deleted = lines.event("DELETED").await;
    assert!(number(&deleted) > number(&status), "a deletion has a version of its own");
}

fn number(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_comes_into_a_selection_is_added_and_what_leaves_it_is_deleted_as_it_was() {
    let cluster = cluster().await;
    let from = version(&cluster, ENTRIES).await;
    let query = format!("timeoutSeconds=20&labelSelector=app%3Dweb&resourceVersion={from}");
    let mut lines = watch(&cluster, ENTRIES, &query).await;
    let one = format!("{ENTRIES}/vm-3");
    cluster.ask("POST", ENTRIES, entry("vm-3", &json!({"app": "db"}))).await;
    cluster.patch(&one, json!({"metadata": {"labels": {"app": "web"}}})).await;
    assert_eq!(lines.event("ADDED").await["metadata"]["labels"]["app"], "web");
    cluster.patch(&one, json!({"spec": {"weight": 1}})).await;
    lines.event("MODIFIED").await;
    let left = cluster.patch(&one, json!({"metadata": {"labels": {"app": "db"}}, "spec": {"weight": 2}})).await.body;
    let deleted = lines.event("DELETED").await;
    assert_eq!((&deleted["metadata"]["labels"]["app"], &deleted["spec"]["weight"]), (&json!("web"), &json!(1)));
    assert_eq!(number(&deleted), number(&left));
    cluster.ask("DELETE", &one, Value::Null).await;
    assert_eq!(lines.next_within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_finalizer_holds_a_deletion_that_watches_see() {
    let cluster = cluster().await;
    let from = version(&cluster, ENTRIES).await;
    let mut lines = watch(&cluster, ENTRIES, &format!("timeoutSeconds=20&resourceVersion={from}")).await;
    let mut held = entry("vm-f", &json!({}));
    held["metadata"]["finalizers"] = json!(["mesh.example/drain"]);
    cluster.ask("POST", ENTRIES, held).await;
    lines.event("ADDED").await;
    cluster.ask("DELETE", &format!("{ENTRIES}/vm-f"), Value::Null).await;
    let marked = lines.event("MODIFIED").await;
    assert_eq!(
        (&marked["metadata"]["generation"], &marked["metadata"]["deletionGracePeriodSeconds"]),
        (&json!(2), &json!(0))
    );
    cluster.patch(&format!("{ENTRIES}/vm-f"), json!({"metadata": {"finalizers": null}})).await;
    let deleted = lines.event("DELETED").await;
    assert_eq!(deleted["metadata"]["finalizers"], json!(["mesh.example/drain"]), "it is told as it was held");
}

#[tokio::test]
async fn metadata_is_all_that_is_told_to_who_asks_for_no_more() {
    let cluster = cluster().await;
    cluster.ask("POST", ENTRIES, entry("vm-m", &json!({}))).await;
    let accept = [("accept".to_owned(), "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1".to_owned())];
    let path = format!(
        "{ENTRIES}?watch=true&timeoutSeconds=20&allowWatchBookmarks=true&sendInitialEvents=true\
                        &resourceVersionMatch=NotOlderThan&resourceVersion=0"
    );
    let mut lines = cluster.client.watch(Some(&cluster.admin), &path, &accept).await;
    let added = lines.event("ADDED").await;
    assert_eq!((&added["kind"], &added["apiVersion"]), (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1")));
    assert_eq!((added.get("spec"), &added["metadata"]["name"]), (None, &json!("vm-m")));
    let mark = lines.event("BOOKMARK").await;
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(mark["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn a_streamed_list_ends_with_a_mark_that_typed_kinds_write_in_their_way() {
    let cluster = cluster().await;
    let stream = "timeoutSeconds=20&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut lines = watch(&cluster, ENTRIES, stream).await;
    assert_eq!(lines.event("BOOKMARK").await.as_object().unwrap().len(), 3, "nothing but metadata, kind and version");
    let mut pods = watch(&cluster, "/api/v1/namespaces/w/pods", stream).await;
    let mark = pods.event("BOOKMARK").await;
    assert_eq!((&mark["spec"], &mark["status"]), (&json!({"containers": null}), &json!({})));
    cluster.ask("POST", ENTRIES, entry("vm-1", &json!({}))).await;
    lines.event("ADDED").await;
    let mut again = watch(&cluster, ENTRIES, stream).await;
    again.event("ADDED").await;
    again.event("BOOKMARK").await;
    let without = "timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let (events, end) = watch(&cluster, ENTRIES, without).await.rest().await;
    assert_eq!((events.len(), end), (1, Line::End), "whoever takes no bookmarks never sees the mark");
}

#[tokio::test]
async fn wrong_parameters_are_refused_in_the_ways_of_the_real_server() {
    let cluster = cluster().await;
    let ask = async |query: &str| cluster.ask("GET", &format!("{ENTRIES}?watch=true&{query}"), Value::Null).await;
    let unmatched = ask("sendInitialEvents=true&allowWatchBookmarks=true").await;
    assert_eq!(unmatched.status, 422);
    assert_eq!(unmatched.body["details"]["causes"][0]["field"], "resourceVersionMatch");
    let garbage = ask("resourceVersion=abc").await;
    assert_eq!((garbage.status, garbage.body.get("reason")), (500, None));
    let absent = cluster.ask("GET", "/apis/networking.istio.io/v1/nosuchthings?watch=true", Value::Null).await;
    assert_eq!((absent.status, absent.body), (404, json!("404 page not found\n")));
}

#[tokio::test]
async fn a_version_of_the_future_is_silence_or_a_504_after_a_while() {
    let cluster = cluster().await;
    let far: u64 = version(&cluster, ENTRIES).await.parse::<u64>().unwrap() + 100_000;
    let mut quiet = watch(&cluster, ENTRIES, &format!("timeoutSeconds=2&resourceVersion={far}")).await;
    cluster.ask("POST", ENTRIES, entry("vm-1", &json!({}))).await;
    assert_eq!(quiet.rest().await, (Vec::new(), Line::End));
    let query = format!(
        "timeoutSeconds=8&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={far}"
    );
    let (events, end) = watch(&cluster, ENTRIES, &query).await.rest().await;
    assert_eq!((events.len(), end), (1, Line::End));
    assert_eq!((&events[0]["type"], &events[0]["object"]["code"]), (&json!("ERROR"), &json!(504)));
    assert_eq!(events[0]["object"]["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn a_watch_ends_in_order_when_its_time_is_over() {
    let cluster = cluster().await;
    let (events, end) =
        watch(&cluster, "/api/v1/namespaces/nope/pods", "timeoutSeconds=1&resourceVersion=0").await.rest().await;
    assert_eq!((events, end), (Vec::new(), Line::End), "also in a namespace that is not there");
    let mut bookmarked = watch(&cluster, ENTRIES, "timeoutSeconds=6&allowWatchBookmarks=true").await;
    let (events, end) = bookmarked.rest().await;
    assert!(events.iter().all(|e| e["type"] == "BOOKMARK") && !events.is_empty(), "{events:?}");
    assert_eq!(end, Line::End);
}

#[tokio::test]
async fn a_pod_lives_and_ends_as_recorded() {
    let cluster = cluster().await;
    let pods = "/api/v1/namespaces/w/pods";
    let from = version(&cluster, pods).await;
    let mut lines = watch(&cluster, pods, &format!("timeoutSeconds=30&resourceVersion={from}")).await;
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "labels": {"app": "p"}},
        "spec": {"nodeName": "node-a", "containers": [{"name": "app", "image": "app.example/app:1"}]}});
    assert_eq!(cluster.ask("POST", pods, pod).await.status, 201);
    let added = lines.event("ADDED").await;
    assert_eq!((&added["status"]["phase"], added["status"].get("podIP")), (&json!("Pending"), None));
    let ready = json!({"status": {"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(cluster.patch(&format!("{pods}/p/status"), ready).await.status, 200);
    assert_eq!(lines.event("MODIFIED").await["metadata"]["generation"], 1);
    let answer = cluster.ask("DELETE", &format!("{pods}/p"), Value::Null).await;
    assert_eq!((answer.status, &answer.body["kind"]), (200, &json!("Pod")), "a pod is answered as it is");
    let ending = lines.event("MODIFIED").await;
    let time = |o: &Value| o["metadata"]["deletionTimestamp"].as_str().unwrap().to_owned();
    assert_eq!(
        (&ending["metadata"]["generation"], &ending["metadata"]["deletionGracePeriodSeconds"]),
        (&json!(2), &json!(30))
    );
    let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
    cluster.ask("DELETE", &format!("{pods}/p"), now).await;
    let last = lines.event("MODIFIED").await;
    assert_eq!(last["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(time(&last) < time(&ending), "its time moves back");
    lines.event("DELETED").await;
}

#[tokio::test]
async fn a_definition_that_is_deleted_ends_its_watches_without_an_error() {
    let cluster = cluster().await;
    let groups = "/apis/networking.istio.io/v1/namespaces/w/workloadgroups";
    let group = |name: &str| json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "metadata": {"name": name}, "spec": {"template": {}}});
    let mut held = group("g-held");
    held["metadata"]["finalizers"] = json!(["mesh.example/hold"]);
    cluster.ask("POST", groups, held).await;
    cluster.ask("POST", groups, group("g0")).await;
    let from = version(&cluster, groups).await;
    let mut lines = watch(&cluster, groups, &format!("timeoutSeconds=60&resourceVersion={from}")).await;
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workloadgroups.networking.istio.io";
    let whole = cluster.ask("GET", definition, Value::Null).await.body;
    assert_eq!(cluster.ask("DELETE", definition, Value::Null).await.status, 200);
    let mut seen = [lines.next().await, lines.next().await].map(|line| match line {
        Line::Event(event) => event["type"].as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    });
    seen.sort();
    assert_eq!(seen, ["DELETED", "MODIFIED"]);
    let late = cluster.ask("POST", groups, group("late")).await;
    assert_eq!(late.status, 403, "{}", late.body);
    assert_eq!(cluster.ask("GET", groups, Value::Null).await.status, 200);
    cluster.patch(&format!("{groups}/g-held"), json!({"metadata": {"finalizers": null}})).await;
    lines.event("DELETED").await;
    assert_eq!(lines.rest().await, (Vec::new(), Line::End));
    let gone = crate::cluster::until("the paths go", async || {
        let answer = cluster.ask("GET", groups, Value::Null).await;
        (answer.status == 404).then_some(answer.body)
    });
    assert_eq!(gone.await, json!("404 page not found\n"));
    let again = json!({"apiVersion": whole["apiVersion"], "kind": whole["kind"], "spec": whole["spec"],
        "metadata": {"name": whole["metadata"]["name"]}});
    let made = cluster.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", again).await;
    assert_eq!(made.status, 201, "{}", made.body);
    crate::cluster::until("the paths come", async || {
        (cluster.ask("GET", groups, Value::Null).await.status == 200).then_some(())
    })
    .await;
    let (events, end) = watch(&cluster, groups, &format!("timeoutSeconds=3&resourceVersion={from}")).await.rest().await;
    assert_eq!((&events[0]["object"]["code"], end), (&json!(410), Line::End));
}

#[tokio::test]
async fn a_changed_definition_ends_the_watches_of_its_kind_alone() {
    let cluster = cluster().await;
    let groups = "/apis/networking.istio.io/v1/namespaces/w/workloadgroups";
    let mut lines = watch(&cluster, groups, "timeoutSeconds=60&resourceVersion=0").await;
    let mut others = watch(&cluster, ENTRIES, "timeoutSeconds=60&resourceVersion=0").await;
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workloadgroups.networking.istio.io";
    let whole = cluster.ask("GET", definition, Value::Null).await.body;
    let mut versions = whole["spec"]["versions"].clone();
    versions[0]["additionalPrinterColumns"] =
        json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    let answer = cluster.patch(definition, json!({"spec": {"versions": versions}})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(lines.rest().await, (Vec::new(), Line::End));
    cluster.ask("POST", ENTRIES, entry("vm-1", &json!({}))).await;
    others.event("ADDED").await;
}

#[tokio::test]
async fn a_namespace_ends_pods_first() {
    let cluster = cluster().await;
    let spaces = "/api/v1/namespaces";
    cluster.namespace("w5").await;
    let pods = "/api/v1/namespaces/w5/pods";
    let entries = "/apis/networking.istio.io/v1/namespaces/w5/workloadentries";
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p0"},
        "spec": {"nodeName": "node-a", "containers": [{"name": "app", "image": "app.example/app:1"}]}});
    assert_eq!(cluster.ask("POST", pods, pod).await.status, 201);
    let mut held = entry("vm-1", &json!({}));
    held["metadata"]["finalizers"] = json!(["mesh.example/drain"]);
    cluster.ask("POST", entries, held).await;
    cluster.ask("POST", entries, entry("vm-0", &json!({}))).await;
    let from = version(&cluster, entries).await;
    let mut of_pods = watch(&cluster, pods, &format!("timeoutSeconds=60&resourceVersion={from}")).await;
    let mut of_entries = watch(&cluster, entries, &format!("timeoutSeconds=60&resourceVersion={from}")).await;
    let query = format!("timeoutSeconds=60&fieldSelector=metadata.name%3Dw5&resourceVersion={from}");
    let mut of_spaces = watch(&cluster, spaces, &query).await;
    let answer = cluster.ask("DELETE", &format!("{spaces}/w5"), Value::Null).await;
    assert_eq!((answer.status, &answer.body["status"]["phase"]), (200, &json!("Terminating")));
    assert_eq!(of_spaces.event("MODIFIED").await["status"]["phase"], "Terminating");
    let late = cluster.ask("POST", entries, entry("late", &json!({}))).await;
    assert_eq!((late.status, &late.body["details"]["causes"][0]["reason"]), (403, &json!("NamespaceTerminating")));
    assert_eq!(cluster.patch(&format!("{entries}/vm-0"), json!({"spec": {"weight": 3}})).await.status, 200);
    of_entries.event("MODIFIED").await;
    of_pods.event("MODIFIED").await;
    let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
    cluster.ask("DELETE", &format!("{pods}/p0"), now).await;
    of_pods.event("MODIFIED").await;
    of_pods.event("DELETED").await;
    let mut seen = [of_entries.next().await, of_entries.next().await].map(|line| match line {
        Line::Event(event) => format!("{} {}", event["type"], event["object"]["metadata"]["name"]),
        other => panic!("{other:?}"),
    });
    seen.sort();
    assert_eq!(seen, ["\"DELETED\" \"vm-0\"", "\"MODIFIED\" \"vm-1\""]);
    cluster.patch(&format!("{entries}/vm-1"), json!({"metadata": {"finalizers": null}})).await;
    of_entries.event("DELETED").await;
    let last = loop {
        match of_spaces.next().await {
            Line::Event(event) if event["type"] == "DELETED" => break event,
            Line::Event(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last["object"]["metadata"]["name"], "w5");
    assert_eq!(cluster.ask("GET", entries, Value::Null).await.body["items"], json!([]));
}
