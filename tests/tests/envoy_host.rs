//! Hosts whose data plane is an Envoy that the agent runs: they are hosts like all others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::testbeds::Testbed;
use hawser_tests::{Host, Lab, Seen, isolated, wait};
use serde_json::Value;

const HOST: &str = "details.default.svc.cluster.local";
const DETAILS: &str = "http://details.default.svc.cluster.local:9080/";
const RATINGS: &str = "http://ratings.default.svc.cluster.local:9080/";
const LONG: Duration = Duration::from_secs(20);
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                      metadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n";

/// A host with an Envoy that serves details, one with a hawser-proxy that serves ratings; both call each other.
fn pair(lab: &mut Lab, mesh: &Mesh) -> Result<(Member, Member)> {
    let testbed = Testbed::provide()?;
    let envoy = Member::with_envoy(lab, mesh, &testbed, "envoy", "details")?;
    let hawser = Member::joined(lab, mesh, "hawser", "ratings", "v1")?;
    answers(&hawser.host, DETAILS).with_context(|| told(&envoy))?;
    answers(&envoy.host, RATINGS).with_context(|| told(&envoy))?;
    Ok((envoy, hawser))
}

fn answers(host: &Host, url: &str) -> Result<()> {
    let mut last = None;
    wait::for_true(&format!("{url} answers {}", host.name()), LONG, || {
        last = host.curl(&["--fail-with-body", url]).ok();
        last.as_ref().is_some_and(Seen::ok)
    })
    .with_context(|| format!("{last:?}"))
}

/// What explains a failure.
fn told(member: &Member) -> String {
    let status = member.hawser(&["status"]).map(|seen| seen.out).unwrap_or_default();
    let log = member.agent.as_ref().map(hawser_tests::Process::log).unwrap_or_default();
    format!("{status}\n{}", hawser_tests::process::tail(&log))
}

/// The sum of Envoy's counters that end so.
fn sum(host: &Host, suffix: &str) -> Result<u64> {
    let page = host.curl(&["--fail", "http://127.0.0.1:15000/stats"])?;
    ensure!(page.ok(), "{}", page.err);
    let values = page.out.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| name.ends_with(suffix));
    Ok(values.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum())
}

fn no_hawser_proxy(member: &Member) -> Result<()> {
    let seen = member.host.run(&["pgrep", "-x", "hawser-proxy"])?;
    ensure!(!seen.ok(), "a hawser-proxy runs there: {seen:?}");
    Ok(())
}

/// A host name's virtual address, for calls that outlive the agent, who resolves names.
fn address(host: &Host, name: &str) -> Result<String> {
    let found = host.ok(&["getent", "ahostsv4", name])?;
    Ok(found.split_whitespace().next().context("an address")?.to_owned())
}

fn proxy(member: &Member) -> Result<Value> {
    Ok(member.json(&["status"])?["host"]["proxy"].clone())
}

#[test]
fn it_serves_and_calls_over_mtls_permissive_and_strict() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let (envoy, hawser) = pair(&mut lab, &mesh)?;
        let stranger = lab.host("stranger")?;
        let state = proxy(&envoy)?;
        ensure!(state["state"] == "running", "{state:#}");
        ensure!(state["version"].as_str().is_some_and(|v| v.starts_with("envoy 1.")), "{state:#}");
        no_hawser_proxy(&envoy)?;

        // Both directions are encrypted.
        let capture = lab.capture("both")?;
        ensure!(hawser.host.curl(&["--fail", DETAILS])?.ok() && envoy.host.curl(&["--fail", RATINGS])?.ok());
        let tls = capture.stop()?.tls_on(9080);
        ensure!(tls.application_records > 0, "over mTLS: {tls:?}");
        ensure!(sum(&envoy.host, ".ssl.handshake")? > 0, "Envoy shook hands");
        let mutual = "istio_requests_total{";
        ensure!(hawser.metric(mutual)? > 0.0, "hawser-proxy counts");
        // Its own service, by its own inbound side.
        answers(&envoy.host, DETAILS)?;
        ensure!(envoy.host.curl(&["--fail", "-6", RATINGS])?.ok(), "over IPv6");

        // Plaintext from outside is taken, and not when it is forbidden.
        let mut plain = [envoy.host.v4(), hawser.host.v4()].map(|address| format!("http://{address}:9080/")).to_vec();
        plain.push(format!("http://[{}]:9080/", envoy.host.v6()));
        for url in &plain {
            answers(&stranger, url)?;
        }
        mesh.apply(STRICT)?;
        for url in &plain {
            wait::for_true(&format!("{url} refuses plaintext"), LONG, || {
                stranger.curl(&["--fail", "--max-time", "1", url]).is_ok_and(|seen| !seen.ok())
            })?;
        }
        answers(&hawser.host, DETAILS)?;
        answers(&envoy.host, RATINGS)?;
        answers(&envoy.host, DETAILS)?;
        ensure!(sum(&envoy.host, "update_rejected")? == 0, "{}", told(&envoy));

        // Discovery knows it for what it is, and it is seen like any other host.
        let proxies = mesh.json(&["proxy-status"])?;
        let classes = proxies.as_array().context("a list")?.iter().filter(|p| p["class"] == "envoy").count();
        ensure!(classes == 1, "{proxies:#}");
        let page = envoy.host.curl(&["--fail", "http://127.0.0.1:15020/metrics"])?.out;
        ensure!(page.contains("envoy_cluster_upstream_rq") && page.contains("hawser_agent_proxy_running 1"), "{page}");
        let ready = envoy.host.curl(&["--fail", "http://127.0.0.1:15021/healthz/ready"])?;
        ensure!(ready.ok(), "{ready:?}");
        Ok(())
    });
}

