//! Join tokens by way of a cluster: who has the right there makes them, and nobody else can read them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_api::join_request::{Object, Opener, Sealed, Status};
use hawser_tests::cluster::objects::{may_bring_hosts, services};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Cluster, Lab, Seen, isolated, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);
const REQUESTS: &str = "/apis/hawser.io/v1/namespaces/default/jointokenrequests";

/// `hawser token create --via-kubernetes` as somebody with that kubeconfig.
fn create(cluster: &Cluster, kubeconfig: &str, args: &[&str]) -> Result<Seen> {
    let all = [&["hawser", "token", "create", "--via-kubernetes", "--kubeconfig", kubeconfig], args].concat();
    cluster.host.run(&all)
}

/// A request as anybody may write one, and what becomes of it.
fn answered(cluster: &Cluster, name: &str, spec: &Value) -> Result<(Value, Status)> {
    let object = json!({"apiVersion": "hawser.io/v1", "kind": "JoinTokenRequest",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    cluster.must("POST", REQUESTS, Some(("application/json", &object)))?;
    wait::until(&format!("{name} is answered"), LIMIT, || {
        let object = cluster.must("GET", &format!("{REQUESTS}/{name}"), None).ok()?;
        let status: Status = serde_json::from_value(object["status"].clone()).ok()?;
        status.ready().is_some().then_some((object, status))
    })
}

fn left(cluster: &Cluster) -> Result<usize> {
    let list = cluster.must("GET", REQUESTS, None)?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}

#[test]
fn a_host_joins_with_a_token_that_the_clusters_rights_let_somebody_make() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let cluster = Cluster::start(&mut lab)?;
        let registries = cluster.prepare()?;
        cluster.apply(&services())?;
        cluster.apply(&may_bring_hosts("ops"))?;
        cluster.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: nobody, namespace: default}\n")?;
        let kubeconfig = |account: &str| -> Result<String> {
            let token = cluster.account_token("default", account, None, None)?;
            Ok(cluster.kubeconfig_with(&format!("{account}.kubeconfig"), &token)?.display().to_string())
        };
        let (ops, nobody) = (kubeconfig("ops")?, kubeconfig("nobody")?);
        let mut mesh = Mesh::start_with(&mut lab, &["--registries", &registries])?;

        // The whole way, with a double that fails once where the answer is written.
        cluster.fault(
            &json!({"on": {"verb": "patch", "resource": "jointokenrequests.hawser.io"}, "do": "internal", "times": 1}),
        )?;
        let args =
            ["--group", "details", "--port", "http=9080", "--label", "app=details", "--service-account", "details"];
        let seen = create(&cluster, &ops, &args)?;
        ensure!(seen.ok() && seen.out.starts_with("hwj1."), "{seen:?}");
        ensure!(left(&cluster)? == 0, "the request is gone when the command is");
        let mut host = Member::new(&mut lab, "details")?;
        host.bookinfo("details", "v1", "")?;
        host.join(seen.out.trim())?;
        mesh.healthy("details.default.svc.cluster.local", 1, LIMIT)?;
        let status = host.json(&["status"])?;
        let identity = &status["host"]["workloads"][0]["identity"];
        ensure!(status.to_string().contains("spiffe://cluster.local/ns/default/sa/details"), "{identity} {status:#}");

        refused(&cluster, &ops, &nobody)?;
        sealed(&cluster, &mut mesh)
    });
}

/// Who may not, and what can't be.
fn refused(cluster: &Cluster, ops: &str, nobody: &str) -> Result<()> {
    let group = ["--group", "details"];
    let seen = create(cluster, nobody, &group)?;
    ensure!(seen.code == 1 && seen.err.contains("forbidden") && seen.err.contains("rolebinding"), "{seen:?}");
    let seen = create(cluster, ops, &["--group", "kube-system/details"])?;
    ensure!(seen.code == 1 && seen.err.contains("forbidden"), "rights end with the namespace: {seen:?}");
    let seen = create(cluster, ops, &["--group", "unknown"])?;
    ensure!(seen.code == 4 && seen.err.contains("does not exist") && seen.err.contains("--port"), "{seen:?}");
    let seen = create(cluster, ops, &["--group", "details", "--context", "elsewhere"])?;
    ensure!(seen.code == 4 && seen.err.contains("elsewhere"), "{seen:?}");
    ensure!(left(cluster)? == 0, "what was refused is gone too");

    let key = Opener::new()?.public_key();
    for (name, spec, said) in [
        ("other", json!({"group": "kube-system/details", "publicKey": key}), "group"),
        (
            "account",
            json!({"group": "details", "serviceAccount": "kube-system/admin", "publicKey": key}),
            "service account",
        ),
        ("key", json!({"group": "details", "publicKey": "A".repeat(44)}), "spec.publicKey"),
    ] {
        let (object, status) = answered(cluster, name, &spec)?;
        let ready = status.ready().context("a condition")?;
        ensure!(ready.status == "False" && ready.reason == "Invalid" && ready.message.contains(said), "{object:#}");
        ensure!(status.sealed_token.is_empty(), "{object:#}");
        cluster.must("DELETE", &format!("{REQUESTS}/{name}"), None)?;
    }
    Ok(())
}

/// Who reads the object learns nothing, and an answer is given once.
fn sealed(cluster: &Cluster, mesh: &mut Mesh) -> Result<()> {
    let (mine, other) = (Opener::new()?, Opener::new()?);
    let (object, status) = answered(cluster, "sealed", &json!({"group": "details", "publicKey": mine.public_key()}))?;
    ensure!(status.ready().is_some_and(|ready| ready.status == "True"), "{object:#}");
    ensure!(!object.to_string().contains("hwj1"), "{object:#}");
    let uid = object["metadata"]["uid"].as_str().context("a uid")?;
    let of = Object { namespace: "default", name: "sealed", uid };
    let answer =
        Sealed { encapsulated_key: status.encapsulated_key.clone(), sealed_token: status.sealed_token.clone() };
    ensure!(other.open(&answer, of).is_err(), "another key opens it");
    let token = mine.open(&answer, of)?;
    ensure!(token.starts_with("hwj1."), "the key opens it");

    let ids = |mesh: &Mesh| -> Result<usize> { Ok(mesh.json(&["token", "list"])?.as_array().map_or(0, Vec::len)) };
    let before = ids(mesh)?;
    mesh.kill_discovery();
    mesh.start_discovery()?;
    // One that is made later is answered after all that were there.
    answered(cluster, "later", &json!({"group": "details", "publicKey": other.public_key()}))?;
    let now = cluster.must("GET", &format!("{REQUESTS}/sealed"), None)?;
    ensure!(now["status"] == object["status"], "{now:#}");
    ensure!(ids(mesh)? == before + 1, "only what was not answered got a token");
    Ok(())
}
