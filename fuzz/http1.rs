//! HTTP/1, its heads and bodies, as a server and as a client: what is understood is the same however it is cut.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use hawser_proxy::http::channel::{Broken, Channel, Client as _, Handler, Piece, Server, Then};
use hawser_proxy::http::h1;
use hawser_proxy::http::message::{Fields, Length, RequestHead, ResponseHead, Version};
use hawser_proxy::http::progress::Progress;
use hawser_proxy::stream::{Plain, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Requests of HTTP/1, with their bodies: what the client reads is the same however they are cut.
pub(crate) fn request(bytes: &[u8]) -> Vec<u8> {
    let whole = served(&[bytes]);
    let (a, b) = bytes.split_at(bytes.len() / 2);
    assert_eq!(served(&[a, b]), whole);
    assert_eq!(served(&bytes.chunks(step(bytes)).collect::<Vec<_>>()), whole);
    whole
}

/// Byte for byte, as long as that does not take all the time there is.
fn step(bytes: &[u8]) -> usize {
    1.max(bytes.len() / 200)
}

fn served(parts: &[&[u8]]) -> Vec<u8> {
    moment(async {
        let (client, server) = tokio::io::duplex(4 << 20);
        let stream = Stream::plain(Plain::memory(server));
        let serving = h1::serve(stream, h1::Limits::default(), Rc::new(Echo), Progress::new(Rc::default()));
        let (mut reader, mut writer) = tokio::io::split(client);
        let writing = async {
            for part in parts {
                let _ = writer.write_all(part).await;
                tokio::task::yield_now().await;
            }
            let _ = writer.shutdown().await;
        };
        let mut answer = Vec::new();
        let _ = tokio::join!(serving, writing, reader.read_to_end(&mut answer));
        // Whether a client is asked for its body depends on whether it has come.
        remove(&mut answer, b"HTTP/1.1 100 Continue\r\n\r\n", 0);
        // The time goes on meanwhile.
        remove(&mut answer, b"\r\ndate: ", "Sun, 06 Nov 1994 08:49:37 GMT".len());
        answer
    })
}

/// Takes a text, and so many bytes behind it, out wherever it is.
fn remove(answer: &mut Vec<u8>, text: &[u8], behind: usize) {
    while let Some(at) = answer.windows(text.len()).position(|w| w == text) {
        let end = answer.len().min(at + text.len() + behind);
        answer.drain(at..end);
    }
}

/// Answers with what it was asked.
struct Echo;

impl Handler for Echo {
    async fn handle<S: Server>(self: Rc<Self>, head: RequestHead, server: &mut S) -> Then {
        assert!(
            head.version <= Version::Http11 && !head.fields.iter().any(|f| f.name.iter().any(u8::is_ascii_uppercase))
        );
        let Ok((body, _)) = received(server).await else {
            server.abort();
            return Then::Next;
        };
        let mut response = ResponseHead::new(200);
        response.length =
            if head.fields.len().is_multiple_of(2) { Length::Exact(body.len() as u64) } else { Length::Unknown };
        response.fields = head.fields;
        response.fields.remove("connection");
        let sent = async {
            server.respond(&response)?;
            let mut rest = &body[..];
            while !rest.is_empty() {
                let n = poll_fn(|cx| server.poll_data(cx, rest, true)).await?;
                rest = &rest[n..];
            }
            server.finish(None)
        };
        sent.await.expect("a response to a good request");
        Then::Next
    }
}

/// A response of HTTP/1 to a GET: what is understood of it is the same however it is cut.
pub(crate) fn response(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let whole = understood(&[bytes]);
    let (a, b) = bytes.split_at(bytes.len() / 2);
    assert_eq!(understood(&[a, b]), whole);
    assert_eq!(understood(&bytes.chunks(step(bytes)).collect::<Vec<_>>()), whole);
    whole.ok()
}

fn understood(parts: &[&[u8]]) -> Result<(u16, Vec<u8>), Broken> {
    moment(async {
        let (end, mut server) = tokio::io::duplex(4 << 20);
        let mut client = h1::Http1::new(Stream::plain(Plain::memory(end)));
        let mut head = RequestHead::new(Default::default(), Version::Http11);
        head.set_authority(b"a");
        head.set_path(b"/");
        let writing = async {
            for part in parts {
                let _ = server.write_all(part).await;
                tokio::task::yield_now().await;
            }
            let _ = server.shutdown().await;
        };
        let reading = async {
            client.request(&head, Length::None)?;
            let status = loop {
                let head = poll_fn(|cx| client.poll_response(cx)).await?;
                if head.status >= 200 {
                    break head.status;
                }
            };
            Ok((status, received(&mut client).await?.0))
        };
        tokio::join!(writing, reading).1
    })
}

/// A whole body, and its trailers.
pub(super) async fn received<C: Channel>(channel: &mut C) -> Result<(Vec<u8>, Fields), Broken> {
    let mut body = Vec::new();
    loop {
        let piece = poll_fn(|cx| {
            channel.poll_piece(cx).map_ok(|piece| match piece {
                Piece::Data { bytes, .. } => {
                    assert!(!bytes.is_empty());
                    body.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Piece::Trailers(fields) => Err(fields),
                Piece::End => Err(Fields::default()),
            })
        });
        match piece.await? {
            Ok(n) => channel.consume(n),
            Err(trailers) => {
                assert!(channel.is_received());
                return Ok((body, trailers));
            }
        }
    }
}

pub(super) fn moment<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let run = async { tokio::time::timeout(Duration::from_secs(20), run).await };
    tokio::task::LocalSet::new().block_on(&runtime, run).expect("bytes that have ended have an end")
}
