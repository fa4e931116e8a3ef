//! What the proxies themselves say in fields: who calls, by which way, how often it was tried.

use super::kept;
use crate::case::{Case, case, http2};

pub(crate) const CASES: &[Case] = &[
    case("a request id of the client's own", "GET / HTTP/1.1\nhost: {host}\nx-request-id: mine\n\n"),
    case("an empty request id", "GET / HTTP/1.1\nhost: {host}\nx-request-id:\n\n"),
    case("x-forwarded-for of the client", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-for: 1.2.3.4, 5.6.7.8\n\n"),
    case("x-forwarded-proto of the client", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-proto: https\n\n"),
    case("an x-forwarded-proto that is none", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-proto: ftp\n\n"),
    case("an empty x-forwarded-proto", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-proto:\n\n").kept("own-fields",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 404 Not Found\n\
         + client:   content-length: 0\n\
         - client:   body \"ok\"\n\
         + client:   body \"\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: \n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST sent 2\n\
         + log: 404 NR HTTP/1.1 GET / HOST sent 0",
    ),
    case("x-forwarded-host of the client", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-host: a.test\nx-forwarded-port: 81\n\n"),
    case("forwarded of the client", "GET / HTTP/1.1\nhost: {host}\nforwarded: for=1.2.3.4\nvia: 1.1 x\n\n"),
    case("x-forwarded-client-cert to the caller's proxy", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-client-cert: By=spiffe://a;URI=spiffe://b\n\n"),
    case("x-envoy-attempt-count of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-attempt-count: 7\n\n"),
    case("x-envoy-internal of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-internal: true\nx-envoy-external-address: 1.2.3.4\n\n"),
    case("x-envoy-decorator-operation of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-decorator-operation: a\n\n"),
    case("x-envoy-downstream-service of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-downstream-service-cluster: a\nx-envoy-downstream-service-node: b\n\n"),
    case("x-envoy-original fields of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-original-path: /a\nx-envoy-original-host: a.test\n\n"),
    case("x-envoy-expected-rq-timeout-ms of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-expected-rq-timeout-ms: 10\n\n"),
    case("x-envoy-upstream-rq-timeout-ms of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-upstream-rq-timeout-ms: 200\n\n").serve(&["{hold}"]).kept("envoy-words",
        "- server:   x-envoy-upstream-rq-timeout-ms: 200",
    ),
    case("x-envoy-retry-on of the client", "GET / HTTP/1.1\nhost: {host}\nx-envoy-retry-on: 5xx\nx-envoy-max-retries: 1\n\n")
        .serve(&["HTTP/1.1 500 Oops\ncontent-length: 0\n\n", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"]).kept("envoy-words",
        "- server:   x-envoy-max-retries: 1\n\
         - server:   x-envoy-retry-on: 5xx",
    ),
    case("x-envoy-ip-tags and other words for Envoy", "GET / HTTP/1.1\nhost: {host}\nx-envoy-ip-tags: a\nx-envoy-force-trace: 1\nx-envoy-hedge-on-per-try-timeout: true\nx-envoy-upstream-alt-stat-name: a\nx-envoy-upstream-rq-timeout-alt-response: 1\nx-envoy-upstream-stream-duration-ms: 5000\n\n").kept("envoy-words",
        "- server:   x-envoy-force-trace: 1\n\
         - server:   x-envoy-hedge-on-per-try-timeout: true\n\
         - server:   x-envoy-ip-tags: a\n\
         - server:   x-envoy-upstream-alt-stat-name: a\n\
         - server:   x-envoy-upstream-rq-timeout-alt-response: 1\n\
         - server:   x-envoy-upstream-stream-duration-ms: 5000",
    ),
    case("b3 and traceparent of the client", "GET / HTTP/1.1\nhost: {host}\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nx-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\n\n"),
    case("x-hawser-protocol of a stranger", "GET / HTTP/1.1\nhost: {host}\nx-hawser-protocol: HTTP/2\n\n").kept("own-fields", kept::OWN_FIELDS),
    case("to the workload in plaintext", "GET /a?b HTTP/1.1\nhost: {host}\n\n").inbound(),
    case("XFCC to the workload in plaintext is forged", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-client-cert: By=spiffe://a;URI=spiffe://b\n\n").inbound(),
    case("XFCC twice to the workload in plaintext", "GET / HTTP/1.1\nhost: {host}\nX-Forwarded-Client-Cert: By=spiffe://a\nx-forwarded-client-cert: By=spiffe://b\n\n").inbound(),
    case("x-forwarded-for to the workload in plaintext", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-for: 1.2.3.4\nx-forwarded-proto: https\n\n").inbound(),
    case("x-envoy fields to the workload in plaintext", "GET / HTTP/1.1\nhost: {host}\nx-envoy-attempt-count: 3\nx-envoy-internal: true\nx-envoy-external-address: 1.2.3.4\nx-envoy-decorator-operation: a\nx-envoy-peer-metadata: a\n\n").inbound(),
    case("x-hawser-protocol to the workload in plaintext", "GET / HTTP/1.1\nhost: {host}\nx-hawser-protocol: HTTP/2\n\n").inbound().kept("own-fields", kept::OWN_FIELDS),
    case("any host to the workload", "GET / HTTP/1.1\nhost: whatever.test:99\n\n").inbound(),
    case("no host to the workload", "GET / HTTP/1.1\n\n").inbound().kept("no-host", kept::NO_HOST),
    case("WebSocket to the workload", "GET / HTTP/1.1\nhost: {host}\nconnection: upgrade\nupgrade: websocket\n\n{read}hello{read 5}{close}").inbound()
        .serve(&["HTTP/1.1 101 Switching Protocols\nconnection: upgrade\nupgrade: websocket\n\n{echo}"]).kept("upgrades",
        "- log: 101 - HTTP/1.1 GET / HOST sent 5\n\
         + log: 101 DC HTTP/1.1 GET / HOST sent 5",
    ),
    case("a workload that answers nothing", "GET / HTTP/1.1\nhost: {host}\n\n").inbound().serve(&["{close}"]).kept("safe-retries", kept::INBOUND_RETRIES),
    case("a workload that answers garbage", "GET / HTTP/1.1\nhost: {host}\n\n").inbound().serve(&["garbage\n\n{close}"]),
    case("a length and chunks to the workload", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\ntransfer-encoding: chunked\n\n0\n\n").inbound(),
    case("dots to the workload", "GET /a/../b HTTP/1.1\nhost: {host}\n\n").inbound(),
    case("to the workload over mTLS", "GET /a?b HTTP/1.1\nhost: {host}\n\n").mutual(),
    case("XFCC to the workload over mTLS", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-client-cert: By=spiffe://a;URI=spiffe://b\n\n").mutual(),
    case("XFCC twice to the workload over mTLS", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-client-cert: By=spiffe://a\nx-forwarded-client-cert: By=spiffe://b\n\n").mutual(),
    case("an empty XFCC to the workload over mTLS", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-client-cert:\n\n").mutual(),
    case("connection names XFCC over mTLS", "GET / HTTP/1.1\nhost: {host}\nconnection: x-forwarded-client-cert\nx-forwarded-client-cert: By=spiffe://a\n\n").mutual().kept("connection-names",
        "- server:   x-forwarded-client-cert: By=spiffe://a,By=spiffe://cluster.local/ns/default/sa/default;Hash=…;Subject=\"\";URI=spiffe://cluster.local/ns/default/sa/default\n\
         + server:   x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/default;Hash=…;Subject=\"\";URI=spiffe://cluster.local/ns/default/sa/default",
    ),
    case("x-forwarded-for to the workload over mTLS", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-for: 1.2.3.4\n\n").mutual(),
    case("x-forwarded-proto to the workload over mTLS", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-proto: http\n\n").mutual(),
    case("x-envoy fields to the workload over mTLS", "GET / HTTP/1.1\nhost: {host}\nx-envoy-attempt-count: 3\nx-envoy-peer-metadata: a\n\n").mutual(),
    case("x-hawser-protocol to the workload over mTLS", "GET / HTTP/1.1\nhost: {host}\nx-hawser-protocol: HTTP/2\n\n").mutual().kept("own-fields", kept::OWN_FIELDS),
    case("connection: close over mTLS", "GET / HTTP/1.1\nhost: {host}\nconnection: close\n\n").mutual(),
    case("a bad request over mTLS", "GET / HTTP/1.1\n\n").mutual().kept("no-host", kept::NO_HOST),
    http2("HTTP/2 to the workload in plaintext", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-forwarded-client-cert: By=spiffe://a\n").inbound().port("HTTP2"),
    http2("HTTP/2 to the workload over mTLS", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-forwarded-client-cert: By=spiffe://a\n").mutual().port("HTTP2"),
    http2("HTTP/2 of https to the workload over mTLS", ":method: GET\n:scheme: https\n:authority: {host}\n:path: /\n").mutual().port("HTTP2").kept("scheme",
        "- server: :scheme: http\n\
         + server: :scheme: https",
    ),
];
