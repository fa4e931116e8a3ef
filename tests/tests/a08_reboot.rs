//! A host that boots while discovery is away.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, isolated, wait};

#[test]
fn a_rebooted_host_serves_and_calls_from_its_cache_while_discovery_is_down() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start(&mut lab)?;
        let mut a = Member::joined(&mut lab, &mesh, "a", "details", "v1")?;
        let b = Member::joined(&mut lab, &mesh, "b", "ratings", "v1")?;
        let (details, ratings) =
            ("http://details.default.svc.cluster.local:9080/", "http://ratings.default.svc.cluster.local:9080/");
        let answers = |member: &Member, url: &str| member.host.curl(&["--fail", url]).is_ok_and(|s| s.ok());
        wait::for_true("both call each other", Duration::from_secs(10), || {
            answers(&a, ratings) && answers(&b, details)
        })?;

        // What was used within the last moments is not on the disk yet.
        wait::for_true("what it called is in its cache", Duration::from_secs(10), || {
            CACHED.iter().all(|file| holds(&a.state_dir().join("cache").join(file), b"ratings.default"))
        })?;
        mesh.kill_discovery();
        a.power_off(&lab);
        lab.power_on(&mut a.host)?;
        a.bookinfo("details", "v1", "")?;
        a.start_agent()?;
        let capture = lab.capture("reboot")?;
        wait::for_true("it calls what it called before", Duration::from_secs(10), || answers(&a, ratings))
            .with_context(|| format!("{:?}", a.hawser(&["status"])))?;
        wait::for_true("it serves", Duration::from_secs(10), || answers(&b, details))?;
        let tls = capture.stop()?.tls_on(9080);
        ensure!(tls.application_records > 0, "over mTLS: {tls:?}");
        Ok(())
    });
}

/// The files of the proxy's cache that a call needs.
const CACHED: [&str; 4] = [
    "hawser-1-details/envoy.config.listener.v3.Listener.cache",
    "hawser-1-details/envoy.config.route.v3.RouteConfiguration.cache",
    "hawser-1-details/envoy.config.cluster.v3.Cluster.cache",
    "hawser-1-details/envoy.config.endpoint.v3.ClusterLoadAssignment.cache",
];

/// Whether a file holds a text.
fn holds(file: &Path, text: &[u8]) -> bool {
    std::fs::read(file).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text))
}
