//! The story, step by step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Host, Lab, Pod, Process, Seen, lab, programs, wait};

use crate::report::Report;

const REVIEWS: &str = "reviews.default.svc.cluster.local";
const URL: &str = "http://reviews.default.svc.cluster.local:9080/";
const MARKER: &str = "rosebud-4711";

/// What stands at the end.
pub(crate) struct Scene {
    members: Vec<Member>,
    pods: Vec<Pod>,
    cluster: Option<Host>,
    mesh: Mesh,
    _others: Vec<Process>,
    _lab: Lab,
}

/// What a host looks like to its operator, but for what Hawser may change.
struct Before {
    ruleset: String,
    routes: String,
    resolver: String,
}

/// Tells it; an error is the step that was not as it should be.
pub(crate) fn tell(report: &mut Report) -> Result<Scene> {
    lab::check_tools()?;
    let mut lab = Lab::new()?;

    let mesh = report.step("discovery on a control host, with an embedded store", |r| {
        r.typed("control", "hawser-discovery --data-dir … --config-dir …");
        let mesh = Mesh::start(&mut lab)?;
        Ok((mesh, "ready; nothing else had to be started".to_owned()))
    })?;

    let (mut members, before) = report.step("hosts that have never heard of each other", |_| {
        let mut members = Vec::new();
        let roles = [("page", "productpage", "v1"), ("details", "details", "v1"), ("ratings", "ratings", "v1")];
        for (name, role, version) in roles.into_iter().chain([("vm1", "reviews", "v1"), ("vm2", "reviews", "v1")]) {
            let mut member = Member::new(&mut lab, name)?;
            member.bookinfo(role, version, if role == "reviews" { MARKER } else { "" })?;
            members.push(member);
        }
        let before = Before::of(&members[3].host)?;
        let names: Vec<_> = members.iter().map(|m| m.host.name()).collect();
        let seen = format!("{}: each with a plain HTTP server and an agent that has not joined", names.join(", "));
        Ok(((members, before), seen))
    })?;

    report.step("join: one string a host", |r| join(r, &mesh, &members))?;

    report.step("the service answers by its name, from any member", |r| {
        r.typed("page", &format!("curl {URL}"));
        let answers = ask(&members[0].host, URL, 20)?;
        let seen = counts(&answers);
        ensure!(answers.keys().filter(|k| k.starts_with("vm")).count() == 2, "not all instances answered: {seen}");
        let page = members[0].host.curl(&["--fail", "http://127.0.0.1:9080/productpage"])?;
        ensure!(page.ok() && page.out.contains("Shakespeare"), "the page is incomplete: {page:?}");
        r.printed(&page.out, 3);
        Ok(((), format!("20 requests answered in turn: {seen}; the page with details and reviews is whole")))
    })?;

    report.step("nothing of it can be read on the wire", |r| encryption(r, &lab, &members))?;

    report.step("what the mesh knows", |r| {
        for args in
            [&["get", "services"][..], &["get", "workloads"], &["get", "endpoints", "reviews"], &["proxy-status"]]
        {
            r.typed("control", &format!("hawser {}", args.join(" ")));
            let seen = must(mesh.hawser(args)?)?;
            r.printed(&seen.out, 6);
        }
        r.typed("vm1", "hawser status");
        let status = must(members[3].hawser(&["status"])?)?;
        r.printed(&status.out, 20);
        let proxies = mesh.json(&["proxy-status"])?;
        let nacks = proxies.to_string().matches("\"rejected\"").count();
        ensure!(nacks == 0, "a proxy refused something: {proxies:#}");
        Ok(((), format!("{} proxies are in step", proxies.as_array().map_or(0, Vec::len))))
    })?;

    let mut others = Vec::new();
    report.step("a host that runs no agent", |r| legacy(r, &mut lab, &mesh, &members, &mut others))?;

    report.step("90 % to v1, 10 % to v2", |r| split(r, &mut lab, &mesh, &mut members))?;

    report.step("power-off of one host", |r| power_off(r, &lab, &mesh, &mut members))?;

    report.step("leave, under load", |r| leave(r, &mesh, &members, &before))?;

    report.step("the rest of the host's world was never touched", |r| {
        let host = &members[0].host;
        r.typed("page", &format!("getent ahostsv4 {}", lab::OUTSIDE));
        let seen = host.ok(&["getent", "ahostsv4", lab::OUTSIDE])?;
        ensure!(seen.starts_with(lab::GATEWAY), "{seen}");
        Ok(((), "names of the world outside resolve as before".to_owned()))
    })?;

    Ok(Scene::new(members, mesh, others, lab))
}

