//! Providers of authorization: what a proxy would refuse, or what would be open, is refused where it is written.

use std::time::Duration;

use super::{ExtAuthzGrpc, ExtAuthzHttp, ExtAuthzRequestBody};
use crate::hostname::Hostname;
use crate::istio::check::{Checker, text};
use crate::istio::error::shown;
use crate::istio::port;
use crate::proto::envoy::r#type::v3::StatusCode;

/// The largest body that is sent along.
const LARGEST_BODY: u32 = 1 << 20;

/// Policies name it in names of their own.
pub(super) fn name(c: &mut Checker, name: &str) {
    if !name.is_empty() {
        c.field("name", |c| text::tell(c, text::label(name)));
    }
}

pub(super) fn http(authz: &ExtAuthzHttp, c: &mut Checker) {
    service(c, &authz.service);
    port::required(c, "port", authz.port);
    timeout(c, authz.timeout.map(|t| t.get()));
    status(c, &authz.status_on_error);
    if !authz.path_prefix.is_empty() && !authz.path_prefix.starts_with('/') {
        c.wrong("pathPrefix", format!("\"{}\" does not begin with a slash", shown(&authz.path_prefix)));
    } else if authz.path_prefix.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'?' | b'#')) {
        c.wrong("pathPrefix", "it stands before paths, so it holds letters of a path only; escape others as %XX");
    }
    for (field, names) in [
        ("includeHeadersInCheck", &authz.include_headers_in_check),
        ("includeRequestHeadersInCheck", &authz.include_request_headers_in_check),
        ("headersToUpstreamOnAllow", &authz.headers_to_upstream_on_allow),
        ("headersToDownstreamOnDeny", &authz.headers_to_downstream_on_deny),
        ("headersToDownstreamOnAllow", &authz.headers_to_downstream_on_allow),
    ] {
        c.each(field, names, |c, name| match name.as_str() {
            "*" => c.problem("\"*\" alone is not taken; write a beginning (\"x-*\") or an end (\"*-id\")"),
            name => {
                let rest = name.strip_prefix('*').or_else(|| name.strip_suffix('*')).unwrap_or(name);
                text::tell(c, text::header_name(rest));
            }
        });
    }
    c.field("includeAdditionalHeadersInCheck", |c| {
        for (name, value) in &authz.include_additional_headers_in_check {
            c.key(name, |c| {
                text::tell(c, text::header_name(name));
                text::tell(c, text::header_value(value));
                if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
                    c.problem("it is said by the request itself; take it out");
                }
                if value.replace("%%", "").contains('%') {
                    c.problem("variables such as %REQ(x)% are not honoured; write %% for a percent sign");
                }
            });
        }
    });
    body(c, authz.include_request_body_in_check.as_ref());
}

pub(super) fn grpc(authz: &ExtAuthzGrpc, c: &mut Checker) {
    service(c, &authz.service);
    port::required(c, "port", authz.port);
    timeout(c, authz.timeout.map(|t| t.get()));
    status(c, &authz.status_on_error);
    body(c, authz.include_request_body_in_check.as_ref());
}

fn service(c: &mut Checker, service: &str) {
    if service.is_empty() {
        return c.required("service", false);
    }
    let (namespace, host) = service.split_once('/').map_or((None, service), |(ns, host)| (Some(ns), host));
    c.field("service", |c| {
        if let Some(namespace) = namespace {
            text::tell(c, text::label(namespace));
        }
        match host.parse::<Hostname>() {
            Ok(host) if !host.is_wildcard() => {}
            _ => c.problem(format!(
                "\"{}\" is not a service; write its whole host name, or namespace/host",
                shown(service)
            )),
        }
    });
}

fn timeout(c: &mut Checker, timeout: Option<Duration>) {
    if timeout.is_some_and(|t| t < Duration::from_millis(1)) {
        c.wrong("timeout", "nothing answers at once; write 1ms or more, or leave it out for 10 minutes");
    }
}

fn status(c: &mut Checker, status: &str) {
    let known = |code: i32| code >= 200 && StatusCode::try_from(code).is_ok();
    if !status.is_empty() && !status.parse().is_ok_and(known) {
        let what = format!("\"{}\" is not a status of HTTP that has a name; write 403 or 503, say", shown(status));
        c.wrong("statusOnError", what);
    }
}

fn body(c: &mut Checker, body: Option<&ExtAuthzRequestBody>) {
    let Some(body) = body else { return };
    c.field("includeRequestBodyInCheck", |c| {
        if body.max_request_bytes == 0 {
            c.wrong("maxRequestBytes", "nothing would be sent; write how many bytes, or leave the body out");
        } else if body.max_request_bytes > LARGEST_BODY {
            c.wrong("maxRequestBytes", format!("a proxy holds {LARGEST_BODY} bytes of a body at most"));
        }
    });
}
