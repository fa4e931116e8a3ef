//! Matches and actions in a few words. For people: nothing reads them back.

use hawser_api::proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use hawser_api::proto::listener::FilterChainMatch;
use hawser_api::proto::route::{
    Route, RouteMatch, header_matcher::HeaderMatchSpecifier, query_parameter_matcher::QueryParameterMatchSpecifier,
    redirect_action::PathRewriteSpecifier, route, route_match::PathSpecifier,
};

use super::resource::clusters;

/// A chain's match.
pub(super) fn chain_match(m: Option<&FilterChainMatch>) -> String {
    let Some(m) = m else { return "any".to_owned() };
    let mut all = Vec::new();
    all.extend(m.destination_port.map(|port| format!("port {port}")));
    all.extend((!m.transport_protocol.is_empty()).then(|| match m.transport_protocol.as_str() {
        "raw_buffer" => "plaintext".to_owned(),
        other => other.to_owned(),
    }));
    for (what, list) in [("", &m.application_protocols), ("server name ", &m.server_names)] {
        all.extend((!list.is_empty()).then(|| format!("{what}{}", list.join("|"))));
    }
    if all.is_empty() { "any".to_owned() } else { all.join(", ") }
}

/// A route's match.
pub(super) fn route_match(m: Option<&RouteMatch>) -> String {
    let Some(m) = m else { return "any".to_owned() };
    let mut all = Vec::new();
    match &m.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) if prefix == "/" => {}
        Some(PathSpecifier::Prefix(prefix)) => all.push(format!("path {prefix}*")),
        Some(PathSpecifier::Path(path)) => all.push(format!("path {path}")),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => all.push(format!("path {prefix} or {prefix}/*")),
        Some(PathSpecifier::SafeRegex(regex)) => all.push(format!("path ~ {}", regex.regex)),
        None => {}
    }
    for header in &m.headers {
        let name = header.name.trim_start_matches(':');
        let not = if header.invert_match { "not " } else { "" };
        all.push(match &header.header_match_specifier {
            Some(HeaderMatchSpecifier::StringMatch(value)) => format!("{not}{name} {}", string(value)),
            Some(HeaderMatchSpecifier::PresentMatch(false)) => format!("{not}without {name}"),
            _ => format!("{not}with {name}"),
        });
    }
    for query in &m.query_parameters {
        all.push(match &query.query_parameter_match_specifier {
            Some(QueryParameterMatchSpecifier::StringMatch(value)) => format!("query {} {}", query.name, string(value)),
            _ => format!("query {}", query.name),
        });
    }
    if all.is_empty() { "any".to_owned() } else { all.join(", ") }
}

fn string(m: &StringMatcher) -> String {
    match &m.match_pattern {
        Some(MatchPattern::Exact(text)) => format!("= {text}"),
        Some(MatchPattern::Prefix(text)) => format!("= {text}*"),
        Some(MatchPattern::Suffix(text)) => format!("= *{text}"),
        Some(MatchPattern::Contains(text)) => format!("= *{text}*"),
        Some(MatchPattern::SafeRegex(regex)) => format!("~ {}", regex.regex),
        _ => "is there".to_owned(),
    }
}

/// Clusters with their shares, if there are several.
pub(super) fn shares(all: &[(String, u32)]) -> String {
    match all {
        [(only, _)] => only.clone(),
        all => {
            let total = total(all);
            let one = |(name, weight): &(String, u32)| format!("{name} {}%", u64::from(*weight) * 100 / total);
            all.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The sum of weights, never 0.
pub(super) fn total(all: &[(String, u32)]) -> u64 {
    all.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>().max(1)
}

/// Where a route leads.
pub(super) fn action(route: &Route) -> String {
    match &route.action {
        Some(route::Action::Redirect(to)) => {
            let mut place = to.host_redirect.clone();
            match &to.path_rewrite_specifier {
                Some(PathRewriteSpecifier::PathRedirect(path)) => place.push_str(path),
                Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => place.push_str(prefix),
                None => {}
            }
            format!("redirect to {place}")
        }
        Some(route::Action::DirectResponse(answer)) => format!("answer {}", answer.status),
        _ => shares(&clusters(route)),
    }
}
