//! The command line as scripts see it: exit code, stdout, stderr. No daemon is needed.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use hawser_tests::programs;

fn hawser(args: &[&str]) -> Output {
    let mut command = Command::new(programs::find("hawser").unwrap());
    command.args(args).env("HAWSER_AGENT_SOCKET", "/nonexistent/agent.sock");
    command.env("HAWSER_ADMIN_SOCKET", "/nonexistent/admin.sock").env_remove("HAWSER_TOKEN").stdin(Stdio::null());
    command.output().unwrap()
}

fn seen(args: &[&str]) -> (i32, String, String) {
    let out = hawser(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

#[test]
fn a_daemon_that_is_away_has_its_own_code_and_a_hint() {
    for args in [&["status"][..], &["get", "services"], &["leave"], &["proxy-status"], &["token", "list"]] {
        let (code, out, err) = seen(args);
        assert_eq!((code, out.as_str()), (3, ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains("\nhint: "), "{args:?}: {err}");
    }
}

#[test]
fn a_doctor_says_that_the_agent_is_away_and_looks_all_the_same() {
    let (code, out, err) = seen(&["doctor", "-o", "json"]);
    assert_eq!((code, err.as_str()), (8, ""), "{out}");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert!(findings[0]["check"] == "agent" && findings[0]["verdict"] == "failure", "{out}");
    assert!(findings.iter().any(|finding| finding["check"] == "disk"), "{out}");
    assert_eq!(seen(&["doctor", "hwj1.eyJhIjpb"]).0, 4);
}

#[test]
fn what_can_not_be_understood_is_usage() {
    for args in
        [&["dance"][..], &[], &["get", "nothing"], &["token", "create"], &["join"], &["register", "x"], &["delete"]]
    {
        let (code, out, err) = seen(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(!err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_damaged_token_is_told_before_anything_is_asked() {
    for token in ["hwj1.eyJhIjpb", "hwj1.", "hello", "hwj1.AAAA", &format!("hwj1.{}", "A".repeat(100_000))] {
        let (code, _, err) = seen(&["join", token]);
        assert_eq!(code, 4, "{err}");
    }
}

#[test]
fn data_goes_to_stdout_and_everything_else_to_stderr() {
    let (code, out, err) = seen(&["completions", "bash"]);
    assert!(code == 0 && out.contains("_hawser") && err.is_empty());
    let (code, out, err) = seen(&["help", "exit-codes"]);
    assert!(code == 0 && out.contains("token-expired") && err.is_empty());
    let (code, out, err) = seen(&["version"]);
    assert!(code == 0 && out.contains(env!("CARGO_PKG_VERSION")) && err.is_empty());
    let (code, out, _) = seen(&["help", "token", "create"]);
    assert!(code == 0 && out.contains("--group"));
}

#[test]
fn resources_are_checked_without_a_server() {
    let dir = programs::source_root().join("tests/bookinfo");
    let (code, out, err) = seen(&["validate", "-f", &dir.display().to_string()]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.lines().filter(|l| l.ends_with(" valid")).count(), 4, "{out}");

    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let bad = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  htpp: []\n";
    std::fs::write(file.path(), bad).unwrap();
    let path = file.path().display().to_string();
    let (code, out, err) = seen(&["validate", "-f", &path]);
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert!(err.contains(&format!("{path}:6: ")) && err.contains("htpp"), "{err}");

    let (code, out, _) = seen(&["validate", "-f", &path, "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &listed[0]["valid"]), (4, &serde_json::json!(false)));
    assert_eq!(seen(&["validate", "-f", "/nonexistent.yaml"]).0, 5);
}
