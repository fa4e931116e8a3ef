//! The systems under test, each as a pair: one on the caller's host, one on the server's.

mod envoy;
mod haproxy;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hawser_tests::Process;

use crate::System;
use crate::certificates::Certificates;
use crate::mesh::{HTTP, Hosts, Side, TCP};

/// What a caller dials at its own proxy, for peers that are not redirected to.
const LOCAL_HTTP: u16 = 7000;
const LOCAL_TCP: u16 = 7001;
/// What the server's proxy listens on with mTLS.
const TLS_HTTP: u16 = 9443;
const TLS_TCP: u16 = 9444;

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
        let peer = |processes: Vec<Process>| -> anyhow::Result<Pair> {
            let pids = processes.iter().filter_map(Process::pid).collect();
            Ok(pair(pids, local, (LOCAL_HTTP, LOCAL_TCP), processes))
        };
        match system {
            // A loopback address is not captured; the server's own is not either, for a caller who is not redirected.
            System::Direct => {
                let direct = IpAddr::V4(self.hosts.host(Side::Server).v4());
                Ok(pair(vec![], direct, (HTTP + 100, TCP + 100), vec![]))
            }
            System::Envoy => peer(envoy::start(self)?),
            System::Haproxy => peer(haproxy::start(self)?),
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
