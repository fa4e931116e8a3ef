//! The ports that agent and proxy listen on: free, or theirs already.
//!
//! In: the kernel's tables of sockets, and whose ours are. Out: who is in the way, by name where we may know.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hawser_api::names::ports;

use super::Finding;
use crate::config::Config;
use crate::member::Member;

const CHECK: &str = "ports";
/// More of a table of sockets than any host has.
const LARGEST: u64 = 256 << 20;
/// Names of this many holders are looked for.
const MOST_NAMED: usize = 8;

/// A port that we need.
struct Wanted {
    port: u16,
    what: &'static str,
    loopback: bool,
    udp: bool,
    /// A host without it is no member.
    needed: bool,
}

const fn wanted(port: u16, what: &'static str, loopback: bool, needed: bool) -> Wanted {
    Wanted { port, what, loopback, udp: false, needed }
}

const WANTED: [Wanted; 8] = [
    wanted(ports::OUTBOUND, "calls of this host", false, true),
    wanted(ports::INBOUND, "calls to this host", false, true),
    wanted(ports::READINESS, "the proxy's readiness", false, true),
    wanted(ports::PROXY_ADMIN, "the proxy's administration", true, true),
    wanted(ports::DNS, "the agent's name server", true, true),
    Wanted { port: ports::DNS, what: "the agent's name server", loopback: true, udp: true, needed: true },
    wanted(ports::HBONE, "callers of ambient meshes", false, false),
    wanted(ports::METRICS, "metrics", false, false),
];

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Socket {
    at: SocketAddr,
    udp: bool,
    uid: u32,
    inode: u64,
}

/// What is ours of the host's sockets.
#[derive(Clone, Debug, Default)]
struct Own {
    uids: BTreeSet<u32>,
    inodes: BTreeSet<u64>,
}

/// Reads the tables and judges them.
pub(super) async fn findings(config: &Config, member: Option<&Member>) -> Vec<Finding> {
    let proxy = member.map(|member| member.supervisor.state.borrow().pid).filter(|pid| *pid > 0);
    let uids = [nix::unistd::geteuid().as_raw(), config.proxy_user.uid];
    super::blocking(CHECK, move || {
        let mut own = Own { uids: uids.into_iter().filter(|uid| *uid != 0).collect(), inodes: inodes("self") };
        own.inodes.extend(proxy.map(|pid| inodes(&pid.to_string())).unwrap_or_default());
        match listening() {
            Ok(sockets) => judge(&sockets, &own, &name),
            Err(error) => vec![Finding::unknown(CHECK, format!("the kernel does not tell of sockets: {error}"), "")],
        }
    })
    .await
}

/// Whom each wanted port is held by, if it is not us.
fn judge(sockets: &[Socket], own: &Own, name: &dyn Fn(&Socket) -> String) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut asked = 0;
    for wanted in &WANTED {
        let Some(other) = sockets.iter().find(|socket| wanted.meets(socket) && !own.has(socket)) else { continue };
        asked += 1;
        let who = if asked <= MOST_NAMED { name(other) } else { "another program".to_owned() };
        let (port, kind) = (wanted.port, if wanted.udp { "UDP" } else { "TCP" });
        let sentence = format!("{kind} port {port}, for {}, is taken by {who}", wanted.what);
        let flag = if wanted.udp { "-Hlnup" } else { "-Hlntp" };
        let cure = format!("end it, or move it to another port; `ss {flag} sport = :{port}` as root shows it");
        findings.push(if wanted.needed {
            Finding::failure(CHECK, sentence, cure)
        } else {
            Finding::warning(CHECK, sentence, cure)
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "the ports of agent and proxy are free, or theirs"));
    }
    findings
}

impl Wanted {
    /// Whether a socket keeps us from listening.
    fn meets(&self, socket: &Socket) -> bool {
        let ip = socket.at.ip();
        socket.at.port() == self.port
            && socket.udp == self.udp
            && (!self.loopback || ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST)
    }
}

impl Own {
    fn has(&self, socket: &Socket) -> bool {
        self.inodes.contains(&socket.inode) || self.uids.contains(&socket.uid)
    }
}

