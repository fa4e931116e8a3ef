//! Lines of access logs about requests that a stranger made.
//!
//! In: pieces, each behind a byte that says how long it is: what a client and a server put into heads. Out: nothing.
//! Invariant: a line stays a line, and a string of JSON holds what the stranger said and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use hawser_proxy::access_log::{Clock, Details, Downstream, Flags, Format, Record};
use hawser_proxy::http::message::{Fields, Length, RequestHead, ResponseHead, Version};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// Each shows another piece.
const FIELDS: [&str; 8] = [
    "%REQ(USER-AGENT)%",
    "%REQ(X-A?X-B)%",
    "%REQ(:METHOD)% %REQ(:PATH):12% %REQ(X-B):3%",
    "%RESP(SERVER)%",
    "%TRAILER(GRPC-MESSAGE)%",
    "%REQUESTED_SERVER_NAME%",
    "%RESPONSE_CODE_DETAILS%",
    "%DOWNSTREAM_PEER_URI_SAN%",
];

/// All that writes lines of text, and all that writes JSON.
static TEXTS: LazyLock<[Format; 3]> = LazyLock::new(|| {
    let all = format!("{}\n", FIELDS.join(" "));
    [Format::istio_text(), Format::envoy_text(), Format::text(&all, true).expect("a good format")]
});
static OBJECTS: LazyLock<[Format; 2]> = LazyLock::new(|| {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields: BTreeMap<_, _> = FIELDS.iter().enumerate().map(|(i, text)| (i.to_string(), value(text))).collect();
    [true, false].map(|typed| Format::json(&Struct { fields: fields.clone() }, typed, false).expect("a good format"))
});

/// What lines say of it.
pub(crate) fn lines(mut bytes: &[u8]) {
    let mut piece = || {
        let (length, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        piece
    };
    let method = piece().escape_ascii().to_string().parse();
    let mut request = RequestHead::new(method.unwrap_or_default(), Version::Http11);
    request.length = Length::Unknown;
    request.set_authority(piece());
    request.set_path(piece());
    let agent = piece();
    for (name, value) in [("user-agent", agent), ("x-a", piece()), ("x-b", piece()), ("x-forwarded-for", piece())] {
        request.fields.push(name.as_bytes(), value);
    }
    let mut response = ResponseHead::new(503);
    response.fields.push(b"server", piece());
    let mut trailers = Fields::default();
    trailers.push(b"grpc-message", piece());
    let [name, peer, original, failure, policy] = [(); 5].map(|()| String::from_utf8_lossy(piece()).into_owned());
    let details = Details::Unauthenticated(Arc::from(policy));
    let downstream = Downstream {
        local: Some(([10, 0, 0, 1], 80).into()),
        server_name: Some(&name),
        peer: Some(&peer),
        ..Downstream::default()
    };
    let record = Record {
        request: Some(&request),
        original_path: Some(&original).filter(|path| !path.is_empty()).map(String::as_str),
        response: Some(&response),
        trailers: Some(&trailers),
        status: 503,
        flags: Flags::UF,
        details: Some(&details),
        transport_failure: Some(&failure),
        ..Record::new(downstream, UNIX_EPOCH, Duration::from_millis(7))
    };
    let line = |format: &Format| {
        let mut out = Vec::new();
        format.write(&record, &mut Clock::default(), &mut out);
        let line = out.strip_suffix(b"\n").expect("a line has an end").to_vec();
        assert!(!line.iter().any(u8::is_ascii_control), "{}", line.escape_ascii());
        line
    };
    for format in &*TEXTS {
        assert!(line(format).is_ascii());
    }
    let istio: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&line(&Format::istio_json())).expect("an object");
    assert_eq!(istio.len(), 24);
    assert_eq!(istio["user_agent"], *String::from_utf8_lossy(agent));
    for format in &*OBJECTS {
        let line = line(format);
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).expect("an object");
        assert_eq!(object.len(), FIELDS.len());
        assert_eq!(object["0"], *String::from_utf8_lossy(agent));
        assert_eq!(object["5"], name);
    }
}
