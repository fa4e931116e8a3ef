//! Connections that the data plane makes.
//!
//! In: an address. Out: a connected stream with every option set before the first packet. Invariant: a peer that
//! loses power is noticed within the user time-out, whether we wait for it or send to it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

/// How sockets of connections are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Mark of the packets; needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// The local address; its port is chosen when the connection is made, so that one port serves many peers.
    pub bind: Option<IpAddr>,
    /// Whether `bind` may be an address that is not the host's; needs CAP_NET_RAW.
    pub transparent: bool,
    /// How long sent data may stay unacknowledged.
    pub user_timeout: Duration,
    /// How a silent peer is asked whether it still lives.
    pub keepalive: Option<Keepalive>,
}

/// The three numbers of TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer that end the connection.
    pub retries: u32,
}

impl Default for Outgoing {
    fn default() -> Self {
        let keepalive = Keepalive { idle: Duration::from_secs(15), interval: Duration::from_secs(5), retries: 3 };
        Self {
            mark: None,
            bind: None,
            transparent: false,
            user_timeout: Duration::from_secs(3),
            keepalive: Some(keepalive),
        }
    }
}

impl Outgoing {
    /// Connects. The caller sets the deadline.
    pub async fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        self.set_up(&SockRef::from(&socket))?;
        if let Some(local) = self.bind {
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            match local {
                IpAddr::V4(_) if self.transparent => socket.set_ip_transparent_v4(true)?,
                IpAddr::V6(_) if self.transparent => socket.set_ip_transparent_v6(true)?,
                _ => {}
            }
            socket.bind(&SocketAddr::new(local, 0).into())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(remote).await
    }

    /// Sets the same on a connection that was accepted: no delay, user time-out, keepalive.
    pub fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        self.set_up(&SockRef::from(stream))
    }

    fn set_up(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        if let Some(keepalive) = self.keepalive {
            let numbers = TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.retries);
            socket.set_tcp_keepalive(&numbers)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_connection_has_its_options_and_its_local_address() {
        for (listen, bind) in [("127.0.0.1:0", "127.0.0.9"), ("[::1]:0", "::1")] {
            let listener = TcpListener::bind(listen).await.unwrap();
            let outgoing = Outgoing { bind: Some(bind.parse().unwrap()), ..Outgoing::default() };
            let stream = outgoing.connect(listener.local_addr().unwrap()).await.unwrap();
            assert_eq!(stream.local_addr().unwrap().ip(), outgoing.bind.unwrap());
            let (accepted, _) = listener.accept().await.unwrap();
            outgoing.apply(&accepted).unwrap();
            for stream in [&stream, &accepted] {
                let socket = SockRef::from(stream);
                assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
                assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(3)));
            }
        }
    }
}
