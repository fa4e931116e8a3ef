use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;

use super::*;
use crate::http::message::{Fields, Length, RequestHead, ResponseHead, Version};

fn at(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

/// What a record borrows.
struct Parts {
    request: RequestHead,
    response: ResponseHead,
    trailers: Fields,
    details: Details,
}

impl Parts {
    fn new() -> Self {
        let mut request = RequestHead::new(Method::POST, Version::Http11);
        request.set_authority(b"reviews:9080");
        request.set_path(b"/new?q=1");
        request.length = Length::Exact(7);
        for (name, value) in [
            ("user-agent", "curl/8"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-request-id", "a-b-c"),
            ("x-long", "0123456789"),
            ("x-empty", ""),
        ] {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        let mut response = ResponseHead::new(503);
        response.length = Length::Unknown;
        response.fields.push(b"x-envoy-upstream-service-time", b"12");
        let mut trailers = Fields::default();
        trailers.push(b"grpc-message", b"no way");
        Self { request, response, trailers, details: Details::ResetBefore(Reset::ConnectionFailure) }
    }

    fn record(&self) -> Record<'_> {
        let downstream = Downstream {
            local: at("240.240.0.1:9080"),
            remote: at("10.0.0.9:0"),
            direct: at("10.0.0.7:40000"),
            server_name: Some("outbound_.9080_._.reviews"),
            peer: Some("spiffe://td/ns/a/sa/b"),
            peer_hash: Some("00ff"),
            own: Some("spiffe://td/ns/c/sa/d"),
            tls: Some("TLSv1.3"),
            chain: "0.0.0.0_9080",
            id: 77,
        };
        let start = UNIX_EPOCH + Duration::from_millis(1_767_225_599_012);
        Record {
            request_duration: Some(Duration::from_millis(3)),
            request_sent: Some(Duration::from_millis(4)),
            response_duration: Some(Duration::from_millis(10)),
            request: Some(&self.request),
            original_path: Some("/old?q=1"),
            response: Some(&self.response),
            trailers: Some(&self.trailers),
            status: 503,
            grpc: true,
            grpc_status: Some(5),
            flags: Flags::URX | Flags::UF,
            details: Some(&self.details),
            termination: Some("idle_timeout"),
            transport_failure: Some("certificate unknown"),
            downstream_failure: Some("TLS error: bad record"),
            received: 7,
            sent: 91,
            attempts: 2,
            endpoint: at("10.1.0.1:80"),
            upstream_local: at("10.0.0.1:50000"),
            upstream_peer: Some("spiffe://td/ns/e/sa/f"),
            upstream_version: Some(Version::Http2),
            cluster: "outbound|9080||reviews",
            route: "default",
            ..Record::new(downstream, start, Duration::from_micros(15_900))
        }
    }
}

/// A connection of which nothing is known.
fn bare() -> Record<'static> {
    Record::new(Downstream::default(), UNIX_EPOCH, Duration::ZERO)
}

fn written(format: &Format, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    format.write(record, &mut Clock::default(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn each_operator_writes_what_is_known() {
    let parts = Parts::new();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // The operator; what it writes; what it writes of a connection of which nothing is known.
    for (operator, full, empty) in [
        ("START_TIME", "2025-12-31T23:59:59.012Z", "1970-01-01T00:00:00.000Z"),
        ("START_TIME(%s.%3f)", "1767225599.012", "0.000"),
        ("EMIT_TIME", "2025-12-31T23:59:59.027Z", "1970-01-01T00:00:00.000Z"),
        ("REQ(:METHOD)", "POST", "-"),
        ("REQ(:PATH)", "/new?q=1", "-"),
        ("REQ(X-ENVOY-ORIGINAL-PATH?:PATH)", "/old?q=1", "-"),
        ("REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)", "/old", "-"),
        ("REQ(:AUTHORITY)", "reviews:9080", "-"),
        ("REQ(HOST)", "reviews:9080", "-"),
        ("REQ(:SCHEME)", "https", "-"),
        ("REQ(:PROTOCOL)", "-", "-"),
        ("REQ(CONTENT-LENGTH)", "7", "-"),
        ("REQ(User-Agent)", "curl/8", "-"),
        ("REQ(X-LONG):4", "0123", "-"),
        ("REQ(X-NONE?X-LONG):2", "01", "-"),
        ("REQ(X-NONE)", "-", "-"),
        ("REQ(X-EMPTY)", "-", "-"),
        ("RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)", "12", "-"),
        ("RESP(:STATUS)", "503", "-"),
        ("RESP(TRANSFER-ENCODING)", "chunked", "-"),
        ("TRAILER(GRPC-MESSAGE?X)", "no way", "-"),
        ("TRAILER(X)", "-", "-"),
        ("PROTOCOL", "HTTP/1.1", "-"),
        ("UPSTREAM_PROTOCOL", "HTTP/2", "-"),
        ("RESPONSE_CODE", "503", "0"),
        (
            "RESPONSE_CODE_DETAILS",
            "upstream_reset_before_response_started{remote_connection_failure|certificate_unknown}",
            "-",
        ),
        ("CONNECTION_TERMINATION_DETAILS", "idle_timeout", "-"),
        ("RESPONSE_FLAGS", "URX,UF", "-"),
        ("RESPONSE_FLAGS_LONG", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure", "-"),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", "certificate_unknown", "-"),
        ("BYTES_RECEIVED", "7", "0"),
        ("BYTES_SENT", "91", "0"),
        ("DURATION", "15", "0"),
        ("REQUEST_DURATION", "3", "-"),
        ("REQUEST_TX_DURATION", "4", "-"),
        ("RESPONSE_DURATION", "10", "-"),
        ("RESPONSE_TX_DURATION", "5", "-"),
        ("UPSTREAM_HOST", "10.1.0.1:80", "-"),
        ("UPSTREAM_CLUSTER", "outbound|9080||reviews", "-"),
        ("UPSTREAM_CLUSTER_RAW", "outbound|9080||reviews", "-"),
        ("UPSTREAM_LOCAL_ADDRESS", "10.0.0.1:50000", "-"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "10.0.0.1", "-"),
        ("UPSTREAM_LOCAL_PORT", "50000", "-"),
        ("UPSTREAM_REMOTE_ADDRESS", "10.1.0.1:80", "-"),
        ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "10.1.0.1", "-"),
        ("UPSTREAM_REMOTE_PORT", "80", "-"),
        ("UPSTREAM_PEER_URI_SAN", "spiffe://td/ns/e/sa/f", "-"),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", "2", "0"),
        ("DOWNSTREAM_LOCAL_ADDRESS", "240.240.0.1:9080", "-"),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "240.240.0.1", "-"),
        ("DOWNSTREAM_LOCAL_PORT", "9080", "-"),
        ("DOWNSTREAM_REMOTE_ADDRESS", "10.0.0.9:0", "-"),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "10.0.0.9", "-"),
        ("DOWNSTREAM_REMOTE_PORT", "0", "-"),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "10.0.0.7:40000", "-"),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "10.0.0.7", "-"),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", "40000", "-"),
        ("DOWNSTREAM_PEER_URI_SAN", "spiffe://td/ns/a/sa/b", "-"),
        ("DOWNSTREAM_LOCAL_URI_SAN", "spiffe://td/ns/c/sa/d", "-"),
        ("DOWNSTREAM_PEER_FINGERPRINT_256", "00ff", "-"),
        ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", "TLS_error:_bad_record", "-"),
        ("DOWNSTREAM_TLS_VERSION", "TLSv1.3", "-"),
        ("REQUESTED_SERVER_NAME", "outbound_.9080_._.reviews", "-"),
        ("ROUTE_NAME", "default", "-"),
        ("FILTER_CHAIN_NAME", "0.0.0.0_9080", "-"),
        ("HOSTNAME", hostname.trim_end(), hostname.trim_end()),
        ("CONNECTION_ID", "77", "0"),
        ("GRPC_STATUS", "NotFound", "-"),
        ("GRPC_STATUS(SNAKE_STRING)", "NOT_FOUND", "-"),
        ("GRPC_STATUS(NUMBER)", "5", "-"),
        ("GRPC_STATUS_NUMBER", "5", "-"),
        ("ENVIRONMENT(NO_SUCH_VARIABLE_IS_SET)", "-", "-"),
        ("FILTER_STATE(x:PLAIN)", "-", "-"),
        ("DYNAMIC_METADATA(a:b)", "-", "-"),
    ] {
        let format = Format::text(&format!("%{operator}%"), false).unwrap();
        assert_eq!(written(&format, &parts.record()), full, "{operator}");
        assert_eq!(written(&format, &bare()), empty, "{operator} of nothing");
    }
    for fact in hawser_api::access_log::Fact::ALL {
        let mut text =
            [parts.record(), bare()].map(|r| written(&Format::text(&format!("%{}%", fact.name()), false).unwrap(), &r));
        text.sort();
        assert_ne!(text[1], "-", "{} is not filled", fact.name());
    }
}

