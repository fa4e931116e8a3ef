//! Command line and file of the agent.
//!
//! In: flags and `agent.yaml`. Out: [`Config`], checked. A file that is absent means the defaults; one that holds
//! an unknown key is an error that names it.

mod exempt;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

pub(crate) use exempt::Exempt;

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
    /// The proxy's program; hawser-proxy beside this one if absent
    #[arg(long)]
    pub proxy_binary: Option<PathBuf>,
    /// The proxy is started by somebody else, as by a unit of its own, while listeners.sock is there; the agent starts none
    #[arg(long)]
    pub external_proxy: bool,
    /// The agent's file
    #[arg(long, default_value = "/etc/hawser/agent.yaml")]
    pub config: PathBuf,
}

/// The most worker threads that an Envoy is started with.
const MOST_THREADS: u32 = 1024;

/// A week.
const LONGEST_DRAIN: u32 = 7 * 86_400;

/// What the agent runs with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) proxy_binary: PathBuf,
    pub(crate) proxy_user: ProxyUser,
    pub(crate) external_proxy: bool,
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
    /// How an Envoy is run.
    pub(crate) envoy: Envoy,
    /// How long connections of a proxy may go on in whose place another one serves.
    pub(crate) former_proxy_drain: FormerProxyDrain,
}

/// How long connections of a former proxy may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct FormerProxyDrain(hawser_api::istio::Duration);

impl Default for FormerProxyDrain {
    fn default() -> Self {
        Self(hawser_api::istio::Duration::from_secs(3600))
    }
}

impl FormerProxyDrain {
    /// In whole seconds, begun ones too.
    pub(crate) fn seconds(self) -> u32 {
        let time = self.0.get();
        u32::try_from(time.as_secs() + u64::from(time.subsec_nanos() > 0)).unwrap_or(u32::MAX)
    }
}

/// How an Envoy is run, with `proxy: envoy`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Envoy {
    /// Its program.
    pub(crate) binary: PathBuf,
    /// Worker threads; one for each core if absent.
    pub(crate) concurrency: Option<u32>,
    /// What it writes to its log.
    pub(crate) log_level: LogLevel,
}

impl Default for Envoy {
    fn default() -> Self {
        Self { binary: "/usr/bin/envoy".into(), concurrency: None, log_level: LogLevel::default() }
    }
}

/// Envoy's levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    #[default]
    Warning,
    Error,
    Critical,
    Off,
}

impl LogLevel {
    /// Envoy's word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}

/// Which data plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProxyKind {
    #[default]
    Hawser,
    Envoy,
}

impl ProxyKind {
    /// The word for discovery and for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hawser => "hawser",
            Self::Envoy => "envoy",
        }
    }
}

/// What becomes of declared inbound ports while there is no proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnProxyFailure {
    #[default]
    Closed,
    Open,
}

/// The proxy's program as packages and archives lay it.
fn beside_us() -> PathBuf {
    const NAME: &str = "hawser-proxy";
    let ours = std::env::current_exe().ok();
    ours.as_deref().and_then(Path::parent).map_or_else(|| Path::new("/usr/bin").join(NAME), |dir| dir.join(NAME))
}

impl Config {
    /// Reads the file and resolves the user.
    pub(crate) fn load(args: &Args) -> anyhow::Result<Self> {
        let file = File::read(&args.config)?;
        Ok(Self {
            state_dir: args.state_dir.clone(),
            run_dir: args.run_dir.clone(),
            proxy_binary: args.proxy_binary.clone().unwrap_or_else(beside_us),
            proxy_user: ProxyUser::resolve(&args.proxy_user)?,
            external_proxy: args.external_proxy,
            file,
        })
    }

    /// The same without the agent's file and without the proxy's user, to look at a host where one of them is wrong.
    pub(crate) fn bare(args: &Args) -> Self {
        let nobody = nix::unistd::geteuid().as_raw();
        Self {
            state_dir: args.state_dir.clone(),
            run_dir: args.run_dir.clone(),
            proxy_binary: args.proxy_binary.clone().unwrap_or_else(beside_us),
            proxy_user: ProxyUser { uid: nobody, gid: nobody },
            external_proxy: args.external_proxy,
            file: File::default(),
        }
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
        let file: Self = serde_saphyr::from_str(text)?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> anyhow::Result<()> {
        let Envoy { binary, concurrency, .. } = &self.envoy;
        ensure!(
            self.proxy == ProxyKind::Envoy || self.envoy == Envoy::default(),
            "envoy: it counts only with `proxy: envoy`; add that line or remove this one"
        );
        ensure!(binary.is_absolute(), "envoy.binary: {} is not an absolute path", binary.display());
        ensure!(
            concurrency.is_none_or(|threads| (1..=MOST_THREADS).contains(&threads)),
            "envoy.concurrency: use 1 to {MOST_THREADS} threads, or leave it out for one a core"
        );
        ensure!(
            self.former_proxy_drain.seconds() <= LONGEST_DRAIN,
            "formerProxyDrain: use at most 168h: a former proxy keeps its memory for so long"
        );
        Ok(())
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
        assert_eq!(file.exempt.uids, [1000].into());
        assert_eq!(file.on_proxy_failure, Some(OnProxyFailure::Open));
        assert_eq!(File::parse("# nothing\n").unwrap(), File::default());
        let error = File::parse("captureInterface: [docker0]\n").unwrap_err().to_string();
        assert!(error.contains("captureInterface"), "{error}");
    }

    #[test]
    fn connections_of_a_former_proxy_have_a_bounded_time() {
        let seconds = |text: &str| File::parse(text).map(|file| file.former_proxy_drain.seconds());
        assert_eq!(seconds("").unwrap(), 3600);
        assert_eq!(seconds("formerProxyDrain: 0\n").unwrap(), 0);
        assert_eq!(seconds("formerProxyDrain: 1500ms\n").unwrap(), 2);
        assert_eq!(seconds("formerProxyDrain: 168h\n").unwrap(), 604_800);
        for (text, word) in
            [("169h", "formerProxyDrain: use at most 168h"), ("soon", "is not a duration"), ("-1s", "less than 0")]
        {
            let error = format!("{:#}", seconds(&format!("formerProxyDrain: {text}\n")).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_envoy_is_described_in_full_or_not_at_all() {
        let file = File::parse("proxy: envoy\n").unwrap();
        assert_eq!((file.proxy, file.envoy.binary.to_str()), (ProxyKind::Envoy, Some("/usr/bin/envoy")));
        let file = File::parse("proxy: envoy\nenvoy: {binary: /opt/envoy, concurrency: 2, logLevel: info}\n").unwrap();
        assert_eq!((file.envoy.concurrency, file.envoy.log_level.as_str()), (Some(2), "info"));
        let refused = [
            ("envoy: {binary: /opt/envoy}\n", "proxy: envoy"),
            ("proxy: envoy\nenvoy: {binary: envoy}\n", "envoy.binary"),
            ("proxy: envoy\nenvoy: {concurrency: 0}\n", "envoy.concurrency"),
            ("proxy: envoy\nenvoy: {threads: 1}\n", "threads"),
            ("proxy: haproxy\n", "haproxy"),
        ];
        for (text, word) in refused {
            let error = format!("{:#}", File::parse(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
