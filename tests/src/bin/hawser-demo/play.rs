//! `--keep`: everything stays up, and what is typed runs on the hosts.
#![allow(clippy::print_stdout)]

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::story::Scene;

/// Reads commands until the reader has had enough.
pub(crate) fn play(scene: &Scene) {
    println!(
        "\nIt is still up: {}. Type a host and a command, or a host alone for a shell there:",
        scene.names().join(", ")
    );
    println!("\n  page curl http://reviews.default.svc.cluster.local:9080/");
    println!("  page hawser status");
    println!("  control hawser get endpoints\n\nAn empty line ends it.");
    let prompt = std::io::stdin().is_terminal();
    loop {
        if prompt {
            print!("> ");
            let _ = std::io::stdout().flush();
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).unwrap_or(0);
        let line = line.trim();
        if read == 0 || line.is_empty() {
            return;
        }
        let (name, command) = line.split_once(' ').unwrap_or((line, "exec bash -i"));
        match scene.host(name) {
            Some(host) => drop(host.command(&["bash", "-c", command]).status()),
            None => println!("there is no host {name}: {}", scene.names().join(", ")),
        }
    }
}
