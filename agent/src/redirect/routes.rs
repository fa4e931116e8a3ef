//! Routes to the virtual ranges, so that connections to them reach the output hook on every host.
//!
//! `<range> dev lo`, protocol 157, with a metric so high that anybody's real route wins. Protocol tells ours from
//! others': only ours are ever removed. Scope host makes 127.0.0.1 the source, so that a connection to the proxy works
//! without, and outlives a change of, the host's addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

/// Protocol number of our routes; free in iproute2's list.
pub(super) const PROTOCOL: u8 = 157;
/// Their metric.
pub(super) const METRIC: u32 = 15001;

/// Why routes could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The kernel could not be asked.
    #[error("routes can't be read or changed: run as root, or with CAP_NET_ADMIN")]
    Netlink(#[source] rtnetlink::Error),
    /// No connection to the kernel.
    #[error("no netlink socket")]
    Socket(#[source] std::io::Error),
    /// Loopback is missing.
    #[error("this host has no interface lo: bring it up (ip link set lo up)")]
    NoLoopback,
}

/// What exists of ours.
pub(super) async fn current() -> Result<BTreeSet<IpNet>, RouteError> {
    connected(async |handle| Ok(ours(&handle).await?.into_iter().filter_map(|r| destination(&r)).collect())).await
}

/// Makes ours exactly `wanted`; a sentence for each that can't be had.
pub(super) async fn set(wanted: &BTreeSet<IpNet>) -> Result<Vec<String>, RouteError> {
    connected(async |handle| {
        let existing = ours(&handle).await?;
        let mut have = BTreeSet::new();
        for route in existing {
            match destination(&route) {
                Some(net) if wanted.contains(&net) => _ = have.insert(net),
                _ => remove(&handle, route).await?,
            }
        }
        let loopback = loopback()?;
        let mut notes = Vec::new();
        for net in wanted.difference(&have) {
            match handle.route().add(message(*net, loopback)).execute().await {
                Ok(()) => {}
                // A host without IPv6 refuses its routes and sends nothing there either.
                Err(error) if net.addr().is_ipv6() && !is_permission(&error) => {
                    notes.push(format!("no route to {net}: this host has no IPv6 ({error})"));
                }
                Err(error) => return Err(RouteError::Netlink(error)),
            }
        }
        Ok(notes)
    })
    .await
}

/// The same in words of `ip route`.
pub(super) fn describe(wanted: &BTreeSet<IpNet>) -> Vec<String> {
    wanted.iter().map(|net| format!("{net} dev lo proto {PROTOCOL} metric {METRIC}")).collect()
}

/// The index of lo.
pub(super) fn loopback() -> Result<u32, RouteError> {
    nix::net::if_::if_nametoindex("lo").map_err(|_| RouteError::NoLoopback)
}

pub(super) async fn connected<T>(work: impl AsyncFnOnce(Handle) -> Result<T, RouteError>) -> Result<T, RouteError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(RouteError::Socket)?;
    let task = tokio::spawn(connection);
    let result = work(handle).await;
    task.abort();
    result
}

/// A route that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) net: IpNet,
    /// What goes there is thrown away.
    pub(crate) discards: bool,
    /// It is in the table that everything is looked up in.
    pub(crate) main: bool,
    /// The interface it leads to.
    pub(crate) device: Option<String>,
}

/// Routes of others for which `matters`, of every table, addresses of the host itself left out; at most `most`.
pub(crate) async fn others(matters: impl Fn(&IpNet) -> bool, most: usize) -> Result<Vec<Foreign>, RouteError> {
    let take = |route| foreign(&route).filter(|foreign| matters(&foreign.net));
    connected(async |handle| all(&handle, take, most).await).await
}

fn foreign(route: &RouteMessage) -> Option<Foreign> {
    let discards = match route.header.kind {
        RouteType::Unicast => false,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => true,
        _ => return None,
    };
    if route.header.protocol == RouteProtocol::Other(PROTOCOL) {
        return None;
    }
    let device = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => nix::net::if_::if_indextoname(*index).ok(),
        _ => None,
    });
    let device = device.and_then(|name| name.into_string().ok());
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let main = table.unwrap_or_else(|| route.header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN);
    Some(Foreign { net: destination(route)?, discards, main, device })
}

async fn ours(handle: &Handle) -> Result<Vec<RouteMessage>, RouteError> {
    all(handle, |route| (route.header.protocol == RouteProtocol::Other(PROTOCOL)).then_some(route), usize::MAX).await
}

/// What is taken of the routes of every table, at most so many.
async fn all<T>(handle: &Handle, take: impl Fn(RouteMessage) -> Option<T>, most: usize) -> Result<Vec<T>, RouteError> {
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    let mut found = Vec::new();
    for query in [v4, v6] {
        let mut routes = std::pin::pin!(handle.route().get(query).execute());
        while let Some(route) = routes.try_next().await.map_err(RouteError::Netlink)? {
            if found.len() < most {
                found.extend(take(route));
            }
        }
    }
    Ok(found)
}

async fn remove(handle: &Handle, route: RouteMessage) -> Result<(), RouteError> {
    match handle.route().del(route).execute().await {
        Ok(()) => Ok(()),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ESRCH => Ok(()),
        Err(error) => Err(RouteError::Netlink(error)),
    }
}

fn message(net: IpNet, loopback: u32) -> RouteMessage {
    let protocol = RouteProtocol::Other(PROTOCOL);
    match net {
        IpNet::V4(net) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(net.addr(), net.prefix_len())
            .output_interface(loopback)
            .protocol(protocol)
            .priority(METRIC)
            .scope(RouteScope::Host)
            .build(),
        IpNet::V6(net) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(net.addr(), net.prefix_len())
            .output_interface(loopback)
            .protocol(protocol)
            .priority(METRIC)
            .build(),
    }
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(a)) => IpNet::new(IpAddr::V4(*a), length).ok(),
        RouteAttribute::Destination(RouteAddress::Inet6(a)) => IpNet::new(IpAddr::V6(*a), length).ok(),
        _ => None,
    })
}

fn is_permission(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(e) if e.raw_code() == -nix::libc::EPERM)
}
