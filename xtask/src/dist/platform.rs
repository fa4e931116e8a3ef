//! Processors that packages are made for: this machine's, and arm64 where a linker for it is at hand.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::target;

/// A processor and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    /// Debian's.
    pub(crate) deb: &'static str,
    /// rpm's, and the kernel's.
    pub(crate) rpm: &'static str,
    /// The compiler's, where it is not this machine's own.
    pub(crate) triple: Option<&'static str>,
    /// What stands before the names of linker and strip.
    pub(crate) tools: &'static str,
}

const AMD64: Platform = Platform { deb: "amd64", rpm: "x86_64", triple: None, tools: "" };
const ARM64: Platform = Platform { deb: "arm64", rpm: "aarch64", triple: None, tools: "" };
const CROSS_ARM64: Platform =
    Platform { triple: Some("aarch64-unknown-linux-gnu"), tools: "aarch64-linux-gnu-", ..ARM64 };

impl Platform {
    /// Those that can be built here; says what is left out, and why.
    pub(crate) fn all(debug: bool) -> Vec<Self> {
        let mut all = vec![Self::own()];
        if cfg!(target_arch = "aarch64") {
            println!("amd64 is left out: it is built on a machine of its own kind");
        } else if !debug {
            match CROSS_ARM64.missing() {
                None => all.push(CROSS_ARM64),
                Some(missing) => println!("arm64 is left out: {missing}"),
            }
        }
        all
    }

    /// This machine's.
    pub(crate) fn own() -> Self {
        if cfg!(target_arch = "aarch64") { ARM64 } else { AMD64 }
    }

    /// Where cargo puts programs for it.
    pub(crate) fn programs(&self, debug: bool) -> PathBuf {
        let profile = if debug { "debug" } else { "release" };
        self.triple.map_or_else(target, |triple| target().join(triple)).join(profile)
    }

    /// Where programs that are shipped are kept: other builds write over those of cargo's.
    pub(crate) fn shipped(&self, debug: bool) -> PathBuf {
        let profile = if debug { "debug" } else { "release" };
        target().join("shipped").join(format!("{profile}-{}", self.deb))
    }

    /// The linker, where it is not this machine's own.
    pub(crate) fn linker(&self) -> Option<String> {
        self.triple.map(|_| format!("{}gcc", self.tools))
    }

    /// What is missing to build for it.
    fn missing(&self) -> Option<String> {
        let linker = self.linker()?;
        let quiet = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !quiet(&linker, &["--version"]) {
            return Some(format!("there is no {linker} (Debian's package gcc-aarch64-linux-gnu)"));
        }
        let triple = self.triple.unwrap_or_default();
        let library = Command::new("rustc").args(["--print", "target-libdir", "--target", triple]).output().ok();
        let there =
            library.is_some_and(|said| std::path::Path::new(String::from_utf8_lossy(&said.stdout).trim()).is_dir());
        (!there).then(|| format!("the compiler has no library for it: rustup target add {triple}"))
    }
}
