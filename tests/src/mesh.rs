//! A mesh in the lab: discovery on a control host, members that join it, programs on them.
//!
//! In: a [`Lab`]. Out: [`Mesh`] and [`Member`]s whose daemons are the real ones, started as a service manager would:
//! other users, few capabilities, where the lab has other users. Invariant: nothing here knows more than an operator.

mod load;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::testbeds::Testbed;
use crate::{Host, Lab, Process, Seen, programs, wait};

pub use self::load::{Load, LoadReport, Talk, TalkReport};

/// User of discovery.
pub const DISCOVERY_USER: u32 = 64_000;
/// User of the agent.
pub const AGENT_USER: u32 = 64_001;
/// User of the proxy.
pub const PROXY_USER: u32 = 64_002;
/// User of the programs that know nothing of the mesh.
pub const APP_USER: u32 = 64_010;

const AGENT_FILE: &str = "agent.yaml";

/// Discovery on a control host.
#[derive(Debug)]
pub struct Mesh {
    /// The control host.
    pub control: Host,
    discovery: Option<Process>,
    arguments: Vec<String>,
}

/// A host with an agent.
#[derive(Debug)]
pub struct Member {
    /// The host.
    pub host: Host,
    /// Its agent, while it runs.
    pub agent: Option<Process>,
    /// Its programs.
    pub apps: Vec<Process>,
}

/// Whether the lab has several users: as real root it has.
pub fn has_users() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(2).and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > 100_000)
}

impl Mesh {
    /// A control host with a discovery that is ready.
    ///
    /// # Errors
    /// If it does not become ready within 20 seconds.
    pub fn start(lab: &mut Lab) -> Result<Self> {
        Self::start_with(lab, &[])
    }

    /// The same with further arguments for discovery.
    ///
    /// # Errors
    /// If it does not become ready within 20 seconds.
    pub fn start_with(lab: &mut Lab, arguments: &[&str]) -> Result<Self> {
        let control = lab.host("control")?;
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut mesh = Self { control, discovery: None, arguments };
        for dir in [mesh.data_dir(), mesh.config_dir()] {
            make_dir(&mesh.control, &dir, DISCOVERY_USER)?;
        }
        mesh.start_discovery()?;
        Ok(mesh)
    }

    /// Where discovery keeps what must not be lost.
    pub fn data_dir(&self) -> PathBuf {
        self.control.disk().join("data")
    }

    /// Where the operator's files of resources are.
    pub fn config_dir(&self) -> PathBuf {
        self.control.disk().join("config.d")
    }

    /// The root of the mesh's certificates.
    pub fn root_certificate(&self) -> PathBuf {
        self.data_dir().join("ca.pem")
    }

    /// `address:port` of discovery's TLS port.
    pub fn address(&self) -> String {
        format!("{}:15012", self.control.v4())
    }

    /// Starts discovery, anew after a kill.
    ///
    /// # Errors
    /// If it does not become ready within 20 seconds.
    pub fn start_discovery(&mut self) -> Result<()> {
        make_dir(&self.control, "/run/hawser-discovery".as_ref(), DISCOVERY_USER)?;
        let mut args = vec![programs::find("hawser-discovery")?.display().to_string()];
        args.extend(["--data-dir".to_owned(), self.data_dir().display().to_string()]);
        args.extend(["--config-dir".to_owned(), self.config_dir().display().to_string()]);
        args.extend(["--advertise".to_owned(), self.address()]);
        args.extend(self.arguments.iter().cloned());
        let command = as_user(&self.control, DISCOVERY_USER, &[], &args);
        self.discovery = Some(self.control.spawn_command("discovery", command)?);
        self.ready()
    }

    fn ready(&mut self) -> Result<()> {
        let url = "http://127.0.0.1:15014/readyz";
        let mut last = String::new();
        let outcome = wait::until("discovery is ready", Duration::from_secs(20), || {
            if !self.discovery.as_mut().is_some_and(Process::is_running) {
                return Some(Err(anyhow::anyhow!("discovery ended")));
            }
            let seen = self.control.curl(&["--fail-with-body", url]).ok()?;
            last = format!("{}{}", seen.out, seen.err);
            seen.ok().then_some(Ok(()))
        });
        outcome.and_then(|inner| inner).with_context(|| {
            let log = self.discovery.as_ref().map(Process::log).unwrap_or_default();
            format!("{last}\n{}", crate::process::tail(&log))
        })
    }

