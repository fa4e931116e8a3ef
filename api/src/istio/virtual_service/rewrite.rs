//! What a route does besides routing: redirects, direct responses, rewrites, retries, CORS.

use base64::Engine as _;

use crate::istio::check::{Checker, net, text};
use crate::istio::duration::at_least_1ms;
use crate::istio::error::shown;
use crate::istio::message::{enumeration, message};
use crate::istio::{Duration, Port, StringMatch};

message! {
    /// A redirect.
    pub struct HttpRedirect [check_redirect] {
        /// New path.
        uri: String,
        /// New beginning of the path, in place of the prefix that matched.
        prefix_rewrite: String,
        /// New authority.
        authority: String,
        /// New port.
        port: Port,
        /// New port, taken from elsewhere.
        derive_port: Option<RedirectPort>,
        /// New scheme.
        scheme: String,
        /// Status, 301 unless set.
        redirect_code: u32,
    }

    /// A fixed answer.
    pub struct HttpDirectResponse [check_direct_response] {
        /// Status.
        status: u32,
        /// Body.
        body: Option<HttpBody>,
    }

    /// A body.
    pub struct HttpBody [check_body] {
        /// As text.
        string: Option<String>,
        /// As base64.
        bytes: Option<String>,
    }

    /// Changes of path and authority before a request goes on.
    pub struct HttpRewrite [check_rewrite] {
        /// New path, or new prefix if a prefix matched.
        uri: String,
        /// New authority.
        authority: String,
        /// Change the path by a regular expression.
        uri_regex_rewrite: Option<RegexRewrite>,
    }

    /// A change by a regular expression.
    pub struct RegexRewrite [check_regex_rewrite] {
        /// What to replace (RE2 syntax).
        r#match: String,
        /// With what; `\1` is a group.
        rewrite: String,
    }

    /// When to try again.
    pub struct HttpRetry [check_retry] {
        /// How often; 0 is never.
        attempts: i32,
        /// For each try; unset is the route's timeout.
        per_try_timeout: Option<Duration>,
        /// Conditions, with commas between.
        retry_on: String,
        /// Also elsewhere than nearby.
        retry_remote_localities: Option<bool>,
        /// Not at the endpoints that failed.
        retry_ignore_previous_hosts: Option<bool>,
        /// Shortest time between tries.
        backoff: Option<Duration>,
    }

    /// Cross-origin requests.
    pub struct CorsPolicy [check_cors] {
        /// Old form of `allowOrigins`.
        allow_origin: Vec<String>,
        /// Origins that may call.
        allow_origins: Vec<StringMatch>,
        /// Methods.
        allow_methods: Vec<String>,
        /// Headers of requests.
        allow_headers: Vec<String>,
        /// Headers that scripts may see.
        expose_headers: Vec<String>,
        /// How long an answer may be kept.
        max_age: Option<Duration>,
        /// With credentials.
        allow_credentials: Option<bool>,
        /// Preflights from origins that may not call.
        unmatched_preflights: UnmatchedPreflights,
    }
}

enumeration! {
    /// Where a redirect's port comes from.
    pub enum RedirectPort {
        /// 80 or 443.
        ProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        /// The request's.
        Request = "FROM_REQUEST_PORT",
    }

    /// What happens to preflights from origins that may not call.
    pub enum UnmatchedPreflights {
        /// As `FORWARD`.
        Unspecified = "UNSPECIFIED",
        /// They go on to the service.
        Forward = "FORWARD",
        /// They are answered here.
        Ignore = "IGNORE",
    }
}

fn check_redirect(redirect: &HttpRedirect, c: &mut Checker) {
    c.at_most_one(&[("port", redirect.port.number().is_some()), ("derivePort", redirect.derive_port.is_some())]);
    c.at_most_one(&[("uri", !redirect.uri.is_empty()), ("prefixRewrite", !redirect.prefix_rewrite.is_empty())]);
    if !matches!(redirect.redirect_code, 0 | 301 | 302 | 303 | 307 | 308) {
        c.wrong("redirect_code", format!("Invalid value: {} is not 301, 302, 303, 307 or 308", redirect.redirect_code));
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        c.wrong("scheme", format!("Invalid value: \"{}\" is not http or https", shown(&redirect.scheme)));
    }
    let nothing = HttpRedirect { redirect_code: 0, ..redirect.clone() } == HttpRedirect::default();
    if nothing {
        c.problem("it changes nothing: one of uri, prefixRewrite, authority, port, derivePort, scheme is required");
    }
    plain(c, "uri", &redirect.uri);
    plain(c, "prefixRewrite", &redirect.prefix_rewrite);
    plain(c, "authority", &redirect.authority);
}

