//! HTTP/2 with prior knowledge: what makes a request malformed, and what does not.

use super::kept;
use crate::case::{Case, http2};

pub(crate) const CASES: &[Case] = &[
    http2("HTTP/2 to HTTP/1.1", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /a?b\nx-a: 1\n"),
    http2("HTTP/2 to HTTP/1.1 with a body", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\n\nabc"),
    http2("HTTP/2 to HTTP/1.1 with a body and its length", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ncontent-length: 3\n\nabc"),
    http2("HTTP/2 to HTTP/1.1 with trailers", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\n\nabc{trailers}x-t: 1\n").kept("trailers",
        "- server:   trailer x-t: 1",
    ),
    http2("HTTP/2 to HTTP/2", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\nx-a: 1\n\nabc").port("HTTP2").serve(&[":status: 200\nx-b: 2\n\nok"]),
    http2("HTTP/2 to HTTP/2 with trailers", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\n\nabc{trailers}x-t: 1\n").port("HTTP2").serve(&[":status: 200\n\nok{trailers}x-u: 1\n"]),
    http2("a length and no body", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ncontent-length: 5\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a length of HTTP/2 that is none", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ncontent-length: x\n\nabc").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("two equal lengths of HTTP/2", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ncontent-length: 3\ncontent-length: 3\n\nabc").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("two different lengths of HTTP/2", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ncontent-length: 3\ncontent-length: 4\n\nabc").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("no :method", ":scheme: http\n:authority: {host}\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("no :scheme", ":method: GET\n:authority: {host}\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("no :path", ":method: GET\n:scheme: http\n:authority: {host}\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("an empty :path", ":method: GET\n:scheme: http\n:authority: {host}\n:path: \n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("no :authority", ":method: GET\n:scheme: http\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("host instead of :authority", ":method: GET\n:scheme: http\n:path: /\nhost: {host}\n"),
    http2("host beside :authority", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nhost: {host}\n"),
    http2("another host beside :authority", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nhost: other.test\n").kept("malformed-stream",
        "- client: the stream is reset: 1\n\
         + client: :status: 200\n\
         + client: content-length: 2\n\
         + client: date: …\n\
         + client:   body \"ok\"\n\
         - log: 0 DPE HTTP/2 - - - sent 0\n\
         + server: GET / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-envoy-attempt-count: 1\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/2 GET / HOST sent 2",
    ),
    http2("an empty :authority", ":method: GET\n:scheme: http\n:authority: \n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("an :authority with a user", ":method: GET\n:scheme: http\n:authority: me@{host}\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("an :authority with a space", ":method: GET\n:scheme: http\n:authority: {host} a\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2(":method twice", ":method: GET\n:method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2(":path twice", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n:path: /b\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("an unknown pseudo field", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n:other: x\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a pseudo field of responses", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n:status: 200\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a pseudo field behind others", ":method: GET\n:scheme: http\n:authority: {host}\nx-a: b\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("capitals in a name", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nX-A: b\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a space in a name of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx a: b\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a NUL in a value of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-a: b{nul}c\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a carriage return in a value of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-a: b{cr}c\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("UTF-8 in a value of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-a: caf{xC3}{xA9}\n"),
    http2("spaces around a value of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-a:   b  \n").kept("malformed-stream",
        "- client: the stream is reset: 1\n\
         + client: :status: 200\n\
         + client: content-length: 2\n\
         + client: date: …\n\
         + client:   body \"ok\"\n\
         - log: 0 DPE HTTP/2 - - - sent 0\n\
         + server: GET / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-a: b\n\
         + server:   x-envoy-attempt-count: 1\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/2 GET / HOST sent 2",
    ),
    http2("an empty value of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-a: \n"),
    http2("underscores in a name of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx_a: b\n"),
    http2("connection in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nconnection: close\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("keep-alive in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nkeep-alive: timeout=5\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("transfer-encoding in HTTP/2", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\ntransfer-encoding: chunked\n\n0\r\n\r\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("upgrade in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nupgrade: websocket\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("proxy-connection in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nproxy-connection: close\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("te: trailers in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nte: trailers\n"),
    http2("te: gzip in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nte: gzip\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("an expectation of HTTP/2", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /\nexpect: 100-continue\n\nabc"),
    http2("cookies of HTTP/2 in pieces", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\ncookie: a=1\ncookie: b=2\n"),
    http2("cookies of HTTP/2 in pieces to HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\ncookie: a=1\ncookie: b=2\n").port("HTTP2"),
    http2("CONNECT of HTTP/2", ":method: CONNECT\n:authority: {host}:80\n"),
    http2("CONNECT of HTTP/2 with a path", ":method: CONNECT\n:scheme: http\n:authority: {host}:80\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("extended CONNECT for WebSocket", ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:authority: {host}\n:path: /chat\n{open}")
        .serve(&["HTTP/1.1 403 Forbidden\ncontent-length: 2\n\nno"]).kept("upgrades",
        "- client: :status: 403\n\
         - client: content-length: 2\n\
         - client: date: …\n\
         - client:   body \"no\"\n\
         - client: the connection goes on: 200\n\
         - server: GET /chat HTTP/1.1   at server v1\n\
         - server:   connection: upgrade\n\
         - server:   host: HOST\n\
         - server:   sec-websocket-key: …\n\
         - server:   upgrade: websocket\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 403 - HTTP/2 GET /chat HOST sent 2\n\
         + client: the connection is closed\n\
         + log: 0 DPE HTTP/2 - - - sent 0",
    ),
    http2("extended CONNECT for another protocol", ":method: CONNECT\n:protocol: other\n:scheme: http\n:authority: {host}\n:path: /\n").kept("upgrades",
        "- client: :status: 403\n\
         - client: date: …\n\
         - client:   body \"\"\n\
         - client: the connection goes on: 200\n\
         - log: 403 - HTTP/2 CONNECT / HOST sent 0\n\
         + client: the connection is closed\n\
         + log: 0 DPE HTTP/2 - - - sent 0",
    ),
    http2(":protocol of a GET", ":method: GET\n:protocol: websocket\n:scheme: http\n:authority: {host}\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a path of HTTP/2 without a slash", ":method: GET\n:scheme: http\n:authority: {host}\n:path: a\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("an asterisk of HTTP/2", ":method: OPTIONS\n:scheme: http\n:authority: {host}\n:path: *\n").kept("targets",
        "- log: 404 NR HTTP/2 OPTIONS * HOST sent 0\n\
         + log: 404 - HTTP/2 OPTIONS * HOST sent 0",
    ),
    http2("an asterisk of a GET in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: *\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a fragment in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /a#b\n").kept("malformed-stream",
        "- client: the stream is reset: 1\n\
         + client: :status: 400\n\
         + client: date: …\n\
         + client:   body \"\"\n\
         - log: 0 DPE HTTP/2 - - - sent 0\n\
         + log: 400 - HTTP/2 GET /a#b HOST sent 0",
    ),
    http2("a space in a path of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /a b\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("dots in a path of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /a/../b//c\n"),
    http2("an absolute path of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: http://{host}/a\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("a :scheme of https", ":method: GET\n:scheme: https\n:authority: {host}\n:path: /\n"),
    http2("a :scheme that nobody knows", ":method: GET\n:scheme: ftp\n:authority: {host}\n:path: /\n"),
    http2("an unknown method of HTTP/2", ":method: BREW\n:scheme: http\n:authority: {host}\n:path: /\n"),
    http2("a method of HTTP/2 with a space", ":method: GE T\n:scheme: http\n:authority: {host}\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("an empty method of HTTP/2", ":method: \n:scheme: http\n:authority: {host}\n:path: /\n").kept("malformed-stream", kept::MALFORMED_STREAM),
    http2("HEAD of HTTP/2", ":method: HEAD\n:scheme: http\n:authority: {host}\n:path: /\n").serve(&["HTTP/1.1 200 OK\ncontent-length: 10\n\n"]),
    http2("101 fields of HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n{x-#: y\n*101}").kept("large-heads",
        "- client: :status: 431\n\
         - client: content-length: 0\n\
         - client:   body \"\"\n\
         + client: the stream is reset: 2\n\
         - log: 431 DPE HTTP/2 - - - sent 0\n\
         + log: 0 DR HTTP/2 - - - sent 0",
    ),
    http2("a head of 70 KB in HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\nx-a: {a*70000}\n").kept("large-heads",
        "- client: goaway: 11\n\
         + client: goaway: 9\n\
         + log: 0 DPE HTTP/2 - - - sent 0",
    ),
    http2("an answer in chunks for HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n0\nX-T: 1\n\n"]).kept("trailers", kept::TRAILERS),
    http2("an answer with fields of its connection for HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n")
        .serve(&["HTTP/1.1 200 OK\nconnection: x-a, close\nx-a: 1\nkeep-alive: timeout=1\nproxy-connection: a\nupgrade: h2c\ncontent-length: 2\n\nok{close}"]).kept("connection-names",
        "+ client: x-a: 1",
    ),
    http2("103 for HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").serve(&["HTTP/1.1 103 Early Hints\nlink: </a>\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok"]).kept("interim",
        "- client: :status: 103\n\
         - client: link: </a>",
    ),
    http2("closed within the body for HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").serve(&["HTTP/1.1 200 OK\ncontent-length: 10\n\nok{close}"]),
    http2("closed before an answer for HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").serve(&["{close}"]).kept("safe-retries",
        "- client: content-length: 118\n\
         + client: content-length: 95\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: connection termination\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 2\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 3\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 503 UC HTTP/2 GET / HOST sent 118\n\
         + log: 503 UC HTTP/2 GET / HOST sent 95",
    ),
    http2("a server of HTTP/2 that resets", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").serve(&["{rst 2}"]).kept("safe-retries",
        "- client: content-length: 108\n\
         + client: content-length: 85\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote reset\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote reset\"\n\
         - server: :authority: HOST   at server v1\n\
         - server: :method: GET\n\
         - server: :path: /\n\
         - server: :scheme: http\n\
         - server: x-envoy-attempt-count: 2\n\
         - server: x-forwarded-proto: http\n\
         - server: x-request-id: …\n\
         - server:   body \"\"\n\
         - server: :authority: HOST   at server v1\n\
         - server: :method: GET\n\
         - server: :path: /\n\
         - server: :scheme: http\n\
         - server: x-envoy-attempt-count: 3\n\
         - server: x-forwarded-proto: http\n\
         - server: x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 503 UR HTTP/2 GET / HOST sent 108\n\
         + log: 503 UR HTTP/2 GET / HOST sent 85",
    ),
    http2("a server of HTTP/2 that refuses once", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").serve(&["{rst 7}", ":status: 200\n\nok"]),
    http2("a server of HTTP/2 that resets within its body", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").serve(&[":status: 200\n\nok{pause}{rst 2}"]),
    http2("a server of HTTP/2 that closes", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").serve(&["{close}"]).kept("safe-retries",
        "- client: content-length: 118\n\
         + client: content-length: 95\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: connection termination\"\n\
         - server: :authority: HOST   at server v1\n\
         - server: :method: GET\n\
         - server: :path: /\n\
         - server: :scheme: http\n\
         - server: x-envoy-attempt-count: 2\n\
         - server: x-forwarded-proto: http\n\
         - server: x-request-id: …\n\
         - server:   body \"\"\n\
         - server: :authority: HOST   at server v1\n\
         - server: :method: GET\n\
         - server: :path: /\n\
         - server: :scheme: http\n\
         - server: x-envoy-attempt-count: 3\n\
         - server: x-forwarded-proto: http\n\
         - server: x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 503 UC HTTP/2 GET / HOST sent 118\n\
         + log: 503 UC HTTP/2 GET / HOST sent 95",
    ),
    http2("a server of HTTP/2 that answers without a status", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").serve(&["x-a: b\n"]),
    http2("a server of HTTP/2 with capitals in a name", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").serve(&[":status: 200\nX-A: b\n\nok"]),
    http2("a server of HTTP/2 with connection", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").serve(&[":status: 200\nconnection: close\n\nok"]),
];
