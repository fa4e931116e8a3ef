//! The mesh of the soak: a caller, a server that stays, one that comes and goes, and one for TCP.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Lab, Process};

use crate::mesh::{Door, SERVICE, SETTINGS, proxy_of, virtual_address};
use crate::tool::me;

/// What an agent says when it has new certificates.
const RENEWED: &str = "certificates renewed";
/// What two servers serve, of which one comes and goes.
const REQUESTS: [(Door, &str); 2] = [(Door::Http, "http"), (Door::Grpc, "grpc")];
/// What a server serves that stays: bytes on a connection can't be moved from a host that leaves.
const BYTES: (Door, &str) = (Door::Tcp, "tcp");
/// That one's name.
const STEADY: &str = "steady.default.svc.cluster.local";

/// All hosts, joined.
pub(super) struct Place {
    // Dropped in this order: programs before their hosts, hosts before the wire.
    _upstreams: Vec<Process>,
    caller: Member,
    staying: Member,
    moving: Member,
    steady: Member,
    pub(super) mesh: Mesh,
    lab: Lab,
    requests: IpAddr,
    bytes: IpAddr,
    discovery: i32,
    token: String,
}

impl Place {
    pub(super) fn new(certificate_life: u32) -> anyhow::Result<Self> {
        anyhow::ensure!(nix::unistd::geteuid().is_root(), "the soak makes network namespaces: run it as root");
        let mut lab = Lab::new()?;
        let mut mesh = Mesh::start_with(&mut lab, &["--certificate-life", &format!("{certificate_life}s")])?;
        let mut member = |name| -> anyhow::Result<Member> {
            let member = Member::on(lab.host(name)?)?;
            // The rest stays as a host has it.
            member.host.ok(&["sysctl", "-qw", SETTINGS[0]])?;
            Ok(member)
        };
        let (caller, staying) = (member("caller")?, member("staying")?);
        let (moving, steady) = (member("moving")?, member("steady")?);
        let mut upstreams = vec![];
        for member in [&staying, &moving, &steady] {
            upstreams.push(member.host.spawn("upstream", &[&me()?, "upstream", "0.0.0.0"])?);
        }
        let token = |group: &str, ports: &[(Door, &str)], uses| {
            let ports: Vec<String> = ports.iter().map(|(door, name)| format!("{name}={}", door.port())).collect();
            mesh.token(group, &ports.iter().map(String::as_str).collect::<Vec<_>>(), uses, &[])
        };
        steady.join(&token("default/steady", &[BYTES], 1)?)?;
        caller.join(&token("default/caller", &[(Door::Fresh, "http-unused")], 1)?)?;
        let token = token("default/bench", &REQUESTS, 100_000)?;
        staying.join(&token)?;
        mesh.healthy(SERVICE, REQUESTS.len(), Duration::from_secs(10))?;
        mesh.healthy(STEADY, 1, Duration::from_secs(10))?;
        let (requests, bytes) = (virtual_address(&mesh, SERVICE)?, virtual_address(&mesh, STEADY)?);
        let discovery = mesh.discovery()?.pid().context("discovery has ended")?;
        let _upstreams = upstreams;
        let place = Self { _upstreams, caller, staying, moving, steady, mesh, lab, requests, bytes, discovery, token };
        place.enter()?;
        Ok(place)
    }

    /// The moving host joins.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        self.moving.join(&self.token)?;
        self.mesh.healthy(SERVICE, 2 * REQUESTS.len(), Duration::from_secs(20))
    }

    /// It leaves.
    pub(super) fn leave(&self) -> anyhow::Result<()> {
        let seen = self.moving.hawser(&["leave"])?;
        anyhow::ensure!(seen.ok(), "leave ended with {}:\n{}{}", seen.code, seen.out, seen.err);
        self.mesh.healthy(SERVICE, REQUESTS.len(), Duration::from_secs(20))
    }

    /// Where a door is for callers.
    pub(super) fn address(&self, door: Door) -> SocketAddr {
        SocketAddr::new(if door == BYTES.0 { self.bytes } else { self.requests }, door.port())
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
        for member in [&self.caller, &self.staying, &self.steady, &self.moving] {
            let agent = member.agent.as_ref().and_then(Process::pid).context("an agent has ended")?;
            all.push((format!("{}'s agent", member.host.name()), agent));
        }
        for member in [&self.caller, &self.staying, &self.steady] {
            all.push((format!("{}'s proxy", member.host.name()), proxy_of(member)?));
        }
        Ok(all)
    }

    /// How often the hosts that stay renewed their certificates.
    pub(super) fn renewals(&self) -> Vec<(String, usize)> {
        let count = |member: &Member| {
            let log = member.agent.as_ref().map(Process::log).unwrap_or_default();
            // The host's own certificate has a time of its own.
            let renewed = log.lines().filter(|l| l.contains(RENEWED) && !l.contains("workloads=0"));
            (member.host.name().to_owned(), renewed.count())
        };
        [&self.caller, &self.staying, &self.steady].map(count).into()
    }
}
