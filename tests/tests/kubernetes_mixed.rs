//! One mesh over a cluster and hosts: pods with a proxy that is who its service account's token says, hosts that joined, a
//! service on both sides, and its move from one to the other and back without a lost request.
//!
//! Network namespaces stand for pods and hosts. The API server is the double that is held against recordings of a real one;
//! with `HAWSER_TEST_KUBERNETES_REAL=1` it is a real one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::cluster::objects::{nodes, services, subsets, weights};
use hawser_tests::mesh::{Load, LoadReport, Member, Mesh};
use hawser_tests::{Cluster, Host, Lab, Pod, isolated, wait};

const DETAILS: &str = "details.default.svc.cluster.local";
const REVIEWS: &str = "reviews.default.svc.cluster.local";
const RATINGS: &str = "ratings.default.svc.cluster.local";
const LIMIT: Duration = Duration::from_secs(20);

fn url(host: &str) -> String {
    format!("http://{host}:9080/0")
}

/// Who answers so many requests, none of which may fail.
fn ask(host: &Host, url: &str, count: u32) -> Result<BTreeMap<String, u64>> {
    let count = count.to_string();
    let args = ["hawser-lab", "load", "--url", url, "--rate", "0", "--workers", "2", "--count", &count];
    let report: LoadReport = serde_json::from_str(host.ok(&args)?.trim())?;
    report.all_ok()?;
    Ok(report.served_by)
}

/// Waits until exactly these answer.
fn served(host: &Host, url: &str, by: &[&str]) -> Result<()> {
    let mut last = String::new();
    let what = format!("{} is served by {by:?} for {}", url, host.name());
    wait::for_true(&what, LIMIT, || match ask(host, url, 20) {
        Ok(answers) => {
            last = format!("{answers:?}");
            answers.keys().map(String::as_str).eq(by.iter().copied())
        }
        Err(error) => {
            last = format!("{error:#}");
            false
        }
    })
    .with_context(|| last.clone())
}

fn joined(lab: &mut Lab, mesh: &Mesh, name: &str, app: &str) -> Result<Member> {
    let mut member = Member::new(lab, name)?;
    member.bookinfo(app, "v1", "")?;
    join(mesh, &member, app)?;
    Ok(member)
}

fn join(mesh: &Mesh, member: &Member, app: &str) -> Result<()> {
    let labels = [format!("app={app}"), "version=v1".to_owned()];
    let token =
        mesh.token(&format!("default/{app}"), &["http=9080"], 1, &["--label", &labels[0], "--label", &labels[1]])?;
    let seen = member.hawser(&["join", &token, "--locality", "eu-1/b"])?;
    ensure!(seen.ok(), "{}", seen.err);
    Ok(())
}

/// Load from a pod and from a host at once.
struct Loads([Load; 2], Instant);

impl Loads {
    fn start(hosts: [&Host; 2], url: &str) -> Result<Self> {
        let [one, other] = hosts.map(|host| Load::start(host, url, 40, &["--workers", "4"]));
        Ok(Self([one?, other?], Instant::now()))
    }

    /// A move may be over before there was much of a load.
    fn stop(self) -> Result<()> {
        wait::between_looks(Duration::from_secs(3).saturating_sub(self.1.elapsed()));
        for load in self.0 {
            let report = load.stop()?;
            report.all_ok()?;
            ensure!(report.requests > 50, "only {} requests", report.requests);
        }
        Ok(())
    }
}

