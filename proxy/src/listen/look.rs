//! A look at the first bytes, where they decide.
//!
//! In: a connection, what has to be known. Out: what it is, and the bytes that were read for it. Bounded in bytes and time:
//! a client that says nothing counts as plaintext of an unknown protocol, one that stops in the middle of a hello is slow.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::detect::{self, ClientHello, HttpSniff, TlsSniff};

/// What begun must be whole after so long.
const WHOLE: Duration = Duration::from_secs(10);

/// What a connection is.
#[derive(Debug)]
pub(super) enum Looked {
    /// TLS.
    Tls(ClientHello),
    /// Plaintext; HTTP if the bytes say so.
    Plain(Option<HttpSniff>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// It ended or broke without a byte.
    Gone,
    /// It began something and did not finish.
    Slow,
}

/// Looks for TLS, and for HTTP if `http`. The first byte is waited for `patience`.
pub(super) async fn look<S: AsyncRead + Unpin>(
    stream: &mut S,
    tls: bool,
    http: bool,
    patience: Duration,
) -> Result<(Looked, Bytes), NoAnswer> {
    let mut bytes = BytesMut::with_capacity(2048);
    match tokio::time::timeout(patience, stream.read_buf(&mut bytes)).await {
        Err(_) => return Ok((Looked::Plain(None), Bytes::new())),
        Ok(Ok(n)) if n > 0 => {}
        Ok(_) => return Err(NoAnswer::Gone),
    }
    let until = tokio::time::Instant::now() + WHOLE;
    let text_until = tokio::time::Instant::now() + patience.min(WHOLE);
    loop {
        let hello = if tls { detect::client_hello(&bytes) } else { TlsSniff::NotTls };
        let until = match hello {
            TlsSniff::Hello(hello) => return Ok((Looked::Tls(hello), bytes.freeze())),
            TlsSniff::More => until,
            TlsSniff::NotTls if !http => return Ok((Looked::Plain(None), bytes.freeze())),
            TlsSniff::NotTls => match detect::http(&bytes) {
                HttpSniff::More => text_until,
                HttpSniff::NotHttp => return Ok((Looked::Plain(None), bytes.freeze())),
                found => return Ok((Looked::Plain(Some(found)), bytes.freeze())),
            },
        };
        bytes.reserve(1024);
        match tokio::time::timeout_at(until, stream.read_buf(&mut bytes)).await {
            Ok(Ok(n)) if n > 0 => {}
            // What ended in the middle of a hello is no TLS; of a word, perhaps some text.
            Ok(_) | Err(_) if matches!(hello_state(tls, &bytes), TlsSniff::More) => return Err(NoAnswer::Slow),
            Ok(_) | Err(_) => return Ok((Looked::Plain(None), bytes.freeze())),
        }
    }
}

fn hello_state(tls: bool, bytes: &[u8]) -> TlsSniff {
    if tls { detect::client_hello(bytes) } else { TlsSniff::NotTls }
}