#[test]
fn a_grpc_status_that_nobody_said_is_that_of_the_response() {
    let format = Format::text("%GRPC_STATUS%", false).unwrap();
    for (status, said, text) in [
        (200, Some(0), "OK"),
        (200, None, "Unknown"),
        (503, None, "Unavailable"),
        (404, None, "Unimplemented"),
        (200, Some(99), "99"),
    ] {
        let record = Record { grpc: true, grpc_status: said, status, ..bare() };
        assert_eq!(written(&format, &record), text);
    }
}

#[test]
fn the_default_formats_are_istios_and_envoys() {
    let parts = Parts::new();
    assert_eq!(
        written(&Format::istio_text(), &parts.record()),
        "[2025-12-31T23:59:59.012Z] \"POST /old?q=1 HTTP/1.1\" 503 URX,UF \
         upstream_reset_before_response_started{remote_connection_failure|certificate_unknown} idle_timeout \
         \"certificate_unknown\" 7 91 15 12 \"10.0.0.9\" \"curl/8\" \"a-b-c\" \"reviews:9080\" \"10.1.0.1:80\" \
         outbound|9080||reviews 10.0.0.1:50000 240.240.0.1:9080 10.0.0.9:0 outbound_.9080_._.reviews default\n"
    );
    assert_eq!(
        written(&Format::istio_text(), &bare()),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 0 - - - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" - - - - - -\n"
    );
    assert_eq!(
        written(&Format::envoy_text(), &parts.record()),
        "[2025-12-31T23:59:59.012Z] \"POST /old?q=1 HTTP/1.1\" 503 URX,UF 7 91 15 12 \"10.0.0.9\" \"curl/8\" \
         \"a-b-c\" \"reviews:9080\" \"10.1.0.1:80\"\n"
    );
    let json = written(&Format::istio_json(), &parts.record());
    assert!(json.starts_with("{\"authority\":\"reviews:9080\",\"bytes_received\":7,"), "{json}");
    assert!(json.ends_with(",\"x_forwarded_for\":\"10.0.0.9\"}\n"), "{json}");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["response_code"], 503);
    let value: serde_json::Value = serde_json::from_str(&written(&Format::istio_json(), &bare())).unwrap();
    assert_eq!(value["path"], serde_json::Value::Null);
    let headers = ["x-envoy-original-path", "x-forwarded-for", "user-agent", "x-request-id"];
    let format = Format::istio_text();
    assert_eq!(format.request_headers().iter().map(|n| &**n).collect::<Vec<_>>(), headers[1..]);
    assert_eq!(format.response_headers(), ["x-envoy-upstream-service-time".into()]);
}

