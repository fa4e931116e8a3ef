//! A workload that is a control group, as systemd's units are.

use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::process::Command;

use hawser_agent::redirect::{Exempt, Intent, Outbound, Redirection, Scope};

use crate::intent;

/// Set where a test has run itself again.
const INSIDE: &str = "HAWSER_TEST_INSIDE";

#[test]
fn a_unit_is_told_by_its_control_group() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let program = std::env::current_exe().unwrap();
    let script = "ip link set lo up && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$0\" --exact cgroup::a_unit_is_told_by_its_control_group --nocapture";
    let output =
        Command::new("unshare").args(["-mn", "sh", "-c", script]).arg(program).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A control group that ends with the value.
struct Group(String);

impl Group {
    fn new(name: &str) -> Self {
        let path = format!("hwr-redir-{}/{name}", std::process::id());
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(format!("/sys/fs/cgroup/{path}")).unwrap();
        Self(path)
    }

    /// Whether a program in the group reaches anything.
    fn connects(&self, to: &str) -> bool {
        let script = format!("echo $$ > /sys/fs/cgroup/{}/cgroup.procs && exec 3<>/dev/tcp/{to}", self.0);
        Command::new("bash").args(["-c", &script]).output().unwrap().status.success()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        _ = std::fs::remove_dir(format!("/sys/fs/cgroup/{}", self.0));
        _ = std::fs::remove_dir(format!("/sys/fs/cgroup/hwr-redir-{}", std::process::id()));
    }
}

/// The test itself, in a namespace of its own.
fn inside() {
    let (unit, exempt) = (Group::new("a.service"), Group::new("b.service"));
    let missing = Outbound { scope: Scope::Cgroup("gone.slice".into()), port: 15101, workload: "gone".into() };
    let mut intent = Intent { exempt: Exempt { cgroups: [exempt.0.clone()].into(), ..Exempt::default() }, ..intent() };
    intent.outbound.insert(Outbound { scope: Scope::Cgroup(unit.0.clone()), port: 15100, workload: "a".into() });
    intent.outbound.insert(missing);
    let state = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut redirection = Redirection::new(state.path());
        let notes = redirection.apply(&intent).await.unwrap();
        assert_eq!(notes, ["workload gone has no control group gone.slice yet: start its unit and apply again"]);
        assert_eq!(redirection.check().await.unwrap(), Vec::<String>::new());
    });
    let listeners = [15001, 15100].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    listeners.iter().for_each(|l| l.set_nonblocking(true).unwrap());
    let to = "240.240.1.2/9080";
    assert!(unit.connects(to));
    assert!(listeners[1].accept().is_ok() && listeners[0].accept().is_err(), "the unit's own port");
    assert!(!exempt.connects(to), "exempt");
    assert!(std::net::TcpStream::connect("240.240.1.2:9080").is_ok());
    assert!(listeners[0].accept().is_ok(), "everybody else");
}
