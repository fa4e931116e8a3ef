//! Heads of requests: what is taken and what is refused (RFC 9112, RFC 9110). Each row also comes in two parts, cut at
//! every byte: the result is the same.
//!
//! Where RFC and custom differ: a bare line feed ends a line of a head, as with Envoy and hyper (RFC 9112, 2.2 lets
//! recipients do so); chunks are stricter. An HTTP/1.1 request needs a Host even if its target names one.

use super::*;
use crate::http::h1::framing::Framing;
use crate::http::h1::head;

/// What becomes of a head: `method authority path framing flags | fields`, a status, or nothing yet.
fn told(bytes: &[u8], limits: &Limits) -> String {
    match head::request(bytes, limits) {
        Ok(None) => "more".into(),
        Err(refusal) => refusal.status.to_string(),
        Ok(Some((request, used))) => {
            let head = &request.head;
            let framing = match request.framing {
                Framing::None => "none".into(),
                Framing::Exact(n) => n.to_string(),
                Framing::Chunked => "chunked".into(),
                Framing::UntilClose => "close".into(),
            };
            let flags = [(request.keep_alive, " keep"), (request.expects, " expects"), (request.upgrades, " upgrades")];
            let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
            let text = format!("{} {} {} {framing}{flags}", head.method, head.authority(), head.path());
            assert_eq!(used, bytes.len());
            if head.fields.is_empty() { text } else { format!("{text} | {}", list(&head.fields)) }
        }
    }
}

/// Rows, each with its line ends written as `|`.
fn check(rows: &[(&str, &str)]) {
    for (head, expected) in rows {
        let bytes = head.replace('|', "\r\n").replace('¶', "\n").replace('®', "\r").replace('Ø', "\0");
        let bytes = bytes.as_bytes();
        assert_eq!(told(bytes, &Limits::default()), *expected, "{head}");
        for cut in 1..bytes.len() {
            let part = told(&bytes[..cut], &Limits::default());
            assert!(part == "more" || part == *expected && part.len() == 3, "{head} cut at {cut}: {part}");
        }
    }
}

#[test]
fn request_lines() {
    check(&[
        ("GET / HTTP/1.1|Host: a||", "GET a / none keep"),
        ("GET /a/b?c=d&e HTTP/1.1|Host: a:8080||", "GET a:8080 /a/b?c=d&e none keep"),
        ("GET /%7Ea{}|HTTP/1.1|Host: a||", "400"),
        ("GET /a\"<>\\^`{} HTTP/1.1|Host: a||", "GET a /a\"<>\\^`{} none keep"),
        ("get / HTTP/1.1|Host: a||", "get a / none keep"),
        ("PURGE-ALL!#$ / HTTP/1.1|Host: a||", "PURGE-ALL!#$ a / none keep"),
        ("GE(T / HTTP/1.1|Host: a||", "400"),
        (" GET / HTTP/1.1|Host: a||", "400"),
        ("GET  / HTTP/1.1|Host: a||", "400"),
        ("GET /  HTTP/1.1|Host: a||", "400"),
        ("GET\t/ HTTP/1.1|Host: a||", "400"),
        ("GET / HTTP/1.1 |Host: a||", "400"),
        ("GET /|Host: a||", "400"),
        ("GET|", "400"),
        ("GET /Ø HTTP/1.1|Host: a||", "400"),
        ("GET /\u{e9} HTTP/1.1|Host: a||", "400"),
        ("GET /a#b HTTP/1.1|Host: a||", "400"),
        ("GET a HTTP/1.1|Host: a||", "400"),
        ("GET ?a HTTP/1.1|Host: a||", "400"),
        ("GET / HTTP/1.1¶Host: a¶¶", "GET a / none keep"),
        ("GET / HTTP/1.1®Host: a||", "400"),
    ]);
}

