//! What proxies answer themselves: no route, no endpoint, no connection, too late, too many; in HTTP and for gRPC; retries.

use super::kept;
use crate::case::{Case, Servers, case, http2};

const GET: &str = "GET / HTTP/1.1\nhost: {host}\n\n";
const GRPC: &str = ":method: POST\n:scheme: http\n:authority: {host}\n:path: /a.B/C\ncontent-type: application/grpc\nte: trailers\n\n{nul}{nul}{nul}{nul}{nul}";
const OK: &str = "HTTP/1.1 200 OK\ncontent-length: 2\n\nok";
const OOPS: &str = "HTTP/1.1 503 Oops\ncontent-length: 4\n\noops";

macro_rules! route {
    ($rest:literal) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
            "spec:\n  hosts: [\"{host}\"]\n  http:\n  - route: [{destination: {host: \"{host}\"}}]\n    ", $rest, "\n"
        )
    };
}
macro_rules! policy {
    ($rest:literal) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec:\n  host: \"{host}\"\n  trafficPolicy:\n    ", $rest, "\n"
        )
    };
}

pub(crate) const CASES: &[Case] = &[
    case("no endpoint", GET).to(Servers::Nobody),
    case("no endpoint for HEAD", "HEAD / HTTP/1.1\nhost: {host}\n\n").to(Servers::Nobody),
    case("no endpoint for a body", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc").to(Servers::Nobody).kept("early-answer", kept::EARLY_ANSWER),
    case("no endpoint for a body that is awaited", "POST / HTTP/1.1\nhost: {host}\nexpect: 100-continue\ncontent-length: 3\n\n").to(Servers::Nobody).kept("expectations", kept::EXPECTATIONS),
    case("no endpoint for HTTP/1.0", "GET / HTTP/1.0\nhost: {host}\n\n").to(Servers::Nobody).kept("http10",
        "- client: HTTP/1.0 503 Service Unavailable\n\
         - client:   connection: close\n\
         - client:   content-length: 19\n\
         - client:   content-type: text/plain\n\
         - client:   date: …\n\
         - client:   body \"no healthy upstream\"\n\
         - log: 503 UH HTTP/1.0 GET / HOST sent 19\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    case("an endpoint that refuses", GET).to(Servers::Refusing),
    case("no route", GET).with(route!("match: [{uri: {exact: /other}}]")),
    case("no route for HEAD", "HEAD / HTTP/1.1\nhost: {host}\n\n").with(route!("match: [{uri: {exact: /other}}]")).kept("head-length", kept::HEAD_LENGTH),
    case("a time-out", GET).serve(&["{hold}"]).with(route!("timeout: 0.2s")),
    case("a time-out within the body", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 10\n\nok{hold}"]).with(route!("timeout: 0.3s")),
    case("a time-out of a try", GET).serve(&["{hold}", OK]).with(route!("retries: {attempts: 1, perTryTimeout: 0.2s, retryOn: 5xx}")),
    case("time-outs of all tries", GET).serve(&["{hold}"]).with(route!("retries: {attempts: 1, perTryTimeout: 0.2s, retryOn: 5xx}")),
    case("a time-out while it is tried again", GET).serve(&[OOPS, "{hold}"]).with(route!("timeout: 0.4s\n    retries: {attempts: 2, retryOn: 5xx}")),
    case("a body that comes too late", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\n").with(route!("timeout: 0.2s")),
    case("503 without a policy", GET).serve(&[OOPS, OK]),
    case("503 once", GET).serve(&[OOPS, OK]).with(route!("retries: {attempts: 2, retryOn: 5xx}")),
    case("503 for ever", GET).serve(&[OOPS]).with(route!("retries: {attempts: 2, retryOn: 5xx}")),
    case("503 and no retries", GET).serve(&[OOPS, OK]).with(route!("retries: {attempts: 0}")).kept("no-retries",
        "- log: 503 - HTTP/1.1 GET / HOST sent 4\n\
         + log: 503 URX HTTP/1.1 GET / HOST sent 4",
    ),
    case("503 of a POST", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc").serve(&[OOPS, OK]).with(route!("retries: {attempts: 2, retryOn: 5xx}")),
    case("503 of a POST in chunks", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n").serve(&[OOPS, OK]).with(route!("retries: {attempts: 2, retryOn: 5xx}")),
    case("500 when gateway errors are tried again", GET).serve(&["HTTP/1.1 500 Oops\ncontent-length: 0\n\n", OK]).with(route!("retries: {attempts: 1, retryOn: gateway-error}")),
    case("502 when gateway errors are tried again", GET).serve(&["HTTP/1.1 502 Oops\ncontent-length: 0\n\n", OK]).with(route!("retries: {attempts: 1, retryOn: gateway-error}")),
    case("409 when retriable-4xx is tried again", GET).serve(&["HTTP/1.1 409 Oops\ncontent-length: 0\n\n", OK]).with(route!("retries: {attempts: 1, retryOn: retriable-4xx}")),
    case("404 when retriable-4xx is tried again", GET).serve(&["HTTP/1.1 404 Oops\ncontent-length: 0\n\n", OK]).with(route!("retries: {attempts: 1, retryOn: retriable-4xx}")),
    case("a status that is named to be tried again", GET).serve(&["HTTP/1.1 418 Oops\ncontent-length: 0\n\n", OK]).with(route!("retries: {attempts: 1, retryOn: \"418\"}")),
    case("a reset when resets are tried again", GET).serve(&["{reset}", OK]).with(route!("retries: {attempts: 1, retryOn: reset}")),
    case("a close when resets are tried again", GET).serve(&["{close}", OK]).with(route!("retries: {attempts: 1, retryOn: reset}")),
    case("a close when connect failures are tried again", GET).serve(&["{close}", OK]).with(route!("retries: {attempts: 1, retryOn: connect-failure}")).kept("safe-retries",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 95\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: connection termination\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 2\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST sent 2\n\
         + log: 503 UC HTTP/1.1 GET / HOST sent 95",
    ),
    case("garbage when 5xx is tried again", GET).serve(&["garbage\n\n{close}", OK]).with(route!("retries: {attempts: 1, retryOn: 5xx}")),
    case("a connect failure that is tried again", GET).to(Servers::Refusing).with(route!("retries: {attempts: 2, retryOn: connect-failure}")),
    case("503 from one of two", GET).to(Servers::Two).either().serve(&[OOPS, OK]).with(route!("retries: {attempts: 1, retryOn: 5xx}")),
    case("x-envoy-overloaded is not tried again", GET).serve(&["HTTP/1.1 503 Busy\nx-envoy-overloaded: true\ncontent-length: 0\n\n", OK]).with(route!("retries: {attempts: 1, retryOn: 5xx}")),
    case("more requests than are allowed", GET).with(policy!("connectionPool: {http: {http2MaxRequests: 1, http1MaxPendingRequests: 1}, tcp: {maxConnections: 1}}")),
    case("a connection for each request", "GET /1 HTTP/1.1\nhost: {host}\n\nGET /2 HTTP/1.1\nhost: {host}\n\n").answers(2).with(policy!("connectionPool: {http: {maxRequestsPerConnection: 1}}")),
    http2("gRPC", GRPC).port("GRPC").serve(&[":status: 200\ncontent-type: application/grpc\n\n{nul}{nul}{nul}{nul}{nul}{trailers}grpc-status: 0\n"]),
    http2("gRPC that only has trailers", GRPC).port("GRPC").serve(&[":status: 200\ncontent-type: application/grpc\ngrpc-status: 5\ngrpc-message: none\n"]),
    http2("gRPC without an endpoint", GRPC).port("GRPC").to(Servers::Nobody),
    http2("gRPC to an endpoint that refuses", GRPC).port("GRPC").to(Servers::Refusing),
    http2("gRPC without a route", GRPC).port("GRPC").with(route!("match: [{uri: {exact: /other}}]")),
    http2("gRPC that times out", GRPC).port("GRPC").serve(&["{early}{hold}"]).with(route!("timeout: 0.2s")).kept("grpc-deadline",
        "- client: grpc-status: 4\n\
         + client: grpc-status: 14\n\
         + server: grpc-timeout: 200m",
    ),
    http2("gRPC that is reset", GRPC).port("GRPC").serve(&["{rst 2}"]),
    http2("gRPC that is reset by a refusal", GRPC).port("GRPC").serve(&["{rst 7}"]),
    http2("gRPC whose server closes", GRPC).port("GRPC").serve(&["{close}"]),
    http2("gRPC with a time of its own", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /a.B/C\ncontent-type: application/grpc\ngrpc-timeout: 200m\n\n{nul}{nul}{nul}{nul}{nul}").port("GRPC").serve(&["{early}{hold}"]).kept("grpc-deadline",
        "- client: grpc-status: 4\n\
         + client: grpc-status: 14",
    ),
    http2("gRPC with a time that is none", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /a.B/C\ncontent-type: application/grpc\ngrpc-timeout: soon\n\n{nul}{nul}{nul}{nul}{nul}").port("GRPC").serve(&[":status: 200\ncontent-type: application/grpc\ngrpc-status: 0\n"]),
    http2("gRPC that is answered 503", GRPC).port("GRPC").serve(&[":status: 503\n\nbusy"]),
    http2("gRPC unavailable once", GRPC).port("GRPC").serve(&[":status: 200\ncontent-type: application/grpc\ngrpc-status: 14\n", ":status: 200\ncontent-type: application/grpc\ngrpc-status: 0\n"]),
    http2("gRPC unavailable, tried again", GRPC).port("GRPC").with(route!("retries: {attempts: 1, retryOn: unavailable}"))
        .serve(&[":status: 200\ncontent-type: application/grpc\ngrpc-status: 14\n", ":status: 200\ncontent-type: application/grpc\ngrpc-status: 0\n"]),
    http2("gRPC cancelled, tried again", GRPC).port("GRPC").with(route!("retries: {attempts: 1, retryOn: cancelled}"))
        .serve(&[":status: 200\ncontent-type: application/grpc\ngrpc-status: 1\n", ":status: 200\ncontent-type: application/grpc\ngrpc-status: 0\n"]),
    http2("gRPC of JSON without an endpoint", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ncontent-type: application/grpc+json\n\nx").port("GRPC").to(Servers::Nobody),
    http2("gRPC-Web without an endpoint", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ncontent-type: application/grpc-web\n\nx").port("GRPC").to(Servers::Nobody),
    case("gRPC over HTTP/1.1 without an endpoint", "POST /a.B/C HTTP/1.1\nhost: {host}\ncontent-type: application/grpc\ncontent-length: 1\n\nx").to(Servers::Nobody).kept("early-answer", kept::EARLY_ANSWER),
];
