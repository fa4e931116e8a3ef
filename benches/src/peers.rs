//! The systems under test, each as a pair: one on the caller's host, one on the server's.

mod envoy;
mod haproxy;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hawser_tests::Process;

use crate::System;
use crate::certificates::Certificates;
use crate::mesh::{HTTP, Hosts, Side, TCP};

/// Where a peer listens. No two peers share a port: both could bind it, and each would get a part of the other's load.
#[derive(Clone, Copy)]
struct Ports {
    /// What a caller dials at its own proxy, as peers are not redirected to.
    local_http: u16,
    local_tcp: u16,
    /// What the server's proxy listens on with mTLS.
    tls_http: u16,
    tls_tcp: u16,
}

const ENVOY: Ports = Ports { local_http: 7000, local_tcp: 7001, tls_http: 9443, tls_tcp: 9444 };
const HAPROXY: Ports = Ports { local_http: 7010, local_tcp: 7011, tls_http: 9453, tls_tcp: 9454 };

/// A running pair.
pub(crate) struct Pair {
    pub(crate) system: System,
    /// Process ids: caller's side, server's side; none for `Direct`.
    pub(crate) proxies: Vec<i32>,
    pub(crate) http: SocketAddr,
    pub(crate) tcp: SocketAddr,
    /// Kept while the pair is.
    _processes: Vec<Process>,
}

/// What pairs are made of.
pub(crate) struct Kit<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) certificates: &'a Certificates,
    pub(crate) envoy: &'a str,
}

impl Kit<'_> {
    /// Starts a pair.
    pub(crate) fn start(&self, system: System) -> anyhow::Result<Pair> {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let pair = |proxies, address: IpAddr, ports: (u16, u16), processes| Pair {
            system,
            proxies,
            http: SocketAddr::new(address, ports.0),
            tcp: SocketAddr::new(address, ports.1),
            _processes: processes,
        };
        let peer = |ports: Ports, processes: Vec<Process>| -> anyhow::Result<Pair> {
            let pids = processes.iter().map(running).collect::<anyhow::Result<_>>()?;
            Ok(pair(pids, local, (ports.local_http, ports.local_tcp), processes))
        };
        match system {
            // A loopback address is not captured; the server's own is not either, for a caller who is not redirected.
            System::Direct => {
                let direct = IpAddr::V4(self.hosts.host(Side::Server).v4());
                Ok(pair(vec![], direct, (HTTP + 100, TCP + 100), vec![]))
            }
            System::Envoy => peer(ENVOY, envoy::start(self, ENVOY)?),
            System::Haproxy => peer(HAPROXY, haproxy::start(self, HAPROXY)?),
            System::Hawser => {
                let pids = vec![self.hosts.proxy(Side::Caller)?, self.hosts.proxy(Side::Server)?];
                Ok(pair(pids, self.hosts.virtual_address()?, (HTTP, TCP), vec![]))
            }
        }
    }

    fn server(&self) -> String {
        self.hosts.host(Side::Server).v4().to_string()
    }
}

/// The process of a program, once it is the program and no longer what starts it.
fn running(process: &Process) -> anyhow::Result<i32> {
    const STARTERS: [&str; 3] = ["nsenter", "taskset", "ip"];
    hawser_tests::wait::until("the program runs", Duration::from_secs(5), || {
        let pid = process.pid()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (!STARTERS.contains(&name.trim())).then_some(pid)
    })
}
