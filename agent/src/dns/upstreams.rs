//! The host's own name servers, as `resolv.conf` says, re-read when it changes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// As many as the C library takes.
const MOST: usize = 3;
/// Between two looks at the file.
const FRESH: Duration = Duration::from_secs(1);

/// The servers. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Upstreams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    looked: Instant,
    changed: Option<SystemTime>,
    servers: Arc<[IpAddr]>,
}

impl Upstreams {
    /// The servers that a file names.
    pub(crate) fn new(file: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner { file: file.into(), known: Mutex::new(None) }))
    }

    /// The servers now, in order.
    pub(crate) fn servers(&self) -> Arc<[IpAddr]> {
        let mut known = self.0.known.lock();
        if let Some(known) = &*known
            && known.looked.elapsed() < FRESH
        {
            return known.servers.clone();
        }
        let changed = std::fs::metadata(&self.0.file).and_then(|meta| meta.modified()).ok();
        let same = known.as_ref().filter(|known| known.changed == changed && changed.is_some());
        let servers = match same {
            Some(known) => known.servers.clone(),
            None => parse(&std::fs::read_to_string(&self.0.file).unwrap_or_default()).into(),
        };
        *known = Some(Known { looked: Instant::now(), changed, servers: servers.clone() });
        servers
    }
}

fn parse(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A zone tells the interface of a link-local address; without it nobody can be reached there.
        if let Some(server) = words.next().and_then(|word| word.parse::<IpAddr>().ok())
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers.truncate(MOST);
    if servers.is_empty() {
        // As the C library has it.
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_c_library_does() {
        let text = "# nameserver 9.9.9.9\nsearch a b\n nameserver 10.0.0.1\nnameserver fd00::1\nnameserver fe80::1%eth0\n\
                    nameserver 10.0.0.1\nnameserver 10.0.0.3\nnameserver 10.0.0.4\noptions edns0\n";
        let expected: Vec<IpAddr> = ["10.0.0.1", "fd00::1", "10.0.0.3"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }
}
