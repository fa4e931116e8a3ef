//! A real Consul server on loopback ports of its own, and what tests say to it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Process, testbeds, wait};

/// Time for a server to have a leader, on a busy machine.
const START: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(60);
/// Operations of one transaction, as Consul allows.
const TRANSACTION: usize = 64;

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its datacenter.
    pub datacenter: &'static str,
    /// Deny by default, with this token for everything.
    pub master: Option<&'static str>,
    /// Keep its state over a restart; else it forgets all, and its indexes begin anew.
    pub keeps: bool,
    /// Further configuration.
    pub more: Value,
}

impl Default for Options {
    fn default() -> Self {
        Self { datacenter: "dc1", master: None, keeps: false, more: json!({}) }
    }
}

/// A running server. Ends with its guard.
#[derive(Debug)]
pub struct Consul {
    program: PathBuf,
    dir: TempDir,
    options: Options,
    http: u16,
    wan: u16,
    process: Option<Process>,
}

impl Consul {
    /// Starts a server and waits until it has a leader.
    ///
    /// # Errors
    /// If Consul can't be had, or does not start.
    pub fn start(options: Options) -> Result<Self> {
        let program = testbeds::consul()?;
        let dir = tempfile::Builder::new().prefix("hawser-consul-").tempdir()?;
        let [http, server, lan, wan] = free_ports()?;
        let mut config = json!({
            "server": true, "bootstrap": true, "datacenter": options.datacenter, "node_name": format!("server-{}", options.datacenter),
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "log_level": "warn", "disable_update_check": true,
            "performance": {"raft_multiplier": 1},
            "ports": {"http": http, "server": server, "serf_lan": lan, "serf_wan": wan, "dns": -1, "grpc": -1},
        });
        if let Some(master) = options.master {
            config["acl"] =
                json!({"enabled": true, "default_policy": "deny", "tokens": {"master": master, "agent": master}});
        }
        if let (Value::Object(config), Value::Object(more)) = (&mut config, &options.more) {
            config.extend(more.clone());
        }
        std::fs::write(dir.path().join("consul.json"), config.to_string())?;
        let mut consul = Self { program, dir, options, http, wan, process: None };
        consul.run()?;
        Ok(consul)
    }

