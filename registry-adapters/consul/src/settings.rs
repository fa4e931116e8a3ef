//! What an operator says about a Consul.
//!
//! In: a document of the registries file. Out: [`Settings`], checked. Invariant: a key that is not known is refused,
//! and every refusal names the key and what to write instead.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hawser_registry_source::Freeze;
use hawser_registry_source::settings::duration;
use serde::Deserialize;

/// Connections of one program that a Consul agent takes by default (`limits.http_max_conns_per_client`).
const CONSULS_OWN_LIMIT: usize = 200;
/// Connections that a part takes at least: what tells of changes, reads, and some queries that wait.
const LEAST_CONNECTIONS: usize = 16;
/// Longest a Consul server lets a query wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A Consul as a registry.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Its servers or client agents, as `http://host:port` or `https://host:port`; any of them may answer.
    pub servers: Vec<String>,
    /// File that holds the ACL token; read again when it changes. None: without a token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// File with the roots that servers' certificates must end in, PEM. None: those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// File with our own certificate, PEM, for servers that ask for one (`verify_incoming`).
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// File with its key, PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Datacenters to follow; none: the servers' own.
    #[serde(default)]
    pub datacenters: Vec<String>,
    /// Partitions to follow (Consul Enterprise); none: the default one.
    #[serde(default)]
    pub partitions: Vec<String>,
    /// Namespaces to follow (Consul Enterprise) and the namespace of the mesh that each is; none: the default one.
    #[serde(default)]
    pub namespaces: BTreeMap<String, String>,
    /// Peers (clusters that are peered with this one) whose exported services are followed besides; newer Consuls have
    /// them.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Namespace of the mesh that services belong to unless `namespaces` or an alias says another.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Consul's own DNS domain: services are named `<service>.service.<datacenter>.<domain>`.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// Services of the servers' own datacenter are also `<service>.service.<domain>`.
    #[serde(default = "yes")]
    pub short_names: bool,
    /// Names of the mesh for services; the first one that fits counts.
    #[serde(default)]
    pub aliases: Vec<Alias>,
    /// Networks of the mesh by tagged address: `wan: internet` says that the address tagged `wan` is the one for
    /// callers in network `internet`.
    #[serde(default)]
    pub networks: BTreeMap<String, String>,
    /// Instances whose metadata `external-source` is one of these are left out: another registry has them.
    #[serde(default = "default_skip")]
    pub skip_external_sources: Vec<String>,
    /// Connections to the servers at most, of all parts together, unless they speak HTTP/2.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// Longest a query waits for a change at the server.
    #[serde(default = "default_wait", deserialize_with = "duration")]
    pub wait: Duration,
    /// Time within which services that nobody is subscribed to are read again after something changed.
    #[serde(default = "default_sweep", deserialize_with = "duration")]
    pub sweep: Duration,
    /// Answers of a server that heard from its leader longer ago than this are not believed.
    #[serde(default = "default_max_age", deserialize_with = "duration")]
    pub max_age: Duration,
    /// The token is meant to see only some of the services: then a filtered answer is the whole truth.
    #[serde(default)]
    pub partial_view: bool,
    /// When a sudden loss is not believed.
    #[serde(default)]
    pub freeze: Freeze,
}

/// A name of the mesh for services of Consul.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alias {
    /// The service in Consul; a `*` at the end stands for any ending.
    pub service: String,
    /// Namespace of the mesh.
    pub namespace: String,
    /// Name in that namespace; none: the service's own.
    #[serde(default)]
    pub name: Option<String>,
    /// The port that callers dial; none: those that instances listen on.
    #[serde(default)]
    pub port: Option<u16>,
    /// Only in these datacenters; none: in all.
    #[serde(default)]
    pub datacenters: Vec<String>,
}

