//! A directory of YAML as a registry: a change is with the callers within a second, a bad file keeps what it said.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, isolated, wait};

#[test]
fn a_change_of_a_file_arrives_within_a_second_and_a_bad_one_keeps_what_it_said() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "productpage", "v1")?;
        let outside = lab.host("outside")?;
        let mut server = outside.spawn("server", &["hawser-bookinfo", "ratings", "--port", "8000"])?;
        server.says("ready", Duration::from_secs(5))?;
        let file = mesh.config_dir().join("partner.yaml");
        let good = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: partner\n  namespace: default\nspec:\n\
             \x20 hosts: [partner.example.test]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n\
             \x20 ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8000}}]\n\
             \x20 endpoints: [{{address: {}}}]\n",
            outside.v4()
        );
        let answers =
            || caller.host.curl(&["--fail", "--max-time", "1", "http://partner.example.test/"]).is_ok_and(|s| s.ok());
        ensure!(!answers(), "nobody is called so yet");

        std::fs::write(&file, &good)?;
        let start = Instant::now();
        wait::for_true("the new service answers", Duration::from_secs(5), answers)?;
        let took = start.elapsed();
        ensure!(took < Duration::from_secs(1), "it took {took:?}");

        std::fs::write(&file, good.replace("resolution:", "resolutoin:"))?;
        let mut last = None;
        wait::for_true("the mistake is shown with file, line and field", Duration::from_secs(5), || {
            last = mesh.json(&["get", "config"]).ok().map(|c| c.to_string());
            last.as_ref()
                .is_some_and(|c| c.contains("partner.yaml:9") && c.contains("resolutoin") && c.contains("rejected"))
        })
        .with_context(|| format!("{last:?}"))?;
        ensure!(answers(), "what the file said before stays");

        std::fs::remove_file(&file)?;
        wait::for_true("it is gone with its file", Duration::from_secs(5), || !answers())?;
        Ok(())
    });
}
