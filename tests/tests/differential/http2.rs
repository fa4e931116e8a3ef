//! HTTP/2 by hand, both ends: one stream a case and one that probes, frames as a case says them, right or wrong.
//!
//! A message is its fields, one a line, then an empty line and the body, then `{trailers}` and those. The last of these ends the
//! stream, unless `{open}` comes.

use hawser_proxy::http::h2::fields as decode;
use hawser_tests::wait;

use crate::message::Body;
use crate::seen::{Seen, fields, text as printable};
use crate::server::{Lane, Serving};
use crate::stream::{Ended, Stream};
use crate::text::{self, Lines, Step};
use crate::{PAUSE, PROBE, Side};

/// What a client begins with.
pub(crate) const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// A field.
type Field = (String, String);
/// A field as it is sent.
type Bytes = (Vec<u8>, Vec<u8>);

/// What is known of a stream that answers.
#[derive(Default)]
struct Message {
    heads: Vec<Vec<Field>>,
    body: Body,
    reset: Option<u32>,
    ended: bool,
}

/// One end of a connection.
struct Wire {
    stream: Stream,
    /// All header blocks that came: the other end's table is made of them.
    blocks: Vec<Vec<u8>>,
    goaway: Option<u32>,
}

/// An event of a stream.
enum Event {
    Head { stream: u32, fields: Vec<Field>, end: bool },
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    Reset { stream: u32, code: u32 },
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self { stream, blocks: Vec::new(), goaway: None }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write(&frame);
    }

    /// The next event; frames of the connection are answered.
    fn event(&mut self) -> Result<Event, Ended> {
        loop {
            let head = self.stream.exactly(9)?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let stream = number(&head[5..9]) & 0x7fff_ffff;
            let payload = self.stream.exactly(length)?;
            let end = flags & END_STREAM != 0;
            match kind {
                DATA => {
                    let bytes = unpadded(&payload, flags, false);
                    for window in [0, stream] {
                        if !payload.is_empty() {
                            self.frame(WINDOW_UPDATE, 0, window, &(length as u32).to_be_bytes());
                        }
                    }
                    return Ok(Event::Data { stream, bytes, end });
                }
                HEADERS => {
                    let mut block = unpadded(&payload, flags, true);
                    let mut ended = flags & END_HEADERS != 0;
                    while !ended {
                        let head = self.stream.exactly(9)?;
                        assert_eq!(head[3], CONTINUATION, "a block goes on");
                        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                        block.extend(self.stream.exactly(length)?);
                        ended = head[4] & END_HEADERS != 0;
                    }
                    self.blocks.push(block);
                    return Ok(Event::Head { stream, fields: self.decoded(), end });
                }
                RST_STREAM => return Ok(Event::Reset { stream, code: number(&payload) }),
                SETTINGS if flags & 1 == 0 => self.frame(SETTINGS, 1, 0, &[]),
                PING if flags & 1 == 0 => self.frame(PING, 1, 0, &payload),
                GOAWAY => self.goaway = Some(number(&payload[4..8])),
                _ => {}
            }
        }
    }

    /// The fields of the last block.
    fn decoded(&self) -> Vec<Field> {
        let blocks: Vec<&[u8]> = self.blocks.iter().map(Vec::as_slice).collect();
        let fields = decode(&blocks).expect("header blocks can be decoded");
        fields.into_iter().map(|(name, value)| (printable(&name), printable(&value))).collect()
    }

    /// Sends a message, step by step; `false` if the stream is over.
    fn send(&mut self, stream: u32, steps: &[Step]) {
        // What is left of the message when a step begins decides who ends the stream.
        let opens = steps.contains(&Step::Open) || steps.iter().any(|s| matches!(s, Step::ResetStream(_) | Step::Hold));
        let mut head = true;
        for (at, step) in steps.iter().enumerate() {
            let more = |step: &Step| matches!(step, Step::Bytes(_) | Step::Trailers);
            let last = !opens && !steps[at + 1..].iter().any(more);
            match step {
                Step::Bytes(bytes) if head => {
                    let (fields, body) = split(bytes);
                    head = false;
                    self.headers(stream, &fields, last && body.is_none());
                    if let Some(body) = body {
                        self.data(stream, &body, last);
                    }
                }
                Step::Bytes(bytes) => self.data(stream, bytes, last),
                Step::Trailers => head = true,
                Step::ResetStream(code) => self.frame(RST_STREAM, 0, stream, &code.to_be_bytes()),
                Step::Pause => wait::between_looks(PAUSE),
                Step::Open | Step::Early => {}
                Step::Hold => {
                    let _ = self.stream.rest();
                }
                other => panic!("{other:?} is nothing that is done in HTTP/2"),
            }
        }
    }

    fn headers(&mut self, stream: u32, fields: &[Bytes], end: bool) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                length(&mut block, text.len());
                block.extend_from_slice(text);
            }
        }
        let mut parts = block.chunks(16_000).peekable();
        let (mut kind, mut flags) = (HEADERS, if end { END_STREAM } else { 0 });
        while let Some(part) = parts.next() {
            let ends = if parts.peek().is_none() { END_HEADERS } else { 0 };
            self.frame(kind, flags | ends, stream, part);
            (kind, flags) = (CONTINUATION, 0);
        }
    }

    fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        self.frame(DATA, if end { END_STREAM } else { 0 }, stream, bytes);
    }

    /// Reads what is said of a stream to its end.
    fn message(&mut self, id: u32) -> (Message, Option<Ended>) {
        let mut message = Message::default();
        loop {
            match self.event() {
                Err(ended) => return (message, Some(ended)),
                Ok(Event::Head { stream, fields, end }) if stream == id => {
                    let is_trailers = message.heads.last().is_some_and(|head| !interim(head));
                    if is_trailers {
                        message.body.trailers = fields;
                    } else {
                        message.heads.push(fields);
                    }
                    message.ended = end;
                }
                Ok(Event::Data { stream, bytes, end }) if stream == id => {
                    message.body.bytes.extend(bytes);
                    message.ended = end;
                }
                Ok(Event::Reset { stream, code }) if stream == id => message.reset = Some(code),
                Ok(_) => {}
            }
            if message.ended || message.reset.is_some() {
                return (message, None);
            }
        }
    }
}