/// Listening sockets at ports that we need.
fn listening() -> std::io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for (file, udp) in [("tcp", false), ("tcp6", false), ("udp", true), ("udp6", true)] {
        match std::fs::File::open(format!("/proc/self/net/{file}")) {
            Ok(file) => {
                for line in BufReader::new(file.take(LARGEST)).lines().skip(1) {
                    found.extend(socket(&line?, udp).filter(|s| WANTED.iter().any(|w| w.port == s.at.port())));
                }
            }
            // A host without IPv6.
            Err(error) if file.ends_with('6') && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// A line of `/proc/net/tcp` and its like, if it is of a socket that waits for others.
fn socket(line: &str, udp: bool) -> Option<Socket> {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    let words: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let (local, state) = (words.get(1)?, words.get(3)?);
    if *state != if udp { UNCONNECTED } else { LISTEN } {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let at = SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?);
    Some(Socket { at, udp, uid: words.get(7)?.parse().ok()?, inode: words.get(9)?.parse().ok()? })
}

/// An address as words of 32 bits, each in this machine's order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes: [u8; 16] = [word(0)?, word(1)?, word(2)?, word(3)?].concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The sockets of a process, as far as we may see them.
fn inodes(process: &str) -> BTreeSet<u64> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// Who holds a socket: a program, where we may see other people's; else whose it is.
fn name(socket: &Socket) -> String {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let user = match nix::unistd::User::from_uid(socket.uid.into()) {
        Ok(Some(user)) => format!("user {}", user.name),
        _ => format!("user {}", socket.uid),
    };
    for id in ids {
        if inodes(&id.to_string()).contains(&socket.inode) {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            return format!("{} (process {id} of {user})", name.trim());
        }
    }
    format!("a program of {user}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn at(text: &str, uid: u32, inode: u64) -> Socket {
        Socket { at: text.parse().unwrap(), udp: false, uid, inode }
    }

    fn verdicts(sockets: &[Socket], own: &Own) -> Vec<(Verdict, String)> {
        let findings = judge(sockets, own, &|socket| format!("holder {}", socket.inode));
        findings.into_iter().map(|finding| (finding.verdict, finding.sentence)).collect()
    }

    #[test]
    fn a_taken_port_is_told_with_its_holder_unless_it_is_ours() {
        let own = Own { uids: [990].into(), inodes: [7].into() };
        let ours = [at("0.0.0.0:15001", 0, 7), at("[::]:15006", 990, 9), at("10.0.0.1:15000", 0, 1)];
        assert_eq!(verdicts(&ours, &own)[0].0, Verdict::Ok, "ours, and another address of a port on loopback");
        let others = [at("[::]:15001", 0, 8), at("10.0.0.1:15008", 5, 6), at("127.0.0.1:15053", 0, 5)];
        let found = verdicts(&others, &own);
        assert_eq!(found.len(), 3);
        assert!(found[0].0 == Verdict::Failure && found[0].1.contains("15001") && found[0].1.contains("holder 8"));
        assert!(found.iter().any(|(verdict, said)| *verdict == Verdict::Warning && said.contains("15008")));
        let udp = Socket { udp: true, ..at("127.0.0.1:15053", 0, 5) };
        assert!(verdicts(&[udp], &own)[0].1.starts_with("UDP port 15053"));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let line =
            "   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000   990        0 1617 1 0 100";
        let expected = at("127.0.0.1:15001", 990, 1617);
        assert_eq!(socket(line, false), Some(expected));
        assert_eq!(socket(&line.replace(" 0A ", " 01 "), false), None, "a connection");
        assert_eq!(socket(line, true), None);
        let six = "0: 00000000000000000000000001000000:3A99 0:0 0A 0:0 0:0 0 0 0 5";
        assert_eq!(socket(six, false).map(|s| s.at), Some("[::1]:15001".parse().unwrap()));
        assert_eq!(socket("0: 0100007F:3A99", false), None);
        assert_eq!(socket("", false), None);
    }
}
