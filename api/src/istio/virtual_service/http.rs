//! Routes of HTTP: what they match, where they lead.

use std::collections::BTreeMap;

use super::{CorsPolicy, HttpDirectResponse, HttpFaultInjection, HttpRedirect, HttpRetry, HttpRewrite, Percent};
use crate::istio::check::{Checker, net, text};
use crate::istio::duration::at_least_1ms;
use crate::istio::message::message;
use crate::istio::string_match::not_empty;
use crate::istio::{Duration, Port, StringMatch};

message! {
    /// A route of HTTP.
    pub struct HttpRoute [check_route] {
        /// For people and metrics.
        name: String,
        /// Any of these; none is every request.
        r#match: Vec<HttpMatchRequest>,
        /// Where requests go, by weight.
        route: Vec<HttpRouteDestination>,
        /// Answer with a redirect.
        redirect: Option<HttpRedirect>,
        /// Answer with this.
        direct_response: Option<HttpDirectResponse>,
        /// Another VirtualService says.
        delegate: Option<Delegate>,
        /// Change path or authority.
        rewrite: Option<HttpRewrite>,
        /// For the whole request, retries included.
        timeout: Option<Duration>,
        /// Try again.
        retries: Option<HttpRetry>,
        /// Fail or delay on purpose.
        fault: Option<HttpFaultInjection>,
        /// Send a copy there.
        mirror: Option<Destination>,
        /// Send copies there.
        mirrors: Vec<HttpMirrorPolicy>,
        /// Share of requests that are mirrored, in percent; old form of `mirrorPercentage`.
        #[serde(alias = "mirror_percent")]
        mirror_percent: Option<u32>,
        /// Share of requests that are mirrored.
        mirror_percentage: Option<Percent>,
        /// Cross-origin requests.
        cors_policy: Option<CorsPolicy>,
        /// Change headers, for all destinations.
        headers: Option<Headers>,
    }

    /// What a request must be; all that is set must hold.
    pub struct HttpMatchRequest [check_match] {
        /// For people and metrics.
        name: String,
        /// Path and query.
        uri: Option<StringMatch>,
        /// `http` or `https`.
        scheme: Option<StringMatch>,
        /// Method.
        method: Option<StringMatch>,
        /// Authority.
        authority: Option<StringMatch>,
        /// Headers, by name.
        headers: BTreeMap<String, StringMatch>,
        /// The port that was dialled.
        port: Port,
        /// Labels of the caller.
        source_labels: BTreeMap<String, String>,
        /// Gateways, instead of the VirtualService's own.
        gateways: Vec<String>,
        /// Parameters of the query.
        query_params: BTreeMap<String, StringMatch>,
        /// The uri's case does not matter; exact and prefix only.
        ignore_uri_case: bool,
        /// Headers that must not match.
        without_headers: BTreeMap<String, StringMatch>,
        /// Namespace of the caller.
        source_namespace: String,
        /// Prefix of metrics.
        stat_prefix: String,
    }

    /// A destination of HTTP and its share.
    pub struct HttpRouteDestination {
        /// Where.
        destination: Destination,
        /// Share among the route's destinations; alone it is all.
        weight: i32,
        /// Change headers, for this destination.
        headers: Option<Headers>,
    }

    /// A service, or part of it.
    pub struct Destination [check_destination] {
        /// The service.
        host: String,
        /// A subset of its DestinationRule.
        subset: String,
        /// Its port, needed if it has several.
        port: Option<PortSelector>,
    }

    /// A port of a service.
    pub struct PortSelector [check_port_selector] {
        /// Number.
        number: Port,
    }

    /// Where copies go.
    pub struct HttpMirrorPolicy {
        /// The service.
        destination: Destination,
        /// Share of requests; unset is all.
        percentage: Option<Percent>,
    }

    /// Changes of headers.
    pub struct Headers {
        /// Of requests.
        request: Option<HeaderOperations>,
        /// Of responses.
        response: Option<HeaderOperations>,
    }

    /// Changes of headers of one direction.
    pub struct HeaderOperations [check_headers] {
        /// Overwrite.
        set: BTreeMap<String, String>,
        /// Append.
        add: BTreeMap<String, String>,
        /// Take out.
        remove: Vec<String>,
    }

    /// A VirtualService that has the rest of the routes.
    pub struct Delegate [check_delegate] {
        /// Name.
        name: String,
        /// Namespace; empty is the same.
        namespace: String,
    }
}

