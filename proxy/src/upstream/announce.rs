//! The header that a connection begins with: whose it is, in the words of the PROXY protocol, versions 1 and 2.
//!
//! In: where the caller is and where it was going. Out: bytes. Who calls from within this process is not said.

use std::net::{IpAddr, SocketAddr};

use crate::config::ProxyHeader;

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The connection of the proxy itself, or of somebody for whom it speaks.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The header of a connection; `caller` is whom it is for, and where that one was going, `own` are the connection's own ends.
pub(super) fn header(
    version: ProxyHeader,
    caller: Option<(&SocketAddr, &SocketAddr)>,
    own: (SocketAddr, SocketAddr),
) -> Vec<u8> {
    let said = caller.map(|(from, to)| (plain(*from), plain(*to)));
    match version {
        ProxyHeader::V1 => text(said.unwrap_or((plain(own.0), plain(own.1)))),
        ProxyHeader::V2 => binary(said),
    }
}

fn text((from, to): (SocketAddr, SocketAddr)) -> Vec<u8> {
    let family = match (from, to) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
        (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
        _ => return b"PROXY UNKNOWN\r\n".to_vec(),
    };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
}

fn binary(said: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let (family, ends): (u8, Vec<u8>) = match said.map(|(from, to)| (from.ip(), to.ip())) {
        Some((IpAddr::V4(from), IpAddr::V4(to))) => (0x11, [from.octets(), to.octets()].concat()),
        Some((IpAddr::V6(from), IpAddr::V6(to))) => (0x21, [from.octets(), to.octets()].concat()),
        _ => {
            bytes.extend([LOCAL, 0, 0, 0]);
            return bytes;
        }
    };
    let ports = said.map(|(from, to)| [from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
    let ports = ports.unwrap_or_default();
    bytes.extend([PROXY, family, 0, u8::try_from(ends.len() + ports.len()).unwrap_or(u8::MAX)]);
    bytes.extend(ends);
    bytes.extend(ports);
    bytes
}

/// An address of IPv4 is one, whatever socket it came by.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: ProxyHeader, from: &str, to: &str) -> Vec<u8> {
        let own = ("192.0.2.1:1000".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
        let ends: Option<(SocketAddr, SocketAddr)> =
            (!from.is_empty()).then(|| (from.parse().unwrap(), to.parse().unwrap()));
        header(version, ends.as_ref().map(|(from, to)| (from, to)), own)
    }

    #[test]
    fn a_line_says_both_ends() {
        let text = |from, to| String::from_utf8(of(ProxyHeader::V1, from, to)).unwrap();
        assert_eq!(text("10.0.0.1:5000", "10.96.0.1:80"), "PROXY TCP4 10.0.0.1 10.96.0.1 5000 80\r\n");
        assert_eq!(text("[::ffff:10.0.0.1]:5000", "10.96.0.1:80"), "PROXY TCP4 10.0.0.1 10.96.0.1 5000 80\r\n");
        assert_eq!(text("[2001:db8::1]:5000", "[2001:db8::2]:80"), "PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n");
        assert_eq!(text("10.0.0.1:5000", "[2001:db8::2]:80"), "PROXY UNKNOWN\r\n");
        assert_eq!(text("", ""), "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n");
    }

    #[test]
    fn the_same_in_binary() {
        let v4 = of(ProxyHeader::V2, "10.0.0.1:5000", "10.96.0.1:80");
        assert_eq!(v4[..12], SIGNATURE);
        assert_eq!(v4[12..], [0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 96, 0, 1, 0x13, 0x88, 0, 80]);
        let v6 = of(ProxyHeader::V2, "[2001:db8::1]:5000", "[2001:db8::2]:80");
        assert_eq!((v6[12..16].to_vec(), v6.len()), (vec![0x21, 0x21, 0, 36], 52));
        assert_eq!(of(ProxyHeader::V2, "", "")[12..], [0x20, 0, 0, 0]);
        assert_eq!(of(ProxyHeader::V2, "10.0.0.1:5000", "[2001:db8::2]:80")[12..], [0x20, 0, 0, 0]);
    }
}
