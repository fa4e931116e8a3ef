//! What of the mesh is written into a cluster, whatever becomes of its API server.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::istio::{Kind, ObjectRef, definition};
use hawser_kube_double::{Double, Fault, Options, What};
use hawser_mesh::{Health, InstanceRef, Locality, Workload, WorkloadKey};
use hawser_registry_kubernetes::{Exports, Joined, Outcome, Outcomes, Settings, Verdict, Write};
use serde_json::{Value, json};
use tokio::sync::watch;

use common::Follower;

const MAIN: &str = "kubernetes/main";
const ENTRY: &str = "WorkloadEntry";
const SLICE: &str = "EndpointSlice";
const SLICES: &str = "endpointslices.discovery.k8s.io";
const ENTRIES: &str = "workloadentries.networking.istio.io";

/// A cluster, and what discovery would say of the mesh.
struct Cluster {
    double: Double,
    dir: tempfile::TempDir,
    hosts: watch::Sender<Option<Arc<Joined>>>,
    outcomes: watch::Sender<Option<Arc<Outcomes>>>,
}

impl Cluster {
    async fn start() -> Self {
        let double = Double::start(Options { kubelet: None, ..Options::default() }).await.unwrap();
        for kind in Kind::ALL {
            double.put(definition(kind)).unwrap();
        }
        double.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { double, dir, hosts: watch::channel(None).0, outcomes: watch::channel(None).0 }
    }

    fn follow(&self) -> Follower {
        self.follow_with(Settings::default(), self.double.kubeconfig())
    }

    fn follow_with(&self, settings: Settings, kubeconfig: String) -> Follower {
        let exports = Exports { hosts: self.hosts.subscribe(), outcomes: self.outcomes.subscribe(), first: true };
        Follower::at(kubeconfig, self.dir.path(), settings, Some(exports))
    }

    fn join(&self, hosts: impl IntoIterator<Item = Workload>) {
        let all: Joined = hosts.into_iter().map(|host| (host.key.clone(), Arc::new(host))).collect();
        self.hosts.send_replace(Some(Arc::new(all)));
    }

    fn serve(&self, name: &str) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        self.double.put(service).unwrap();
    }

    fn entry(&self, name: &str) -> Option<Value> {
        self.double.get(ENTRY, name)
    }

    /// Slices of ours.
    fn slices(&self) -> Vec<Value> {
        let all = self.double.list(SLICE, Some("shop"));
        let ours = |slice: &Value| slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "hawser.io";
        all.into_iter().filter(ours).collect()
    }

    /// Addresses in them that are ready.
    fn ready(&self) -> BTreeSet<String> {
        let all = self.slices().into_iter().flat_map(|s| s["endpoints"].as_array().cloned().unwrap_or_default());
        let ready = all.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect()
    }

    fn healthy(&self, name: &str) -> Option<String> {
        let entry = self.entry(name)?;
        let conditions = entry["status"]["conditions"].as_array()?.clone();
        let healthy = conditions.iter().find(|condition| condition["type"] == "Healthy")?;
        healthy["status"].as_str().map(str::to_owned)
    }

    fn writes(&self, verb: &str, resource: &str) -> usize {
        self.double.requests().iter().filter(|seen| seen.verb == verb && seen.resource == resource).count()
    }
}

fn host(number: u32) -> Workload {
    let name = format!("web-{number}");
    Workload {
        addresses: [(String::new(), vec![format!("10.9.{}.{}", number / 250, number % 250 + 1)])].into(),
        ports: [("http".to_owned(), 9080)].into(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        service_account: "web".to_owned(),
        locality: Locality { region: "eu".to_owned(), zone: "a".to_owned(), sub_zone: String::new() },
        instance: Some(InstanceRef { instance_id: format!("id-{number}").into(), workload_id: "web".into() }),
        ..Workload::new(WorkloadKey { namespace: "shop".into(), name: name.as_str().into() })
    }
}

fn people(name: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"address": "192.0.2.1", "labels": {"app": "web"}}})
}

