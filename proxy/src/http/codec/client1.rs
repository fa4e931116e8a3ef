//! HTTP/1.1 as a client, by hyper.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::{Failed, InBody, LONGEST_HEAD, RequestBody, Why};
use crate::stream::Stream;

/// A connection. One request at a time.
#[derive(Debug)]
pub struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    /// Requests sent on it.
    pub requests: Cell<u32>,
    /// Since when nobody uses it, in milliseconds of [`crate::clock`].
    pub idle_since: Cell<u64>,
}

impl Http1 {
    /// Starts on a stream. `keep` lives as long as the connection; `lost` ends it.
    ///
    /// # Errors
    /// If the stream breaks.
    pub async fn start(
        stream: Stream,
        lost: Option<CancellationToken>,
        keep: Rc<dyn std::any::Any>,
    ) -> io::Result<Self> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LONGEST_HEAD + 4096)
            .max_headers(200)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = connection.with_upgrades();
        tokio::task::spawn_local(async move {
            let _keep = keep;
            // How it ends is known to whoever waits for a response.
            match lost {
                Some(lost) => {
                    tokio::select! {
                        _ = connection => {}
                        () = lost.cancelled() => {}
                    }
                }
                None => drop(connection.await),
            }
        });
        Ok(Self { sender, requests: Cell::new(0), idle_since: Cell::new(0) })
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the request before is through; `false` if the connection is over.
    pub async fn ready(&mut self) -> bool {
        self.sender.is_ready() || self.sender.ready().await.is_ok()
    }

    /// Sends a request, waits for the head of its response.
    ///
    /// # Errors
    /// If there is none.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<InBody>, Failed> {
        self.requests.set(self.requests.get().saturating_add(1));
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(InBody::Hyper)),
            Err(mut e) => {
                let unsent = e.take_message().map(Box::new);
                let why = if e.error().is_parse() { Why::Nonsense } else { Why::Broken };
                Err(Failed { why, unsent })
            }
        }
    }
}
