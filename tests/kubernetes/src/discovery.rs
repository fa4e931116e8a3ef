//! Paths that are no resources: versions, groups, what resources there are, health, keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, ETAG};
use serde_json::{Value, json};

use crate::ask::Asked;
use crate::kinds::{CUSTOM_VERBS, Kind, VERBS};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::server::{Server, locked};
use crate::store::Store;
use crate::tokens::ISSUER;

/// The version that it says to be.
pub(crate) const VERSION: &str = "v1.36.2";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers what is no resource.
pub(crate) fn answer(server: &Server, asked: &Asked) -> Result<Reply, Refusal> {
    let address = locked(&server.address).clone();
    let path = asked.path.trim_end_matches('/');
    let aggregated = asked.header("accept").contains("as=APIGroupDiscoveryList");
    let store = server.store();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let value = match parts.as_slice() {
        ["version"] => json!({
            "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
            "minCompatibilityMinor": "35", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.26.6", "compiler": "gc", "platform": "linux/amd64",
        }),
        ["healthz" | "livez" | "readyz", ..] => return Ok(Reply::text(200, "ok")),
        ["api"] if aggregated => return Ok(aggregate(&store, true)),
        ["apis"] if aggregated => return Ok(aggregate(&store, false)),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]}),
        ["apis"] => {
            let groups: Vec<Value> = groups(&store).into_keys().map(|name| group(&store, &name)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["api", "v1"] => resources(&store, "", "v1"),
        ["apis", name] if groups(&store).contains_key(*name) => {
            let mut group = group(&store, name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            group
        }
        ["apis", name, version] if has(&store, name, version) => resources(&store, name, version),
        [".well-known", "openid-configuration"] => json!({
            "issuer": ISSUER, "jwks_uri": format!("https://{address}/openid/v1/jwks"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }),
        ["openid", "v1", "jwks"] => {
            drop(store);
            let keys = server.signer.keys();
            return Ok(Reply::value(200, &keys).with(CONTENT_TYPE, "application/jwk-set+json"));
        }
        _ => return Err(Refusal::no_such_path()),
    };
    Ok(Reply::value(200, &value))
}

/// Groups with their versions, the preferred one first.
fn groups(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in store.kinds().filter(|k| !k.place.group.is_empty()) {
        let versions = groups.entry(kind.place.group.clone()).or_default();
        for version in kind.versions.iter().filter(|v| v.served) {
            if !versions.contains(&version.name) {
                versions.push(version.name.clone());
            }
        }
    }
    groups.retain(|_, versions| !versions.is_empty());
    for versions in groups.values_mut() {
        versions.sort_by_key(|v| crate::kinds::age(v));
    }
    groups
}

fn has(store: &Store, group: &str, version: &str) -> bool {
    groups(store).get(group).is_some_and(|versions| versions.iter().any(|v| v == version))
}

fn group(store: &Store, name: &str) -> Value {
    let versions: Vec<Value> = groups(store)
        .remove(name)
        .unwrap_or_default()
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    let preferred = versions.first().cloned();
    json!({"name": name, "versions": versions, "preferredVersion": preferred})
}

fn of(store: &Store, group: &str, version: &str) -> Vec<Arc<Kind>> {
    store.kinds().filter(|k| k.place.group == group && k.version(version).is_some()).cloned().collect()
}

fn verbs(kind: &Kind) -> Vec<&'static str> {
    if kind.asked_only {
        vec!["create"]
    } else if kind.custom {
        CUSTOM_VERBS.to_vec()
    } else if kind.name == "Namespace" {
        VERBS.iter().copied().filter(|v| *v != "deletecollection").collect()
    } else {
        VERBS.to_vec()
    }
}

/// The verbs of a subresource.
fn sub_verbs(sub: &str) -> Vec<&'static str> {
    match sub {
        "token" => vec!["create"],
        "finalize" => vec!["update"],
        _ => vec!["get", "patch", "update"],
    }
}

fn resources(store: &Store, group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for kind in of(store, group, version) {
        let mut resource = json!({"name": kind.place.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.name, "verbs": verbs(&kind)});
        for (key, words) in [("shortNames", &kind.short), ("categories", &kind.categories)] {
            if !words.is_empty() {
                resource[key] = json!(words);
            }
        }
        if !kind.asked_only {
            resource["storageVersionHash"] = hash(&kind).into();
        }
        list.push(resource);
        for sub in &kind.subresources {
            let mut resource = json!({"name": format!("{}/{sub}", kind.place.plural), "singularName": "",
                "namespaced": kind.namespaced, "kind": kind.name, "verbs": sub_verbs(sub)});
            if sub == "token" {
                resource["kind"] = "TokenRequest".into();
                resource["group"] = "authentication.k8s.io".into();
                resource["version"] = "v1".into();
            }
            list.push(resource);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut answer = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    if !group.is_empty() {
        answer["apiVersion"] = "v1".into();
    }
    answer
}

/// Something that stands for the version that a kind is kept in.
fn hash(kind: &Kind) -> String {
    use base64::Engine as _;
    let text = format!("{}/{}/{}", kind.place.group, kind.storage(), kind.name);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.as_ref().get(..8).unwrap_or_default())
}

fn aggregate(store: &Store, core: bool) -> Reply {
    let names: Vec<(String, Vec<String>)> =
        if core { vec![(String::new(), vec!["v1".to_owned()])] } else { groups(store).into_iter().collect() };
    let items: Vec<Value> = names
        .iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        of(store, name, version).iter().map(|k| aggregated(k, version)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, list.to_string().as_bytes());
    let tag: String = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    Reply::value(200, &list).with(CONTENT_TYPE, AGGREGATED).with(ETAG, &format!("\"{tag}\""))
}

fn aggregated(kind: &Kind, version: &str) -> Value {
    // Kinds of the server's own do not repeat their group and version.
    let response = |name: &str| {
        let (group, version) = if kind.custom { (kind.place.group.as_str(), version) } else { ("", "") };
        json!({"group": group, "version": version, "kind": name})
    };
    let mut resource = json!({
        "resource": kind.place.plural, "responseKind": response(&kind.name),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": verbs(kind),
    });
    for (key, words) in [("shortNames", &kind.short), ("categories", &kind.categories)] {
        if !words.is_empty() {
            resource[key] = json!(words);
        }
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let mut response = response(&kind.name);
            if sub == "token" {
                response = json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"});
            }
            json!({"subresource": sub, "responseKind": response, "verbs": sub_verbs(sub)})
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}
