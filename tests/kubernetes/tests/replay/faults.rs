//! What the double does when it is asked to go wrong.

use std::time::{Duration, Instant};

use hawser_kube_double::{Fault, Load, Timing, User, What};
use serde_json::{Value, json};

use crate::client::{Line, Lines};
use crate::cluster::{Cluster, until};
use crate::recordings::{named, read};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const STREAM: &str =
    "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0";

fn map(name: &str) -> String {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "b"}})
        .to_string()
}

async fn watch(cluster: &Cluster) -> Lines {
    cluster.client.watch(Some(&cluster.admin), &format!("{MAPS}?watch=true&resourceVersion=0"), &[]).await
}

/// The map that every namespace has is the first event.
async fn watching(cluster: &Cluster) -> Lines {
    let mut lines = watch(cluster).await;
    lines.event("ADDED").await;
    lines
}

#[tokio::test]
async fn refusals_come_as_the_real_ones_did_and_so_often_as_was_asked_for() {
    let cluster = Cluster::double_alone().await;
    let recorded = read("write.json");
    cluster.double().fault(Fault::new(What::TooMany { retry_after: 1 }).verb("list").resource("configmaps").times(1));
    let answer = cluster.ask("GET", MAPS, Value::Null).await;
    let real = named(&recorded, "too-many");
    assert_eq!((answer.status, &answer.body), (real.status, &real.answered));
    for header in ["retry-after", "content-type"] {
        assert_eq!(answer.headers.get(header).unwrap(), real.answer_headers[header].as_str().unwrap());
    }
    assert_eq!(cluster.ask("GET", MAPS, Value::Null).await.status, 200, "once was asked for");
    cluster.double().fault(Fault::new(What::Internal).verb("list"));
    let answer = cluster.ask("GET", MAPS, Value::Null).await;
    assert_eq!((answer.status, answer.body.get("reason")), (500, None));
    assert_eq!(cluster.ask("GET", &format!("{MAPS}/kube-root-ca.crt"), Value::Null).await.status, 200);
    cluster.double().clear_faults();
    cluster.double().fault(Fault::new(What::Expired).times(1));
    assert_eq!(cluster.ask("GET", MAPS, Value::Null).await.status, 410);
    cluster.double().clear_faults();
    cluster.double().fault(Fault::new(What::Unavailable { retry_after: 5 }).times(1));
    let answer = cluster.ask("GET", MAPS, Value::Null).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (503, "5"));
    assert_eq!(cluster.double().faults_used().iter().map(|(_, n)| n).sum::<u64>(), 1);
}

