//! What a cluster sees of joined hosts, from a join to a leave: as WorkloadEntry objects, and as endpoints of a service that
//! plain pods call. The API server is the double that is held against recordings of a real one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_api::istio::{Kind, definition};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Host, Lab, Process, isolated, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// A cluster: its API server, and a kubeconfig for it.
struct Cluster {
    host: Host,
    _server: Process,
    kubeconfig: String,
}

impl Cluster {
    /// With these objects, and definitions of Istio's kinds.
    fn start(lab: &mut Lab, objects: &[Value]) -> Result<Self> {
        let host = lab.host("cluster")?;
        let all: Vec<String> =
            Kind::ALL.into_iter().map(definition).chain(objects.to_vec()).map(|o| o.to_string()).collect();
        let file = host.disk().join("objects.yaml");
        std::fs::write(&file, all.join("\n---\n"))?;
        let kubeconfig = host.disk().join("kubeconfig").display().to_string();
        let (address, file) = (host.v4().to_string(), file.display().to_string());
        let listen = format!("{address}:6443");
        let flags = ["--listen", &listen, "--name", &address, "--kubeconfig", &kubeconfig, "--apply", &file];
        let control = ["--no-kubelet", "--control", "127.0.0.1:8001"];
        let mut server = host.spawn("kube", &[&["hawser-kube-double"], &flags[..], &control].concat())?;
        server.says("ready", Duration::from_secs(10))?;
        Ok(Self { host, _server: server, kubeconfig })
    }

    fn objects(&self, kind: &str) -> Result<Vec<Value>> {
        let seen =
            self.host.curl(&["--fail", &format!("http://127.0.0.1:8001/objects?kind={kind}&namespace=default")])?;
        serde_json::from_str(&seen.out).with_context(|| seen.out.clone())
    }

    fn apply(&self, object: &Value) -> Result<()> {
        let seen = self.host.curl(&["--fail", "--data-binary", &object.to_string(), "http://127.0.0.1:8001/apply"])?;
        ensure!(seen.ok(), "{}{}", seen.out, seen.err);
        Ok(())
    }

    /// Entries with the status of their health, if it was said.
    fn entries(&self) -> Vec<(String, String)> {
        let part = |entry: &Value| {
            let health = entry.pointer("/status/conditions/0/status").and_then(Value::as_str).unwrap_or_default();
            let address = entry.pointer("/spec/address").and_then(Value::as_str).unwrap_or_default();
            (address.to_owned(), health.to_owned())
        };
        self.objects("WorkloadEntry").map(|all| all.iter().map(part).collect()).unwrap_or_default()
    }

    /// Endpoints of ours that are ready: address and port.
    fn endpoints(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for slice in self.objects("EndpointSlice").unwrap_or_default() {
            let port = slice.pointer("/ports/0/port").and_then(Value::as_u64).unwrap_or_default();
            let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
            let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true);
            all.extend(ready.map(|e| (e["addresses"][0].as_str().unwrap_or_default().to_owned(), port)));
        }
        all
    }
}

#[test]
fn a_joined_host_is_seen_in_the_cluster_until_it_leaves_and_what_a_former_run_left_goes() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ratings", "namespace": "default"},
            "spec": {"selector": {"app": "ratings"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
        let cluster = Cluster::start(&mut lab, &[service])?;
        let file = cluster.host.disk().join("registries.yaml");
        let kubeconfig = &cluster.kubeconfig;
        let kubernetes = format!("{{kubeconfig: {kubeconfig:?}, remoteClusters: {{disabled: true}}}}");
        std::fs::write(&file, format!("registries:\n- name: main\n  kubernetes: {kubernetes}\n"))?;
        let mut mesh = Mesh::start_with(&mut lab, &["--registries", &file.display().to_string()])?;
        let vm = Member::joined(&mut lab, &mesh, "vm", "ratings", "v1")?;
        let address = vm.host.v4().to_string();
        let healthy = vec![(address.clone(), "True".to_owned())];
        wait::for_true("the host is an entry, and healthy", LIMIT, || cluster.entries() == healthy)
            .with_context(|| format!("{:#?}", cluster.objects("WorkloadEntry")))?;
        let ready = vec![(address.clone(), 9080)];
        wait::for_true("it is an endpoint", LIMIT, || cluster.endpoints() == ready)
            .with_context(|| format!("{:#?}", cluster.objects("EndpointSlice")))?;
        // As a plain pod does, which knows an address and a port.
        let url = format!("http://{address}:9080/ratings/0");
        let answered = cluster.host.curl(&["--fail", "--max-time", "5", &url])?;
        ensure!(answered.ok(), "{}{}", answered.out, answered.err);
        ensure!(mesh.endpoints("ratings.default.svc.cluster.local")?.len() == 1, "what is written is read back");

        let uid =
            |cluster: &Cluster| Ok::<_, anyhow::Error>(cluster.objects("WorkloadEntry")?[0]["metadata"]["uid"].clone());
        let before = uid(&cluster)?;
        mesh.kill_discovery();
        cluster.apply(&json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": "zombie", "namespace": "default", "annotations": {"hawser.io/mesh": "cluster.local"}},
            "spec": {"address": "192.0.2.7"}}))?;
        mesh.start_discovery()?;
        wait::for_true("what a former run left goes", LIMIT, || cluster.entries() == healthy)
            .with_context(|| format!("{:#?}", cluster.objects("WorkloadEntry")))?;
        ensure!(uid(&cluster)? == before && cluster.endpoints() == ready, "the host is left as it is");

        let left = vm.hawser(&["leave"])?;
        ensure!(left.ok(), "{}{}", left.out, left.err);
        wait::for_true("it is no entry, and no endpoint", LIMIT, || {
            cluster.entries().is_empty() && cluster.endpoints().is_empty()
        })
        .with_context(|| format!("{:#?}", cluster.objects("EndpointSlice")))?;
        Ok(())
    });
}
