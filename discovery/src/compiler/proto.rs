//! Small pieces that every resource is put together from.

use std::net::IpAddr;
use std::time::Duration;

use hawser_api::names::types;
use hawser_api::proto::core::{self, address, config_source, socket_address, transport_socket};
use hawser_api::proto::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher};
use prost_types::value::Kind;
use prost_types::{Any, Struct, Value};

/// A message as `Any`.
pub(super) fn any<M: prost::Message>(name: &str, message: &M) -> Any {
    Any { type_url: format!("{}{name}", types::PREFIX), value: message.encode_to_vec() }
}

/// Names of the messages that are packed.
pub(super) mod name {
    pub(in crate::compiler) const HCM: &str =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    pub(in crate::compiler) const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    pub(in crate::compiler) const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
    pub(in crate::compiler) const ORIGINAL_DST: &str = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
    pub(in crate::compiler) const TLS_INSPECTOR: &str =
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    pub(in crate::compiler) const HTTP_INSPECTOR: &str =
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
    pub(in crate::compiler) const PREVIOUS_HOSTS: &str =
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    pub(in crate::compiler) const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    pub(in crate::compiler) const UPSTREAM_PROXY_PROTOCOL: &str =
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    pub(in crate::compiler) const UPSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    pub(in crate::compiler) const DOWNSTREAM_TLS: &str =
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    pub(in crate::compiler) const FILE_ACCESS_LOG: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
    pub(in crate::compiler) const STDOUT_ACCESS_LOG: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
    pub(in crate::compiler) const STDERR_ACCESS_LOG: &str = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";
    pub(in crate::compiler) const REQ_WITHOUT_QUERY: &str =
        "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery";
    pub(in crate::compiler) const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
    pub(in crate::compiler) const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
    pub(in crate::compiler) const CORS_POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
    pub(in crate::compiler) const PREVIOUS_PRIORITIES: &str =
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
    pub(in crate::compiler) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
}

/// Names of HTTP filters, by which routes configure them.
pub(super) mod filter {
    pub(in crate::compiler) const FAULT: &str = "envoy.filters.http.fault";
    pub(in crate::compiler) const CORS: &str = "envoy.filters.http.cors";
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

/// From the stream that the resource itself came by.
pub(super) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        initial_fetch_timeout: Some(duration(Duration::ZERO)),
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})),
    }
}

pub(super) fn address(host: &str, port: u16) -> core::Address {
    core::Address { address: Some(address::Address::SocketAddress(socket_address(host, port))) }
}

pub(super) fn socket_address(host: &str, port: u16) -> core::SocketAddress {
    core::SocketAddress {
        protocol: 0,
        address: host.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
    }
}

/// An endpoint's address: IP or `unix://` path; `None` for a name.
pub(super) fn endpoint_address(text: &str, port: u16) -> Option<core::Address> {
    if let Some(path) = text.strip_prefix("unix://") {
        let pipe = core::Pipe { path: path.to_owned() };
        return Some(core::Address { address: Some(address::Address::Pipe(pipe)) });
    }
    let ip: IpAddr = text.parse().ok()?;
    Some(address(&ip.to_string(), port))
}

pub(super) fn transport_socket(name: &str, config: Any) -> core::TransportSocket {
    core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

pub(super) fn boolean(value: bool) -> Value {
    Value { kind: Some(Kind::BoolValue(value)) }
}

pub(super) fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(prost_types::ListValue { values })) }
}

pub(super) fn structure<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect() }
}

pub(super) fn nested(fields: Struct) -> Value {
    Value { kind: Some(Kind::StructValue(fields)) }
}

pub(super) fn exact(text: &str) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(string_matcher::MatchPattern::Exact(text.to_owned())) }
}

pub(super) fn prefix(text: &str) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(string_matcher::MatchPattern::Prefix(text.to_owned())) }
}

pub(super) fn regex(text: &str) -> RegexMatcher {
    RegexMatcher { regex: text.to_owned() }
}
