//! What is said to a query, without saying it.
//!
//! In: a query's bytes, the table, how long an answer may be. Out: a reply if the name is ours, else that the query
//! goes on unchanged. A name of ours has its addresses; what it has of other types, if it is not the mesh's alone, others
//! may know.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use super::names::Names;

/// How long a resolver may remember an answer, in seconds.
const TTL: u32 = 30;
const HEADER: usize = 12;
const SMALLEST_LIMIT: u16 = 512;
/// What goes unfragmented everywhere (DNS flag day 2020).
const OUR_LIMIT: u16 = 1232;

/// What to do with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Send this.
    Reply(Vec<u8>),
    /// Ask the host's own servers.
    Forward,
    /// Ask them; if they know nothing, send this: the name is there, but has nothing of that type.
    ForwardOr(Vec<u8>),
    /// It is no query.
    Ignore,
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Decides.
pub(crate) fn answer(query: &[u8], names: &Names, transport: Transport) -> Answer {
    // QR: a response.
    if query.len() < HEADER || query[2] & 0x80 != 0 {
        return Answer::Ignore;
    }
    let Ok(message) = Message::from_vec(query) else { return Answer::Forward };
    let [question] = message.queries.as_slice() else { return Answer::Forward };
    if message.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        return Answer::Forward;
    }
    let name = question.name().to_ascii().to_ascii_lowercase();
    let Some(found) = names.lookup(name.trim_end_matches('.')) else { return Answer::Forward };

    let mut reply = Message::new(message.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = message.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.metadata.response_code = ResponseCode::NoError;
    let wanted = question.query_type();
    for address in found.addresses.iter() {
        let (ty, data) = match address {
            IpAddr::V4(address) => (RecordType::A, RData::A(A(*address))),
            IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA(AAAA(*address))),
        };
        if wanted == ty || wanted == RecordType::ANY {
            reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
        }
    }
    reply.add_query(question.clone());
    let mut limit = usize::from(SMALLEST_LIMIT);
    if let Some(edns) = &message.edns {
        limit = usize::from(edns.max_payload().clamp(SMALLEST_LIMIT, OUR_LIMIT));
        let mut ours = Edns::new();
        ours.set_max_payload(OUR_LIMIT);
        reply.set_edns(ours);
    }
    let Ok(bytes) = reply.to_vec() else { return Answer::Forward };
    if transport == Transport::Udp && bytes.len() > limit {
        return reply.truncate().to_vec().map_or(Answer::Forward, Answer::Reply);
    }
    // What leads to addresses by another way (HTTPS, SVCB) would lead past the mesh.
    let ours = matches!(
        wanted,
        RecordType::A | RecordType::AAAA | RecordType::ANY | RecordType::HTTPS | RecordType::SVCB | RecordType::CNAME
    );
    if ours || !found.is_shared() { Answer::Reply(bytes) } else { Answer::ForwardOr(bytes) }
}

/// Whether a reply says that the name is there.
pub(crate) fn is_known(reply: &[u8]) -> bool {
    reply.len() >= HEADER && reply[3] & 0xf == 0
}

/// The reply when none of the host's servers answered.
pub(crate) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    if query.len() < HEADER {
        return None;
    }
    // The header with an empty body: response, SERVFAIL.
    let mut reply = query[..HEADER].to_vec();
    reply[2] = 0x80 | (query[2] & 0x79);
    reply[3] = 0x80 | u8::try_from(u16::from(ResponseCode::ServFail) & 0xf).unwrap_or(2);
    let end = question_end(query);
    let kept = end.filter(|end| *end <= query.len()).unwrap_or(HEADER);
    reply.extend(&query[HEADER..kept]);
    let questions = u8::from(kept > HEADER);
    reply[4..HEADER].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
    Some(reply)
}

/// Whether bytes from a server answer this query: same id, a response, same question.
pub(crate) fn matches(query: &[u8], response: &[u8]) -> bool {
    if query.len() < HEADER || response.len() < HEADER || response[..2] != query[..2] || response[2] & 0x80 == 0 {
        return false;
    }
    // A server that can't read the question does not repeat it.
    if response[4..6] == [0, 0] {
        return true;
    }
    match question_end(query) {
        Some(end) => response.get(HEADER..end).is_some_and(|other| other.eq_ignore_ascii_case(&query[HEADER..end])),
        None => true,
    }
}

/// Where the first question ends, if it is written without compression, as first questions are.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => break,
            1..=63 => at += 1 + length,
            _ => return None,
        }
    }
    Some(at + 5).filter(|end| *end <= message.len())
}

#[cfg(test)]
mod tests {
    use hawser_api::proto::mesh::Name;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name as DnsName;

    use super::*;

