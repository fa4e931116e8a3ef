//! The kernel's connection table, as far as redirection needs it: who is still on a captured connection, and flows to
//! forget: of name look-ups, and of what began while our table was away.
//!
//! Asks by netlink, as `/proc/net/nf_conntrack` is not in every kernel; reads message by message and keeps only what
//! matches, as the table may be large.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, SockProtocol, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::netlink::{self, DUMP, NESTED, attribute, error_code, find, messages};

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// TCP or UDP.
    pub(super) protocol: u8,
    /// Where it was going.
    pub(super) to: (IpAddr, u16),
    /// What was translated of it.
    translated: Translated,
    /// Nobody answered, as far as TCP knows.
    pub(super) begun: bool,
    /// The port where it really went.
    pub(super) led_to: u16,
    /// Open, as far as TCP knows.
    pub(super) open: bool,
    family: u8,
    original: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Translated {
    Nothing,
    Source,
    Destination,
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Connections that were led elsewhere and that `matches` takes.
pub(super) fn translated(matches: impl Fn(&Flow) -> bool) -> io::Result<Vec<Flow>> {
    all(|flow| flow.translated == Translated::Destination && matches(flow))
}

/// Connections that nobody translated and that `matches` takes.
pub(super) fn untranslated(matches: impl Fn(&Flow) -> bool) -> io::Result<Vec<Flow>> {
    all(|flow| flow.translated == Translated::Nothing && matches(flow))
}

fn all(matches: impl Fn(&Flow) -> bool) -> io::Result<Vec<Flow>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        dump(family, |flow| {
            if matches(&flow) {
                found.push(flow);
            }
        })?;
    }
    Ok(found)
}

/// Forgets a connection; one that is gone already is no error.
pub(super) fn forget(flow: &Flow) -> io::Result<()> {
    let fd = open()?;
    let tuple = attribute(TUPLE_ORIGINAL | NESTED, &flow.original);
    send(&fd, DELETE, netlink::ACK, flow.family, &tuple)?;
    let mut buffer = vec![0; 8192];
    let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    match messages(&buffer[..length]).find(|(kind, _)| *kind == netlink::ERROR).and_then(|(_, body)| error_code(body)) {
        None | Some(0) | Some(nix::libc::ENOENT) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Entries of the table and its limit, where the kernel tracks at all.
pub(crate) fn usage() -> Option<(u64, u64)> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?.trim().parse().ok()
    };
    Some((number("count")?, number("max")?))
}

const AF_INET: u8 = nix::libc::AF_INET as u8;
const AF_INET6: u8 = nix::libc::AF_INET6 as u8;
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_INFO: u16 = 4;
const STATUS_SOURCE_CHANGED: u32 = 1 << 4;
const STATUS_DESTINATION_CHANGED: u32 = 1 << 5;

fn open() -> io::Result<std::os::fd::OwnedFd> {
    let fd = netlink::open(SockProtocol::NetlinkNetFilter)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(fd)
}

fn send(fd: &impl AsRawFd, kind: u16, flags: u16, family: u8, attributes: &[u8]) -> io::Result<()> {
    netlink::send(fd, kind, flags, &[&[family, 0, 0, 0], attributes].concat())
}

fn dump(family: u8, mut each: impl FnMut(Flow)) -> io::Result<()> {
    let fd = open()?;
    send(&fd, GET, DUMP, family, &[])?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                netlink::DONE => return Ok(()),
                netlink::ERROR => {
                    let code = error_code(body).unwrap_or(nix::libc::EPROTO);
                    return Err(io::Error::from_raw_os_error(code));
                }
                _ => {
                    if let Some(flow) = body.get(4..).and_then(|attributes| flow(family, attributes)) {
                        each(flow);
                    }
                }
            }
        }
    }
}

/// The connection of a message.
fn flow(family: u8, message: &[u8]) -> Option<Flow> {
    let status = u32::from_be_bytes(find(message, STATUS)?.try_into().ok()?);
    let original = find(message, TUPLE_ORIGINAL)?;
    let reply = find(find(message, TUPLE_REPLY)?, 2)?;
    let state = find(message, PROTOCOL_INFO)
        .and_then(|info| find(info, 1))
        .and_then(|tcp| find(tcp, 1))
        .and_then(|s| s.first());
    let port = |tuple: &[u8], which: u16| Some(u16::from_be_bytes(find(tuple, which)?.try_into().ok()?));
    Some(Flow {
        protocol: *find(reply, 1)?.first()?,
        to: (destination(family, find(original, 1)?)?, port(find(original, 2)?, 3)?),
        translated: match status {
            s if s & STATUS_DESTINATION_CHANGED != 0 => Translated::Destination,
            s if s & STATUS_SOURCE_CHANGED != 0 => Translated::Source,
            _ => Translated::Nothing,
        },
        begun: state == Some(&1),
        led_to: port(reply, 2)?,
        // From SYN_SENT to LAST_ACK; TIME_WAIT and CLOSE are over.
        open: state.is_some_and(|state| (1..=6).contains(state)),
        family,
        original: original.to_vec(),
    })
}

fn destination(family: u8, addresses: &[u8]) -> Option<IpAddr> {
    if family == AF_INET {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(addresses, 2)?).ok()?).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(find(addresses, 4)?).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_where_a_connection_was_led() {
        let proto = |port: u16| {
            let fields = [attribute(1, &[TCP]), attribute(2, &port.to_be_bytes()), attribute(3, &[0, 80])].concat();
            let addresses = attribute(1 | NESTED, &attribute(2, &[240, 240, 0, 1]));
            [addresses, attribute(2 | NESTED, &fields)].concat()
        };
        let message = |status: u32, state: u8| {
            [
                attribute(TUPLE_ORIGINAL | NESTED, &proto(9080)),
                attribute(TUPLE_REPLY | NESTED, &proto(15001)),
                attribute(STATUS, &status.to_be_bytes()),
                attribute(PROTOCOL_INFO | NESTED, &attribute(1 | NESTED, &attribute(1, &[state]))),
            ]
            .concat()
        };
        let read = flow(AF_INET, &message(STATUS_DESTINATION_CHANGED, 3)).unwrap();
        assert_eq!((read.protocol, read.led_to, read.open), (TCP, 15001, true));
        assert!(!flow(AF_INET, &message(STATUS_DESTINATION_CHANGED, 7)).unwrap().open);
        assert_eq!((read.to, read.translated), (("240.240.0.1".parse().unwrap(), 80), Translated::Destination));
        let begun = flow(AF_INET, &message(0, 1)).unwrap();
        assert!(begun.begun && begun.translated == Translated::Nothing);
        assert_eq!(flow(AF_INET, &message(STATUS_DESTINATION_CHANGED, 3)[..20]), None);
    }
}
