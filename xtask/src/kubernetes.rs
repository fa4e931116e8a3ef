//! The scenarios of the double of Kubernetes, asked of a real API server: the double is only as good as this says.

use std::process::Command;

use anyhow::Result;

use crate::{must, root};

/// Programs of a real one; nobody packages them.
const PROGRAMS: [&str; 2] = ["HAWSER_TEST_KUBE_APISERVER", "HAWSER_TEST_KUBE_CONTROLLER_MANAGER"];
/// The parts of `tests/kubernetes/tests/replay` that both are asked.
const SCENARIOS: [&str; 6] = ["watches::", "endpoints::", "writes::", "tokens::", "manifests::", "own::"];
/// Tests of the whole mesh with a cluster in it.
const WHOLE: [&str; 4] = ["kubernetes", "kubernetes_mixed", "kubernetes_out", "kubernetes_tokens"];

/// What is missing for it, as a sentence.
pub(crate) fn missing() -> Option<String> {
    let absent: Vec<&str> =
        PROGRAMS.into_iter().filter(|name| std::env::var_os(name).is_none_or(|v| v.is_empty())).collect();
    (!absent.is_empty()).then(|| {
        format!("no real Kubernetes API server was asked: name its programs in {} to have that", absent.join(" and "))
    })
}

/// Runs them, one after the other: each has a server of its own.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(sentence) = missing() {
        println!("{sentence}");
        return Ok(());
    }
    let scenarios = if args.is_empty() { SCENARIOS.map(str::to_owned).to_vec() } else { args.to_vec() };
    let mut replay = cargo(&["test", "--workspace", "--test", "replay", "--", "--test-threads=1"]);
    replay.args(scenarios);
    must(replay)?;
    if !args.is_empty() {
        return Ok(());
    }
    must(cargo(&["build", "--workspace", "--bins"]))?;
    let mut whole = cargo(&["test", "--workspace"]);
    whole.args(WHOLE.iter().flat_map(|test| ["--test", test])).args(["--", "--test-threads=1"]);
    must(whole)
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).env("HAWSER_TEST_KUBERNETES_REAL", "1").args(args);
    command
}
