//! Servers that write down every request and answer as the case says.
//!
//! In: sockets that listen. Out: [`Requests`] by side. Invariant: a request is written down before it is answered, so that
//! whoever has the answer finds it.

use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use hawser_tests::wait;
use rustls::ServerConfig;

use crate::case::Case;
use crate::message::{Body, Head};
use crate::net::IDLE;
use crate::seen::{body_lines, fields, text as text_of};
use crate::stream::Stream;
use crate::text::{self, Lines, Step};
use crate::{PAUSE, PROBE, Side, http2};

/// What a server does when a case says nothing.
const PLAIN: &str = "HTTP/1.1 200 OK\ncontent-length: 2\n\nok";
/// The same in HTTP/2.
const PLAIN_HTTP2: &str = ":status: 200\n\nok";

/// A request that a server saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Which server.
    pub(crate) server: usize,
    /// What it saw.
    pub(crate) lines: Vec<String>,
    /// Its body is there, or broke off.
    pub(crate) whole: bool,
}

/// What the servers of a case saw, by side.
#[derive(Debug, Default)]
pub(crate) struct Requests([Mutex<Vec<Request>>; 2]);

impl Requests {
    /// A new request; its number.
    pub(crate) fn begin(&self, side: Side, server: usize, lines: Vec<String>) -> usize {
        let mut all = self.0[side as usize].lock().unwrap();
        all.push(Request { server, lines, whole: false });
        all.len() - 1
    }

    /// More of a request.
    pub(crate) fn add(&self, side: Side, number: usize, lines: Vec<String>) {
        let mut all = self.0[side as usize].lock().unwrap();
        all[number].lines.extend(lines);
        all[number].whole = true;
    }

    /// All of them.
    pub(crate) fn of(&self, side: Side) -> Vec<Request> {
        self.0[side as usize].lock().unwrap().clone()
    }
}

/// What a socket serves now: one case for ever, or one after the other.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Mutex<Serving>>);

/// The servers of one case.
#[derive(Clone)]
pub(crate) struct Serving {
    /// What to do.
    pub(crate) case: &'static Case,
    /// The case's name in configurations.
    pub(crate) name: String,
    /// What they saw.
    pub(crate) requests: Arc<Requests>,
    /// TLS that they speak.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl Lane {
    /// Begins with this case.
    pub(crate) fn new(serving: Serving) -> Self {
        Self(Arc::new(Mutex::new(serving)))
    }

    /// Goes on with another.
    pub(crate) fn serve(&self, serving: Serving) {
        *self.0.lock().unwrap() = serving;
    }

    /// The case of the moment.
    pub(crate) fn now(&self) -> Serving {
        self.0.lock().unwrap().clone()
    }

    /// Serves a socket for as long as the test runs; a connection's side is told by who connects.
    pub(crate) fn listen(&self, listener: TcpListener, server: usize, side: impl Fn(IpAddr) -> Side + Send + 'static) {
        let lane = self.clone();
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let Ok(peer) = stream.peer_addr() else { continue };
                let _ = stream.set_read_timeout(Some(IDLE));
                let _ = stream.set_nodelay(true);
                let (lane, side) = (lane.clone(), side(peer.ip()));
                small(move || lane.connection(Stream::plain(stream), side, server));
            }
        };
        small(accept);
    }

    fn connection(&self, mut stream: Stream, side: Side, server: usize) {
        let mut said = header(&mut stream);
        if let Some(tls) = self.now().tls {
            let Ok(secured) = stream.serve_tls(tls) else { return };
            stream = secured;
            if stream.fill().is_err() {
                return;
            }
        }
        said.extend(stream.greeting());
        while stream.ahead().len() < http2::PREFACE.len() {
            if stream.ahead().contains(&b'\n') || stream.fill().is_err() {
                break;
            }
        }
        if stream.ahead().starts_with(http2::PREFACE.as_bytes()) {
            stream.take(http2::PREFACE.len());
            return http2::serve(stream, self, side, server);
        }
        while let Ok(head) = Head::read(&mut stream) {
            if !self.now().exchange(&mut stream, head, &said, side, server) {
                return;
            }
        }
    }
}

