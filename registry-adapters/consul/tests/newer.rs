//! The adapter and an imitation of Consul (see `common/fake.rs`: it is NOT Consul), for what the Consul that tests can have
//! does not do: what newer servers say, and how servers refuse.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::Followed;
use common::fake::Fake;
use hawser_registry_consul::Settings;

fn settings(fakes: &[&Fake]) -> Settings {
    let fast = Settings { sweep: Duration::from_secs(1), ..Settings::new(fakes.iter().map(|f| f.url.clone())) };
    Settings { ca_file: fakes[0].root.clone(), ..fast }
}

fn web(f: &Followed) -> Option<u16> {
    f.services.get("web.service.dc1.consul").map(|s| s.ports[0].port)
}

const WEB: &str = "web.service.dc1.consul";

#[tokio::test]
async fn over_http2_hundreds_of_queries_wait_on_few_connections() {
    let fake = Fake::with_tls().await;
    let names: Vec<String> = (0..400).map(|n| format!("s{n}")).collect();
    fake.quietly(|state| state.services.extend(names.iter().map(|name| (name.clone(), 80))));
    let mut followed = Followed::start(settings(&[&fake]));
    followed.until("the first state", |f| f.synced && f.workloads.len() == 401).await;
    followed.subscribe(names.iter().map(|name| format!("{name}.service.dc1.consul")));
    followed.until("all wait", |_| fake.state.lock().waiting >= 400).await;
    assert!(fake.state.lock().asked.iter().skip(1).all(|(_, version)| *version == http::Version::HTTP_2));
    fake.change(|state| {
        state.services.insert("s399".to_owned(), 81);
    });
    followed.until("a change", |f| f.services["s399.service.dc1.consul"].ports[0].port == 81).await;
}

#[tokio::test]
async fn a_server_over_its_rate_is_left_for_another_and_one_that_can_not_serve_is_left_alone() {
    let (limited, good) = (Fake::start().await, Fake::start().await);
    limited.quietly(|state| state.status = Some(429));
    let mut followed = Followed::start(settings(&[&limited, &good]));
    followed.until("the other one answers", |f| f.synced && web(f) == Some(8080)).await;
    for fake in [&limited, &good] {
        fake.change(|state| state.status = Some(503));
    }
    followed
        .until("it is told", |f| f.stale.as_ref().is_some_and(|why| why.contains("no server can answer now")))
        .await;
    let asked = || limited.state.lock().asked.len() + good.state.lock().asked.len();
    let before = asked();
    followed.stays("the last state", Duration::from_secs(5), |f| web(f) == Some(8080)).await;
    assert!(asked() - before < 150, "{} questions in five seconds", asked() - before);
    for fake in [&limited, &good] {
        fake.change(|state| {
            state.status = None;
            state.services.insert("web".to_owned(), 9090);
        });
    }
    followed.until("it goes on", |f| f.stale.is_none() && web(f) == Some(9090)).await;
}

#[tokio::test]
async fn an_old_answer_is_refused_while_another_server_is_fresher() {
    let (behind, fresh) = (Fake::start().await, Fake::start().await);
    behind.quietly(|state| {
        state.headers.insert("X-Consul-LastContact", "45000".to_owned());
        state.services.insert("web".to_owned(), 1111);
    });
    let mut followed = Followed::start(settings(&[&behind, &fresh]));
    followed.until("the fresh one is believed", |f| f.synced && web(f) == Some(8080)).await;
    behind.quietly(|state| {
        state.headers.insert("X-Consul-LastContact", "0".to_owned());
        state.headers.insert("X-Consul-KnownLeader", "false".to_owned());
    });
    followed.stays("a server without a leader is not", Duration::from_secs(3), |f| web(f) == Some(8080)).await;
}

#[tokio::test]
async fn an_old_answer_is_better_than_none() {
    let alone = Fake::start().await;
    alone.quietly(|state| {
        state.headers.insert("X-Consul-KnownLeader", "false".to_owned());
    });
    let mut followed = Followed::start(settings(&[&alone]));
    followed.until("it is taken", |f| f.synced && web(f) == Some(8080)).await;
}

