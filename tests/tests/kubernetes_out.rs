//! What a cluster sees of joined hosts, from a join to a leave: as WorkloadEntry objects, and as endpoints of a service that
//! plain pods call. The API server is the double that is held against recordings of a real one; with
//! `HAWSER_TEST_KUBERNETES_REAL=1` it is a real one. Discovery has the rights that the manifest gives it, and no others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Cluster, Lab, isolated, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
const ENTRIES: &str = "/apis/networking.istio.io/v1/namespaces/default/workloadentries";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: ratings, namespace: default}\n\
                       spec: {selector: {app: ratings}, ports: [{name: http, port: 80, targetPort: http}]}\n";
const ZOMBIE: &str = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
                      metadata: {name: zombie, namespace: default, annotations: {hawser.io/mesh: cluster.local}}\n\
                      spec: {address: 192.0.2.7}\n";

fn objects(cluster: &Cluster, path: &str) -> Result<Vec<Value>> {
    Ok(cluster.must("GET", path, None)?["items"].as_array().cloned().unwrap_or_default())
}

/// Entries with the status of their health, if it was said.
fn entries(cluster: &Cluster) -> Vec<(String, String)> {
    let part = |entry: &Value| {
        let health = entry.pointer("/status/conditions/0/status").and_then(Value::as_str).unwrap_or_default();
        let address = entry.pointer("/spec/address").and_then(Value::as_str).unwrap_or_default();
        (address.to_owned(), health.to_owned())
    };
    objects(cluster, ENTRIES).map(|all| all.iter().map(part).collect()).unwrap_or_default()
}

/// Endpoints that are ready: address and port. The cluster's own slices have none, for there is no pod.
fn endpoints(cluster: &Cluster) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for slice in objects(cluster, SLICES).unwrap_or_default() {
        let port = slice.pointer("/ports/0/port").and_then(Value::as_u64).unwrap_or_default();
        let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
        let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true);
        all.extend(ready.map(|e| (e["addresses"][0].as_str().unwrap_or_default().to_owned(), port)));
    }
    all
}

fn uid(cluster: &Cluster) -> Result<Value> {
    let all = objects(cluster, ENTRIES)?;
    Ok(all.first().context("an entry")?["metadata"]["uid"].clone())
}

#[test]
fn a_joined_host_is_seen_in_the_cluster_until_it_leaves_and_what_a_former_run_left_goes() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let cluster = Cluster::start(&mut lab)?;
        let registries = cluster.prepare()?;
        cluster.apply(SERVICE)?;
        let mut mesh = Mesh::start_with(&mut lab, &["--registries", &registries])?;
        let vm = Member::joined(&mut lab, &mesh, "vm", "ratings", "v1")?;
        let address = vm.host.v4().to_string();
        let healthy = vec![(address.clone(), "True".to_owned())];
        wait::for_true("the host is an entry, and healthy", LIMIT, || entries(&cluster) == healthy)
            .with_context(|| format!("{:#?}", objects(&cluster, ENTRIES)))?;
        let ready = vec![(address.clone(), 9080)];
        wait::for_true("it is an endpoint", LIMIT, || endpoints(&cluster) == ready)
            .with_context(|| format!("{:#?}", objects(&cluster, SLICES)))?;
        // As a plain pod does, which knows an address and a port.
        let url = format!("http://{address}:9080/ratings/0");
        let answered = cluster.host.curl(&["--fail", "--max-time", "5", &url])?;
        ensure!(answered.ok(), "{}{}", answered.out, answered.err);
        ensure!(mesh.endpoints("ratings.default.svc.cluster.local")?.len() == 1, "what is written is read back");

        let before = uid(&cluster)?;
        mesh.kill_discovery();
        cluster.apply(ZOMBIE)?;
        mesh.start_discovery()?;
        wait::for_true("what a former run left goes", LIMIT, || entries(&cluster) == healthy)
            .with_context(|| format!("{:#?}", objects(&cluster, ENTRIES)))?;
        ensure!(uid(&cluster)? == before && endpoints(&cluster) == ready, "the host is left as it is");

        let left = vm.hawser(&["leave"])?;
        ensure!(left.ok(), "{}{}", left.out, left.err);
        wait::for_true("it is no entry, and no endpoint", LIMIT, || {
            entries(&cluster).is_empty() && endpoints(&cluster).is_empty()
        })
        .with_context(|| format!("{:#?}", objects(&cluster, SLICES)))?;
        Ok(())
    });
}
