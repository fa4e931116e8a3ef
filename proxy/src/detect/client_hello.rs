//! The ClientHello: is it TLS, which server name, which application protocols.
//!
//! In: the first bytes of a connection. Out: [`TlsSniff`]. Only what decides the way of a connection is read; the
//! TLS stack judges the rest. A hello may be cut over records, as large key shares make happen.

use smallvec::SmallVec;

use super::MOST;

/// What the bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSniff {
    /// It may become a ClientHello.
    More,
    /// Something else, or a broken hello.
    NotTls,
    /// A whole ClientHello.
    Hello(ClientHello),
}

/// What decides the way of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name, lower case; absent if none was sent.
    pub server_name: Option<String>,
    /// Application protocols as offered.
    pub alpn: SmallVec<[Vec<u8>; 4]>,
}

impl ClientHello {
    /// Whether the client offers `protocol`.
    pub fn offers(&self, protocol: &str) -> bool {
        self.alpn.iter().any(|p| p == protocol.as_bytes())
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const LONGEST_RECORD: usize = 16 * 1024;

/// Looks for a ClientHello at the start of `bytes`.
pub fn client_hello(bytes: &[u8]) -> TlsSniff {
    let mut hello: SmallVec<[u8; 2048]> = SmallVec::new();
    let mut rest = bytes;
    loop {
        // Each byte that is there must fit, so that plaintext is told by its first byte.
        if rest.first().is_some_and(|b| *b != HANDSHAKE) || rest.get(1).is_some_and(|b| *b != 3) {
            return TlsSniff::NotTls;
        }
        if rest.get(2).is_some_and(|b| *b > 4) {
            return TlsSniff::NotTls;
        }
        let Some(length) = rest.get(3..5) else { return more(bytes) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length == 0 || length > LONGEST_RECORD {
            return TlsSniff::NotTls;
        }
        let body = &rest[5..];
        hello.extend_from_slice(&body[..length.min(body.len())]);
        if hello.first().is_some_and(|b| *b != CLIENT_HELLO) {
            return TlsSniff::NotTls;
        }
        if let Some(size) = hello.get(1..4) {
            let size = usize::from(size[0]) << 16 | usize::from(size[1]) << 8 | usize::from(size[2]);
            if size > MOST {
                return TlsSniff::NotTls;
            }
            if hello.len() >= 4 + size {
                return parse(&hello[4..4 + size]).map_or(TlsSniff::NotTls, TlsSniff::Hello);
            }
        }
        if body.len() < length {
            return more(bytes);
        }
        rest = &body[length..];
    }
}

fn more(bytes: &[u8]) -> TlsSniff {
    if bytes.len() >= MOST { TlsSniff::NotTls } else { TlsSniff::More }
}

/// The body of a ClientHello (RFC 8446, 4.1.2).
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut input = Reader(body);
    input.take(2 + 32)?;
    input.vector8()?;
    input.vector16()?;
    input.vector8()?;
    let mut hello = ClientHello::default();
    if input.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(input.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(data)?,
            ALPN => {
                let mut names = Reader(Reader(data).vector16()?);
                while !names.0.is_empty() {
                    let name = names.vector8()?;
                    if name.is_empty() || hello.alpn.len() == 64 {
                        return None;
                    }
                    hello.alpn.push(name.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The outer option says whether it could be read, the inner one whether there is a name.
#[allow(clippy::option_option)]
fn server_name(data: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(Reader(data).vector16()?);
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vector16()?;
        if kind == 0 {
            let name = std::str::from_utf8(name).ok()?;
            return Some(Some(name.to_ascii_lowercase()));
        }
    }
    Some(None)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let n = self.take(1)?[0];
        self.take(usize::from(n))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let n = self.u16()?;
        self.take(usize::from(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::hello_bytes;

    #[test]
    fn a_real_hello_tells_name_and_protocols_whatever_way_it_is_cut() {
        let bytes = hello_bytes("outbound_.9080_._.reviews.default.svc.cluster.local", &["istio-http/1.1", "istio"]);
        let TlsSniff::Hello(whole) = client_hello(&bytes) else { panic!("not a hello") };
        assert_eq!(whole.server_name.as_deref(), Some("outbound_.9080_._.reviews.default.svc.cluster.local"));
        assert!(whole.offers("istio-http/1.1") && whole.offers("istio") && !whole.offers("h2"));
        for cut in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..cut]), TlsSniff::More, "cut at {cut}");
        }

        // The same handshake in records of 100 bytes.
        let mut records = Vec::new();
        for part in bytes[5..].chunks(100) {
            records.extend_from_slice(&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()]);
            records.extend_from_slice(part);
        }
        assert_eq!(client_hello(&records), TlsSniff::Hello(whole));
    }

    #[test]
    fn plaintext_is_told_by_its_first_bytes() {
        for text in
            [&b"GET / HTTP/1.1\r\n"[..], b"\x00", b"SSH-2.0-x", b"\x16\x02", b"\x16\x03\x09", b"\x16\x03\x01\x00\x00"]
        {
            assert_eq!(client_hello(text), TlsSniff::NotTls, "{text:?}");
        }
        assert_eq!(client_hello(b""), TlsSniff::More);
    }

    #[test]
    fn an_endless_hello_is_given_up() {
        let mut bytes = Vec::new();
        while bytes.len() < MOST + 100 {
            bytes.extend_from_slice(&[22, 3, 1, 0, 1, 1]);
        }
        assert_eq!(client_hello(&bytes), TlsSniff::NotTls);
    }
}
