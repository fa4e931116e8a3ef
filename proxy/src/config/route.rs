//! Routes: virtual hosts, what a request must look like, and what happens to it then.
//!
//! In: `RouteConfiguration`. Out: [`RouteTable`]; [`crate::route`] matches requests against it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hawser_api::proto::core::{self, header_value_option::HeaderAppendAction};
use hawser_api::proto::route as proto;
use hawser_routing::{Domains, RequestMatch, part_regex};
pub use hawser_routing::{PathMatch, QueryMatch};
use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use super::filters::{Filters, share};
use super::hash::{self, HashPolicy};
use super::proto::{At as _, Refused, refuse, timeout};
use super::retry::{RetryPolicy, retry};
use crate::http::message::Name;

/// Matches a header.
pub type HeaderMatch = hawser_routing::HeaderMatch<Name>;

/// A checked `RouteConfiguration`.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Its name.
    pub name: String,
    /// Virtual hosts.
    pub hosts: Vec<VirtualHost>,
    /// Which of them a host name means.
    pub domains: Domains,
}

/// A virtual host.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name.
    pub name: String,
    /// Its routes; the first that matches counts.
    pub routes: Vec<Arc<Route>>,
    /// Whether requests say which attempt they are.
    pub attempt_count: bool,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name, for people.
    pub name: String,
    /// The path.
    pub path: PathMatch,
    /// Headers; all must match.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters; all must match.
    pub query: Vec<QueryMatch>,
    /// Share of requests that it takes, in a million.
    pub share: u32,
    /// What happens.
    pub action: Action,
    /// What is done to headers, those of the virtual host included.
    pub ops: HeaderOps,
    /// What comes before the action.
    pub filters: Option<Box<Filters>>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Action {
    /// It is forwarded.
    Forward(Box<Forward>),
    /// The client is sent elsewhere.
    Redirect(Box<Redirect>),
    /// It is answered.
    Respond(StatusCode, Bytes),
}

/// Forwarding.
#[derive(Debug)]
pub struct Forward {
    /// Clusters.
    pub clusters: Vec<WeightedCluster>,
    /// Sum of their weights.
    pub total: u32,
    /// Replaces the matched prefix, or the path.
    pub prefix_rewrite: Option<String>,
    /// Replaces what matches.
    pub regex_rewrite: Option<(Regex, String)>,
    /// The new host.
    pub host_rewrite: Option<HeaderValue>,
    /// Whether the old host goes to `x-forwarded-host`.
    pub forwarded_host: bool,
    /// The response must have ended after so long.
    pub timeout: Option<Duration>,
    /// The stream must have ended after so long.
    pub longest_stream: Option<Duration>,
    /// Retries.
    pub retry: Option<RetryPolicy>,
    /// Upgrades let through or not, lower case; else the connection's setting counts.
    pub upgrades: Vec<(String, bool)>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// What is hashed for clusters that balance by hash.
    pub hash: Vec<HashPolicy>,
}

/// Who gets copies of requests.
#[derive(Debug)]
pub struct Mirror {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Share of requests, in a million.
    pub share: u32,
}

/// A cluster and its share.
#[derive(Debug)]
pub struct WeightedCluster {
    /// Its name.
    pub name: Arc<str>,
    /// Its share of [`Forward::total`].
    pub weight: u32,
    /// What is done to headers when it is chosen.
    pub ops: HeaderOps,
}

/// Sends the client elsewhere.
#[derive(Debug)]
pub struct Redirect {
    /// Status.
    pub status: StatusCode,
    /// New scheme.
    pub scheme: Option<String>,
    /// New host.
    pub host: Option<String>,
    /// New port.
    pub port: Option<u16>,
    /// New path.
    pub path: Option<String>,
    /// New start of the path.
    pub prefix: Option<String>,
    /// Without the query.
    pub strip_query: bool,
}

/// What is done to headers.
#[derive(Debug, Default)]
pub struct HeaderOps {
    /// Of the request.
    pub request: Vec<HeaderOp>,
    /// Of the response.
    pub response: Vec<HeaderOp>,
}

/// One change.
#[derive(Clone, Debug)]
pub enum HeaderOp {
    /// Adds a value.
    Append(HeaderName, HeaderValue),
    /// Adds it if there is none.
    IfAbsent(HeaderName, HeaderValue),
    /// Sets it.
    Set(HeaderName, HeaderValue),
    /// Sets it if there is one.
    IfPresent(HeaderName, HeaderValue),
    /// Takes it away.
    Remove(HeaderName),
}

