//! Rules that every file of the tree keeps.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let listed =
        Command::new("git").args(["-c", "safe.directory=*", "-C"]).arg(root).args(["ls-files", "-z"]).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let named = names.split('\0').filter(|n| !n.is_empty());
    named.filter_map(|n| Some((n.to_owned(), std::fs::read_to_string(root.join(n)).ok()?))).collect()
}

#[test]
fn rust_files_stay_small_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    for (name, text) in files().iter().filter(|(n, _)| n.ends_with(".rs")) {
        if text.lines().count() > 600 {
            wrong.push(format!("{name} has {} lines: two things?", text.lines().count()));
        }
        let is_test_module = name.ends_with("/tests.rs") || name.contains("/tests/");
        if !text.starts_with("//!") && !text.starts_with("#![") && !is_test_module {
            wrong.push(format!("{name} does not say what it is for"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let home = std::env::var("HOME").unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    let told = |text: &str, place: &str| place.matches('/').count() >= 2 && text.contains(place);
    for (name, text) in files() {
        assert!(!told(&text, &root) && !told(&text, &home), "{name} names a directory of this machine");
    }
}
