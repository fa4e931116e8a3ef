//! Discovery that dies and comes back; many hosts lost at once.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, isolated, wait};

const HOST: &str = "details.default.svc.cluster.local";
const URL: &str = "http://details.default.svc.cluster.local:9080/";

#[test]
fn a_killed_discovery_costs_no_request_no_endpoint_and_no_full_resend() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start(&mut lab)?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "productpage", "v1")?;
        let _servers = ["one", "two"].map(|n| Member::joined(&mut lab, &mesh, n, "details", "v1"));
        mesh.healthy(HOST, 2, Duration::from_secs(10))?;
        wait::for_true("it answers", Duration::from_secs(10), || {
            caller.host.curl(&["--fail", URL]).is_ok_and(|s| s.ok())
        })?;
        let load = caller.load(URL, 100, &["--workers", "8", "--fresh"])?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        for _ in 0..3 {
            mesh.kill_discovery();
            wait::stays_true("the load runs without discovery", Duration::from_secs(1), || true)?;
            mesh.start_discovery()?;
            ensure!(mesh.endpoints(HOST)?.len() == 2, "an endpoint was lost: {:#?}", mesh.endpoints(HOST)?);
            mesh.healthy(HOST, 2, Duration::from_secs(10))?;
        }
        wait::for_true("every host is back", Duration::from_secs(15), || {
            mesh.json(&["status"]).is_ok_and(|s| s["discovery"]["hosts_connected"] == 3)
        })?;
        load.stop()?.all_ok()?;
        // After a restart clients name what they hold, and nothing of it is sent again.
        let sent = mesh.metric("hawser_xds_resources_sent_total")?;
        ensure!(sent < 1.0, "{sent} resources were sent again after a restart that changed nothing");
        Ok(())
    });
}

#[test]
fn many_hosts_lost_at_once_freeze_their_registry() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let mut members = Vec::new();
        for number in 0..10 {
            let role = if number < 5 { "details" } else { "ratings" };
            members.push(Member::joined(&mut lab, &mesh, &format!("vm{number}"), role, "v1")?);
        }
        mesh.healthy(HOST, 5, Duration::from_secs(20))?;
        for member in &members[1..5] {
            lab.cut(&member.host)?;
        }
        wait::for_true("the freeze is shown", Duration::from_secs(10), || {
            mesh.json(&["status"]).is_ok_and(|s| s["discovery"]["freezes"].as_array().is_some_and(|f| !f.is_empty()))
        })?;
        ensure!(mesh.metric("hawser_frozen_hosts")? >= 1.0, "the metric shows it too");
        wait::for_true("all four are the last choice", Duration::from_secs(5), || {
            let endpoints = mesh.endpoints(HOST).unwrap_or_default();
            let unhealthy = endpoints.iter().filter(|e| e["health"] == "unhealthy").count();
            let degraded = endpoints.iter().filter(|e| e["health"] == "degraded").count();
            endpoints.len() == 5 && unhealthy == 0 && degraded == 4
        })
        .with_context(|| format!("{:#?}", mesh.endpoints(HOST)))?;
        wait::for_true("members know", Duration::from_secs(5), || {
            members[9].json(&["status"]).is_ok_and(|s| s["host"]["frozen"] == true)
        })?;

        for member in members.iter().filter(|m| m.host.name() != "vm9") {
            lab.cut(&member.host)?;
        }
        lab.cut(&members[9].host)?;
        wait::stays_true("nothing is removed", Duration::from_secs(8), || {
            mesh.endpoints(HOST).is_ok_and(|e| e.len() == 5)
        })?;
        Ok(())
    });
}