#[tokio::test]
async fn answers_from_a_stream_are_taken_though_they_say_nothing_of_a_leader() {
    let fake = Fake::start().await;
    fake.quietly(|state| {
        state.headers.insert("X-Consul-Query-Backend", "streaming".to_owned());
        state.headers.insert("X-Consul-KnownLeader", "false".to_owned());
    });
    let mut followed = Followed::start(settings(&[&fake]));
    followed.until("the first state", |f| f.synced && web(f) == Some(8080)).await;
    followed.subscribe([WEB.to_owned()]);
    fake.change(|state| {
        state.services.insert("web".to_owned(), 9090);
    });
    followed.until("a change", |f| web(f) == Some(9090)).await;
}

#[tokio::test]
async fn the_mark_of_filtering_freezes_what_was_known() {
    let fake = Fake::start().await;
    let mut followed = Followed::start(settings(&[&fake]));
    followed.until("the first state", |f| f.synced).await;
    fake.change(|state| {
        state.headers.insert("X-Consul-Results-Filtered-By-ACLs", "true".to_owned());
        state.services.remove("web");
    });
    followed.until("the alarm", |f| f.stale.as_ref().is_some_and(|why| why.contains("hides services"))).await;
    followed.stays("the last state", Duration::from_secs(3), |f| web(f) == Some(8080)).await;
    fake.change(|state| state.headers.clear());
    followed.until("what is gone is gone", |f| f.stale.is_none() && web(f).is_none()).await;
}

#[tokio::test]
async fn partitions_and_namespaces_are_asked_for_and_named() {
    let fake = Fake::start().await;
    // Servers are in the default partition only.
    fake.quietly(|state| {
        state.services.remove("consul");
    });
    let settings = Settings {
        partitions: vec!["east".to_owned()],
        namespaces: [("team".to_owned(), "shop".to_owned())].into(),
        ..settings(&[&fake])
    };
    let mut followed = Followed::start(settings);
    followed.until("the first state", |f| f.synced).await;
    assert_eq!(followed.services.keys().collect::<Vec<_>>(), ["web.service.team.ns.east.ap.dc1.dc.consul"]);
    assert_eq!(&*followed.workloads["n1/web"].key.namespace, "shop");
    let asked = fake.state.lock().asked.clone();
    let scoped = asked.iter().filter(|(uri, _)| !uri.contains("/agent/self"));
    assert!(scoped.clone().all(|(uri, _)| uri.contains("dc=dc1&partition=east&ns=team")), "{asked:?}");
}

#[tokio::test]
async fn answers_that_are_no_json_take_nothing_with_them() {
    let fake = Fake::start().await;
    fake.quietly(|state| {
        state.services.insert("bad".to_owned(), 80);
        state.bodies.insert("/health/service/bad", "[{]".to_owned());
    });
    let mut followed = Followed::start(settings(&[&fake]));
    followed.until("the first state", |f| f.synced && web(f) == Some(8080)).await;
    let told = |f: &Followed| f.rejected.values().any(|why| why.contains("dc1/bad: the answer can't be read"));
    followed.until("it is told", told).await;
    fake.change(|state| {
        state.bodies.insert("/catalog/services", "<html>".to_owned());
    });
    followed.until("it is told", |f| f.stale.as_ref().is_some_and(|why| why.contains("can't be read"))).await;
    assert_eq!(web(&followed), Some(8080));
    fake.change(|state| state.bodies.clear());
    followed.until("it is right again", |f| f.stale.is_none() && f.rejected.is_empty()).await;
}

#[tokio::test]
async fn names_of_services_are_one_segment_of_the_path_whatever_is_in_them() {
    let fake = Fake::start().await;
    fake.quietly(|state| {
        state.services.insert("../../v1/kv/x?y=1#z".to_owned(), 80);
    });
    let mut followed = Followed::start(settings(&[&fake]));
    let told = |f: &Followed| f.rejected.values().any(|why| why.contains("can't be part of a host name"));
    followed.until("the first state", |f| f.synced && told(f)).await;
    let asked = fake.state.lock().asked.clone();
    assert!(asked.iter().all(|(uri, _)| !uri.contains("/kv/")), "{asked:?}");
}

