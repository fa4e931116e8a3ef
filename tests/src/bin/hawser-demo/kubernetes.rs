//! One mesh over a cluster and hosts: pods and VMs call each other, a service is on both sides, and moves.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::cluster::objects::{may_bring_hosts, nodes, services, subsets, weights};
use hawser_tests::mesh::{Load, Member, Mesh};
use hawser_tests::{Cluster, Host, Lab, Pod, lab, testbeds, wait};

use crate::report::Report;
use crate::story::{Scene, ask, counts, must};

const REVIEWS: &str = "reviews.default.svc.cluster.local";
const DETAILS_URL: &str = "http://details.default.svc.cluster.local:9080/0";
const REVIEWS_URL: &str = "http://reviews.default.svc.cluster.local:9080/0";
const LIMIT: Duration = Duration::from_secs(30);

/// Tells it; an error is the step that was not as it should be.
pub(crate) fn tell(report: &mut Report) -> Result<Scene> {
    lab::check_tools()?;
    let mut lab = Lab::new()?;
    let real = testbeds::kubernetes().is_some();

    let (cluster, registries) = report.step("a Kubernetes cluster, made ready for discovery", |r| {
        let cluster = Cluster::start_as(&mut lab, real)?;
        r.typed("cluster", "hawser manifest generate --outside | kubectl apply -f -");
        let registries = cluster.prepare()?;
        r.typed("cluster", "kubectl apply -f nodes.yaml -f services.yaml");
        cluster.apply(&(nodes() + &services()))?;
        r.printed(&services().replace("---\n", ""), 3);
        let what =
            if real { "a real API server" } else { "a double of an API server, held against recordings of a real one" };
        Ok(((cluster, registries), format!("{what}; two zones, three services, nobody behind them")))
    })?;

    let mesh = report.step("discovery, which follows the cluster", |r| {
        r.typed("control", "hawser-discovery --registries registries.yaml …");
        let mesh = Mesh::start_with(&mut lab, &["--registries", &registries])?;
        r.typed("control", "hawser registries");
        r.printed(&must(mesh.hawser(&["registries"])?)?.out, 6);
        Ok((mesh, "ready, with the rights of the manifest and no others".to_owned()))
    })?;

    let (page, mut reviews, ratings) = report.step("pods, each with a hawser-proxy beside it", |r| {
        r.typed("cluster", "kubectl apply -f page.yaml -f reviews-a.yaml -f ratings-b.yaml");
        let page = Pod::with_sidecar(&mut lab, &cluster, &mesh, "page", ("productpage", "v1", "node-a"))?;
        let reviews = Pod::with_sidecar(&mut lab, &cluster, &mesh, "reviews-a", ("reviews", "v2", "node-a"))?;
        let ratings = Pod::with_sidecar(&mut lab, &cluster, &mesh, "ratings-b", ("ratings", "v1", "node-b"))?;
        mesh.healthy(REVIEWS, 1, LIMIT)?;
        r.typed("control", "hawser get endpoints reviews");
        r.printed(&must(mesh.hawser(&["get", "endpoints", "reviews"])?)?.out, 4);
        Ok(((page, reviews, ratings), "their certificates came for the tokens of their service accounts".to_owned()))
    })?;

    let members = report.step("VMs join, with tokens that the cluster's own rights let people make", |r| {
        cluster.apply(&may_bring_hosts("ops"))?;
        r.typed(
            "cluster",
            "kubectl create rolebinding ops --clusterrole=hawser-join-tokens --serviceaccount=default:ops",
        );
        let token = cluster.account_token("default", "ops", None, None)?;
        let kubeconfig = cluster.kubeconfig_with("ops.kubeconfig", &token)?.display().to_string();
        let mut members = Vec::new();
        for (name, app) in [("vm-details", "details"), ("vm-reviews", "reviews")] {
            let mut member = Member::new(&mut lab, name)?;
            member.bookinfo(app, "v1", "")?;
            join(r, &cluster, &kubeconfig, &member, app)?;
            members.push(member);
        }
        Ok((members, "no shell on the control host was needed".to_owned()))
    })?;

    report.step("pods and VMs call each other by the same names", |r| {
        for (host, url) in [(&page.host, DETAILS_URL), (&members[0].host, REVIEWS_URL)] {
            r.typed(host.name(), &format!("curl {url}"));
        }
        let to_vm = served(&page.host, DETAILS_URL, &["vm-details/v1"]).with_context(|| page.sidecar_log())?;
        let both = served(&members[0].host, REVIEWS_URL, &["reviews-a/v2", "vm-reviews/v1"])?;
        Ok(((), format!("a pod was answered by {to_vm}; a VM by {both}: one service on both sides")))
    })?;

    report.step("80 % to the VM, 20 % to the pod, by the cluster's own resources", |r| {
        r.typed("cluster", "kubectl apply -f destination-rule.yaml -f virtual-service.yaml");
        cluster.apply(&subsets(false))?;
        cluster.apply(&weights(80))?;
        r.printed(&weights(80), 10);
        let mut shares = Vec::new();
        for host in [&page.host, &members[0].host] {
            let mut share = 0;
            wait::for_true("requests go by weight", LIMIT, || {
                let answers = ask(host, REVIEWS_URL, 200).unwrap_or_default();
                share = answers.get("vm-reviews/v1").copied().unwrap_or_default() / 2;
                share.abs_diff(80) <= 10
            })
            .with_context(|| format!("{share} % of {}'s went to the VM", host.name()))?;
            shares.push(format!("{share} % of {}'s", host.name()));
        }
        Ok(((), format!("{} requests went to the VM", shares.join(" and "))))
    })?;

    report.step("who is near serves: zones of nodes and of hosts are the same", |r| {
        r.typed("cluster", "kubectl delete virtualservice reviews; kubectl apply -f destination-rule-near.yaml");
        cluster.must("DELETE", "/apis/networking.istio.io/v1/namespaces/default/virtualservices/reviews", None)?;
        cluster.apply(&subsets(true))?;
        let a = served(&page.host, REVIEWS_URL, &["reviews-a/v2"])?;
        let b = served(&members[0].host, REVIEWS_URL, &["vm-reviews/v1"])?;
        cluster.apply(&subsets(false))?;
        served(&page.host, REVIEWS_URL, &["reviews-a/v2", "vm-reviews/v1"])?;
        Ok(((), format!("zone a: {a}; zone b: {b}")))
    })?;

    report.step("reviews moves to the cluster, under load from both sides", |r| {
        let loads = Loads::start([&page.host, &members[0].host])?;
        r.typed("vm-reviews", "sudo hawser leave");
        must(members[1].hawser(&["leave"])?)?;
        mesh.healthy(REVIEWS, 1, LIMIT)?;
        let now = served(&page.host, REVIEWS_URL, &["reviews-a/v2"])?;
        Ok(((), format!("{}; now {now}", loads.stop()?)))
    })?;

    report.step("and back", |r| {
        let loads = Loads::start([&page.host, &members[0].host])?;
        r.typed("control", "hawser token create --group default/reviews");
        r.typed("vm-reviews", "sudo hawser join hwj1.…");
        let token = mesh.token("default/reviews", &[], 1, &[])?;
        must(members[1].hawser(&["join", &token, "--locality", "eu-1/b"])?)?;
        mesh.healthy(REVIEWS, 2, LIMIT)?;
        r.typed("cluster", "kubectl delete pod reviews-a");
        reviews.delete(&cluster)?;
        let now = served(&page.host, REVIEWS_URL, &["vm-reviews/v1"])?;
        // As long as its container waits before it ends: its preStop.
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        reviews.end(&cluster)?;
        mesh.healthy(REVIEWS, 1, LIMIT)?;
        Ok(((), format!("{}; now {now}", loads.stop()?)))
    })?;

    let mut cluster = cluster;
    report.step("the API server is gone", |r| {
        r.typed("cluster", "kill -9 $(pidof kube-apiserver)");
        cluster.kill();
        wait::for_true("its silence is noticed", LIMIT, || {
            mesh.hawser(&["registries"]).is_ok_and(|seen| seen.out.contains("stale"))
        })?;
        r.typed("control", "hawser registries");
        r.printed(&must(mesh.hawser(&["registries"])?)?.out, 6);
        served(&page.host, DETAILS_URL, &["vm-details/v1"])?;
        let still = served(&page.host, REVIEWS_URL, &["vm-reviews/v1"])?;
        Ok(((), format!("what it said stays, marked stale: {still}")))
    })?;

    let scene = Scene::new(members, mesh, Vec::new(), lab);
    Ok(scene.with_pods(vec![page, reviews, ratings], cluster.host))
}

