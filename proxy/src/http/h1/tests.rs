//! The codec under test: a server that echoes what it was asked, a client, streams in memory.

mod abuse;
mod chunks;
mod client;
mod differ;
mod requests;
mod responses;
mod server;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::{Limits, serve};
use crate::http::channel::{Broken, Channel, Handler, Piece, Server, Then};
use crate::http::message::{Fields, Length, RequestHead, ResponseHead};
use crate::http::progress::Progress;
use crate::stream::{Plain, Stream};

/// Answers each request with what it was: `METHOD authority path name=value,... [body] trailers`.
#[derive(Default)]
struct Echo {
    requests: Cell<u32>,
    rejected: RefCell<Vec<u16>>,
}

impl Handler for Echo {
    async fn handle<S: Server>(self: Rc<Self>, head: RequestHead, server: &mut S) -> Then {
        self.requests.set(self.requests.get() + 1);
        let path = head.path().to_owned();
        if path == "/unread" {
            answer(server, 200, Length::Exact(2), b"ok").await.unwrap();
            return Then::Next;
        }
        if path == "/nothing" {
            return Then::Next;
        }
        if path.starts_with("/broken") {
            let mut response = ResponseHead::new(200);
            response.length = if path == "/broken" { Length::Exact(10) } else { Length::Unknown };
            server.respond(&response).unwrap();
            send(server, b"half", false).await.unwrap();
            server.abort();
            return Then::Next;
        }
        if path == "/upgrade" && server.can_become() {
            let mut response = ResponseHead::new(101);
            response.fields.push(b"connection", b"upgrade");
            response.fields.push(b"upgrade", b"echo");
            server.respond(&response).unwrap();
            return Then::Become(Box::new(|mut stream: Stream| {
                Box::pin(async move {
                    let mut bytes = [0; 64];
                    while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                        stream.write_all(&bytes[..n]).await.unwrap();
                    }
                })
            }));
        }
        let (body, trailers) = match receive(server).await {
            Ok(received) => received,
            Err(_) => {
                server.abort();
                return Then::Next;
            }
        };
        let text = format!(
            "{} {} {} {} [{}] {}",
            head.method,
            head.authority(),
            path,
            list(&head.fields),
            show(&body),
            list(&trailers)
        );
        match path.as_str() {
            "/chunked" => answer(server, 200, Length::Unknown, text.as_bytes()).await.unwrap(),
            "/nocontent" => answer(server, 204, Length::None, b"").await.unwrap(),
            "/unchanged" => answer(server, 304, Length::Exact(7), b"").await.unwrap(),
            "/early" => {
                let mut hint = ResponseHead::new(103);
                hint.fields.push(b"link", b"x");
                server.interim(&hint).unwrap();
                answer(server, 200, Length::Exact(text.len() as u64), text.as_bytes()).await.unwrap();
            }
            "/gone" => {
                let why = poll_fn(|cx| server.poll_gone(cx)).await;
                assert_eq!(why, Broken::Gone);
                self.requests.set(100);
                server.abort();
            }
            _ => answer(server, 200, Length::Exact(text.len() as u64), text.as_bytes()).await.unwrap(),
        }
        Then::Next
    }

    fn rejected(&self, status: u16, _: &'static str) {
        self.rejected.borrow_mut().push(status);
    }
}

fn list(fields: &Fields) -> String {
    let pair = |f: super::super::message::Field<'_>| format!("{}={}", show(f.name), show(f.value));
    fields.iter().map(pair).collect::<Vec<_>>().join(",")
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn answer<S: Server>(server: &mut S, status: u16, length: Length, body: &[u8]) -> Result<(), Broken> {
    let mut head = ResponseHead::new(status);
    head.length = length;
    server.respond(&head)?;
    send(server, body, true).await
}

/// Sends a body, or a part of one.
async fn send<C: Channel>(channel: &mut C, mut body: &[u8], last: bool) -> Result<(), Broken> {
    while !body.is_empty() {
        let n = poll_fn(|cx| channel.poll_data(cx, body, last)).await?;
        body = &body[n..];
    }
    if last {
        channel.finish(None)?;
    }
    poll_fn(|cx| channel.poll_flush(cx)).await
}

/// Receives a whole body.
async fn receive<C: Channel>(channel: &mut C) -> Result<(Vec<u8>, Fields), Broken> {
    let mut body = Vec::new();
    loop {
        let n = poll_fn(|cx| {
            channel.poll_piece(cx).map_ok(|piece| match piece {
                Piece::Data { bytes, .. } => {
                    body.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Piece::Trailers(fields) => Err(fields),
                Piece::End => Err(Fields::default()),
            })
        });
        match n.await? {
            Ok(n) => channel.consume(n),
            Err(trailers) => return Ok((body, trailers)),
        }
    }
}

/// A server of [`Echo`], and the client's end of its connection.
fn server(
    pipe: usize,
    limits: Limits,
) -> (DuplexStream, impl Future<Output = std::io::Result<()>>, Rc<Echo>, Rc<Progress>) {
    let (client, end) = duplex(pipe);
    let echo = Rc::new(Echo::default());
    let progress = Progress::new(Rc::default());
    let serving = serve(Stream::plain(Plain::memory(end)), limits, echo.clone(), progress.clone());
    (client, serving, echo, progress)
}

/// Sends bytes to a server, and reads all that it answers until it closes or has nothing left.
async fn talk(bytes: &[u8]) -> String {
    talk_in(1 << 20, &[bytes], Limits::default()).await.0
}

async fn talk_in(pipe: usize, parts: &[&[u8]], limits: Limits) -> (String, Vec<u16>) {
    let (client, serving, echo, _progress) = server(pipe, limits);
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut answer = Vec::new();
    let talking = async {
        let write = async {
            for part in parts {
                if writer.write_all(part).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = writer.shutdown().await;
        };
        let _ = tokio::join!(write, reader.read_to_end(&mut answer));
    };
    let _ = tokio::join!(serving, talking);
    let rejected = echo.rejected.borrow().clone();
    (show(&answer), rejected)
}