#[test]
fn versions() {
    check(&[
        ("GET / HTTP/1.0||", "GET  / none"),
        ("GET / HTTP/1.0|Host: a|Connection: Keep-Alive||", "GET a / none keep | connection=Keep-Alive"),
        ("GET / HTTP/1.2|Host: a||", "505"),
        ("GET / HTTP/2.0|Host: a||", "505"),
        ("PRI * HTTP/2.0||SM||", "505"),
        ("GET / HTTP/0.9||", "505"),
        ("GET / HTTP/11|Host: a||", "400"),
        ("GET / HTTP/1.10|Host: a||", "400"),
        ("GET / http/1.1|Host: a||", "400"),
        ("GET / HTTPS/1.1|Host: a||", "400"),
        ("GET / HTTP/1,1|Host: a||", "400"),
    ]);
}

#[test]
fn targets() {
    check(&[
        ("GET http://b/c?d HTTP/1.1|Host: a||", "GET b /c?d none keep"),
        ("GET http://b:80?d HTTP/1.1|Host: a||", "GET b:80 /?d none keep"),
        ("GET HTTP://b HTTP/1.1|Host: a||", "GET b / none keep"),
        ("GET https://b/ HTTP/1.1|Host: a||", "GET b / none keep"),
        ("OPTIONS http://b HTTP/1.1|Host: a||", "OPTIONS b * none keep"),
        ("GET ftp://b/ HTTP/1.1|Host: a||", "400"),
        ("GET http:///c HTTP/1.1|Host: a||", "400"),
        ("GET http://u@b/ HTTP/1.1|Host: a||", "400"),
        ("GET http://b/ HTTP/1.1||", "400"),
        ("GET http://b/ HTTP/1.0||", "GET b / none"),
        ("OPTIONS * HTTP/1.1|Host: a||", "OPTIONS a * none keep"),
        ("GET * HTTP/1.1|Host: a||", "400"),
        ("CONNECT b:443 HTTP/1.1|Host: a||", "CONNECT b:443  none keep upgrades"),
        ("CONNECT [::1]:443 HTTP/1.1|Host: a||", "CONNECT [::1]:443  none keep upgrades"),
        ("CONNECT b HTTP/1.1|Host: a||", "400"),
        ("CONNECT b:99999 HTTP/1.1|Host: a||", "400"),
        ("CONNECT b:+1 HTTP/1.1|Host: a||", "400"),
        ("CONNECT /b HTTP/1.1|Host: a||", "400"),
        ("CONNECT b:1 HTTP/1.1|Host: a|Transfer-Encoding: chunked||", "400"),
        ("CONNECT b:1 HTTP/1.1|Host: a|Content-Length: 1||", "400"),
        ("GET b:443 HTTP/1.1|Host: a||", "400"),
    ]);
}

#[test]
fn hosts() {
    check(&[
        ("GET / HTTP/1.1||", "400"),
        ("GET / HTTP/1.1|Host:||", "400"),
        ("GET / HTTP/1.1|Host: a|Host: a||", "400"),
        ("GET / HTTP/1.0|Host: a|Host: b||", "400"),
        ("GET http://b/ HTTP/1.1|Host: a|Host: b||", "400"),
        ("GET / HTTP/1.1|Host: a, b||", "400"),
        ("GET / HTTP/1.1|Host: a/b||", "400"),
        ("GET / HTTP/1.1|Host: a@b||", "400"),
        ("GET / HTTP/1.1|Host: a b||", "400"),
        ("GET / HTTP/1.1|Host: [::1]:80||", "GET [::1]:80 / none keep"),
        ("GET / HTTP/1.1|HOST:\t a \t||", "GET a / none keep"),
    ]);
}

