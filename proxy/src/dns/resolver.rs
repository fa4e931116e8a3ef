//! The look-ups themselves: a bounded number at a time, beside everything else that the control thread does.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::ask::{Answers, Found, ask};
use super::schedule::{Schedule, Wish};
use super::settings::Settings;
use crate::telemetry::{Counters, LookedUp};

/// How many names are looked up at a time.
const AT_ONCE: usize = 32;

/// Looks names up, and again when their answers have grown old.
#[derive(Debug)]
pub struct Resolver {
    schedule: Schedule,
    settings: Settings,
    under_way: JoinSet<(Arc<str>, Answers)>,
    port: Option<u16>,
    counters: Arc<Counters>,
}

impl Resolver {
    /// With the settings of the host; what comes of it is counted.
    pub fn of_host(counters: Arc<Counters>) -> Self {
        Self::new(Path::new("/etc/resolv.conf"), Path::new("/etc/hosts"), None, counters)
    }

    fn new(resolv_conf: &Path, hosts: &Path, port: Option<u16>, counters: Arc<Counters>) -> Self {
        let settings = Settings::new(resolv_conf, hosts);
        Self { schedule: Schedule::default(), settings, under_way: JoinSet::new(), port, counters }
    }

    /// These are the names that are wanted from now on.
    pub fn want(&mut self, wanted: &BTreeMap<Arc<str>, Wish>) {
        self.schedule.want(wanted, Instant::now());
    }

    /// Waits for the next name of whose addresses there is something new to say. May be dropped and called again.
    pub async fn next(&mut self) -> (Arc<str>, Vec<IpAddr>) {
        loop {
            let now = Instant::now();
            while self.under_way.len() < AT_ONCE
                && let Some(name) = self.schedule.take_due(now)
            {
                if let Some(found) = self.own(&name) {
                    if let Some(news) = self.schedule.answered(&name, found, now, rand::random()) {
                        return (name, news);
                    }
                    continue;
                }
                let (servers, port) = (self.settings.servers(), self.port);
                self.under_way.spawn(async move {
                    let answers = ask(&name, &servers, port).await;
                    (name, answers)
                });
            }
            let room = self.under_way.len() < AT_ONCE;
            let due = self.schedule.next().filter(|_| room).map(tokio::time::Instant::from_std);
            let done = tokio::select! {
                Some(done) = self.under_way.join_next() => done,
                () = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => continue,
            };
            // A look-up that broke would leave its name under way for ever; none does.
            let Ok((name, answers)) = done else { continue };
            self.counters.looked_up(told(&answers));
            let answers = reachable(answers);
            if let Some(news) = self.schedule.answered(&name, answers, Instant::now(), rand::random()) {
                tracing::debug!(%name, addresses = ?news, "looked up");
                return (name, news);
            }
        }
    }

    /// What the host's own file says.
    fn own(&mut self, name: &str) -> Option<Answers> {
        let all = self.settings.own(name)?;
        let (v4, v6) = all.into_iter().partition(IpAddr::is_ipv4);
        Some([Found::Addresses(v4, 0), Found::Addresses(v6, 0)])
    }
}

fn told(answers: &Answers) -> LookedUp {
    if answers.iter().any(|found| matches!(found, Found::Addresses(all, _) if !all.is_empty())) {
        LookedUp::Found
    } else if answers.contains(&Found::Nothing) {
        LookedUp::Failed
    } else {
        LookedUp::Nothing
    }
}

/// The addresses that the host has a way to, if there is one: on a host that speaks no IPv6, none of those.
fn reachable(answers: Answers) -> Answers {
    let has_way = |to: &IpAddr| {
        let any: IpAddr = if to.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() };
        // Nothing is sent: the kernel only looks for a route.
        UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((*to, 9))).is_ok()
    };
    let left = answers.clone().map(|found| match found {
        Found::Addresses(all, ttl) => Found::Addresses(all.into_iter().filter(has_way).collect(), ttl),
        Found::Nothing => Found::Nothing,
    });
    let any = left.iter().any(|found| matches!(found, Found::Addresses(all, _) if !all.is_empty()));
    if any { left } else { answers }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{RData, Record, RecordType};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a server of names says to a question.
    type Says = fn(&str, RecordType, bool) -> Option<Vec<[u8; 4]>>;

    fn reply(query: &[u8], stream: bool, says: Says) -> Vec<u8> {
        let query = Message::from_vec(query).unwrap();
        let asked = query.queries[0].clone();
        let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        match says(&asked.name().to_ascii(), asked.query_type(), stream) {
            Some(all) => {
                for a in all {
                    reply.add_answer(Record::from_rdata(asked.name().clone(), 30, RData::A(A(a.into()))));
                }
            }
            None if stream => reply.metadata.response_code = ResponseCode::ServFail,
            None => reply.metadata.truncation = true,
        }
        reply.add_query(asked);
        reply.to_vec().unwrap()
    }

    /// A server of names on loopback; its port.
    async fn server(says: Says) -> u16 {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = udp.local_addr().unwrap().port();
        let tcp = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                let _ = udp.send_to(b"rubbish", from).await;
                let _ = udp.send_to(&reply(&buffer[..length], false, says), from).await;
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                let reply = reply(&query, true, says);
                stream.write_u16(reply.len() as u16).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        });
        port
    }

    async fn looked_up(says: Says, names: &[&str]) -> BTreeMap<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        std::fs::write(&conf, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
        std::fs::write(&hosts, "127.0.0.9 of-the-file.test\n").unwrap();
        let counters = Arc::<Counters>::default();
        let mut resolver = Resolver::new(&conf, &hosts, Some(server(says).await), counters.clone());
        let wish = Wish { refresh: Duration::from_secs(60), by_answer: true };
        resolver.want(&names.iter().map(|name| (Arc::from(*name), wish)).collect());
        let mut all = BTreeMap::new();
        while all.len() < names.len() {
            let next = tokio::time::timeout(Duration::from_secs(20), resolver.next()).await;
            let (name, addresses) = next.expect("a name is never told");
            let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            all.insert(name.to_string(), text.join(" "));
        }
        let page = crate::telemetry::render(&[], &counters);
        let counted = |result| format!("hawser_proxy_name_lookups_total{{result=\"{result}\"}} ");
        for (result, at_least) in [("found", 2), ("nothing", 1), ("failed", 1)] {
            let line = page.lines().find_map(|line| line.strip_prefix(&counted(result)));
            assert!(line.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= at_least), "{result}: {page}");
        }
        all
    }

    #[tokio::test]
    async fn names_are_found_in_datagrams_in_streams_and_in_the_hosts_own_file() {
        let says: Says = |name, ty, stream| match (name, ty) {
            (_, RecordType::AAAA) => Some(Vec::new()),
            ("short.test.", _) => Some(vec![[127, 0, 0, 2], [127, 0, 0, 1]]),
            ("long.test.", _) => stream.then(|| vec![[127, 0, 0, 3]]),
            ("none.test.", _) => Some(Vec::new()),
            _ => None,
        };
        let names = ["short.test", "long.test", "none.test", "broken.test", "of-the-file.test"];
        let all = looked_up(says, &names).await;
        let expected = [
            ("broken.test", ""),
            ("long.test", "127.0.0.3"),
            ("none.test", ""),
            ("of-the-file.test", "127.0.0.9"),
            ("short.test", "127.0.0.1 127.0.0.2"),
        ];
        assert_eq!(all, expected.map(|(name, a)| (name.to_owned(), a.to_owned())).into());
    }
}
