//! Requests as a server takes them, and their header blocks.

use super::*;

#[test]
fn section_8_requests() {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.b")];
    let without =
        |name: &str| -> Vec<u8> { block(&pseudo.iter().copied().filter(|p| p.0 != name).collect::<Vec<_>>()) };
    let twice = |name: &str| -> Vec<u8> {
        let again = pseudo.iter().copied().find(|p| p.0 == name);
        block(&pseudo.iter().copied().chain(again).collect::<Vec<_>>())
    };
    let with = |name: &str, value: &str| -> Vec<u8> {
        block(&pseudo.iter().map(|p| if p.0 == name { (p.0, value) } else { *p }).collect::<Vec<_>>())
    };
    let mut rows = Vec::new();
    let mut add =
        |section, what, block: Vec<u8>, expected| rows.push(row(section, what, &[headers(1, END, &block)], expected));
    add("8.3.1", "all of them", block(&pseudo), GET);
    add("8.3.1", "no :method", without(":method"), RST);
    add("8.3.1", "no :scheme", without(":scheme"), RST);
    add("8.3.1", "no :path", without(":path"), RST);
    add("8.3.1", "no :authority", without(":authority"), RST);
    add("8.3.1", "two :method", twice(":method"), RST);
    add("8.3.1", "two :scheme", twice(":scheme"), RST);
    add("8.3.1", "two :path", twice(":path"), RST);
    add("8.3.1", "two :authority", twice(":authority"), RST);
    add("8.3.1", "an empty :path", with(":path", ""), RST);
    add("8.3.1", "a :path without a slash", with(":path", "a"), RST);
    add("8.3.1", "a :path with a space", with(":path", "/a b"), RST);
    add("8.3.1", "a :path with a fragment", with(":path", "/#a"), RST);
    add("8.3.1", "* of GET", with(":path", "*"), RST);
    add(
        "8.3.1",
        "* of OPTIONS",
        block(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a.b")]),
        "OPTIONS a.b*",
    );
    add("8.3.1", "a :method with a space", with(":method", "GE T"), RST);
    add("8.3.1", "an empty :method", with(":method", ""), RST);
    add("8.3.1", "an empty :scheme", with(":scheme", ""), RST);
    add("8.3.1", "a :scheme of another kind", with(":scheme", "weird+x"), GET);
    add("8.3.1", "an empty :authority", with(":authority", ""), RST);
    add("8.3.1", "an :authority with a user", with(":authority", "u@a.b"), RST);
    add("8.3.1", "an :authority with a path", with(":authority", "a.b/c"), RST);
    add("8.3.1", "host instead of :authority", [without(":authority"), block(&[("host", "a.b")])].concat(), GET);
    add("8.3.1", "host that is the same", get(&[("host", "A.b")]), GET);
    add("8.3.1", "host that differs", get(&[("host", "c.d")]), RST);
    add("8.3.1", "two hosts", get(&[("host", "a.b"), ("host", "a.b")]), RST);
    add("8.3", "an unknown pseudo header", get(&[(":other", "x")]), RST);
    add("8.3", "a response's pseudo header", get(&[(":status", "200")]), RST);
    add(
        "8.3",
        "a pseudo header after a field",
        [block(&pseudo[..3]), block(&[("a", "b"), (":authority", "a.b")])].concat(),
        RST,
    );
    add("8.2.1", "upper case in a name", get(&[("X-a", "b")]), RST);
    add("8.2.1", "an empty name", get(&[("", "b")]), RST);
    add("8.2.1", "a space in a name", get(&[("a b", "c")]), RST);
    add("8.2.1", "a colon in a name", get(&[("a:b", "c")]), RST);
    add("8.2.1", "a control character in a name", get(&[("a\u{1}", "c")]), RST);
    add("8.2.1", "a name beyond ASCII", get(&[("\u{e4}", "c")]), RST);
    add("8.2.1", "a line feed in a value", get(&[("a", "b\nc")]), RST);
    add("8.2.1", "a carriage return in a value", get(&[("a", "b\rc")]), RST);
    add("8.2.1", "a NUL in a value", get(&[("a", "b\0c")]), RST);
    add("8.2.1", "white space before a value", get(&[("a", " b")]), RST);
    add("8.2.1", "white space after a value", get(&[("a", "b\t")]), RST);
    add("8.2.1", "an empty value", get(&[("a", "")]), "GET a.b/a");
    add("8.2.1", "a value beyond ASCII", get(&[("a", "\u{e4}")]), "GET a.b/a");
    add("8.2.2", "connection", get(&[("connection", "close")]), RST);
    add("8.2.2", "proxy-connection", get(&[("proxy-connection", "close")]), RST);
    add("8.2.2", "keep-alive", get(&[("keep-alive", "1")]), RST);
    add("8.2.2", "transfer-encoding", get(&[("transfer-encoding", "chunked")]), RST);
    add("8.2.2", "upgrade", get(&[("upgrade", "h2c")]), RST);
    add("8.2.2", "te: trailers", get(&[("te", "trailers")]), "GET a.b/te");
    add("8.2.2", "te: other", get(&[("te", "trailers, deflate")]), RST);
    add("8.2.3", "cookies in crumbs", get(&[("cookie", "a=1"), ("cookie", "b=2")]), "GET a.b/cookie");
    add("8.5", "CONNECT", block(&[(":method", "CONNECT"), (":authority", "a.b:1")]), "CONNECT a.b:1");
    add("8.5", "CONNECT without a port", block(&[(":method", "CONNECT"), (":authority", "a.b")]), RST);
    add("8.5", "CONNECT to nowhere", block(&[(":method", "CONNECT")]), RST);
    add("8.5", "CONNECT with a path", block(&[(":method", "CONNECT"), (":authority", "a.b:1"), (":path", "/")]), RST);
    add(
        "8.5",
        "CONNECT with a scheme",
        block(&[(":method", "CONNECT"), (":authority", "a.b:1"), (":scheme", "http")]),
        RST,
    );
    let extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a.b"),
    ];
    add("8441 4", "extended CONNECT", block(&extended), "CONNECT a.b/");
    add("8441 4", "extended CONNECT without a path", block(&[extended[0], extended[1], extended[2], extended[4]]), RST);
    add("8441 4", ":protocol of GET", block(&[pseudo[0], extended[1], pseudo[1], pseudo[2], pseudo[3]]), RST);
    add("8.1.1", "content-length without a body", get(&[("content-length", "1")]), RST);
    add("8.1.1", "content-length of nothing", get(&[("content-length", "0")]), GET);
    add("8.1.1", "content-length twice, the same", get(&[("content-length", "0"), ("content-length", "0")]), RST);
    add("8.1.1", "content-length twice", get(&[("content-length", "0"), ("content-length", "1")]), RST);
    add("8.1.1", "content-length as a list", get(&[("content-length", "0, 0")]), RST);
    add("8.1.1", "content-length with a sign", get(&[("content-length", "+0")]), RST);
    add("8.1.1", "content-length too large", get(&[("content-length", "99999999999999999999")]), RST);
    let five = || headers(1, 0, &post(&[("content-length", "5")]));
    let mut play = |section, what, parts: &[Vec<u8>], expected| rows.push(row(section, what, parts, expected));
    play("8.1.1", "a body as long as was said", &[five(), data(1, 0, b"abc"), data(1, END, b"de")], POST);
    play("8.1.1", "a body that is shorter", &[five(), data(1, END, b"abc")], RST);
    play("8.1.1", "a body that is longer", &[five(), data(1, 0, b"abcdef")], RST);
    play("8.1.1", "a body in parts that is longer", &[five(), data(1, 0, b"abc"), data(1, END, b"def")], RST);
    play(
        "8.1.1",
        "a body that is shorter, with trailers",
        &[five(), data(1, 0, b"abc"), headers(1, END, &block(&[("t", "1")]))],
        RST,
    );
    play("8.1", "trailers", &[open(), data(1, 0, b"x"), headers(1, END, &block(&[("t", "1")]))], POST);
    play("8.1", "trailers at once", &[open(), headers(1, END, &block(&[("t", "1")]))], POST);
    play("8.1", "trailers that do not end", &[open(), headers(1, 0, &block(&[("t", "1")]))], RST);
    play("8.1", "trailers with a pseudo header", &[open(), headers(1, END, &block(&[(":path", "/")]))], RST);
    play("8.1", "trailers in upper case", &[open(), headers(1, END, &block(&[("T", "1")]))], RST);
    play("8.1", "trailers of a connection", &[open(), headers(1, END, &block(&[("connection", "x")]))], RST);
    play(
        "8.1",
        "trailers after trailers",
        &[open(), headers(1, END, &block(&[("t", "1")])), headers(1, END, &[])],
        "rst 1 STREAM_CLOSED",
    );
    play(
        "8.1",
        "a malformed request leaves others alone",
        &[headers(1, END, &get(&[("A", "b")])), headers(3, END, &get(&[]))],
        "GET a.b/; rst 1 PROTOCOL_ERROR",
    );
    play(
        "8.1",
        "DATA of a malformed request",
        &[headers(1, 0, &get(&[("A", "b")])), data(1, END, b"x"), ping()],
        "rst 1 PROTOCOL_ERROR; ping ack",
    );
    check(Side::Server, rows);
}

