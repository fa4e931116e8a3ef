//! A new proxy takes over from the one that runs: no request fails, and connections that began before go on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Load, Member, Mesh, Talk};
use hawser_tests::{Lab, isolated, wait};
use serde_json::Value;

const HOST: &str = "details.default.svc.cluster.local";
const URL: &str = "http://details.default.svc.cluster.local:9080/";
const TCP: &str = "details.default.svc.cluster.local:9000";
const UPGRADED: &str = "details.default.svc.cluster.local:9081";
const MOMENT: Duration = Duration::from_secs(20);

/// A caller, and a callee with HTTP, TCP, and HTTP that becomes something else.
fn pair(lab: &mut Lab, mesh: &Mesh) -> Result<(Member, Member)> {
    let caller = Member::joined(lab, mesh, "caller", "productpage", "v1")?;
    let mut callee = Member::new(lab, "callee")?;
    callee.bookinfo("details", "v1", "")?;
    callee.app("echo", &["hawser-lab", "echo", "--port", "9000"])?;
    callee.app("upgraded", &["hawser-lab", "echo", "--port", "9081", "--upgrade"])?;
    let ports = ["http=9080", "tcp=9000", "http-ws=9081"];
    callee.join(&mesh.token("default/details", &ports, 1, &["--label", "app=details"])?)?;
    // One endpoint for each port.
    mesh.healthy(HOST, 3, MOMENT)?;
    wait::for_true("it answers", MOMENT, || caller.host.curl(&["--fail", URL]).is_ok_and(|seen| seen.ok()))?;
    Ok((caller, callee))
}

fn proxy(member: &Member) -> Result<Value> {
    Ok(member.json(&["status"])?["host"]["proxy"].clone())
}

/// Another proxy, which is the member's now.
fn replace(member: &Member) -> Result<()> {
    let before = proxy(member)?;
    member.take_over()?.context("taking over")?;
    let mut after = Value::Null;
    wait::for_true("the new proxy is the host's", MOMENT, || {
        after = proxy(member).unwrap_or_default();
        after["state"] == "running" && after["pid"] != before["pid"]
    })
    .with_context(|| format!("{before}\n{after}"))?;
    ensure!(after["restarts"] == before["restarts"], "it is no restart: {after}");
    Ok(())
}

fn formers(member: &Member, count: u64) -> Result<()> {
    let mut seen = Value::Null;
    wait::for_true(&format!("{}: {count} former proxies", member.host.name()), MOMENT, || {
        seen = proxy(member).unwrap_or_default();
        seen["former"] == count
    })
    .with_context(|| seen.to_string())
}

/// Requests of all kinds.
struct Loads([Load; 3]);

impl Loads {
    fn start(caller: &Member) -> Result<Self> {
        Ok(Self([
            caller.load(URL, 200, &["--workers", "8"])?,
            // Seconds pass between two requests of one connection.
            caller.load(URL, 2, &["--workers", "8"])?,
            caller.load(URL, 100, &["--workers", "4", "--fresh"])?,
        ]))
    }

    /// None has failed.
    fn stop(self) -> Result<()> {
        self.0.into_iter().try_for_each(|load| load.stop()?.all_ok())
    }
}

#[test]
fn no_request_fails_and_no_connection_ends_while_proxies_are_replaced() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let (mut caller, mut callee) = pair(&mut lab, &mesh)?;
        let talks: Vec<Talk> = [
            Talk::start(&caller.host, TCP, &[])?,
            Talk::start(&caller.host, TCP, &["--idle"])?,
            Talk::start(&caller.host, UPGRADED, &["--upgrade"])?,
            Talk::start(&caller.host, UPGRADED, &["--upgrade", "--idle"])?,
        ]
        .into();
        let loads = Loads::start(&caller)?;
        for member in [&caller, &callee, &caller, &callee] {
            replace(member)?;
            wait::stays_true("calls go on", Duration::from_secs(2), || true)?;
        }
        for member in [&caller, &callee] {
            // The first: others had nothing that lasts.
            formers(member, 1)?;
        }
        loads.stop()?;
        // Former proxies are known to an agent that starts again, which answers no name meanwhile.
        for member in [&mut caller, &mut callee] {
            member.kill_agent();
            member.start_agent()?;
        }
        formers(&callee, 1)?;
        for talk in talks {
            talk.stop()?;
        }
        let loads = Loads::start(&caller)?;
        // The oldest of too many end; and whoever is new is as good as they were.
        for member in [&caller, &callee, &caller, &callee] {
            replace(member)?;
            ensure!(proxy(member)?["former"].as_u64().is_some_and(|count| count <= 2), "few former ones");
        }
        wait::stays_true("calls go on", Duration::from_secs(5), || true)?;
        loads.stop()?;
        for member in [&caller, &callee] {
            formers(member, 0)?;
        }
        Ok(())
    });
}

#[test]
fn a_proxy_that_can_not_take_over_changes_nothing_and_leaving_ends_former_ones() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let (caller, mut callee) = pair(&mut lab, &mesh)?;
        let talk = Talk::start(&caller.host, TCP, &[])?;
        let load = caller.load(URL, 100, &["--workers", "4"])?;
        let before = proxy(&callee)?;

        callee.kill_agent();
        let why = format!("{:#}", callee.take_over()?.err().context("there is no agent to take over with")?);
        ensure!(why.contains("nothing has changed") && why.contains("listeners.sock"), "{why}");
        callee.start_agent()?;
        wait::for_true("the proxy is known", MOMENT, || {
            proxy(&callee).is_ok_and(|proxy| proxy["state"] == "running" && proxy["pid"] == before["pid"])
        })?;
        load.stop()?.all_ok()?;

        replace(&callee)?;
        formers(&callee, 1)?;
        talk.stop()?;
        formers(&callee, 0)?;

        // Discovery waits for those that serve, and shows them alone.
        let clients = || -> Result<usize> { Ok(mesh.json(&["proxy-status"])?.as_array().context("a list")?.len()) };
        let before = clients()?;
        let talk = Talk::start(&caller.host, TCP, &[])?;
        replace(&caller)?;
        formers(&caller, 1)?;
        let mut seen = 0;
        wait::for_true("discovery knows who is a former one", MOMENT, || {
            seen = clients().unwrap_or_default();
            seen == before
        })
        .with_context(|| format!("{before}, then {seen}"))?;
        let streams = mesh.metric("hawser_xds_clients")?;
        ensure!(streams > f64::from(u32::try_from(before)?), "the former one has a stream still: {streams}");
        talk.stop()?;

        // A connection that lasts ends with the leave.
        let _talk = Talk::start(&caller.host, TCP, &[])?;
        replace(&callee)?;
        formers(&callee, 1)?;
        let left = callee.hawser(&["leave", "--drain", "1s"])?;
        ensure!(left.ok(), "{left:?}");
        wait::for_true("no proxy is left", MOMENT, || callee.proxy_processes().is_empty())
            .with_context(|| format!("{:?}", callee.proxy_processes()))
    });
}
