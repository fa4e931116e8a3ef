//! The end that is asked for tunnels.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::{CONNECTION_WINDOW, FRAME, LONGEST_HEAD, SEND_BUFFER, STREAM_WINDOW, STREAMS, Tunnel};
use crate::stream::Stream;

/// The preface must be there after so long.
const PREFACE: Duration = Duration::from_secs(10);
/// A connection without a tunnel is closed after one to two of these.
const IDLE: Duration = Duration::from_secs(600);

/// A tunnel that is asked for.
pub struct Asked {
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    counted: Rc<()>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("authority", &self.authority()).finish_non_exhaustive()
    }
}

impl Asked {
    /// Where it is to lead.
    pub fn authority(&self) -> &str {
        self.request.uri().authority().map_or("", http::uri::Authority::as_str)
    }

    /// What was said beside it.
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Opens it.
    ///
    /// # Errors
    /// If whoever asked has gone.
    pub fn accept(mut self) -> io::Result<Tunnel> {
        let send = self.respond.send_response(Response::new(()), false).map_err(super::broken)?;
        Ok(Tunnel::new(send, self.request.into_body(), self.counted))
    }

    /// Does not.
    pub fn refuse(mut self, status: u16) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        // Whoever asked may have gone.
        let _ = self.respond.send_response(response, true);
    }
}

/// Serves a connection until it ends; what is asked for is given away, to be served in whatever task. After `until` no
/// tunnel is added, and it ends with those it has.
///
/// # Errors
/// If the peer breaks the protocol or the connection.
pub async fn serve(stream: Stream, until: impl Future<Output = ()>, mut give: impl FnMut(Asked)) -> io::Result<()> {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(LONGEST_HEAD)
        .max_send_buffer_size(SEND_BUFFER);
    let connection = tokio::time::timeout(PREFACE, builder.handshake::<_, Bytes>(stream)).await;
    let mut connection = connection.map_err(|_| io::ErrorKind::TimedOut)?.map_err(super::broken)?;
    let mut until = std::pin::pin!(until);
    let mut leaving = false;
    let mut idle = false;
    let mut look = tokio::time::interval(IDLE);
    look.tick().await;
    let counted = Rc::new(());
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = &mut until, if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
                continue;
            }
            _ = look.tick(), if !leaving => {
                let empty = Rc::strong_count(&counted) == 1;
                if empty && idle {
                    leaving = true;
                    connection.graceful_shutdown();
                }
                idle = empty;
                continue;
            }
        };
        match accepted {
            None => return Ok(()),
            Some(Err(e)) => return Err(super::broken(e)),
            Some(Ok((request, respond))) => {
                idle = false;
                let asked = Asked { request, respond, counted: counted.clone() };
                if asked.request.method() == Method::CONNECT {
                    give(asked);
                } else {
                    asked.refuse(405);
                }
            }
        }
    }
}
