//! Sockets in the networks of others: a thread steps into a host's namespace, and its socket stays there.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::Host;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

/// Nobody here waits longer for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(8);
/// How long a server waits for bytes. No test lasts so long: a server that closes what is idle closes it while a proxy
/// sends the next request on it, once in many runs.
pub(crate) const IDLE: Duration = Duration::from_secs(1_800);

/// The mark of what clients send: proxies send without.
pub(crate) const MARK: u32 = 77;

/// Source ports, none twice, so that a line of a log tells its connection. The kernel takes others for its own.
static PORTS: AtomicU16 = AtomicU16::new(10_000);

/// The network of a host.
#[derive(Debug)]
pub(crate) struct Net(File);

impl Net {
    /// Of this host.
    pub(crate) fn of(host: &Host) -> Result<Self> {
        let path = format!("/proc/{}/ns/net", host.init());
        Ok(Self(File::open(&path).with_context(|| path.clone())?))
    }

    /// The same.
    pub(crate) fn again(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Its number.
    pub(crate) fn inode(&self) -> Result<u64> {
        Ok(self.0.metadata()?.ino())
    }

    /// The thread that calls is in this network from now on.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("entering a host's network")
    }

    /// A connection from this network, marked as one that the lab captures, from a port that no other connection has.
    pub(crate) fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        self.enter()?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_mark(MARK)?;
        // A few are the proxies' own.
        let free = (0..100).any(|_| {
            let port = PORTS.fetch_add(1, Ordering::Relaxed);
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).is_ok()
        });
        ensure!(free, "no port is free");
        socket.connect_timeout(&to.into(), LIMIT).with_context(|| format!("connecting to {to}"))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(stream)
    }

    /// A socket that listens in this network.
    pub(crate) fn listen(&self, at: SocketAddr) -> Result<TcpListener> {
        self.enter()?;
        TcpListener::bind(at).with_context(|| format!("listening on {at}"))
    }
}