/// What of a Consul one registry follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Datacenter; none: the servers' own.
    pub datacenter: Option<Arc<str>>,
    /// Partition; none: the default one.
    pub partition: Option<Arc<str>>,
    /// Namespace; none: the default one.
    pub namespace: Option<Arc<str>>,
    /// What this peer exports; none: what the Consul has itself.
    pub peer: Option<Arc<str>>,
}

impl Part {
    /// What this part of a Consul of that name is called.
    pub fn name_in(&self, name: &str) -> String {
        let all = [
            Some(name).filter(|n| !n.is_empty()),
            self.datacenter.as_deref(),
            self.partition.as_deref(),
            self.namespace.as_deref(),
            self.peer.as_ref().map(|_| "peer"),
            self.peer.as_deref(),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join("/")
    }
}

/// What is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SettingsError {
    /// The key.
    pub field: String,
    /// Why, and what to write instead.
    pub message: String,
}

impl Settings {
    /// The defaults for these servers.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            token_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            datacenters: Vec::new(),
            partitions: Vec::new(),
            namespaces: BTreeMap::new(),
            peers: Vec::new(),
            namespace: default_namespace(),
            domain: default_domain(),
            short_names: true,
            aliases: Vec::new(),
            networks: BTreeMap::new(),
            skip_external_sources: default_skip(),
            connections: default_connections(),
            wait: default_wait(),
            sweep: default_sweep(),
            max_age: default_max_age(),
            partial_view: false,
            freeze: Freeze::default(),
        }
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// With the first key that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.servers.is_empty() {
            return wrong("servers", "it is empty; name at least one, such as http://127.0.0.1:8500");
        }
        for (index, server) in self.servers.iter().enumerate() {
            check_server(&format!("servers[{index}]"), server)?;
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return wrong("certFile", "certFile and keyFile belong together: give both or neither");
        }
        check_names("datacenters", self.datacenters.iter())?;
        check_names("partitions", self.partitions.iter())?;
        check_names("namespaces", self.namespaces.keys())?;
        check_names("peers", self.peers.iter())?;
        check_dns("domain", &self.domain)?;
        check_label("namespace", &self.namespace)?;
        for (consul, ours) in &self.namespaces {
            check_label(&format!("namespaces.{consul}"), ours)?;
        }
        let (parts, connections) = (self.parts().len(), self.connections);
        let least = parts.saturating_mul(LEAST_CONNECTIONS);
        if connections < least && parts > 1 {
            let message = format!(
                "{connections} are too few for {parts} datacenters, partitions, namespaces and peers: {least} at least, which \
                 Consul's limits.http_max_conns_per_client must allow"
            );
            return wrong("connections", &message);
        }
        if connections < least || connections > 10_000 {
            return wrong("connections", &format!("{connections} is not between {least} and 10000"));
        }
        within("wait", self.wait, Duration::from_secs(5), LONGEST_WAIT)?;
        within("sweep", self.sweep, Duration::from_secs(1), Duration::from_secs(3600))?;
        within("maxAge", self.max_age, Duration::from_secs(1), Duration::from_secs(3600))?;
        self.check_aliases()
    }

    /// What there is to follow, each a registry of its own.
    pub fn parts(&self) -> Vec<Part> {
        fn each<'a>(names: impl Iterator<Item = &'a String>) -> Vec<Option<Arc<str>>> {
            let named: Vec<_> = names.map(|name| Some(Arc::from(name.as_str()))).collect();
            if named.is_empty() { vec![None] } else { named }
        }
        let mut parts = Vec::new();
        for partition in each(self.partitions.iter()) {
            for namespace in each(self.namespaces.keys()) {
                let of = Part { partition: partition.clone(), namespace, ..Part::default() };
                let datacenters = each(self.datacenters.iter()).into_iter();
                parts.extend(datacenters.map(|datacenter| Part { datacenter, ..of.clone() }));
                // A peer is one of the servers' own cluster.
                parts.extend(self.peers.iter().map(|peer| Part { peer: Some(peer.as_str().into()), ..of.clone() }));
            }
        }
        parts
    }

    /// Whether `connections` is more than a Consul takes without being told.
    pub(crate) fn exceeds_consuls_own_limit(&self) -> bool {
        self.connections >= CONSULS_OWN_LIMIT
    }

    fn check_aliases(&self) -> Result<(), SettingsError> {
        let mut taken = BTreeMap::new();
        for (index, alias) in self.aliases.iter().enumerate() {
            let field = |key: &str| format!("aliases[{index}].{key}");
            let stem = alias.service.strip_suffix('*').unwrap_or(&alias.service);
            if alias.service.is_empty() || stem.contains('*') {
                return wrong(&field("service"), "a service's name, or the start of one followed by a single \"*\"");
            }
            check_label(&field("namespace"), &alias.namespace)?;
            if alias.port == Some(0) {
                return wrong(&field("port"), "0 is not a port: 1 to 65535");
            }
            if let Some(name) = &alias.name {
                if alias.service.ends_with('*') {
                    return wrong(&field("name"), "services of a pattern keep their own names: leave name out");
                }
                check_label(&field("name"), name)?;
                if let Some(first) = taken.insert((&alias.namespace, name), index)
                    && self.aliases.get(first).is_some_and(|a| overlap(&a.datacenters, &alias.datacenters))
                {
                    let message =
                        format!("aliases[{first}] has this name already: one name is one service of a Consul");
                    return wrong(&field("name"), &message);
                }
            }
        }
        Ok(())
    }
}

