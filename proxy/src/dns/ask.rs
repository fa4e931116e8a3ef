//! One name, asked of the host's servers.
//!
//! In: a name, the servers. Out: for each family its addresses, or that nobody could tell. Every query has a socket and an id of
//! its own, and all of it together has an end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::message::{Family, Said, answer, query};
use super::settings::Servers;

/// Time for a name, over all servers and attempts.
const LIMIT: Duration = Duration::from_secs(6);
const LARGEST_UDP: usize = 4096;
const PORT: u16 = 53;

/// What came of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Addresses, sorted, and for how many seconds they are good; 0 if that was not said.
    Addresses(Vec<IpAddr>, u32),
    /// Nobody could tell.
    Nothing,
}

/// Both families of a name.
pub(super) type Answers = [Found; 2];

/// Asks for both families at once.
pub(super) async fn ask(name: &str, servers: &Servers, port: Option<u16>) -> Answers {
    let end = Instant::now() + LIMIT;
    let port = port.unwrap_or(PORT);
    for meaning in servers.meanings(name) {
        let [v4, v6] = Family::BOTH.map(|family| one(meaning.clone(), family, servers, port, end));
        let found = <[Found; 2]>::from(tokio::join!(v4, v6));
        let is_there = |found: &Found| matches!(found, Found::Addresses(all, _) if !all.is_empty());
        let failed = found.contains(&Found::Nothing);
        // What could not be found out is not looked for under another name: it would be somebody else's.
        if found.iter().any(is_there) || failed {
            return found;
        }
    }
    [Found::Addresses(Vec::new(), 0), Found::Addresses(Vec::new(), 0)]
}

async fn one(name: String, family: Family, servers: &Servers, port: u16, end: Instant) -> Found {
    let Some(asked) = query(&name, family, rand::random()) else { return Found::Nothing };
    for _ in 0..servers.attempts {
        for server in &servers.servers {
            let server = SocketAddr::new(*server, port);
            let until = end.min(Instant::now() + servers.timeout);
            match timeout_at(until, of_server(&asked, server)).await {
                Ok(Ok(Said::Addresses(all, ttl))) => return Found::Addresses(all, ttl),
                Ok(Ok(_)) => tracing::debug!(%server, name, "a name server can't tell"),
                Ok(Err(error)) => tracing::debug!(%server, name, %error, "a name server could not be asked"),
                Err(_) => tracing::debug!(%server, name, "a name server did not answer"),
            }
            if Instant::now() >= end {
                return Found::Nothing;
            }
        }
    }
    Found::Nothing
}

async fn of_server(asked: &[u8], server: SocketAddr) -> io::Result<Said> {
    match by_datagram(asked, server).await? {
        Said::Longer => by_stream(asked, server).await,
        said => Ok(said),
    }
}

async fn by_datagram(asked: &[u8], server: SocketAddr) -> io::Result<Said> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel drops what comes from anybody else.
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut buffer = vec![0; LARGEST_UDP];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(said) = answer(asked, &buffer[..length]) {
            return Ok(said);
        }
    }
}

async fn by_stream(asked: &[u8], server: SocketAddr) -> io::Result<Said> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], asked].concat()).await?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    answer(asked, &bytes)
        .filter(|said| *said != Said::Longer)
        .ok_or_else(|| io::Error::other("it answered something else"))
}
