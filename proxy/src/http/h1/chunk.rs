//! Bodies in chunks (RFC 9112, 7.1), from bytes.
//!
//! In: what was read, from the first byte that is not consumed. Out: where data lies in it, trailers, the end.
//! Invariants: lines end with CR LF and nothing else; sizes, extensions and trailers are bounded; nothing is kept here.

use httparse::{EMPTY_HEADER, Status};

use super::body::Found;
use crate::http::channel::Broken;
use crate::http::message::{Fields, may_trail};

/// Most bytes of the extensions of a body, which nobody here reads.
const EXTENSIONS: u32 = 16 * 1024;
/// Most bytes of trailers.
const TRAILERS: usize = 16 * 1024;
/// Most trailers.
const TRAILER_FIELDS: usize = 64;
/// What follows the data of the last chunk if there are no trailers.
const LAST: &[u8] = b"\r\n0\r\n\r\n";

/// A body in chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    extensions: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the digits of a size.
    Size { size: u64, digits: u8 },
    /// In the white space behind it.
    Space { size: u64 },
    /// In an extension.
    Extension { size: u64 },
    /// Before the line feed of the size's line.
    Feed { size: u64 },
    /// In data; `last` if what ends the body was seen behind it.
    Data { left: u64, last: bool },
    /// Behind data, before its line end.
    Return,
    /// Within it.
    ReturnFeed,
    /// In trailers.
    Trailers,
}

const START: State = State::Size { size: 0, digits: 0 };

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: START, extensions: 0 }
    }

    /// What comes next, and how many bytes before it are done with.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<(usize, Found), Broken> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let Some(&byte) = rest.first() else { return Ok((used, Found::More)) };
            self.state = match (self.state, byte) {
                (State::Data { left, .. }, _) => {
                    let len = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    let last = len as u64 == left && rest[len..].starts_with(LAST);
                    self.state = State::Data { left, last };
                    return Ok((used, Found::Data { len, last }));
                }
                (State::Trailers, _) => return trailers(rest).map(|(n, found)| (used + n, found)),
                (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                    // Sixteen digits are as much as a size can be.
                    if digits >= 16 {
                        return Err(Broken::Malformed("the size of a chunk"));
                    }
                    let digit = (byte as char).to_digit(16).unwrap_or_default();
                    State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
                }
                (State::Size { digits: 0, .. }, _) => return Err(Broken::Malformed("the size of a chunk")),
                (State::Size { size, .. } | State::Space { size } | State::Extension { size }, b'\r') => {
                    State::Feed { size }
                }
                (State::Size { size, .. } | State::Space { size }, b';') => State::Extension { size },
                (State::Size { size, .. } | State::Space { size }, b' ' | b'\t') => {
                    self.extension()?;
                    State::Space { size }
                }
                (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.extension()?;
                    State::Extension { size }
                }
                (State::Feed { size: 0 }, b'\n') => State::Trailers,
                (State::Feed { size }, b'\n') => State::Data { left: size, last: false },
                (State::Return, b'\r') => State::ReturnFeed,
                (State::ReturnFeed, b'\n') => START,
                (State::Return | State::ReturnFeed, _) => return Err(Broken::Malformed("the end of a chunk")),
                _ => return Err(Broken::Malformed("the line of a chunk")),
            };
            used += 1;
        }
    }

    /// `n` bytes of data are done with: how many behind them are too, and whether the body has ended.
    pub(super) fn took(&mut self, n: usize) -> (usize, bool) {
        let State::Data { left, last } = self.state else { return (0, false) };
        match left.saturating_sub(n as u64) {
            0 if last => (LAST.len(), true),
            0 => {
                self.state = State::Return;
                (0, false)
            }
            left => {
                self.state = State::Data { left, last: false };
                (0, false)
            }
        }
    }

    fn extension(&mut self) -> Result<(), Broken> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS { Err(Broken::TooLarge) } else { Ok(()) }
    }
}

/// Reads the section behind the last chunk.
fn trailers(bytes: &[u8]) -> Result<(usize, Found), Broken> {
    let mut places = [EMPTY_HEADER; TRAILER_FIELDS];
    match httparse::parse_headers(bytes, &mut places) {
        Ok(Status::Partial) if bytes.len() < TRAILERS => Ok((0, Found::More)),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => Err(Broken::TooLarge),
        Err(_) => Err(Broken::Malformed("trailers")),
        Ok(Status::Complete((used, _))) if used > TRAILERS => Err(Broken::TooLarge),
        Ok(Status::Complete((used, fields))) => {
            let mut before = 0;
            for byte in bytes.iter().take(used) {
                if *byte == b'\n' && before != b'\r' {
                    return Err(Broken::Malformed("trailers"));
                }
                before = *byte;
            }
            let mut kept = Fields::default();
            for field in fields.iter().filter(|f| may_trail(f.name.as_bytes())) {
                kept.push_any_case(field.name.as_bytes(), field.value);
            }
            Ok((used, if kept.is_empty() { Found::End } else { Found::Trailers(kept) }))
        }
    }
}
