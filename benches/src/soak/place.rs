//! The mesh of the soak: a caller, a server that stays, and one that comes and goes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, Process};

use crate::mesh::{Door, SERVICE, proxy_of, virtual_address};
use crate::tool::me;

/// The shortest life there is; renewed after half of it.
const LIFE: &str = "60s";
/// Endpoints of the server that stays, and of the one that does not: TCP is at the first alone, as a connection can't be
/// moved from a host that leaves.
const STAYING: [(Door, &str); 4] =
    [(Door::Http, "http"), (Door::Fresh, "http-fresh"), (Door::Grpc, "grpc"), (Door::Tcp, "tcp")];
const MOVING: [(Door, &str); 2] = [(Door::Http, "http"), (Door::Grpc, "grpc")];

/// All hosts, joined.
pub(super) struct Place {
    // Dropped in this order: programs before their hosts, hosts before the wire.
    _upstreams: Vec<Process>,
    caller: Member,
    staying: Member,
    pub(super) moving: Member,
    pub(super) mesh: Mesh,
    lab: Lab,
    address: std::net::IpAddr,
    discovery: i32,
    token: String,
    serials: Vec<String>,
}

impl Place {
    pub(super) fn new() -> anyhow::Result<Self> {
        anyhow::ensure!(nix::unistd::geteuid().is_root(), "the soak makes network namespaces: run it as root");
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start_with(&mut lab, &["--certificate-life", LIFE])?;
        let [caller, staying, moving] =
            ["caller", "staying", "moving"].map(|name| Member::on(lab.host(name)?)).map(|m| m.map(Box::new));
        let (caller, staying, moving) = (*caller?, *staying?, *moving?);
        for member in [&caller, &staying, &moving] {
            member.host.ok(&["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_tw_reuse=1"])?;
            member.host.ok(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=16384 65535"])?;
        }
        let mut upstreams = vec![];
        for member in [&staying, &moving] {
            upstreams.push(member.host.spawn("upstream", &[&me()?, "upstream", "0.0.0.0"])?);
        }
        let ports = |doors: &[(Door, &str)]| -> Vec<String> {
            doors.iter().map(|(door, name)| format!("{name}={}", door.port())).collect()
        };
        let token = |group: &str, ports: &[String], uses| {
            let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
            mesh.token(group, &ports, uses, &[])
        };
        staying.join(&token("default/bench", &ports(&STAYING), 1)?)?;
        caller.join(&token("default/caller", &["http-unused=8080".to_owned()], 1)?)?;
        let token = token("default/bench", &ports(&MOVING), 100_000)?;
        let discovery = mesh.discovery()?.pid().context("discovery has ended")?;
        let address = {
            mesh.healthy(SERVICE, STAYING.len(), Duration::from_secs(10))?;
            virtual_address(&mesh, SERVICE)?
        };
        let mut place = Self {
            _upstreams: upstreams,
            caller,
            staying,
            moving,
            mesh,
            lab,
            address,
            discovery,
            token,
            serials: vec![],
        };
        place.enter()?;
        place.serials = place.certificates()?;
        Ok(place)
    }

    /// The moving host joins.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        self.moving.join(&self.token)?;
        self.mesh.healthy(SERVICE, STAYING.len() + MOVING.len(), Duration::from_secs(20))
    }

    /// It leaves.
    pub(super) fn leave(&self) -> anyhow::Result<()> {
        let seen = self.moving.hawser(&["leave"])?;
        anyhow::ensure!(seen.ok(), "leave ended with {}:\n{}{}", seen.code, seen.out, seen.err);
        self.mesh.healthy(SERVICE, STAYING.len(), Duration::from_secs(20))
    }

    /// Where a door is for callers.
    pub(super) fn address(&self, door: Door) -> SocketAddr {
        SocketAddr::new(self.address, door.port())
    }

    /// A command on the caller's host.
    pub(super) fn command(&self, args: &[String]) -> std::process::Command {
        self.caller.host.command(args)
    }

    pub(super) fn dir(&self) -> &Path {
        self.lab.work()
    }

    pub(super) fn keep(&mut self) {
        self.lab.keep_files();
    }

    /// The daemons that run from the beginning to the end. The moving host's proxy is not among them.
    pub(super) fn processes(&self) -> anyhow::Result<Vec<(String, i32)>> {
        let mut all = vec![("discovery".to_owned(), self.discovery)];
        for member in [&self.caller, &self.staying, &self.moving] {
            let agent = member.agent.as_ref().and_then(Process::pid).context("an agent has ended")?;
            all.push((format!("{}'s agent", member.host.name()), agent));
        }
        for member in [&self.caller, &self.staying] {
            all.push((format!("{}'s proxy", member.host.name()), proxy_of(member)?));
        }
        Ok(all)
    }

    /// How many certificates of the hosts that stay are others than at the beginning.
    pub(super) fn renewals(&self) -> anyhow::Result<usize> {
        Ok(self.certificates()?.iter().zip(&self.serials).filter(|(now, then)| now != then).count())
    }

    fn certificates(&self) -> anyhow::Result<Vec<String>> {
        let mut all = vec![];
        for member in [&self.caller, &self.staying] {
            let status = member.json(&["status"])?;
            let host = &status["host"];
            for certificate in [&host["certificate"], &host["workloads"][0]["certificate"]] {
                all.push(certificate["serial"].as_str().context("a certificate has a serial number")?.to_owned());
            }
        }
        Ok(all)
    }
}
