//! What of a request is hashed for clusters that balance by hash.

use std::time::Duration;

use hawser_api::proto::route::route_action::{self as proto, hash_policy::PolicySpecifier};

use super::proto::{Refused, duration, refuse};
use crate::http::message::Name;

/// One thing that is hashed.
#[derive(Debug)]
pub enum HashPolicy {
    /// A header.
    Header(Name),
    /// A cookie.
    Cookie(HashCookie),
    /// The caller's address.
    Source,
    /// A parameter of the query.
    Query(String),
}

/// A cookie, made if there is none and it has a life.
#[derive(Debug)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// How long one that is made lives; zero is the session, absent is that none is made.
    pub life: Option<Duration>,
    /// What follows the value of one that is made.
    pub rest: String,
}

pub(super) fn policy(policy: &proto::HashPolicy) -> Result<HashPolicy, Refused> {
    Ok(match &policy.policy_specifier {
        Some(PolicySpecifier::Header(header)) if !header.header_name.is_empty() => {
            HashPolicy::Header(Name::new(&header.header_name.to_ascii_lowercase()))
        }
        Some(PolicySpecifier::Cookie(cookie)) if !cookie.name.is_empty() => HashPolicy::Cookie(self::cookie(cookie)?),
        Some(PolicySpecifier::ConnectionProperties(of)) if of.source_ip => HashPolicy::Source,
        Some(PolicySpecifier::QueryParameter(query)) if !query.name.is_empty() => HashPolicy::Query(query.name.clone()),
        _ => refuse!("it says nothing that can be hashed"),
    })
}

fn cookie(cookie: &proto::hash_policy::Cookie) -> Result<HashCookie, Refused> {
    let life = duration("ttl", cookie.ttl.as_ref())?;
    let mut rest = String::new();
    if let Some(life) = life.filter(|life| !life.is_zero()) {
        rest.push_str(&format!("; Max-Age={}", life.as_secs()));
    }
    if !cookie.path.is_empty() {
        rest.push_str(&format!("; Path={}", cookie.path));
    }
    for attribute in &cookie.attributes {
        rest.push_str(&match attribute.value.as_str() {
            "" => format!("; {}", attribute.name),
            value => format!("; {}={value}", attribute.name),
        });
    }
    rest.push_str("; HttpOnly");
    if http::HeaderValue::from_str(&format!("{}={rest}", cookie.name)).is_err() {
        refuse!("cookie {:?} can't be a header's value", cookie.name);
    }
    Ok(HashCookie { name: cookie.name.clone(), life, rest })
}