    fn names() -> Names {
        let names = Names::default();
        let many = (0..60).map(|index| format!("fd00::{index:x}")).chain(["240.240.0.1".to_owned()]).collect();
        let one = |host: &str, addresses| Name { host: host.into(), addresses, aliases: vec![] };
        let own = || vec!["240.240.0.1".to_owned()];
        let shared = ["web.service.dc1.consul", "example.com"].map(|host| one(host, own()));
        let ours = [one("a.default.svc.mesh", own()), one("many.mesh", many)];
        names.change(shared.into_iter().chain(ours).collect(), &[]);
        names
    }

    fn query(name: &str, ty: RecordType, edns: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(DnsName::from_ascii(name).unwrap(), ty));
        if let Some(payload) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    fn reply(query: &[u8], transport: Transport) -> Message {
        match answer(query, &names(), transport) {
            Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_of_ours_is_answered_whatever_its_case() {
        let reply = reply(&query("A.Default.svc.MESH.", RecordType::A, None), Transport::Udp);
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (4711, ResponseCode::NoError));
        assert_eq!(reply.answers[0].ttl, TTL);
        assert_eq!(reply.answers[0].data, RData::A(A("240.240.0.1".parse().unwrap())));
        assert_eq!(reply.queries[0].name().to_ascii(), "A.Default.svc.MESH.");
        assert!(reply.edns.is_none());
    }

    #[test]
    fn it_has_nothing_of_another_type() {
        for ty in [RecordType::AAAA, RecordType::MX, RecordType::HTTPS, RecordType::TXT] {
            let reply = reply(&query("a.default.svc.mesh.", ty, Some(4096)), Transport::Udp);
            assert_eq!((reply.answers.len(), reply.metadata.response_code), (0, ResponseCode::NoError), "{ty}");
            assert!(reply.edns.is_some());
        }
    }

    #[test]
    fn what_others_know_of_a_shared_name_is_asked_of_them() {
        for (name, ty) in [("web.service.dc1.consul.", RecordType::SRV), ("example.com.", RecordType::MX)] {
            let Answer::ForwardOr(empty) = answer(&query(name, ty, None), &names(), Transport::Udp) else {
                panic!("{name} {ty}")
            };
            let message = Message::from_vec(&empty).unwrap();
            assert_eq!((message.answers.len(), message.metadata.response_code), (0, ResponseCode::NoError));
            assert!(is_known(&empty) && !is_known(&failure(&query(name, ty, None)).unwrap()));
            for ours in [RecordType::A, RecordType::AAAA, RecordType::HTTPS] {
                assert!(
                    matches!(answer(&query(name, ours, None), &names(), Transport::Udp), Answer::Reply(_)),
                    "{ours}"
                );
            }
        }
    }

    #[test]
    fn everything_else_goes_on_unchanged() {
        let names = names();
        for other in ["example.org.", "b.default.svc.mesh.", "mesh.", "."] {
            assert_eq!(answer(&query(other, RecordType::A, None), &names, Transport::Udp), Answer::Forward, "{other}");
        }
        let mut chaos = query("a.default.svc.mesh.", RecordType::TXT, None);
        let end = chaos.len();
        chaos[end - 1] = 3;
        assert_eq!(answer(&chaos, &names, Transport::Udp), Answer::Forward);
        assert_eq!(answer(b"short", &names, Transport::Udp), Answer::Ignore);
        assert_eq!(answer(&[0xff; 40], &names, Transport::Udp), Answer::Ignore);
        let mut garbage = [0xff; 40];
        garbage[2] = 0;
        assert_eq!(answer(&garbage, &names, Transport::Udp), Answer::Forward);
    }

    #[test]
    fn what_does_not_fit_is_asked_for_again_by_tcp() {
        let query = query("many.mesh.", RecordType::AAAA, Some(4096));
        assert!(reply(&query, Transport::Udp).metadata.truncation);
        let whole = reply(&query, Transport::Tcp);
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (60, false));
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let asked = query("example.com.", RecordType::A, None);
        let mut response = asked.clone();
        response[2] |= 0x80;
        assert!(matches(&asked, &response));
        assert!(!matches(&asked, &asked));
        let mut other_id = response.clone();
        other_id[0] ^= 1;
        assert!(!matches(&asked, &other_id));
        let mut other_name = query("example.org.", RecordType::A, None);
        other_name[2] |= 0x80;
        assert!(!matches(&asked, &other_name));
        assert!(!matches(&asked, &response[..5]));
    }

    #[test]
    fn a_failure_repeats_the_question() {
        let asked = query("example.com.", RecordType::A, Some(1232));
        let failed = Message::from_vec(&failure(&asked).unwrap()).unwrap();
        assert_eq!((failed.metadata.id, failed.metadata.response_code), (4711, ResponseCode::ServFail));
        assert_eq!(failed.queries[0].name().to_ascii(), "example.com.");
    }
}