/// Waits until it is so, and takes in meanwhile what is said.
async fn until(follower: &mut Follower, what: &str, mut is: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while !is() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}; rejected {:?}", follower.rejected);
        follower.listen(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_host_is_an_entry_with_its_health_and_is_never_read_back() {
    let cluster = Cluster::start().await;
    cluster.double.put(people("people")).unwrap();
    cluster.join([host(1)]);
    let mut follower = cluster.follow();
    follower.until("what people wrote is input", |f| f.has(MAIN, "WorkloadEntry shop/people")).await;
    until(&mut follower, "the entry is healthy", || cluster.healthy("shop/web-1").as_deref() == Some("True")).await;
    let entry = cluster.entry("shop/web-1").unwrap();
    assert_eq!(
        entry["spec"],
        json!({"address": "10.9.0.2", "ports": {"http": 9080}, "labels": {"app": "web"}, "locality": "eu/a",
            "serviceAccount": "web"})
    );
    assert_eq!(
        entry["metadata"]["annotations"],
        json!({"hawser.io/mesh": "cluster.local", "hawser.io/instance": "id-1"})
    );
    let managers = entry["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().all(|m| m["manager"] == "hawser-discovery"), "{managers:?}");
    assert_eq!(managers[0]["operation"], "Apply");

    cluster.join([Workload { port_health: [(9080, Health::Unhealthy)].into(), ..host(1) }]);
    until(&mut follower, "its probe fails", || cluster.healthy("shop/web-1").as_deref() == Some("False")).await;
    let bad = cluster.entry("shop/web-1").unwrap();
    assert_eq!(bad["status"]["conditions"][0]["message"], "port 9080 can't serve");
    assert_eq!(bad["metadata"]["generation"], entry["metadata"]["generation"], "health is no change of the entry");
    // Somebody's edit does not last.
    cluster.double.merge(ENTRY, "shop/web-1", &json!({"spec": {"address": "192.0.2.9"}})).unwrap();
    until(&mut follower, "it is as it was", || {
        cluster.entry("shop/web-1").is_some_and(|e| e["spec"]["address"] == "10.9.0.2")
    })
    .await;
    assert!(cluster.double.delete(ENTRY, "shop/web-1"));
    until(&mut follower, "it is back", || cluster.entry("shop/web-1").is_some()).await;

    cluster.join([Workload { health: Health::Unhealthy, ..host(1) }]);
    until(&mut follower, "its lease ended", || cluster.entry("shop/web-1").is_none()).await;
    assert!(cluster.entry("shop/people").is_some() && !follower.has(MAIN, "WorkloadEntry shop/web-1"));
    assert!(!follower.objects.keys().any(|(_, name)| name.contains("web-1")), "{:?}", follower.objects.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_pods_reach_hosts_that_a_service_selects_and_slices_are_no_input() {
    let cluster = Cluster::start().await;
    cluster.serve("web");
    cluster.join([host(1), host(2)]);
    let mut follower = cluster.follow();
    until(&mut follower, "both are endpoints", || cluster.ready().len() == 2).await;
    let slices = cluster.slices();
    let service = cluster.double.get("Service", "shop/web").unwrap();
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0]["metadata"]["ownerReferences"][0]["uid"], service["metadata"]["uid"]);
    assert_eq!(slices[0]["ports"], json!([{"name": "http", "port": 9080, "protocol": "TCP"}]));
    assert_eq!(slices[0]["endpoints"][0]["zone"], "a");
    assert_eq!(slices[0]["endpoints"][0]["targetRef"]["name"], "web-1");
    follower.listen(Duration::from_millis(500)).await;
    assert!(!follower.objects.keys().any(|(_, name)| name.contains("10.9.0.")), "{:?}", follower.objects.keys());

    cluster.join([Workload { health: Health::Draining, ..host(1) }, host(2)]);
    until(&mut follower, "one of them leaves", || cluster.ready() == ["10.9.0.3".to_owned()].into()).await;
    assert_eq!(
        cluster.slices()[0]["endpoints"][0]["conditions"],
        json!({"ready": false, "serving": true, "terminating": true})
    );
    cluster.join([host(2)]);
    until(&mut follower, "it is gone", || cluster.slices()[0]["endpoints"].as_array().unwrap().len() == 1).await;
    // Another selector, and nobody is taken.
    cluster.double.merge("Service", "shop/web", &json!({"spec": {"selector": {"app": "other"}}})).unwrap();
    until(&mut follower, "nobody is selected", || cluster.slices().is_empty()).await;
    cluster.double.merge("Service", "shop/web", &json!({"spec": {"selector": {"app": "web"}}})).unwrap();
    until(&mut follower, "it is selected", || cluster.ready().len() == 1).await;
    assert!(cluster.double.delete("Service", "shop/web"));
    until(&mut follower, "the service is gone", || cluster.slices().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_run_left_goes_when_all_hosts_are_known_and_not_before() {
    let cluster = Cluster::start().await;
    cluster.serve("web");
    cluster.join([host(1), host(2)]);
    let mut follower = cluster.follow();
    until(&mut follower, "both are written", || {
        cluster.ready().len() == 2 && cluster.healthy("shop/web-1").is_some() && cluster.healthy("shop/web-2").is_some()
    })
    .await;
    let mut other = people("of-others");
    other["metadata"]["annotations"] = json!({"hawser.io/mesh": "another.mesh"});
    cluster.double.put(other).unwrap();
    drop(follower);

    cluster.hosts.send_replace(None);
    cluster.double.forget_requests();
    let mut restarted = cluster.follow();
    restarted.until("synced", |f| f.synced.contains(MAIN)).await;
    restarted.listen(Duration::from_secs(2)).await;
    assert!(cluster.ready().len() == 2 && cluster.entry("shop/web-2").is_some());
    assert_eq!(cluster.writes("patch", ENTRIES) + cluster.writes("patch", SLICES), 0);
    cluster.join([host(1)]);
    until(&mut restarted, "what left meanwhile goes", || {
        cluster.entry("shop/web-2").is_none() && cluster.ready() == ["10.9.0.2".to_owned()].into()
    })
    .await;
    restarted.listen(Duration::from_millis(500)).await;
    assert!(cluster.entry("shop/web-1").is_some() && cluster.entry("shop/of-others").is_some());
    assert_eq!(
        (cluster.writes("patch", ENTRIES), cluster.writes("delete", ENTRIES)),
        (0, 1),
        "what stands is left alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_people_have_stays_theirs_and_a_namespace_that_is_not_there_is_not_made() {
    let cluster = Cluster::start().await;
    cluster.double.put(people("web-1")).unwrap();
    let key = WorkloadKey { namespace: "nowhere".into(), name: "x".into() };
    cluster.join([host(1), host(2), Workload { key, ..host(3) }]);
    let mut follower = cluster.follow();
    let taken = "WorkloadEntry shop/web-1, to be written";
    follower.until("the name is taken", |f| f.rejected.contains_key(taken)).await;
    follower.until("the namespace is not there", |f| f.rejected.contains_key("Namespace nowhere")).await;
    assert!(follower.rejected[taken].contains("give it another name"), "{:?}", follower.rejected);
    assert!(follower.rejected["Namespace nowhere"].contains("no namespace of that name"), "{:?}", follower.rejected);
    until(&mut follower, "others are written", || cluster.healthy("shop/web-2").is_some()).await;
    assert_eq!(cluster.entry("shop/web-1").unwrap()["spec"]["address"], "192.0.2.1");
    assert!(cluster.entry("nowhere/x").is_none() && cluster.double.get("Namespace", "nowhere").is_none());

    cluster.double.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nowhere"}})).unwrap();
    until(&mut follower, "the namespace came", || cluster.entry("nowhere/x").is_some()).await;
    assert!(cluster.double.delete(ENTRY, "shop/web-1"));
    until(&mut follower, "the name is free", || {
        cluster.entry("shop/web-1").is_some_and(|entry| entry["spec"]["address"] == "10.9.0.2")
    })
    .await;
    follower
        .until("both are taken back", |f| {
            !f.rejected.contains_key(taken) && !f.rejected.contains_key("Namespace nowhere")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_server_delay_writes_and_hold_up_nothing_else() {
    for what in [
        What::Internal,
        What::TooMany { retry_after: 1 },
        What::Unavailable { retry_after: 1 },
        What::Conflict,
        What::Forbidden,
        What::Cut { after: 0 },
        What::Late { ms: 15_000 },
    ] {
        let cluster = Cluster::start().await;
        cluster.serve("web");
        cluster.double.fault(Fault::new(what.clone()).verb("patch").times(3));
        cluster.join([host(1)]);
        let mut follower = cluster.follow();
        follower.until("the cluster is read", |f| f.has(MAIN, "web.shop.svc.cluster.local")).await;
        cluster.serve("late");
        let began = tokio::time::Instant::now();
        follower.until("it is read on", |f| f.has(MAIN, "late.shop.svc.cluster.local")).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{what:?} holds up what is read");
        until(&mut follower, &format!("it is written after {what:?}"), || {
            cluster.healthy("shop/web-1").as_deref() == Some("True") && cluster.ready().len() == 1
        })
        .await;
        let used: u64 = cluster.double.faults_used().into_iter().map(|(_, times)| times).sum();
        assert_eq!(used, 3, "{what:?}");
        let entry = cluster.entry("shop/web-1").unwrap();
        assert_eq!(entry["metadata"]["generation"], 1, "{what:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_lasts_is_told_with_its_cure_and_taken_back() {
    let cluster = Cluster::start().await;
    cluster.serve("web");
    cluster.double.fault(Fault::new(What::Forbidden).verb("patch").resource(ENTRIES));
    cluster.join([host(1)]);
    let mut follower = cluster.follow();
    until(&mut follower, "slices are written", || cluster.ready().len() == 1).await;
    let origin = "Writing workloadentries";
    follower.until("the refusal is told", |f| f.rejected.contains_key(origin)).await;
    assert!(follower.rejected[origin].contains("grant create, patch and delete"), "{:?}", follower.rejected);
    let asked = cluster.writes("patch", ENTRIES);
    assert!((3..=12).contains(&asked), "it is asked again, and not too often: {asked}");
    cluster.double.clear_faults();
    follower.until("it is taken back", |f| !f.rejected.contains_key(origin)).await;
    assert!(cluster.entry("shop/web-1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_resources_stands_in_their_status_beside_others_words_and_refusals_are_events() {
    let cluster = Cluster::start().await;
    let rule = |action: &str| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "shop"}, "spec": {"action": action},
            "status": {"conditions": [{"type": "Reconciled", "status": "True"}]}})
    };
    cluster.double.put(rule("DENY")).unwrap();
    cluster.join([]);
    let mut follower = cluster.follow();
    let object = ObjectRef { kind: Kind::AuthorizationPolicy, namespace: "shop".to_owned(), name: "p".to_owned() };
    let say = |verdict, generation, message: &str| {
        let outcome = Outcome { verdict, generation, message: message.to_owned() };
        cluster.outcomes.send_replace(Some(Arc::new([(object.clone(), outcome)].into())));
    };
    let conditions = || cluster.double.get("AuthorizationPolicy", "shop/p").unwrap()["status"]["conditions"].clone();
    let said = |status: &str, reason: &str| {
        let all = conditions();
        let ours = all.as_array().unwrap().iter().find(|c| c["type"] == "hawser.io/Honoured").cloned();
        ours.is_some_and(|ours| ours["status"] == status && ours["reason"] == reason)
    };
    say(Verdict::Honoured, 1, "");
    until(&mut follower, "it is honoured", || said("True", "Honoured")).await;
    assert_eq!(conditions()[0], json!({"type": "Reconciled", "status": "True"}));
    say(Verdict::Rejected, 1, "spec.rules: nobody can be meant");
    until(&mut follower, "it is rejected", || said("False", "Rejected")).await;
    let events = || cluster.double.list("Event.events.k8s.io", Some("shop"));
    until(&mut follower, "there is an event", || events().len() == 1).await;
    let event = &events()[0];
    assert_eq!((&event["note"], &event["regarding"]["name"]), (&json!("spec.rules: nobody can be meant"), &json!("p")));
    // A restart says it again, and it is the same event; a word of an older version is none.
    drop(follower);
    cluster.double.forget_requests();
    let mut restarted = cluster.follow();
    until(&mut restarted, "it is said again", || cluster.writes("create", "events.events.k8s.io") == 1).await;
    say(Verdict::Honoured, 7, "");
    restarted.listen(Duration::from_secs(1)).await;
    assert!(said("False", "Rejected") && events().len() == 1);
    assert_eq!(conditions().as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_manifest_are_enough_and_all_of_them_are_used() {
    let cluster = Cluster::start().await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes/discovery.yaml");
    let text = std::fs::read_to_string(Path::new(path)).unwrap();
    let role: Vec<&str> = text.split("---\n").filter(|document| document.contains("kind: ClusterRole")).collect();
    cluster.double.apply(&role.join("---\n")).unwrap();
    let token = cluster.double.service_account("hawser-system", "hawser-discovery", &[], 3600).unwrap();
    cluster.serve("web");
    let gateway = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "r", "namespace": "shop"}, "spec": {"host": "web"}});
    cluster.double.put(gateway).unwrap();
    let object = ObjectRef { kind: Kind::DestinationRule, namespace: "shop".to_owned(), name: "r".to_owned() };
    let outcome = Outcome { verdict: Verdict::Rejected, generation: 1, message: "why".to_owned() };
    cluster.outcomes.send_replace(Some(Arc::new([(object, outcome)].into())));
    cluster.join([host(1)]);
    let settings = Settings {
        remote_clusters: hawser_registry_kubernetes::Remote { disabled: true, namespace: None },
        ..Settings::default()
    };
    let mut follower = cluster.follow_with(settings, cluster.double.kubeconfig_with(&token));
    until(&mut follower, "all is written", || {
        cluster.healthy("shop/web-1").is_some()
            && cluster.ready().len() == 1
            && cluster.double.list("Event.events.k8s.io", Some("shop")).len() == 1
            && cluster.double.get("DestinationRule", "shop/r").unwrap()["status"]["conditions"].is_array()
    })
    .await;
    cluster.join([]);
    until(&mut follower, "all is taken back", || cluster.entry("shop/web-1").is_none() && cluster.slices().is_empty())
        .await;
    let ours = |seen: &&hawser_kube_double::Seen| seen.user.contains("hawser-discovery");
    let requests = cluster.double.requests();
    let refused: Vec<_> = requests.iter().filter(ours).filter(|seen| seen.code == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let written: BTreeSet<String> = requests
        .iter()
        .filter(ours)
        .filter(|seen| !["get", "list", "watch"].contains(&seen.verb.as_str()))
        .map(|seen| format!("{} {} {}", seen.verb, seen.resource, seen.subresource))
        .collect();
    let wanted = [
        format!("create {} ", "events.events.k8s.io"),
        format!("delete {SLICES} "),
        format!("delete {ENTRIES} "),
        "patch destinationrules.networking.istio.io status".to_owned(),
        format!("patch {SLICES} "),
        format!("patch {ENTRIES} "),
        format!("patch {ENTRIES} status"),
    ];
    assert_eq!(written, wanted.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_nothing_may_be_and_many_hosts_are_few_writes() {
    let cluster = Cluster::start().await;
    cluster.serve("web");
    cluster.join((0..250).map(host));
    let write = Write { workload_entries: Some(false), status: Some(false), ..Write::default() };
    let settings = Settings { write, ignore_istio: true, ..Settings::default() };
    let mut follower = cluster.follow_with(settings, cluster.double.kubeconfig());
    until(&mut follower, "all are endpoints", || cluster.ready().len() == 250).await;
    assert_eq!((cluster.slices().len(), cluster.writes("patch", SLICES)), (3, 3));
    let label = "multicluster.kubernetes.io/service-name";
    assert!(cluster.slices().iter().all(|slice| slice["metadata"]["labels"][label].is_null()));
    cluster.join((1..250).map(host));
    until(&mut follower, "one left", || cluster.ready().len() == 249).await;
    assert_eq!((cluster.writes("patch", SLICES), cluster.writes("patch", ENTRIES)), (4, 0));
    drop(follower);

    // Entries only, though Istio's kinds are no configuration.
    let write = Write { endpoint_slices: Some(false), ..Write::default() };
    let settings = Settings { write, ignore_istio: true, ..Settings::default() };
    let mut follower = cluster.follow_with(settings, cluster.double.kubeconfig());
    until(&mut follower, "what is no longer to be written is taken back", || cluster.slices().is_empty()).await;
    until(&mut follower, "entries are written", || cluster.double.list(ENTRY, Some("shop")).len() == 249).await;
    assert!(!follower.objects.keys().any(|(_, name)| name.starts_with(ENTRY)));
}
