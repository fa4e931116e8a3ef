//! How large a program is without its symbols.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use hawser_tests::programs;

use crate::System;
use crate::peers::HAPROXY_PROGRAM;

/// Bytes of a system's program; nothing for no program.
pub(crate) fn stripped(system: System, envoy: &str) -> anyhow::Result<Option<u64>> {
    let program = match system {
        System::Direct => return Ok(None),
        System::Hawser => programs::find("hawser-proxy")?,
        System::Envoy => real(envoy)?,
        System::Haproxy => HAPROXY_PROGRAM.into(),
    };
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("copy");
    let mut strip = Command::new("strip");
    let status = strip.arg("-o").arg(&copy).arg(&program).status().context("`strip` is missing: install binutils")?;
    anyhow::ensure!(status.success(), "{} can't be stripped", program.display());
    Ok(Some(copy.metadata()?.len()))
}

/// The package's `bin/envoy` may be a script beside the real one.
fn real(envoy: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(envoy);
    if path.metadata()?.len() > 1 << 20 {
        return Ok(path);
    }
    let venv = path.parent().and_then(|bin| bin.parent()).context("an Envoy in a directory")?;
    let libs = std::fs::read_dir(venv.join("lib"))?.flatten();
    let mut all = libs.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    all.find(|p| p.is_file()).with_context(|| format!("the program behind {envoy}"))
}
