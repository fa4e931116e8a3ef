//! Listeners for captured connections, and where a captured connection was going.
//!
//! In: addresses. Out: listeners that do not block, for a runtime to adopt. Invariant: a listener serves one
//! address family, and an address that is returned is never an IPv4-mapped one.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// Where a connection was going before the host's NAT redirected it to us. The stream's own local address if
/// nothing was redirected: then it came by TPROXY, or somebody connected to the listener directly.
pub fn original_dst(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = canonical(stream.local_addr()?);
    let socket = SockRef::from(stream);
    let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    match found {
        Ok(address) => address.as_socket().map(canonical).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into()),
        // The kernel tracks no such connection, or has no NAT at all.
        Err(error) if matches!(error.raw_os_error(), Some(NOT_TRACKED | NO_NAT)) => Ok(local),
        Err(error) => Err(error),
    }
}

const NOT_TRACKED: i32 = nix::errno::Errno::ENOENT as i32;
const NO_NAT: i32 = nix::errno::Errno::ENOPROTOOPT as i32;

/// A listener that takes connections to any address, as TPROXY delivers them. Needs CAP_NET_ADMIN or CAP_NET_RAW.
/// Several may share an address, one for each thread.
pub fn transparent_listener(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    listen(socket, address, backlog)
}

/// A listener of which every thread has its own; the kernel spreads connections over them.
pub fn reuse_port_listener(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    listen(socket(address)?, address, backlog)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(socket: Socket, address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::process::Command;

    use super::*;

    const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    #[tokio::test]
    async fn two_listeners_share_a_port_and_an_untouched_connection_went_where_it_arrived() {
        for ip in LOOPBACK {
            let first = reuse_port_listener(SocketAddr::new(ip, 0), 16).unwrap();
            let address = first.local_addr().unwrap();
            let second = reuse_port_listener(address, 16).unwrap();
            let (first, second) =
                (tokio::net::TcpListener::from_std(first).unwrap(), tokio::net::TcpListener::from_std(second).unwrap());
            let _client = TcpStream::connect(address).await.unwrap();
            let (stream, _) =
                tokio::select! { accepted = first.accept() => accepted, accepted = second.accept() => accepted }
                    .unwrap();
            assert_eq!(original_dst(&stream).unwrap(), address);
        }
    }

    /// In a network namespace of its own; without root, in a user namespace.
    #[test]
    fn a_redirected_connection_tells_where_it_was_going_and_a_transparent_listener_takes_foreign_addresses() {
        if !nix::unistd::geteuid().is_root() {
            let me = std::thread::current().name().unwrap().to_owned();
            let program = std::env::current_exe().unwrap();
            let again = Command::new("unshare").arg("-Ur").arg(program).args([&me, "--exact"]).status();
            assert!(again.unwrap().success(), "this test makes a network namespace: run it as root");
            return;
        }
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            run("ip link set lo up");
            run("ip route add local 192.0.2.0/24 dev lo");
            run("ip route add local 2001:db8::/64 dev lo");
            run("nft add table inet t");
            run("nft add chain inet t out { type nat hook output priority -100 ; }");
            run("nft add rule inet t out tcp dport 9080 redirect to :15001");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for (listen, target) in [("0.0.0.0:15001", "192.0.2.7:9080"), ("[::]:15001", "[2001:db8::7]:9080")] {
                    let target: SocketAddr = target.parse().unwrap();
                    let listener = reuse_port_listener(listen.parse().unwrap(), 16).unwrap();
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    let (_client, accepted) = tokio::join!(TcpStream::connect(target), listener.accept());
                    assert_eq!(original_dst(&accepted.unwrap().0).unwrap(), target);
                }
            });
            transparent_listener("198.51.100.1:80".parse().unwrap(), 16).unwrap();
            transparent_listener("[2001:db8:1::1]:80".parse().unwrap(), 16).unwrap();
            assert!(reuse_port_listener("198.51.100.1:80".parse().unwrap(), 16).is_err());
        })
        .join()
        .unwrap();
    }

    fn run(command: &str) {
        let status = Command::new("sh").arg("-c").arg(command.replace('{', "'{").replace('}', "}'")).status().unwrap();
        assert!(status.success(), "{command}");
    }
}
