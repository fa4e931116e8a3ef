//! Tests that make namespaces: as root where there is root, else through sudo, else in a user namespace.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

const INSIDE: &str = "HAWSER_LAB_INSIDE";

/// Runs a test that makes namespaces.
///
/// # Panics
/// If the test fails, or if this machine lets nobody make namespaces.
pub fn isolated(test: impl FnOnce() -> Result<()>) {
    run(test, false);
}

/// Like [`isolated`], for a test that needs several real users, which a user namespace does not give.
///
/// # Panics
/// If the test fails, or if it can't be run as root.
pub fn isolated_with_users(test: impl FnOnce() -> Result<()>) {
    run(test, true);
}

#[allow(clippy::panic)]
fn run(test: impl FnOnce() -> Result<()>, users: bool) {
    let inside = std::env::var_os(INSIDE).is_some();
    let outcome = if inside || nix::unistd::geteuid().is_root() { test() } else { again_with_rights(users) };
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

/// Runs this very test again, alone, with the rights that it needs.
fn again_with_rights(users: bool) -> Result<()> {
    let name = std::thread::current().name().context("a test has a name")?.to_owned();
    let program = std::env::current_exe()?;
    let works = |command: &str, args: &[&str]| {
        let tried = Command::new(command).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        tried.is_ok_and(|s| s.success())
    };
    let mut command = if works("sudo", &["-n", "true"]) {
        let mut c = Command::new("sudo");
        c.args(["-n", "--preserve-env=HAWSER_BIN_DIR,HAWSER_LOG,PATH,RUST_BACKTRACE", &format!("{INSIDE}=1")]);
        c
    } else if !users && works("unshare", &["-Urnmp", "--fork", "--mount-proc", "true"]) {
        let mut c = Command::new("unshare");
        c.args(["-Urnmp", "--fork", "--mount-proc", "--kill-child", "--"]).env(INSIDE, "1");
        c
    } else {
        bail!("this test makes network namespaces: run it as root, or allow sudo without a password");
    };
    let status = command.arg(program).args([&name, "--exact", "--nocapture", "--include-ignored"]).status()?;
    if !status.success() {
        bail!("{name} failed with other rights, see above");
    }
    Ok(())
}
