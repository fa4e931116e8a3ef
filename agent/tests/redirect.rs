//! Redirection on hosts with neighbours, containers, firewalls and users of their own. Needs root.

#![allow(clippy::unwrap_used)] // helpers of tests fail by panic

#[path = "redirect/cgroup.rs"]
mod cgroup;
#[path = "redirect/coexist.rs"]
mod coexist;
#[path = "redirect/commit.rs"]
mod commit;
#[path = "redirect/golden.rs"]
mod golden;
#[path = "redirect/heal.rs"]
mod heal;
#[path = "redirect/inbound.rs"]
mod inbound;
#[path = "redirect/names.rs"]
mod names;
#[path = "redirect/net.rs"]
mod net;
#[path = "redirect/outbound.rs"]
mod outbound;
#[path = "redirect/outsiders.rs"]
mod outsiders;
#[path = "redirect/user_namespace.rs"]
mod user_namespace;

use hawser_agent::redirect::{Capture, Exempt, Inbound, Intent, Outbound, Redirection, Scope, Target};

use net::{Net, wire};

/// The uid of the proxy here.
const PROXY: u32 = 64_001;
/// A user that is nobody's.
const SOMEBODY: u32 = 64_002;

/// A host of the mesh and its neighbour on a wire.
struct Host {
    net: Net,
    neighbour: Net,
    state: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let (net, neighbour) = (Net::new("host"), Net::new("near"));
        wire((&net, "eth0", &["10.9.0.1/24", "fd09::1/64"]), (&neighbour, "eth0", &["10.9.0.2/24", "fd09::2/64"]));
        Self { net, neighbour, state: tempfile::tempdir().expect("a directory") }
    }

    fn redirection(&self) -> Redirection {
        Redirection::new(self.state.path()).with_guard(env!("CARGO_BIN_EXE_hawser-agent").into())
    }

    /// Applies from a fresh start of the agent.
    fn apply(&self, intent: &Intent) -> Vec<String> {
        self.net.block_on(async { self.redirection().apply(intent).await.expect("applies") })
    }

    fn remove(&self, grace: std::time::Duration) -> usize {
        self.net.block_on(async { self.redirection().remove(grace).await.expect("is removed") })
    }

    fn check(&self) -> Vec<String> {
        self.net.block_on(async { self.redirection().check().await.expect("can be checked") })
    }

    fn counter(&self, name: &str) -> u64 {
        let status = self.net.block_on(async { self.redirection().status().await.expect("has a status") });
        status.counters.get(name).copied().unwrap_or_default()
    }

    /// Everything but our own table, without counters.
    fn foreign_rules(&self) -> String {
        let tables = self.net.sh("nft list tables");
        let foreign = tables.lines().filter(|line| !line.ends_with("inet hawser"));
        foreign.map(|table| self.net.sh(&format!("nft -s list {table}"))).collect()
    }
}

/// One workload for the whole host, reachable at 9080 on any address; the mesh's default ranges and one target.
fn intent() -> Intent {
    Intent {
        inbound: [Inbound { address: None, port: 9080, workload: "reviews".into() }].into(),
        outbound: [Outbound { scope: Scope::Host, port: 15001, workload: "reviews".into() }].into(),
        capture: Capture {
            virtual_ranges: ["240.240.0.0/16", "2001:2::/48"].map(|r| r.parse().expect("a range")).into(),
            targets: [target("10.9.0.2", 5432), target("fd09::2", 5432)].into(),
            ..Capture::default()
        },
        exempt: Exempt { uids: [PROXY].into(), ..Exempt::default() },
        ..Intent::default()
    }
}

fn target(address: &str, port: u16) -> Target {
    Target { net: address.parse::<std::net::IpAddr>().expect("an address").into(), port }
}
