//! What a server says that it has.

use serde_json::{Value, json};

use crate::cluster::{Cluster, definition};
use crate::compare::{Verdict, differences};
use crate::recordings::read;

/// Left out: texts of the build, lists of hooks, the object of a definition (its schema was left out of the recording).
const LEFT_OUT: [&str; 3] = ["readyz-verbose", "crd-get", "crd-list-metadata"];

#[tokio::test]
async fn discovery_says_what_the_real_server_said() {
    let cluster = Cluster::double_with_definitions().await;
    let any = json!({"type": "object"});
    for (kind, plural, short) in
        [("AuthorizationPolicy", "authorizationpolicies", "ap"), ("PeerAuthentication", "peerauthentications", "pa")]
    {
        cluster.double().put(definition("security.istio.io", kind, plural, short, &any)).unwrap();
    }
    let mut verdict = Verdict::default();
    for exchange in read("discovery.json").iter().filter(|x| !LEFT_OUT.contains(&x.name.as_str())) {
        let anonymous = exchange.name.ends_with("anonymous");
        let token = Some(cluster.admin.as_str()).filter(|_| !anonymous);
        let answer = cluster.replay(exchange, &Value::Null, token).await;
        let mut wrong = Vec::new();
        if answer.status != exchange.status {
            wrong.push(format!("status {} instead of {}", answer.status, exchange.status));
        }
        let found = answer.headers.get("content-type").map(|v| v.to_str().unwrap());
        if exchange.answer_headers["content-type"].as_str() != found {
            wrong.push(format!("content type {found:?}"));
        }
        let (expected, actual) = (comparable(&exchange.answered), comparable(&answer.body));
        wrong.extend(differences(&expected, &actual).into_iter().filter(|line| !known(&exchange.name, line)));
        verdict.add(&exchange.name, wrong);
    }
    verdict.hold(22);
}

/// Lists by name, for the order of resources is none.
fn comparable(body: &Value) -> Value {
    let mut body = body.clone();
    for list in ["resources", "groups", "items"] {
        if let Some(items) = body[list].as_array() {
            let name = |item: &Value| {
                item["name"].as_str().or(item["metadata"]["name"].as_str()).unwrap_or_default().to_owned()
            };
            let by_name: serde_json::Map<String, Value> = items.iter().map(|i| (name(i), i.clone())).collect();
            body[list] = by_name.into();
        }
    }
    if body["kind"] == "APIGroupDiscoveryList" {
        for group in body["items"].as_object_mut().unwrap().values_mut() {
            for version in group["versions"].as_array_mut().unwrap() {
                let resources = version["resources"].as_array().unwrap().clone();
                let by_name = resources.into_iter().map(|r| (r["resource"].as_str().unwrap().to_owned(), r));
                version["resources"] = Value::Object(by_name.collect());
            }
        }
    }
    body
}

/// What is meant to differ.
fn known(exchange: &str, line: &str) -> bool {
    match exchange {
        // Other kinds than the recorded ones, on both sides: the double has what meshes and their tests ask for, and the
        // definitions that were applied here. Of their subresources it has status, finalize and token.
        "api-v1" | "apis" | "aggregated-apis" | "aggregated-api" | "istio-v1" | "istio-v1alpha3"
        | "authentication-v1" => {
            line.contains("should not be there") || line.contains("missing") || line.contains("/subresources: ")
        }
        "version" | "version-anonymous" => line.starts_with("/gitCommit"),
        "api" => line.starts_with("/serverAddressByClientCIDRs"),
        "openid-configuration" => line.starts_with("/jwks_uri"),
        "jwks" => line.starts_with("/keys/0/n") || line.starts_with("/keys/0/kid"),
        _ => false,
    }
}
