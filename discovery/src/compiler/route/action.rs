//! What is done with a request: a VirtualService's routes as xDS says them.
//!
//! In: a route of a VirtualService and one of its matches. Out: the route, and the clusters it leads to. Invariant:
//! destinations are named as CDS names them, whether they exist or not: who is missing answers 503, not 404.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use hawser_api::istio::retries_on;
use hawser_api::istio::virtual_service::{
    Destination, HeaderOperations, Headers, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, HttpRouteDestination,
    RedirectPort,
};
use hawser_api::names::OutboundCluster;
use hawser_api::proto::core::{
    DataSource, HeaderValue, HeaderValueOption, data_source::Specifier, header_value_option::HeaderAppendAction,
};
use hawser_api::proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use hawser_api::proto::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use hawser_api::proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use hawser_api::proto::route::{
    DirectResponseAction, RedirectAction, RetryPolicy, Route, RouteAction, RouteMatch, WeightedCluster,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    retry_policy::{RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority},
    route::Action,
    route_action::{ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration},
    route_match::PathSpecifier,
    weighted_cluster::ClusterWeight,
};

use super::{filters, hash};
use crate::compiler::context::Context;
use crate::compiler::proto::{any, duration, name, regex};
use crate::registry::resolve;
use crate::view::Class;

const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const GRPC_RETRY_ON: [&str; 5] = ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"];

/// One route of a VirtualService of `namespace`.
pub(super) fn route(context: &Context<'_>, http: &HttpRoute, r#match: RouteMatch, namespace: &str, port: u16) -> Route {
    let mut made = Route {
        name: if http.name.is_empty() { "default".to_owned() } else { http.name.clone() },
        typed_per_filter_config: filters::of_route(http, context.view.class),
        ..Route::default()
    };
    if let Some(redirect) = &http.redirect {
        made.action = Some(Action::Redirect(redirection(redirect, port)));
    } else if let Some(response) = &http.direct_response {
        let body = response.body.as_ref().and_then(|body| match (&body.string, &body.bytes) {
            (Some(text), _) => Some(Specifier::InlineString(text.clone())),
            (None, Some(bytes)) => {
                base64::engine::general_purpose::STANDARD.decode(bytes).ok().map(Specifier::InlineBytes)
            }
            (None, None) => None,
        });
        made.action = Some(Action::DirectResponse(DirectResponseAction {
            status: response.status,
            body: body.map(|specifier| DataSource { specifier: Some(specifier) }),
        }));
    } else {
        let mut action = match to("", context.view.class, Some(retries(http.retries.as_ref(), context.view.class))) {
            Action::Route(action) => action,
            other => return Route { r#match: Some(r#match), action: Some(other), ..made },
        };
        let (specifier, single) = destinations(context, &http.route, namespace, port);
        action.cluster_specifier = Some(specifier);
        action.request_mirror_policies = filters::mirrors(context, http, namespace, port);
        if let Some(limit) = http.timeout {
            set_timeout(&mut action, context.view.class, limit.get());
        }
        if let Some(rewrite) = &http.rewrite {
            rewriting(rewrite, &r#match, &mut action);
        }
        let operations = Operations::of(http.headers.as_ref()).and(Operations::of(single));
        if let Some(host) = operations.host {
            action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host));
        }
        made.action = Some(Action::Route(action));
        made.request_headers_to_add = operations.request_add;
        made.request_headers_to_remove = operations.request_remove;
        made.response_headers_to_add = operations.response_add;
        made.response_headers_to_remove = operations.response_remove;
        made.r#match = Some(r#match);
        return made;
    }
    let operations = Operations::of(http.headers.as_ref());
    made.response_headers_to_add = operations.response_add;
    made.response_headers_to_remove = operations.response_remove;
    made.r#match = Some(r#match);
    made
}

/// To one cluster, without a limit of time.
pub(in crate::compiler) fn to(cluster: &str, class: Class, retries: Option<RetryPolicy>) -> Action {
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        retry_policy: retries,
        ..RouteAction::default()
    };
    if class != Class::Grpc {
        set_timeout(&mut action, class, Duration::ZERO);
    }
    Action::Route(action)
}

/// Says what is hashed of a route's requests.
pub(super) fn hashes(context: &Context<'_>, route: &mut Route) {
    if let Some(Action::Route(action)) = &mut route.action {
        action.hash_policy = hash::of_requests(context, destined(action).iter().map(String::as_str));
    }
}

fn destined(action: &RouteAction) -> Vec<String> {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![name.clone()],
        Some(ClusterSpecifier::WeightedClusters(all)) => all.clusters.iter().map(|c| c.name.clone()).collect(),
        None => Vec::new(),
    }
}

