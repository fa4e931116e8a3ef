//! The fields of a head that frame its message and its connection: gathered, checked, told.
//!
//! Invariant: there is one way to read the length of a body, or the message is refused.

use crate::http::message::Known;

/// How the body of a message that comes in ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Exact(u64),
    /// By its last chunk.
    Chunked,
    /// With the connection (responses).
    UntilClose,
}

/// What `transfer-encoding` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// It is not there.
    None,
    /// `chunked`, once, and nothing else.
    Chunked,
    /// Another coding, then `chunked`.
    Unknown,
    /// It does not end with `chunked`, or has it twice.
    Bad,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Facts {
    /// How many hosts there are.
    pub(super) hosts: usize,
    /// `content-length`.
    pub(super) length: Option<u64>,
    /// It was there twice, or is no number.
    pub(super) bad_length: bool,
    /// `transfer-encoding`.
    pub(super) coding: Coding,
    /// `connection: close`.
    pub(super) close: bool,
    /// `connection: keep-alive`.
    pub(super) keep_alive: bool,
    /// `connection: upgrade`.
    pub(super) upgrade: bool,
    /// `expect: 100-continue`.
    pub(super) expects: bool,
    /// Another expectation.
    pub(super) expects_else: bool,
}

impl Facts {
    pub(super) fn new() -> Self {
        Self {
            hosts: 0,
            length: None,
            bad_length: false,
            coding: Coding::None,
            close: false,
            keep_alive: false,
            upgrade: false,
            expects: false,
            expects_else: false,
        }
    }

    /// Looks at a field; whether it stays one.
    pub(super) fn see(&mut self, known: Known, value: &[u8]) -> bool {
        match known {
            Known::Host => self.hosts += 1,
            Known::ContentLength => match number(value) {
                Some(n) if self.length.is_none() => self.length = Some(n),
                _ => self.bad_length = true,
            },
            Known::TransferEncoding => self.coding(value),
            Known::Connection => {
                self.connection(value);
                return true;
            }
            Known::Expect => {
                if value.eq_ignore_ascii_case(b"100-continue") {
                    self.expects = true;
                } else if !value.is_empty() {
                    self.expects_else = true;
                }
                return true;
            }
            _ => return true,
        }
        false
    }

    /// Whether the connection goes on after the message.
    pub(super) fn keeps(&self, http11: bool) -> bool {
        !self.close && (http11 || self.keep_alive)
    }

    fn connection(&mut self, value: &[u8]) {
        for word in tokens(value) {
            self.close |= word.eq_ignore_ascii_case(b"close");
            self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= word.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn coding(&mut self, value: &[u8]) {
        for word in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            let chunked = word.eq_ignore_ascii_case(b"chunked");
            self.coding = match (self.coding, chunked) {
                // Nothing may follow `chunked`, and an empty member says nothing that can be relied on.
                (Coding::Chunked | Coding::Unknown, _) => Coding::Bad,
                (_, _) if word.is_empty() => Coding::Bad,
                (Coding::None, true) => Coding::Chunked,
                // `Bad` until `chunked` follows.
                (Coding::None, false) => Coding::Bad,
                (Coding::Bad, true) => Coding::Unknown,
                (Coding::Bad, false) => Coding::Bad,
            };
        }
    }
}

/// Members of a list.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty())
}

/// A length: digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}
