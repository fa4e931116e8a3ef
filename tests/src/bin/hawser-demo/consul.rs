//! A service that Consul knows, and its move to a host that has joined: one name, no request lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Load, Member, Mesh};
use hawser_tests::{Host, Lab, Process, lab, testbeds, wait};
use serde_json::json;

use crate::report::Report;
use crate::story::{Scene, ask, counts, must};

const NAME: &str = "ratings.default.svc.cluster.local";
const URL: &str = "http://ratings.default.svc.cluster.local:9080/ratings/0";
const CONSULS_URL: &str = "http://ratings.service.consul:9080/ratings/0";
/// Consul looks after its services once a second.
const SEEN: Duration = Duration::from_secs(20);

/// Tells it; an error is the step that was not as it should be.
pub(crate) fn tell(report: &mut Report) -> Result<Scene> {
    lab::check_tools()?;
    let mut lab = Lab::new()?;
    let mut others = Vec::new();

    let (consul, old) = report.step("a Consul, and a service that it knows", |r| {
        let (consul, server) = start(&mut lab)?;
        let old = lab.host("old")?;
        let app = ratings(&old)?;
        others.extend([server, app]);
        let service = json!({
            "Name": "ratings", "Address": old.v4(), "Port": 9080, "Meta": {"protocol": "http", "version": "v1"},
            "Check": {"TCP": format!("{}:9080", old.v4()), "Interval": "1s", "Timeout": "1s"},
        });
        r.typed("consul", "curl -X PUT …/v1/agent/service/register   # ratings on host old, checked by Consul");
        let url = format!("http://{}:8500/v1/agent/service/register", consul.v4());
        must(consul.curl(&["--fail-with-body", "-X", "PUT", "-d", &service.to_string(), &url])?)?;
        Ok(((consul, old), "host old has no agent and never heard of a mesh".to_owned()))
    })?;

    let registries = tempfile::Builder::new().prefix("hawser-demo-").suffix(".yaml").tempfile()?;
    let mesh = report.step("discovery, which reads that Consul", |r| {
        let text = format!(
            "registries:\n- name: main\n  consul:\n    servers: [http://{}:8500]\n    aliases:\n    - service: \"*\"\n      namespace: default\n",
            consul.v4()
        );
        std::fs::write(registries.path(), &text)?;
        readable(registries.path())?;
        r.printed(&text, 10);
        let path = registries.path().display().to_string();
        r.typed("control", "hawser-discovery --registries registries.yaml …");
        let mesh = Mesh::start_with(&mut lab, &["--registries", &path])?;
        mesh.healthy(NAME, 1, SEEN)?;
        for args in [&["registries"][..], &["get", "endpoints", "ratings"]] {
            r.typed("control", &format!("hawser {}", args.join(" ")));
            r.printed(&must(mesh.hawser(args)?)?.out, 6);
        }
        Ok((mesh, format!("ready; Consul's service is {NAME}")))
    })?;

    let mut members = Vec::new();
    report.step("a host that joins calls it, by either name", |r| {
        r.typed("page", "sudo hawser join hwj1.…");
        let page = Member::joined(&mut lab, &mesh, "page", "productpage", "v1")?;
        for url in [URL, CONSULS_URL] {
            r.typed("page", &format!("curl {url}"));
            let seen = must(page.host.curl(&["--fail", url])?)?;
            r.printed(&seen.out, 2);
        }
        members.push(page);
        Ok(((), "answered by host old, in plaintext, as Consul says".to_owned()))
    })?;

    report.step("the same service on a host that joins", |r| {
        let mut new = Member::new(&mut lab, "new")?;
        new.bookinfo("ratings", "v2", "")?;
        r.typed("new", "sudo hawser join hwj1.…");
        new.join(&mesh.token("default/ratings", &["http=9080"], 1, &[])?)?;
        mesh.healthy(NAME, 2, SEEN)?;
        members.push(new);
        let answers = served(&members[0].host, &["old/v1", "new/v2"])?;
        r.typed("control", "hawser get endpoints ratings");
        r.printed(&must(mesh.hawser(&["get", "endpoints", "ratings"])?)?.out, 6);
        Ok(((), format!("one name, two hosts: {answers}; to the new one with mTLS")))
    })?;

    report.step("Consul's instance fails, under load", |r| {
        let load = members[0].load(URL, 50, &["--workers", "8"])?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        r.typed("old", "kill $(pidof ratings)");
        drop(others.pop());
        mesh.healthy(NAME, 1, SEEN)?;
        let answers = served(&members[0].host, &["new/v2"])?;
        let requests = ended(load)?;
        Ok(((), format!("0 of {requests} requests failed; now {answers}")))
    })?;

    report.step("it comes back, and the joined host leaves, under load", |r| {
        let load = members[0].load(URL, 50, &["--workers", "8"])?;
        r.typed("old", "ratings &");
        others.push(ratings(&old)?);
        mesh.healthy(NAME, 2, SEEN)?;
        r.typed("new", "sudo hawser leave");
        must(members[1].hawser(&["leave"])?)?;
        mesh.healthy(NAME, 1, SEEN)?;
        let answers = served(&members[0].host, &["old/v1"])?;
        let requests = ended(load)?;
        Ok(((), format!("0 of {requests} requests failed; now {answers}")))
    })?;

    report.step("Consul is gone", |r| {
        r.typed("consul", "kill -9 $(pidof consul)");
        drop(others.remove(0));
        wait::for_true("its silence is noticed", SEEN, || {
            mesh.hawser(&["registries"]).is_ok_and(|seen| seen.out.contains("stale"))
        })?;
        r.typed("control", "hawser registries");
        r.printed(&must(mesh.hawser(&["registries"])?)?.out, 8);
        let answers = served(&members[0].host, &["old/v1"])?;
        Ok(((), format!("what it said stays, marked stale: {answers}")))
    })?;

    Ok(Scene::new(members, mesh, others, lab))
}