/// A token by way of the cluster, and the join with it.
fn join(r: &Report, cluster: &Cluster, kubeconfig: &str, member: &Member, app: &str) -> Result<()> {
    let (group, label) = (format!("default/{app}"), format!("app={app}"));
    let typed = format!(
        "hawser token create --via-kubernetes --group {group} --port http=9080 --label {label} --label version=v1"
    );
    r.typed("ops", &typed);
    let args: Vec<&str> = typed.split(' ').chain(["--kubeconfig", kubeconfig]).collect();
    let token = cluster.host.ok(&args)?;
    r.printed(&format!("{}…", token.chars().take(60).collect::<String>()), 1);
    r.typed(member.host.name(), "sudo hawser join hwj1.… --locality eu-1/b");
    must(member.hawser(&["join", token.trim(), "--locality", "eu-1/b"])?).map(drop)
}

/// Waits until exactly these answer.
fn served(caller: &Host, url: &str, by: &[&str]) -> Result<String> {
    let mut last = String::new();
    wait::for_true(&format!("{} answer", by.join(" and ")), LIMIT, || match ask(caller, url, 20) {
        Ok(answers) => {
            last = counts(&answers);
            answers.keys().map(String::as_str).eq(by.iter().copied())
        }
        Err(error) => {
            last = format!("{error:#}");
            false
        }
    })
    .with_context(|| last.clone())?;
    Ok(last)
}

/// Load of a pod and of a VM at once.
struct Loads([Load; 2]);

impl Loads {
    fn start(hosts: [&Host; 2]) -> Result<Self> {
        let [one, other] = hosts.map(|host| Load::start(host, REVIEWS_URL, 40, &["--workers", "4"]));
        let loads = Self([one?, other?]);
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        Ok(loads)
    }

    fn stop(self) -> Result<String> {
        let mut requests = 0;
        for load in self.0 {
            let report = load.stop()?;
            report.all_ok()?;
            requests += report.requests;
        }
        ensure!(requests > 0, "nothing was asked");
        Ok(format!("0 of {requests} requests failed"))
    }
}
