//! Whole connections: our two ends, and each of them with another implementation.

mod conformance;
mod floods;
mod histories;
mod interop;
mod pair;
mod windows;
mod wire;

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::DuplexStream;

use super::*;
use crate::http::channel::{Broken, Channel, Client, Handler, Piece, Server, Then};
use crate::http::message::{Fields, Known, Length, RequestHead, ResponseHead, Version};
use crate::http::progress::Progress;
use crate::stream::{Plain, Stream};

/// Runs a test where tasks that are not `Send` may run; none takes a minute.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let test = async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("an end") };
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

fn stream(pipe: DuplexStream) -> Stream {
    Stream::plain(Plain::memory(pipe))
}

fn progress() -> Rc<Progress> {
    Progress::new(Rc::new(Cell::new(0)))
}

/// A client of a server of ours.
fn pair(pipe: usize, limits: Limits, handler: impl Handler) -> (Connection, Rc<Progress>) {
    let (near, far) = tokio::io::duplex(pipe);
    let progress = progress();
    let serving = serve(stream(far), limits, Rc::new(handler), progress.clone());
    tokio::task::spawn_local(async move { drop(serving.await) });
    let (connection, driver) = connect(stream(near), limits, false);
    tokio::task::spawn_local(async move { drop(driver.await) });
    (connection, progress)
}

fn get(path: &str) -> RequestHead {
    let mut head = RequestHead::new(http::Method::GET, Version::Http11);
    head.set_authority(b"a.b");
    head.set_path(path.as_bytes());
    head
}

fn post(path: &str) -> RequestHead {
    let mut head = get(path);
    head.method = http::Method::POST;
    head
}

/// A body and its trailers.
async fn collect(channel: &mut impl Channel) -> Result<(Vec<u8>, Option<Fields>), Broken> {
    let mut body = Vec::new();
    loop {
        let n = poll_fn(|cx| {
            channel.poll_piece(cx).map(|piece| {
                Ok::<_, Broken>(match piece? {
                    Piece::Data { bytes, last } => {
                        body.extend_from_slice(bytes);
                        (bytes.len(), last, None)
                    }
                    Piece::Trailers(fields) => (0, true, Some(fields)),
                    Piece::End => (0, true, None),
                })
            })
        })
        .await?;
        channel.consume(n.0);
        if n.1 {
            assert!(channel.is_received());
            return Ok((body, n.2));
        }
    }
}

async fn send(channel: &mut impl Channel, mut body: &[u8], last: bool) -> Result<(), Broken> {
    while !body.is_empty() {
        let n = poll_fn(|cx| channel.poll_data(cx, body, last)).await?;
        body = &body[n..];
    }
    Ok(())
}

async fn head(client: &mut impl Client) -> Result<ResponseHead, Broken> {
    poll_fn(|cx| client.poll_response(cx)).await
}

/// Bytes that differ from place to place.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Answers by path: `/echo` the body with trailers as they came, `/large` a megabyte, `/reset`, `/early` without reading,
/// `/interim`, others what was asked.
struct Site;

impl Handler for Site {
    async fn handle<S: Server>(self: Rc<Self>, head: RequestHead, server: &mut S) -> Then {
        // What fails here is seen by the client.
        let _ = self.answer(head, server).await;
        Then::Next
    }
}

impl Site {
    async fn answer<S: Server>(&self, head: RequestHead, server: &mut S) -> Result<(), Broken> {
        let mut response = ResponseHead { length: Length::Unknown, ..ResponseHead::new(200) };
        match head.path() {
            "/echo" => {
                server.respond(&response)?;
                let (body, trailers) = collect(server).await?;
                send(server, &body, false).await?;
                server.finish(trailers.as_ref())?;
            }
            "/stream" => {
                server.respond(&response)?;
                let mut moved = 0;
                let mut ends = Loop(server);
                poll_fn(|cx| ends.poll(cx, &mut moved)).await?;
            }
            "/large" => {
                response.length = Length::Exact(1 << 20);
                server.respond(&response)?;
                send(server, &noise(1 << 20), true).await?;
            }
            "/reset" => server.abort(),
            "/half" => {
                server.respond(&response)?;
                send(server, b"half", false).await?;
            }
            "/early" => server.respond(&ResponseHead { length: Length::Exact(0), ..ResponseHead::new(403) })?,
            "/interim" => {
                server.interim(&ResponseHead::new(103))?;
                response.length = Length::Exact(3);
                server.respond(&response)?;
                send(server, b"abc", true).await?;
            }
            "/gone" => {
                let why = poll_fn(|cx| server.poll_gone(cx)).await;
                assert_eq!(why, Broken::Reset);
            }
            _ => {
                response.fields.push(b"x-path", head.path().as_bytes());
                response.fields.push(b"x-authority", head.authority().as_bytes());
                response.fields.push(b"x-method", head.method.as_str().as_bytes());
                response.fields.push(b"x-length", format!("{:?}", head.length).as_bytes());
                for field in head.fields.iter() {
                    response.fields.push(field.name, field.value);
                }
                response.length = Length::None;
                server.respond(&response)?;
            }
        }
        Ok(())
    }
}

/// Sends back what comes while it comes.
struct Loop<'s, S>(&'s mut S);

impl<S: Server> Loop<'_, S> {
    fn poll(&mut self, cx: &mut std::task::Context<'_>, moved: &mut usize) -> std::task::Poll<Result<(), Broken>> {
        use std::task::{Poll, ready};
        loop {
            let part = match ready!(self.0.poll_piece(cx))? {
                Piece::Data { bytes, .. } => bytes.to_vec(),
                Piece::Trailers(fields) => return Poll::Ready(self.0.finish(Some(&fields))),
                Piece::End => return Poll::Ready(self.0.finish(None)),
            };
            let n = ready!(self.0.poll_data(cx, &part, false))?;
            self.0.consume(n);
            *moved += n;
        }
    }
}
