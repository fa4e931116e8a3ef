//! `hawser doctor`, and what a join looks at before it changes anything: whether this host can be a member, and what is
//! wrong with one that is.
//!
//! In: the host as it is, read by each check on its own (`kernel`, `listeners`, `way` to discovery, ...). Out: findings, each a
//! verdict, a sentence and a cure, in an order of their own. Each judgement is a pure function of what was read. Nothing
//! on the host is changed, all checks run at once, and none outlives its time.

mod conntrack;
mod errand;
mod finding;
mod firewalls;
mod kernel;
mod limits;
mod listeners;
mod membership;
mod passage;
mod ranges;
mod servers;
mod way;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::names::ports;
use hawser_api::token::JoinToken;
use nix::unistd::{AccessFlags, access};
use tokio::time::timeout;

pub use errand::errand;
pub(crate) use finding::{Finding, Verdict, refusal};

use crate::config::{Config, ProxyKind};
use crate::discovery::Connection;
use crate::identity::OnDisk;
use crate::mark::OwnMark;
use crate::member::Member;
use crate::refusal::Refusal;
use crate::supervise::envoy;

/// How long one check may take; those that wait for others wait less.
const LIMIT: Duration = Duration::from_secs(6);
/// What can only be a warning holds up a join no longer.
const HINT: Duration = Duration::from_secs(1);

/// Whom to look at.
pub(crate) struct Patient<'a> {
    pub(crate) config: &'a Config,
    /// Its part in the mesh, if it has one.
    pub(crate) member: Option<Arc<Member>>,
    /// How it came to be joined, where the agent does not run.
    pub(crate) joined: Option<&'a OnDisk>,
    /// The token it would join with.
    pub(crate) token: Option<&'a JoinToken>,
}

/// Looks at everything.
pub(crate) async fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let Patient { config, member, joined, token } = patient;
    let mark = OwnMark::of(config);
    let member = member.as_deref();
    let targets = way::targets(member, *token, *joined, mark);
    let names = targets.iter().map(|target| target.address.clone()).collect();
    let declared = member.map(declared).unwrap_or_default();
    let part_of_mesh = member.is_some() || joined.is_some();
    let (part, program, kernel, ports, way, names, conntrack, firewalls, inbound, limits) = tokio::join!(
        within("lease", async { member_findings(member).await }),
        within("proxy", async { if member.is_none() { program(config).await } else { Vec::new() } }),
        within("kernel", kernel::findings()),
        within("ports", listeners::findings(config, member)),
        async {
            // Bounded by itself: what it says must not be lost.
            let (mut findings, told) = way::findings(targets, part_of_mesh).await;
            findings.extend(within("routes", ranges::findings(member, told)).await);
            findings
        },
        within("names", servers::findings(names, mark)),
        within("conntrack", blocking("conntrack", move || conntrack::findings(part_of_mesh))),
        within("firewall", firewalls::findings(declared.clone())),
        within("inbound", membership::inbound(member, joined.is_some(), declared.clone())),
        within("disk", limits::findings(config, member)),
    );
    [part, program, kernel, ports, way, names, conntrack, firewalls, inbound, limits].concat()
}

/// Looks at what a join may fail of, and gives the connection that the join goes on with. Name servers are left out: whether
/// discovery is found is seen by going there, and a join is not held up by those that are dead.
pub(crate) async fn before_join(config: &Config, token: &JoinToken) -> (Vec<Finding>, Result<Connection, Refusal>) {
    let (program, kernel, ports, (way, connection), conntrack, firewalls, limits) = tokio::join!(
        within("proxy", program(config)),
        within("kernel", kernel::findings()),
        within("ports", listeners::findings(config, None)),
        async {
            let (mut findings, told, connection) = way::taken(token, OwnMark::of(config)).await;
            findings.extend(within("routes", ranges::findings(None, told)).await);
            (findings, connection)
        },
        within("conntrack", blocking("conntrack", || conntrack::findings(false))),
        within_time(HINT, "firewall", firewalls::findings(Vec::new())),
        within("disk", limits::findings(config, None)),
    );
    ([program, kernel, ports, way, conntrack, firewalls, limits].concat(), connection)
}

/// What a check finds, or that it did not come to an end.
async fn within(check: &'static str, work: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    within_time(LIMIT, check, work).await
}

async fn within_time(limit: Duration, check: &'static str, work: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    match timeout(limit, work).await {
        Ok(findings) => findings,
        Err(_) => {
            let sentence = format!("this could not be looked at within {} s", limit.as_secs());
            vec![Finding::unknown(check, sentence, "see what keeps this host busy, and try again")]
        }
    }
}

/// The same for what reads files, which may hang where their disk does.
async fn blocking(check: &'static str, work: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Vec<Finding> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        vec![Finding::unknown(
            check,
            "this could not be looked at",
            "the agent's log says more: journalctl -u hawser-agent",
        )]
    })
}

async fn member_findings(member: Option<&Member>) -> Vec<Finding> {
    match member {
        Some(member) => membership::findings(member).await,
        None => Vec::new(),
    }
}

/// Whether there is a data plane to start.
async fn program(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "proxy";
    if config.file.proxy == ProxyKind::Envoy {
        let binary = &config.file.envoy.binary;
        return vec![match envoy::version(binary).await {
            Ok(_) => Finding::ok(CHECK, format!("{} can be run", binary.display())),
            Err(error) => Finding::split(CHECK, &error.to_string()).blamed("proxy-missing"),
        }];
    }
    let proxy: &Path = &config.proxy_binary;
    vec![if access(proxy, AccessFlags::X_OK).is_ok() {
        Finding::ok(CHECK, format!("{} can be run", proxy.display()))
    } else {
        let sentence = format!("{} can't be run", proxy.display());
        Finding::failure(CHECK, sentence, "install the package hawser-agent, which brings hawser-proxy")
            .blamed("proxy-missing")
    }]
}

/// Ports that others call this host at.
fn declared(member: &Member) -> Vec<u16> {
    let identity = member.holder.current();
    let all = identity.record.workloads.iter().flat_map(|workload| &workload.ports);
    let mut ports: Vec<u16> = all.filter_map(|port| u16::try_from(port.port).ok()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.retain(|port| !ports::is_own(*port));
    ports.truncate(MOST_PORTS);
    ports
}

/// As many as discovery looks at.
const MOST_PORTS: usize = 63;