impl Alias {
    /// Whether it is meant for this service.
    pub(crate) fn fits(&self, service: &str, datacenter: &str) -> bool {
        let named = match self.service.strip_suffix('*') {
            Some(stem) => service.starts_with(stem),
            None => service == self.service,
        };
        named && (self.datacenters.is_empty() || self.datacenters.iter().any(|d| d == datacenter))
    }
}

fn overlap(a: &[String], b: &[String]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|d| b.contains(d))
}

fn wrong<T>(field: &str, message: &str) -> Result<T, SettingsError> {
    Err(SettingsError { field: field.to_owned(), message: message.to_owned() })
}

fn check_server(field: &str, server: &str) -> Result<(), SettingsError> {
    let uri: Option<http::Uri> = server.parse().ok();
    let usable = uri.as_ref().is_some_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        scheme && uri.host().is_some_and(|h| !h.is_empty()) && matches!(uri.path(), "" | "/") && uri.query().is_none()
    });
    if !usable || server.contains('@') {
        let shown: String = server.split('@').next_back().unwrap_or_default().chars().take(100).collect();
        let message = format!("{shown:?} is not a server: write http://host:port or https://host:port, nothing else");
        return wrong(field, &message);
    }
    Ok(())
}

fn check_names<'a>(field: &str, names: impl Iterator<Item = &'a String>) -> Result<(), SettingsError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !is_name(name) {
            return wrong(field, &format!("{name:?} is not one's name: letters, digits, '-' and '_', at most 63"));
        }
        if !seen.insert(name) {
            return wrong(field, &format!("{name:?} stands there twice"));
        }
    }
    Ok(())
}

/// Whether a text can be the name of a datacenter, partition or namespace.
pub(crate) fn is_name(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(ok)
}

fn check_dns(field: &str, text: &str) -> Result<(), SettingsError> {
    match format!("x.{text}").parse::<hawser_mesh::Hostname>() {
        Ok(_) => Ok(()),
        Err(error) => wrong(field, &error.to_string()),
    }
}

fn check_label(field: &str, text: &str) -> Result<(), SettingsError> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(ok) || text.starts_with('-') || text.ends_with('-') {
        return wrong(field, &format!("{text:?} is not a name of the mesh: small letters, digits and '-', at most 63"));
    }
    Ok(())
}

fn within(field: &str, value: Duration, least: Duration, most: Duration) -> Result<(), SettingsError> {
    if value < least || value > most {
        let (value, least, most) = (human(value), human(least), human(most));
        return wrong(field, &format!("{value} is not between {least} and {most}"));
    }
    Ok(())
}

