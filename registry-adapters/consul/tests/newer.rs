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
    assert!(
        followed.rejected.values().any(|why| why.contains("dc1/bad: the answer can't be read")),
        "{:?}",
        followed.rejected
    );
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
    followed.until("the first state", |f| f.synced).await;
    assert!(followed.rejected.values().any(|why| why.contains("can't be part of a host name")));
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