fn interim(head: &[Field]) -> bool {
    head.iter().any(|(name, value)| name == ":status" && value.starts_with('1'))
}

/// Plays a case on a connection.
pub(crate) fn play(stream: Stream, send: &str, name: &str) -> Seen {
    let mut seen = Seen::default();
    let mut wire = Wire::new(stream);
    wire.stream.write(PREFACE.as_bytes());
    wire.frame(SETTINGS, 0, 0, &[]);
    wire.send(1, &text::steps(send, name, Lines::Http2));
    let (message, ended) = wire.message(1);
    for head in &message.heads {
        fields(head).for_each(|line| seen.client(line));
    }
    if !message.heads.is_empty() {
        let body = Body { broken: !message.ended, ..message.body };
        seen.client_body(&body);
    }
    if let Some(code) = message.reset {
        seen.client(format!("the stream is reset: {code}"));
    }
    if ended.is_none() {
        let probe = format!(":method: GET\n:scheme: http\n:authority: {{host}}\n:path: {PROBE}\n");
        wire.send(3, &text::steps(&probe, name, Lines::Http2));
        let (message, ended) = wire.message(3);
        let status = message.heads.first().and_then(|head| head.iter().find(|(n, _)| n == ":status"));
        match (status, message.reset, ended) {
            (Some((_, status)), ..) => seen.client(format!("the connection goes on: {status}")),
            (_, Some(code), _) => seen.client(format!("the next stream is reset: {code}")),
            (.., ended) => over(&mut seen, &wire, ended),
        }
    } else {
        over(&mut seen, &wire, ended);
    }
    seen
}

