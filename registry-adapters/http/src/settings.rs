//! Settings as the file of registries writes them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hawser_mesh::{RegistryKind, TrustDomain};
use hawser_registry_source::Freeze;
use hawser_registry_source::settings::duration;
use serde::Deserialize;

use crate::checks::HealthCheck;
use crate::mapping::Mapping;

/// What the mesh is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Of identities.
    pub trust_domain: TrustDomain,
    /// DNS suffix of services.
    pub domain: String,
}

/// One of the kinds of source.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A list by HTTP.
    HttpSd(HttpSd),
    /// Lists in files.
    FileSd(FileSd),
    /// SRV records.
    DnsSrv(DnsSrv),
}

/// A list of targets by HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpSd {
    /// Where it is: `http://` or `https://`.
    pub url: String,
    /// Roots that an `https` server's certificate leads to, PEM; the system's, if absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file whose content is sent as `Authorization: Bearer …`; read for each request.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// A file of lines `Name: value`, sent as headers; read for each request.
    #[serde(default)]
    pub headers_file: Option<PathBuf>,
    /// Time between two requests.
    #[serde(default = "refresh", deserialize_with = "duration")]
    pub refresh: Duration,
    /// Longest time that one may take.
    #[serde(default = "timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// What the targets are.
    pub service: Mapping,
    /// How their health is found; none: they count as healthy.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// When a loss is not believed.
    #[serde(default)]
    pub freeze: Freeze,
}

/// Lists of targets in files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileSd {
    /// Files: `*.json`, `*.yaml`, `*.yml`; the last part of a path may have one `*`.
    pub files: Vec<PathBuf>,
    /// What the targets are.
    pub service: Mapping,
    /// How their health is found.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// When a loss is not believed.
    #[serde(default)]
    pub freeze: Freeze,
}

/// SRV records of DNS.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DnsSrv {
    /// Names: `_http._tcp.example.com`.
    pub names: Vec<String>,
    /// Servers to ask, `ip:port`; those of `/etc/resolv.conf`, if empty.
    #[serde(default)]
    pub servers: Vec<SocketAddr>,
    /// Shortest time between two questions, whatever the records' life.
    #[serde(default = "least_refresh", deserialize_with = "duration")]
    pub least_refresh: Duration,
    /// How long a server may take to answer.
    #[serde(default = "dns_timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// What the targets are.
    pub service: Mapping,
    /// How their health is found.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// When a loss is not believed.
    #[serde(default)]
    pub freeze: Freeze,
}

fn refresh() -> Duration {
    Duration::from_secs(30)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn least_refresh() -> Duration {
    Duration::from_secs(5)
}

fn dns_timeout() -> Duration {
    Duration::from_secs(2)
}

impl Source {
    /// Which kind.
    pub fn kind(&self) -> RegistryKind {
        match self {
            Self::HttpSd(_) => RegistryKind::HttpSd,
            Self::FileSd(_) => RegistryKind::FileSd,
            Self::DnsSrv(_) => RegistryKind::DnsSrv,
        }
    }

    /// What the targets are.
    pub fn mapping(&self) -> &Mapping {
        match self {
            Self::HttpSd(HttpSd { service, .. })
            | Self::FileSd(FileSd { service, .. })
            | Self::DnsSrv(DnsSrv { service, .. }) => service,
        }
    }

    /// How their health is found.
    pub fn health_check(&self) -> Option<&HealthCheck> {
        match self {
            Self::HttpSd(HttpSd { health_check, .. })
            | Self::FileSd(FileSd { health_check, .. })
            | Self::DnsSrv(DnsSrv { health_check, .. }) => health_check.as_ref(),
        }
    }

    /// When a loss is not believed.
    pub fn freeze(&self) -> Freeze {
        match self {
            Self::HttpSd(HttpSd { freeze, .. })
            | Self::FileSd(FileSd { freeze, .. })
            | Self::DnsSrv(DnsSrv { freeze, .. }) => *freeze,
        }
    }

    /// What no type says.
    ///
    /// # Errors
    /// Field, reason and cure.
    pub fn check(&self) -> Result<(), String> {
        let least = Duration::from_secs(1);
        match self {
            Self::HttpSd(of) => {
                let url: http::Uri = of.url.parse().map_err(|e| format!("url: {:?} is none: {e}", of.url))?;
                if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
                    return Err(format!("url: {:?} is none; write it as https://host:port/path", of.url));
                }
                if url.authority().is_some_and(|a| a.as_str().contains('@')) {
                    return Err("url: it holds a secret; put that into bearerTokenFile or headersFile".to_owned());
                }
                if of.refresh < least {
                    return Err("refresh: it is 1s or longer".to_owned());
                }
                if of.timeout < Duration::from_millis(100) || of.timeout > Duration::from_secs(300) {
                    return Err("timeout: it is 100ms to 5m".to_owned());
                }
            }
            Self::FileSd(of) => {
                if of.files.is_empty() {
                    return Err("files: there is none; name one".to_owned());
                }
                for file in &of.files {
                    crate::files::check(file).map_err(|why| format!("files: {}: {why}", file.display()))?;
                }
            }
            Self::DnsSrv(of) => {
                if of.names.is_empty() {
                    return Err("names: there is none; name one".to_owned());
                }
                for name in &of.names {
                    crate::dns::name(name).map_err(|why| format!("names: {name:?}: {why}"))?;
                }
                if of.least_refresh < least {
                    return Err("leastRefresh: it is 1s or longer".to_owned());
                }
                if of.timeout < Duration::from_millis(10) || of.timeout > Duration::from_secs(60) {
                    return Err("timeout: it is 10ms to 1m".to_owned());
                }
            }
        }
        self.mapping().check().map_err(|why| format!("service.{why}"))?;
        self.health_check().map_or(Ok(()), |check| check.check().map_err(|why| format!("healthCheck.{why}")))
    }
}
