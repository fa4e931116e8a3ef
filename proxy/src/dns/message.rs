//! What is sent to a name server, and what its answer says.
//!
//! In: a name and a family; bytes of a server. Out: the query's bytes; addresses with the time they are good for. Pure.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

/// The most addresses of a family that a name may have.
const MOST_ADDRESSES: usize = 64;
/// The most names that one is an alias of.
const MOST_ALIASES: usize = 16;
/// What goes unfragmented everywhere (DNS flag day 2020).
pub(super) const PAYLOAD: u16 = 1232;

/// A kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// What a server says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has these addresses, sorted, for so many seconds; none is an answer too.
    Addresses(Vec<IpAddr>, u32),
    /// The answer is too long for a datagram.
    Longer,
    /// The server can't tell.
    Failed,
}

/// The query; `None` if the name is none that can be asked for.
pub(super) fn query(name: &str, family: Family, id: u16) -> Option<Vec<u8>> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    let ty = match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, ty));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// What the answer to `query` says; `None` if it is the answer to something else.
pub(super) fn answer(query: &[u8], bytes: &[u8]) -> Option<Said> {
    // What can't be read is nobody's answer: who sends rubbish must not end the waiting.
    let (query, answer) = (Message::from_vec(query).ok()?, Message::from_vec(bytes).ok()?);
    let asked = query.queries.first()?;
    if answer.metadata.id != query.metadata.id || answer.metadata.message_type != MessageType::Response {
        return None;
    }
    // A server that can't read the question does not repeat it.
    let same = |q: &Query| q.name() == asked.name() && q.query_type() == asked.query_type();
    if !answer.queries.is_empty() && !answer.queries.iter().all(same) {
        return None;
    }
    if answer.metadata.truncation {
        return Some(Said::Longer);
    }
    match answer.metadata.response_code {
        ResponseCode::NoError if answer.queries.is_empty() => return Some(Said::Failed),
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Some(Said::Addresses(Vec::new(), 0)),
        _ => return Some(Said::Failed),
    }
    let mut name = asked.name().clone();
    let mut least = u32::MAX;
    for _ in 0..MOST_ALIASES {
        let alias = answer.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(to) if record.name == name && record.dns_class == DNSClass::IN => {
                Some((to.0.clone(), record.ttl))
            }
            _ => None,
        });
        let Some((to, ttl)) = alias else { break };
        least = least.min(ttl);
        name = to;
    }
    let mut addresses = Vec::new();
    for record in answer.answers.iter().filter(|r| r.name == name && r.dns_class == DNSClass::IN) {
        let address = match (&record.data, asked.query_type()) {
            (RData::A(a), RecordType::A) => IpAddr::V4(a.0),
            (RData::AAAA(a), RecordType::AAAA) => IpAddr::V6(a.0),
            _ => continue,
        };
        // Nothing that a name may stand for listens there.
        if address.is_unspecified() || address.is_multicast() {
            continue;
        }
        least = least.min(record.ttl);
        addresses.push(address);
    }
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    let ttl = if addresses.is_empty() { 0 } else { least };
    Some(Said::Addresses(addresses, ttl))
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn reply(query: &[u8], records: Vec<Record>, change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let query = Message::from_vec(query).unwrap();
        let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        message.add_query(query.queries[0].clone());
        message.add_answers(records);
        change(&mut message);
        message.to_vec().unwrap()
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A([192, 0, 2, last].into())))
    }

    #[test]
    fn addresses_are_found_behind_aliases_with_the_shortest_life_of_all() {
        let asked = query("api.example.com", Family::V4, 7).unwrap();
        let alias = Record::from_rdata(name("api.example.com."), 20, RData::CNAME(CNAME(name("lb.example.net."))));
        let records = vec![alias, a("lb.example.net.", 60, 2), a("LB.example.net.", 90, 1), a("other.net.", 5, 3)];
        let said = answer(&asked, &reply(&asked, records, |_| {}));
        let both = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(said, Some(Said::Addresses(both, 20)));
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let asked = query("a.test", Family::V6, 9).unwrap();
        let other = query("b.test", Family::V6, 9).unwrap();
        let six = Record::from_rdata(name("a.test."), 9, RData::AAAA(AAAA("2001:db8::1".parse().unwrap())));
        let good = reply(&asked, vec![six.clone(), a("a.test.", 1, 1)], |_| {});
        assert_eq!(answer(&asked, &good), Some(Said::Addresses(vec!["2001:db8::1".parse().unwrap()], 9)));
        assert_eq!(answer(&other, &good), None, "another name's");
        assert_eq!(answer(&asked, &asked), None, "a question");
        assert_eq!(answer(&asked, &reply(&asked, vec![six], |m| m.metadata.id = 8)), None, "another question's");
        for cut in 0..good.len() {
            assert_eq!(answer(&asked, &good[..cut]), None, "{cut} bytes of it");
        }
    }

    #[test]
    fn a_failure_is_told_from_nothing() {
        let asked = query("a.test", Family::V4, 9).unwrap();
        let coded = |code| answer(&asked, &reply(&asked, Vec::new(), |m| m.metadata.response_code = code));
        let nothing = Some(Said::Addresses(Vec::new(), 0));
        assert_eq!(coded(ResponseCode::NoError), nothing);
        assert_eq!(coded(ResponseCode::NXDomain), nothing);
        assert_eq!(coded(ResponseCode::ServFail), Some(Said::Failed));
        assert_eq!(coded(ResponseCode::Refused), Some(Said::Failed));
        let cut = reply(&asked, Vec::new(), |m| m.metadata.truncation = true);
        assert_eq!(answer(&asked, &cut), Some(Said::Longer));
    }

    #[test]
    fn no_more_addresses_are_taken_than_may_be() {
        let asked = query("many.test", Family::V4, 1).unwrap();
        let records = (0..=255).map(|last| a("many.test.", 1, last)).collect();
        let Some(Said::Addresses(all, _)) = answer(&asked, &reply(&asked, records, |_| {})) else {
            panic!("no answer")
        };
        assert_eq!(all.len(), MOST_ADDRESSES);
        let round = (0..20u8).map(|i| {
            let (from, to) = (format!("n{i}.test."), format!("n{}.test.", (i + 1) % 20));
            Record::from_rdata(name(&from), 1, RData::CNAME(CNAME(name(&to))))
        });
        let asked = query("n0.test", Family::V4, 1).unwrap();
        let said = answer(&asked, &reply(&asked, round.collect(), |_| {}));
        assert_eq!(said, Some(Said::Addresses(Vec::new(), 0)), "a circle of aliases ends");
    }
}
