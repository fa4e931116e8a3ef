//! Command line and file of the agent.
//!
//! In: flags and `agent.yaml`. Out: [`Config`], checked. A file that is absent means the defaults; one that holds
//! an unknown key is an error that names it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Command line of `hawser-agent`.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "hawser-agent", version, about = "Hawser's host agent: identity, redirection, DNS, health, lease")]
pub struct Args {
    /// Where keys, certificates and the last configuration are kept
    #[arg(long, default_value = "/var/lib/hawser")]
    pub state_dir: PathBuf,
    /// Where the sockets are
    #[arg(long, default_value = "/run/hawser")]
    pub run_dir: PathBuf,
    /// The user that the proxy runs as: a name or a number
    #[arg(long, default_value = "hawser-proxy")]
    pub proxy_user: String,
    /// The proxy's program
    #[arg(long, default_value = "/usr/bin/hawser-proxy")]
    pub proxy_binary: PathBuf,
    /// The agent's file
    #[arg(long, default_value = "/etc/hawser/agent.yaml")]
    pub config: PathBuf,
}

/// What the agent runs with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) proxy_binary: PathBuf,
    pub(crate) proxy_user: ProxyUser,
    pub(crate) file: File,
}

/// The user of the proxy's process, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxyUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `agent.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct File {
    /// Which data plane.
    pub(crate) proxy: ProxyKind,
    /// Interfaces whose forwarded traffic is captured.
    pub(crate) capture_interfaces: Vec<String>,
    /// What is never captured.
    pub(crate) exempt: Exempt,
    /// What happens to declared inbound ports without a proxy; the mesh's setting if absent.
    pub(crate) on_proxy_failure: Option<OnProxyFailure>,
    /// Mark of the agent's own sockets, for hosts that route by mark.
    pub(crate) mark: Option<u32>,
}

/// Which data plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProxyKind {
    #[default]
    Hawser,
    Envoy,
}

/// What becomes of declared inbound ports while there is no proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnProxyFailure {
    #[default]
    Closed,
    Open,
}

/// Who is never captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Exempt {
    pub(crate) uids: Vec<u32>,
    pub(crate) marks: Vec<u32>,
    pub(crate) cgroups: Vec<String>,
}

impl Config {
    /// Reads the file and resolves the user.
    pub(crate) fn load(args: &Args) -> anyhow::Result<Self> {
        let file = File::read(&args.config)?;
        if file.proxy == ProxyKind::Envoy {
            bail!("{}: proxy: envoy: this version can't run an Envoy yet; use hawser", args.config.display());
        }
        Ok(Self {
            state_dir: args.state_dir.clone(),
            run_dir: args.run_dir.clone(),
            proxy_binary: args.proxy_binary.clone(),
            proxy_user: ProxyUser::resolve(&args.proxy_user)?,
            file,
        })
    }
}

impl File {
    fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        Ok(serde_saphyr::from_str(text)?)
    }
}

impl ProxyUser {
    fn resolve(user: &str) -> anyhow::Result<Self> {
        let found = match user.parse::<u32>() {
            Ok(uid) => {
                let found = nix::unistd::User::from_uid(uid.into())?;
                return Ok(Self { uid, gid: found.map_or(uid, |user| user.gid.as_raw()) });
            }
            Err(_) => nix::unistd::User::from_name(user)?,
        };
        match found {
            Some(user) => Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            None => bail!("there is no user {user:?} for the proxy: make one, or name another with --proxy-user"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_strict() {
        let text = "proxy: hawser\ncaptureInterfaces: [docker0]\nexempt: {uids: [1000], marks: [7]}\n\
                    onProxyFailure: open\nmark: 9\n";
        let file = File::parse(text).unwrap();
        assert_eq!(file.exempt.uids, [1000]);
        assert_eq!(file.on_proxy_failure, Some(OnProxyFailure::Open));
        assert_eq!(File::parse("# nothing\n").unwrap(), File::default());
        let error = File::parse("captureInterface: [docker0]\n").unwrap_err().to_string();
        assert!(error.contains("captureInterface"), "{error}");
    }
}