#[tokio::test]
async fn streams_break_where_it_was_asked_for() {
    let cluster = Cluster::double_alone().await;
    cluster.double().apply(&map("x")).unwrap();
    let broken = async |what: What| {
        cluster.double().fault(Fault::new(what).verb("watch").times(1));
        watch(&cluster).await.rest().await
    };
    let (events, end) = broken(What::Cut { after: 1 }).await;
    assert_eq!((events.len(), end), (1, Line::Broken(String::new())));
    let (events, end) = broken(What::HalfLine { after: 1 }).await;
    assert!(matches!(&end, Line::Broken(half) if half.starts_with("{\"type\"") && !half.ends_with('\n')), "{end:?}");
    assert_eq!(events.len(), 1);
    let (events, end) = broken(What::Garbage { after: 2 }).await;
    assert!(matches!(&end, Line::Broken(line) if line.contains("no JSON")), "{end:?}");
    assert_eq!(events.len(), 2);
    let (events, end) = broken(What::End { after: 1 }).await;
    assert_eq!((events.len(), end), (1, Line::End));
    let (events, end) = broken(What::Cut { after: 0 }).await;
    assert_eq!((events.len(), end), (0, Line::Broken(String::new())));
    let (events, end) = broken(What::Expired).await;
    assert_eq!((&events[0]["type"], &events[0]["object"]["code"], end), (&json!("ERROR"), &json!(410), Line::End));
    let (events, _) = broken(What::ErrorEvent { after: 1, code: 500 }).await;
    assert_eq!((&events[1]["type"], &events[1]["object"]["code"]), (&json!("ERROR"), &json!(500)));
    cluster.double().fault(Fault::new(What::Silent { after: 1 }).verb("watch").times(1));
    let mut lines = watching(&cluster).await;
    cluster.double().apply(&map("y")).unwrap();
    assert_eq!(lines.next_within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn lists_break_lose_and_are_stale_where_it_was_asked_for() {
    let cluster = Cluster::double_alone().await;
    cluster.double().apply(&map("x")).unwrap();
    cluster.double().apply(&map("y")).unwrap();
    let names = async || -> Vec<String> {
        let body = cluster.ask("GET", MAPS, Value::Null).await.body;
        let items = body["items"].as_array().unwrap();
        items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    cluster.double().fault(Fault::new(What::Lose { names: vec!["x".into()], last: 0 }).times(1));
    assert_eq!(names().await, ["kube-root-ca.crt", "y"]);
    cluster.double().fault(Fault::new(What::Lose { names: Vec::new(), last: 2 }).verb("watch").times(1));
    let path = format!("{MAPS}?{STREAM}");
    let mut lines = cluster.client.watch(Some(&cluster.admin), &path, &[]).await;
    lines.event("ADDED").await;
    lines.event("BOOKMARK").await;
    cluster.double().fault(Fault::new(What::Stale { by: 1 }).verb("list").times(1));
    assert_eq!(names().await, ["kube-root-ca.crt", "x"], "y came one version ago");
    cluster.double().fault(Fault::new(What::Garbage { after: 0 }).verb("list").times(1));
    assert!(cluster.ask("GET", MAPS, Value::Null).await.body.is_string());
    cluster.double().fault(Fault::new(What::NoBookmarks).verb("watch").times(1));
    let mut lines = cluster.client.watch(Some(&cluster.admin), &path, &[]).await;
    for _ in 0..3 {
        lines.event("ADDED").await;
    }
    assert_eq!(lines.next_within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_frozen_server_says_nothing_and_ends_nothing() {
    let cluster = Cluster::double_alone().await;
    let path = format!("{MAPS}?watch=true&resourceVersion=0&timeoutSeconds=1");
    let mut lines = cluster.client.watch(Some(&cluster.admin), &path, &[]).await;
    lines.event("ADDED").await;
    cluster.double().freeze();
    cluster.double().apply(&map("x")).unwrap();
    assert_eq!(lines.next_within(Duration::from_millis(1500)).await, None, "nor does its time end it");
    let asked = cluster.client.send(Some(&cluster.admin), "GET", MAPS, &[], Vec::new());
    assert!(tokio::time::timeout(Duration::from_millis(300), asked).await.is_err());
    cluster.double().thaw();
    let (_, end) = lines.rest().await;
    assert_eq!(end, Line::End);
    assert_eq!(cluster.ask("GET", MAPS, Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_killed_server_breaks_all_and_comes_back_without_its_past() {
    let cluster = Cluster::double_alone().await;
    let mut lines = watching(&cluster).await;
    let from = cluster.double().version();
    cluster.double().apply(&map("x")).unwrap();
    lines.event("ADDED").await;
    cluster.double().stop().await;
    assert_eq!(lines.next().await, Line::Broken(String::new()));
    assert!(tokio::net::TcpStream::connect(cluster.double().address()).await.is_err(), "nobody listens");
    cluster.double().start_again().await.unwrap();
    let path = format!("{MAPS}?watch=true&resourceVersion={from}");
    let (events, end) = cluster.client.watch(Some(&cluster.admin), &path, &[]).await.rest().await;
    assert_eq!(
        (&events[0]["object"]["code"], &events[0]["object"]["reason"], end),
        (&json!(410), &json!("Expired"), Line::End)
    );
    let page = cluster.ask("GET", &format!("{MAPS}?limit=1"), Value::Null).await.body;
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    cluster.double().apply(&map("y")).unwrap();
    cluster.double().forget();
    let old = cluster.ask("GET", &format!("{MAPS}?limit=1&continue={token}"), Value::Null).await;
    assert_eq!(old.status, 410);
    assert!(old.body["metadata"]["continue"].is_string(), "with a token for the rest: {}", old.body);
}

#[tokio::test]
async fn a_restored_data_base_runs_backwards() {
    let cluster = Cluster::double_alone().await;
    let kept = cluster.double().keep_aside();
    for name in ["x", "y"] {
        cluster.double().apply(&map(name)).unwrap();
    }
    let mut lines = watching(&cluster).await;
    let late = cluster.double().version();
    cluster.double().restore(kept);
    let (_, end) = lines.rest().await;
    assert_eq!(end, Line::Broken(String::new()));
    assert!(cluster.double().version() < late);
    let path = format!("{MAPS}?watch=true&timeoutSeconds=1&resourceVersion={late}");
    let (events, end) = cluster.client.watch(Some(&cluster.admin), &path, &[]).await.rest().await;
    assert_eq!((events, end), (Vec::new(), Line::End), "a version of the future is silence");
    cluster.double().apply(&map("z")).unwrap();
    assert!(cluster.double().get("ConfigMap", "default/x").is_none());
}

#[tokio::test]
async fn while_it_starts_a_service_account_is_refused_and_an_admin_is_not() {
    let cluster = Cluster::double_with_definitions().await;
    let token = cluster.double().service_account("default", "reader", &[], 3600).unwrap();
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = json!({"kind": "ClusterRole", "apiVersion": rbac, "metadata": {"name": "r"}, "rules": [
        {"apiGroups": ["", "networking.istio.io"], "resources": ["configmaps", "sidecars"], "verbs": ["list"]}]});
    let binding = json!({"kind": "ClusterRoleBinding", "apiVersion": rbac, "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}]});
    cluster.double().put(role).unwrap();
    cluster.double().put(binding).unwrap();
    let sidecars = "/apis/networking.istio.io/v1/sidecars";
    let ask = async |path: &str| cluster.ask_as(Some(&token), "GET", path, "application/json", Value::Null).await;
    assert_eq!(ask(MAPS).await.status, 200);
    cluster.double().starting(Duration::from_millis(400), Duration::from_millis(400));
    let refused = ask(sidecars).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body["message"].as_str().unwrap().contains("cannot list resource \"sidecars\""));
    assert_eq!(cluster.ask("GET", MAPS, Value::Null).await.status, 200);
    let unavailable = until("permissions are loaded", async || {
        let answer = ask(sidecars).await;
        (answer.status != 403).then_some(answer)
    })
    .await;
    assert_eq!((unavailable.status, unavailable.headers["retry-after"].to_str().unwrap()), (503, "5"));
    until("all paths are there", async || (ask(sidecars).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn answers_come_late_and_events_slowly_where_it_was_asked_for() {
    let cluster = Cluster::double_alone().await;
    cluster.double().fault(Fault::new(What::Late { ms: 300 }).verb("list").times(1));
    let start = Instant::now();
    cluster.ask("GET", MAPS, Value::Null).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    cluster.double().fault(Fault::new(What::Slow { ms: 200 }).verb("watch").times(1));
    let start = Instant::now();
    let mut lines = watching(&cluster).await;
    cluster.double().apply(&map("x")).unwrap();
    lines.event("ADDED").await;
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn what_was_asked_is_remembered() {
    let cluster = Cluster::double_alone().await;
    let token = cluster.double().user(User { name: "somebody".into(), ..User::default() });
    cluster.ask_as(Some(&token), "GET", "/api/v1/pods?limit=5", "application/json", Value::Null).await;
    let seen = cluster.double().requests();
    let last = seen.last().unwrap();
    assert_eq!((last.verb.as_str(), last.resource.as_str(), last.code), ("list", "pods", 403));
    assert_eq!((last.user.as_str(), last.query.as_str()), ("somebody", "limit=5"));
    cluster.double().forget_requests();
    assert!(cluster.double().requests().is_empty());
}

#[tokio::test]
async fn quiet_watches_get_bookmarks() {
    let timing = Timing { bookmarks: Duration::from_millis(200), ..Timing::default() };
    let options = hawser_kube_double::Options { timing, ..Default::default() };
    let cluster = Cluster::with(options).await;
    let path = format!("{MAPS}?watch=true&allowWatchBookmarks=true&resourceVersion={}", cluster.double().version());
    let mut lines = cluster.client.watch(Some(&cluster.admin), &path, &[]).await;
    cluster.double().advance(7);
    let told = loop {
        let mark = lines.event("BOOKMARK").await;
        let now = cluster.double().version().to_string();
        if mark["metadata"]["resourceVersion"].as_str() == Some(now.as_str()) {
            break mark;
        }
    };
    assert_eq!(told["kind"], "ConfigMap");
}

#[tokio::test]
async fn nodes_bring_pods_up_and_end_them() {
    let options = hawser_kube_double::Options { kubelet: Some(Duration::from_millis(50)), ..Default::default() };
    let cluster = Cluster::with(options).await;
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: app, image: app}]}
";
    cluster.double().apply(yaml).unwrap();
    let ready = async || {
        let slices = cluster.double().list("EndpointSlice", Some("shop"));
        (slices.first()?["endpoints"][0]["conditions"]["ready"] == true).then_some(())
    };
    until("the pod is an endpoint", ready).await;
    assert!(cluster.double().delete("Pod", "shop/web-1"));
    until("the pod ends", async || cluster.double().get("Pod", "shop/web-1").is_none().then_some(())).await;
    let none =
        async || cluster.double().list("EndpointSlice", Some("shop")).first()?["endpoints"].is_null().then_some(());
    until("its endpoint goes", none).await;
}

#[tokio::test]
async fn ten_thousand_pods_are_held_and_listed_in_little_time() {
    let options = hawser_kube_double::Options { kubelet: None, ..Default::default() };
    let cluster = Cluster::with(options).await;
    let load = Load { nodes: 50, ..Load::default() };
    let before = memory();
    cluster.double().generate(&load);
    until("all slices are there", async || {
        let slices = cluster.double().list("EndpointSlice", None);
        let endpoints: usize = slices.iter().filter_map(|s| s["endpoints"].as_array()).map(Vec::len).sum();
        (endpoints == load.pods).then_some(())
    })
    .await;
    let held = memory().saturating_sub(before);
    assert!(held < 300 << 20, "{} MB are held", held >> 20);
    let start = Instant::now();
    let mut path = "/api/v1/pods?limit=500".to_owned();
    let mut listed = 0;
    loop {
        let body = cluster.ask("GET", &path, Value::Null).await.body;
        listed += body["items"].as_array().unwrap().len();
        match body["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => path = format!("/api/v1/pods?limit=500&continue={token}"),
            _ => break,
        }
    }
    assert_eq!(listed, load.pods);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    eprintln!("{} MB held, listed in {:?}", held >> 20, start.elapsed());
}

/// What this process holds.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}
