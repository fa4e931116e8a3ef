//! Responses.

use super::*;

#[test]
fn responses_as_a_client_takes_them() {
    let ask = |section: &'static str, what: &'static str, parts: &[Vec<u8>], expected: &'static str| -> Row {
        (section, what, vec![Step::Ask, Step::In(parts.concat())], expected)
    };
    let malformed = |why: &'static str| -> &'static str {
        Box::leak(format!("Malformed(\"{why}\"); rst 1 PROTOCOL_ERROR").into_boxed_str())
    };
    let answer = |flags: u8, block: &[u8]| headers(1, flags, block);
    let trailers = || headers(1, END, &block(&[("t", "1")]));
    check(
        Side::Client { secure: false },
        vec![
            ask("8.1", "a head alone", &[answer(END, &ok(&[]))], "200 end"),
            ask(
                "8.1",
                "a head and a body",
                &[answer(0, &ok(&[])), data(1, 0, b"ab"), data(1, END, b"c")],
                "200 abc end",
            ),
            ask("8.1", "trailers", &[answer(0, &ok(&[])), data(1, 0, b"ab"), trailers()], "200 ab trailers"),
            ask("8.1", "an end without bytes", &[answer(0, &ok(&[])), data(1, END, b"")], "200 end"),
            ask(
                "8.1",
                "interim responses",
                &[
                    answer(0, &block(&[(":status", "103")])),
                    answer(0, &block(&[(":status", "100")])),
                    answer(END, &ok(&[])),
                ],
                "103; 100; 200 end",
            ),
            ask(
                "8.1",
                "an interim response that ends",
                &[answer(END, &block(&[(":status", "103")]))],
                malformed("an interim response ends the stream"),
            ),
            ask("8.6", "101", &[answer(0, &block(&[(":status", "101")]))], malformed(":status")),
            ask("8.3.2", "no :status", &[answer(END, &block(&[("a", "b")]))], malformed(":status")),
            ask("8.3.2", "two :status", &[answer(END, &ok(&[(":status", "200")]))], malformed(":status")),
            ask("8.3.2", "a :status of two digits", &[answer(END, &block(&[(":status", "20")]))], malformed(":status")),
            ask("8.3.2", "a :status below 100", &[answer(END, &block(&[(":status", "099")]))], malformed(":status")),
            ask(
                "8.3",
                "a request's pseudo header",
                &[answer(END, &ok(&[(":path", "/")]))],
                malformed("a pseudo header that no response has"),
            ),
            ask(
                "8.3",
                ":status after a field",
                &[answer(END, &block(&[("a", "b"), (":status", "200")]))],
                malformed("a pseudo header after fields"),
            ),
            ask("8.2.1", "upper case", &[answer(END, &ok(&[("A", "b")]))], malformed("a character that no field has")),
            ask(
                "8.2.2",
                "connection",
                &[answer(END, &ok(&[("connection", "close")]))],
                malformed("a field that belongs to a connection of HTTP/1.1"),
            ),
            ask(
                "8.1.1",
                "shorter than said",
                &[answer(0, &ok(&[("content-length", "5")])), data(1, END, b"abc")],
                "200 abc Malformed(\"shorter than its content-length\"); rst 1 PROTOCOL_ERROR",
            ),
            ask(
                "8.1.1",
                "longer than said",
                &[answer(0, &ok(&[("content-length", "2")])), data(1, 0, b"ab"), data(1, END, b"c")],
                "200 ab Malformed(\"longer than its content-length\"); rst 1 PROTOCOL_ERROR",
            ),
            ask(
                "8.1.1",
                "no body where one was said",
                &[answer(END, &ok(&[("content-length", "2")]))],
                malformed("shorter than its content-length"),
            ),
            ask(
                "8.1.1",
                "304 says a length",
                &[answer(END, &block(&[(":status", "304"), ("content-length", "2")]))],
                "304 end",
            ),
            (
                "8.1.1",
                "HEAD says a length",
                vec![Step::AskHead, Step::In(answer(END, &ok(&[("content-length", "2")])))],
                "200 end",
            ),
            (
                "8.1.1",
                "HEAD with a body",
                vec![Step::AskHead, Step::In([answer(0, &ok(&[])), data(1, END, b"x")].concat())],
                "200 Malformed(\"longer than its content-length\"); rst 1 PROTOCOL_ERROR",
            ),
            ask("8.1", "DATA before a head", &[data(1, END, b"x")], malformed("DATA before a head")),
            ask(
                "8.1",
                "a second head",
                &[answer(0, &ok(&[])), answer(0, &ok(&[]))],
                "200 Malformed(\"a pseudo header in trailers\"); rst 1 PROTOCOL_ERROR",
            ),
            ask(
                "5.1",
                "DATA after the end",
                &[answer(END, &ok(&[])), data(1, 0, b"x")],
                "200 end; rst 1 STREAM_CLOSED",
            ),
            ask(
                "5.1",
                "HEADERS after the end",
                &[answer(END, &ok(&[])), answer(END, &ok(&[]))],
                "200 end; goaway STREAM_CLOSED",
            ),
            ask("5.1", "a response that nobody asked for", &[headers(3, END, &ok(&[]))], "Gone; goaway PROTOCOL_ERROR"),
            ask("5.1.1", "a stream of the server's", &[headers(2, END, &ok(&[]))], "Gone; goaway PROTOCOL_ERROR"),
            ask("6.4", "reset", &[reset(1, 8)], "Reset"),
            ask("6.4", "refused", &[reset(1, 7)], "Refused"),
            ask("6.4", "reset after the whole response", &[answer(END, &ok(&[])), reset(1, 0)], "200 end"),
            ask("6.4", "reset within a body", &[answer(0, &ok(&[])), data(1, 0, b"ab"), reset(1, 2)], "200 ab Reset"),
            ask(
                "6.8",
                "GOAWAY that knows the stream",
                &[raw(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), answer(END, &ok(&[]))],
                "200 end",
            ),
            ask("6.8", "GOAWAY below the stream", &[raw(kind::GOAWAY, 0, 0, &[0; 8])], "Refused"),
            ask(
                "6.8",
                "GOAWAY of errors below the stream",
                &[raw(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11])],
                "Refused",
            ),
            ask(
                "6.6",
                "PUSH_PROMISE",
                &[raw(kind::PUSH_PROMISE, WHOLE, 1, &[0, 0, 0, 2, 0x82])],
                "Gone; goaway PROTOCOL_ERROR",
            ),
            ask("6.5.2", "ENABLE_PUSH of a server", &[settings(&[(2, 1)])], "Gone; goaway PROTOCOL_ERROR"),
            ask("6.5.2", "ENABLE_PUSH of a server, off", &[settings(&[(2, 0)])], "...; settings ack"),
        ],
    );
}
