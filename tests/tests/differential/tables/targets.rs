//! What a request line asks for: forms of targets, paths that are made plain.

use super::kept;
use crate::case::{Case, case as outbound};

/// A request to the server's proxy, which takes whatever comes for HTTP.
const fn case(name: &'static str, send: &'static str) -> Case {
    crate::case::case(name, send).inbound()
}

pub(crate) const CASES: &[Case] = &[
    outbound("absolute form", "GET http://{host}/a?b=c HTTP/1.1\nhost: {host}\n\n"),
    outbound("absolute form with another host", "GET http://{host}/a HTTP/1.1\nhost: other.test\n\n"),
    outbound("absolute form without a path", "GET http://{host} HTTP/1.1\nhost: {host}\n\n"),
    outbound("absolute form with a query and no path", "GET http://{host}?a=b HTTP/1.1\nhost: {host}\n\n").kept("strict-hosts",
        "- client: HTTP/1.1 200 OK\n\
         - client:   content-length: 2\n\
         + client: HTTP/1.1 404 Not Found\n\
         + client:   content-length: 0\n\
         - client:   body \"ok\"\n\
         + client:   body \"\"\n\
         - server: GET /?a=b HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.1 GET /?a=b HOST sent 2\n\
         + log: 404 - HTTP/1.1 GET ?a=b HOST sent 0",
    ),
    outbound("absolute form of https", "GET https://{host}/a HTTP/1.1\nhost: {host}\n\n"),
    outbound("absolute form of ftp", "GET ftp://{host}/a HTTP/1.1\nhost: {host}\n\n"),
    outbound("absolute form with a port", "GET http://{host}:80/a HTTP/1.1\nhost: {host}\n\n"),
    outbound("absolute form with a user", "GET http://me@{host}/a HTTP/1.1\nhost: {host}\n\n").kept("strict-hosts",
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
         + server: GET /a HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-envoy-attempt-count: 1\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET /a HOST sent 2",
    ),
    outbound("absolute form in capitals", "GET HTTP://{host}/a HTTP/1.1\nhost: {host}\n\n"),
    outbound("absolute form without a host field", "GET http://{host}/a HTTP/1.1\n\n").kept("strict-hosts",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 0\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"\"\n\
         - client: the connection is closed\n\
         - log: 400 - HTTP/1.1 - - - sent 0\n\
         + client:   body \"ok\"\n\
         + client: the connection goes on: 200\n\
         + server: GET /a HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-envoy-attempt-count: 1\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET /a HOST sent 2",
    ),
    outbound("absolute form of HTTP/1.0", "GET http://{host}/a HTTP/1.0\n\n").kept("http10",
        "- client: HTTP/1.0 200 OK\n\
         - client:   connection: close\n\
         - client:   content-length: 2\n\
         - client:   date: …\n\
         - client:   body \"ok\"\n\
         - server: GET /a HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 200 - HTTP/1.0 GET /a HOST sent 2\n\
         + log: 0 UF,URX - - - - sent 0",
    ),
    outbound("OPTIONS of absolute form without a path", "OPTIONS http://{host} HTTP/1.1\nhost: {host}\n\n").kept("strict-hosts",
        "- client: HTTP/1.1 404 Not Found\n\
         - client:   content-length: 0\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"\"\n\
         + client:   body \"ok\"\n\
         - log: 404 NR HTTP/1.1 OPTIONS * HOST sent 0\n\
         + server: OPTIONS / HTTP/1.1   at server v1\n\
         + server:   content-length: 0\n\
         + server:   host: HOST\n\
         + server:   x-envoy-attempt-count: 1\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 OPTIONS / HOST sent 2",
    ),
    outbound("asterisk form of OPTIONS", "OPTIONS * HTTP/1.1\nhost: {host}\n\n").kept("targets",
        "- log: 404 NR HTTP/1.1 OPTIONS * HOST sent 0\n\
         + log: 404 - HTTP/1.1 OPTIONS * HOST sent 0",
    ),
    outbound("asterisk form of GET", "GET * HTTP/1.1\nhost: {host}\n\n"),
    outbound("authority form of GET", "GET {host}:80 HTTP/1.1\nhost: {host}\n\n").kept("not-http", kept::NOT_HTTP),
    outbound("CONNECT", "CONNECT {host}:80 HTTP/1.1\nhost: {host}:80\n\n"),
    case("CONNECT without a port", "CONNECT {host} HTTP/1.1\nhost: {host}\n\n"),
    case("CONNECT to a path", "CONNECT /a HTTP/1.1\nhost: {host}\n\n"),
    case("a target without a slash", "GET a HTTP/1.1\nhost: {host}\n\n"),
    case("an empty target", "GET  HTTP/1.1\nhost: {host}\n\n"),
    case("only a query", "GET ?a=b HTTP/1.1\nhost: {host}\n\n"),
    case("a fragment", "GET /a#b HTTP/1.1\nhost: {host}\n\n").kept("targets",
        "- client:   content-length: 11\n\
         - client:   content-type: text/plain\n\
         + client:   content-length: 0\n\
         - client:   body \"Bad Request\"\n\
         + client:   body \"\"\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + log: 400 - HTTP/1.1 GET /a#b HOST sent 0",
    ),
    case("a fragment behind a query", "GET /a?b#c HTTP/1.1\nhost: {host}\n\n").kept("targets",
        "- client:   content-length: 11\n\
         - client:   content-type: text/plain\n\
         + client:   content-length: 0\n\
         - client:   body \"Bad Request\"\n\
         + client:   body \"\"\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11\n\
         + log: 400 - HTTP/1.1 GET /a?b#c HOST sent 0",
    ),
    case("two slashes at the start", "GET //a/b HTTP/1.1\nhost: {host}\n\n"),
    case("two slashes within", "GET /a//b HTTP/1.1\nhost: {host}\n\n"),
    case("dots", "GET /a/./b/../c HTTP/1.1\nhost: {host}\n\n"),
    case("dots at the end", "GET /a/b/.. HTTP/1.1\nhost: {host}\n\n"),
    case("a dot at the end", "GET /a/. HTTP/1.1\nhost: {host}\n\n"),
    case("dots above the root", "GET /../../a HTTP/1.1\nhost: {host}\n\n").kept("targets",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   content-length: 0\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"\"\n\
         + client:   body \"ok\"\n\
         - log: 400 - HTTP/1.1 GET /../../a HOST sent 0\n\
         + server: GET /a HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"\"\n\
         + log: 200 - HTTP/1.1 GET /a HOST sent 2",
    ),
    case("three dots", "GET /a/.../b HTTP/1.1\nhost: {host}\n\n"),
    case("escaped dots", "GET /a/%2e%2e/b HTTP/1.1\nhost: {host}\n\n"),
    case("half escaped dots", "GET /a/.%2E/b HTTP/1.1\nhost: {host}\n\n"),
    case("an escaped slash", "GET /a%2Fb%2fc HTTP/1.1\nhost: {host}\n\n"),
    case("dots behind an escaped slash", "GET /a%2f..%2fb HTTP/1.1\nhost: {host}\n\n"),
    case("an escaped backslash", "GET /a%5Cb HTTP/1.1\nhost: {host}\n\n"),
    case("a backslash", "GET /a\\b HTTP/1.1\nhost: {host}\n\n"),
    case("dots behind a backslash", "GET /a\\..\\b HTTP/1.1\nhost: {host}\n\n"),
    case("letters that are escaped", "GET /%61%62 HTTP/1.1\nhost: {host}\n\n"),
    case("escapes in small letters", "GET /a%3a%c3%a9 HTTP/1.1\nhost: {host}\n\n"),
    case("an escape that is none", "GET /a%zz HTTP/1.1\nhost: {host}\n\n"),
    case("half an escape", "GET /a% HTTP/1.1\nhost: {host}\n\n"),
    case("an escaped NUL", "GET /a%00b HTTP/1.1\nhost: {host}\n\n").kept("targets", kept::UPGRADES),
    case("an escape whose last digit is escaped", "GET /a/%2%65%2%65/b HTTP/1.1\nhost: {host}\n\n"),
    case("an escape whose first digit is escaped", "GET /a/%%32e%%32e/b HTTP/1.1\nhost: {host}\n\n"),
    case("an escape whose digits are escaped", "GET /a/%%32%65%%32%65/b HTTP/1.1\nhost: {host}\n\n"),
    case("an escaped percent sign", "GET /a%252e%252e/b HTTP/1.1\nhost: {host}\n\n"),
    case("an escaped question mark", "GET /a%3Fb HTTP/1.1\nhost: {host}\n\n"),
    case("a semicolon", "GET /a;b=c/d HTTP/1.1\nhost: {host}\n\n"),
    case("dots behind a semicolon", "GET /a/..;/b HTTP/1.1\nhost: {host}\n\n"),
    case("dots in a query", "GET /a?b=/../c%2e HTTP/1.1\nhost: {host}\n\n"),
    case("two question marks", "GET /a?b?c HTTP/1.1\nhost: {host}\n\n"),
    case("an empty query", "GET /a? HTTP/1.1\nhost: {host}\n\n"),
    case("characters that should be escaped", "GET /a\"<>^`|b HTTP/1.1\nhost: {host}\n\n"),
    case("braces that should be escaped", "GET /a{x7B}b{x7D} HTTP/1.1\nhost: {host}\n\n"),
    case("UTF-8 in a path", "GET /{xC3}{xA9} HTTP/1.1\nhost: {host}\n\n"),
    case("UTF-8 in a query", "GET /?{xC3}{xA9} HTTP/1.1\nhost: {host}\n\n"),
    case("a NUL in a path", "GET /a{nul}b HTTP/1.1\nhost: {host}\n\n"),
    case("a tab in a path", "GET /a\tb HTTP/1.1\nhost: {host}\n\n"),
    case("a path with other marks", "GET /a:b@c!$&'()*+,=~_-.d HTTP/1.1\nhost: {host}\n\n"),
];
