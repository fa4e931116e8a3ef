//! How the body of a request is framed, and what could be read in two ways.

use super::kept;
use crate::case::Case;

/// A request to the server's proxy, which takes whatever comes for HTTP.
const fn case(name: &'static str, send: &'static str) -> Case {
    crate::case::case(name, send).inbound()
}

pub(crate) const CASES: &[Case] = &[
    case("no body", "GET / HTTP/1.1\nhost: {host}\n\n"),
    case("a body of known length", "POST /a HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc"),
    case("a body of length 0", "POST /a HTTP/1.1\nhost: {host}\ncontent-length: 0\n\n"),
    case("a POST without a length", "POST /a HTTP/1.1\nhost: {host}\n\n"),
    case("a GET with a body", "GET / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc"),
    case("a DELETE with a body", "DELETE / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc"),
    case("a body in chunks", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n"),
    case("a body in chunks that is empty", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n0\n\n"),
    case("a length and chunks", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n"),
    case("chunks and a length", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\ncontent-length: 6\n\n0\n\nGET /smuggled HTTP/1.1\nhost: {host}\n\n"),
    case("two equal lengths", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\ncontent-length: 3\n\nabc"),
    case("two different lengths", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\ncontent-length: 4\n\nabcd"),
    case("two equal lengths in one field", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3, 3\n\nabc"),
    case("two different lengths in one field", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3, 4\n\nabc"),
    case("a length with a plus", "POST / HTTP/1.1\nhost: {host}\ncontent-length: +3\n\nabc"),
    case("a length below nothing", "POST / HTTP/1.1\nhost: {host}\ncontent-length: -3\n\nabc"),
    case("a length in hexadecimal", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 0x3\n\nabc"),
    case("a length with a space in it", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3 0\n\nabc"),
    case("a length with a fraction", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3.0\n\nabc"),
    case("an empty length", "POST / HTTP/1.1\nhost: {host}\ncontent-length:\n\n"),
    case("a length with leading zeros", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 0003\n\nabc").kept("own-fields",
        "- server:   content-length: 3\n\
         + server:   content-length: 0003",
    ),
    case("a length of 2^64", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 18446744073709551616\n\nabc"),
    case("a length of 2^64 and 3", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 18446744073709551619\n\nabc"),
    case("a length between spaces", "POST / HTTP/1.1\nhost: {host}\ncontent-length:   3  \n\nabc"),
    case("chunked, twice", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked, chunked\n\n3\nabc\n0\n\n").kept("coding-status", kept::CODING_STATUS),
    case("chunked in two fields", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n").kept("coding-status", kept::CODING_STATUS),
    case("chunked and then identity", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked, identity\n\n3\nabc\n0\n\n").kept("coding-status", kept::CODING_STATUS),
    case("identity and then chunked", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: identity, chunked\n\n3\nabc\n0\n\n"),
    case("only identity", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: identity\n\n").kept("coding-status", kept::CODING_STATUS),
    case("gzip and then chunked", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: gzip, chunked\n\n3\nabc\n0\n\n"),
    case("only gzip", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: gzip\n\n").kept("coding-status", kept::CODING_STATUS),
    case("an unknown coding", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: xchunked\n\n3\nabc\n0\n\n").kept("coding-status", kept::CODING_STATUS),
    case("CHUNKED in capitals", "POST / HTTP/1.1\nhost: {host}\nTransfer-Encoding: CHUNKED\n\n3\nabc\n0\n\n"),
    case("chunked between tabs", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding:\tchunked\t\n\n3\nabc\n0\n\n"),
    case("chunked behind a vertical tab", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: {x0B}chunked\n\n3\nabc\n0\n\n"),
    case("chunked with a parameter", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked;a=b\n\n3\nabc\n0\n\n").kept("coding-status", kept::CODING_STATUS),
    case("chunked in quotes", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: \"chunked\"\n\n3\nabc\n0\n\n").kept("coding-status", kept::CODING_STATUS),
    case("an empty coding", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding:\n\n").kept("coding-status", kept::CODING_STATUS),
    case("chunked behind an empty member", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: , chunked\n\n3\nabc\n0\n\n"),
    case("chunked of HTTP/1.0", "POST / HTTP/1.0\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n").kept("http10", kept::HTTP10_2),
    case("chunked with a space before its colon", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding : chunked\n\n3\nabc\n0\n\n"),
    case("chunked on a folded line", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding:\n chunked\n\n3\nabc\n0\n\n").kept("strict-heads",
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
         + server: POST / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   transfer-encoding: chunked\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"abc\"\n\
         + log: 200 - HTTP/1.1 POST / HOST sent 2",
    ),
    case("chunked of a GET", "GET / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n"),
    case("a second request within the chunked body of the first", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n1c\nGET /smuggled HTTP/1.1\nx: y\n\n\n0\n\n"),
    case("chunk extensions", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3;a=b;c=\"d e\"\nabc\n0;last\n\n"),
    case("a chunk extension with a bare line feed", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3;a{lf}b\nabc\n0\n\n"),
    case("a chunk extension with a bare carriage return", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3;a{cr}b\nabc\n0\n\n"),
    case("a chunk size in capitals", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\nA\n0123456789\n0\n\n"),
    case("a chunk size with zeros before it", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n0003\nabc\n0\n\n"),
    case("a chunk size with a sign", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n{pause}+3\nabc\n0\n\n"),
    case("a chunk size with 0x", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n{pause}0x3\nabc\n0\n\n"),
    case("a chunk size behind a space", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n{pause} 3\nabc\n0\n\n"),
    case("a chunk size before a space", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3 \nabc\n0\n\n"),
    case("an empty chunk size", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n{pause}\nabc\n0\n\n"),
    case("a chunk size that is none", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n{pause}xyz\nabc\n0\n\n"),
    case("a chunk size of 17 digits", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n{pause}10000000000000003\nabc\n0\n\n"),
    case("a chunk size of 2^64 - 1", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\nffffffffffffffff\nabc"),
    case("a chunk that is longer than its size", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n2\nabc\n0\n\n").kept("strict-chunks",
        "- client: HTTP/1.1 400 Bad Request\n\
         - client:   connection: close\n\
         - client:   content-length: 11\n\
         - client:   content-type: text/plain\n\
         + client: HTTP/1.1 200 OK\n\
         + client:   content-length: 2\n\
         - client:   body \"Bad Request\"\n\
         - client: the connection is closed\n\
         - log: 400 DPE HTTP/1.1 POST / HOST sent 11\n\
         + client:   body \"ok\"\n\
         + client: the connection goes on: 200\n\
         + server: POST / HTTP/1.1   at server v1\n\
         + server:   host: HOST\n\
         + server:   transfer-encoding: chunked\n\
         + server:   x-forwarded-proto: http\n\
         + server:   x-request-id: …\n\
         + server:   body \"ab\"\n\
         + log: 200 - HTTP/1.1 POST / HOST sent 2",
    ),
    case("a chunk line that ends with a line feed", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3{lf}abc\n0\n\n"),
    case("chunk data that ends with a line feed", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc{lf}0\n\n").kept("strict-chunks", kept::STRICT_CHUNKS),
    case("chunk data that ends with a carriage return", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc{cr}0\n\n"),
    case("trailers", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\ntrailer: x-a\n\n3\nabc\n0\nx-a: 1\nX-B: 2\n\n").kept("trailers",
        "- server:   trailer x-a: 1\n\
         - server:   trailer x-b: 2",
    ),
    case("trailers that frame", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n0\ncontent-length: 9\ntransfer-encoding: chunked\n\n"),
    case("trailers that are no fields", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n0\nno field\n\n"),
    case("trailers of 20 KB", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n0\nx-a: {a*20000}\n\n").kept("trailers", kept::STRICT_CHUNKS),
    case("more than was said", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabcGET /smuggled HTTP/1.1\nhost: {host}\n\n").answers(2),
];
