//! Resources as text: one field a line, packed messages unpacked, fields that have their default left out.
//!
//! In: an encoded resource. Out: text for people and for golden files. Invariant: equal bytes, equal text.

use hawser_api::proto::envoy::extensions::access_loggers;
use hawser_api::proto::envoy::extensions::filters::http::{ext_authz, jwt_authn, rbac, router};
use hawser_api::proto::envoy::extensions::filters::listener::{http_inspector, original_dst, tls_inspector};
use hawser_api::proto::envoy::extensions::filters::network;
use hawser_api::proto::envoy::extensions::formatter::req_without_query;
use hawser_api::proto::envoy::extensions::path::r#match::uri_template;
use hawser_api::proto::envoy::extensions::retry::host::previous_hosts;
use hawser_api::proto::envoy::extensions::transport_sockets::{proxy_protocol, raw_buffer};
use hawser_api::proto::envoy::extensions::upstreams;
use hawser_api::proto::{
    cluster, endpoint, file_access_log, http_connection_manager, listener, mesh, route, tcp_proxy, tls,
};
use prost::Message;

/// A message of that type; `type_url` as in `Any`.
pub fn text(type_url: &str, body: &[u8]) -> String {
    let mut lines = Vec::new();
    let debug = debug(type_url, body);
    let mut source = debug.lines();
    let mut packed: Option<String> = None;
    while let Some(line) = source.next() {
        let trimmed = line.trim();
        if let Some(url) = trimmed.strip_prefix("type_url: \"").and_then(|rest| rest.strip_suffix("\",")) {
            packed = Some(url.to_owned());
            continue;
        }
        if let Some(url) = packed.take() {
            let bytes: Vec<u8> = match trimmed {
                "value: [" => {
                    let numbers = source.by_ref().map(|line| line.trim().trim_end_matches(',').parse());
                    numbers.map_while(Result::ok).collect()
                }
                _ => Vec::new(),
            };
            let indent = &line[..line.len() - trimmed.len()];
            lines.extend(self::text(&url, &bytes).lines().map(|line| format!("{indent}{line}")));
            continue;
        }
        if !is_default(trimmed) {
            lines.push(line.to_owned());
        }
    }
    compact(&lines).join("\n")
}

/// Takes out what only wraps: `Some(` and its like become part of the line that they wrap.
fn compact(lines: &[String]) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut made: Vec<String> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut pending: Option<String> = None;
    for line in lines {
        let (at, trimmed) = (indent(line), line.trim());
        if open.last() == Some(&at) && matches!(trimmed, ")" | "),") {
            open.pop();
            continue;
        }
        let depth = at.saturating_sub(4 * open.len());
        let text = match pending.take() {
            Some(start) => format!("{start}{trimmed}"),
            None => format!("{:depth$}{trimmed}", ""),
        };
        let wrapper = text.strip_suffix('(').map(|start| start.strip_suffix("Some").unwrap_or(start).to_owned());
        match wrapper {
            Some(start) => {
                open.push(at);
                let spaced = start.is_empty() || start.ends_with(' ');
                pending = Some(if spaced { start } else { format!("{start} ") });
            }
            None => made.push(text),
        }
    }
    made
}

fn is_default(line: &str) -> bool {
    let values = [": None,", ": [],", ": \"\",", ": false,", ": 0,", ": {},", ": Unspecified,"];
    values.iter().any(|value| line.ends_with(value))
}

fn debug(type_url: &str, body: &[u8]) -> String {
    fn of<M: Message + Default + std::fmt::Debug>(body: &[u8]) -> String {
        match M::decode(body) {
            Ok(message) => format!("{message:#?}"),
            Err(error) => format!("can't be decoded: {error}"),
        }
    }
    match type_url.rsplit(['/']).next().unwrap_or_default().rsplit('.').next().unwrap_or_default() {
        "Listener" => of::<listener::Listener>(body),
        "RouteConfiguration" => of::<route::RouteConfiguration>(body),
        "Cluster" => of::<cluster::Cluster>(body),
        "ClusterLoadAssignment" => of::<endpoint::ClusterLoadAssignment>(body),
        "Name" => of::<mesh::Name>(body),
        "Capture" => of::<mesh::Capture>(body),
        "HttpConnectionManager" => of::<http_connection_manager::HttpConnectionManager>(body),
        "TcpProxy" => of::<tcp_proxy::TcpProxy>(body),
        "UpstreamTlsContext" => of::<tls::UpstreamTlsContext>(body),
        "DownstreamTlsContext" => of::<tls::DownstreamTlsContext>(body),
        "HttpProtocolOptions" => of::<upstreams::http::v3::HttpProtocolOptions>(body),
        "Router" => of::<router::v3::Router>(body),
        "ProxyProtocolUpstreamTransport" => of::<proxy_protocol::v3::ProxyProtocolUpstreamTransport>(body),
        "RawBuffer" => of::<raw_buffer::v3::RawBuffer>(body),
        "PreviousHostsPredicate" => of::<previous_hosts::v3::PreviousHostsPredicate>(body),
        "OriginalDst" => of::<original_dst::v3::OriginalDst>(body),
        "TlsInspector" => of::<tls_inspector::v3::TlsInspector>(body),
        "FileAccessLog" => of::<file_access_log::FileAccessLog>(body),
        "StdoutAccessLog" => of::<access_loggers::stream::v3::StdoutAccessLog>(body),
        "StderrAccessLog" => of::<access_loggers::stream::v3::StderrAccessLog>(body),
        "ReqWithoutQuery" => of::<req_without_query::v3::ReqWithoutQuery>(body),
        "RBAC" if type_url.contains(".network.") => of::<network::rbac::v3::Rbac>(body),
        "RBAC" => of::<rbac::v3::Rbac>(body),
        "ExtAuthz" if type_url.contains(".network.") => of::<network::ext_authz::v3::ExtAuthz>(body),
        "ExtAuthz" => of::<ext_authz::v3::ExtAuthz>(body),
        "JwtAuthentication" => of::<jwt_authn::v3::JwtAuthentication>(body),
        "UriTemplateMatchConfig" => of::<uri_template::v3::UriTemplateMatchConfig>(body),
        "HttpInspector" => of::<http_inspector::v3::HttpInspector>(body),
        other => format!("{other}: {} bytes", body.len()),
    }
}
