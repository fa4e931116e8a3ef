//! Events of resources that are refused. Pure.
//!
//! The name of an event is made of what it is about and what it says: the same one is there once, whoever says it again.

use hawser_registry_source::settings::digest;
use serde_json::{Value, json};

use super::conditions::shorten;
use crate::name::Name;

/// Who says it.
const REPORTER: &str = "hawser.io/discovery";

/// What an event is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a Name,
    pub(super) uid: &'a str,
    pub(super) version: &'a str,
}

/// What tells one event from another.
pub(super) fn key(uid: &str, message: &str) -> u64 {
    digest(&format!("{uid} {message}"))
}

/// The event; `now` with microseconds.
pub(super) fn event(about: About<'_>, message: &str, now: &str) -> Value {
    let (namespace, object) = (&*about.name.namespace, &*about.name.name);
    let name: String = object.chars().take(200).collect();
    let name = format!("{}.{:016x}", name.trim_end_matches(['.', '-']), key(about.uid, message));
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"namespace": namespace, "name": name},
        "eventTime": now, "type": "Warning", "reason": "Refused", "action": "Read", "note": shorten(message),
        "reportingController": REPORTER, "reportingInstance": "hawser-discovery",
        "regarding": {"apiVersion": about.api_version, "kind": about.kind, "namespace": namespace, "name": object,
            "uid": about.uid, "resourceVersion": about.version},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_word_of_the_same_object_is_the_same_event() {
        let name = Name::new("shop", &"a".repeat(253));
        let of = |uid, version, message: &str| {
            let about =
                About { api_version: "networking.istio.io/v1", kind: "VirtualService", name: &name, uid, version };
            event(about, message, "2026-01-01T00:00:00.000000Z")
        };
        let name = |event: Value| event["metadata"]["name"].as_str().unwrap().to_owned();
        let first = name(of("u", "1", "spec.http: wrong"));
        assert!(first.len() <= 253);
        assert_eq!(name(of("u", "2", "spec.http: wrong")), first, "written again and still wrong");
        assert_ne!(name(of("u", "2", "spec.tcp: wrong")), first);
        assert_ne!(name(of("v", "1", "spec.http: wrong")), first, "another object of that name");
        assert!(of("u", "1", &"x".repeat(5000))["note"].as_str().unwrap().len() <= 1024);
    }
}