impl RouteTable {
    /// Checks a route configuration.
    ///
    /// # Errors
    /// If something in it is not supported.
    pub fn new(config: &proto::RouteConfiguration) -> Result<Self, Refused> {
        let domains = Domains::new(config.ignore_port_in_host_matching);
        let mut table = Self { name: config.name.clone(), domains, ..Self::default() };
        for (i, host) in config.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                table.domains.add(domain, i).at(format_args!("virtual_hosts[{i}] {:?}", host.name))?;
            }
            let mut routes = Vec::with_capacity(host.routes.len());
            for (j, route) in host.routes.iter().enumerate() {
                let place = format_args!("virtual_hosts[{i}].routes[{j}] {:?}", route.name).to_string();
                routes.push(Arc::new(self::route(route, host).at(place)?));
            }
            let attempt_count = host.include_request_attempt_count;
            table.hosts.push(VirtualHost { name: host.name.clone(), routes, attempt_count });
        }
        Ok(table)
    }

    /// Names of all clusters that it forwards to.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.hosts
            .iter()
            .flat_map(|h| &h.routes)
            .filter_map(|r| match &r.action {
                Action::Forward(f) => Some(f),
                _ => None,
            })
            .flat_map(|f| f.clusters.iter().map(|c| &c.name).chain(f.mirrors.iter().map(|m| &m.cluster)))
    }
}

fn route(route: &proto::Route, host: &proto::VirtualHost) -> Result<Route, Refused> {
    let Some(m) = &route.r#match else { refuse!("match is missing") };
    let RequestMatch { path, headers, query } = RequestMatch::new(m, Name::new)?;
    let share = m.runtime_fraction.as_ref().map_or(1_000_000, |f| share(f.default_value.as_ref()));
    let action = match &route.action {
        Some(proto::route::Action::Route(a)) => Action::Forward(Box::new(forward(a).at("route")?)),
        Some(proto::route::Action::Redirect(r)) => Action::Redirect(Box::new(redirect(r).at("redirect")?)),
        Some(proto::route::Action::DirectResponse(d)) => respond(d).at("direct_response")?,
        None => refuse!("a route without action does nothing"),
    };
    // Most specific first, as in Envoy: those of the route, then those of the virtual host.
    let mut ops = HeaderOps::default();
    header_ops(
        &mut ops,
        (&route.request_headers_to_remove, &route.request_headers_to_add),
        (&route.response_headers_to_remove, &route.response_headers_to_add),
    )?;
    header_ops(
        &mut ops,
        (&host.request_headers_to_remove, &host.request_headers_to_add),
        (&host.response_headers_to_remove, &host.response_headers_to_add),
    )?;
    let filters = Filters::new(&route.typed_per_filter_config).at("typed_per_filter_config")?.map(Box::new);
    Ok(Route { name: route.name.clone(), path, headers, query, share, action, ops, filters })
}

fn forward(a: &proto::RouteAction) -> Result<Forward, Refused> {
    use proto::route_action::{ClusterSpecifier, HostRewriteSpecifier};
    let mut clusters = Vec::new();
    match &a.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            clusters.push(WeightedCluster { name: name.as_str().into(), weight: 1, ops: HeaderOps::default() });
        }
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            for c in &all.clusters {
                let mut ops = HeaderOps::default();
                header_ops(
                    &mut ops,
                    (&c.request_headers_to_remove, &c.request_headers_to_add),
                    (&c.response_headers_to_remove, &c.response_headers_to_add),
                )?;
                clusters.push(WeightedCluster { name: c.name.as_str().into(), weight: c.weight.unwrap_or(0), ops });
            }
        }
        None => refuse!("cluster is missing"),
    }
    let total = clusters.iter().fold(0u32, |sum, c| sum.saturating_add(c.weight));
    if total == 0 || clusters.iter().any(|c| c.name.is_empty()) {
        refuse!("clusters: their weights are all 0, or one has no name");
    }
    let regex_rewrite = match &a.regex_rewrite {
        None => None,
        Some(r) => {
            let Some(pattern) = &r.pattern else { refuse!("regex_rewrite has no pattern") };
            Some((part_regex(&pattern.regex)?, substitution(&r.substitution)))
        }
    };
    let host_rewrite = match &a.host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(header_value(host)?),
    };
    let longest = a.max_stream_duration.as_ref();
    Ok(Forward {
        clusters,
        total,
        prefix_rewrite: Some(a.prefix_rewrite.clone()).filter(|p| !p.is_empty()),
        regex_rewrite,
        host_rewrite,
        forwarded_host: a.append_x_forwarded_host,
        // As in Envoy: absent is 15 s.
        timeout: match &a.timeout {
            None => Some(Duration::from_secs(15)),
            Some(_) => timeout("timeout", a.timeout.as_ref())?,
        },
        longest_stream: timeout("max_stream_duration", longest.and_then(|l| l.max_stream_duration.as_ref()))?,
        retry: a.retry_policy.as_ref().map(retry).transpose().at("retry_policy")?,
        upgrades: a
            .upgrade_configs
            .iter()
            .map(|u| (u.upgrade_type.to_ascii_lowercase(), u.enabled.unwrap_or(true)))
            .collect(),
        mirrors: a
            .request_mirror_policies
            .iter()
            .map(mirror)
            .collect::<Result<_, _>>()
            .at("request_mirror_policies")?,
        hash: a.hash_policy.iter().map(hash::policy).collect::<Result<_, _>>().at("hash_policy")?,
    })
}