#[test]
fn names_and_values() {
    check(&[
        ("GET / HTTP/1.1|Host: a|X-Y:1|X-Z: \t2\t ||", "GET a / none keep | x-y=1,x-z=2"),
        ("GET / HTTP/1.1|Host: a|X:||", "GET a / none keep | x="),
        ("GET / HTTP/1.1|Host: a|X: a b\tc||", "GET a / none keep | x=a b\tc"),
        ("GET / HTTP/1.1|Host: a|X: \u{e9}||", "GET a / none keep | x=\u{e9}"),
        ("GET / HTTP/1.1|Host: a|X_Y: 1||", "GET a / none keep | x_y=1"),
        ("GET / HTTP/1.1|Host: a|!#$%&'*+-.^_`~: 1||", "GET a / none keep | !#$%&'*+-.^_`~=1"),
        ("GET / HTTP/1.1|Host: a|X : 1||", "400"),
        ("GET / HTTP/1.1|Host: a|X\t: 1||", "400"),
        ("GET / HTTP/1.1|Host: a|: 1||", "400"),
        ("GET / HTTP/1.1|Host: a|X||", "400"),
        ("GET / HTTP/1.1|Host: a|X(: 1||", "400"),
        ("GET / HTTP/1.1|Host: a|\u{e9}: 1||", "400"),
        ("GET / HTTP/1.1|Host: a|X: 1| folded||", "400"),
        ("GET / HTTP/1.1|Host: a|X:|\tfolded||", "400"),
        ("GET / HTTP/1.1| Host: a||", "400"),
        ("GET / HTTP/1.1|Host: a|X: a®b||", "400"),
        ("GET / HTTP/1.1|Host: a|X: a®||", "400"),
        ("GET / HTTP/1.1|Host: a|X: Ø||", "400"),
        ("GET / HTTP/1.1|Host: a|X: \u{1}||", "400"),
        ("GET / HTTP/1.1|Host: a|X: \u{7f}||", "400"),
        ("GET / HTTP/1.1|Host: a|XØ: 1||", "400"),
        ("GET / HTTP/1.1|Host: a|X: 1¶Y: 2¶|", "GET a / none keep | x=1,y=2"),
    ]);
}

#[test]
fn lengths() {
    let post = |fields: &str, expected: &str| {
        check(&[(&format!("POST / HTTP/1.1|Host: a|{fields}||"), expected)]);
    };
    post("Content-Length: 0", "POST a / 0 keep");
    post("content-length: 0042", "POST a / 42 keep");
    post("Content-Length: 18446744073709551615", "POST a / 18446744073709551615 keep");
    post("Content-Length: 18446744073709551616", "400");
    post("Content-Length: 99999999999999999999999", "400");
    for bad in ["", "+1", "-1", "1 1", "1,1", "0x1", "1.0", "1;", "a", "\u{e9}", "1_0"] {
        post(&format!("Content-Length: {bad}"), "400");
    }
    post("Content-Length: 5|Content-Length: 5", "400");
    post("Content-Length: 5|Content-Length: 05", "400");
    post("Content-Length: 5|Content-Length: 6", "400");
    post("Content-Length: 6|X: 1|CONTENT-LENGTH: 5", "400");
    post("Content-Length: x|Content-Length: 5", "400");
    post("Transfer-Encoding: chunked", "POST a / chunked keep");
    post("transfer-encoding: CHUNKED", "POST a / chunked keep");
    post("Transfer-Encoding:\t chunked \t", "POST a / chunked keep");
    post("Content-Length: 5|Transfer-Encoding: chunked", "400");
    post("Transfer-Encoding: chunked|Content-Length: 5", "400");
    post("Transfer-Encoding: chunked|Content-Length: 0", "400");
    post("Transfer-Encoding: identity|Content-Length: 5", "400");
    post("Transfer-Encoding: gzip, chunked", "501");
    post("Transfer-Encoding: gzip|Transfer-Encoding: chunked", "501");
    for bad in
        ["", "identity", "gzip", "xchunked", "chunkedx", "chunked;q=1", "\"chunked\"", "chunked, gzip", "chunked,"]
    {
        post(&format!("Transfer-Encoding: {bad}"), "400");
    }
    post("Transfer-Encoding: chunked, chunked", "400");
    post("Transfer-Encoding: chunked|Transfer-Encoding: chunked", "400");
    post("Transfer-Encoding: chunked|Transfer-Encoding: identity", "400");
    post("Transfer-Encoding: \u{b}chunked", "400");
    post("Transfer-Encoding : chunked", "400");
    post(" Transfer-Encoding: chunked", "400");
    post("Transfer_Encoding: chunked", "POST a / none keep | transfer_encoding=chunked");
    check(&[
        ("POST / HTTP/1.0|Transfer-Encoding: chunked||", "400"),
        ("POST / HTTP/1.0|Content-Length: 3||", "POST  / 3"),
        ("GET / HTTP/1.1|Host: a|Content-Length: 3||", "GET a / 3 keep"),
    ]);
}

