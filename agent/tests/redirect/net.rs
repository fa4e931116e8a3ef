//! Hosts as network namespaces, and programs that know nothing of the mesh.
//!
//! Needs root and nft; says so where they are missing. Everything made here ends with the value that stands for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, listen, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// How long anything may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// A host.
pub(crate) struct Net {
    pub(crate) name: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Net {
    pub(crate) fn new(role: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
        for tool in ["nft", "ip", "setpriv", "bash"] {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .output()
                .is_ok_and(|o| o.status.success());
            assert!(found, "these tests need {tool}: install nftables, iproute2, util-linux and bash");
        }
        let name = format!("hwr-redir-{}-{}-{role}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        Self { name }
    }

    /// A shell command on the host; fails the test if it fails.
    pub(crate) fn sh(&self, command: &str) -> String {
        let output = self.try_sh(command);
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn try_sh(&self, command: &str) -> Output {
        Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", command]).output().expect("ip runs")
    }

    /// Runs a closure on a thread that is on the host.
    pub(crate) fn on<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The same for asynchronous work.
    pub(crate) fn block_on<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        self.on(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(work)
        })
    }

    /// What answers there, from a connection opened on this host; `None` if nothing does.
    pub(crate) fn ask(&self, to: &str) -> Option<String> {
        let mut talk = self.connect(to)?;
        talk.line()
    }

    pub(crate) fn connect(&self, to: &str) -> Option<Talk> {
        let to: SocketAddr = to.parse().expect("an address");
        self.on(|| TcpStream::connect_timeout(&to, SOON).ok()).map(Talk::new)
    }

    /// From a port of the caller's choice, as happens to be one that was used before.
    pub(crate) fn connect_from(&self, port: u16, to: &str) -> Option<Talk> {
        let to: SocketAddr = to.parse().expect("an address");
        let (family, any): (_, IpAddr) = match to {
            SocketAddr::V4(_) => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
        };
        self.on(|| {
            let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
            setsockopt(&fd, sockopt::ReuseAddr, &true).expect("a socket");
            setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(SOON.as_secs().cast_signed(), 0)).expect("a socket");
            bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port))).expect("a free port");
            connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).ok()?;
            Some(Talk::new(TcpStream::from(fd)))
        })
    }

    /// The same by a program of that user.
    pub(crate) fn ask_as(&self, uid: u32, address: &str, port: u16) -> Option<String> {
        let script = format!("exec 3<>/dev/tcp/{address}/{port}; head -1 <&3");
        let command = format!("timeout 3 setpriv --reuid={uid} --clear-groups bash -c '{script}'");
        let output = self.try_sh(&command);
        let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (!line.is_empty()).then_some(line)
    }

    /// Asks a name server; what it says, if anything does.
    pub(crate) fn question(&self, server: &str) -> Option<String> {
        let to: SocketAddr = server.parse().expect("an address");
        self.on(|| {
            let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.set_read_timeout(Some(SOON)).ok()?;
            socket.connect(to).ok()?;
            socket.send(b"?").ok()?;
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }

    /// A program that says its name, where the connection was going and who asked, then echoes, but for `bye`.
    pub(crate) fn serve(&self, name: &str, at: &str, transparent: bool) -> Server {
        let at: SocketAddr = at.parse().expect("an address");
        let (name, stop) = (name.to_owned(), Arc::new(AtomicBool::new(false)));
        let listener = self.on(|| listener(at, transparent));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            listener.set_nonblocking(false).expect("a listener");
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let name = name.clone();
                std::thread::spawn(move || answer(&name, stream));
            }
        });
        Server { net: self.name.clone(), at, stop, thread: Some(thread) }
    }

    /// A name server that says its name.
    pub(crate) fn serve_names(&self, name: &str, at: &str) {
        let at: SocketAddr = at.parse().expect("an address");
        let socket = self.on(|| UdpSocket::bind(at).expect("a free port"));
        let name = name.to_owned();
        std::thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                _ = socket.send_to(name.as_bytes(), from);
            }
        });
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// An open connection.
pub(crate) struct Talk {
    reader: BufReader<TcpStream>,
}

impl Talk {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        Some(line.trim().to_owned())
    }

    pub(crate) fn echo(&mut self, text: &str) -> Option<String> {
        self.reader.get_mut().write_all(format!("{text}\n").as_bytes()).ok()?;
        self.line()
    }
}

/// A running program.
pub(crate) struct Server {
    net: String,
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accept; the port decides, whatever address it is bound to.
        let wake = if self.at.ip().is_unspecified() {
            SocketAddr::new(
                if self.at.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() },
                self.at.port(),
            )
        } else {
            self.at
        };
        let net = Net { name: std::mem::take(&mut self.net) };
        net.on(|| _ = TcpStream::connect_timeout(&wake, SOON));
        std::mem::forget(net);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn answer(name: &str, mut stream: TcpStream) {
    let mut to = stream.local_addr().expect("a connection");
    if let Ok(original) = getsockopt(&stream, sockopt::OriginalDst) {
        to = SocketAddr::from((u32::from_be(original.sin_addr.s_addr).to_be_bytes(), u16::from_be(original.sin_port)));
    } else if let Ok(original) = getsockopt(&stream, sockopt::Ip6tOriginalDst) {
        let address = Ipv6Addr::from(original.sin6_addr.s6_addr);
        to = SocketAddrV6::new(address, u16::from_be(original.sin6_port), 0, 0).into();
    }
    let from = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
    if stream.write_all(format!("{name} {to} from {from}\n").as_bytes()).is_err() {
        return;
    }
    let mut buffer = [0; 1000];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 || buffer.starts_with(b"bye") || stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn listener(at: SocketAddr, transparent: bool) -> TcpListener {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&fd, sockopt::ReuseAddr, &true).expect("a socket");
    if !at.is_ipv4() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true).expect("a socket");
    }
    if transparent {
        // IP_TRANSPARENT holds for a socket of either family.
        setsockopt(&fd, sockopt::IpTransparent, &true).expect("CAP_NET_ADMIN");
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at)).expect("a free port");
    listen(&fd, nix::sys::socket::Backlog::new(100).expect("a length")).expect("a socket");
    TcpListener::from(fd)
}

/// A wire between two hosts, IPv4 and IPv6 on both ends, over which packets go by the time it returns: the first ones
/// may be lost while a link comes up, which a question over UDP does not survive.
pub(crate) fn wire(a: (&Net, &str, &[&str]), b: (&Net, &str, &[&str])) {
    sh(&format!("ip link add {} netns {} type veth peer name {} netns {}", a.1, a.0.name, b.1, b.0.name));
    for (net, interface, addresses) in [a, b] {
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            net.sh(&format!("ip addr add {address} dev {interface} {nodad}"));
        }
        net.sh(&format!("ip link set {interface} up"));
    }
    for (from, to) in [(a, b), (b, a)] {
        for address in to.2 {
            let (ip, _) = address.split_once('/').expect("an address and its prefix");
            let at = SocketAddr::new(ip.parse().expect("an address"), 9);
            eventually("packets go over a new wire", Duration::from_secs(10), || {
                let called = from.0.on(|| TcpStream::connect_timeout(&at, SOON));
                called.is_ok() || called.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
            });
        }
    }
}

/// Waits for something to come true.
pub(crate) fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn sh(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh runs");
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
}
