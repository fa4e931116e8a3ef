//! `dns_srv` against a small server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hawser_registry_http::{DnsSrv, Source};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use crate::follower::Follower;

/// Priority, weight, port, target.
type Line = (u16, u16, u16, &'static str);

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Answers,
    Fails,
    IsSilent,
    KnowsNothing,
    /// By UDP it sends nothing but that there is more.
    Truncates,
}

#[derive(Clone)]
struct Server {
    state: Arc<Mutex<(Mood, Vec<Line>)>>,
    questions: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
}

impl Server {
    async fn start(lines: &[Line]) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let state = Arc::new(Mutex::new((Mood::Answers, lines.to_vec())));
        let server = Self { state, questions: Arc::default(), address };
        let by_udp = server.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = by_udp.answer(&buffer[..length], "udp") {
                    udp.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        let by_tcp = server.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut buffer = vec![0; length.into()];
                stream.read_exact(&mut buffer).await.unwrap();
                if let Some(answer) = by_tcp.answer(&buffer, "tcp") {
                    stream.write_u16(answer.len() as u16).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        server
    }

    fn is(&self, mood: Mood, lines: &[Line]) {
        *self.state.lock().unwrap() = (mood, lines.to_vec());
    }

    fn answer(&self, question: &[u8], by: &str) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let asked = question.queries[0].clone();
        self.questions.lock().unwrap().push(format!("{by} {} {}", asked.query_type(), asked.name()));
        let (mood, lines) = self.state.lock().unwrap().clone();
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.add_query(asked.clone());
        let add = |answer: &mut Message, data: RData| {
            answer.add_answer(Record::from_rdata(asked.name().clone(), 1, data));
        };
        match mood {
            Mood::IsSilent => return None,
            Mood::Fails => answer.metadata.response_code = ResponseCode::ServFail,
            Mood::KnowsNothing => answer.metadata.response_code = ResponseCode::NXDomain,
            Mood::Truncates if by == "udp" => answer.metadata.truncation = true,
            Mood::Answers | Mood::Truncates => match asked.query_type() {
                RecordType::SRV => {
                    for (priority, weight, port, target) in lines {
                        let target = Name::from_ascii(target).unwrap();
                        add(&mut answer, RData::SRV(SRV::new(priority, weight, port, target)));
                    }
                }
                RecordType::A => {
                    // hN.x. is 10.0.0.N
                    let label = asked.name().to_ascii();
                    let number = label.trim_start_matches('h').split('.').next().unwrap().parse().unwrap();
                    add(&mut answer, RData::A(A(Ipv4Addr::new(10, 0, 0, number))));
                }
                _ => {}
            },
        }
        Some(answer.to_vec().unwrap())
    }

    fn follow(&self) -> Follower {
        let yaml = format!(
            "{{names: [_http._tcp.example.com], servers: ['{}'], timeout: 200ms, service: {{port: {{number: 80}}}}}}",
            self.address
        );
        let mut source: DnsSrv = serde_saphyr::from_str(&yaml).unwrap();
        Source::DnsSrv(source.clone()).check().unwrap();
        // The least that the file takes is longer than tests have time.
        source.least_refresh = Duration::from_millis(100);
        Follower::start_unchecked(Source::DnsSrv(source), None)
    }
}

const TWO: [Line; 2] = [(1, 5, 81, "h1.x."), (2, 0, 82, "h2.x.")];

#[tokio::test]
async fn records_are_followed_the_best_priority_first() {
    let server = Server::start(&TWO).await;
    let mut follower = server.follow();
    follower.until(|f| f.synced == 1 && f.is(&["10.0.0.1:81 Healthy", "10.0.0.2:82 Degraded"])).await;
    server.is(Mood::Answers, &[(1, 5, 81, "h3.x."), (1, 0, 82, "h2.x.")]);
    follower.until(|f| f.is(&["10.0.0.2:82 Healthy", "10.0.0.3:81 Healthy"])).await;
    follower.end().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_asked_for_by_tcp() {
    let server = Server::start(&TWO).await;
    server.is(Mood::Truncates, &TWO);
    let mut follower = server.follow();
    follower.until(|f| f.synced == 1 && f.workloads.len() == 2).await;
    assert!(server.questions.lock().unwrap().iter().any(|q| q.starts_with("tcp SRV")));
}

#[tokio::test]
async fn of_more_records_than_count_the_best_do_and_that_is_told() {
    let mut lines: Vec<Line> = (1..=1100).map(|port| (9, 1, port, "h1.x.")).collect();
    lines.push((1, 1, 7777, "h1.x."));
    let server = Server::start(&lines).await;
    server.is(Mood::Truncates, &lines);
    let mut follower = server.follow();
    follower.until(|f| f.synced == 1 && f.workloads.len() == 1000).await;
    assert!(follower.workloads.values().any(|at| at == "10.0.0.1:7777 Healthy"));
    let told = |why: &String| why.contains("it has 1101 records; the first 1000 by priority count");
    assert!(follower.problems.values().any(told), "{:?}", follower.problems);
    // A larger loss would be doubted.
    server.is(Mood::Truncates, &lines[101..]);
    follower.until(|f| f.problems.is_empty()).await;
}

#[tokio::test]
async fn a_server_that_fails_or_is_silent_changes_nothing() {
    let server = Server::start(&TWO).await;
    let mut follower = server.follow();
    follower.until(|f| f.synced == 1).await;
    for (mood, why) in [(Mood::Fails, "answers"), (Mood::IsSilent, "does not answer within")] {
        server.is(mood, &TWO);
        follower.until(|f| f.is_stale(why)).await;
        assert_eq!(follower.workloads.len(), 2);
        server.is(Mood::Answers, &TWO);
        follower.until(|f| f.stale.is_none()).await;
    }
}

#[tokio::test]
async fn that_there_is_no_such_name_is_believed_the_third_time() {
    let server = Server::start(&TWO).await;
    let mut follower = server.follow();
    follower.until(|f| f.synced == 1).await;
    server.questions.lock().unwrap().clear();
    server.is(Mood::KnowsNothing, &TWO);
    follower.until(|f| f.workloads.is_empty()).await;
    let questions = server.questions.lock().unwrap().clone();
    assert!(questions.iter().filter(|q| q.contains("SRV")).count() >= 3, "{questions:?}");
    server.is(Mood::Answers, &TWO);
    follower.until(|f| f.workloads.len() == 2 && f.problems.is_empty()).await;
}

#[tokio::test]
async fn a_name_that_never_was_keeps_the_registry_from_being_ready_until_that_is_sure() {
    let server = Server::start(&[]).await;
    server.is(Mood::Fails, &[]);
    let mut follower = server.follow();
    follower.until(|f| f.is_stale("answers")).await;
    assert_eq!(follower.synced, 0);
    server.is(Mood::KnowsNothing, &[]);
    follower.until(|f| f.synced == 1 && f.stale.is_none()).await;
    assert!(follower.workloads.is_empty() && !follower.problems.is_empty());
}