#[test]
fn one_that_is_killed_is_started_again_and_one_that_runs_is_adopted() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let (mut envoy, hawser) = pair(&mut lab, &mesh)?;
        let first = proxy(&envoy)?["pid"].clone();
        envoy.host.ok(&["kill", "-9", &first.to_string()])?;
        wait::for_true("another one runs", LONG, || {
            proxy(&envoy).is_ok_and(|p| p["state"] == "running" && p["pid"] != first && p["restarts"] == 1)
        })
        .with_context(|| told(&envoy))?;
        answers(&hawser.host, DETAILS)?;
        answers(&envoy.host, RATINGS)?;

        // The agent may come and go.
        let second = proxy(&envoy)?["pid"].clone();
        let load = hawser.load(DETAILS, 50, &[])?;
        let ratings = address(&envoy.host, "ratings.default.svc.cluster.local")?;
        let out = envoy.load(&format!("http://{ratings}:9080/"), 50, &[])?;
        envoy.kill_agent();
        wait::stays_true("traffic outlives the agent", Duration::from_millis(500), || true)?;
        envoy.start_agent()?;
        wait::for_true("the agent has adopted it", LONG, || {
            proxy(&envoy).is_ok_and(|p| p["state"] == "running" && p["pid"] == second)
        })
        .with_context(|| told(&envoy))?;
        load.stop()?.all_ok()?;
        out.stop()?.all_ok()?;
        // What changes reaches it through the new agent.
        let stranger = lab.host("stranger")?;
        let plain = format!("http://{}:9080/", envoy.host.v4());
        answers(&stranger, &plain)?;
        mesh.apply(STRICT)?;
        wait::for_true("a change arrives", LONG, || {
            stranger.curl(&["--fail", "--max-time", "1", &plain]).is_ok_and(|seen| !seen.ok())
        })
        .with_context(|| told(&envoy))?;
        // And one that the new agent did not start is watched all the same.
        envoy.host.ok(&["kill", "-9", &second.to_string()])?;
        wait::for_true("a third one runs", LONG, || {
            proxy(&envoy).is_ok_and(|p| p["state"] == "running" && p["pid"] != second)
        })
        .with_context(|| told(&envoy))?;
        answers(&hawser.host, DETAILS)
    });
}

#[test]
fn leaving_under_load_fails_no_request() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let (envoy, hawser) = pair(&mut lab, &mesh)?;
        let _stays = Member::joined(&mut lab, &mesh, "stays", "details", "v1")?;
        mesh.healthy(HOST, 2, LONG)?;
        wait::for_true("both answer", LONG, || {
            let seen = hawser.host.ok(&["hawser-lab", "load", "--url", DETAILS, "--rate", "0", "--count", "30"]);
            seen.is_ok_and(|out| ["envoy/", "stays/"].iter().all(|name| out.contains(name)))
        })?;
        let load = hawser.load(DETAILS, 100, &["--workers", "8"])?;
        let fresh = hawser.load(DETAILS, 50, &["--workers", "4", "--fresh"])?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        let seen = envoy.hawser(&["leave"])?;
        ensure!(seen.ok(), "{seen:?}\n{}", told(&envoy));
        ensure!(seen.out.contains("have ended") || seen.err.contains("have ended"), "{seen:?}");
        mesh.healthy(HOST, 1, LONG)?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        load.stop()?.all_ok()?;
        fresh.stop()?.all_ok()?;
        ensure!(envoy.json(&["status"])?["host"]["state"] == "idle");
        ensure!(!envoy.host.curl(&["http://127.0.0.1:15000/ready"])?.ok(), "Envoy is gone");
        ensure!(!envoy.host.ok(&["nft", "list", "tables"])?.contains("hawser"), "our table is gone");
        Ok(())
    });
}

