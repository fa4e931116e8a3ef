//! Which route a request takes, and what its path becomes.
//!
//! In: a route table and what a request asks for. Out: the first route that matches. Pure; chance is passed in, so that a
//! test can hold every share.

mod path;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use crate::config::{
    Forward, HeaderMatch, HeaderOp, PathMatch, QueryMatch, Redirect, Route, RouteTable, Subject, VirtualHost,
    WeightedCluster,
};
use crate::http::message::{Fields, Name};

pub use path::{InvalidPath, normalize};

/// What a request asks for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Host, with its port if it has one.
    pub host: &'a str,
    /// Path, without the query.
    pub path: &'a str,
    /// Query, without the question mark.
    pub query: Option<&'a str>,
    /// Method.
    pub method: &'a Method,
    /// Headers.
    pub headers: &'a Fields,
}

/// Finds the virtual host and the route. `chance` gives numbers below 1,000,000.
pub fn find<'t>(
    table: &'t RouteTable,
    asked: &Asked<'_>,
    mut chance: impl FnMut() -> u32,
) -> Option<(&'t VirtualHost, &'t Arc<Route>)> {
    let host = &table.hosts[virtual_host(table, asked.host)?];
    let route = host.routes.iter().find(|route| {
        path_matches(&route.path, asked.path)
            && route.headers.iter().all(|m| header_matches(m, asked))
            && route.query.iter().all(|m| query_matches(m, asked.query))
            && (route.share >= 1_000_000 || chance() < route.share)
    })?;
    Some((host, route))
}

/// The virtual host of a host name: exact, then the longest end, then the longest start, then `*`.
fn virtual_host(table: &RouteTable, host: &str) -> Option<usize> {
    let lower: Cow<'_, str> =
        if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() };
    let name = if table.ignore_port { without_port(&lower) } else { &lower };
    if let Some(found) = table.exact.get(name) {
        return Some(*found);
    }
    let end = table.suffixes.iter().find(|(end, _)| name.len() > end.len() && name.ends_with(end.as_str()));
    let start =
        || table.prefixes.iter().find(|(start, _)| name.len() > start.len() && name.starts_with(start.as_str()));
    end.or_else(start).map(|(_, host)| *host).or(table.any)
}

/// A host name without its port.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

fn path_matches(m: &PathMatch, path: &str) -> bool {
    let same = |a: &str, b: &str, case: bool| if case { a == b } else { a.eq_ignore_ascii_case(b) };
    // Cut by bytes: a cut inside a character can't be equal to text anyway.
    let starts = |prefix: &str, case: bool| match path.as_bytes().get(..prefix.len()) {
        Some(start) if case => start == prefix.as_bytes(),
        Some(start) => start.eq_ignore_ascii_case(prefix.as_bytes()),
        None => false,
    };
    match m {
        PathMatch::Exact(exact, case) => same(exact, path, *case),
        PathMatch::Prefix(prefix, case) => starts(prefix, *case),
        PathMatch::Segments(prefix, case) => {
            starts(prefix, *case) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Regex(regex) => regex.is_match(path),
    }
}

pub(crate) fn header_matches(m: &HeaderMatch, asked: &Asked<'_>) -> bool {
    let value: Option<Cow<'_, str>> = match &m.subject {
        Subject::Method => Some(asked.method.as_str().into()),
        Subject::Authority => Some(asked.host.into()),
        Subject::Path => Some(match asked.query {
            Some(query) => format!("{}?{query}", asked.path).into(),
            None => asked.path.into(),
        }),
        Subject::Scheme => Some("http".into()),
        Subject::Field(name) => joined(asked.headers, name),
    };
    let value = value.or_else(|| m.missing_as_empty.then(|| "".into()));
    let is = match (&m.value, value) {
        (Some(matcher), Some(value)) => matcher.matches(&value),
        // A header that is not there matches no value; turned around it does.
        (Some(_), None) => false,
        (None, value) => value.is_some() == m.present,
    };
    is != m.invert
}

