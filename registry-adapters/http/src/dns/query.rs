//! Questions to DNS servers: UDP, and TCP where the answer does not fit.
//!
//! Each question has a socket and a number of its own; an answer counts only if both and the name are right.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// What goes unfragmented everywhere (DNS flag day 2020).
const UDP_LIMIT: u16 = 1232;
/// Rounds over all servers.
const ROUNDS: usize = 2;
/// Longest life of a record that counts.
const LONGEST: u32 = 86_400;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Lower case, no final dot.
    pub(super) target: String,
}

/// Records of a name.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) records: Vec<Srv>,
    /// The shortest.
    pub(super) life: Duration,
    /// That the server sent along.
    pub(super) addresses: Vec<(String, IpAddr)>,
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    named: Vec<SocketAddr>,
    servers: Vec<SocketAddr>,
    timeout: Duration,
}

impl Resolver {
    /// Asks `servers`, or the system's if there is none.
    pub(super) fn new(servers: Vec<SocketAddr>, timeout: Duration) -> Self {
        Self { named: servers, servers: Vec::new(), timeout }
    }

    /// With the servers as they are now.
    pub(super) async fn fresh(&self) -> Result<Self, String> {
        let servers = match self.named.is_empty() {
            false => self.named.clone(),
            true => {
                let text = tokio::fs::read_to_string("/etc/resolv.conf").await;
                super::system_servers(&text.map_err(|e| format!("/etc/resolv.conf: {e}; name servers"))?)
            }
        };
        if servers.is_empty() {
            return Err("/etc/resolv.conf names no server; name one under servers".to_owned());
        }
        Ok(Self { servers, ..self.clone() })
    }

    /// SRV records of a name; `None` if there are none. A single record that points nowhere says that there is none.
    pub(super) async fn srv(&self, name: &Name) -> Result<Option<Found>, String> {
        let answer = self.ask(name, RecordType::SRV).await?;
        let mut found = Found { records: Vec::new(), life: Duration::from_secs(LONGEST.into()), addresses: Vec::new() };
        for record in &answer.answers {
            if let RData::SRV(srv) = &record.data {
                found.life = found.life.min(Duration::from_secs(record.ttl.min(LONGEST).into()));
                if !srv.target.is_root() && srv.port > 0 {
                    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                    found.records.push(Srv { priority, weight, port, target: text(&srv.target) });
                }
            }
        }
        for record in &answer.additionals {
            if let Some(address) = address(&record.data) {
                found.addresses.push((text(&record.name), address));
            }
        }
        Ok(Some(found).filter(|found| !found.records.is_empty()))
    }

    /// Addresses of a host, those of IPv4 if it has any, and their shortest life.
    pub(super) async fn addresses(&self, host: &str) -> Result<Option<(BTreeSet<IpAddr>, Duration)>, String> {
        let mut name = Name::from_ascii(host).map_err(|e| e.to_string())?;
        name.set_fqdn(true);
        for ty in [RecordType::A, RecordType::AAAA] {
            let answer = self.ask(&name, ty).await?;
            let life = answer.answers.iter().map(|record| record.ttl.min(LONGEST)).min().unwrap_or_default();
            let found: BTreeSet<IpAddr> = answer.answers.iter().filter_map(|record| address(&record.data)).collect();
            if !found.is_empty() {
                return Ok(Some((found, Duration::from_secs(life.into()))));
            }
        }
        Ok(None)
    }

    /// An answer, be it that there is nothing.
    async fn ask(&self, name: &Name, ty: RecordType) -> Result<Message, String> {
        let mut last = String::new();
        for _ in 0..ROUNDS {
            for server in &self.servers {
                let asked = tokio::time::timeout(self.timeout, exchange(*server, name, ty)).await;
                match asked {
                    Err(_) => last = format!("{server} does not answer within {:?}", self.timeout),
                    Ok(Err(error)) => last = format!("{server}: {error}"),
                    Ok(Ok(answer)) => match answer.metadata.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => return Ok(answer),
                        code => last = format!("{server} answers {code}"),
                    },
                }
            }
        }
        Err(last)
    }
}

async fn exchange(server: SocketAddr, name: &Name, ty: RecordType) -> std::io::Result<Message> {
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), ty));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_LIMIT);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(std::io::Error::other)?;

    let unspecified: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((unspecified, 0)).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(UDP_LIMIT)];
    let answer = loop {
        let length = socket.recv(&mut buffer).await?;
        // What is not an answer to this question is somebody's attempt.
        if let Some(answer) = buffer.get(..length).and_then(|bytes| matching(bytes, &question)) {
            break answer;
        }
    };
    if answer.metadata.truncation { by_tcp(server, &bytes, &question).await } else { Ok(answer) }
}

async fn by_tcp(server: SocketAddr, bytes: &[u8], question: &Message) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    matching(&buffer, question).ok_or_else(|| std::io::Error::other("its answer is to another question"))
}

fn matching(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries;
    same.then_some(answer)
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