impl Serving {
    /// What the `number`th request is answered.
    pub(crate) fn script(&self, number: usize, http2: bool) -> &'static str {
        let tries = self.case.serve;
        let plain = if http2 { PLAIN_HTTP2 } else { PLAIN };
        tries.get(number).or(tries.last()).copied().unwrap_or(plain)
    }

    /// Serves one request; whether another may follow.
    fn exchange(&self, stream: &mut Stream, head: Head, said: &[String], side: Side, server: usize) -> bool {
        if head.first.contains(PROBE) {
            stream.write(&bytes(PLAIN, &self.name));
            return true;
        }
        let mut lines = vec![head.first.clone()];
        lines.extend(said.iter().map(|line| format!("  on a connection: {line}")));
        lines.extend(fields(&head.fields).map(|line| format!("  {line}")));
        let number = self.requests.begin(side, server, lines);
        let steps = text::steps(self.script(number, false), &self.name, Lines::Http1);
        if steps.first() != Some(&Step::Early) {
            let body = Body::read(stream, &head, false);
            self.requests.add(side, number, body_lines(&body));
            if body.broken {
                return false;
            }
        }
        for step in steps {
            match step {
                Step::Bytes(bytes) => stream.write(&bytes),
                Step::Early => {}
                Step::Pause => wait::between_looks(PAUSE),
                Step::Read => {
                    let body = Body::read(stream, &head, false);
                    self.requests.add(side, number, body_lines(&body));
                }
                Step::Eof => stream.eof(),
                Step::Close => return false,
                Step::Reset => {
                    stream.reset();
                    return false;
                }
                Step::Hold => {
                    let _ = stream.rest();
                    return false;
                }
                Step::Echo => loop {
                    let ahead = stream.ahead().len();
                    let bytes = stream.take(ahead);
                    stream.write(&bytes);
                    if stream.fill().is_err() {
                        stream.eof();
                        return false;
                    }
                },
                other => panic!("{other:?} is nothing that a server of HTTP/1 does"),
            }
        }
        true
    }
}

/// The header of the PROXY protocol, if a connection begins with one; the port that a client has by chance is left out.
fn header(stream: &mut Stream) -> Vec<String> {
    const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let begins =
        |stream: &Stream, with: &[u8]| stream.ahead().starts_with(&with[..with.len().min(stream.ahead().len())]);
    while stream.ahead().is_empty() || begins(stream, b"PROXY ") && stream.ahead().len() < 6 || begins(stream, BINARY) {
        if stream.ahead().starts_with(BINARY) || stream.ahead().starts_with(b"PROXY ") || stream.fill().is_err() {
            break;
        }
    }
    if stream.ahead().starts_with(b"PROXY ") {
        let Ok(line) = stream.line() else { return Vec::new() };
        let line = text_of(&line);
        let words: Vec<&str> = line.split(' ').collect();
        let shown = |at: usize, word: &&str| if at == 4 { "…".to_owned() } else { (*word).to_owned() };
        return vec![words.iter().enumerate().map(|(at, word)| shown(at, word)).collect::<Vec<_>>().join(" ")];
    }
    if stream.ahead().starts_with(BINARY) {
        let Ok(head) = stream.exactly(16) else { return Vec::new() };
        let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
        let Ok(mut ends) = stream.exactly(length) else { return Vec::new() };
        if let Some(port) = ends.get_mut(8..10) {
            port.fill(0);
        }
        let ends = match ends.as_slice() {
            [a, b, c, d, e, f, g, h, _, _, high, low] => {
                format!("{a}.{b}.{c}.{d} {e}.{f}.{g}.{h} {}", u16::from_be_bytes([*high, *low]))
            }
            other => format!("{other:?}"),
        };
        return vec![format!("PROXY in binary {:#x} {:#x} {ends}", head[12], head[13])];
    }
    Vec::new()
}

fn bytes(text: &str, name: &str) -> Vec<u8> {
    match text::steps(text, name, Lines::Http1).pop() {
        Some(Step::Bytes(bytes)) => bytes,
        _ => Vec::new(),
    }
}

/// A thread with little memory.
fn small(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(256 * 1024).spawn(work).unwrap();
}