#[test]
fn a_head_that_is_too_large_is_answered() {
    let value = "v".repeat(120);
    let mut large = get(&[]);
    while large.len() < 62_000 {
        large.extend_from_slice(&block(&[("a", &value)]));
    }
    let whole = |flags: u8, block: &[u8]| -> Vec<u8> {
        let mut parts = block.chunks(16_000);
        let mut out = raw(kind::HEADERS, flags, 1, parts.next().unwrap_or_default());
        parts.for_each(|part| out.extend_from_slice(&continuation(1, 0, part)));
        out.extend_from_slice(&continuation(1, WHOLE, b""));
        out
    };
    let many: Vec<_> = (0..101).map(|_| ("a", "b")).collect();
    check(
        Side::Server,
        vec![
            row("10.5.1", "many bytes", &[whole(END, &large)], "headers 1 431 end"),
            row(
                "10.5.1",
                "many bytes, a body",
                &[whole(0, &large), data(1, END, b"x")],
                "headers 1 431 end; rst 1 NO_ERROR",
            ),
            row("10.5.1", "many fields", &[headers(1, END, &get(&many))], "headers 1 431 end"),
            row(
                "10.5.1",
                "small when compressed",
                &[headers(
                    1,
                    END,
                    &[&get(&[])[..], &[0x40, 1, b'a', 127, 0x81, 0x1f], &[b'v'; 4000 + 96], &[0xbe; 2000]].concat(),
                )],
                COMPRESSION,
            ),
            row(
                "10.5.1",
                "small when compressed by the table",
                &[
                    headers(
                        1,
                        END,
                        &[&get(&[])[..], &[0x40, 1, b'a', 127, 0xa1, 0x1e], &[b'v'; 4000], &[0xbe; 2000]].concat(),
                    ),
                    ping(),
                ],
                "headers 1 431 end; ping ack",
            ),
        ],
    );
}

