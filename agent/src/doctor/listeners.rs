//! The ports that agent and proxy listen on: free, or theirs already.
//!
//! In: the kernel's tables of sockets, and whose ours are. Out: who is in the way, by name where we may know: in its unit the
//! agent sees no other user's processes, and names the user. Before a join the kernel has the last word: what can be bound is free.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;

use hawser_api::names::ports;

use tokio::net::TcpSocket;

use super::Finding;
use crate::config::Config;
use crate::member::Member;

const CHECK: &str = "ports";
/// More of a table of sockets than any host has.
const LARGEST: u64 = 256 << 20;

/// A port that we need.
struct Wanted {
    port: u16,
    what: &'static str,
    at: At,
    udp: bool,
    /// A host without it is no member.
    needed: bool,
}

/// Where we listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At every address.
    All,
    /// At every address of IPv4.
    AllV4,
    /// On loopback, of IPv4.
    LoopbackV4,
    /// On loopback, of one family at least.
    Loopback,
}

const fn wanted(port: u16, what: &'static str, at: At, needed: bool) -> Wanted {
    Wanted { port, what, at, udp: false, needed }
}

const WANTED: [Wanted; 8] = [
    wanted(ports::OUTBOUND, "calls of this host", At::All, true),
    wanted(ports::INBOUND, "calls to this host", At::All, true),
    wanted(ports::READINESS, "the proxy's readiness", At::AllV4, true),
    wanted(ports::PROXY_ADMIN, "the proxy's administration", At::LoopbackV4, true),
    wanted(ports::DNS, "the agent's name server", At::Loopback, true),
    Wanted { port: ports::DNS, what: "the agent's name server", at: At::Loopback, udp: true, needed: true },
    wanted(ports::HBONE, "callers of ambient meshes", At::All, false),
    wanted(ports::METRICS, "metrics", At::All, false),
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
    let mut uids = BTreeSet::from([nix::unistd::geteuid().as_raw(), config.proxy_user.uid]);
    // Whose agent it is, where somebody else looks: the proxy serves sockets that the agent made.
    uids.extend(std::fs::metadata(&config.state_dir).ok().map(|dir| dir.uid()));
    uids.remove(&0);
    let joined = member.is_some();
    super::blocking(CHECK, move || {
        let mut own = Own { uids, inodes: inodes("self") };
        own.inodes.extend(proxy.map(|pid| inodes(&pid.to_string())).unwrap_or_default());
        match listening() {
            Ok(sockets) => judge(&sockets, &own, &|wanted| !joined && wanted.is_free(), &names),
            Err(error) => vec![Finding::unknown(
                CHECK,
                format!("the kernel does not tell of sockets: {error}"),
                "see that /proc is mounted",
            )],
        }
    })
    .await
}

/// Whom each wanted port is held by, if it is not us and it is not free all the same.
fn judge(
    sockets: &[Socket],
    own: &Own,
    free: &dyn Fn(&Wanted) -> bool,
    names: &dyn Fn(&BTreeSet<u64>) -> BTreeMap<u64, String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let taken: Vec<(&Wanted, &Socket)> = WANTED
        .iter()
        .filter_map(|wanted| Some((wanted, wanted.in_the_way(sockets, own)?)))
        .filter(|(wanted, _)| !free(wanted))
        .collect();
    let names =
        if taken.is_empty() { BTreeMap::new() } else { names(&taken.iter().map(|(_, socket)| socket.inode).collect()) };
    for (wanted, other) in taken {
        let user = user(other.uid);
        let who = match names.get(&other.inode) {
            Some(name) => format!("{name} of {user}"),
            None => format!("a program of {user}, whose name can't be seen from here"),
        };
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
    /// Somebody else's socket that keeps us from listening, unless we do.
    fn in_the_way<'a>(&self, sockets: &'a [Socket], own: &Own) -> Option<&'a Socket> {
        let mut met = sockets.iter().filter(|socket| self.meets(socket)).peekable();
        let first = *met.peek()?;
        (!met.any(|socket| own.has(socket))).then_some(first)
    }

    /// Whether a socket may keep us from listening. One of every IPv6 address may take IPv4 too.
    fn meets(&self, socket: &Socket) -> bool {
        let ip = socket.at.ip();
        let loopback = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
        socket.at.port() == self.port
            && socket.udp == self.udp
            && match self.at {
                At::All => true,
                At::AllV4 => ip.is_ipv4() || ip.is_unspecified(),
                At::LoopbackV4 => ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST,
                At::Loopback => ip.is_unspecified() || loopback,
            }
    }

    /// Whether we could listen now. A family that the host does not have is in nobody's way.
    fn is_free(&self) -> bool {
        let bound = |ip: IpAddr| {
            let at = SocketAddr::new(ip, self.port);
            if self.udp { UdpSocket::bind(at).map(drop) } else { bound(at) }
        };
        let taken = |ip: IpAddr| bound(ip).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
        let (v4, v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
        match self.at {
            At::All => !taken(v4) && !taken(v6),
            At::AllV4 => !taken(v4),
            At::LoopbackV4 => !taken(Ipv4Addr::LOCALHOST.into()),
            At::Loopback => bound(Ipv4Addr::LOCALHOST.into()).is_ok() || bound(Ipv6Addr::LOCALHOST.into()).is_ok(),
        }
    }
}

