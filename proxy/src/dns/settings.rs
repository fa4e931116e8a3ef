//! How the host looks names up: its name servers and search list, and the names of its own file.
//!
//! In: `/etc/resolv.conf` and `/etc/hosts`, read again when they change. Out: servers, how long each is waited for, the names
//! that a short name may mean, addresses that need no server.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// As many servers as the C library takes, and domains of its search list.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;
/// Nobody writes more into these files by hand.
const LARGEST: u64 = 1 << 20;

/// Both files, as they were last.
#[derive(Debug)]
pub(super) struct Settings {
    resolv_conf: File<Servers>,
    hosts: File<Hosts>,
}

/// What `resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Servers {
    /// Name servers, in order.
    pub(super) servers: Vec<IpAddr>,
    /// How long one is waited for.
    pub(super) timeout: Duration,
    /// How often all are asked.
    pub(super) attempts: u32,
    search: Vec<String>,
    dots: usize,
}

/// Addresses by name in lower case.
type Hosts = HashMap<String, Vec<IpAddr>>;

#[derive(Debug)]
struct File<T> {
    path: PathBuf,
    changed: Option<(SystemTime, u64)>,
    read: Arc<T>,
    parse: fn(&str) -> T,
}

impl Settings {
    /// Of these files.
    pub(super) fn new(resolv_conf: &Path, hosts: &Path) -> Self {
        Self { resolv_conf: File::new(resolv_conf, servers), hosts: File::new(hosts, self::hosts) }
    }

    /// What counts now.
    pub(super) fn servers(&mut self) -> Arc<Servers> {
        self.resolv_conf.now()
    }

    /// What the host's own file says of a name.
    pub(super) fn own(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        self.hosts.now().get(&name.to_ascii_lowercase()).cloned()
    }
}

impl Servers {
    /// What a name may mean, in the order in which it is tried.
    pub(super) fn meanings(&self, name: &str) -> Vec<String> {
        let whole = name.trim_end_matches('.');
        if name.ends_with('.') {
            return vec![whole.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{whole}.{domain}"));
        // Names of services have dots, and mean themselves.
        if whole.matches('.').count() >= self.dots {
            return vec![whole.to_owned()];
        }
        searched.chain([whole.to_owned()]).collect()
    }
}

impl<T> File<T> {
    fn new(path: &Path, parse: fn(&str) -> T) -> Self {
        Self { path: path.to_owned(), changed: None, read: Arc::new(parse("")), parse }
    }

    fn now(&mut self) -> Arc<T> {
        let meta = std::fs::metadata(&self.path).ok().filter(|meta| meta.is_file() && meta.len() <= LARGEST);
        let changed = meta.and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        if changed != self.changed || changed.is_none() {
            // A file that is gone for a moment leaves what it said.
            if let Some(text) = changed.and_then(|_| std::fs::read(&self.path).ok()) {
                self.read = Arc::new((self.parse)(&String::from_utf8_lossy(&text)));
                self.changed = changed;
            }
        }
        self.read.clone()
    }
}

fn servers(text: &str) -> Servers {
    let mut read =
        Servers { servers: Vec::new(), timeout: Duration::from_secs(2), attempts: 2, search: Vec::new(), dots: 1 };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            // A zone tells the interface of a link-local address; without it nobody can be reached there.
            Some("nameserver") => read.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
            Some("search" | "domain") => {
                let domain = |word: &str| word.trim_end_matches('.').to_ascii_lowercase();
                read.search = words.map(domain).filter(|domain| !domain.is_empty()).take(MOST_DOMAINS).collect();
            }
            Some("options") => {
                for word in words {
                    let number = |name: &str| word.strip_prefix(name).and_then(|n| n.parse::<u32>().ok());
                    if let Some(seconds) = number("timeout:") {
                        read.timeout = Duration::from_secs(u64::from(seconds.clamp(1, 5)));
                    }
                    read.attempts = number("attempts:").map_or(read.attempts, |n| n.clamp(1, 3));
                    read.dots = number("ndots:").map_or(read.dots, |n| n.min(15) as usize);
                }
            }
            _ => {}
        }
    }
    let mut seen = std::collections::HashSet::new();
    read.servers.retain(|server| seen.insert(*server));
    read.servers.truncate(MOST_SERVERS);
    if read.servers.is_empty() {
        // As the C library has it.
        read.servers.push(Ipv4Addr::LOCALHOST.into());
    }
    read
}

fn hosts(text: &str) -> Hosts {
    let mut all = Hosts::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let known = all.entry(name.to_ascii_lowercase()).or_default();
            if !known.contains(&address) && known.len() < 64 {
                known.push(address);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let text = "# nameserver 9.9.9.9\nsearch a.test b.test.\nnameserver 10.0.0.1\nnameserver fd00::1\n\
                    nameserver fe80::1%eth0\nnameserver 10.0.0.1\noptions timeout:1 attempts:9 ndots:2 edns0\n";
        let read = servers(text);
        let expected: Vec<IpAddr> = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!((read.servers.clone(), read.timeout, read.attempts), (expected, Duration::from_secs(1), 3));
        assert_eq!(read.meanings("db"), ["db.a.test", "db.b.test", "db"]);
        assert_eq!(read.meanings("db."), ["db"]);
        assert_eq!(read.meanings("a.b.c"), ["a.b.c"]);
        assert_eq!(servers("").servers, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn files_are_read_again_when_they_change_and_kept_while_they_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, own) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        std::fs::write(&own, "192.0.2.1 a.test A2.test # b.test\n::1 a.test\nrubbish a.test\n").unwrap();
        let mut settings = Settings::new(&conf, &own);
        let both: Vec<IpAddr> = ["192.0.2.1", "::1"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(settings.own("A.test"), Some(both));
        assert_eq!((settings.own("a2.test").is_some(), settings.own("b.test")), (true, None));
        std::fs::write(&conf, "nameserver 10.0.0.9\n").unwrap();
        assert_eq!(settings.servers().servers[0].to_string(), "10.0.0.9");
        std::fs::write(&conf, "nameserver 10.0.0.10\n").unwrap();
        assert_eq!(settings.servers().servers[0].to_string(), "10.0.0.10");
        std::fs::remove_file(&conf).unwrap();
        assert_eq!(settings.servers().servers[0].to_string(), "10.0.0.10");
    }
}
