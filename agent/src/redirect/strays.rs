//! Connections that reached the application itself on a declared port, past the proxy: those made while somebody had taken
//! our table away. They are ended when it is back; those that are older than capture go on.
//!
//! In: the kernel's sockets. The proxy's are told by being transparent; a kernel that does not say so (before 5.10) tells
//! of no strays.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP};
use nix::sys::socket::{MsgFlags, SockProtocol, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::intent::Inbound;
use super::netlink::{self, DUMP, error_code, find, messages};

/// A connection, as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stray {
    family: u8,
    id: Vec<u8>,
}

/// The most that are remembered as older than capture; whoever has more keeps all of them.
const MOST: usize = 65_536;

/// Connections from others to the application itself on declared ports.
pub(super) fn find_all(declared: &BTreeSet<Inbound>, own: &[IpAddr]) -> io::Result<BTreeSet<Stray>> {
    let mut found = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        dump(family as u8, |message| {
            if let Some(stray) = stray(message, declared, own).filter(|_| found.len() <= MOST) {
                found.insert(stray);
            }
        })?;
    }
    Ok(found)
}

/// Ends those that were not there before; how many.
pub(super) fn end(older: &BTreeSet<Stray>, now: &BTreeSet<Stray>) -> io::Result<usize> {
    if older.len() > MOST {
        return Ok(0);
    }
    let mut ended = 0;
    let fd = open()?;
    for stray in now.difference(older) {
        netlink::send(&fd, DESTROY, netlink::ACK, &request(stray.family, ALL, &stray.id))?;
        let mut buffer = vec![0; 8192];
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let answer = messages(&buffer[..length]).find(|(kind, _)| *kind == netlink::ERROR);
        match answer.and_then(|(_, body)| error_code(body)) {
            None | Some(0) => ended += 1,
            // It ended by itself.
            Some(nix::libc::ENOENT) => {}
            Some(code) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
    Ok(ended)
}

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// `struct inet_diag_sockopt`, whose first byte says in this bit whether a socket is transparent.
const OPTIONS: u16 = 22;
const TRANSPARENT: u8 = 1 << 5;
const ALL: u32 = u32::MAX;
/// ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT: one end at least may still speak.
const OPEN: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8;
const ID: usize = 48;

fn open() -> io::Result<std::os::fd::OwnedFd> {
    let fd = netlink::open(SockProtocol::NetlinkSockDiag)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(fd)
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, id: &[u8]) -> Vec<u8> {
    let head = [family, IPPROTO_TCP as u8, 0, 0];
    [&head[..], &states.to_ne_bytes(), id].concat()
}

fn dump(family: u8, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let fd = open()?;
    netlink::send(&fd, BY_FAMILY, DUMP, &request(family, OPEN, &[0; ID]))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                netlink::DONE => return Ok(()),
                netlink::ERROR => {
                    return Err(io::Error::from_raw_os_error(error_code(body).unwrap_or(nix::libc::EPROTO)));
                }
                _ => each(body),
            }
        }
    }
}

/// A message's connection (`struct inet_diag_msg`), if it is one that went past the proxy.
fn stray(message: &[u8], declared: &BTreeSet<Inbound>, own: &[IpAddr]) -> Option<Stray> {
    let family = *message.first()?;
    let id = message.get(4..4 + ID)?;
    let port = u16::from_be_bytes(id.get(0..2)?.try_into().ok()?);
    let (here, peer) = (address(family, id.get(4..20)?)?, address(family, id.get(20..36)?)?);
    let options = *find(message.get(72..)?, OPTIONS)?.first()?;
    let is_declared = declared.iter().any(|d| d.port == port && d.address.is_none_or(|address| address == here));
    let is_outside = !peer.is_loopback() && !own.contains(&peer);
    (is_declared && is_outside && options & TRANSPARENT == 0).then(|| Stray { family, id: id.to_vec() })
}

/// An address; one of IPv4 that a socket of IPv6 has, as itself.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    if i32::from(family) == AF_INET {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(0..4)?).ok()?).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::netlink::attribute;

    fn message(port: u16, peer: [u8; 4], options: Option<u8>) -> Vec<u8> {
        let mut message = vec![0; 72];
        message[0] = AF_INET as u8;
        message[4..6].copy_from_slice(&port.to_be_bytes());
        message[8..12].copy_from_slice(&[10, 0, 0, 1]);
        message[24..28].copy_from_slice(&peer);
        message.extend(options.map(|options| attribute(OPTIONS, &[options, 0])).unwrap_or_default());
        message
    }

    #[test]
    fn a_stray_is_from_outside_to_a_declared_port_and_not_the_proxys() {
        let declared = [Inbound { address: None, port: 9080, workload: "w".into() }].into();
        let own = ["10.0.0.1".parse().unwrap()];
        let is = |message: Vec<u8>| stray(&message, &declared, &own).is_some();
        assert!(is(message(9080, [10, 0, 0, 2], Some(0))));
        assert!(!is(message(22, [10, 0, 0, 2], Some(0))), "another port");
        assert!(!is(message(9080, [10, 0, 0, 2], Some(TRANSPARENT))), "the proxy's");
        assert!(!is(message(9080, [10, 0, 0, 2], None)), "nobody knows whose");
        assert!(!is(message(9080, [10, 0, 0, 1], Some(0))), "the host's own");
        assert!(!is(message(9080, [127, 0, 0, 1], Some(0))), "the proxy's call");
        assert!(!is(message(9080, [10, 0, 0, 2], Some(0))[..60].to_vec()));
    }
}
