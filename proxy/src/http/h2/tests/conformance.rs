//! RFC 9113 by its sections: what comes, and what we say to it. Every row is played with its bytes whole, and cut into pieces
//! of one, seven and a hundred bytes.

mod frames;
mod requests;
mod responses;

use super::super::{Limits, Side, State};
use super::wire::*;
use crate::http::h2::frame::{PREFACE, kind};

type Row = (&'static str, &'static str, Vec<Step>, &'static str);

fn come(bytes: impl AsRef<[u8]>) -> Vec<Step> {
    vec![Step::In(bytes.as_ref().to_vec())]
}

fn row(section: &'static str, what: &'static str, parts: &[Vec<u8>], expected: &'static str) -> Row {
    (section, what, come(parts.concat()), expected)
}

/// The same after every request before was answered.
fn after(
    section: &'static str,
    what: &'static str,
    first: &[Vec<u8>],
    then: &[Vec<u8>],
    expected: &'static str,
) -> Row {
    let steps = vec![Step::In(first.concat()), Step::Answer, Step::In(then.concat())];
    (section, what, steps, expected)
}

fn check(side: Side, rows: Vec<Row>) {
    let limits = Limits { streams: 3, ..Limits::default() };
    let mut wrong = Vec::new();
    for (section, what, steps, expected) in &rows {
        for piece in [1 << 20, 1, 7, 100] {
            let mut state = begin(side, limits);
            let got = play(&mut state, steps, piece);
            if got != *expected {
                wrong.push(format!("{section} {what} (by {piece}):\n   got {got:?}\n  want {expected:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

const PROTOCOL: &str = "goaway PROTOCOL_ERROR";
const SIZE: &str = "goaway FRAME_SIZE_ERROR";
const FLOW: &str = "goaway FLOW_CONTROL_ERROR";
const COMPRESSION: &str = "goaway COMPRESSION_ERROR";
const RST: &str = "rst 1 PROTOCOL_ERROR";
const GET: &str = "GET a.b/";
const POST: &str = "POST a.b/";

fn open() -> Vec<u8> {
    headers(1, 0, &post(&[]))
}

fn whole() -> Vec<u8> {
    headers(1, END, &get(&[]))
}

fn ping() -> Vec<u8> {
    raw(kind::PING, 0, 0, b"12345678")
}

#[test]
fn sections_3_and_4_what_comes_first_and_frames() {
    let server = |first: Vec<u8>| {
        let mut state = State::new(Side::Server, Limits::default(), || 0);
        state.wrote(state.output().len());
        first.chunks(5).for_each(|part| state.receive(part));
        said(state.output()).join("; ")
    };
    let client = |first: Vec<u8>| {
        let mut state = State::new(Side::Client { secure: true }, Limits::default(), || 0);
        state.wrote(state.output().len());
        state.receive(&first);
        said(state.output()).join("; ")
    };
    let preface = PREFACE.to_vec();
    assert_eq!(server([preface.clone(), settings(&[])].concat()), "settings ack");
    assert_eq!(server(preface.clone()), "");
    assert_eq!(server(b"PRI * HTTP/2.0\r\n\r\nXX".to_vec()), PROTOCOL);
    assert_eq!(server(b"GET / HTTP/1.1\r\n\r\n".to_vec()), PROTOCOL);
    assert_eq!(server([preface.clone(), ping()].concat()), PROTOCOL);
    assert_eq!(server([preface.clone(), whole()].concat()), PROTOCOL);
    assert_eq!(server([preface, raw(kind::SETTINGS, 1, 0, b"")].concat()), PROTOCOL);
    assert_eq!(client(settings(&[])), "settings ack");
    assert_eq!(client(ping()), PROTOCOL);
    assert_eq!(said(State::new(Side::Server, Limits::default(), || 0).output()), ["settings", "window 0 4128769"]);
    let client = State::new(Side::Client { secure: true }, Limits::default(), || 0);
    assert!(client.output().starts_with(PREFACE));
    assert_eq!(said(client.output()), ["settings", "window 0 4128769"]);

    let large = vec![0; 16_384];
    let larger = vec![0; 16_385];
    let undefined = raw(kind::PING, 0x16, 0, b"12345678");
    let mut reserved = ping();
    reserved[5] |= 0x80;
    check(
        Side::Server,
        vec![
            row("4.1", "a frame of unknown kind", &[raw(0x16, 0, 0, b"x"), ping()], "ping ack"),
            row("4.1", "a frame of unknown kind on a stream", &[raw(0xff, 0xff, 1, b"x"), ping()], "ping ack"),
            row("4.1", "flags that nobody defined", &[undefined], "ping ack"),
            row("4.1", "the reserved bit", &[reserved], "ping ack"),
            row("4.2", "DATA of the largest size", &[open(), data(1, END, &large)], POST),
            row("4.2", "DATA that is larger", &[open(), data(1, END, &larger)], SIZE),
            row("4.2", "HEADERS that are larger", &[headers(1, END, &larger)], SIZE),
            row("4.2", "a frame of unknown kind that is larger", &[raw(0x16, 0, 0, &larger)], SIZE),
            row("4.3", "a block that cannot be decoded", &[headers(1, END, &[0x40, 1])], COMPRESSION),
            row(
                "4.3",
                "PRIORITY within a block",
                &[raw(kind::HEADERS, END, 1, &get(&[])), priority(1, 0), continuation(1, WHOLE, b"")],
                PROTOCOL,
            ),
            row(
                "4.3",
                "HEADERS of another stream within a block",
                &[raw(kind::HEADERS, END, 1, &get(&[])), headers(3, END, &get(&[]))],
                PROTOCOL,
            ),
            row("4.3", "a block without END_HEADERS waits", &[raw(kind::HEADERS, END, 1, &get(&[]))], ""),
        ],
    );
}

#[test]
fn section_5_streams() {
    let closed = || reset(1, 8);
    check(
        Side::Server,
        vec![
            row("5.1", "idle: DATA", &[data(1, 0, b"x")], PROTOCOL),
            row("5.1", "idle: RST_STREAM", &[reset(1, 8)], PROTOCOL),
            row("5.1", "idle: WINDOW_UPDATE", &[window(1, 1)], PROTOCOL),
            row("5.1", "idle: CONTINUATION", &[continuation(1, WHOLE, &get(&[]))], PROTOCOL),
            row("5.1", "idle: PRIORITY", &[priority(1, 0), ping()], "ping ack"),
            row("5.1", "half closed: DATA", &[whole(), data(1, END, b"x")], "rst 1 STREAM_CLOSED"),
            row("5.1", "half closed: HEADERS", &[whole(), whole()], "rst 1 STREAM_CLOSED"),
            row("5.1", "half closed: CONTINUATION", &[whole(), continuation(1, WHOLE, b"")], PROTOCOL),
            row("5.1", "half closed: WINDOW_UPDATE", &[whole(), window(1, 9)], GET),
            row("5.1", "half closed: PRIORITY", &[whole(), priority(1, 3)], GET),
            row("5.1", "half closed: RST_STREAM", &[whole(), closed()], ""),
            row("5.1", "reset by the peer: DATA", &[open(), closed(), data(1, 0, b"x")], "rst 1 STREAM_CLOSED"),
            row("5.1", "reset by the peer: HEADERS", &[open(), closed(), whole()], PROTOCOL),
            row("5.1", "reset by the peer: CONTINUATION", &[open(), closed(), continuation(1, WHOLE, b"")], PROTOCOL),
            row("5.1", "reset by the peer: WINDOW_UPDATE", &[open(), closed(), window(1, 1), ping()], "ping ack"),
            row("5.1", "reset by the peer: PRIORITY", &[open(), closed(), priority(1, 0), ping()], "ping ack"),
            row("5.1", "reset by the peer: RST_STREAM", &[open(), closed(), closed(), ping()], "ping ack"),
            after(
                "5.1",
                "ended: DATA",
                &[whole()],
                &[data(1, 0, b"x")],
                "GET /; headers 1 204 end; rst 1 STREAM_CLOSED",
            ),
            after("5.1", "ended: HEADERS", &[whole()], &[whole()], "GET /; headers 1 204 end; goaway STREAM_CLOSED"),
            after(
                "5.1",
                "ended: CONTINUATION",
                &[whole()],
                &[continuation(1, WHOLE, b"")],
                "GET /; headers 1 204 end; goaway PROTOCOL_ERROR",
            ),
            after("5.1", "ended: WINDOW_UPDATE", &[whole()], &[window(1, 1)], "GET /; headers 1 204 end"),
            after("5.1", "ended: RST_STREAM", &[whole()], &[closed()], "GET /; headers 1 204 end"),
            after("5.1", "ended: PRIORITY", &[whole()], &[priority(1, 0)], "GET /; headers 1 204 end"),
            after(
                "5.1",
                "reset by us: what is late is ignored",
                &[open()],
                &[data(1, 0, b"x"), headers(1, END, &[]), window(1, 1), closed(), ping()],
                "POST /; headers 1 204 end; rst 1 NO_ERROR; ping ack",
            ),
            ("5.1", "what nobody answers is reset", vec![Step::In(whole()), Step::Drop], "GET /; rst 1 INTERNAL_ERROR"),
            row("5.1.1", "an even stream", &[headers(2, END, &get(&[]))], PROTOCOL),
            row(
                "5.1.1",
                "a stream below the last",
                &[headers(5, END, &get(&[])), headers(3, END, &get(&[]))],
                PROTOCOL,
            ),
            row(
                "5.1.1",
                "ids may be left out",
                &[headers(7, END, &get(&[])), headers(99, END, &get(&[]))],
                "GET a.b/; GET a.b/",
            ),
            row("5.1.1", "DATA on an even stream", &[whole(), data(2, 0, b"x")], PROTOCOL),
            row(
                "5.1.2",
                "one stream more than allowed",
                &[1, 3, 5, 7].map(|id| headers(id, END, &get(&[]))),
                "GET a.b/; GET a.b/; GET a.b/; rst 7 REFUSED_STREAM",
            ),
            row(
                "5.1.2",
                "a refused stream leaves the table of headers right",
                &[
                    headers(1, 0, &get(&[])),
                    headers(3, 0, &get(&[])),
                    headers(5, 0, &get(&[])),
                    headers(7, END, &[0x82, 0x86, 0x84, 0x41, 3, b'a', b'.', b'c', 0x40, 1, b'n', 1, b'v']),
                    reset(1, 8),
                    headers(9, END, &[0x82, 0x86, 0x84, 0xbf, 0xbe]),
                ],
                "GET a.b/; GET a.b/; GET a.c/n; rst 7 REFUSED_STREAM",
            ),
            row(
                "5.3.1",
                "HEADERS that depend on themselves",
                &[raw(kind::HEADERS, END | WHOLE | PRIORITY, 1, &[&[0, 0, 0, 1, 9][..], &get(&[])].concat())],
                RST,
            ),
            row("5.3.1", "PRIORITY that depends on itself", &[open(), priority(1, 1)], RST),
            row(
                "5.3",
                "HEADERS with a priority",
                &[raw(kind::HEADERS, END | WHOLE | PRIORITY, 1, &[&[0x80, 0, 0, 9, 9][..], &get(&[])].concat())],
                GET,
            ),
            row("5.4.1", "nothing is heard after an error", &[raw(kind::PING, 0, 0, b"short"), ping()], SIZE),
            row("5.5", "unknown frames anywhere", &[raw(99, 0, 1, b""), raw(99, 0, 0, b"")], ""),
            row(
                "5.5",
                "an unknown frame within a block",
                &[raw(kind::HEADERS, END, 1, &get(&[])), raw(99, 0, 1, b"")],
                PROTOCOL,
            ),
        ],
    );
}