fn over(seen: &mut Seen, wire: &Wire, ended: Option<Ended>) {
    if let Some(code) = wire.goaway {
        seen.client(format!("goaway: {code}"));
    }
    seen.client(match ended {
        Some(Ended::Silent) => "nothing more comes".to_owned(),
        _ => "the connection is closed".to_owned(),
    });
}

/// Serves a connection of which the preface was read.
pub(crate) fn serve(stream: Stream, lane: &Lane, side: Side, server: usize) {
    let mut wire = Wire::new(stream);
    // Extended CONNECT is welcome.
    wire.frame(SETTINGS, 0, 0, &[0, 8, 0, 0, 0, 1]);
    let mut open = std::collections::BTreeMap::<u32, (Option<(Serving, usize)>, Body)>::new();
    loop {
        let Ok(event) = wire.event() else { return };
        let (stream, end) = match event {
            Event::Head { stream, fields: head, end } => {
                if let Some((_, body)) = open.get_mut(&stream) {
                    body.trailers = head;
                } else if head.iter().any(|(n, v)| n == ":path" && v == PROBE) {
                    open.insert(stream, (None, Body::default()));
                } else {
                    let serving = lane.now();
                    let number = serving.requests.begin(side, server, fields(&head).collect());
                    let steps = text::steps(serving.script(number, true), &serving.name, Lines::Http2);
                    open.insert(stream, (Some((serving, number)), Body::default()));
                    if steps.contains(&Step::Early) {
                        wire.send(stream, &steps);
                    }
                }
                (stream, end)
            }
            Event::Data { stream, bytes, end } => {
                if let Some((_, body)) = open.get_mut(&stream) {
                    body.bytes.extend(bytes);
                }
                (stream, end)
            }
            Event::Reset { stream, code } => {
                if let Some((Some((serving, number)), _)) = open.remove(&stream) {
                    serving.requests.add(side, number, vec![format!("  reset: {code}")]);
                }
                continue;
            }
        };
        if !end {
            continue;
        }
        let steps = match open.remove(&stream) {
            Some((Some((serving, number)), body)) => {
                serving.requests.add(side, number, crate::seen::body_lines(&body));
                text::steps(serving.script(number, true), &serving.name, Lines::Http2)
            }
            Some((None, _)) => text::steps(":status: 200\n", "", Lines::Http2),
            None => continue,
        };
        if !steps.contains(&Step::Early) {
            if steps.contains(&Step::Close) {
                return;
            }
            wire.send(stream, &steps);
        }
    }
}

/// Fields, and the body behind an empty line.
fn split(bytes: &[u8]) -> (Vec<Bytes>, Option<Vec<u8>>) {
    let at = bytes.windows(2).position(|w| w == b"\n\n");
    let (head, body) = match at {
        Some(at) => (&bytes[..at], Some(bytes[at + 2..].to_vec())),
        None => (bytes, None),
    };
    let lines = head.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let field = |line: &[u8]| {
        let colon = line.iter().skip(1).position(|b| *b == b':').map_or(line.len(), |at| at + 1);
        let value = line.get(colon + 1..).unwrap_or_default();
        (line[..colon].to_vec(), value.strip_prefix(b" ").unwrap_or(value).to_vec())
    };
    (lines.map(field).collect(), body)
}

fn unpadded(payload: &[u8], flags: u8, headers: bool) -> Vec<u8> {
    let (mut from, mut to) = (0, payload.len());
    if flags & PADDED != 0 {
        to -= usize::from(payload[0]);
        from += 1;
    }
    if headers && flags & PRIORITY != 0 {
        from += 5;
    }
    payload[from..to].to_vec()
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |n, b| n << 8 | u32::from(*b))
}

/// A length in seven bits and more (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, n: usize) {
    if n < 127 {
        return block.push(n as u8);
    }
    block.push(127);
    let mut rest = n - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}