fn check_route(route: &HttpRoute, c: &mut Checker) {
    let kinds = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ];
    c.exactly_one(&kinds);
    if route.route.is_empty() {
        let without = [
            ("rewrite", route.rewrite.is_some() && route.delegate.is_none()),
            ("retries", route.retries.is_some() && route.delegate.is_none()),
            ("mirror", route.mirror.is_some() && route.delegate.is_none()),
        ];
        for (field, _) in without.iter().filter(|(_, set)| *set) {
            c.wrong(field, "it needs a route: a redirect or a direct response never reaches a destination");
        }
    }
    c.field("route", |c| super::weights(c, &route.route.iter().map(|r| r.weight).collect::<Vec<_>>()));
    at_least_1ms(c, "timeout", route.timeout);
    c.at_most_one(&[("mirror", route.mirror.is_some()), ("mirrors", !route.mirrors.is_empty())]);
    c.at_most_one(&[
        ("mirrorPercentage", route.mirror_percentage.is_some()),
        ("mirrorPercent", route.mirror_percent.is_some()),
    ]);
    if let Some(percent) = route.mirror_percent {
        c.field("mirror_percent", |c| text::tell(c, net::percentage(f64::from(percent))));
    }
    let percentage = route.mirror_percentage.is_some() || route.mirror_percent.is_some();
    if percentage && route.mirror.is_none() {
        c.required("mirror", false);
    }
}

fn check_match(request: &HttpMatchRequest, c: &mut Checker) {
    for (field, value) in [
        ("uri", &request.uri),
        ("scheme", &request.scheme),
        ("method", &request.method),
        ("authority", &request.authority),
    ] {
        not_empty(c, field, value.as_ref());
    }
    for (field, headers) in [("headers", &request.headers), ("withoutHeaders", &request.without_headers)] {
        c.field(field, |c| {
            for name in headers.keys() {
                c.key(name, |c| {
                    text::tell(c, text::header_name(name));
                    if name.starts_with(':') {
                        c.problem("this is not matched as a header; use uri, method, authority or scheme");
                    }
                });
            }
        });
    }
    c.field("query_params", |c| {
        if request.query_params.contains_key("") {
            c.problem("a query parameter's name is empty");
        }
    });
    text::labels(c, "source_labels", &request.source_labels);
    super::gateways(c, &request.gateways);
    if !request.source_namespace.is_empty() {
        c.field("source_namespace", |c| text::tell(c, text::label(&request.source_namespace)));
    }
}

fn check_destination(destination: &Destination, c: &mut Checker) {
    if destination.host.is_empty() {
        return c.required("host", false);
    }
    c.field("host", |c| {
        if destination.host.starts_with('*') {
            c.problem("a destination can't be a wildcard; name one service");
        } else {
            text::tell(c, net::host(&destination.host));
        }
    });
    if !destination.subset.is_empty() {
        c.field("subset", |c| text::tell(c, text::label(&destination.subset)));
    }
}

fn check_port_selector(port: &PortSelector, c: &mut Checker) {
    crate::istio::port::required(c, "number", port.number);
}

fn check_headers(headers: &HeaderOperations, c: &mut Checker) {
    for (field, values) in [("set", &headers.set), ("add", &headers.add)] {
        c.field(field, |c| {
            for (name, value) in values {
                c.key(name, |c| {
                    text::tell(c, text::header_name(name));
                    text::tell(c, text::header_value(value));
                });
            }
        });
    }
    c.each("remove", &headers.remove, |c, name| text::tell(c, text::header_name(name)));
}

fn check_delegate(delegate: &Delegate, c: &mut Checker) {
    c.required("name", !delegate.name.is_empty());
    if !delegate.namespace.is_empty() {
        c.field("namespace", |c| text::tell(c, text::label(&delegate.namespace)));
    }
}
