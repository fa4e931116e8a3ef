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

use crate::config::{Forward, HeaderOp, PathMatch, Redirect, Route, RouteTable, VirtualHost, WeightedCluster};
use crate::http::message::{Fields, Name};

pub use hawser_routing::without_port;
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
    let host = &table.hosts[table.domains.find(asked.host)?];
    let route = host.routes.iter().find(|route| {
        route.path.matches(asked.path)
            && route.headers.iter().all(|m| m.matches(asked))
            && route.query.iter().all(|m| m.matches(asked.query))
            && (route.share >= 1_000_000 || chance() < route.share)
    })?;
    Some((host, route))
}

impl hawser_routing::Asked<Name> for Asked<'_> {
    fn host(&self) -> &str {
        self.host
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> Option<&str> {
        self.query
    }

    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn field(&self, name: &Name) -> Option<Cow<'_, str>> {
        joined(self.headers, name)
    }
}

/// All values of a header as one, as a list is read.
fn joined<'a>(headers: &'a Fields, name: &Name) -> Option<Cow<'a, str>> {
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
