//! What a cluster may use, and when one of its endpoints is left alone for a while.

use std::time::Duration;

use hawser_api::proto::cluster as proto;
use hawser_api::proto::envoy::config::common::matcher::v3::match_predicate::Rule;
use hawser_api::proto::envoy::extensions::upstreams::http::v3::http_protocol_options::OutlierDetection as OfHttp;
use hawser_api::proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use hawser_api::proto::route::header_matcher::HeaderMatchSpecifier;

use super::super::Refused;
use super::super::proto::{duration, refuse};

/// Limits of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections.
    pub connections: u32,
    /// Requests in flight.
    pub requests: u32,
    /// Retries in flight.
    pub retries: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Retries in flight as a share of the requests in flight, in percent, and how many may always be; instead of `retries`.
    pub budget: Option<(f64, u32)>,
}

impl Limits {
    /// How many retries may be in flight beside so many requests.
    pub fn retries_beside(&self, requests: u32) -> u32 {
        match self.budget {
            None => self.retries,
            Some((percent, least)) => ((f64::from(requests) * percent / 100.0) as u32).max(least),
        }
    }
}

/// When an endpoint is left alone for a while.
#[derive(Clone, Debug)]
pub struct Outlier {
    /// After so many answers of 500 and above, or failed connections, in a row; 0: never.
    pub consecutive_5xx: u32,
    /// After so many of 502, 503, 504, or failed connections, in a row; 0: never.
    pub consecutive_gateway: u32,
    /// After so many failed connections in a row, which then count for nothing else; 0: never.
    pub consecutive_local: u32,
    /// Whether failed connections are counted apart.
    pub split: bool,
    /// Statuses that count as errors, instead of 500 and above; none: those.
    pub codes: Vec<u16>,
    /// For so long, times the number of times.
    pub base: Duration,
    /// So much time of good behaviour takes one of these times back.
    pub interval: Duration,
    /// At most so much of a cluster, in percent.
    pub most_percent: u32,
}

pub(super) fn limits(breakers: Option<&proto::CircuitBreakers>) -> Limits {
    let found = breakers.and_then(|b| b.thresholds.iter().find(|t| t.priority == 0));
    let of = |value: Option<u32>| value.unwrap_or(u32::MAX);
    let budget = found.and_then(|t| t.retry_budget.as_ref());
    Limits {
        connections: of(found.and_then(|t| t.max_connections)),
        requests: of(found.and_then(|t| t.max_requests)),
        retries: found.and_then(|t| t.max_retries).unwrap_or(u32::MAX),
        pending: of(found.and_then(|t| t.max_pending_requests)),
        budget: budget.map(|b| {
            let percent = b.budget_percent.as_ref().map_or(20.0, |p| p.value);
            (percent.clamp(0.0, 100.0), b.min_retry_concurrency.unwrap_or(3))
        }),
    }
}

pub(super) fn outlier(o: &proto::OutlierDetection, http: Option<&OfHttp>) -> Result<Outlier, Refused> {
    let enforced = |count: Option<u32>, default, enforcing: Option<u32>, by_default: u32| {
        if enforcing.unwrap_or(by_default) == 0 { 0 } else { count.unwrap_or(default) }
    };
    let split = o.split_external_local_origin_errors;
    let local = enforced(o.consecutive_local_origin_failure, 5, o.enforcing_consecutive_local_origin_failure, 100);
    Ok(Outlier {
        consecutive_5xx: enforced(o.consecutive_5xx, 5, o.enforcing_consecutive_5xx, 100),
        consecutive_gateway: enforced(o.consecutive_gateway_failure, 5, o.enforcing_consecutive_gateway_failure, 0),
        consecutive_local: if split { local } else { 0 },
        split,
        codes: http.map(codes).transpose()?.unwrap_or_default(),
        base: duration("base_ejection_time", o.base_ejection_time.as_ref())?.unwrap_or(Duration::from_secs(30)),
        interval: duration("interval", o.interval.as_ref())?
            .unwrap_or(Duration::from_secs(10))
            .max(Duration::from_millis(1)),
        most_percent: o.max_ejection_percent.unwrap_or(10).min(100),
    })
}

/// Statuses as a matcher of responses says them: one, or one of several.
fn codes(http: &OfHttp) -> Result<Vec<u16>, Refused> {
    let rules = match http.error_matcher.as_ref().and_then(|matcher| matcher.rule.as_ref()) {
        None => return Ok(Vec::new()),
        Some(Rule::OrMatch(set)) => set.rules.iter().filter_map(|rule| rule.rule.as_ref()).collect(),
        Some(only) => vec![only],
    };
    let mut all = Vec::with_capacity(rules.len());
    for rule in rules {
        let Rule::HttpResponseHeadersMatch(of) = rule else { refuse!("error_matcher: only one level is supported") };
        let [header] = of.headers.as_slice() else { refuse!("error_matcher: one header of a response is supported") };
        let exact = match &header.header_match_specifier {
            Some(HeaderMatchSpecifier::StringMatch(m)) => match &m.match_pattern {
                Some(MatchPattern::Exact(text)) => text.parse().ok(),
                _ => None,
            },
            _ => None,
        };
        match exact {
            Some(status) if header.name == ":status" && !header.invert_match => all.push(status),
            _ => refuse!("error_matcher: only a status is supported"),
        }
    }
    all.sort_unstable();
    Ok(all)
}
