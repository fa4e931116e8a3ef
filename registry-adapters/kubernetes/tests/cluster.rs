//! A cluster followed through its API server, whatever becomes of that.

mod common;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawser_api::istio::mesh_config::MeshLabelSelector;
use hawser_mesh::Health;
use hawser_registry_kubernetes::{Remote, Settings};
use serde_json::{Value, json};

use common::{
    ENTRIES, Follower, NAMESPACES, NODES, PODS, POLICIES, SECRETS, SERVICES, SLICES, Server, namespace, pod, service,
    slice,
};

const MAIN: &str = "kubernetes/main";
const WEB: &str = "web.shop.svc.cluster.local";

async fn shop() -> Server {
    let server = Server::start().await;
    server.state.set(NAMESPACES, namespace("shop"));
    server.state.set(NODES, json!({"metadata": {"name": "node-a", "labels": {"topology.kubernetes.io/region": "eu"}}}));
    server.state.set(SERVICES, service("web"));
    server.state.set(PODS, pod("web-1", "10.0.0.1", true));
    server.state.set(PODS, pod("web-2", "10.0.0.2", true));
    server.state.set(SLICES, slice("web", &[("web-1", "10.0.0.1", true), ("web-2", "10.0.0.2", true)]));
    server
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_told_and_what_changes_follows_by_one_watch_a_kind() {
    let server = shop().await;
    let dir = tempfile::tempdir().unwrap();
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    follower.until("synced", |f| f.synced.contains(MAIN)).await;
    assert!(follower.has(MAIN, WEB) && follower.stale.is_empty(), "{:?}", follower.stale);
    let web = follower.workload(MAIN, "shop/web-1").unwrap();
    assert_eq!((web.locality.region.as_str(), web.services[0].as_str()), ("eu", WEB));
    server.state.set(PODS, pod("web-1", "10.0.0.1", false));
    let draining = |f: &Follower| f.workload(MAIN, "shop/web-1").unwrap().health == Health::Draining;
    follower.until("web-1 is not ready", draining).await;
    server.state.remove(PODS, "shop/web-2");
    follower.until("web-2 is gone", |f| !f.has(MAIN, "shop/web-2")).await;
    let asked = server.state.asked();
    let of_pods = asked.iter().filter(|path| path.starts_with(PODS)).count();
    assert_eq!(of_pods, 1, "one watch a kind, and no list beside it: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_streaming_lists_is_read_in_pages() {
    let server = shop().await;
    server.state.without_streams();
    for number in 0..1200 {
        server.state.set(PODS, pod(&format!("p-{number}"), "10.1.0.1", true));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    follower.until("synced", |f| f.synced.contains(MAIN)).await;
    assert!(follower.has(MAIN, "shop/p-1199") && follower.has(MAIN, "shop/web-1"));
    let pages = server.state.asked().iter().filter(|path| path.starts_with(PODS) && path.contains("limit=")).count();
    assert_eq!(pages, 3);
    server.state.set(PODS, pod("late", "10.1.0.2", true));
    follower.until("a change after the pages", |f| f.has(MAIN, "shop/late")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_a_restart_meanwhile_empty_nothing() {
    let mut server = shop().await;
    server.install(POLICIES);
    server.state.set(POLICIES, policy("deny", json!({"action": "DENY", "rules": [{}]})));
    let dir = tempfile::tempdir().unwrap();
    let name = "AuthorizationPolicy shop/deny";
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    follower.until("synced", |f| f.synced.contains(MAIN) && f.has(MAIN, name)).await;
    // The state is written soon after.
    let state = dir.path().join("kubernetes_2fmain.state");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !state.exists() && Instant::now() < deadline {
        follower.listen(Duration::from_millis(100)).await;
    }
    server.stop().await;
    follower.until("stale", |f| f.stale.contains_key(MAIN)).await;
    follower.listen(Duration::from_secs(2)).await;
    assert_eq!(follower.deletes, 0);
    assert!(follower.stale[MAIN].contains("does not answer"), "{:?}", follower.stale);
    drop(follower);

    let mut restarted = Follower::of(&server, dir.path(), Settings::default());
    restarted.until("what was stored", |f| f.has(MAIN, "shop/web-1") && f.has(MAIN, WEB) && f.has(MAIN, name)).await;
    restarted.listen(Duration::from_secs(2)).await;
    assert!(restarted.synced.contains(MAIN) && restarted.stale.contains_key(MAIN) && restarted.deletes == 0);
    server.state.lose(PODS, |name| name == "shop/web-2");
    server.go_on().await;
    restarted.until("the cluster speaks again", |f| !f.stale.contains_key(MAIN)).await;
    restarted.until("what is gone meanwhile goes", |f| !f.has(MAIN, "shop/web-2")).await;
    assert!(restarted.has(MAIN, "shop/web-1") && restarted.has(MAIN, name));
    assert_eq!(restarted.deletes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_lacks_most_of_what_was_there_is_not_believed_at_once_and_deletions_are() {
    let mut server = shop().await;
    for number in 0..32 {
        server.state.set(PODS, pod(&format!("p-{number}"), "10.1.0.1", true));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    follower.until("synced", |f| f.synced.contains(MAIN)).await;
    for number in 0..12 {
        server.state.remove(PODS, &format!("shop/p-{number}"));
    }
    follower.until("deleted pods are gone", |f| !f.has(MAIN, "shop/p-11")).await;
    assert_eq!(follower.deletes, 12);
    // A store from yesterday: its versions are others, and most is missing.
    server.stop().await;
    server.state.lose(PODS, |name| name.starts_with("shop/p-"));
    server.go_on().await;
    let handle = follower.registrar.handles.lock()[MAIN].clone();
    let deadline = Instant::now() + Duration::from_secs(20);
    while handle.status().frozen.is_none() && Instant::now() < deadline {
        follower.listen(Duration::from_millis(100)).await;
    }
    assert_eq!(handle.status().state(), "frozen");
    assert!(follower.has(MAIN, "shop/p-31") && follower.deletes == 12);
    assert!(handle.accept());
    follower.until("an operator says that it is so", |f| !f.has(MAIN, "shop/p-31")).await;
    assert!(follower.has(MAIN, "shop/web-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_while_a_server_starts_hold_up_nothing_for_long() {
    let server = shop().await;
    server.install(ENTRIES);
    for kind in [NAMESPACES, NODES, SERVICES, PODS, SLICES, ENTRIES, SECRETS] {
        server.state.deny(kind);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    follower
        .until("the refusal is told", |f| f.stale.get(MAIN).is_some_and(|why| why.contains("docs/kubernetes.md")))
        .await;
    assert!(follower.synced.is_empty());
    let needed = |refused: &[String], kind: &str| refused.iter().any(|what| what.starts_with(&format!("{kind}: ")));
    follower.unseen("which rights", |u| needed(&u.refused, "pods") && needed(&u.refused, "services")).await;
    for kind in [NAMESPACES, SERVICES, PODS, SLICES, SECRETS] {
        server.state.allow(kind);
    }
    // Nodes and a kind of resource can't be seen at all, which in the end holds up nothing.
    follower.until("synced", |f| f.synced.contains(MAIN)).await;
    assert!(follower.has(MAIN, WEB) && follower.stale.is_empty());
    assert!(follower.rejected["RBAC nodes"].contains("list and watch of nodes"), "{:?}", follower.rejected);
    assert!(follower.rejected.contains_key("RBAC serviceentries"));
    server.state.allow(ENTRIES);
    server.state.set(
        ENTRIES,
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "x", "namespace": "shop"},
            "spec": {"hosts": ["x.example.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "DNS"}}),
    );
    follower.until("the kind is seen", |f| f.has(MAIN, "ServiceEntry shop/x")).await;
    follower.until("that is taken back", |f| !f.rejected.contains_key("RBAC serviceentries")).await;
    follower.unseen("nodes alone", |u| u.refused.len() == 1 && u.refused[0].contains("list and watch of nodes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_answers_404_to_everything_takes_no_policy_away() {
    let mut server = shop().await;
    server.install(POLICIES);
    server.state.set(POLICIES, policy("deny", json!({"action": "DENY", "rules": [{}]})));
    let dir = tempfile::tempdir().unwrap();
    let name = "AuthorizationPolicy shop/deny";
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    follower.until("synced", |f| f.synced.contains(MAIN) && f.has(MAIN, name)).await;
    server.stop().await;
    server.state.estrange(true);
    server.go_on().await;
    // Longer than a kind must be unknown to count as gone.
    follower.listen(Duration::from_secs(8)).await;
    assert!(follower.deletes == 0 && follower.has(MAIN, name) && follower.has(MAIN, WEB));
    server.stop().await;
    server.state.estrange(false);
    server.go_on().await;
    server.state.remove(POLICIES, "shop/deny");
    follower.until("what goes is gone", |f| !f.has(MAIN, name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_says_nonsense_is_told_and_its_last_good_version_stays() {
    let server = shop().await;
    server.install(POLICIES);
    server.state.set(POLICIES, policy("p", json!({"action": "DENY", "rules": [{}]})));
    let dir = tempfile::tempdir().unwrap();
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    let name = "AuthorizationPolicy shop/p";
    follower.until("synced", |f| f.synced.contains(MAIN) && f.has(MAIN, name)).await;
    server.state.set(POLICIES, policy("p", json!({"action": "PERHAPS"})));
    follower.until("it is told", |f| f.rejected.contains_key(name)).await;
    assert!(
        follower.has(MAIN, name) && follower.rejected[name].contains("last good version"),
        "{:?}",
        follower.rejected
    );
    server.state.set(POLICIES, policy("p", json!({"action": "ALLOW"})));
    follower.until("it is taken back", |f| !f.rejected.contains_key(name)).await;
    server.state.remove(POLICIES, "shop/p");
    follower.until("it is gone", |f| !f.has(MAIN, name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_secrets_come_and_go_and_are_known_while_their_keeper_is_away() {
    let mut server = shop().await;
    let mut west = shop().await;
    west.state.set(PODS, pod("west-1", "10.2.0.1", true));
    west.state.set(SLICES, slice("web", &[("west-1", "10.2.0.1", true)]));
    let secret = json!({"metadata": {"name": "west", "namespace": "istio-system"},
        "data": {"west": STANDARD.encode(west.kubeconfig())}});
    server.state.set(SECRETS, secret);
    let dir = tempfile::tempdir().unwrap();
    let other = "kubernetes/main/west";
    let mut follower = Follower::of(&server, dir.path(), Settings::default());
    follower.until("both", |f| f.synced.contains(MAIN) && f.synced.contains(other)).await;
    let pod = follower.workload(other, "shop/west-1").unwrap();
    assert_eq!(pod.services[0].as_str(), WEB, "one service in two clusters");
    west.stop().await;
    follower.until("one of them is stale", |f| f.stale.contains_key(other)).await;
    assert!(follower.has(other, "shop/west-1") && !follower.stale.contains_key(MAIN));
    let state = dir.path().join("kubernetes_2fmain_2fwest.state");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !state.exists() && Instant::now() < deadline {
        follower.listen(Duration::from_millis(100)).await;
    }
    server.stop().await;
    drop(follower);

    // Nobody says where the other cluster is, but that there is one is known, and so is what it said.
    let mut restarted = Follower::of(&server, dir.path(), Settings::default());
    restarted.until("what was stored of both", |f| f.has(other, "shop/west-1") && f.has(MAIN, WEB)).await;
    server.go_on().await;
    west.go_on().await;
    restarted.until("both speak again", |f| f.synced.contains(other) && f.stale.is_empty()).await;
    server.state.remove(SECRETS, "istio-system/west");
    restarted.until("the cluster is taken out", |f| f.ended.contains(other)).await;
    assert!(!restarted.has(other, "shop/west-1") && restarted.has(MAIN, WEB));
    let deadline = Instant::now() + Duration::from_secs(5);
    while state.exists() && Instant::now() < deadline {
        restarted.listen(Duration::from_millis(20)).await;
    }
    assert!(!state.exists(), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_asked_for_where_no_other_cluster_is_wanted() {
    let server = shop().await;
    let dir = tempfile::tempdir().unwrap();
    let remote_clusters = Remote { disabled: true, ..Remote::default() };
    let settings = Settings { remote_clusters, ignore_istio: true, ..Settings::default() };
    let mut follower = Follower::of(&server, dir.path(), settings);
    follower.until("synced", |f| f.synced.contains(MAIN)).await;
    let asked = server.state.asked();
    assert!(asked.iter().all(|path| !path.contains("secrets") && !path.contains("istio.io")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_says_more_than_may_be_is_told_by_kind_and_cure_and_its_last_good_state_stays() {
    let server = shop().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { most_objects: Some(1000), ..Settings::default() };
    let mut follower = Follower::of(&server, dir.path(), settings);
    follower.until("synced", |f| f.synced.contains(MAIN)).await;
    for number in 0..1100 {
        server.state.set(PODS, pod(&format!("p-{number}"), "10.1.0.1", true));
    }
    follower.until("it is told", |f| f.stale.get(MAIN).is_some_and(|why| why.contains("too much"))).await;
    let why = &follower.stale[MAIN];
    assert!(why.starts_with("pods: ") && why.contains("more than 1000 objects") && why.contains("raise mostObjects"));
    let pods = |f: &Follower| f.objects.keys().filter(|(_, name)| name.starts_with("shop/")).count();
    assert_eq!((pods(&follower), follower.deletes), (1000, 0), "no more, and none less");
    let asked = server.state.asked();
    let of_pods = asked.iter().filter(|path| path.starts_with(PODS)).count();
    assert_eq!(of_pods, 1, "to ask again costs much: {asked:?}");
    // The rest of the cluster is followed as before.
    server.state.set(SERVICES, service("late"));
    follower.until("a service", |f| f.has(MAIN, "late.shop.svc.cluster.local")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_the_mesh_leaves_out_are_shown_as_they_come_and_go() {
    let server = shop().await;
    let labelled = |name: &str, mesh: &str| json!({"metadata": {"name": name, "labels": {"mesh": mesh}}});
    server.state.set(NAMESPACES, labelled("shop", "yes"));
    server.state.set(NAMESPACES, labelled("lab", "no"));
    server.state.set(NAMESPACES, namespace("istio-system"));
    let dir = tempfile::tempdir().unwrap();
    let selector = MeshLabelSelector { match_labels: [("mesh".into(), "yes".into())].into(), ..Default::default() };
    let kubeconfig = server.kubeconfig();
    let mut follower = Follower::in_mesh(kubeconfig, dir.path(), Settings::default(), None, vec![selector]);
    follower.until("synced", |f| f.synced.contains(MAIN)).await;
    follower.unseen("the one that is not selected", |u| u.left_out == ["lab"] && u.left_out_count == 1).await;
    assert!(follower.has(MAIN, WEB));
    server.state.set(NAMESPACES, labelled("shop", "no"));
    follower.unseen("both", |u| u.left_out == ["lab", "shop"]).await;
    follower.until("what is in it goes", |f| !f.has(MAIN, WEB)).await;
    server.state.set(NAMESPACES, labelled("lab", "yes"));
    server.state.remove(NAMESPACES, "shop");
    follower.unseen("none", |u| u.left_out.is_empty() && u.left_out_count == 0).await;
}
