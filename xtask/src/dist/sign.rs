//! The key that signs packages and repositories, through GnuPG.
//!
//! In: the name of somebody's key, or nothing. Out: signatures. A key that is made here is for trials: it has no passphrase and
//! lies in `target/dist-key`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{output, quietly};
use crate::target;

const TRIAL: &str = "Hawser trial packages";

/// The key.
pub(super) struct Key {
    /// Of a key that was made here; the user's own otherwise.
    home: Option<PathBuf>,
    name: String,
    /// When signatures say that they were made.
    epoch: u64,
}

impl Key {
    /// The one that is named, or one for trials.
    pub(super) fn provide(name: Option<&str>, epoch: u64) -> Result<Self> {
        if let Some(name) = name {
            return Ok(Self { home: None, name: name.to_owned(), epoch });
        }
        let home = std::path::absolute(target().join("dist-key"))?;
        let key = Self { home: Some(home.clone()), name: TRIAL.into(), epoch };
        if !home.join("made").is_file() {
            let _ = fs::remove_dir_all(&home);
            fs::create_dir_all(&home)?;
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
            let mut make = key.gpg();
            // Older than any commit that it signs.
            make.args(["--faked-system-time", "20200101T000000!", "--passphrase", ""]);
            make.args(["--quick-gen-key", TRIAL, "rsa3072", "sign", "never"]);
            quietly(make).context("a key for trials can't be made")?;
            fs::write(home.join("made"), "")?;
        }
        println!("signing with a key for trials; --key or HAWSER_SIGNING_KEY names another");
        Ok(key)
    }

    fn gpg(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]);
        if let Some(home) = &self.home {
            gpg.arg("--homedir").arg(home);
        }
        gpg
    }

    fn signing(&self) -> Command {
        let mut gpg = self.gpg();
        if self.home.is_some() {
            gpg.args(["--passphrase", ""]);
        }
        gpg.args(["--faked-system-time", &format!("{}!", self.epoch), "--digest-algo", "SHA256"]);
        gpg.args(["--local-user", &self.name]);
        gpg
    }

    /// A signature beside a file.
    pub(super) fn detach(&self, file: &Path, to: &Path) -> Result<()> {
        let mut gpg = self.signing();
        gpg.args(["--armor", "--detach-sign", "--output"]).arg(to).arg(file);
        quietly(gpg)
    }

    /// A file that holds its own signature.
    pub(super) fn clear(&self, file: &Path, to: &Path) -> Result<()> {
        let mut gpg = self.signing();
        gpg.args(["--clear-sign", "--output"]).arg(to).arg(file);
        quietly(gpg)
    }

    /// A signature in a package.
    pub(super) fn sign_rpm(&self, package: &Path) -> Result<()> {
        let mut sign = Command::new("rpmsign");
        sign.arg("--addsign").args(["--define", &format!("_gpg_name {}", self.name)]);
        // Where rpm looks for it differs from system to system.
        let gpg = output(Command::new("sh").args(["-c", "command -v gpg"]))?;
        sign.args(["--define", &format!("__gpg {}", gpg.trim())]);
        let extra = format!(
            "_gpg_sign_cmd_extra_args --pinentry-mode loopback --faked-system-time {}!{}",
            self.epoch,
            if self.home.is_some() { " --passphrase ''" } else { "" }
        );
        sign.args(["--define", &extra]);
        if let Some(home) = &self.home {
            sign.args(["--define", &format!("_gpg_path {}", home.display())]).env("GNUPGHOME", home);
        }
        sign.arg(package);
        quietly(sign)
    }

    /// Its public half, for who installs.
    pub(super) fn export(&self, to: &Path) -> Result<()> {
        let armored = output(self.gpg().args(["--armor", "--export", &self.name]))?;
        fs::write(to, armored)?;
        Ok(())
    }
}
