//! What of a request leads it to its endpoint, where a hash does.
//!
//! In: a request's head, what its route has hashed. Out: a hash, and a cookie for a client that has none. Several things
//! make one hash together; where there is none of them chance decides.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::connection::Connection;
use super::message::{Known, RequestHead};
use crate::balance::hash_of;
use crate::config::{HashCookie, HashPolicy};

/// The hash of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hash {
    /// It, if there is anything to be hashed.
    pub(super) hash: Option<u64>,
    /// What `set-cookie` tells the client.
    pub(super) cookie: Option<String>,
}

/// Hashes what `policies` name.
pub(super) fn of(head: &RequestHead, policies: &[HashPolicy], connection: &Connection) -> Hash {
    let mut made = Hash::default();
    for policy in policies {
        let new = match policy {
            HashPolicy::Header(name) => {
                let mut values: Vec<&[u8]> = head.fields.named(name).collect();
                values.sort_unstable();
                (!values.is_empty()).then(|| hash_of(&values.concat()))
            }
            HashPolicy::Query(name) => parameter(head, name).map(|value| hash_of(value.as_bytes())),
            HashPolicy::Source => connection.from.map(|from| hash_of(from.ip().to_string().as_bytes())),
            HashPolicy::Cookie(cookie) => match self::cookie(head, &cookie.name) {
                Some(value) => Some(hash_of(value)),
                None if cookie.life.is_some() => {
                    let value = new_value(connection.from, connection.to);
                    let hash = hash_of(value.as_bytes());
                    made.cookie = Some(set(cookie, &value));
                    Some(hash)
                }
                None => None,
            },
        };
        if let Some(new) = new {
            // Turned, so that two of the same do not cancel each other out.
            made.hash = Some(made.hash.map_or(0, |hash| hash.rotate_left(1)) ^ new);
        }
    }
    made
}

fn parameter<'h>(head: &'h RequestHead, name: &str) -> Option<&'h str> {
    let pairs = head.path_and_query().1?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

/// The value of a cookie; an empty one is none.
fn cookie<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    head.fields.iter().filter(|field| field.known == Known::Cookie).find_map(|field| {
        field.value.split(|b| *b == b';').find_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            let (key, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
            let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
            (key == name.as_bytes() && !value.is_empty()).then_some(value)
        })
    })
}

/// Of one connection the same, so that requests that are under way together lead to one endpoint.
fn new_value(from: Option<SocketAddr>, to: SocketAddr) -> String {
    let mut text = String::new();
    if let Some(from) = from {
        let _ = write!(text, "{from}");
    }
    let _ = write!(text, "{to}");
    format!("{:016x}", hash_of(text.as_bytes()))
}

fn set(cookie: &HashCookie, value: &str) -> String {
    format!("{}=\"{value}\"{}", cookie.name, cookie.rest)
}
