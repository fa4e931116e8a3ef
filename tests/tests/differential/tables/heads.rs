//! Heads of HTTP/1: their syntax, their size, hosts, methods.

use super::kept;
use crate::case::{Case, case as outbound};

/// A request to the server's proxy, which takes whatever comes for HTTP.
const fn case(name: &'static str, send: &'static str) -> Case {
    crate::case::case(name, send).inbound()
}

pub(crate) const CASES: &[Case] = &[
    case("an empty line before the request", "\nGET / HTTP/1.1\nhost: {host}\n\n"),
    case("two empty lines before the request", "\n\nGET / HTTP/1.1\nhost: {host}\n\n"),
    case("a bare line feed before the request", "{lf}GET / HTTP/1.1\nhost: {host}\n\n"),
    case("a space before the request", " GET / HTTP/1.1\nhost: {host}\n\n"),
    case("bare line feeds in a head", "GET / HTTP/1.1{lf}host: {host}{lf}x-a: b{lf}{lf}"),
    case("a bare carriage return in a value", "GET / HTTP/1.1\nhost: {host}\nx-a: b{cr}c\n\n").kept("strict-heads",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"ok\"\n\
         + client: the connection goes on: 200\n\
         + server: GET / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-a: bc\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("a bare carriage return at a line's end", "GET / HTTP/1.1\nhost: {host}\nx-a: b{cr}x-b: c\n\n").kept("strict-heads",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"ok\"\n\
         + client: the connection goes on: 200\n\
         + server: GET / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-a: bx-b: c\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("a NUL in a value", "GET / HTTP/1.1\nhost: {host}\nx-a: b{nul}c\n\n"),
    case("a NUL in a name", "GET / HTTP/1.1\nhost: {host}\nx{nul}a: b\n\n"),
    case("a control byte in a value", "GET / HTTP/1.1\nhost: {host}\nx-a: b{x01}c\n\n"),
    case("DEL in a value", "GET / HTTP/1.1\nhost: {host}\nx-a: b{x7F}c\n\n"),
    case("a tab in a value", "GET / HTTP/1.1\nhost: {host}\nx-a: b\tc\n\n"),
    case("UTF-8 in a value", "GET / HTTP/1.1\nhost: {host}\nx-a: caf{xC3}{xA9}\n\n"),
    case("Latin-1 in a value", "GET / HTTP/1.1\nhost: {host}\nx-a: caf{xE9}\n\n"),
    case("UTF-8 in a name", "GET / HTTP/1.1\nhost: {host}\nx-{xC3}{xA9}: b\n\n"),
    case("a space before a colon", "GET / HTTP/1.1\nhost: {host}\nx-a : b\n\n"),
    case("a tab before a colon", "GET / HTTP/1.1\nhost: {host}\nx-a\t: b\n\n"),
    case("a space in a name", "GET / HTTP/1.1\nhost: {host}\nx a: b\n\n"),
    case("a space before a name", "GET / HTTP/1.1\n x-a: b\nhost: {host}\n\n"),
    case("a folded value", "GET / HTTP/1.1\nhost: {host}\nx-a: b\n c\n\n").kept("strict-heads",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"ok\"\n\
         + client: the connection goes on: 200\n\
         + server: GET / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-a: b c\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("a value folded by a tab", "GET / HTTP/1.1\nhost: {host}\nx-a: b\n\tc\n\n").kept("strict-heads",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"ok\"\n\
         + client: the connection goes on: 200\n\
         + server: GET / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-a: b\\tc\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("no colon", "GET / HTTP/1.1\nhost: {host}\nx-a\n\n"),
    case("an empty name", "GET / HTTP/1.1\nhost: {host}\n: b\n\n"),
    case("an empty value", "GET / HTTP/1.1\nhost: {host}\nx-a:\nx-b:  \n\n"),
    case("spaces around a value", "GET / HTTP/1.1\nhost: {host}\nx-a: \t b \t \n\n"),
    case("no space after a colon", "GET / HTTP/1.1\nhost:{host}\nx-a:b\n\n"),
    case("names in capitals", "GET / HTTP/1.1\nHOST: {host}\nX-Mixed-Case: Value\nUSER-AGENT: Me\n\n"),
    case("underscores in a name", "GET / HTTP/1.1\nhost: {host}\nx_a: b\n\n"),
    case("odd but legal names", "GET / HTTP/1.1\nhost: {host}\n!#$%&'*+-.^_`|~: b\n\n"),
    case("a name in parentheses", "GET / HTTP/1.1\nhost: {host}\n(x): b\n\n"),
    case("a name with a slash", "GET / HTTP/1.1\nhost: {host}\na/b: c\n\n"),
    case("one name several times", "GET / HTTP/1.1\nhost: {host}\nx-a: 1\nx-b: 2\nx-a: 3\nX-A: 4\n\n"),
    case("cookies in two fields", "GET / HTTP/1.1\nhost: {host}\ncookie: a=1\ncookie: b=2\n\n").kept("own-fields",
        "- server:   cookie: a=1; b=2\n\
         + server:   cookie: a=1\n\
         + server:   cookie: b=2",
    ),
    case("a pseudo field of HTTP/2", "GET / HTTP/1.1\nhost: {host}\n:path: /b\n\n"),
    case("99 fields", "GET / HTTP/1.1\nhost: {host}\n{x-#: y\n*98}\n"),
    case("101 fields", "GET / HTTP/1.1\nhost: {host}\n{x-#: y\n*100}\n"),
    case("a value of 8 KB", "GET / HTTP/1.1\nhost: {host}\nx-a: {a*8000}\n\n"),
    case("a head of 59 KB", "GET / HTTP/1.1\nhost: {host}\nx-a: {a*59000}\n\n"),
    case("a head of 70 KB", "GET / HTTP/1.1\nhost: {host}\nx-a: {a*70000}\n\n"),
    case("a head of 70 KB in fields", "GET / HTTP/1.1\nhost: {host}\n{x-#: LONG\n*90}\n"),
    case("a target of 50 KB", "GET /{a*50000} HTTP/1.1\nhost: {host}\n\n").kept("long-values",
        "- log: 200 - HTTP/1.1 GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… of 8228\n\
         + log: 200 - HTTP/1.1 GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… of 50037",
    ),
    case("a target of 70 KB", "GET /{a*70000} HTTP/1.1\nhost: {host}\n\n"),
    case("a name of 1000 bytes", "GET / HTTP/1.1\nhost: {host}\n{a*1000}: b\n\n"),
    outbound("no host", "GET / HTTP/1.1\nx-a: b\n\n").kept("no-host", kept::NO_HOST),
    outbound("an empty host", "GET / HTTP/1.1\nhost:\n\n").kept("strict-hosts",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         + client: the connection goes on: 200\n\
         + log: 503 UF HTTP/1.1 GET /  sent 98",
    ),
    outbound("two equal hosts", "GET / HTTP/1.1\nhost: {host}\nhost: {host}\n\n").kept("strict-hosts",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         + client: the connection goes on: 200\n\
         + log: 503 UF HTTP/1.1 GET / HOST,HOST sent 98",
    ),
    outbound("two different hosts", "GET / HTTP/1.1\nhost: {host}\nhost: other.test\n\n").kept("strict-hosts", kept::STRICT_HOSTS),
    outbound("a host with a port", "GET / HTTP/1.1\nhost: {host}:80\n\n"),
    outbound("a host with an empty port", "GET / HTTP/1.1\nhost: {host}:\n\n").kept("by-address",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST:\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST: sent 2\n\
         + log: 503 UF HTTP/1.1 GET / HOST: sent 98",
    ),
    outbound("a host with a bad port", "GET / HTTP/1.1\nhost: {host}:http\n\n").kept("by-address",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST:http\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST:http sent 2\n\
         + log: 503 UF HTTP/1.1 GET / HOST:http sent 98",
    ),
    outbound("a host with a huge port", "GET / HTTP/1.1\nhost: {host}:99999999\n\n").kept("by-address",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST:99999999\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST:99999999 sent 2\n\
         + log: 503 UF HTTP/1.1 GET / HOST:99999999 sent 98",
    ),
    outbound("a host in capitals", "GET / HTTP/1.1\nhost: {name}.DIFF.test\n\n"),
    outbound("a host with a dot at its end", "GET / HTTP/1.1\nhost: {host}.\n\n").kept("by-address",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: HOST.\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / HOST. sent 2\n\
         + log: 503 UF HTTP/1.1 GET / HOST. sent 98",
    ),
    outbound("a host with a path", "GET / HTTP/1.1\nhost: {host}/a\n\n"),
    outbound("a host with a user", "GET / HTTP/1.1\nhost: me@{host}\n\n").kept("strict-hosts",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         + client: the connection goes on: 200\n\
         + log: 503 UF HTTP/1.1 GET / me@HOST sent 98",
    ),
    outbound("a host with a space", "GET / HTTP/1.1\nhost: {host} a\n\n"),
    outbound("a host with a comma", "GET / HTTP/1.1\nhost: {host},other.test\n\n").kept("strict-hosts", kept::STRICT_HOSTS),
    outbound("a host with a brace", "GET / HTTP/1.1\nhost: a<b>.test\n\n"),
    outbound("a host with an underscore", "GET / HTTP/1.1\nhost: a_b.test\n\n").kept("by-address",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: a_b.test\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / a_b.test sent 2\n\
         + log: 503 UF HTTP/1.1 GET / a_b.test sent 98",
    ),
    outbound("a host in UTF-8", "GET / HTTP/1.1\nhost: {xC3}{xA9}.test\n\n"),
    outbound("a host of 600 bytes", "GET / HTTP/1.1\nhost: {a*600}.test\n\n").kept("strict-hosts",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         + client: the connection goes on: 200\n\
         + log: 503 UF HTTP/1.1 GET / aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… of 640",
    ),
    outbound("a host that is not the service's", "GET / HTTP/1.1\nhost: other.test\n\n").kept("by-address",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 98\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
         - server: GET / HTTP/1.1   at server v1\n\
         - server:   host: other.test\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET / other.test sent 2\n\
         + log: 503 UF HTTP/1.1 GET / other.test sent 98",
    ),
    case("an unknown method", "BREW / HTTP/1.1\nhost: {host}\n\n").kept("methods",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 400 Bad Request\n\
         + client:   connection: close\n\
         + client:   content-length: 11\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: BREW / HTTP/1.1   at server v1\n\
         - server:   content-length: 0\n\
         - server:   host: HOST\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 BREW / HOST sent 2\n\
         + client:   body \"Bad Request\"\n\
         + client: the connection is closed\n\
         + log: 400 DPE HTTP/1.1 - - - sent 11",
    ),
    case("a method in lower case", "get / HTTP/1.1\nhost: {host}\n\n").kept("methods",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 400 Bad Request\n\
         + client:   connection: close\n\
         + client:   content-length: 11\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: get / HTTP/1.1   at server v1\n\
         - server:   content-length: 0\n\
         - server:   host: HOST\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 get / HOST sent 2\n\
         + client:   body \"Bad Request\"\n\
         + client: the connection is closed\n\
         + log: 400 DPE HTTP/1.1 - - - sent 11",
    ),
    case("PATCH", "PATCH / HTTP/1.1\nhost: {host}\ncontent-length: 1\n\na"),
    case("a method of WebDAV", "PROPFIND / HTTP/1.1\nhost: {host}\n\n"),
    case("a method of HTTP/2's preface", "PRI / HTTP/1.1\nhost: {host}\n\n").kept("methods",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 400 Bad Request\n\
         + client:   connection: close\n\
         + client:   content-length: 11\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: PRI / HTTP/1.1   at server v1\n\
         - server:   content-length: 0\n\
         - server:   host: HOST\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 PRI / HOST sent 2\n\
         + client:   body \"Bad Request\"\n\
         + client: the connection is closed\n\
         + log: 400 DPE HTTP/1.1 - - - sent 11",
    ),
    case("a method of 40 letters", "{A*40} / HTTP/1.1\nhost: {host}\n\n").kept("methods",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 400 Bad Request\n\
         + client:   connection: close\n\
         + client:   content-length: 11\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1   at server v1\n\
         - server:   content-length: 0\n\
         - server:   host: HOST\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HOST sent 2\n\
         + client:   body \"Bad Request\"\n\
         + client: the connection is closed\n\
         + log: 400 DPE HTTP/1.1 - - - sent 11",
    ),
    case("a method of 8000 letters", "{A*8000} / HTTP/1.1\nhost: {host}\n\n").kept("methods",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 400 Bad Request\n\
         + client:   connection: close\n\
         + client:   content-length: 11\n\
         + client:   content-type: text/plain\n\
         - client:   body \"ok\"\n\
         - client: the connection goes on: 200\n\
         - server: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA… of 8034\n\
         - server:   content-length: 0\n\
         - server:   host: HOST\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA… of 8034\n\
         + client:   body \"Bad Request\"\n\
         + client: the connection is closed\n\
         + log: 400 DPE HTTP/1.1 - - - sent 11",
    ),
    case("a method that is no token", "G(T / HTTP/1.1\nhost: {host}\n\n"),
    case("TRACE", "TRACE / HTTP/1.1\nhost: {host}\n\n"),
    case("OPTIONS", "OPTIONS /a HTTP/1.1\nhost: {host}\n\n"),
    case("HEAD", "HEAD / HTTP/1.1\nhost: {host}\n\n").serve(&["HTTP/1.1 200 OK\ncontent-length: 10\n\n"]),
    case("HEAD answered with chunks", "HEAD / HTTP/1.1\nhost: {host}\n\n").serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n"]),
    case("HEAD answered without a length", "HEAD / HTTP/1.1\nhost: {host}\n\n").serve(&["HTTP/1.1 200 OK\n\n"]).kept("head-length", kept::HEAD_LENGTH),
    case("HEAD answered with a body", "HEAD / HTTP/1.1\nhost: {host}\n\n").serve(&["HTTP/1.1 200 OK\ncontent-length: 2\n\nok{close}"]),
    case("two spaces in the request line", "GET  / HTTP/1.1\nhost: {host}\n\n").kept("strict-heads", kept::STRICT_HEADS),
    case("a tab in the request line", "GET\t/ HTTP/1.1\nhost: {host}\n\n").kept("strict-heads", kept::STRICT_HEADS),
    case("a space behind the request line", "GET / HTTP/1.1 \nhost: {host}\n\n").kept("strict-heads", kept::STRICT_HEADS),
    case("no version", "GET /\nhost: {host}\n\n").kept("http10", kept::HTTP10_2),
    case("HTTP/2.0 in words", "GET / HTTP/2.0\nhost: {host}\n\n").kept("versions", kept::VERSIONS),
    case("HTTP/1.2", "GET / HTTP/1.2\nhost: {host}\n\n").kept("versions", kept::VERSIONS),
    outbound("HTTP/0.9 in words", "GET / HTTP/0.9\nhost: {host}\n\n").kept("versions",
        "- client: HTTP/1.1 505 HTTP Version Not Supported\n\
         - client:   connection: close\n\
         - client:   content-length: 26\n\
         - client:   content-type: text/plain\n\
         - client:   date: …\n\
         - client:   body \"HTTP Version Not Supported\"\n\
         - log: 505 DPE HTTP/1.1 - - - sent 26\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    case("a version in lower case", "GET / http/1.1\nhost: {host}\n\n"),
    case("a version with many digits", "GET / HTTP/01.1\nhost: {host}\n\n"),
    case("another protocol", "GET / ICY/1.1\nhost: {host}\n\n"),
    outbound("no HTTP at all", "hello\n\n").kept("not-http", kept::NOT_HTTP),
    case("nothing", "{eof}").answers(0),
];
