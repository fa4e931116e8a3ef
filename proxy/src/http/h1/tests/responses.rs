//! Heads of responses: what is taken, how their bodies end, what is refused. Each row also comes cut at every byte.

use super::*;
use crate::http::h1::LONGEST_HEAD;
use crate::http::h1::framing::Framing;
use crate::http::h1::head::{self, Asked};

fn told(bytes: &[u8], asked: Asked) -> String {
    let limits = Limits { headers: 5, head: LONGEST_HEAD, refuse_underscores: false };
    match head::response(bytes, &limits, asked) {
        Ok(None) => "more".into(),
        Err(Broken::Malformed(_)) => "bad".into(),
        Err(why) => why.to_string(),
        Ok(Some((response, used))) => {
            assert_eq!(used, bytes.len());
            let framing = match response.framing {
                Framing::None => "none".into(),
                Framing::Exact(n) => n.to_string(),
                Framing::Chunked => "chunked".into(),
                Framing::UntilClose => "close".into(),
            };
            let keep = if response.keep_alive { " keep" } else { "" };
            let text = format!("{} {:?} {framing}{keep}", response.head.status, response.head.length);
            let fields = &response.head.fields;
            if fields.is_empty() { text } else { format!("{text} | {}", list(fields)) }
        }
    }
}

fn check(asked: Asked, rows: &[(&str, &str)]) {
    for (head, expected) in rows {
        let bytes = head.replace('|', "\r\n").replace('¶', "\n").replace('®', "\r").replace('Ø', "\0");
        assert_eq!(told(bytes.as_bytes(), asked), *expected, "{head}");
        for cut in 1..bytes.len() {
            let part = told(&bytes.as_bytes()[..cut], asked);
            assert!(part == "more" || part == *expected && !part.contains(' '), "{head} cut at {cut}: {part}");
        }
    }
}

#[test]
fn status_lines() {
    check(
        Asked::Other,
        &[
            ("HTTP/1.1 200 OK||", "200 Unknown close"),
            ("HTTP/1.1 200 ||", "200 Unknown close"),
            ("HTTP/1.1 200||", "200 Unknown close"),
            ("HTTP/1.1 599 Wh\u{e9}t||", "599 Unknown close"),
            ("HTTP/1.1 200 OK¶¶", "200 Unknown close"),
            ("HTTP/1.1 99 Low||", "bad"),
            ("HTTP/1.1 099 Low||", "bad"),
            ("HTTP/1.1 2000 High||", "bad"),
            ("HTTP/1.1 20x OK||", "bad"),
            ("HTTP/1.1  200 OK||", "bad"),
            ("HTTP/2.0 200 OK||", "bad"),
            ("ICY 200 OK||", "bad"),
            (" HTTP/1.1 200 OK||", "bad"),
            ("HTTP/1.1 200 OØK||", "bad"),
        ],
    );
}

#[test]
fn lengths() {
    check(
        Asked::Other,
        &[
            ("HTTP/1.1 200 OK|Content-Length: 5||", "200 Exact(5) 5 keep"),
            ("HTTP/1.1 200 OK|Content-Length: 5|Content-Length: 5||", "bad"),
            ("HTTP/1.1 200 OK|Content-Length: 5|Content-Length: 6||", "bad"),
            ("HTTP/1.1 200 OK|Content-Length: 5, 5||", "bad"),
            ("HTTP/1.1 200 OK|Content-Length: -5||", "bad"),
            ("HTTP/1.1 200 OK|Content-Length:||", "bad"),
            ("HTTP/1.1 200 OK|Transfer-Encoding: chunked||", "200 Unknown chunked keep"),
            ("HTTP/1.1 200 OK|Transfer-Encoding: chunked|Content-Length: 5||", "bad"),
            ("HTTP/1.1 200 OK|Transfer-Encoding: gzip, chunked||", "bad"),
            ("HTTP/1.1 200 OK|Transfer-Encoding: gzip||", "bad"),
            ("HTTP/1.1 200 OK|Transfer-Encoding: chunked, chunked||", "bad"),
            ("HTTP/1.0 200 OK|Transfer-Encoding: chunked||", "bad"),
            ("HTTP/1.0 200 OK|Content-Length: 5||", "200 Exact(5) 5"),
            (
                "HTTP/1.0 200 OK|Content-Length: 5|Connection: keep-alive||",
                "200 Exact(5) 5 keep | connection=keep-alive",
            ),
            ("HTTP/1.1 200 OK|Content-Length: 5|Connection: close||", "200 Exact(5) 5 | connection=close"),
        ],
    );
}

#[test]
fn responses_without_a_body() {
    check(
        Asked::Other,
        &[
            ("HTTP/1.1 204 No Content||", "204 None none keep"),
            ("HTTP/1.1 204 No Content|Content-Length: 0||", "204 None none keep"),
            ("HTTP/1.1 204 No Content|Content-Length: 1||", "bad"),
            ("HTTP/1.1 204 No Content|Transfer-Encoding: chunked||", "bad"),
            ("HTTP/1.1 304 Not Modified|Content-Length: 9||", "304 Exact(9) none keep"),
            ("HTTP/1.1 304 Not Modified||", "304 None none keep"),
            ("HTTP/1.1 304 Not Modified|Transfer-Encoding: chunked||", "304 Unknown none keep"),
            ("HTTP/1.1 100 Continue||", "100 None none keep"),
            ("HTTP/1.1 103 Early|Link: a||", "103 None none keep | link=a"),
            ("HTTP/1.1 103 Early|Content-Length: 1||", "bad"),
            ("HTTP/1.1 101 Switching|Upgrade: x||", "bad"),
        ],
    );
    check(
        Asked::Head,
        &[
            ("HTTP/1.1 200 OK|Content-Length: 5||", "200 Exact(5) none keep"),
            ("HTTP/1.1 200 OK|Transfer-Encoding: chunked||", "200 Unknown none keep"),
            ("HTTP/1.1 200 OK||", "200 None none keep"),
        ],
    );
    check(Asked::Upgrade, &[("HTTP/1.1 101 Switching|Upgrade: x||", "101 None none keep | upgrade=x")]);
    check(
        Asked::Connect,
        &[("HTTP/1.1 200 OK||", "200 None none keep"), ("HTTP/1.1 407 No|Content-Length: 5||", "407 Exact(5) 5 keep")],
    );
}

#[test]
fn fields() {
    check(
        Asked::Other,
        &[
            ("HTTP/1.1 204 OK|Set-Cookie: a=1|Set-Cookie: b=2||", "204 None none keep | set-cookie=a=1,set-cookie=b=2"),
            ("HTTP/1.1 204 OK|X : 1||", "bad"),
            ("HTTP/1.1 204 OK|X: 1| folded||", "bad"),
            ("HTTP/1.1 204 OK|X: a®b||", "bad"),
            ("HTTP/1.1 204 OK|X: Ø||", "bad"),
            ("HTTP/1.1 204 OK|: 1||", "bad"),
        ],
    );
    let many = format!("HTTP/1.1 204 OK\r\n{}\r\n", "a: 1\r\n".repeat(6));
    assert_eq!(told(many.as_bytes(), Asked::Other), "too large");
    assert_eq!(told(b"H", Asked::Other), "more");
    assert_eq!(told(format!("HTTP/1.1 200 {}", "a".repeat(LONGEST_HEAD)).as_bytes(), Asked::Other), "too large");
}
