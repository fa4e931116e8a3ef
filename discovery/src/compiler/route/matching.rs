//! What a request must be: a VirtualService's matches as xDS says them.
//!
//! In: a route of a VirtualService, a view. Out: matches. Invariant: what is known of the caller is decided here, once;
//! what is of the request is left to the proxy.

use std::collections::BTreeMap;

use hawser_api::istio::StringMatch;
use hawser_api::istio::virtual_service::{HttpMatchRequest, HttpRoute, MESH_GATEWAY};
use hawser_api::proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use hawser_api::proto::route::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};

use super::everything;
use crate::compiler::proto::regex;
use crate::view::View;

/// The matches of a route that requests of this view at this port may meet.
pub(super) fn matches(route: &HttpRoute, view: &View, port: u16) -> Vec<RouteMatch> {
    if route.r#match.is_empty() {
        return vec![everything()];
    }
    route.r#match.iter().filter(|m| concerns(m, view, port)).map(request).collect()
}

fn concerns(m: &HttpMatchRequest, view: &View, port: u16) -> bool {
    m.port.number().is_none_or(|number| number == port)
        && (m.gateways.is_empty() || m.gateways.iter().any(|g| g == MESH_GATEWAY))
        && (m.source_namespace.is_empty() || *m.source_namespace == *view.namespace)
        && labelled(&m.source_labels, &view.labels)
}

pub(in crate::compiler) fn labelled(wanted: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn request(m: &HttpMatchRequest) -> RouteMatch {
    let path = match &m.uri {
        None | Some(StringMatch::Present) => PathSpecifier::Prefix("/".to_owned()),
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(StringMatch::Prefix(path)) => PathSpecifier::Prefix(path.clone()),
        Some(StringMatch::Regex(pattern)) => PathSpecifier::SafeRegex(regex(pattern)),
    };
    let mut headers: Vec<HeaderMatcher> = m.headers.iter().map(|(name, value)| header(name, value, false)).collect();
    headers.extend(m.without_headers.iter().map(|(name, value)| header(name, value, true)));
    for (name, value) in [(":method", &m.method), (":authority", &m.authority), (":scheme", &m.scheme)] {
        headers.extend(value.iter().map(|value| header(name, value, false)));
    }
    let query = |(name, value): (&String, &StringMatch)| QueryParameterMatcher {
        name: name.clone(),
        query_parameter_match_specifier: Some(match text(value) {
            Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
            None => QueryParameterMatchSpecifier::PresentMatch(true),
        }),
    };
    RouteMatch {
        case_sensitive: m.ignore_uri_case.then_some(false),
        headers,
        query_parameters: m.query_params.iter().map(query).collect(),
        runtime_fraction: None,
        path_specifier: Some(path),
    }
}

fn header(name: &str, value: &StringMatch, without: bool) -> HeaderMatcher {
    let matcher = text(value);
    HeaderMatcher {
        name: name.to_ascii_lowercase(),
        invert_match: without,
        // A header that is not there is not equal to anything either.
        treat_missing_header_as_empty: without && matcher.is_some(),
        header_match_specifier: Some(match matcher {
            Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
    }
}

/// `None` for mere presence.
pub(super) fn text(value: &StringMatch) -> Option<StringMatcher> {
    let pattern = match value {
        StringMatch::Present => return None,
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(pattern) => MatchPattern::SafeRegex(regex(pattern)),
    };
    Some(StringMatcher { ignore_case: false, match_pattern: Some(pattern) })
}
