use std::sync::Arc;
use std::time::Duration;

use hawser_daemon::drain;
use hawser_mesh::{Event, Object, ObjectKey, Origin as Place, RegistryId, RegistryKind};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::registry::{self, MemoryBook, Settings, Snapshot, Snapshots};
use crate::store::{KeysRecord, Store};

/// An issuer that answers with what is there, or with an error.
async fn issuer(says: Arc<Mutex<Option<&'static str>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let said = *says.lock();
            let configuration = format!(r#"{{"issuer":"x","jwks_uri":"http://{at}/keys"}}"#);
            let (status, body) = match said {
                Some(_) if head.starts_with(b"GET /.well-known/openid-configuration ") => ("200 OK", &*configuration),
                Some(keys) => ("200 OK", keys),
                None => ("500 Internal Server Error", ""),
            };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{at}")
}

async fn until(snapshots: &mut Snapshots, is: impl Fn(&Snapshot) -> bool) {
    let found = tokio::time::timeout(Duration::from_secs(20), snapshots.wait_for(|snapshot| is(snapshot))).await;
    drop(found.expect("in time").unwrap());
}

#[tokio::test]
async fn keys_are_fetched_kept_and_renewed() {
    let says = Arc::new(Mutex::new(Some(r#"{"keys": [1]}"#)));
    let url = issuer(says.clone()).await;
    let files = RegistryId::only(RegistryKind::Files);
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: t}}\nspec: {{jwtRules: [\
         {{issuer: a, jwksUri: '{url}/keys', timeout: 2s}}, {{issuer: '{url}'}}, {{issuer: b, jwksUri: 'http://127.0.0.1:1/'}}]}}\n"
    );
    let resource = Arc::new(hawser_api::istio::parse_documents("a", &text).remove(0).unwrap().resource);
    let object = resource.object_ref();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (trigger, drain) = drain::channel();
    let (keeper, keys) = Keeper::load(store.clone(), Duration::from_millis(50)).unwrap();
    let settings = Settings::new("cluster.local".parse().unwrap());
    let (events, mut snapshots) =
        registry::spawn_with_keys(settings, [files.clone()], Box::new(MemoryBook), keys).unwrap();
    drain.spawn(keeper.run(snapshots.clone(), drain.clone()));
    let said = Event::Upsert(Object::Config(resource, Place { name: "a".into(), line: 1 }));
    events.send((files.clone(), vec![said, Event::Synced])).await.unwrap();

    let named = [Origin::Keys(format!("{url}/keys")), Origin::Issuer(url.clone())];
    let are = |snapshot: &Snapshot, keys: &str| {
        named.iter().all(|origin| snapshot.keys.get(origin).is_some_and(|found| **found == *keys))
    };
    until(&mut snapshots, |s| are(s, r#"{"keys":[1]}"#)).await;
    *says.lock() = Some(r#"{"keys":[2]}"#);
    until(&mut snapshots, |s| are(s, r#"{"keys":[2]}"#)).await;
    for (bad, why) in [(None, "500"), (Some("{}"), "it has no keys"), (Some("no"), "no JSON")] {
        *says.lock() = bad;
        until(&mut snapshots, |s| s.keys.problem(&named[0]).is_some_and(|p| p.contains(why))).await;
        assert!(are(&snapshots.borrow(), r#"{"keys":[2]}"#), "the last good ones stay");
    }
    let never = Origin::Keys("http://127.0.0.1:1/".to_owned());
    until(&mut snapshots, |s| s.keys.problem(&never).is_some()).await;
    assert_eq!(snapshots.borrow().keys.get(&never), None);
    let told = snapshots.borrow().configs[0].messages.join("\n");
    assert!(told.contains("spec.jwtRules[2]: http://127.0.0.1:1/: ") && told.contains("are refused"), "{told}");

    let (_, kept) = Keeper::load(store.clone(), REFRESH).unwrap();
    assert!(named.iter().all(|origin| kept.borrow().get(origin).is_some()), "over a restart");
    events.send((files, vec![Event::Delete(ObjectKey::Config(object))])).await.unwrap();
    until(&mut snapshots, |s| named.iter().all(|origin| s.keys.get(origin).is_none())).await;
    assert!(store.list::<KeysRecord>().unwrap().is_empty());
    assert!(trigger.drain(Duration::from_secs(5)).await);
}