    /// Its process.
    ///
    /// # Errors
    /// If it does not run.
    pub fn discovery(&mut self) -> Result<&mut Process> {
        self.discovery.as_mut().context("discovery does not run")
    }

    /// Ends it as a power cut would.
    pub fn kill_discovery(&mut self) {
        self.discovery = None;
    }

    /// `hawser …` on the control host.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn hawser(&self, args: &[&str]) -> Result<Seen> {
        hawser(&self.control, args, None)
    }

    /// `hawser …` on the control host, with text on stdin.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn hawser_with_input(&self, args: &[&str], input: &str) -> Result<Seen> {
        hawser(&self.control, args, Some(input))
    }

    /// `hawser … -o json` on the control host, which must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        json(&self.control, args)
    }

    /// Applies YAML, which must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn apply(&self, yaml: &str) -> Result<Seen> {
        let seen = self.hawser_with_input(&["apply", "-f", "-"], yaml)?;
        ensure!(seen.ok(), "apply ended with {}:\n{}{}", seen.code, seen.out, seen.err);
        Ok(seen)
    }

    /// A join token.
    ///
    /// # Errors
    /// If discovery makes none.
    pub fn token(&self, group: &str, ports: &[&str], uses: u32, more: &[&str]) -> Result<String> {
        let uses = uses.to_string();
        let mut args = vec!["token", "create", "--group", group, "--uses", &uses];
        for port in ports {
            args.extend(["--port", port]);
        }
        args.extend(more);
        let seen = self.hawser(&args)?;
        ensure!(seen.ok(), "{args:?} ended with {}:\n{}", seen.code, seen.err);
        Ok(seen.out.trim().to_owned())
    }

    /// A value of discovery's `/metrics`: the sum over the series whose line starts with `prefix`.
    ///
    /// # Errors
    /// If the page can't be had.
    pub fn metric(&self, prefix: &str) -> Result<f64> {
        metric(&self.control, 15014, prefix)
    }

    /// Endpoints of a host name, as `hawser get endpoints` lists them.
    ///
    /// # Errors
    /// If it can't be asked.
    pub fn endpoints(&self, host: &str) -> Result<Vec<Value>> {
        let all = self.json(&["get", "endpoints"])?;
        let all = all.as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|e| e["host"] == host).collect())
    }

    /// Waits until a host name has that many healthy endpoints.
    ///
    /// # Errors
    /// If it has not in time.
    pub fn healthy(&self, host: &str, count: usize, limit: Duration) -> Result<()> {
        let mut last = Vec::new();
        let is_healthy = |e: &&Value| e["health"] == "healthy";
        wait::for_true(&format!("{count} healthy endpoints of {host}"), limit, || {
            last = self.endpoints(host).unwrap_or_default();
            last.iter().filter(is_healthy).count() == count
        })
        .with_context(|| format!("{last:#?}"))
    }
}

impl Member {
    /// A new host with an agent that runs and has not joined.
    ///
    /// # Errors
    /// If the agent does not start.
    pub fn new(lab: &mut Lab, name: &str) -> Result<Self> {
        let host = lab.host(name)?;
        Self::on(host)
    }

    /// An agent on a host that is there.
    ///
    /// # Errors
    /// If the agent does not start.
    pub fn on(host: Host) -> Result<Self> {
        Self::configured(host, "")
    }

    /// The same with a file of the agent's.
    ///
    /// # Errors
    /// If the agent does not start.
    pub fn configured(host: Host, file: &str) -> Result<Self> {
        let mut member = Self { host, agent: None, apps: Vec::new() };
        member.configure(file)?;
        member.start_agent()?;
        Ok(member)
    }

    /// A new host whose data plane is an Envoy, with a Bookinfo service, joined.
    ///
    /// # Errors
    /// If it can't join.
    pub fn with_envoy(lab: &mut Lab, mesh: &Mesh, testbed: &Testbed, name: &str, role: &str) -> Result<Self> {
        let host = lab.host(name)?;
        let file = format!("proxy: envoy\nenvoy: {{binary: {}}}\n", testbed.envoy_program()?.display());
        let mut member = Self::configured(host, &file)?;
        member.bookinfo(role, "v1", "")?;
        let token = mesh.token(&format!("default/{role}"), &["http=9080"], 1, &["--label", &format!("app={role}")])?;
        member.join(&token)?;
        Ok(member)
    }