fn mirror(m: &proto::route_action::RequestMirrorPolicy) -> Result<Mirror, Refused> {
    if m.cluster.is_empty() {
        refuse!("cluster is missing");
    }
    let share = m.runtime_fraction.as_ref().map_or(1_000_000, |f| share(f.default_value.as_ref()));
    Ok(Mirror { cluster: m.cluster.as_str().into(), share })
}

/// `\1` becomes `${1}`.
fn substitution(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(d)) if d.is_ascii_digit() => {
                out.push_str("${");
                out.push(*d);
                out.push('}');
                chars.next();
            }
            ('\\', Some('\\')) => {
                out.push('\\');
                chars.next();
            }
            ('$', _) => out.push_str("$$"),
            (c, _) => out.push(c),
        }
    }
    out
}

fn redirect(r: &proto::RedirectAction) -> Result<Redirect, Refused> {
    use proto::redirect_action::{
        PathRewriteSpecifier as Path, RedirectResponseCode as Code, SchemeRewriteSpecifier as Scheme,
    };
    let status = match Code::try_from(r.response_code) {
        Ok(Code::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(Code::Found) => StatusCode::FOUND,
        Ok(Code::SeeOther) => StatusCode::SEE_OTHER,
        Ok(Code::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(Code::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => refuse!("response_code {} is unknown", r.response_code),
    };
    let (path, prefix) = match &r.path_rewrite_specifier {
        None => (None, None),
        Some(Path::PathRedirect(p)) => (Some(p.clone()), None),
        Some(Path::PrefixRewrite(p)) => (None, Some(p.clone())),
    };
    Ok(Redirect {
        status,
        scheme: match &r.scheme_rewrite_specifier {
            Some(Scheme::HttpsRedirect(true)) => Some("https".into()),
            Some(Scheme::SchemeRedirect(s)) => Some(s.clone()),
            _ => None,
        },
        host: Some(r.host_redirect.clone()).filter(|h| !h.is_empty()),
        port: u16::try_from(r.port_redirect).ok().filter(|p| *p != 0),
        path,
        prefix,
        strip_query: r.strip_query,
    })
}

fn respond(d: &proto::DirectResponseAction) -> Result<Action, Refused> {
    use core::data_source::Specifier;
    let status = u16::try_from(d.status).ok().and_then(|s| StatusCode::from_u16(s).ok());
    let Some(status) = status.filter(|s| s.as_u16() >= 200) else { refuse!("status {} is no final status", d.status) };
    let body = match d.body.as_ref().and_then(|b| b.specifier.as_ref()) {
        None => Bytes::new(),
        Some(Specifier::InlineBytes(b)) => Bytes::copy_from_slice(b),
        Some(Specifier::InlineString(s)) => Bytes::copy_from_slice(s.as_bytes()),
        Some(Specifier::Filename(_)) => refuse!("body: files are not read"),
    };
    if body.len() > 1024 * 1024 {
        refuse!("body is larger than 1 MiB");
    }
    Ok(Action::Respond(status, body))
}

type Changes<'a> = (&'a [String], &'a [core::HeaderValueOption]);

fn header_ops(ops: &mut HeaderOps, request: Changes<'_>, response: Changes<'_>) -> Result<(), Refused> {
    for (list, (remove, add)) in [(&mut ops.request, request), (&mut ops.response, response)] {
        for name in remove {
            list.push(HeaderOp::Remove(header_name(name)?));
        }
        for option in add {
            let Some(header) = &option.header else { refuse!("a header to add has no name") };
            if option.append.is_some() {
                refuse!("header {:?}: append is not supported, append_action is", header.key);
            }
            if header.value.contains('%') && header.value.replace("%%", "").contains('%') {
                refuse!("header {:?}: variables such as {:?} are not supported", header.key, header.value);
            }
            let value = header_value(&header.value.replace("%%", "%"))?;
            if header.key.eq_ignore_ascii_case(":authority") || header.key.eq_ignore_ascii_case("host") {
                list.push(HeaderOp::Set(http::header::HOST, value));
                continue;
            }
            let name = header_name(&header.key)?;
            list.push(match HeaderAppendAction::try_from(option.append_action) {
                Ok(HeaderAppendAction::AppendIfExistsOrAdd) => HeaderOp::Append(name, value),
                Ok(HeaderAppendAction::AddIfAbsent) => HeaderOp::IfAbsent(name, value),
                Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => HeaderOp::Set(name, value),
                Ok(HeaderAppendAction::OverwriteIfExists) => HeaderOp::IfPresent(name, value),
                Err(_) => refuse!("append_action {} is unknown", option.append_action),
            });
        }
    }
    Ok(())
}

fn header_name(name: &str) -> Result<HeaderName, Refused> {
    // Framing is ours: who could set these could smuggle.
    let framing = ["content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];
    match HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()) {
        Ok(name) if !framing.contains(&name.as_str()) => Ok(name),
        _ => refuse!("{name:?} is no header that a route may change"),
    }
}

fn header_value(value: &str) -> Result<HeaderValue, Refused> {
    HeaderValue::from_str(value).map_err(|_| Refused(format!("{value:?} can't be a header's value")))
}