/// The clusters that a route leads to.
pub(super) fn clusters(route: &Route) -> Vec<String> {
    match &route.action {
        Some(Action::Route(action)) => {
            let mut all = destined(action);
            all.extend(action.request_mirror_policies.iter().map(|mirror| mirror.cluster.clone()));
            all
        }
        _ => Vec::new(),
    }
}

/// What is tried again where nobody says otherwise: only what has not been begun, or says that it may.
pub(super) fn default_retries(class: Class) -> RetryPolicy {
    retries(None, class)
}

fn retries(said: Option<&HttpRetry>, class: Class) -> RetryPolicy {
    let on = said.map(|r| r.retry_on.as_str()).filter(|on| !on.is_empty()).unwrap_or(RETRY_ON);
    let words: Vec<&str> = on.split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
    let codes: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let said_word = |word: &&str| word.parse::<u32>().is_err() && retries_on(word);
    let mut words: Vec<&str> = words.into_iter().filter(said_word).collect();
    if class == Class::Grpc {
        words.retain(|word| GRPC_RETRY_ON.contains(word));
    } else if !codes.is_empty() && !words.contains(&"retriable-status-codes") {
        words.push("retriable-status-codes");
    }
    let default_codes = said.is_none_or(|r| r.retry_on.is_empty());
    let attempts = said.map_or(2, |r| u32::try_from(r.attempts).unwrap_or(0));
    let elsewhere = said.and_then(|r| r.retry_ignore_previous_hosts).unwrap_or(true) && class != Class::Grpc;
    let priorities = said.and_then(|r| r.retry_remote_localities).unwrap_or(false) && class != Class::Grpc;
    RetryPolicy {
        retry_on: words.join(","),
        retry_priority: priorities.then(previous_priorities),
        num_retries: Some(attempts),
        per_try_timeout: said.and_then(|r| r.per_try_timeout).map(|d| duration(d.get())),
        retry_host_predicate: elsewhere.then(previous_hosts).into_iter().collect(),
        host_selection_retry_max_attempts: if elsewhere { 5 } else { 0 },
        retriable_status_codes: match class {
            Class::Grpc => Vec::new(),
            _ if default_codes => vec![503],
            _ => codes,
        },
        retry_back_off: said
            .and_then(|r| r.backoff)
            .filter(|d| !d.get().is_zero())
            .map(|base| RetryBackOff { base_interval: Some(duration(base.get())), max_interval: None }),
    }
}

/// As Istio has it: what failed twice near by is tried farther away.
fn previous_priorities() -> RetryPriority {
    let config = any(name::PREVIOUS_PRIORITIES, &PreviousPrioritiesConfig { update_frequency: 2 });
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(config)),
    }
}

fn previous_hosts() -> RetryHostPredicate {
    let config = any(name::PREVIOUS_HOSTS, &PreviousHostsPredicate {});
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
    }
}

fn set_timeout(action: &mut RouteAction, class: Class, limit: Duration) {
    let limit = duration(limit);
    if class == Class::Grpc {
        let stream = MaxStreamDuration { max_stream_duration: Some(limit), grpc_timeout_header_max: None };
        action.max_stream_duration = Some(stream);
        return;
    }
    action.timeout = Some(limit);
    if class == Class::Envoy {
        // As Istio does: an Envoy that sees a stream's own limits forgets the route's.
        action.max_grpc_timeout = Some(limit);
        return;
    }
    action.max_stream_duration =
        Some(MaxStreamDuration { max_stream_duration: None, grpc_timeout_header_max: Some(limit) });
}

/// Where requests go; headers of the only destination belong to the route.
fn destinations<'a>(
    context: &Context<'_>,
    all: &'a [HttpRouteDestination],
    namespace: &str,
    port: u16,
) -> (ClusterSpecifier, Option<&'a Headers>) {
    let mut weighted: Vec<&HttpRouteDestination> = all.iter().filter(|d| d.weight > 0).collect();
    if weighted.is_empty() {
        weighted = all.iter().take(1).collect();
    }
    if let [only] = weighted.as_slice() {
        let cluster = cluster(context, &only.destination, namespace, port);
        return (ClusterSpecifier::Cluster(cluster), only.headers.as_ref());
    }
    let clusters = weighted
        .into_iter()
        .map(|d| {
            let operations = Operations::of(d.headers.as_ref());
            ClusterWeight {
                name: cluster(context, &d.destination, namespace, port),
                weight: Some(u32::try_from(d.weight).unwrap_or(0)),
                request_headers_to_add: operations.request_add,
                request_headers_to_remove: operations.request_remove,
                response_headers_to_add: operations.response_add,
                response_headers_to_remove: operations.response_remove,
            }
        })
        .collect();
    (ClusterSpecifier::WeightedClusters(WeightedCluster { clusters }), None)
}

