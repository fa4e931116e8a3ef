//! Connections of HTTP/1: how long they last, what belongs to them alone, what they become.

use super::kept;
use crate::case::{Case, case};

const SWITCHES: &str = "HTTP/1.1 101 Switching Protocols\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-accept: x\n\n{echo}";

pub(crate) const CASES: &[Case] = &[
    case("HTTP/1.0", "GET / HTTP/1.0\nhost: {host}\n\n").kept("http10", kept::HTTP10),
    case("HTTP/1.0 with keep-alive", "GET / HTTP/1.0\nhost: {host}\nconnection: keep-alive\n\n").kept("http10",
        "- client: HTTP/1.0 200 OK\n\
         - client:   connection: keep-alive\n\
         - client:   content-length: 2\n\
         - client:   date: …\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.0 GET / HOST sent 2\n\
         + client: the connection is closed\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    case("HTTP/1.0 without a host", "GET / HTTP/1.0\n\n").kept("http10",
        "- client: HTTP/1.0 200 OK\n\
         - client:   connection: close\n\
         - client:   content-length: 2\n\
         - client:   date: …\n\
         - client:   body \"ok\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: \n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.0 GET / - sent 2\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    case("HTTP/1.0 answered in chunks", "GET / HTTP/1.0\nhost: {host}\nconnection: keep-alive\n\n")
        .serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n0\n\n"]).kept("http10",
        "- client: HTTP/1.0 200 OK\n\
         - client:   connection: close\n\
         - client:   date: …\n\
         - client:   body \"ok\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.0 GET / HOST sent 2\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    case("connection: close", "GET / HTTP/1.1\nhost: {host}\nconnection: close\n\n"),
    case("connection: Close in a list", "GET / HTTP/1.1\nhost: {host}\nconnection: x-a, Close\nx-a: b\n\n"),
    case("connection: keep-alive", "GET / HTTP/1.1\nhost: {host}\nconnection: keep-alive\n\n"),
    case("connection: close and keep-alive", "GET / HTTP/1.1\nhost: {host}\nconnection: keep-alive, close\n\n"),
    case("proxy-connection: close", "GET / HTTP/1.1\nhost: {host}\nproxy-connection: close\n\n").kept("connection-names", kept::UPGRADES),
    case("fields that connection names", "GET / HTTP/1.1\nhost: {host}\nconnection: x-a, X-B\nx-a: 1\nx-b: 2\nx-c: 3\n\n"),
    case("fields that two connections name", "GET / HTTP/1.1\nhost: {host}\nconnection: x-a\nconnection: x-b\nx-a: 1\nx-b: 2\n\n"),
    case("connection names authorization", "GET / HTTP/1.1\nhost: {host}\nconnection: authorization\nauthorization: x\n\n"),
    case("connection names cookie", "GET / HTTP/1.1\nhost: {host}\nconnection: cookie\ncookie: a=b\n\n"),
    case("connection names host", "GET / HTTP/1.1\nhost: {host}\nconnection: host\n\n").kept("connection-names",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 400 Bad Request\n\
         + client:   connection: close\n\
         + client:   content-length: 0\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST sent 2\n\
         + client:   body \"\"\n\
         + client: the connection is closed\n\
         + log: 400 - HTTP/1.1 GET / - sent 0",
    ),
    case("connection names content-length", "POST / HTTP/1.1\nhost: {host}\nconnection: content-length\ncontent-length: 3\n\nabc").kept("connection-names",
        "- server:   content-length: 3\n\
         + server:   transfer-encoding: chunked",
    ),
    case("connection names transfer-encoding", "POST / HTTP/1.1\nhost: {host}\nconnection: transfer-encoding\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n"),
    case("connection names te", "GET / HTTP/1.1\nhost: {host}\nconnection: te\nte: trailers\n\n"),
    case("connection names x-forwarded-for", "GET / HTTP/1.1\nhost: {host}\nconnection: x-forwarded-for\nx-forwarded-for: 1.2.3.4\n\n").kept("connection-names",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 400 Bad Request\n\
         + client:   connection: close\n\
         + client:   content-length: 11\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST sent 2\n\
         + client:   body \"Bad Request\"\n\
         + client: the connection is closed\n\
         + log: 400 DPE HTTP/1.1 - - - sent 11",
    ),
    case("connection names x-forwarded-client-cert", "GET / HTTP/1.1\nhost: {host}\nconnection: x-forwarded-client-cert\n\n"),
    case("an empty connection", "GET / HTTP/1.1\nhost: {host}\nconnection:\n\n"),
    case("connection with an empty member", "GET / HTTP/1.1\nhost: {host}\nconnection: , x-a\nx-a: b\n\n"),
    case("keep-alive", "GET / HTTP/1.1\nhost: {host}\nkeep-alive: timeout=5\n\n"),
    case("te: trailers", "GET / HTTP/1.1\nhost: {host}\nte: trailers\n\n"),
    case("te: gzip", "GET / HTTP/1.1\nhost: {host}\nte: gzip\n\n"),
    case("te: gzip and trailers", "GET / HTTP/1.1\nhost: {host}\nte: gzip, trailers\n\n"),
    case("trailer without trailers", "GET / HTTP/1.1\nhost: {host}\ntrailer: x-a\n\n"),
    case("proxy-authorization", "GET / HTTP/1.1\nhost: {host}\nproxy-authorization: Basic eA==\n\n"),
    case("proxy-authenticate in an answer", "GET / HTTP/1.1\nhost: {host}\n\n").serve(&["HTTP/1.1 407 No\nproxy-authenticate: Basic\ncontent-length: 0\n\n"]),
    case("two requests at once", "GET /1 HTTP/1.1\nhost: {host}\n\nGET /2 HTTP/1.1\nhost: {host}\n\n").answers(2),
    case("three requests at once, with bodies", "POST /1 HTTP/1.1\nhost: {host}\ncontent-length: 1\n\naPOST /2 HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n1\nb\n0\n\nGET /3 HTTP/1.1\nhost: {host}\n\n").answers(3),
    case("a bad request behind a good one", "GET /1 HTTP/1.1\nhost: {host}\n\nGET /2 HTTP/1.1\n\n").answers(2).kept("no-host",
        "- log: 400 - HTTP/1.1 - - - sent 0\n\
         + log: 400 - HTTP/1.1 GET /2 - sent 0",
    ),
    case("a request behind connection: close", "GET /1 HTTP/1.1\nhost: {host}\nconnection: close\n\nGET /2 HTTP/1.1\nhost: {host}\n\n"),
    case("an expectation", "POST / HTTP/1.1\nhost: {host}\nexpect: 100-continue\ncontent-length: 3\n\n{read}abc"),
    case("an expectation in capitals", "POST / HTTP/1.1\nhost: {host}\nExpect: 100-Continue\ncontent-length: 3\n\n{read}abc"),
    case("an expectation with the body at once", "POST / HTTP/1.1\nhost: {host}\nexpect: 100-continue\ncontent-length: 3\n\nabc").kept("expectations", kept::EXPECTATIONS),
    case("an expectation without a body", "GET / HTTP/1.1\nhost: {host}\nexpect: 100-continue\n\n").kept("expectations", kept::EXPECTATIONS),
    case("an expectation of HTTP/1.0", "POST / HTTP/1.0\nhost: {host}\nexpect: 100-continue\ncontent-length: 3\n\nabc").kept("http10",
        "- client: HTTP/1.0 200 OK\n\
         - client:   connection: close\n\
         - client:   content-length: 2\n\
         - client:   date: …\n\
         - client:   body \"ok\"\n\
         - server: POST / HTTP/1.1   at server v1\n\
         - server:   content-length: 3\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"abc\"\n\
         - log: 200 - HTTP/1.0 POST / HOST sent 2\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    case("another expectation", "GET / HTTP/1.1\nhost: {host}\nexpect: 200-ok\n\n").kept("expectations",
        "- client: HTTP/1.1 417 Expectation Failed\n\
         - client:   connection: close\n\
         - client:   content-length: 18\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"Expectation Failed\"\n\
         - client: the connection is closed\n\
         - log: 417 DPE HTTP/1.1 - - - sent 18\n\
         + client:   body \"ok\"\n\
         + client: the connection goes on: 200\n\
         + server: GET / HTTP/1.1   at server v1\n\
         + server:   expect: 200-ok\n\
         + server:   host: HOST\n\
         + server:   x-envoy-attempt-count: 1\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("an empty expectation", "GET / HTTP/1.1\nhost: {host}\nexpect:\n\n").kept("expectations",
        "+ server:   expect: ",
    ),
    case("WebSocket", "GET /chat HTTP/1.1\nhost: {host}\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-key: x\nsec-websocket-version: 13\n\n{read}hello{read 5}{close}")
        .serve(&[SWITCHES]).kept("upgrades",
        "- client:   connection: upgrade\n\
         + client:   connection: Upgrade\n\
         - server:   connection: upgrade\n\
         + server:   connection: Upgrade\n\
         - log: 101 - HTTP/1.1 GET /chat HOST sent 5\n\
         + log: 101 DC HTTP/1.1 GET /chat HOST sent 5",
    ),
    case("WebSocket in capitals", "GET /chat HTTP/1.1\nhost: {host}\nConnection: keep-alive, UPGRADE\nUpgrade: WebSocket\n\n{read}hello{read 5}{close}").serve(&[SWITCHES]).kept("upgrades",
        "- client:   connection: upgrade\n\
         + client:   connection: Upgrade\n\
         - server:   connection: upgrade\n\
         + server:   connection: keep-alive, UPGRADE\n\
         - server:   upgrade: websocket\n\
         + server:   upgrade: WebSocket\n\
         - log: 101 - HTTP/1.1 GET /chat HOST sent 5\n\
         + log: 101 DC HTTP/1.1 GET /chat HOST sent 5",
    ),
    case("WebSocket that the server refuses", "GET /chat HTTP/1.1\nhost: {host}\nconnection: upgrade\nupgrade: websocket\n\n")
        .serve(&["HTTP/1.1 403 Forbidden\ncontent-length: 2\n\nno"]).kept("upgrades", kept::UPGRADES),
    case("WebSocket without connection: upgrade", "GET /chat HTTP/1.1\nhost: {host}\nupgrade: websocket\n\n"),
    case("WebSocket of HTTP/1.0", "GET /chat HTTP/1.0\nhost: {host}\nconnection: upgrade\nupgrade: websocket\n\n").kept("http10",
        "- client: HTTP/1.0 200 OK\n\
         - client:   connection: close\n\
         - client:   content-length: 2\n\
         - client:   date: …\n\
         - client:   body \"ok\"\n\
         - server: GET /chat HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.0 GET /chat HOST sent 2\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    case("an upgrade that is not served", "GET / HTTP/1.1\nhost: {host}\nconnection: upgrade\nupgrade: other\n\n").kept("upgrades", kept::UPGRADES),
    case("an upgrade to one of two", "GET / HTTP/1.1\nhost: {host}\nconnection: upgrade\nupgrade: other, websocket\n\n").kept("upgrades", kept::UPGRADES),
    case("connection: upgrade without upgrade", "GET / HTTP/1.1\nhost: {host}\nconnection: upgrade\n\n"),
    case("an upgrade to h2c", "GET / HTTP/1.1\nhost: {host}\nconnection: Upgrade, HTTP2-Settings\nupgrade: h2c\nhttp2-settings: AAMAAABkAAQAAP__\n\n"),
    case("http2-settings without an upgrade", "GET / HTTP/1.1\nhost: {host}\nhttp2-settings: AAMAAABkAAQAAP__\n\n").kept("upgrades",
        "+ server:   http2-settings: AAMAAABkAAQAAP__",
    ),
];
