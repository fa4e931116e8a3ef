//! gRPC's own client and server: as an xDS client without any proxy on its side, and through a pair of our proxies.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::testbeds::Testbed;
use hawser_tests::{Host, Lab, isolated, programs, wait};
use serde_json::json;

const TARGET: &str = "echo.default.svc.cluster.local:7070";

#[test]
fn grpcio_follows_endpoints_and_a_weighted_route() {
    isolated(|| {
        let testbed = Testbed::provide()?;
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        mesh.apply(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: echo, namespace: default}\n\
             spec:\n  hosts: [echo.default.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n\
             \x20 ports: [{number: 7070, name: grpc, protocol: GRPC}]\n\
             \x20 workloadSelector: {labels: {app: echo}}\n",
        )?;
        let one = server(&mut lab, &mesh, &testbed, "one", "v1")?;
        let client = Client::new(&testbed, &mesh.control)?;
        wait::for_true("one answers", Duration::from_secs(15), || {
            client.ask(10).is_ok_and(|a| a.get("one") == Some(&10))
        })
        .with_context(|| format!("{:?}", client.ask(1)))?;

        let two = server(&mut lab, &mesh, &testbed, "two", "v2")?;
        wait::for_true("both answer", Duration::from_secs(10), || {
            client.ask(40).is_ok_and(|a| a.get("one").is_some_and(|n| *n > 5) && a.get("two").is_some_and(|n| *n > 5))
        })?;

        mesh.apply(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: echo, namespace: default}\n\
             spec:\n  host: echo\n  subsets:\n    - {name: v1, labels: {version: v1}}\n    - {name: v2, labels: {version: v2}}\n\
             ---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: echo, namespace: default}\n\
             spec:\n  hosts: [echo]\n  http:\n    - route:\n        - {destination: {host: echo, subset: v1}, weight: 90}\n\
             \x20       - {destination: {host: echo, subset: v2}, weight: 10}\n",
        )?;
        wait::for_true("nine of ten go to v1", Duration::from_secs(10), || {
            client.ask(300).is_ok_and(|a| a.get("two").is_some_and(|n| (9..60).contains(n)))
        })?;

        let seen = mesh.hawser(&["delete", "VirtualService", "echo"])?;
        ensure!(seen.ok(), "{seen:?}");
        ensure!(two.hawser(&["leave"])?.ok());
        wait::for_true("only one is left", Duration::from_secs(10), || {
            client.ask(10).is_ok_and(|a| a.get("one") == Some(&10))
        })?;
        drop(one);
        let proxies = mesh.json(&["proxy-status"])?.to_string();
        ensure!(!proxies.contains("\"rejected\""), "{proxies}");
        Ok(())
    });
}

#[test]
fn grpcio_calls_in_all_ways_through_a_pair_of_proxies() {
    isolated(|| {
        let testbed = Testbed::provide()?;
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let script = |name: &str| programs::source_root().join("tests/python").join(name).display().to_string();
        let mut server = Member::new(&mut lab, "server")?;
        server.app("kinds", &[&testbed.python(), &script("rpc_server.py"), "7070"])?;
        server.join(&mesh.token("default/kinds", &["grpc=7070"], 1, &["--label", "app=kinds"])?)?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "details", "v1")?;
        let host = "kinds.default.svc.cluster.local";
        mesh.healthy(host, 1, Duration::from_secs(15))?;
        let address = wait::until("the name resolves", Duration::from_secs(10), || {
            caller.host.ok(&["getent", "ahostsv4", host]).ok()?.split_whitespace().next().map(str::to_owned)
        })?;
        let target = format!("{address}:7070");
        let out = caller.host.ok(&[&testbed.python(), &script("rpc_client.py"), &target, &format!("{host}:7070")])?;
        let seen: serde_json::Value = serde_json::from_str(out.trim())?;
        let three = json!({"said": ["ONE", "TWO", "THREE"], "status": "OK"});
        for (what, wanted) in [
            ("unary", json!("hello")),
            ("large", json!([8 << 20, true])),
            ("server_streams", json!(4 * 128 * 1024)),
            ("client_streams", json!(4_000_000)),
            ("both_stream", three.clone()),
            ("fails", json!("NOT_FOUND: no such thing")),
            ("why", json!("asked for")),
            ("fails_late", json!("RESOURCE_EXHAUSTED: enough")),
            ("before", json!(["one"])),
            ("cancelled", json!("yes")),
            ("deadline_heard", json!("yes")),
            ("slow", json!([512 * 128 * 1024, "OK"])),
            ("goaway", three),
            ("after", json!("OK")),
        ] {
            ensure!(seen[what] == wanted, "{what}: {} where {wanted} was due: {seen}", seen[what]);
        }
        ensure!(seen["deadline"].as_str().is_some_and(|d| d.starts_with("DEADLINE_EXCEEDED")), "{seen}");
        // What a reader leaves lying fills windows and buffers, no more.
        ensure!(seen["written_ahead"].as_u64().is_some_and(|n| n < 256), "{seen}");
        ensure!(caller.metric("istio_requests_total{reporter=\"source\"")? >= 1.0, "the proxies were not on the way");
        Ok(())
    });
}

fn server(lab: &mut Lab, mesh: &Mesh, testbed: &Testbed, name: &str, version: &str) -> Result<Member> {
    let mut member = Member::new(lab, name)?;
    let script = programs::source_root().join("tests/python/echo_server.py").display().to_string();
    member.app("echo", &[&testbed.python(), &script, name, "7070"])?;
    let labels = ["--label", "app=echo", "--label", &format!("version={version}")];
    member.join(&mesh.token(&format!("default/echo-{version}"), &["grpc=7070"], 1, &labels)?)?;
    Ok(member)
}

struct Client<'a> {
    host: &'a Host,
    python: String,
    bootstrap: String,
}

impl<'a> Client<'a> {
    fn new(testbed: &Testbed, host: &'a Host) -> Result<Self> {
        let file = host.disk().join("grpc-bootstrap.json");
        let node = json!({
            "id": format!("sidecar~{}~client.default~default.svc.cluster.local", host.v4()),
            "cluster": "client",
            "metadata": {"GENERATOR": "grpc", "NAMESPACE": "default"},
            "locality": {"region": "", "zone": "", "sub_zone": ""},
        });
        let server = json!({
            "server_uri": "127.0.0.1:15010",
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        });
        std::fs::write(&file, json!({"xds_servers": [server], "node": node}).to_string())?;
        Ok(Self { host, python: testbed.python(), bootstrap: file.display().to_string() })
    }

    fn ask(&self, count: u32) -> Result<BTreeMap<String, u64>> {
        let script = programs::source_root().join("tests/python/xds_client.py").display().to_string();
        let variable = format!("GRPC_XDS_BOOTSTRAP={}", self.bootstrap);
        let out = self.host.ok(&["env", &variable, &self.python, &script, TARGET, &count.to_string()])?;
        let seen: serde_json::Value = serde_json::from_str(out.trim())?;
        ensure!(seen["failures"].as_array().is_some_and(Vec::is_empty), "{seen}");
        Ok(serde_json::from_value(seen["answers"].clone())?)
    }
}
