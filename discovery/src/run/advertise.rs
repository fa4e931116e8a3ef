//! Under which address hosts reach discovery, for join tokens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::bail;

use crate::args::Serve;

/// Addresses of documentation networks: nothing is sent there, the route tells our own address.
const ELSEWHERE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];
/// Addresses in one token.
const MOST: usize = 8;

/// `host:port`, in the order in which hosts try them: what the operator names, else the address that is listened on,
/// else the one of the default route, else the host's name.
pub(super) fn addresses(args: &Serve) -> anyhow::Result<Vec<String>> {
    let port = args.listen_tls.port();
    if args.advertise.is_empty() {
        let ip = args.listen_tls.ip();
        if !ip.is_unspecified() {
            return Ok(vec![args.listen_tls.to_string()]);
        }
        let routed: Vec<String> = ELSEWHERE.iter().filter_map(|to| source(to)).map(|ip| joined(ip, port)).collect();
        if !routed.is_empty() {
            return Ok(routed);
        }
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        return Ok(name
            .filter(|n| !n.is_empty() && n != "localhost")
            .map(|n| format!("{n}:{port}"))
            .into_iter()
            .collect());
    }
    if args.advertise.len() > MOST {
        bail!("--advertise: {MOST} addresses at most fit into a token");
    }
    args.advertise.iter().map(|text| complete(text, port)).collect()
}

/// `host` gets the port that is listened on.
fn complete(text: &str, port: u16) -> anyhow::Result<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(joined(ip, port));
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|p| *p != 0)),
        None => (text, Some(port)),
    };
    match (host.parse::<hawser_api::hostname::Hostname>(), port) {
        (Ok(host), Some(port)) if !host.is_wildcard() => Ok(format!("{host}:{port}")),
        _ => bail!("--advertise {text}: it is neither host:port nor an address"),
    }
}

fn joined(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

/// Our own address on the way to another.
fn source(to: &str) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().ok()?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    let useless = ip.is_unspecified() || ip.is_loopback() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!useless).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_gets_the_one_that_is_listened_on() {
        assert_eq!(complete("mesh.example.com", 15012).unwrap(), "mesh.example.com:15012");
        assert_eq!(complete("mesh.example.com:443", 15012).unwrap(), "mesh.example.com:443");
        assert_eq!(complete("10.0.0.1", 15012).unwrap(), "10.0.0.1:15012");
        assert_eq!(complete("fd00::1", 15012).unwrap(), "[fd00::1]:15012");
        assert!(complete("mesh:0", 15012).is_err());
        assert!(complete("a b", 15012).is_err());
    }
}