/// The cluster of a destination that a rule of `namespace` names.
pub(in crate::compiler) fn cluster(
    context: &Context<'_>,
    destination: &Destination,
    namespace: &str,
    port: u16,
) -> String {
    let Some(host) = resolve(&destination.host, namespace, &context.settings().domain) else {
        return hawser_api::names::clusters::BLACK_HOLE.to_owned();
    };
    let host = context.meant(host);
    let said = destination.port.as_ref().and_then(|p| p.number.number());
    let port = said.unwrap_or_else(|| match context.service(&host).map(|s| s.service.ports.as_slice()) {
        Some([only]) => only.port,
        _ => port,
    });
    OutboundCluster::with_subset(host, port, destination.subset.as_str()).to_string()
}

fn redirection(redirect: &HttpRedirect, port: u16) -> RedirectAction {
    let path = if !redirect.prefix_rewrite.is_empty() {
        Some(PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone()))
    } else {
        Some(&redirect.uri).filter(|uri| !uri.is_empty()).cloned().map(PathRewriteSpecifier::PathRedirect)
    };
    let code = match redirect.redirect_code {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let scheme = Some(&redirect.scheme).filter(|scheme| !scheme.is_empty());
    RedirectAction {
        host_redirect: redirect.authority.clone(),
        path_rewrite_specifier: path,
        response_code: code as i32,
        scheme_rewrite_specifier: scheme.cloned().map(SchemeRewriteSpecifier::SchemeRedirect),
        strip_query: false,
        port_redirect: match (redirect.port.number(), redirect.derive_port) {
            (Some(number), _) => number.into(),
            (None, Some(RedirectPort::Request)) => port.into(),
            (None, Some(RedirectPort::ProtocolDefault)) if redirect.scheme == "https" => 443,
            (None, Some(RedirectPort::ProtocolDefault)) => 80,
            (None, None) => 0,
        },
    }
}

fn rewriting(rewrite: &HttpRewrite, r#match: &RouteMatch, action: &mut RouteAction) {
    if !rewrite.authority.is_empty() {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(rewrite.authority.clone()));
    }
    let substitute = |pattern: &str, by: &str| RegexMatchAndSubstitute {
        pattern: Some(regex(pattern)),
        substitution: by.to_owned(),
    };
    if let Some(r) = &rewrite.uri_regex_rewrite {
        action.regex_rewrite = Some(substitute(&r.r#match, &r.rewrite));
    } else if !rewrite.uri.is_empty() {
        match &r#match.path_specifier {
            Some(PathSpecifier::SafeRegex(pattern)) => {
                action.regex_rewrite = Some(substitute(&pattern.regex, &rewrite.uri));
            }
            _ => action.prefix_rewrite = rewrite.uri.clone(),
        }
    }
}

/// Changes of headers.
#[derive(Default)]
struct Operations {
    request_add: Vec<HeaderValueOption>,
    request_remove: Vec<String>,
    response_add: Vec<HeaderValueOption>,
    response_remove: Vec<String>,
    /// The authority is no header that can be set: it is rewritten.
    host: Option<String>,
}

impl Operations {
    fn of(headers: Option<&Headers>) -> Self {
        let mut made = Self::default();
        let Some(headers) = headers else { return made };
        if let Some(request) = &headers.request {
            let is_host = |name: &str| name.eq_ignore_ascii_case("host") || name == ":authority";
            made.host = request.set.iter().find(|(name, _)| is_host(name)).map(|(_, value)| value.clone());
            made.request_add = additions(request, is_host);
            made.request_remove = request.remove.clone();
        }
        if let Some(response) = &headers.response {
            made.response_add = additions(response, |_| false);
            made.response_remove = response.remove.clone();
        }
        made
    }

    fn and(mut self, other: Self) -> Self {
        self.request_add.extend(other.request_add);
        self.request_remove.extend(other.request_remove);
        self.response_add.extend(other.response_add);
        self.response_remove.extend(other.response_remove);
        self.host = self.host.or(other.host);
        self
    }
}

fn additions(operations: &HeaderOperations, skip: impl Fn(&str) -> bool) -> Vec<HeaderValueOption> {
    let option = |values: &BTreeMap<String, String>, action: HeaderAppendAction| {
        let values = values.iter().filter(|(key, _)| !skip(key));
        values
            .map(|(key, value)| HeaderValueOption {
                header: Some(HeaderValue { key: key.clone(), value: value.clone() }),
                append_action: action as i32,
                append: None,
            })
            .collect::<Vec<_>>()
    };
    let mut all = option(&operations.set, HeaderAppendAction::OverwriteIfExistsOrAdd);
    all.extend(option(&operations.add, HeaderAppendAction::AppendIfExistsOrAdd));
    all
}
