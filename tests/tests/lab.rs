//! The lab itself: hosts that reach each other, an outside name, a cut cable, a reboot, a recording.

use std::time::Duration;

use anyhow::ensure;
use hawser_tests::{Lab, isolated, lab};

#[test]
fn hosts_reach_each_other_until_the_cable_is_cut() {
    isolated(|| {
        let mut lab = Lab::new()?;
        let (a, mut b) = (lab.host("a")?, lab.host("b")?);
        let mut server = b.spawn("details", &["hawser-bookinfo", "details", "--marker", "in-the-clear"])?;
        server.says("ready", Duration::from_secs(5))?;

        let capture = lab.capture("plain")?;
        for address in [b.v4().to_string(), format!("[{}]", b.v6())] {
            let seen = a.curl(&[&format!("http://{address}:9080/details/1")])?;
            ensure!(seen.out.contains("Shakespeare"), "{seen:?}");
        }
        let recording = capture.stop()?;
        ensure!(recording.frames_with_on("in-the-clear", 9080) >= 2, "the sniffer saw {} frames", recording.len());

        let outside = a.ok(&["getent", "ahostsv4", lab::OUTSIDE])?;
        ensure!(outside.starts_with(lab::GATEWAY), "{outside}");

        lab.cut(&b)?;
        ensure!(!a.curl(&["--max-time", "1", &format!("http://{}:9080/", b.v4())])?.ok(), "the cable is cut");
        lab.mend(&b)?;
        ensure!(a.curl(&[&format!("http://{}:9080/", b.v4())])?.ok(), "the cable is mended");

        lab.power_off(&mut b);
        ensure!(server.wait(Duration::from_secs(5)).is_ok(), "its programs end with the host");
        lab.power_on(&mut b)?;
        ensure!(a.run(&["ping", "-c1", "-W2", &b.v4().to_string()]).is_ok(), "it is back");
        Ok(())
    });
}