fn human(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_domain() -> String {
    "consul".to_owned()
}

fn default_skip() -> Vec<String> {
    vec!["kubernetes".to_owned()]
}

fn default_connections() -> usize {
    150
}

fn default_wait() -> Duration {
    Duration::from_secs(60)
}

fn default_sweep() -> Duration {
    Duration::from_secs(5)
}

fn default_max_age() -> Duration {
    Duration::from_secs(30)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        let settings: Settings = serde_json::from_str(text).map_err(|e| e.to_string())?;
        settings.check().map_err(|e| e.to_string())?;
        Ok(settings)
    }

    #[test]
    fn servers_alone_suffice() {
        let settings = parse(r#"{"servers": ["http://127.0.0.1:8500"]}"#).unwrap();
        assert_eq!(settings, Settings::new(["http://127.0.0.1:8500"]));
        assert!(!settings.exceeds_consuls_own_limit());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let with = |more: &str| format!(r#"{{"servers": ["https://c:8501"], {more}}}"#);
        let table = [
            (r#"{"servers": []}"#.to_owned(), "servers: "),
            (r#"{"servers": ["127.0.0.1:8500"]}"#.to_owned(), "servers[0]: "),
            (r#"{"servers": ["http://u:p@c:8500"]}"#.to_owned(), "servers[0]: "),
            (r#"{"servers": ["http://c:8500/v1"]}"#.to_owned(), "servers[0]: "),
            (with(r#""token": "x""#), "unknown field `token`"),
            (with(r#""certFile": "/x""#), "certFile: "),
            (with(r#""datacenters": ["*"]"#), "datacenters: "),
            (with(r#""datacenters": ["dc1", "dc1"]"#), "datacenters: "),
            (with(r#""wait": "1s""#), "wait: 1s is not between 5s and 10m"),
            (with(r#""wait": 5"#), "invalid type"),
            (with(r#""sweep": "soon""#), "\"soon\" is not a duration"),
            (with(r#""connections": 3"#), "connections: 3 is not between 16 and"),
            (
                with(r#""connections": 100, "datacenters": ["a", "b", "c", "d"], "namespaces": {"x": "x", "y": "y"}"#),
                "connections: 100 are too few for 8 datacenters, partitions, namespaces and peers: 128 at least",
            ),
            (with(r#""namespace": "Shop""#), "namespace: "),
            (with(r#""namespaces": {"a": "B"}"#), "namespaces.a: "),
            (with(r#""aliases": [{"service": "a*b", "namespace": "x"}]"#), "aliases[0].service: "),
            (with(r#""aliases": [{"service": "a*", "namespace": "x", "name": "y"}]"#), "aliases[0].name: "),
            (
                with(
                    r#""aliases": [{"service": "a", "namespace": "x", "name": "y"}, {"service": "b", "namespace": "x", "name": "y"}]"#,
                ),
                "aliases[1].name: aliases[0] has",
            ),
        ];
        for (text, want) in table {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        let secret = parse(r#"{"servers": ["http://user:secret@c:8500"]}"#).unwrap_err();
        assert!(!secret.contains("secret"), "{secret}");
    }

    #[test]
    fn an_alias_fits_by_name_or_by_its_start_and_only_in_its_datacenters() {
        let alias = |service: &str, datacenters: &[&str]| Alias {
            service: service.to_owned(),
            namespace: "default".to_owned(),
            name: None,
            port: None,
            datacenters: datacenters.iter().map(|d| (*d).to_owned()).collect(),
        };
        assert!(alias("web", &[]).fits("web", "dc1") && !alias("web", &[]).fits("web2", "dc1"));
        assert!(alias("web*", &["dc1"]).fits("web2", "dc1") && !alias("web*", &["dc1"]).fits("web2", "dc2"));
        assert!(alias("*", &[]).fits("anything", "dc1"));
    }
}