    /// Writes the agent's file, which counts from its next start.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn configure(&self, file: &str) -> Result<()> {
        Ok(std::fs::write(self.host.disk().join(AGENT_FILE), file)?)
    }

    /// A new host with an agent and a Bookinfo service, joined.
    ///
    /// # Errors
    /// If it can't join.
    pub fn joined(lab: &mut Lab, mesh: &Mesh, name: &str, role: &str, version: &str) -> Result<Self> {
        let mut member = Self::new(lab, name)?;
        member.bookinfo(role, version, "")?;
        let token = mesh.token(&format!("default/{role}"), &["http=9080"], 1, &["--label", &format!("app={role}")])?;
        member.join(&token)?;
        Ok(member)
    }

    /// Where the agent keeps what must not be lost.
    pub fn state_dir(&self) -> PathBuf {
        self.host.disk().join("state")
    }

    /// Starts the agent, anew after a kill.
    ///
    /// # Errors
    /// If its socket does not answer within 10 seconds.
    pub fn start_agent(&mut self) -> Result<()> {
        make_dir(&self.host, &self.state_dir(), AGENT_USER)?;
        make_dir(&self.host, "/run/hawser".as_ref(), AGENT_USER)?;
        let args: Vec<String> = [
            programs::find("hawser-agent")?.display().to_string(),
            "--state-dir".to_owned(),
            self.state_dir().display().to_string(),
            "--run-dir".to_owned(),
            "/run/hawser".to_owned(),
            "--proxy-user".to_owned(),
            if has_users() { PROXY_USER.to_string() } else { "0".to_owned() },
            "--proxy-binary".to_owned(),
            programs::find("hawser-proxy")?.display().to_string(),
            "--config".to_owned(),
            self.host.disk().join(AGENT_FILE).display().to_string(),
        ]
        .into();
        // What a unit with the proxy as a child would give: the firewall, and another user for the proxy.
        let command = as_user(&self.host, AGENT_USER, &["net_admin", "setuid", "setgid", "kill"], &args);
        self.agent = Some(self.host.spawn_command("agent", command)?);
        let mut last = None;
        wait::for_true("the agent answers", Duration::from_secs(10), || {
            last = self.hawser(&["status"]).ok();
            last.as_ref().is_some_and(Seen::ok)
        })
        .with_context(|| {
            let log = self.agent.as_ref().map(Process::log).unwrap_or_default();
            format!("{}\n{}", last.map(|s| s.err).unwrap_or_default(), crate::process::tail(&log))
        })
    }

    /// What the agent says, and the proxy that it started.
    pub fn agent_log(&self) -> String {
        self.agent.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Ends the agent as a power cut would; the proxy goes on.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// Process ids of the proxies on this host, as the lab sees them.
    pub fn proxies(&self) -> Vec<i32> {
        let seen = self.host.run(&["pgrep", "-f", "hawser-proxy"]);
        // Seen with the ids of the host's own namespace.
        seen.map(|s| s.out.split_whitespace().filter_map(|p| p.parse().ok()).collect()).unwrap_or_default()
    }

    /// The proxies' own processes, without those that only name them.
    pub fn proxy_processes(&self) -> Vec<i32> {
        let seen = self.host.run(&["pgrep", "-x", "hawser-proxy"]);
        seen.map(|s| s.out.split_whitespace().filter_map(|p| p.parse().ok()).collect()).unwrap_or_default()
    }

    /// Lets a new proxy take over, as a unit's reload would; why it could not, if so.
    ///
    /// # Errors
    /// If it can't be tried, or comes to no end.
    pub fn take_over(&self) -> Result<Result<()>> {
        let program = programs::find("hawser-proxy")?.display().to_string();
        let args = [program, "--run-dir".to_owned(), "/run/hawser".to_owned(), "--take-over".to_owned()];
        let number = std::fs::read_dir(self.host.disk()).map(Iterator::count).unwrap_or_default();
        let user = if has_users() { PROXY_USER } else { 0 };
        let mut process = self.host.spawn_command(&format!("proxy-{number}"), as_user(&self.host, user, &[], &args))?;
        let status = process.wait(Duration::from_secs(75))?;
        Ok(if status.success() { Ok(()) } else { Err(anyhow::anyhow!("{status}: {}", process.log())) })
    }

    /// `hawser …` on this host.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn hawser(&self, args: &[&str]) -> Result<Seen> {
        hawser(&self.host, args, None)
    }

    /// `hawser … -o json` on this host, which must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        json(&self.host, args)
    }

    /// Joins, which must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn join(&self, token: &str) -> Result<Seen> {
        let seen = self.hawser(&["join", token])?;
        ensure!(seen.ok(), "{}: join ended with {}:\n{}{}", self.host.name(), seen.code, seen.out, seen.err);
        Ok(seen)
    }

    /// Starts a Bookinfo service on port 9080.
    ///
    /// # Errors
    /// If it does not start.
    pub fn bookinfo(&mut self, role: &str, version: &str, marker: &str) -> Result<()> {
        self.app(role, &["hawser-bookinfo", role, "--version", version, "--marker", marker])
    }

    /// Starts a program that says `ready`, as a user that is nobody to the mesh.
    ///
    /// # Errors
    /// If it does not say so within five seconds.
    pub fn app(&mut self, name: &str, args: &[&str]) -> Result<()> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let command = as_user(&self.host, APP_USER, &[], &args);
        let mut process = self.host.spawn_command(name, command)?;
        process.says("ready", Duration::from_secs(5))?;
        self.apps.push(process);
        Ok(())
    }

    /// Starts requests at a steady rate; [`Load::stop`] tells what became of them.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn load(&self, url: &str, rate: u64, more: &[&str]) -> Result<Load> {
        Load::start(&self.host, url, rate, more)
    }

    /// A value of the host's `/metrics` pages on 15020.
    ///
    /// # Errors
    /// If the page can't be had.
    pub fn metric(&self, prefix: &str) -> Result<f64> {
        metric(&self.host, 15020, prefix)
    }

    /// Power off: everything on it is gone, but its disk.
    pub fn power_off(&mut self, lab: &Lab) {
        lab.power_off(&mut self.host);
        self.agent = None;
        self.apps.clear();
    }
}