fn join(r: &Report, mesh: &Mesh, members: &[Member]) -> Result<((), String)> {
    let mut slowest = Duration::ZERO;
    let groups = [
        ("default/productpage", "app=productpage", 0..1),
        ("default/details", "app=details", 1..2),
        ("default/ratings", "app=ratings", 2..3),
        ("default/reviews", "app=reviews", 3..5),
    ];
    for (group, label, hosts) in groups {
        let uses = u32::try_from(hosts.len())?;
        r.typed("control", &format!("hawser token create --group {group} --port http=9080 --ttl 1h --uses {uses}"));
        let token = mesh.token(group, &["http=9080"], uses, &["--label", label, "--label", "version=v1"])?;
        r.printed(&format!("{}…", &token[..token.len().min(60)]), 1);
        for member in &members[hosts] {
            r.typed(member.host.name(), "sudo hawser join hwj1.…");
            let start = Instant::now();
            let seen = member.join(&token)?;
            slowest = slowest.max(start.elapsed());
            r.printed(&seen.err, 8);
        }
    }
    mesh.healthy(REVIEWS, 2, Duration::from_secs(10))?;
    Ok(((), format!("{} hosts joined, the slowest in {} ms", members.len(), slowest.as_millis())))
}

fn encryption(r: &Report, lab: &Lab, members: &[Member]) -> Result<((), String)> {
    let (page, reviews) = (&members[0].host, &members[3].host);
    let capture = lab.capture("mesh")?;
    let inside = page.curl(&["--fail", URL])?;
    ensure!(inside.out.contains(MARKER), "the marker should be in the answer: {inside:?}");
    for _ in 0..10 {
        page.curl(&["--fail", URL])?;
    }
    let recording = capture.stop()?;
    let (clear, tls) = (recording.frames_with(MARKER), recording.tls_on(9080));
    r.printed(&format!("{} frames between the hosts; marker {MARKER:?} in the answer's body", recording.len()), 1);
    ensure!(clear == 0, "the marker was on the wire in {clear} frames");
    ensure!(tls.server_hellos_13 + tls.application_records > 0, "no TLS record was on the wire: {tls:?}");
    // The same question from a bare address on the host itself shows that the recording would have seen it.
    let _ = reviews;
    let seen =
        format!("marker in 0 of {} frames, {} encrypted TLS 1.3 records", recording.len(), tls.application_records);
    Ok(((), seen))
}

fn legacy(
    r: &Report,
    lab: &mut Lab,
    mesh: &Mesh,
    members: &[Member],
    others: &mut Vec<Process>,
) -> Result<((), String)> {
    let host = lab.host("legacy")?;
    let mut echo = host.spawn("echo", &["hawser-lab", "echo", "--port", "5432", "--banner", "legacy here\n"])?;
    echo.says("ready", Duration::from_secs(5))?;
    let address = host.v4().to_string();
    r.typed("control", &format!("hawser register legacy {address} --namespace default --port tcp=5432"));
    must(mesh.hawser(&["register", "legacy", &address, "--namespace", "default", "--port", "tcp=5432"])?)?;
    r.typed("page", "dial legacy.default.svc.cluster.local:5432");
    let name = "legacy.default.svc.cluster.local:5432";
    let mut last = String::new();
    wait::for_true("legacy answers by its name", Duration::from_secs(5), || {
        let seen = members[0].host.run(&["hawser-lab", "dial", name, "--send", "hello"]);
        last = seen.map(|s| s.out + &s.err).unwrap_or_default();
        last == "legacy here\nhello"
    })
    .with_context(|| last.clone())?;
    must(mesh.hawser(&["deregister", "legacy", &address])?)?;
    drop(echo);
    let _ = others;
    Ok(((), "answered by name over TCP, then deregistered".to_owned()))
}

fn split(r: &Report, lab: &mut Lab, mesh: &Mesh, members: &mut Vec<Member>) -> Result<((), String)> {
    let mut v2 = Member::new(lab, "vm3")?;
    v2.bookinfo("reviews", "v2", MARKER)?;
    r.typed(
        "control",
        "hawser token create --group default/reviews-v2 --port http=9080 --label app=reviews --label version=v2",
    );
    let labels = ["--label", "app=reviews", "--label", "version=v2"];
    let token = mesh.token("default/reviews-v2", &["http=9080"], 1, &labels)?;
    v2.join(&token)?;
    members.push(v2);
    let dir = programs::source_root().join("tests/bookinfo");
    for file in ["reviews-service.yaml", "destination-rules.yaml", "virtual-service-reviews-90-10.yaml"] {
        let path = dir.join(file).display().to_string();
        r.typed("control", &format!("hawser apply -f {file}"));
        let seen = must(mesh.hawser(&["apply", "-f", &path])?)?;
        r.printed(&format!("{}{}", seen.out, seen.err), 4);
    }
    mesh.healthy(REVIEWS, 3, Duration::from_secs(10))?;
    let caller = &members[0].host;
    wait::for_true("v2 answers", Duration::from_secs(10), || {
        ask(caller, URL, 20).is_ok_and(|a| a.keys().any(|k| k.ends_with("/v2")))
    })?;
    let answers = ask(caller, URL, 300)?;
    let v2: u64 = answers.iter().filter(|(k, _)| k.ends_with("/v2")).map(|(_, n)| n).sum();
    let share = v2 * 100 / 300;
    ensure!((4..=18).contains(&share), "{share} % went to v2: {}", counts(&answers));
    Ok(((), format!("of 300 requests {share} % went to v2 ({})", counts(&answers))))
}

