//! Who may make namespaces: root; else any user where the system allows it; else sudo, asked for in one sentence.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

const UNSHARE: [&str; 4] = ["-Urnmp", "--fork", "--mount-proc", "--kill-child"];

/// Runs this program again with the rights that it needs, and gives its exit code; `None`: this one has them.
pub(crate) fn elsewhere() -> Option<ExitCode> {
    if nix::unistd::geteuid().is_root() {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let quiet = |mut c: Command| c.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    let mut probe = Command::new("unshare");
    probe.args(UNSHARE).arg("true");
    let mut command = if quiet(probe) {
        let mut c = Command::new("unshare");
        c.args(UNSHARE).arg("--").arg(program).args(std::env::args_os().skip(1));
        c
    } else {
        eprintln!("This system lets only root make network namespaces: sudo is asked, for this demo alone.");
        let mut c = Command::new("sudo");
        c.arg("--preserve-env=HAWSER_LOG,PATH").arg(program).args(std::env::args_os().skip(1));
        c
    };
    let error = command.exec();
    eprintln!("error: {error}");
    Some(ExitCode::FAILURE)
}
