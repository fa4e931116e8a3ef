//! What servers answer, right and wrong.

use super::kept;
use crate::case::{Case, case};

const GET: &str = "GET / HTTP/1.1\nhost: {host}\n\n";

/// One of many requests.
macro_rules! get {
    () => { "GET / HTTP/1.1\nhost: {host}\n\n{read}" };
}

/// An answer of this status, called whatever.
macro_rules! said {
    ($status:literal) => { concat!("HTTP/1.1 ", $status, " Whatever\ncontent-length: 0\n\n") };
}

pub(crate) const CASES: &[Case] = &[
    case("an answer in chunks", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n0\n\n"]),
    case("an answer with trailers", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n0\nx-t: 1\n\n"]).kept("trailers", kept::TRAILERS),
    case("an answer with trailers for a client that takes them", "GET / HTTP/1.1\nhost: {host}\nte: trailers\n\n")
        .serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\ntrailer: x-t\n\n2\nok\n0\nX-T: 1\n\n"]).kept("trailers", kept::TRAILERS),
    case("an answer that ends with its connection", GET).serve(&["HTTP/1.1 200 OK\n\nok{close}"]),
    case("an answer of HTTP/1.0", GET).serve(&["HTTP/1.0 200 OK\ncontent-length: 2\n\nok{close}"]),
    case("an answer of HTTP/1.0 without a length", GET).serve(&["HTTP/1.0 200 OK\n\nok{close}"]),
    case("an answer of HTTP/1.0 in chunks", GET).serve(&["HTTP/1.0 200 OK\ntransfer-encoding: chunked\n\n2\nok\n0\n\n{close}"]).kept("http10",
        "- client: HTTP/1.1 502 Bad Gateway\n\
         - client:   content-length: 87\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. reset reason: protocol error\"\n\
         + client:   transfer-encoding: chunked\n\
         + client:   body \"ok\"\n\
         - log: 502 UPE HTTP/1.1 GET / HOST sent 87\n\
         + log: 200 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("an answer of HTTP/0.9", GET).serve(&["<html>ok</html>\n\n{close}"]),
    case("an answer of HTTP/2.0 in words", GET).serve(&["HTTP/2.0 200 OK\ncontent-length: 2\n\nok{close}"]).kept("versions", kept::VERSIONS_2),
    case("an answer of HTTP/1.2", GET).serve(&["HTTP/1.2 200 OK\ncontent-length: 2\n\nok{close}"]).kept("versions", kept::VERSIONS_2),
    case("an answer with connection: close", GET).serve(&["HTTP/1.1 200 OK\nconnection: close\ncontent-length: 2\n\nok{close}"]),
    case("an answer with fields that connection names", GET)
        .serve(&["HTTP/1.1 200 OK\nconnection: x-a\nx-a: 1\nx-b: 2\nkeep-alive: timeout=1\ncontent-length: 2\n\nok"]).kept("connection-names",
        "+ client:   x-a: 1",
    ),
    case("an answer with a length and chunks", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 2\ntransfer-encoding: chunked\n\n2\nok\n0\n\n{close}"]),
    case("an answer with two equal lengths", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 2\ncontent-length: 2\n\nok{close}"]),
    case("an answer with two different lengths", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 2\ncontent-length: 3\n\nok{close}"]),
    case("an answer with equal lengths in one field", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 2, 2\n\nok{close}"]),
    case("an answer with a length that is none", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: two\n\nok{close}"]),
    case("an answer in gzip and chunks", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: gzip, chunked\n\n2\nok\n0\n\n{close}"]),
    case("an answer with an unknown coding", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: other\n\nok{close}"]),
    case("an answer with identity", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: identity\n\nok{close}"]),
    case("204", GET).serve(&["HTTP/1.1 204 No Content\n\n"]),
    case("204 with a length of 0", GET).serve(&["HTTP/1.1 204 No Content\ncontent-length: 0\n\n"]),
    case("204 with a length", GET).serve(&["HTTP/1.1 204 No Content\ncontent-length: 2\n\nok{close}"]),
    case("204 with chunks", GET).serve(&["HTTP/1.1 204 No Content\ntransfer-encoding: chunked\n\n2\nok\n0\n\n{close}"]),
    case("304", GET).serve(&["HTTP/1.1 304 Not Modified\netag: x\n\n"]),
    case("304 with a length", GET).serve(&["HTTP/1.1 304 Not Modified\ncontent-length: 100\n\n"]),
    case("304 with a body", GET).serve(&["HTTP/1.1 304 Not Modified\ncontent-length: 2\n\nok{close}"]),
    case("205", GET).serve(&["HTTP/1.1 205 Reset Content\ncontent-length: 0\n\n"]),
    case("404", GET).serve(&["HTTP/1.1 404 Not Found\ncontent-length: 4\n\nnone"]),
    case("500", GET).serve(&["HTTP/1.1 500 Oops\ncontent-length: 4\n\noops"]),
    case("503 of the server's own", GET).serve(&["HTTP/1.1 503 Busy\nretry-after: 5\ncontent-length: 4\n\nbusy"]),
    case("what statuses are called", concat!(
        get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(),
        get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(),
        get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(), get!(),
        get!(), get!(), get!(),
    )).answers(51).serve(&[
            said!("201"), said!("202"), said!("203"), said!("206"), said!("207"), said!("208"), said!("226"), said!("300"),
            said!("301"), said!("302"), said!("303"), said!("305"), said!("307"), said!("308"), said!("400"), said!("401"),
            said!("402"), said!("403"), said!("404"), said!("405"), said!("406"), said!("407"), said!("409"), said!("410"),
            said!("411"), said!("412"), said!("413"), said!("414"), said!("415"), said!("416"), said!("417"), said!("418"),
            said!("421"), said!("422"), said!("423"), said!("424"), said!("425"), said!("426"), said!("428"), said!("429"),
            said!("431"), said!("451"), said!("501"), said!("502"), said!("504"), said!("505"), said!("506"), said!("507"),
            said!("508"), said!("510"), said!("511"),
    ]),
    case("a status that nobody knows", GET).serve(&["HTTP/1.1 299 Odd\ncontent-length: 2\n\nok"]),
    case("status 600", GET).serve(&["HTTP/1.1 600 Odd\ncontent-length: 2\n\nok"]),
    case("status 999", GET).serve(&["HTTP/1.1 999 Odd\ncontent-length: 2\n\nok"]),
    case("status 1000", GET).serve(&["HTTP/1.1 1000 Odd\ncontent-length: 2\n\nok{close}"]).kept("versions",
        "- client: HTTP/1.1 502 Bad Gateway\n\
         - client:   content-length: 87\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 1000 Unknown\n\
         + client:   content-length: 2\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. reset reason: protocol error\"\n\
         + client:   body \"ok\"\n\
         - log: 502 UPE HTTP/1.1 GET / HOST sent 87\n\
         + log: 1000 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("status 99", GET).serve(&["HTTP/1.1 99 Odd\ncontent-length: 2\n\nok{close}"]),
    case("a status that is no number", GET).serve(&["HTTP/1.1 two OK\ncontent-length: 2\n\nok{close}"]),
    case("no reason", GET).serve(&["HTTP/1.1 200 \ncontent-length: 2\n\nok"]),
    case("no reason and no space", GET).serve(&["HTTP/1.1 200\ncontent-length: 2\n\nok"]),
    case("a reason of its own", GET).serve(&["HTTP/1.1 200 Fine by me\ncontent-length: 2\n\nok"]),
    case("100 first", GET).serve(&["HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok"]),
    case("102 first", GET).serve(&["HTTP/1.1 102 Processing\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok"]).kept("interim",
        "- client: HTTP/1.1 102 Processing",
    ),
    case("103 first", GET).serve(&["HTTP/1.1 103 Early Hints\nlink: </a>\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok"]).kept("interim",
        "- client: HTTP/1.1 103 Early Hints\n\
         - client:   link: </a>",
    ),
    case("103 for HTTP/1.0", "GET / HTTP/1.0\nhost: {host}\n\n").serve(&["HTTP/1.1 103 Early Hints\nlink: </a>\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok"]).kept("http10", kept::HTTP10),
    case("101 that nobody asked for", GET).serve(&["HTTP/1.1 101 Switching Protocols\nconnection: upgrade\nupgrade: websocket\n\n{close}"]).kept("unasked-switch",
        "- client: HTTP/1.1 502 Bad Gateway\n\
         - client:   content-length: 87\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 101 Switching Protocols\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. reset reason: protocol error\"\n\
         - log: 502 UPE HTTP/1.1 GET / HOST sent 87\n\
         + log: 101 - HTTP/1.1 GET / HOST sent 0",
    ),
    case("100 and then nothing", GET).serve(&["HTTP/1.1 100 Continue\n\n{close}"]).kept("safe-retries", kept::SAFE_RETRIES),
    case("closed before an answer", GET).serve(&["{close}"]).kept("safe-retries", kept::SAFE_RETRIES),
    case("reset before an answer", GET).serve(&["{reset}"]).kept("safe-retries", kept::SAFE_RETRIES),
    case("closed within the status line", GET).serve(&["HTTP/1.1 20{close}"]).kept("safe-retries", kept::SAFE_RETRIES_2),
    case("closed within the head", GET).serve(&["HTTP/1.1 200 OK\nx-a: b{close}"]).kept("safe-retries", kept::SAFE_RETRIES_2),
    case("closed within the body", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 10\n\nok{pause}{close}"]),
    case("closed within chunks", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n5\nok{pause}{close}"]),
    case("closed before the last chunk", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n{pause}{close}"]),
    case("reset within the body", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 10\n\nok{pause}{reset}"]).kept("server-resets",
        "- log: 200 UC HTTP/1.1 GET / HOST sent 2\n\
         + log: 200 UPE HTTP/1.1 GET / HOST sent 2",
    ),
    case("a bad chunk size in an answer", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n{pause}xyz\n{close}"]),
    case("chunk extensions in an answer", GET).serve(&["HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2;a=b\nok\n0\n\n"]),
    case("garbage", GET).serve(&["{x00}{x01}{x02}garbage\n\n{close}"]),
    case("an answer with a space before a colon", GET).serve(&["HTTP/1.1 200 OK\nx-a : b\ncontent-length: 2\n\nok{close}"]),
    case("an answer with a folded line", GET).serve(&["HTTP/1.1 200 OK\nx-a: b\n c\ncontent-length: 2\n\nok{close}"]).kept("strict-heads",
        "- client: HTTP/1.1 502 Bad Gateway\n\
         - client:   content-length: 87\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. reset reason: protocol error\"\n\
         + client:   x-a: b c\n\
         + client:   body \"ok\"\n\
         - log: 502 UPE HTTP/1.1 GET / HOST sent 87\n\
         + log: 200 - HTTP/1.1 GET / HOST sent 2",
    ),
    case("an answer with a NUL", GET).serve(&["HTTP/1.1 200 OK\nx-a: b{nul}c\ncontent-length: 2\n\nok{close}"]),
    case("an answer with bare line feeds", GET).serve(&["HTTP/1.1 200 OK{lf}content-length: 2{lf}{lf}ok"]),
    case("an answer with UTF-8 in a value", GET).serve(&["HTTP/1.1 200 OK\nx-a: caf{xC3}{xA9}\ncontent-length: 2\n\nok"]),
    case("an answer with names in capitals", GET).serve(&["HTTP/1.1 200 OK\nX-Mixed-Case: A\nContent-Length: 2\n\nok"]),
    case("an answer with a field without a name", GET).serve(&["HTTP/1.1 200 OK\n: b\ncontent-length: 2\n\nok{close}"]),
    case("an answer with cookies", GET).serve(&["HTTP/1.1 200 OK\nset-cookie: a=1\nset-cookie: b=2\ncontent-length: 2\n\nok"]),
    case("an answer with a date", GET).serve(&["HTTP/1.1 200 OK\ndate: Sun, 06 Nov 1994 08:49:37 GMT\ncontent-length: 2\n\nok"]),
    case("an answer with via and server", GET).serve(&["HTTP/1.1 200 OK\nvia: 1.1 x\nserver: me\ncontent-length: 2\n\nok"]),
    case("an answer with a head of 50 KB", GET).serve(&["HTTP/1.1 200 OK\nx-a: {a*50000}\ncontent-length: 2\n\nok"]),
    case("an answer with a head of 100 KB", GET).serve(&["HTTP/1.1 200 OK\nx-a: {a*100000}\ncontent-length: 2\n\nok{close}"]),
    case("an answer with 90 fields", GET).serve(&["HTTP/1.1 200 OK\n{x-#: a\n*90}content-length: 2\n\nok"]),
    case("an answer that is longer than its length", GET).serve(&["HTTP/1.1 200 OK\ncontent-length: 2\n\nok, more"]),
    case("an answer before the body", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\n{read}abc").serve(&["{early}HTTP/1.1 200 OK\ncontent-length: 2\n\nok{read}"]).kept("early-answer", kept::UPGRADES),
    case("an answer before the body, and closed", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\n{read}").serve(&["{early}HTTP/1.1 413 Too Large\ncontent-length: 2\nconnection: close\n\nno{close}"]).kept("early-answer",
        "+ client:   connection: close\n\
         - client: the connection goes on: 400\n\
         + client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 - - - sent 11",
    ),
    case("an answer with x-envoy fields", GET)
        .serve(&["HTTP/1.1 200 OK\nx-envoy-overloaded: true\nx-envoy-degraded: true\nx-envoy-immediate-health-check-fail: 1\ncontent-length: 2\n\nok"]),
    case("an answer with another request's fields", GET)
        .serve(&["HTTP/1.1 200 OK\nx-request-id: abc\nx-forwarded-proto: ftp\nx-forwarded-client-cert: By=x\ncontent-length: 2\n\nok"]).kept("connection-names",
        "+ client:   x-forwarded-client-cert: By=x",
    ),
];
