//! The systems under test, each as a pair: one on the caller's host, one on the server's.
//!
//! Every pair runs as a mesh runs: access log, metrics, retries, request ids, the caller's identity handed on, and the
//! same list of routes before the one that is taken. TCP has none of that with any of them.

mod envoy;
mod haproxy;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hawser_tests::Process;

pub(crate) use haproxy::PROGRAM as HAPROXY_PROGRAM;

use crate::System;
use crate::certificates::Certificates;
use crate::mesh::{Door, Hosts, Side, UNDECLARED};

/// Where a peer listens. No two peers share a port: both could bind it, and each would get a part of the other's load.
#[derive(Clone, Copy)]
struct Ports {
    /// What a caller dials at its own proxy, as peers are not redirected to: the first door's.
    local: u16,
    /// What the server's proxy listens on with mTLS: the first door's.
    tls: u16,
}

const ENVOY: Ports = Ports { local: 7000, tls: 9440 };
const HAPROXY: Ports = Ports { local: 7010, tls: 9450 };

/// A running pair.
pub(crate) struct Pair {
    pub(crate) system: System,
    /// Process ids: caller's side, server's side; none for `Direct`.
    pub(crate) proxies: Vec<i32>,
    /// How the names of its log files begin.
    pub(crate) logs: &'static str,
    /// Of the first door.
    first: SocketAddr,
    /// Kept while the pair is.
    _processes: Vec<Process>,
}

/// What pairs are made of.
pub(crate) struct Kit<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) certificates: &'a Certificates,
    pub(crate) envoy: &'a str,
}

impl Ports {
    fn local(self, door: Door) -> u16 {
        self.local + door.index()
    }

    fn tls(self, door: Door) -> u16 {
        self.tls + door.index()
    }
}

impl Pair {
    /// Where callers reach a door.
    pub(crate) fn address(&self, door: Door) -> SocketAddr {
        SocketAddr::new(self.first.ip(), self.first.port() + door.index())
    }
}

impl Kit<'_> {
    /// Starts a pair.
    pub(crate) fn start(&self, system: System) -> anyhow::Result<Pair> {
        let pair = |proxies, address: IpAddr, port: u16, processes| Pair {
            system,
            proxies,
            logs: match system {
                System::Direct => "none",
                // The proxy's stdout is its agent's.
                System::Hawser => "agent",
                System::Envoy => "envoy",
                System::Haproxy => "haproxy",
            },
            first: SocketAddr::new(address, port),
            _processes: processes,
        };
        let peer = |ports: Ports, processes: Vec<Process>| -> anyhow::Result<Pair> {
            let pids = processes.iter().map(running).collect::<anyhow::Result<_>>()?;
            Ok(pair(pids, Ipv4Addr::LOCALHOST.into(), ports.local, processes))
        };
        match system {
            // A loopback address is not captured; the server's own is not either, for a caller who is not redirected.
            System::Direct => {
                let direct = IpAddr::V4(self.hosts.host(Side::Server).v4());
                Ok(pair(vec![], direct, Door::Http.port() + UNDECLARED, vec![]))
            }
            System::Envoy => peer(ENVOY, envoy::start(self, ENVOY)?),
            System::Haproxy => peer(HAPROXY, haproxy::start(self, HAPROXY)?),
            System::Hawser => {
                let pids = vec![self.hosts.proxy(Side::Caller)?, self.hosts.proxy(Side::Server)?];
                Ok(pair(pids, self.hosts.virtual_address()?, Door::Http.port(), vec![]))
            }
        }
    }

    fn server(&self) -> String {
        self.hosts.host(Side::Server).v4().to_string()
    }
}

/// The process of a program, once it is the program and no longer what starts it.
fn running(process: &Process) -> anyhow::Result<i32> {
    const STARTERS: [&str; 4] = ["nsenter", "taskset", "ip", "python3"];
    hawser_tests::wait::until("the program runs", Duration::from_secs(5), || {
        let pid = process.pid()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (!STARTERS.contains(&name.trim())).then_some(pid)
    })
}
