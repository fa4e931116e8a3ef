use hawser_mesh::{Event, Publisher, RegistryKind};
use hawser_registry_source::{Context, Driver, Settings};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use super::*;
use crate::registry::{MemoryBook, Settings as MeshSettings, spawn};

fn id(kind: RegistryKind, name: &str) -> RegistryId {
    RegistryId { kind, name: name.into() }
}

#[tokio::test]
async fn only_a_frozen_registry_takes_an_operators_word_and_by_its_last_name_if_that_is_enough() {
    let sources = Sources::default();
    let (consul, dns, other) =
        (id(RegistryKind::Consul, "a"), id(RegistryKind::DnsSrv, "a"), id(RegistryKind::HttpSd, "b"));
    let mut contexts = Vec::new();
    for id in [&consul, &dns, &other] {
        let (context, handle) = Context::alone(id, None);
        sources.add(id.clone(), handle);
        contexts.push(context);
    }
    let (sender, _receiver) = mpsc::channel(8);
    let publisher = Publisher::new(other.clone(), sender);
    let mut driver = Driver::start(publisher, contexts.remove(2), &Settings::default(), 0).await.unwrap();
    let accept = |name: &str| sources.accept(name).map(|(name, _)| name);
    assert_eq!(accept("x"), Err(NotAccepted::Unknown("x".into())));
    assert_eq!(accept("a"), Err(NotAccepted::Ambiguous("a".into(), "consul/a, dns_srv/a".into())));
    assert_eq!(accept("b"), Err(NotAccepted::NotFrozen("http_sd/b".into())));
    driver.doubt("the token lost its rights").await.unwrap();
    assert_eq!(accept("http_sd/b"), Ok("http_sd/b".into()));
    assert_eq!(accept("b"), Ok("http_sd/b".into()));
}

#[tokio::test]
async fn machines_see_the_state_of_each_registry() {
    let sources = Sources::default();
    let consul = id(RegistryKind::Consul, "dc1");
    let expected = [consul.clone(), id(RegistryKind::Files, "")];
    let settings = MeshSettings::new("cluster.local".parse().unwrap());
    let (events, mut snapshots) = spawn(settings, expected, Box::new(MemoryBook)).unwrap();
    let (context, handle) = Context::alone(&consul, None);
    sources.add(consul.clone(), handle);
    let publisher = Publisher::new(consul, events.clone());
    let mut driver = Driver::start(publisher, context, &Settings::default(), 0).await.unwrap();
    driver.parts([]).await.unwrap();
    driver.failed("connection refused").await.unwrap();
    events.send((id(RegistryKind::Files, ""), vec![Event::Synced])).await.unwrap();
    snapshots.wait_for(|s| s.ready() && s.registries.iter().any(|r| r.stale.is_some())).await.unwrap();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(RegistryMetrics::new(snapshots, sources)));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        r#"hawser_registry_state{registry="consul/dc1",state="stale"} 1"#,
        r#"hawser_registry_state{registry="consul/dc1",state="synced"} 0"#,
        r#"hawser_registry_state{registry="files",state="synced"} 1"#,
        r#"hawser_registry_frozen{registry="consul/dc1"} 0"#,
        r#"hawser_registry_age_seconds{registry="consul/dc1"} 0."#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
