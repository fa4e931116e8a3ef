//! Frames as bytes, and what a state answers as a line of text: what the tables of tests are written in.

use crate::http::h2::frame::{self, Code, HEAD, Head, PREFACE, flag, kind};
use crate::http::h2::state::{Side, State};
use crate::http::h2::{Limits, hpack};
use crate::http::message::{Length, ResponseHead};

pub(super) const END: u8 = flag::END_STREAM;
pub(super) const WHOLE: u8 = flag::END_HEADERS;
pub(super) const PADDED: u8 = flag::PADDED;
pub(super) const PRIORITY: u8 = flag::PRIORITY;

pub(super) fn raw(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, kind, flags, id, payload);
    out
}

/// HEADERS that are whole.
pub(super) fn headers(id: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    raw(kind::HEADERS, flags | WHOLE, id, block)
}

pub(super) fn data(id: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    raw(kind::DATA, flags, id, payload)
}

pub(super) fn reset(id: u32, code: u32) -> Vec<u8> {
    raw(kind::RST_STREAM, 0, id, &code.to_be_bytes())
}

pub(super) fn window(id: u32, more: u32) -> Vec<u8> {
    raw(kind::WINDOW_UPDATE, 0, id, &more.to_be_bytes())
}

pub(super) fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        list.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    raw(kind::SETTINGS, 0, 0, &payload)
}

pub(super) fn priority(id: u32, on: u32) -> Vec<u8> {
    let [a, b, c, d] = on.to_be_bytes();
    raw(kind::PRIORITY, 0, id, &[a, b, c, d, 16])
}

pub(super) fn continuation(id: u32, flags: u8, part: &[u8]) -> Vec<u8> {
    raw(kind::CONTINUATION, flags, id, part)
}

/// A block of literal fields.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// The block of a GET, and more fields.
pub(super) fn get(more: &[(&str, &str)]) -> Vec<u8> {
    [&[0x82, 0x86, 0x84, 0x41, 3][..], b"a.b", &block(more)].concat()
}

/// The block of a POST, and more fields.
pub(super) fn post(more: &[(&str, &str)]) -> Vec<u8> {
    [&[0x83, 0x86, 0x84, 0x41, 3][..], b"a.b", &block(more)].concat()
}

/// The block of a response, and more fields.
pub(super) fn ok(more: &[(&str, &str)]) -> Vec<u8> {
    [&[0x88][..], &block(more)].concat()
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Bytes come.
    In(Vec<u8>),
    /// Every request that came is answered by a 204 and done with.
    Answer,
    /// Every request that came is dropped.
    Drop,
    /// A client asks by GET.
    Ask,
    /// A client asks by HEAD.
    AskHead,
}

/// Where a history begins.
pub(super) fn begin(side: Side, limits: Limits) -> State {
    let mut state = State::new(side, limits, || 0);
    let first = match side {
        Side::Server => [&PREFACE[..], &settings(&[])].concat(),
        Side::Client { .. } => settings(&[]),
    };
    state.receive(&first);
    state.wrote(state.output().len());
    state
}

pub(super) fn play(state: &mut State, steps: &[Step], piece: usize) -> String {
    let mut requests = Vec::new();
    let mut owned = Vec::new();
    for step in steps {
        match step {
            Step::In(bytes) => bytes.chunks(piece).for_each(|part| state.receive(part)),
            Step::Answer | Step::Drop => {
                while let Some((key, head)) = state.accept() {
                    requests.push(format!("{} {}", head.method, head.path()));
                    if matches!(step, Step::Answer) {
                        state.send_response(key, &ResponseHead::new(204)).unwrap();
                    }
                    state.release(key);
                }
            }
            Step::Ask | Step::AskHead => {
                let mut head = super::get("/");
                if matches!(step, Step::AskHead) {
                    head.method = http::Method::HEAD;
                }
                let key = state.open().unwrap();
                state.send_request(key, &head, Length::None).unwrap();
                owned.push(key);
            }
        }
    }
    let mut told: Vec<_> = requests;
    while let Some((_, head)) = state.accept() {
        let fields: Vec<_> = head.fields.iter().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
        told.push(format!("{} {}{}{}", head.method, head.authority(), head.path(), fields.concat()));
    }
    for key in owned {
        let cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut buffer = Vec::new();
        let mut response = loop {
            match state.take_response(key, &cx) {
                std::task::Poll::Ready(Ok(head)) if head.status < 200 => told.push(head.status.to_string()),
                std::task::Poll::Ready(Ok(head)) => break head.status.to_string(),
                std::task::Poll::Ready(Err(why)) => break format!("{why:?}"),
                std::task::Poll::Pending => break "...".to_owned(),
            }
        };
        if response.starts_with(|c: char| c.is_ascii_digit()) {
            loop {
                let taken = state.take_body(key, &mut buffer, &cx);
                response += &match taken {
                    std::task::Poll::Ready(Ok(crate::http::h2::state::Taken::Bytes(_))) => {
                        let text = format!(" {}", String::from_utf8_lossy(&buffer));
                        buffer.clear();
                        response += &text;
                        continue;
                    }
                    std::task::Poll::Ready(Ok(crate::http::h2::state::Taken::Trailers(_))) => " trailers".to_owned(),
                    std::task::Poll::Ready(Ok(crate::http::h2::state::Taken::End)) => " end".to_owned(),
                    std::task::Poll::Ready(Err(why)) => format!(" {why:?}"),
                    std::task::Poll::Pending => " ...".to_owned(),
                };
                break;
            }
        }
        told.push(response);
    }
    told.extend(said(state.output()));
    told.join("; ")
}

/// Frames as text. Blocks are decoded, so that what is said is known to be whole.
pub(super) fn said(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    let mut decoder = hpack::Decoder::default();
    bytes = bytes.strip_prefix(&PREFACE[..]).unwrap_or(bytes);
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let head = Head::parse(*head);
        let (payload, rest) = rest.split_at(head.len as usize);
        bytes = rest;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let id = head.stream;
        let ends = if head.has(END) { " end" } else { "" };
        all.push(match head.kind {
            kind::DATA => format!("data {id} {}{ends}", payload.len()),
            kind::HEADERS => {
                let mut first = String::new();
                decoder
                    .decode(payload, |item| {
                        if first.is_empty() {
                            first = String::from_utf8_lossy(item.value).into_owned();
                        }
                    })
                    .unwrap();
                if first == "GET" || first == "HEAD" {
                    continue;
                }
                format!("headers {id} {first}{ends}")
            }
            kind::RST_STREAM => format!("rst {id} {}", Code(number(0))),
            kind::SETTINGS if head.has(flag::ACK) => "settings ack".to_owned(),
            kind::SETTINGS => "settings".to_owned(),
            kind::PING if head.has(flag::ACK) => "ping ack".to_owned(),
            kind::PING => "ping".to_owned(),
            kind::GOAWAY => format!("goaway {}", Code(number(4))),
            kind::WINDOW_UPDATE => format!("window {id} {}", number(0)),
            other => format!("frame {other}"),
        });
    }
    assert!(bytes.is_empty());
    all
}
