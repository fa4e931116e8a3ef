//! Two hosts of a real mesh: discovery, agents, a join each; peers run on the same hosts.
//!
//! Our pair gets what members get: its configuration from discovery, its connections by redirection. Without our pair
//! among the systems the hosts are plain.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Host, Lab, Process};

/// Where the server's HTTP listens.
pub(crate) const HTTP: u16 = 9000;
/// Where its TCP echo listens.
pub(crate) const TCP: u16 = 9001;
/// The service's name for callers.
pub(crate) const SERVICE: &str = "bench.default.svc.cluster.local";

/// Caller and server.
pub(crate) struct Hosts {
    // Dropped in this order: programs before their hosts, hosts before the wire.
    caller: Member,
    server: Member,
    mesh: Option<Mesh>,
    lab: Lab,
    core: usize,
}

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Server,
}

impl Hosts {
    /// Makes both, joined if `meshed`; everything they start runs on `core`.
    pub(crate) fn new(core: usize, meshed: bool) -> anyhow::Result<Self> {
        anyhow::ensure!(nix::unistd::geteuid().is_root(), "the benchmark makes network namespaces: run it as root");
        // What the agents start inherits it: the proxies stand on the same core as everything else.
        let mut cpus = nix::sched::CpuSet::new();
        cpus.set(core)?;
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus)?;
        let mut lab = Lab::new()?;
        let (mesh, caller, server) = if meshed {
            let mesh = Mesh::start(&mut lab)?;
            (Some(mesh), Member::new(&mut lab, "caller")?, Member::new(&mut lab, "server")?)
        } else {
            let mut plain = |name| Ok(Member { host: lab.host(name)?, agent: None, apps: vec![] });
            let members: anyhow::Result<(Member, Member)> = plain("caller").and_then(|c| Ok((c, plain("server")?)));
            let (caller, server) = members?;
            (None, caller, server)
        };
        for member in [&caller, &server] {
            // The machine's default may distort short paths.
            member.host.ok(&["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"])?;
        }
        if let Some(mesh) = &mesh {
            server.join(&mesh.token("default/bench", &["http=9000", "tcp=9001"], 1, &[])?)?;
            caller.join(&mesh.token("default/caller", &["http-unused=8080"], 1, &[])?)?;
            mesh.healthy(SERVICE, 2, Duration::from_secs(10))?;
        }
        Ok(Self { caller, server, mesh, lab, core })
    }

    pub(crate) fn member(&self, side: Side) -> &Member {
        if side == Side::Caller { &self.caller } else { &self.server }
    }

    pub(crate) fn host(&self, side: Side) -> &Host {
        &self.member(side).host
    }

    /// Where files of the run go.
    pub(crate) fn dir(&self) -> &Path {
        self.lab.work()
    }

    /// The virtual address of the benchmarked service.
    pub(crate) fn virtual_address(&self) -> anyhow::Result<std::net::IpAddr> {
        let mesh = self.mesh.as_ref().context("these hosts are in no mesh")?;
        let services = mesh.json(&["get", "services"])?;
        let mut services = services.as_array().into_iter().flatten();
        let service = services.find(|s| s["host"] == SERVICE).context("the service is not there")?;
        let addresses = service["addresses"].as_array().into_iter().flatten();
        let mut addresses = addresses.filter_map(|a| a.as_str()?.split('/').next()?.parse().ok());
        addresses.find(std::net::IpAddr::is_ipv4).context("the service has no virtual address")
    }

    /// A command on a host, pinned to the core.
    pub(crate) fn command(&self, side: Side, args: &[String]) -> Command {
        let mut all = vec!["taskset".to_owned(), "-c".to_owned(), self.core.to_string()];
        all.extend_from_slice(args);
        self.host(side).command(&all)
    }

    /// Starts a program on a host.
    pub(crate) fn spawn(&self, side: Side, name: &str, args: &[String]) -> anyhow::Result<Process> {
        self.host(side).spawn_command(name, self.command(side, args))
    }

    /// The process of the proxy that a host's agent started.
    pub(crate) fn proxy(&self, side: Side) -> anyhow::Result<i32> {
        let agent = self.member(side).agent.as_ref().and_then(Process::pid).context("the agent has ended")?;
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut children = hawser_tests::process::children(agent).into_iter();
            if let Some(pid) = children.find(|pid| is_proxy(*pid)) {
                return Ok(pid);
            }
            anyhow::ensure!(Instant::now() < deadline, "the agent runs no hawser-proxy");
            hawser_tests::wait::between_looks(Duration::from_millis(50));
        }
    }
}

fn is_proxy(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.starts_with("hawser-proxy"))
}