/// A server on a host of its own, with its API on the wire.
fn start(lab: &mut Lab) -> Result<(Host, Process)> {
    let program = testbeds::consul()?.display().to_string();
    let host = lab.host("consul")?;
    let address = host.v4().to_string();
    let args = [
        &program,
        "agent",
        "-dev",
        "-bind",
        &address,
        "-client",
        &address,
        "-log-level",
        "warn",
        "-disable-host-node-id",
        "-node",
        "consul",
    ];
    let server = host.spawn("consul", &args)?;
    let url = format!("http://{address}:8500/v1/catalog/services");
    wait::for_true("Consul has a leader", Duration::from_secs(30), || {
        host.curl(&["--fail", &url]).is_ok_and(|seen| seen.out.contains("consul"))
    })
    .with_context(|| server.log())?;
    Ok((host, server))
}

fn ratings(host: &Host) -> Result<Process> {
    let mut app = host.spawn("ratings", &["hawser-bookinfo", "ratings", "--version", "v1"])?;
    app.says("ready", Duration::from_secs(5))?;
    Ok(app)
}

/// Waits until exactly these answer.
fn served(caller: &Host, by: &[&str]) -> Result<String> {
    let mut last = String::new();
    wait::for_true(&format!("{} answer", by.join(" and ")), SEEN, || match ask(caller, URL, 20) {
        Ok(answers) => {
            last = counts(&answers);
            answers.len() == by.len() && by.iter().all(|who| answers.contains_key(*who))
        }
        Err(error) => {
            last = format!("{error:#}");
            false
        }
    })
    .with_context(|| last.clone())?;
    Ok(last)
}

fn ended(load: Load) -> Result<u64> {
    let report = load.stop()?;
    report.all_ok()?;
    ensure!(report.requests > 0, "nothing was asked");
    Ok(report.requests)
}

/// Discovery is another user.
fn readable(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?)
}