#[tokio::test]
async fn a_query_that_returns_without_a_change_makes_no_event() {
    let fake = Fake::start().await;
    let mut followed = Followed::start(settings(&[&fake]));
    followed.until("the first state", |f| f.synced).await;
    followed.subscribe([WEB.to_owned()]);
    let said = followed.said;
    for _ in 0..50 {
        fake.change(|_| {});
        followed.stays("nothing is said", Duration::from_millis(20), |f| f.said == said).await;
    }
    let asked = fake.state.lock().asked.iter().filter(|(uri, _)| uri.contains("/service/web?")).count();
    assert!(asked < 20, "{asked} questions about nothing");
}

#[tokio::test]
async fn a_server_without_http2_beside_one_that_has_it_gets_no_more_queries_than_it_takes() {
    let (newer, older) = (Fake::with_tls().await, Fake::start().await);
    let names: Vec<String> = (0..400).map(|n| format!("s{n}")).collect();
    for fake in [&newer, &older] {
        fake.quietly(|state| state.services.extend(names.iter().map(|name| (name.clone(), 80))));
    }
    let mut followed = Followed::start(settings(&[&newer, &older]));
    followed.until("the first state", |f| f.synced && f.workloads.len() == 401).await;
    followed.subscribe(names.iter().map(|name| format!("{name}.service.dc1.consul")));
    let waiting = || newer.state.lock().waiting + older.state.lock().waiting;
    followed
        .until("queries wait at both", |_| older.state.lock().waiting > 40 && newer.state.lock().waiting > 40)
        .await;
    // Room for 118, and the lists. Before the second one answered, all were meant to go to the first.
    let settled = |_: &Followed| waiting() <= 118 + 8;
    followed.until("no more than there is room for", settled).await;
    followed.stays("no more than there is room for", Duration::from_secs(3), settled).await;
}

