//! Tokens: asked for, looked at, used.

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};
use crate::compare::{Names, Verdict, differences};
use crate::recordings::read;

/// Tokens that were signed by hand with the real server's key, answers that the real one keeps for 10 s, and a list of rules.
const LEFT_OUT: [&str; 8] = [
    "review-expired",
    "review-not-yet",
    "review-other-issuer",
    "review-other-key",
    "review-unknown-sa",
    "review-alg-none",
    "review-pod-gone-at-once",
    "ssrr",
];

#[tokio::test]
async fn tokens_are_made_and_reviewed_as_the_real_server_does_it() {
    let cluster = Cluster::start().await;
    cluster.namespace("tok").await;
    let accounts = "/api/v1/namespaces/tok/serviceaccounts";
    let pods = "/api/v1/namespaces/tok/pods";
    let made = |kind: &str, name: &str| json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name}});
    for account in ["web", "gone", "reader"] {
        cluster.make(accounts, made("ServiceAccount", account)).await;
    }
    let mut names = Names::default();
    let node = cluster.make("/api/v1/nodes", made("Node", "node-a")).await;
    names.insert("5b7108b3-aa6c-4e27-ab77-1388257e3d33", node["metadata"]["uid"].as_str().unwrap());
    let mut pod = made("Pod", "web-0");
    pod["spec"] =
        json!({"serviceAccountName": "web", "nodeName": "node-a", "containers": [{"name": "a", "image": "a"}]});
    let uid = cluster.make(pods, pod.clone()).await["metadata"]["uid"].as_str().unwrap().to_owned();
    names.insert("ffd53054-8f03-4c42-bc01-9cf1baf1f640", &uid);
    names.insert("static-admin-token", &cluster.admin);
    let other = cluster.token("tok", "web", &["istio-ca"]).await;
    let mut default = String::new();
    let mut verdict = Verdict::default();
    for exchange in read("tokens.json").iter().filter(|x| !LEFT_OUT.contains(&x.name.as_str())) {
        match exchange.name.as_str() {
            "review-pod-gone" => {
                let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
                assert_eq!(cluster.ask("DELETE", &format!("{pods}/web-0"), now).await.status, 200);
                cluster.forgets_tokens().await;
            }
            "review-pod-recreated" => drop(cluster.make(pods, pod.clone()).await),
            "review-sa-gone" => {
                assert_eq!(cluster.ask("DELETE", &format!("{accounts}/gone"), Value::Null).await.status, 200);
                cluster.forgets_tokens().await;
            }
            "review-sa-recreated" => drop(cluster.make(accounts, made("ServiceAccount", "gone")).await),
            "ssar-allowed" => grant(&cluster).await,
            _ => {}
        }
        let istio = exchange.headers.iter().any(|(_, v)| v == "Bearer <istio-ca token>");
        let own = exchange.headers.iter().any(|(_, v)| v == "Bearer <default token of tok/web>");
        let token = if istio {
            &other
        } else if own || exchange.name == "self-subject-review" {
            &default
        } else {
            &cluster.admin
        };
        let mut body = names.put_in(&exchange.body);
        if exchange.name == "review-bad-signature" {
            body["spec"]["token"] = format!("{}AAAA", &other[..other.len() - 4]).into();
        }
        let answer = cluster.replay(exchange, &body, Some(token)).await;
        names.learn(&exchange.answered, &answer.body);
        if exchange.name == "request-default" {
            default = answer.body["status"]["token"].as_str().unwrap().to_owned();
        }
        let mut wrong = Vec::new();
        if answer.status != exchange.status {
            wrong.push(format!("status {} instead of {}", answer.status, exchange.status));
        }
        wrong.extend(differences(&comparable(&exchange.answered), &comparable(&answer.body)).into_iter().filter(|l| {
            // Only what mattered was recorded of it.
            exchange.name != "pod-delete-graceful" || !l.contains("should not be there")
        }));
        verdict.add(&exchange.name, wrong);
    }
    verdict.hold(35);
}

/// Without the tokens, and without the managed fields, which reviews have no use for.
fn comparable(body: &Value) -> Value {
    let mut body = body.clone();
    for at in ["/spec/token", "/status/token"] {
        if let Some(token) = body.pointer_mut(at) {
            *token = "<token>".into();
        }
    }
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if let Some(attributes) = body.pointer_mut("/spec/resourceAttributes").and_then(Value::as_object_mut) {
        // The core group is written as nothing.
        attributes.retain(|_, value| value != "");
    }
    body
}

async fn grant(cluster: &Cluster) {
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = json!({"kind": "Role", "apiVersion": rbac, "metadata": {"name": "r", "namespace": "tok"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]});
    let binding = json!({"kind": "RoleBinding", "apiVersion": rbac, "metadata": {"name": "rb", "namespace": "tok"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": "tok"}]});
    cluster.make(&format!("/apis/{rbac}/namespaces/tok/roles"), role).await;
    cluster.make(&format!("/apis/{rbac}/namespaces/tok/rolebindings"), binding).await;
    // A real server has it a moment later.
    let own = json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {
        "user": "system:serviceaccount:tok:web", "groups": [],
        "resourceAttributes": {"namespace": "tok", "verb": "watch", "resource": "pods"}}});
    until("the role is known", async || {
        let answer = cluster.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", own.clone()).await;
        (answer.body["status"]["allowed"] == true).then_some(())
    })
    .await;
}
