//! Netlink messages, as far as redirection writes and reads them itself.
//!
//! In: bytes of the kernel. Out: messages and attributes, never more than the bytes hold.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, sendto, socket};

/// Flags of a request that wants to hear how it went.
pub(super) const ACK: u16 = 0x4;
/// Flags of a request for all there is.
pub(super) const DUMP: u16 = 0x300;
/// Flag of an attribute that holds attributes.
pub(super) const NESTED: u16 = 0x8000;
/// Message that says how a request went.
pub(super) const ERROR: u16 = 2;
/// Message that ends a dump.
pub(super) const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const HEADER: usize = 16;

/// A socket.
pub(super) fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(fd)
}

/// Sends a request.
pub(super) fn send(fd: &impl AsRawFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = HEADER + body.len();
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
    message.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(body);
    sendto(fd.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

/// Kind and body of each message.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The body of an attribute.
pub(super) fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let body = attributes.get(4..length)?;
        if kind == wanted {
            return Some(body);
        }
        attributes = attributes.get(aligned(length)..)?;
    }
}

/// An attribute.
pub(super) fn attribute(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = 4 + body.len();
    let mut out = Vec::with_capacity(aligned(length));
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(body);
    out.resize(aligned(length), 0);
    out
}

/// What an error message says; 0 is none.
pub(super) fn error_code(body: &[u8]) -> Option<i32> {
    Some(-i32::from_ne_bytes(body.get(0..4)?.try_into().ok()?))
}

fn aligned(length: usize) -> usize {
    length.div_ceil(4) * 4
}