#[test]
fn hpack_by_its_sections() {
    let head = |block: &[u8]| headers(1, END, block);
    check(
        Side::Server,
        vec![
            row("7541 2.3.3", "an index of nothing", &[head(&[0xff, 0x10])], COMPRESSION),
            row("7541 2.3.3", "an index of nothing in a literal", &[head(&[0x7e, 1, b'a'])], COMPRESSION),
            row(
                "7541 4.2",
                "a size update behind a field",
                &[head(&[&get(&[])[..], &[0x3f, 0]].concat())],
                COMPRESSION,
            ),
            row("7541 4.2", "size updates in front", &[head(&[&[0x20, 0x3f, 0][..], &get(&[])].concat())], GET),
            row(
                "7541 5.2",
                "padding of more than seven bits",
                &[head(&[&get(&[])[..], &[0, 1, b'a', 0x82, 0x1f, 0xff]].concat())],
                COMPRESSION,
            ),
            row(
                "7541 5.2",
                "padding of zeros",
                &[head(&[&get(&[])[..], &[0, 1, b'a', 0x81, 0x18]].concat())],
                COMPRESSION,
            ),
            row(
                "7541 5.2",
                "the end of text within text",
                &[head(&[&get(&[])[..], &[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]].concat())],
                COMPRESSION,
            ),
            row("7541 6.1", "index 0", &[head(&[0x80])], COMPRESSION),
            row(
                "7541 6.3",
                "a table larger than allowed",
                &[head(&[&[0x3f, 0xe2, 0x1f][..], &get(&[])].concat())],
                COMPRESSION,
            ),
            row(
                "7541 6.2.1",
                "remembered from one request to the next",
                &[head(&get(&[])), headers(3, END, &[0x82, 0x86, 0x84, 0xbe])],
                "GET a.b/; GET a.b/",
            ),
        ],
    );
}