    /// Starts it again after [`Consul::kill`].
    ///
    /// # Errors
    /// If it does not come up.
    pub fn run(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("agent").arg("-config-file").arg(self.dir.path().join("consul.json")).arg("-disable-host-node-id");
        if self.options.keeps {
            command.arg("-data-dir").arg(self.dir.path().join("data"));
        } else {
            command.arg("-dev");
        }
        self.process = Some(Process::spawn("consul", command, self.dir.path().join("log"), false)?);
        wait::for_true("consul has a leader and knows itself", START, || {
            self.get("/v1/catalog/services").is_ok_and(|services| services.get("consul").is_some())
        })
        .with_context(|| self.log())
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Stops and continues it: while stopped it holds its connections and answers nothing.
    pub fn pause(&self, paused: bool) {
        use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
        if let Some(process) = &self.process {
            process.signal(if paused { SIGSTOP } else { SIGCONT });
        }
    }

    /// What it said.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().and_then(Process::pid)
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// The port of its API.
    pub fn port(&self) -> u16 {
        self.http
    }

    /// Makes its datacenter and another one known to each other, and waits until both answer for each other.
    ///
    /// # Errors
    /// If they do not.
    pub fn join_wan(&self, other: &Self) -> Result<()> {
        self.put(&format!("/v1/agent/join/127.0.0.1:{}?wan=1", other.wan), &Value::Null)?;
        let answers = |a: &Self, b: &Self| a.get(&format!("/v1/catalog/services?dc={}", b.options.datacenter)).is_ok();
        wait::for_true("datacenters answer for each other", START, || answers(self, other) && answers(other, self))
    }

    /// Asks with the master token, if there is one.
    ///
    /// # Errors
    /// If the answer is not a success or no JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let text = self.request("GET", path, "")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Writes with the master token, if there is one.
    ///
    /// # Errors
    /// If the answer is not a success.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        let text = self.request("PUT", path, &if body.is_null() { String::new() } else { body.to_string() })?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Registers an instance `id` of a service on a node that has no agent, with a check that passes.
    ///
    /// # Errors
    /// If Consul refuses it.
    pub fn instance(&self, node: &str, service: &str, id: &str, address: &str, port: u16, more: &Value) -> Result<()> {
        let mut registered = json!({"ID": id, "Service": service, "Address": address, "Port": port});
        if let (Value::Object(registered), Value::Object(more)) = (&mut registered, more) {
            registered.extend(more.clone());
        }
        let body = json!({
            "Node": node, "Address": "10.0.0.1", "Service": registered,
            "Check": {"CheckID": format!("service:{id}"), "Name": "check", "Status": "passing", "ServiceID": id},
        });
        self.put("/v1/catalog/register", &body).map(drop)
    }

    /// Sets the check of an instance.
    ///
    /// # Errors
    /// If Consul refuses it.
    pub fn check(&self, node: &str, id: &str, status: &str) -> Result<()> {
        let check = json!({"CheckID": format!("service:{id}"), "Name": "check", "Status": status, "ServiceID": id});
        let body = json!({"Node": node, "Address": "10.0.0.1", "SkipNodeUpdate": true, "Check": check});
        self.put("/v1/catalog/register", &body).map(drop)
    }

    /// Takes an instance out.
    ///
    /// # Errors
    /// If Consul refuses it.
    pub fn deregister(&self, node: &str, id: &str) -> Result<()> {
        self.put("/v1/catalog/deregister", &json!({"Node": node, "ServiceID": id})).map(drop)
    }

    /// Registers many instances at once: node, service, id, address, port. Each has a check that passes.
    ///
    /// # Errors
    /// If Consul refuses one.
    pub fn many(&self, instances: &[(String, String, String, String, u16)]) -> Result<()> {
        let nodes: BTreeSet<&String> = instances.iter().map(|i| &i.0).collect();
        let nodes = nodes
            .into_iter()
            .map(|node| json!({"Node": {"Verb": "set", "Node": {"Node": node, "Address": "10.0.0.1"}}}));
        let services = instances.iter().flat_map(|(node, service, id, address, port)| {
            let check = json!({"Node": node, "CheckID": format!("service:{id}"), "Name": "check", "Status": "passing", "ServiceID": id});
            [
                json!({"Service": {"Verb": "set", "Node": node, "Service": {"ID": id, "Service": service, "Address": address, "Port": port}}}),
                json!({"Check": {"Verb": "set", "Check": check}}),
            ]
        });
        let all: Vec<Value> = nodes.chain(services).collect();
        for operations in all.chunks(TRANSACTION) {
            self.put("/v1/txn", &json!(operations))?;
        }
        Ok(())
    }

    /// A new token with a policy of these rules: its accessor and its secret.
    ///
    /// # Errors
    /// If Consul refuses it.
    pub fn token(&self, name: &str, rules: &str) -> Result<(String, String)> {
        self.put("/v1/acl/policy", &json!({"Name": name, "Rules": rules}))?;
        let made = self.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]}))?;
        let text = |key: &str| made[key].as_str().map(str::to_owned).context("a token has ids");
        Ok((text("AccessorID")?, text("SecretID")?))
    }

    /// Deletes a token.
    ///
    /// # Errors
    /// If Consul refuses.
    pub fn revoke(&self, accessor: &str) -> Result<()> {
        self.request("DELETE", &format!("/v1/acl/token/{accessor}"), "").map(drop)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http))?;
        stream.set_read_timeout(Some(LIMIT))?;
        // HTTP/1.0: the answer ends with the connection.
        let mut head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        if let Some(master) = self.options.master {
            write!(head, "X-Consul-Token: {master}\r\n")?;
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
        let ok = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        ensure!(ok, "{method} {path}: {} {body}", head.lines().next().unwrap_or_default());
        Ok(body.to_owned())
    }
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