/// A JSON value as protobuf has it.
fn structure(json: serde_json::Value) -> prost_types::Struct {
    fn value(json: serde_json::Value) -> prost_types::Value {
        use prost_types::value::Kind;
        let kind = match json {
            serde_json::Value::Null => Kind::NullValue(0),
            serde_json::Value::Bool(b) => Kind::BoolValue(b),
            serde_json::Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap()),
            serde_json::Value::String(s) => Kind::StringValue(s),
            serde_json::Value::Array(a) => {
                Kind::ListValue(prost_types::ListValue { values: a.into_iter().map(value).collect() })
            }
            serde_json::Value::Object(o) => {
                Kind::StructValue(prost_types::Struct { fields: o.into_iter().map(|(k, v)| (k, value(v))).collect() })
            }
        };
        prost_types::Value { kind: Some(kind) }
    }
    match value(json).kind {
        Some(prost_types::value::Kind::StructValue(made)) => made,
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_is_nested_and_typed() {
    let parts = Parts::new();
    let shape = structure(serde_json::json!({
        "a\"b": { "code": "%RESPONSE_CODE%", "both": "%RESPONSE_CODE%/%REQ(X-NONE)% \"q\"" },
        "list": ["%DURATION%", true, 1.5, null],
        "none": "%REQ(X-NONE)%",
        "empty": "%REQ(X-EMPTY)%",
    }));
    let format = Format::json(&shape, true, false).unwrap();
    assert_eq!(
        written(&format, &parts.record()),
        "{\"a\\\"b\":{\"both\":\"503/- \\\"q\\\"\",\"code\":503},\"empty\":\"\",\"list\":[15,true,1.5,null],\"none\":null}\n"
    );
    let format = Format::json(&shape, true, true).unwrap();
    assert_eq!(
        written(&format, &parts.record()),
        "{\"a\\\"b\":{\"both\":\"503/ \\\"q\\\"\",\"code\":503},\"empty\":\"\",\"list\":[15,true,1.5,null]}\n"
    );
    let shape = structure(serde_json::json!({ "code": "%RESPONSE_CODE%", "none": "%REQ(X-NONE)%" }));
    let format = Format::json(&shape, false, false).unwrap();
    assert_eq!(written(&format, &parts.record()), "{\"code\":\"503\",\"none\":\"-\"}\n");
}

#[test]
fn a_format_that_is_not_understood_is_refused_with_its_key() {
    let shape = structure(serde_json::json!({ "a": { "b": "%NO_SUCH%" } }));
    assert_eq!(Format::json(&shape, true, false).unwrap_err(), "a: b: operator %NO_SUCH% is not supported");
    let mut deep = serde_json::json!("x");
    for _ in 0..20 {
        deep = serde_json::json!({ "k": deep });
    }
    assert!(Format::json(&structure(deep), true, false).unwrap_err().contains("nested deeper"));
}

#[test]
fn what_is_left_out_leaves_nothing() {
    let format = Format::text("%REQ(X)%|%RESPONSE_FLAGS%|%ROUTE_NAME%", true).unwrap();
    assert_eq!(written(&format, &bare()), "|-|");
}

/// Numbers without a pattern, the same each time.
fn noise() -> impl Iterator<Item = u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

#[test]
fn no_bytes_of_a_stranger_forge_a_line_or_break_json() {
    let mut noise = noise();
    let mut bytes = |most: u8| -> Vec<u8> {
        let length = noise.next().unwrap() % most;
        noise.by_ref().take(length.into()).collect()
    };
    let text = Format::text(
        "%REQ(X-A)% %RESP(X-A)% %TRAILER(X-A)% %REQ(:PATH)% %REQ(:AUTHORITY)% %REQUESTED_SERVER_NAME% \
         %UPSTREAM_TRANSPORT_FAILURE_REASON% %RESPONSE_CODE_DETAILS% %REQ_WITHOUT_QUERY(X-A)%",
        false,
    )
    .unwrap();
    let json = Format::json(
        &structure(serde_json::json!({ "a": "%REQ(X-A)%", "b": "x%RESP(X-A):9%", "c": "%RESPONSE_CODE_DETAILS%", "d": "%REQ(:PATH)%" })),
        true,
        false,
    )
    .unwrap();
    for _ in 0..2_000 {
        let mut request = RequestHead::new(Method::GET, Version::Http2);
        request.set_path(&bytes(40));
        request.set_authority(&bytes(40));
        request.fields.push(b"x-a", &bytes(60));
        let mut response = ResponseHead::new(200);
        response.fields.push(b"x-a", &bytes(60));
        let mut trailers = Fields::default();
        trailers.push(b"x-a", &bytes(60));
        let (name, why) =
            (String::from_utf8_lossy(&bytes(60)).into_owned(), String::from_utf8_lossy(&bytes(60)).into_owned());
        let details = Details::Denied(why.as_str().into());
        let downstream = Downstream { server_name: Some(&name), ..Downstream::default() };
        let record = Record {
            request: Some(&request),
            response: Some(&response),
            trailers: Some(&trailers),
            transport_failure: Some(&why),
            details: Some(&details),
            ..Record::new(downstream, SystemTime::UNIX_EPOCH, Duration::ZERO)
        };
        let line = written(&text, &record);
        assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'), "{line:?}");
        let line = written(&json, &record);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    }
}