#[test]
fn it_boots_from_the_cache_while_discovery_is_down() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start(&mut lab)?;
        let (mut envoy, hawser) = pair(&mut lab, &mesh)?;
        let cache = envoy.state_dir().join("cache/envoy-details");
        let ratings = hawser.host.v4().to_string();
        let endpoint = ("endpoint.v3.ClusterLoadAssignment", ratings.as_str());
        wait::for_true("what it has is in its cache", LONG, || {
            CACHED.iter().chain([&endpoint]).all(|(kind, text)| {
                let bytes = std::fs::read(cache.join(format!("envoy.config.{kind}.cache"))).unwrap_or_default();
                bytes.windows(text.len()).any(|window| window == text.as_bytes())
            })
        })?;
        answers(&envoy.host, RATINGS).with_context(|| told(&envoy))?;
        // The address may be there before its health is: what is new is written long before so much time has passed.
        let endpoints = cache.join("envoy.config.endpoint.v3.ClusterLoadAssignment.cache");
        let written = || std::fs::metadata(&endpoints).and_then(|file| file.modified()).ok();
        wait::for_true("its cache has settled", LONG, || {
            written().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > Duration::from_secs(2))
        })?;
        mesh.kill_discovery();
        envoy.power_off(&lab);
        lab.power_on(&mut envoy.host)?;
        envoy.bookinfo("details", "v1", "")?;
        envoy.start_agent()?;
        answers(&envoy.host, RATINGS).with_context(|| told(&envoy))?;
        let capture = lab.capture("reboot")?;
        answers(&hawser.host, DETAILS).with_context(|| told(&envoy))?;
        let tls = capture.stop()?.tls_on(9080);
        ensure!(tls.application_records > 0, "over mTLS: {tls:?}");
        Ok(())
    });
}

/// What its cache must hold, by kind.
const CACHED: [(&str, &str); 3] = [
    ("listener.v3.Listener", "virtualInbound"),
    ("route.v3.RouteConfiguration", "ratings.default"),
    ("cluster.v3.Cluster", "inbound|9080||"),
];

#[test]
fn without_a_usable_envoy_a_join_is_refused_and_nothing_is_changed() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let host = lab.host("vm")?;
        let mut member = Member::configured(host, "proxy: envoy\nenvoy: {binary: /opt/none}\n")?;
        member.bookinfo("details", "v1", "")?;
        let token = mesh.token("default/details", &["http=9080"], 1, &[])?;
        let seen = member.hawser(&["join", &token])?;
        ensure!(!seen.ok() && seen.err.contains("/opt/none") && seen.err.contains("install Envoy"), "{seen:?}");
        ensure!(!member.host.ok(&["nft", "list", "tables"])?.contains("hawser"), "nothing is captured");

        // The other data plane takes its place by one word, and the token is still good.
        member.kill_agent();
        member.configure("proxy: hawser\n")?;
        member.start_agent()?;
        member.join(&token)?;
        ensure!(proxy(&member)?["state"] == "running");
        // And back again, on a host that is joined.
        let binary = Testbed::provide()?.envoy_program()?;
        member.kill_agent();
        member.configure(&format!("proxy: envoy\nenvoy: {{binary: {}}}\n", binary.display()))?;
        member.start_agent()?;
        wait::for_true("Envoy has taken over", LONG, || {
            proxy(&member)
                .is_ok_and(|p| p["state"] == "running" && p["version"].as_str().is_some_and(|v| v.starts_with("envoy")))
        })
        .with_context(|| told(&member))?;
        no_hawser_proxy(&member)?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "ratings", "v1")?;
        answers(&caller.host, DETAILS).with_context(|| told(&member))?;
        answers(&member.host, RATINGS).with_context(|| told(&member))
    });
}
