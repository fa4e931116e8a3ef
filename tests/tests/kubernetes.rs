//! A Kubernetes cluster as a registry, from its API to a request: one name that a pod and a joined host serve. Namespaces stand for
//! pods; the API server is the double that is held against recordings of a real one.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hawser_tests::cluster::objects::nodes;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Cluster, Host, Lab, isolated, wait};

const RATINGS: &str = "ratings.default.svc.cluster.local";
/// Another name for it.
const SCORES: &str = "scores.default.svc.cluster.local";
const LIMIT: Duration = Duration::from_secs(20);

/// A service, another name for it, and its pod, which is that host.
fn ratings(pod: &Host) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: ratings, namespace: default}}\n\
         spec: {{selector: {{app: ratings}}, ports: [{{name: http, port: 9080, targetPort: 8000}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: scores, namespace: default}}\n\
         spec: {{type: ExternalName, externalName: {RATINGS}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: ratings-1, namespace: default, labels: {{app: ratings}}}}\n\
         spec: {{nodeName: node-a, serviceAccountName: default, containers: [{{name: main, image: none}}]}}\n\
         status: {{phase: Running, podIP: {0}, podIPs: [{{ip: {0}}}], \
         conditions: [{{type: Ready, status: 'True'}}]}}\n",
        pod.v4()
    )
}

#[test]
fn a_pod_and_a_joined_host_serve_one_name_and_an_api_server_that_is_gone_takes_nothing_away() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let pod = lab.host("pod")?;
        let mut server = pod.spawn("server", &["hawser-bookinfo", "ratings", "--port", "8000", "--marker", "pod"])?;
        server.says("ready", Duration::from_secs(5))?;
        let mut cluster = Cluster::start(&mut lab)?;
        // A pod of a node that nobody knows is in no slice.
        cluster.apply(&(nodes() + &ratings(&pod)))?;
        let file = cluster.registries(&cluster.kubeconfig()?)?;
        let mut mesh = Mesh::start_with(&mut lab, &["--registries", &file])?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "productpage", "v1")?;
        let url = format!("http://{RATINGS}:9080/ratings/0");
        let served_by = |marker: &str| {
            let seen = caller.host.curl(&["--fail", "--max-time", "2", "-D", "-", &url]);
            seen.is_ok_and(|s| s.ok() && s.out.contains(&format!("x-served-by: {marker}")))
        };
        wait::for_true("the pod answers", LIMIT, || served_by("pod"))?;

        let _vm = Member::joined(&mut lab, &mesh, "vm", "ratings", "v1")?;
        wait::for_true("the joined host serves the name", LIMIT, || served_by("vm"))
            .with_context(|| format!("{:#?}", mesh.endpoints(RATINGS)))?;
        wait::for_true("so does the pod", LIMIT, || served_by("pod"))?;
        ensure!(mesh.endpoints(RATINGS)?.len() == 2, "{:#?}", mesh.endpoints(RATINGS)?);

        // By its other name, with the identities of both, as the host's STRICT policy asks for.
        let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: vm, namespace: default}\n\
                      spec: {selector: {matchLabels: {app: ratings}}, mtls: {mode: STRICT}}\n";
        mesh.apply(strict)?;
        let url = format!("http://{SCORES}:9080/ratings/0");
        let by_other_name = || {
            let seen = caller.host.curl(&["--fail", "--max-time", "2", "-D", "-", &url]);
            seen.is_ok_and(|s| s.ok() && s.out.contains("x-served-by: vm"))
        };
        wait::for_true("the joined host answers by the other name", LIMIT, by_other_name)?;
        let services = mesh.json(&["get", "services", RATINGS])?;
        ensure!(services[0]["aliases"] == serde_json::json!([SCORES]), "{services:#}");

        // The API server is gone, and discovery starts anew: what was known is still there.
        cluster.kill();
        mesh.kill_discovery();
        mesh.start_discovery()?;
        wait::for_true("both are known", LIMIT, || mesh.endpoints(RATINGS).is_ok_and(|all| all.len() == 2))?;
        wait::for_true("the pod answers", LIMIT, || served_by("pod"))?;
        wait::for_true("the joined host answers", LIMIT, || served_by("vm"))?;
        Ok(())
    });
}
