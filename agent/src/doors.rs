//! What the fuzz targets reach of the agent: the bytes of strangers, before anything is done with them.

use hawser_api::proto::mesh::Name;

use crate::dns::answer::{Answer, Transport, answer, failure, matches};
use crate::dns::names::Names;

/// Names that are answered for.
pub struct Resolver(Names);

impl Resolver {
    /// Of these hosts, each with its addresses.
    pub fn new(hosts: &[(&str, Vec<String>)]) -> Self {
        let names = Names::default();
        let name = |(host, addresses): &(&str, Vec<String>)| Name {
            host: (*host).to_owned(),
            addresses: addresses.clone(),
            aliases: Vec::new(),
        };
        names.change(hosts.iter().map(name).collect(), &[]);
        Self(names)
    }

    /// The reply to a query, if it is for one of ours.
    pub fn reply(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        match answer(query, &self.0, if tcp { Transport::Tcp } else { Transport::Udp }) {
            Answer::Reply(reply) | Answer::ForwardOr(reply) => Some(reply),
            Answer::Forward | Answer::Ignore => None,
        }
    }
}

/// The reply to a query that nobody answered.
pub fn unanswered(query: &[u8]) -> Option<Vec<u8>> {
    failure(query)
}

/// Whether bytes from a name server are taken as the response to a query.
pub fn is_response(query: &[u8], response: &[u8]) -> bool {
    matches(query, response)
}
