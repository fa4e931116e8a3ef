//! Queries for names, and what name servers answer to them.
//!
//! In: a byte that says how the query comes, two bytes of its length, the query, and what a server answers. Out: whether
//! the query was answered from memory. Invariant: a reply repeats the question, has no more bytes than its reader takes and
//! nothing but addresses of the name that was asked for.

use std::sync::LazyLock;

use hawser_agent::doors::{self, Resolver};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

/// The smallest limit of a reader of UDP, and the largest that is kept to.
const LIMITS: (usize, usize) = (512, 1232);
const HEADER: usize = 12;

static RESOLVER: LazyLock<Resolver> = LazyLock::new(|| {
    let many = (0..60).map(|i| format!("fd00::{i:x}")).chain(["240.240.0.1".to_owned()]).collect();
    Resolver::new(&[("a.b", vec!["240.240.0.2".into()]), ("*.c", vec!["240.240.0.3".into()]), ("many.d", many)])
});

pub(crate) fn dns(bytes: &[u8]) -> bool {
    let [kind, high, low, rest @ ..] = bytes else { return false };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (query, response) = rest.split_at(length);
    let tcp = kind & 1 != 0;

    assert!(!doors::is_response(query, query) || query[2] & 0x80 != 0);
    if doors::is_response(query, response) {
        assert_eq!(response[..2], query[..2]);
    }
    if let Some(failed) = doors::unanswered(query) {
        assert!(failed.len() <= query.len() && failed[2] & 0x80 != 0 && failed[3] & 0xf == 2);
        assert!(doors::is_response(query, &failed));
    }
    let Some(reply) = RESOLVER.reply(query, tcp) else { return false };
    assert!(tcp && reply.len() <= 4 * 1024 || reply.len() <= LIMITS.1, "{} bytes", reply.len());
    let asked = Message::from_vec(query).expect("a query that was answered");
    let answered = Message::from_vec(&reply).expect("a reply");
    assert!(tcp || asked.edns.is_some() || reply.len() <= LIMITS.0);
    assert_eq!(answered.queries, asked.queries);
    assert_eq!(answered.metadata.id, asked.metadata.id);
    assert_eq!(answered.metadata.response_code, ResponseCode::NoError);
    for record in &answered.answers {
        assert_eq!(record.name, *asked.queries[0].name());
        assert!(matches!(record.record_type(), RecordType::A | RecordType::AAAA));
    }
    // Its asker is as wary as we are.
    assert!(query[HEADER] & 0xc0 != 0 || doors::is_response(query, &reply));
    true
}
