//! A real Envoy as judge: it takes what discovery sends, in both modes, and speaks with hawser-proxy both ways.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::envoy::{Envoy, Mode, Upstream, listener};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::testbeds::Testbed;
use hawser_tests::{Lab, isolated, programs, wait};

const HOST: &str = "details.default.svc.cluster.local";
const CLUSTER: &str = "outbound|9080||details.default.svc.cluster.local";
const WARM: Duration = Duration::from_secs(1);

#[test]
fn envoy_takes_everything_in_delta_mode() {
    isolated(|| takes_everything(Mode::Delta, "delta"));
}

#[test]
fn envoy_takes_everything_in_state_of_the_world_mode() {
    isolated(|| takes_everything(Mode::StateOfTheWorld, "sotw"));
}

fn takes_everything(mode: Mode, word: &str) -> Result<()> {
    let testbed = Testbed::provide()?;
    let mut lab = Lab::new()?;
    let mesh = Mesh::start(&mut lab)?;
    let _server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
    for file in ["reviews-service.yaml", "destination-rules.yaml", "virtual-service-reviews-90-10.yaml"] {
        mesh.apply(&std::fs::read_to_string(programs::source_root().join("tests/bookinfo").join(file))?)?;
    }
    mesh.healthy(HOST, 1, Duration::from_secs(10))?;
    let envoy = Envoy::start(&testbed, &mesh.control, "envoy", mode, Upstream::Discovery, Vec::new())?;
    wait::for_true("Envoy is ready", Duration::from_secs(20), || {
        envoy.page("/ready").is_ok_and(|p| p.contains("LIVE"))
            && envoy.page("/clusters").is_ok_and(|p| p.contains(&format!("{CLUSTER}::")))
            && envoy.stat("listener_manager.total_listeners_active").is_ok_and(|n| n >= 2)
    })
    .with_context(|| {
        format!(
            "{}\n{}",
            envoy.page("/config_dump?resource=dynamic_listeners").unwrap_or_default(),
            envoy.process.log()
        )
    })?;

    // Changes of a rule, with requests for the clusters all the while: nothing may wait for what is not sent.
    for (round, balancer) in ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"].into_iter().enumerate() {
        let before = envoy.stat("cluster_manager.cds.update_success")?;
        mesh.apply(&format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: details, namespace: default}}\n\
             spec: {{host: {HOST}, trafficPolicy: {{loadBalancer: {{simple: {balancer}}}}}}}\n"
        ))?;
        wait::for_true("the change arrives", Duration::from_secs(5), || {
            envoy.stat("cluster_manager.cds.update_success").is_ok_and(|n| n > before)
        })
        .with_context(|| format!("round {round}"))?;
        wait::for_true("no cluster is warming", WARM, || {
            envoy.stat("cluster_manager.warming_clusters").is_ok_and(|n| n == 0)
        })?;
    }
    let rejected = envoy.sum("update_rejected")?;
    ensure!(rejected == 0, "{rejected} NACKs:\n{}", envoy.process.log());
    let proxies = mesh.json(&["proxy-status"])?;
    let proxies = proxies.as_array().context("a list")?;
    let ours = proxies.iter().find(|p| p["class"] == "envoy").context("Envoy is listed")?;
    ensure!(ours["mode"] == word, "{ours:#}");
    let types = ours["types"].as_array().context("types")?;
    ensure!(types.iter().all(|t| t["last_nack"] == "" && t["state"] == "synced"), "{ours:#}");
    for kind in ["Listener", "Cluster", "ClusterLoadAssignment"] {
        ensure!(types.iter().any(|t| t["name"] == kind), "no {kind}: {ours:#}");
    }
    Ok(())
}

#[test]
fn envoy_as_client_reaches_hawser_proxy_over_mtls_permissive_and_strict() {
    isolated(|| {
        let testbed = Testbed::provide()?;
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let _server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let client = Member::joined(&mut lab, &mesh, "client", "ratings", "v1")?;
        let stranger = lab.host("stranger")?;
        let own = vec![listener(18_080, CLUSTER, false)];
        let envoy = Envoy::start(&testbed, &client.host, "envoy", Mode::Delta, Upstream::Agent, own)?;
        let ask = || client.host.curl(&["--fail", "http://127.0.0.1:18080/"]);
        wait::for_true("Envoy reaches the service", Duration::from_secs(15), || ask().is_ok_and(|s| s.ok()))
            .with_context(|| format!("{}\n{}", envoy.page("/clusters").unwrap_or_default(), envoy.process.log()))?;
        let handshakes = envoy.sum("ssl.handshake")?;
        ensure!(handshakes > 0, "it was not over TLS");
        let plain = format!("http://{}:9080/", _server.host.v4());
        ensure!(stranger.curl(&["--fail", &plain])?.ok(), "permissive takes plaintext");

        mesh.apply(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: istio-system}\n\
             spec: {mtls: {mode: STRICT}}\n",
        )?;
        wait::for_true("strict refuses plaintext", Duration::from_secs(5), || {
            stranger.curl(&["--fail", "--max-time", "1", &plain]).is_ok_and(|s| !s.ok())
        })?;
        ensure!(ask()?.ok(), "strict takes Envoy's mTLS");
        ensure!(envoy.sum("update_rejected")? == 0, "{}", envoy.process.log());
        Ok(())
    });
}

#[test]
fn hawser_proxy_as_client_reaches_envoy_over_mtls() {
    isolated(|| {
        let testbed = Testbed::provide()?;
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let server = Member::joined(&mut lab, &mesh, "server", "details", "v1")?;
        let client = Member::joined(&mut lab, &mesh, "client", "ratings", "v1")?;
        let own = vec![listener(19_080, "local-app", true)];
        let envoy = Envoy::start(&testbed, &server.host, "envoy", Mode::Delta, Upstream::Agent, own)?;
        mesh.apply(&format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: by-envoy, namespace: default}}\n\
             spec:\n  hosts: [by-envoy.default.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n\
             \x20 ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 19080}}]\n\
             \x20 endpoints:\n    - address: {}\n      serviceAccount: default\n\
             \x20     labels: {{security.istio.io/tlsMode: istio}}\n",
            server.host.v4()
        ))?;
        let mut last = None;
        wait::for_true("hawser-proxy reaches Envoy", Duration::from_secs(15), || {
            last = client.host.curl(&["--fail-with-body", "http://by-envoy.default.svc.cluster.local/"]).ok();
            last.as_ref().is_some_and(|s| s.ok())
        })
        .with_context(|| format!("{last:?}\n{}", envoy.process.log()))?;
        ensure!(envoy.sum("lab-19080.ssl.handshake")? > 0 || envoy.sum("ssl.handshake")? > 0, "over mTLS");
        Ok(())
    });
}