#[test]
fn what_is_said_of_the_connection() {
    let get = |fields: &str, expected: &str| check(&[(&format!("GET / HTTP/1.1|Host: a|{fields}||"), expected)]);
    get("Connection: close", "GET a / none | connection=close");
    get("Connection: a, CLOSE ,b", "GET a / none | connection=a, CLOSE ,b");
    get("Connection: closed", "GET a / none keep | connection=closed");
    get("Connection: keep-alive, close", "GET a / none | connection=keep-alive, close");
    get("Connection: Upgrade|Upgrade: websocket", "GET a / none keep upgrades | connection=Upgrade,upgrade=websocket");
    get("Upgrade: websocket", "GET a / none keep | upgrade=websocket");
    get("Connection: upgrade", "GET a / none keep | connection=upgrade");
    get("Connection: upgrade|Upgrade: h2c", "GET a / none keep | connection=upgrade");
    get("Connection: upgrade|Upgrade: H2C, x", "GET a / none keep upgrades | connection=upgrade,upgrade=x");
    check(&[("GET / HTTP/1.0|Connection: upgrade|Upgrade: x||", "GET  / none | connection=upgrade")]);
    let post = |fields: &str, expected: &str| {
        check(&[(&format!("POST / HTTP/1.1|Host: a|{fields}||"), expected)]);
    };
    post("Expect: 100-Continue|Content-Length: 1", "POST a / 1 keep expects | expect=100-Continue");
    post("Expect: 100-continue|Content-Length: 0", "POST a / 0 keep | expect=100-continue");
    post("Expect: 200-ok|Content-Length: 1", "417");
    post("Expect: 100-continue|Expect: 200-ok|Content-Length: 1", "417");
    check(&[("POST / HTTP/1.0|Expect: 200-ok|Content-Length: 1||", "POST  / 1 | expect=200-ok")]);
}

#[test]
fn bounds() {
    let many = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: 1\r\n".repeat(n - 1));
    let limits = |headers| Limits { headers, ..Limits::default() };
    for n in [5, 100, 128, 129, 1000] {
        assert!(told(many(n).as_bytes(), &limits(n)).starts_with("GET a / none keep"), "{n}");
        assert_eq!(told(many(n + 1).as_bytes(), &limits(n)), "431");
    }
    let long = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "1".repeat(n - 32));
    assert_eq!(long(100).len(), 100);
    let limits = |head| Limits { head, ..Limits::default() };
    assert!(told(long(1000).as_bytes(), &limits(1000)).starts_with("GET a"));
    assert_eq!(told(long(1001).as_bytes(), &limits(1000)), "431");
    assert_eq!(told(&long(2000).as_bytes()[..1000], &limits(1000)), "431");
    assert_eq!(told(format!("GET /{}", "a".repeat(2000)).as_bytes(), &limits(1000)), "431");
    let refused = Limits { refuse_underscores: true, ..Limits::default() };
    assert_eq!(told(b"GET / HTTP/1.1\r\nHost: a\r\nx_y: 1\r\n\r\n", &refused), "400");
    assert_eq!(
        told(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(513)).as_bytes(), &Limits::default()),
        "400"
    );
}