/// All values of a header as one, as a list is read.
fn joined<'a>(headers: &'a Fields, name: &'a Name) -> Option<Cow<'a, str>> {
    let mut values = headers.named(name);
    let first = String::from_utf8_lossy(values.next()?);
    let Some(second) = values.next() else { return Some(first) };
    let mut all = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        all.push(',');
        all.push_str(&String::from_utf8_lossy(value));
    }
    Some(all.into())
}

fn query_matches(m: &QueryMatch, query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let Some((_, value)) = pairs.find(|(name, _)| *name == m.name) else { return false };
    m.value.as_ref().is_none_or(|matcher| matcher.matches(value))
}

/// The cluster of a request; `chance` is any number.
pub fn cluster(forward: &Forward, chance: u32) -> &WeightedCluster {
    let mut left = chance % forward.total.max(1);
    for cluster in &forward.clusters {
        if left < cluster.weight {
            return cluster;
        }
        left -= cluster.weight;
    }
    &forward.clusters[0]
}

/// The path and query that are sent on; `None` if they stay.
pub fn rewritten(route: &Route, forward: &Forward, path: &str, query: Option<&str>) -> Option<String> {
    let new = if let Some(prefix) = &forward.prefix_rewrite {
        replace_prefix(&route.path, path, prefix)
    } else if let Some((regex, by)) = &forward.regex_rewrite {
        regex.replace_all(path, by.as_str()).into_owned()
    } else {
        return None;
    };
    Some(with_query(if new.starts_with('/') { new } else { format!("/{new}") }, query))
}

fn replace_prefix(matched: &PathMatch, path: &str, by: &str) -> String {
    let length = match matched {
        PathMatch::Exact(..) | PathMatch::Regex(_) => path.len(),
        PathMatch::Prefix(p, _) | PathMatch::Segments(p, _) => p.len().min(path.len()),
    };
    let rest = path.get(length..).unwrap_or_default();
    // `/a` -> `/`: "/a/b" must not become "//b".
    if by.ends_with('/') && rest.starts_with('/') { format!("{by}{}", &rest[1..]) } else { format!("{by}{rest}") }
}

fn with_query(mut path: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path
}

/// Where a redirected client is sent.
pub fn location(route: &Route, redirect: &Redirect, asked: &Asked<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let host = redirect.host.as_deref().unwrap_or_else(|| {
        // A new scheme or port makes the old port wrong.
        if redirect.scheme.is_some() || redirect.port.is_some() { without_port(asked.host) } else { asked.host }
    });
    let port = redirect.port.map(|p| format!(":{p}")).unwrap_or_default();
    let path = match (&redirect.path, &redirect.prefix) {
        (Some(path), _) => path.clone(),
        (None, Some(prefix)) => replace_prefix(&route.path, asked.path, prefix),
        (None, None) => asked.path.to_owned(),
    };
    let keeps_query = !redirect.strip_query && !path.contains('?');
    format!("{scheme}://{host}{port}{}", with_query(path, asked.query.filter(|_| keeps_query)))
}

/// Changes headers.
pub fn change(headers: &mut Fields, ops: &[HeaderOp]) {
    for op in ops {
        match op {
            HeaderOp::Append(name, value) => headers.push(name.as_str().as_bytes(), value.as_bytes()),
            HeaderOp::Set(name, value) => headers.set(name.as_str(), value.as_bytes()),
            HeaderOp::IfAbsent(name, value) if headers.get(name.as_str()).is_none() => {
                headers.push(name.as_str().as_bytes(), value.as_bytes());
            }
            HeaderOp::IfPresent(name, value) if headers.get(name.as_str()).is_some() => {
                headers.set(name.as_str(), value.as_bytes());
            }
            HeaderOp::IfAbsent(..) | HeaderOp::IfPresent(..) => {}
            HeaderOp::Remove(name) => drop(headers.remove(name.as_str())),
        }
    }
}