/// Binds as a server does, and listens to nobody.
fn bound(at: SocketAddr) -> std::io::Result<()> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)
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
                    let line = line?;
                    // Those of TCP that listen stand first; there may be a million others.
                    let Some(socket) = socket(&line, udp) else { if udp { continue } else { break } };
                    found.extend(Some(socket).filter(|s| WANTED.iter().any(|w| w.port == s.at.port())));
                }
            }
            // A host without IPv6.
            Err(error) if file.ends_with('6') && error.kind() == ErrorKind::NotFound => {}
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

/// The programs that hold these sockets, where we may see other people's.
fn names(wanted: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut names = BTreeMap::new();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for id in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        for inode in inodes(&id.to_string()).intersection(wanted) {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            names.insert(*inode, format!("{} (process {id})", name.trim()));
        }
        if names.len() == wanted.len() {
            break;
        }
    }
    names
}

fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => format!("user {}", user.name),
        _ => format!("user {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn at(text: &str, uid: u32, inode: u64) -> Socket {
        Socket { at: text.parse().unwrap(), udp: false, uid, inode }
    }

    fn verdicts(sockets: &[Socket], own: &Own) -> Vec<(Verdict, String)> {
        let names = |inodes: &BTreeSet<u64>| inodes.iter().map(|n| (*n, format!("holder {n}"))).collect();
        let findings = judge(sockets, own, &|_| false, &names);
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
        let none: &[Socket] = &[at("[::1]:15021", 0, 1), at("[::1]:15000", 0, 2), at("10.0.0.1:15053", 0, 3)];
        assert_eq!(verdicts(none, &own)[0].0, Verdict::Ok, "where we do not listen");
        let both = [at("0.0.0.0:15021", 990, 7), at("[::]:15021", 0, 8)];
        assert_eq!(verdicts(&both, &own)[0].0, Verdict::Ok, "ours listens beside it");
        let udp = Socket { udp: true, ..at("127.0.0.1:15053", 0, 5) };
        assert!(verdicts(&[udp], &own)[0].1.starts_with("UDP port 15053"));
    }

    #[test]
    fn who_may_not_be_seen_is_told_by_the_user() {
        let socket = [at("0.0.0.0:15001", 0, 8)];
        let findings = judge(&socket, &Own::default(), &|_| false, &|_| BTreeMap::new());
        let sentence = &findings[0].sentence;
        assert!(sentence.contains("a program of user root, whose name can't be seen from here"), "{sentence}");
        assert_eq!(judge(&socket, &Own::default(), &|_| true, &names)[0].verdict, Verdict::Ok, "the kernel's word");
    }

    #[test]
    fn what_is_bound_is_not_free() {
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = theirs.local_addr().unwrap().port();
        let here = |at, udp| Wanted { port, what: "a test", at, udp, needed: true };
        assert!([At::All, At::AllV4, At::LoopbackV4].iter().all(|at| !here(*at, false).is_free()));
        assert!(here(At::All, true).is_free(), "of UDP nobody has it");
        drop(theirs);
        assert!([At::All, At::AllV4, At::LoopbackV4, At::Loopback].iter().all(|at| here(*at, false).is_free()));
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