fn check_direct_response(response: &HttpDirectResponse, c: &mut Checker) {
    if response.status == 0 {
        return c.required("status", false);
    }
    c.field("status", |c| text::tell(c, net::status(response.status, 200)));
}

fn check_body(body: &HttpBody, c: &mut Checker) {
    const LARGEST: usize = 1 << 20;
    c.at_most_one(&[("string", body.string.is_some()), ("bytes", body.bytes.is_some())]);
    if body.string.as_ref().is_some_and(|s| s.len() > LARGEST) {
        c.wrong("string", "a body has at most 1 MiB");
    }
    let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text);
    if body.bytes.as_ref().is_some_and(|text| decode(text).is_err()) {
        c.wrong("bytes", "it is not base64");
    }
}

fn check_rewrite(rewrite: &HttpRewrite, c: &mut Checker) {
    c.at_most_one(&[("uri", !rewrite.uri.is_empty()), ("uriRegexRewrite", rewrite.uri_regex_rewrite.is_some())]);
    if *rewrite == HttpRewrite::default() {
        c.problem("it changes nothing: one of uri, authority, uriRegexRewrite is required");
    }
    plain(c, "uri", &rewrite.uri);
    plain(c, "authority", &rewrite.authority);
}

fn check_regex_rewrite(rewrite: &RegexRewrite, c: &mut Checker) {
    c.field("match", |c| text::tell(c, text::regex(&rewrite.r#match)));
    c.required("rewrite", !rewrite.rewrite.is_empty());
    plain(c, "rewrite", &rewrite.rewrite);
}

/// Conditions of `retryOn`, besides numbers of statuses.
const CONDITIONS: [&str; 19] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "unknown",
    "unauthenticated",
    "aborted",
];

fn check_retry(retry: &HttpRetry, c: &mut Checker) {
    net::count(c, "attempts", retry.attempts);
    at_least_1ms(c, "per_try_timeout", retry.per_try_timeout);
    at_least_1ms(c, "backoff", retry.backoff);
    if retry.attempts == 0 && (retry.per_try_timeout.is_some() || !retry.retry_on.is_empty()) {
        c.wrong(
            "attempts",
            "it is 0, which means never to try again, yet other fields say when; set it, or take them out",
        );
    }
    for condition in retry.retry_on.split(',').map(str::trim).filter(|_| !retry.retry_on.is_empty()) {
        let status = condition.parse::<u32>().is_ok_and(|s| net::status(s, 100).is_ok());
        if !status && !CONDITIONS.contains(&condition) {
            let known = CONDITIONS.join(", ");
            c.wrong("retry_on", format!("\"{}\" is neither a status nor one of {known}", shown(condition)));
        }
    }
}

fn check_cors(cors: &CorsPolicy, c: &mut Checker) {
    const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
    c.at_most_one(&[("allowOrigins", !cors.allow_origins.is_empty()), ("allowOrigin", !cors.allow_origin.is_empty())]);
    c.field("allow_origins", |c| {
        for (index, origin) in cors.allow_origins.iter().enumerate() {
            c.index(index, |c| {
                if *origin == StringMatch::Present {
                    c.problem("one of exact, prefix, regex is required");
                }
            });
        }
    });
    c.each("allow_methods", &cors.allow_methods, |c, method| {
        if method != "*" && !METHODS.contains(&method.as_str()) {
            c.problem(format!("\"{}\" is not an HTTP method", shown(method)));
        }
    });
    for (field, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        c.each(field, names, |c, name| {
            if name != "*" {
                text::tell(c, text::header_name(name));
            }
        });
    }
    if let Some(age) = cors.max_age.filter(|age| age.0.subsec_nanos() != 0) {
        c.wrong("max_age", format!("Invalid value: {age}: it is in whole seconds"));
    }
    at_least_1ms(c, "max_age", cors.max_age);
}

/// Text that becomes part of a request line or header.
fn plain(c: &mut Checker, field: &str, value: &str) {
    c.field(field, |c| text::tell(c, text::header_value(value)));
}
