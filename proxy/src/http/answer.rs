//! Answers of our own: refusals, errors, redirects. Short, in plain text, with the flag that the counters have.

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};

use super::codec::ResponseBody;

/// An answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status.
    pub(super) status: StatusCode,
    /// Envoy's flag.
    pub(super) flags: &'static str,
    /// A sentence for the client.
    pub(super) text: &'static str,
}

macro_rules! answers {
    ($($name:ident = $status:ident $flags:literal $text:literal;)+) => {
        $(pub(super) const $name: Answer = Answer { status: StatusCode::$status, flags: $flags, text: $text };)+
    };
}

answers! {
    BAD_REQUEST = BAD_REQUEST "DPE" "the request is malformed\n";
    NO_CONNECT = METHOD_NOT_ALLOWED "-" "CONNECT is not served here\n";
    NO_ROUTE = NOT_FOUND "NR" "no route for this request\n";
    NO_CLUSTER = SERVICE_UNAVAILABLE "NC" "the service of this route is not known\n";
    NO_ENDPOINT = SERVICE_UNAVAILABLE "UH" "no healthy upstream\n";
    NO_CONNECTION = SERVICE_UNAVAILABLE "UF" "upstream connect error\n";
    BROKEN = SERVICE_UNAVAILABLE "UC" "the upstream connection broke before an answer\n";
    NONSENSE = BAD_GATEWAY "UPE" "the upstream's answer is no HTTP\n";
    OVERFLOW = SERVICE_UNAVAILABLE "UO" "too many requests to this service\n";
    TIMEOUT = GATEWAY_TIMEOUT "UT" "upstream request timeout\n";
}

const GRPC: &str = "application/grpc";

impl Answer {
    /// The response; gRPC gets its own shape: a status in headers.
    pub(super) fn response(self, grpc: bool) -> Response<ResponseBody> {
        if grpc {
            let code = match self.status {
                StatusCode::BAD_REQUEST => "13",
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "12",
                StatusCode::FORBIDDEN => "7",
                StatusCode::GATEWAY_TIMEOUT => "4",
                _ => "14",
            };
            let mut response = Response::new(ResponseBody::own(""));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
            headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(code));
            headers
                .insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(self.text.trim_ascii_end()));
            return response;
        }
        let mut response = Response::new(ResponseBody::own(self.text));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if self == OVERFLOW {
            let name = HeaderName::from_static("x-envoy-overloaded");
            response.headers_mut().insert(name, HeaderValue::from_static("true"));
        }
        response
    }
}
