//! A host that loses power, and one that leaves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, isolated, wait};

const HOST: &str = "details.default.svc.cluster.local";
const URL: &str = "http://details.default.svc.cluster.local:9080/";
const LEASE: Duration = Duration::from_secs(5);

fn three(lab: &mut Lab, mesh: &Mesh) -> Result<(Member, Vec<Member>)> {
    let caller = Member::joined(lab, mesh, "caller", "productpage", "v1")?;
    let servers = ["one", "two", "three"].map(|name| Member::joined(lab, mesh, name, "details", "v1"));
    let servers: Vec<Member> = servers.into_iter().collect::<Result<_>>()?;
    mesh.healthy(HOST, 3, Duration::from_secs(10))?;
    wait::for_true("all three answer", Duration::from_secs(10), || {
        let seen = caller.host.ok(&["hawser-lab", "load", "--url", URL, "--rate", "0", "--count", "30"]);
        seen.is_ok_and(|out| ["one/", "two/", "three/"].iter().all(|s| out.contains(s)))
    })?;
    Ok((caller, servers))
}

#[test]
fn a_host_without_power_is_out_after_its_lease_and_nobody_waits_longer() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let (caller, servers) = three(&mut lab, &mesh)?;
        let load = caller.load(URL, 60, &["--workers", "24"])?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        let start = Instant::now();
        lab.cut(&servers[1].host)?;
        mesh.healthy(HOST, 2, LEASE + Duration::from_secs(1))?;
        let out = start.elapsed();
        // Whoever was waiting at that moment is done two seconds later.
        wait::stays_true("the load runs", Duration::from_secs(3), || true)?;
        let report = load.stop()?;
        ensure!(out <= LEASE + Duration::from_secs(1), "out after {out:?}");
        let longest = Duration::from_millis(report.max_ms);
        ensure!(longest <= LEASE + Duration::from_secs(2), "a request took {longest:?}: {report:#?}");
        let late = caller.host.ok(&["hawser-lab", "load", "--url", URL, "--rate", "0", "--count", "100"])?;
        ensure!(late.contains("\"failures\":0") && !late.contains("two/"), "{late}");
        Ok(())
    });
}

#[test]
fn leaving_under_load_fails_no_request() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let (caller, servers) = three(&mut lab, &mesh)?;
        let load = caller.load(URL, 100, &["--workers", "8"])?;
        let fresh = caller.load(URL, 50, &["--workers", "4", "--fresh"])?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        let seen = servers[2].hawser(&["leave"])?;
        ensure!(seen.ok(), "{seen:?}");
        mesh.healthy(HOST, 2, Duration::from_secs(5))?;
        wait::stays_true("the load runs", Duration::from_secs(1), || true)?;
        load.stop()?.all_ok()?;
        fresh.stop()?.all_ok()?;
        ensure!(servers[2].json(&["status"])?["host"]["state"] == "idle");
        Ok(())
    });
}
