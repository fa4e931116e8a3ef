//! The control host alone: discovery's verbs as an operator types them.

use anyhow::{Context as _, ensure};
use hawser_tests::mesh::Mesh;
use hawser_tests::{Lab, isolated, programs};

#[test]
fn the_verbs_of_the_control_host() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let status = mesh.json(&["status"])?;
        ensure!(status["discovery"]["ready"] == true, "{status:#}");

        let token = mesh.token("default/details", &["http=9080"], 2, &["--label", "app=details"])?;
        ensure!(token.starts_with("hwj1."), "{token}");
        let tokens = mesh.json(&["token", "list"])?;
        ensure!(tokens[0]["state"] == "valid" && tokens[0]["uses"] == 2, "{tokens:#}");
        let id = tokens[0]["id"].as_str().context("id")?.to_owned();
        ensure!(mesh.hawser(&["token", "revoke", &id])?.ok());
        ensure!(mesh.json(&["get", "tokens", &id])?[0]["state"] == "revoked");
        ensure!(mesh.hawser(&["token", "revoke", "nobody"])?.code == 5);

        let dir = programs::source_root().join("tests/bookinfo").display().to_string();
        let file = format!("{dir}/reviews-service.yaml");
        let seen = mesh.hawser(&["apply", "-f", &file])?;
        ensure!(seen.out == "ServiceEntry default/reviews created\n", "{seen:?}");
        ensure!(mesh.hawser(&["apply", "-f", &file])?.out == "ServiceEntry default/reviews unchanged\n");
        let seen =
            mesh.hawser_with_input(&["apply", "-f", "-"], "apiVersion: networking.istio.io/v1\nkind: Sidecar\n")?;
        ensure!(seen.code == 4 && seen.err.contains("stdin:1"), "{seen:?}");
        let services = mesh.json(&["get", "services", "reviews"])?;
        ensure!(services[0]["host"] == "reviews.default.svc.cluster.local", "{services:#}");
        let config = mesh.hawser(&["get", "config", "-o", "yaml"])?;
        ensure!(config.ok() && config.out.contains("workloadSelector"), "{config:?}");
        ensure!(mesh.hawser(&["delete", "ServiceEntry", "reviews"])?.ok());
        ensure!(mesh.hawser(&["delete", "ServiceEntry", "reviews"])?.code == 5);

        let seen = mesh.hawser(&["register", "legacy", "10.77.0.9", "--port", "tcp=5432"])?;
        ensure!(seen.ok(), "{seen:?}");
        ensure!(mesh.endpoints("legacy.default.svc.cluster.local")?.len() == 1);
        ensure!(mesh.hawser(&["deregister", "legacy", "10.77.0.9"])?.ok());
        ensure!(mesh.hawser(&["deregister", "legacy", "10.77.0.9"])?.code == 5);

        for listing in ["services", "workloads", "endpoints", "config", "hosts", "tokens"] {
            for format in ["table", "json", "yaml"] {
                let seen = mesh.hawser(&["get", listing, "-o", format])?;
                ensure!(seen.ok(), "get {listing} -o {format}: {seen:?}");
            }
        }
        ensure!(mesh.hawser(&["proxy-status"])?.ok());
        ensure!(mesh.hawser(&["get", "services", "nobody"])?.code == 5);

        let file = mesh.control.disk().join("copy");
        ensure!(mesh.hawser(&["backup", &file.display().to_string()])?.ok());
        ensure!(std::fs::metadata(&file)?.len() > 100);
        Ok(())
    });
}
