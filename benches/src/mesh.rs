//! Two hosts of a real mesh: discovery, agents, a join each; peers run on the same hosts.
//!
//! Our pair gets what members get: its configuration from discovery, its connections by redirection. Without our pair
//! among the systems the hosts are plain.

mod setup;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Host, Lab, Process};
use serde::Serialize;

pub(crate) use setup::{REGEX, ROUTES, virtual_address};

/// The service's name for callers.
pub(crate) const SERVICE: &str = "bench.default.svc.cluster.local";
/// What is added to the ports of a server that no proxy stands before.
pub(crate) const UNDECLARED: u16 = 100;
/// How many of many services are used.
const USED: usize = 5;

/// A port of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Door {
    /// HTTP as a mesh runs it.
    Http,
    /// The same, but each request between the proxies has a connection of its own.
    Fresh,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
}

/// Caller and server.
pub(crate) struct Hosts {
    // Dropped in this order: programs before their hosts, hosts before the wire.
    caller: Member,
    server: Member,
    mesh: Option<Mesh>,
    lab: Lab,
    cores: Vec<usize>,
}

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Server,
}

impl Door {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Http, Self::Fresh, Self::Grpc, Self::Tcp];

    /// Where the server listens.
    pub(crate) fn port(self) -> u16 {
        9000 + self.index()
    }

    /// A number of its own.
    pub(crate) fn index(self) -> u16 {
        match self {
            Self::Http => 0,
            Self::Tcp => 1,
            Self::Grpc => 2,
            Self::Fresh => 3,
        }
    }
}

impl Hosts {
    /// Makes both, joined if `meshed`; everything they start runs on `cores`. `services` is how many more services the
    /// mesh has.
    pub(crate) fn new(cores: &[usize], meshed: bool, services: usize) -> anyhow::Result<Self> {
        anyhow::ensure!(nix::unistd::geteuid().is_root(), "the benchmark makes network namespaces: run it as root");
        pin(cores)?;
        let mut lab = Lab::new()?;
        let (mesh, caller, server) = if meshed {
            let mesh = setup::mesh(&mut lab, services)?;
            (Some(mesh), Member::new(&mut lab, "caller")?, Member::new(&mut lab, "server")?)
        } else {
            let mut plain = |name| Ok(Member { host: lab.host(name)?, agent: None, apps: vec![] });
            let members: anyhow::Result<(Member, Member)> = plain("caller").and_then(|c| Ok((c, plain("server")?)));
            let (caller, server) = members?;
            (None, caller, server)
        };
        for member in [&caller, &server] {
            member.host.ok(&["sysctl", "-qw"].into_iter().chain(SETTINGS).collect::<Vec<_>>())?;
        }
        if let Some(mesh) = &mesh {
            setup::join(mesh, &caller, &server)?;
        }
        Ok(Self { caller, server, mesh, lab, cores: cores.to_vec() })
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

    /// How many threads a proxy has that uses its cores.
    pub(crate) fn workers(&self) -> usize {
        self.cores.len()
    }

    /// The virtual address of the benchmarked service.
    pub(crate) fn virtual_address(&self) -> anyhow::Result<std::net::IpAddr> {
        let mesh = self.mesh.as_ref().context("these hosts are in no mesh")?;
        virtual_address(mesh, SERVICE)
    }

    /// Waits until requests take the routes that were configured.
    pub(crate) fn routed(&self) -> anyhow::Result<()> {
        let url = format!("http://{}:{}/", self.virtual_address()?, Door::Http.port());
        setup::routed(&self.caller, &url)
    }

    /// Calls some of the many services, once each.
    pub(crate) fn use_some(&self) -> anyhow::Result<()> {
        let mesh = self.mesh.as_ref().context("these hosts are in no mesh")?;
        (0..USED).try_for_each(|number| setup::call(mesh, &self.caller, number))
    }

    /// A command on a host, pinned to the cores.
    pub(crate) fn command(&self, side: Side, args: &[String]) -> Command {
        let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        let mut all = vec!["taskset".to_owned(), "-c".to_owned(), cores.join(",")];
        all.extend_from_slice(args);
        self.host(side).command(&all)
    }

    /// Starts a program on a host.
    pub(crate) fn spawn(&self, side: Side, name: &str, args: &[String]) -> anyhow::Result<Process> {
        self.host(side).spawn_command(name, self.command(side, args))
    }

    /// The process of the proxy that a host's agent started.
    pub(crate) fn proxy(&self, side: Side) -> anyhow::Result<i32> {
        proxy_of(self.member(side))
    }

    /// The process of a host's agent.
    pub(crate) fn agent(&self, side: Side) -> anyhow::Result<i32> {
        self.member(side).agent.as_ref().and_then(Process::pid).context("the agent has ended")
    }

    /// Bytes in the logs of programs whose names begin so.
    pub(crate) fn logged(&self, prefix: &str) -> anyhow::Result<u64> {
        let files =
            self.logs()?.into_iter().filter(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
        files.map(|f| Ok(f.metadata()?.len())).sum()
    }

    /// Empties what was logged: gigabytes in a run, otherwise.
    pub(crate) fn empty_logs(&self) -> anyhow::Result<()> {
        for file in self.logs()? {
            if file.metadata()?.len() > 1 << 20 {
                std::fs::OpenOptions::new().write(true).open(file)?.set_len(0)?;
            }
        }
        Ok(())
    }

    fn logs(&self) -> anyhow::Result<Vec<std::path::PathBuf>> {
        let mut all = vec![];
        for side in [Side::Caller, Side::Server] {
            let files = std::fs::read_dir(self.host(side).disk())?.flatten().map(|f| f.path());
            all.extend(files.filter(|path| path.extension().is_some_and(|x| x == "log")));
        }
        Ok(all)
    }
}

/// The machine's default congestion control may distort short paths; connections by the ten thousand need ports.
pub(crate) const SETTINGS: [&str; 3] =
    ["net.ipv4.tcp_congestion_control=reno", "net.ipv4.ip_local_port_range=16384 65535", "net.ipv4.tcp_tw_reuse=1"];

/// What the agents start inherits it: the proxies stand on the same cores as everything else.
pub(crate) fn pin(cores: &[usize]) -> anyhow::Result<()> {
    let mut cpus = nix::sched::CpuSet::new();
    for core in cores {
        cpus.set(*core)?;
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).context("this machine lacks a core asked for")
}

/// The process of the proxy that a member's agent started.
pub(crate) fn proxy_of(member: &Member) -> anyhow::Result<i32> {
    let agent = member.agent.as_ref().and_then(Process::pid).context("the agent has ended")?;
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

fn is_proxy(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.starts_with("hawser-proxy"))
}