#[test]
fn pods_and_hosts_are_one_mesh_and_a_service_moves_between_them_without_a_lost_request() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let cluster = Cluster::start(&mut lab)?;
        // Discovery reads the cluster with the rights that the manifest gives it, and no others.
        let registries = cluster.prepare()?;
        cluster.apply(&(nodes() + &services()))?;
        let mesh = Mesh::start_with(&mut lab, &["--registries", &registries])?;

        let page = Pod::with_sidecar(&mut lab, &cluster, &mesh, "page", ("productpage", "v1", "node-a"))?;
        let mut reviews = Pod::with_sidecar(&mut lab, &cluster, &mesh, "reviews-a", ("reviews", "v2", "node-a"))?;
        let ratings = Pod::with_sidecar(&mut lab, &cluster, &mesh, "ratings-b", ("ratings", "v1", "node-b"))?;
        let details = joined(&mut lab, &mesh, "vm-details", "details")?;
        let vm = joined(&mut lab, &mesh, "vm-reviews", "reviews")?;

        // From one side to the other, both ways, each with mTLS; and the whole page, which goes over both.
        let reach = |from: &Host, to: &str, by: &str| served(from, &url(to), &[by]);
        reach(&details.host, RATINGS, "ratings-b/v1").with_context(|| ratings.sidecar_log())?;
        reach(&page.host, DETAILS, "vm-details/v1").with_context(|| page.sidecar_log())?;
        strict(&cluster, &details.host, &ratings)?;
        reach(&details.host, RATINGS, "ratings-b/v1")?;
        reach(&page.host, DETAILS, "vm-details/v1")?;
        let whole = page.host.curl(&["--fail", "http://127.0.0.1:9080/productpage"])?;
        ensure!(whole.ok() && whole.out.contains("Shakespeare"), "{whole:?}");

        // One service on both sides, by weight and then by nearness, from the cluster's own resources.
        let callers = [&page.host, &details.host];
        let both = ["reviews-a/v2", "vm-reviews/v1"];
        for caller in callers {
            served(caller, &url(REVIEWS), &both)?;
        }
        cluster.apply(&subsets(false))?;
        cluster.apply(&weights(80))?;
        for caller in callers {
            by_weight(caller, 80)?;
        }
        cluster.must("DELETE", "/apis/networking.istio.io/v1/namespaces/default/virtualservices/reviews", None)?;
        cluster.apply(&subsets(true))?;
        served(&page.host, &url(REVIEWS), &["reviews-a/v2"])?;
        served(&details.host, &url(REVIEWS), &["vm-reviews/v1"])?;
        cluster.apply(&subsets(false))?;
        for caller in callers {
            served(caller, &url(REVIEWS), &both)?;
        }

        // From the host to the pod and back, under load all the while.
        reviews.report(&cluster, false)?;
        for caller in callers {
            served(caller, &url(REVIEWS), &both[1..])?;
        }
        let load = Loads::start(callers, &url(REVIEWS))?;
        reviews.report(&cluster, true)?;
        mesh.healthy(REVIEWS, 2, LIMIT)?;
        let seen = vm.hawser(&["leave"])?;
        ensure!(seen.ok(), "{}", seen.err);
        for caller in callers {
            served(caller, &url(REVIEWS), &both[..1])?;
        }
        load.stop().context("from the host to the pod")?;
        let load = Loads::start(callers, &url(REVIEWS))?;
        join(&mesh, &vm, "reviews")?;
        mesh.healthy(REVIEWS, 2, LIMIT)?;
        reviews.delete(&cluster)?;
        for caller in callers {
            served(caller, &url(REVIEWS), &both[1..])?;
        }
        // As long as its container waits before it ends.
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        reviews.end(&cluster)?;
        mesh.healthy(REVIEWS, 1, LIMIT)?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        load.stop().context("from the pod to the host")?;
        Ok(())
    });
}

/// Only mTLS is taken from here on: what has no certificate of the mesh is refused.
fn strict(cluster: &Cluster, stranger: &Host, pod: &Pod) -> Result<()> {
    let plain = format!("http://{}:9080/0", pod.address);
    let ask = || stranger.curl(&["--fail", "--max-time", "2", &plain]).is_ok_and(|seen| seen.ok());
    ensure!(ask(), "a pod's own address takes plaintext as long as nobody forbids it");
    cluster.apply(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: default}\n\
         spec: {mtls: {mode: STRICT}}\n",
    )?;
    wait::for_true("plaintext is refused", LIMIT, || !ask())
}

fn by_weight(caller: &Host, v1: u32) -> Result<()> {
    let mut last = 0;
    wait::for_true("requests go by weight", LIMIT, || {
        let answers = ask(caller, &url(REVIEWS), 200).unwrap_or_default();
        last = answers.iter().filter(|(by, _)| by.ends_with("/v1")).map(|(_, n)| n).sum::<u64>() / 2;
        last.abs_diff(v1.into()) <= 10
    })
    .with_context(|| format!("{last} % of {}'s requests went to v1", caller.name()))
}