/// The command for running `args` as another user with some capabilities; as it is where there is one user only.
pub fn as_user(host: &Host, user: u32, capabilities: &[&str], args: &[String]) -> Command {
    if !has_users() {
        return host.command(args);
    }
    let id = user.to_string();
    let mut all: Vec<String> = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"].map(str::to_owned).into();
    if !capabilities.is_empty() {
        let list = capabilities.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(",");
        all.extend(["--inh-caps".to_owned(), list.clone(), "--ambient-caps".to_owned(), list]);
    }
    all.push("--".to_owned());
    all.extend(args.iter().cloned());
    host.command(&all)
}

fn make_dir(host: &Host, dir: &std::path::Path, user: u32) -> Result<()> {
    let dir = dir.display().to_string();
    host.ok(&["mkdir", "-p", &dir])?;
    if has_users() {
        host.ok(&["chown", &format!("{user}:{user}"), &dir])?;
    }
    Ok(())
}

fn hawser(host: &Host, args: &[&str], input: Option<&str>) -> Result<Seen> {
    let program = programs::find("hawser")?.display().to_string();
    let mut all = vec![program.as_str()];
    all.extend(args);
    host.run_with_input(&all, input)
}

fn json(host: &Host, args: &[&str]) -> Result<Value> {
    let mut all = args.to_vec();
    all.extend(["-o", "json"]);
    let seen = hawser(host, &all, None)?;
    if !seen.ok() {
        bail!("{}: hawser {} ended with {}:\n{}", host.name(), all.join(" "), seen.code, seen.err);
    }
    serde_json::from_str(&seen.out).with_context(|| seen.out.clone())
}

fn metric(host: &Host, port: u16, prefix: &str) -> Result<f64> {
    let page = host.curl(&["--fail", &format!("http://127.0.0.1:{port}/metrics")])?;
    ensure!(page.ok(), "{}: no metrics on {port}: {}", host.name(), page.err);
    let lines = page.out.lines().filter(|l| l.starts_with(prefix));
    Ok(lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
