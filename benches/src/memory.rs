//! Memory: of proxies that idle, that know of many services, that hold idle connections.

use std::time::Duration;

use serde::Serialize;

use crate::load::Kind;
use crate::measure::resident_bytes;
use crate::mesh::{Door, Hosts, Side};
use crate::peers::{Kit, Pair};
use crate::tool::Tool;

/// Bytes, of the caller's side and the server's side.
pub(crate) type Sides = [u64; 2];

/// What was found of a system.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// After its first requests.
    pub(crate) idle: Sides,
    /// With many services in the mesh, of which a few are used.
    pub(crate) many: Option<Sides>,
    /// The agents beside it then.
    pub(crate) agents: Option<Sides>,
    /// For each idle HTTP connection of an application.
    pub(crate) per_http: Option<Sides>,
    /// For each idle TCP connection of an application.
    pub(crate) per_tcp: Option<Sides>,
}

/// Of a pair's proxies now.
pub(crate) fn resident(pair: &Pair) -> anyhow::Result<Sides> {
    match pair.proxies[..] {
        [caller, server] => Ok([resident_bytes(caller)?, resident_bytes(server)?]),
        _ => Ok([0; 2]),
    }
}

/// Of both agents.
pub(crate) fn agents(hosts: &Hosts) -> anyhow::Result<Sides> {
    Ok([resident_bytes(hosts.agent(Side::Caller)?)?, resident_bytes(hosts.agent(Side::Server)?)?])
}

/// Of a pair's proxies when it does not change any more.
pub(crate) fn settled(pair: &Pair) -> anyhow::Result<Sides> {
    let mut last = resident(pair)?;
    for _ in 0..50 {
        hawser_tests::wait::between_looks(Duration::from_millis(200));
        let now = resident(pair)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// What each of `count` idle connections takes.
pub(crate) fn per_connection(kit: &Kit<'_>, pair: &Pair, kind: Kind, count: u32) -> anyhow::Result<Sides> {
    if pair.proxies.is_empty() {
        return Ok([0; 2]);
    }
    let door = if kind == Kind::Message { Door::Tcp } else { Door::Http };
    let before = settled(pair)?;
    let tool = Tool::hold(kit.hosts, kind, pair.address(door), count)?;
    let after = settled(pair)?;
    tool.end("all still open")?;
    let each = |side: usize| after[side].saturating_sub(before[side]) / u64::from(count);
    Ok([each(0), each(1)])
}