#[tokio::test]
async fn roots_are_read_again_when_their_file_changes_and_those_that_can_not_be_used_change_nothing() {
    let (server, other) = (Fake::with_tls().await, Fake::with_tls().await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roots.pem");
    std::fs::copy(other.root.clone().unwrap(), &file).unwrap();
    let settings = Settings { ca_file: Some(file.clone()), ..settings(&[&server]) };
    let mut followed = Followed::start(settings);
    followed.until("its root is not known", |f| f.stale.is_some()).await;
    std::fs::write(&file, std::fs::read(server.root.clone().unwrap()).unwrap()).unwrap();
    followed.until("its root is known", |f| f.stale.is_none() && f.synced && web(f) == Some(8080)).await;
    std::fs::write(&file, "no certificate\n").unwrap();
    followed.subscribe([WEB.to_owned()]);
    followed.stays("what was read before counts", Duration::from_secs(3), |f| f.stale.is_none()).await;
    server.change(|state| {
        state.services.insert("web".to_owned(), 9090);
    });
    followed.until("a change", |f| web(f) == Some(9090)).await;
}

#[tokio::test]
async fn an_answer_larger_than_is_read_is_told_and_the_others_go_on() {
    let fake = Fake::start().await;
    fake.quietly(|state| {
        state.services.insert("large".to_owned(), 80);
        state.bodies.insert("/health/service/large", " ".repeat(65 << 20));
    });
    let mut followed = Followed::start(settings(&[&fake]));
    followed.until("the first state", |f| f.synced && web(f) == Some(8080)).await;
    let told =
        |f: &Followed| f.rejected.values().any(|why| why.contains("dc1/large: the answer is larger than 64 MiB"));
    followed.until("it is told", told).await;
    fake.change(|state| {
        state.bodies.clear();
        state.services.insert("web".to_owned(), 9090);
    });
    followed
        .until("both are followed", |f| {
            web(f) == Some(9090) && f.services.contains_key("large.service.dc1.consul") && f.rejected.is_empty()
        })
        .await;
}

#[tokio::test]
async fn names_that_would_play_with_a_terminal_are_shown_without_that() {
    let fake = Fake::start().await;
    fake.quietly(|state| {
        state.services.insert("bad\u{1b}[2J\nname".to_owned(), 80);
        state.services.insert("x".repeat(2000), 80);
    });
    let mut followed = Followed::start(settings(&[&fake]));
    followed.until("both are told", |f| f.synced && f.rejected.len() == 2).await;
    for (origin, why) in &followed.rejected {
        assert!(
            origin.name.len() < 300
                && why.len() < 600
                && !why.chars().chain(origin.name.chars()).any(|c| c.is_control())
        );
    }
}

fn peering(state: &str, services: &[&str]) -> String {
    serde_json::json!({"Name": "east", "State": state, "StreamStatus": {"ImportedServices": services}}).to_string()
}

#[tokio::test]
async fn services_of_a_peer_are_a_registry_of_their_own_and_a_peering_that_fails_takes_nothing() {
    let fake = Fake::start().await;
    let sidecar = serde_json::json!([{
        "Node": {"Node": "gateway", "Address": "198.51.100.1"},
        "Service": {"ID": "web-sidecar-proxy", "Kind": "connect-proxy", "Address": "198.51.100.1", "Port": 8443},
    }]);
    fake.quietly(|state| {
        state.bodies.insert("/peering/east", peering("ACTIVE", &["web", "web-sidecar-proxy"]));
        state.bodies.insert("/health/service/web-sidecar-proxy", sidecar.to_string());
    });
    let settings = Settings { peers: vec!["east".to_owned()], ..settings(&[&fake]) };
    let mut followed = Followed::part(settings, 1, None);
    followed.until("the first state", |f| f.synced).await;
    let hosts = |f: &Followed| f.services.keys().cloned().collect::<Vec<_>>();
    // What is behind a mesh gateway of Consul's can't be called by others.
    assert_eq!(hosts(&followed), ["web.service.east.peer.consul"]);
    let asked: Vec<String> = fake.state.lock().asked.iter().map(|(uri, _)| uri.clone()).collect();
    let about = |part: &str| asked.iter().filter(|uri| uri.contains(part)).cloned().collect::<Vec<_>>();
    assert!(!about("/health/service/").is_empty() && about("/catalog/").is_empty() && about("/state/").is_empty());
    assert!(about("/health/service/").iter().all(|uri| uri.contains("peer=east")), "{asked:?}");

    // What is subscribed to waits at the server, the rest is swept.
    followed.subscribe(["web.service.east.peer.consul".to_owned()]);
    fake.change(|state| {
        state.services.insert("web".to_owned(), 9090);
    });
    let port = |f: &Followed| f.services.get("web.service.east.peer.consul").map(|s| s.ports[0].port);
    followed.until("a change", |f| port(f) == Some(9090)).await;
    fake.change(|state| {
        state.services.insert("db".to_owned(), 5432);
        state.bodies.insert("/peering/east", peering("ACTIVE", &["web", "db"]));
    });
    followed.until("a new one", |f| f.services.contains_key("db.service.east.peer.consul")).await;
    fake.change(|state| {
        state.services.insert("db".to_owned(), 5433);
    });
    let db = |f: &Followed| f.services.get("db.service.east.peer.consul").map(|s| s.ports[0].port);
    followed.until("a change that only a sweep finds", |f| db(f) == Some(5433)).await;

    fake.change(|state| {
        state.bodies.insert("/peering/east", peering("FAILING", &[]));
    });
    followed.until("it is told", |f| f.stale.as_ref().is_some_and(|why| why.contains("not ACTIVE"))).await;
    assert_eq!(hosts(&followed).len(), 2);
    fake.change(|state| {
        state.bodies.insert("/peering/east", peering("ACTIVE", &["web"]));
    });
    followed.until("it works again", |f| f.stale.is_none() && hosts(f) == ["web.service.east.peer.consul"]).await;
}