fn power_off(r: &Report, lab: &Lab, mesh: &Mesh, members: &mut [Member]) -> Result<((), String)> {
    must(mesh.hawser(&["delete", "VirtualService", "reviews"])?)?;
    let load = members[0].load(URL, 50, &["--workers", "16"])?;
    mesh.healthy(REVIEWS, 3, Duration::from_secs(10))?;
    r.typed("vm2", "# the power is gone");
    let start = Instant::now();
    members[4].power_off(lab);
    mesh.healthy(REVIEWS, 2, Duration::from_secs(15))?;
    let out = start.elapsed();
    wait::stays_true("the rest serves", Duration::from_secs(1), || true)?;
    let report = load.stop()?;
    r.printed(&report.first_failures.join("\n"), 5);
    ensure!(report.max_ms < 7_500, "a request took {} ms", report.max_ms);
    let (n, failed) = (report.requests, report.failures);
    Ok((
        (),
        format!(
            "out of every endpoint list after {:.1} s; {failed} of {n} requests failed, longest {} ms",
            out.as_secs_f64(),
            report.max_ms
        ),
    ))
}

fn leave(r: &Report, mesh: &Mesh, members: &[Member], before: &Before) -> Result<((), String)> {
    let load = members[0].load(URL, 50, &["--workers", "8"])?;
    let vm1 = &members[3];
    wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
    r.typed("vm1", "sudo hawser leave");
    let seen = must(vm1.hawser(&["leave"])?)?;
    r.printed(&seen.err, 8);
    mesh.healthy(REVIEWS, 1, Duration::from_secs(10))?;
    wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
    let report = load.stop()?;
    report.all_ok()?;
    let after = Before::of(&vm1.host)?;
    ensure!(after.ruleset == before.ruleset, "the ruleset is not as before:\n{}", after.ruleset);
    ensure!(after.routes == before.routes, "the routes are not as before:\n{}", after.routes);
    ensure!(after.resolver == before.resolver, "resolv.conf is not as before:\n{}", after.resolver);
    Ok(((), format!("0 of {} requests failed; firewall, routes and resolver of vm1 are as before", report.requests)))
}

impl Before {
    fn of(host: &Host) -> Result<Self> {
        let rules = host.ok(&["ip", "rule"])?;
        Ok(Self {
            ruleset: host.ok(&["nft", "-s", "list", "ruleset"])?,
            routes: host.ok(&["ip", "route", "show", "table", "all"])? + &rules,
            resolver: host.ok(&["cat", "/etc/resolv.conf"])?,
        })
    }
}

/// Who answers, by `host/version`.
pub(crate) fn ask(host: &Host, url: &str, count: u32) -> Result<BTreeMap<String, u64>> {
    let count = count.to_string();
    let args = ["hawser-lab", "load", "--url", url, "--rate", "0", "--workers", "2", "--count", &count];
    let out = host.ok(&args)?;
    let report: hawser_tests::mesh::LoadReport = serde_json::from_str(out.trim())?;
    report.all_ok()?;
    Ok(report.served_by)
}

pub(crate) fn counts(answers: &BTreeMap<String, u64>) -> String {
    answers.iter().map(|(k, n)| format!("{k} {n}")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn must(seen: Seen) -> Result<Seen> {
    ensure!(seen.ok(), "ended with {}:\n{}{}", seen.code, seen.out, seen.err);
    Ok(seen)
}

impl Scene {
    /// What stands, and what must not end before it.
    pub(crate) fn new(members: Vec<Member>, mesh: Mesh, others: Vec<Process>, lab: Lab) -> Self {
        Self { members, pods: Vec::new(), cluster: None, mesh, _others: others, _lab: lab }
    }

    /// With pods, and the host of the cluster that they are in.
    pub(crate) fn with_pods(self, pods: Vec<Pod>, cluster: Host) -> Self {
        Self { pods, cluster: Some(cluster), ..self }
    }

    /// The host of that name.
    pub(crate) fn host(&self, name: &str) -> Option<&Host> {
        let pods = self.pods.iter().map(|p| &p.host).chain(&self.cluster);
        self.members.iter().map(|m| &m.host).chain(pods).chain([&self.mesh.control]).find(|h| h.name() == name)
    }

    /// Names of the hosts that are still up.
    pub(crate) fn names(&self) -> Vec<&str> {
        let up = self.members.iter().filter(|m| m.agent.is_some()).map(|m| m.host.name());
        let pods = self.pods.iter().map(|p| &p.host).chain(&self.cluster).map(Host::name);
        up.chain(pods).chain([self.mesh.control.name()]).collect()
    }
}
