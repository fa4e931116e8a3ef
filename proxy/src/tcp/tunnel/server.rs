//! The end that is asked for tunnels.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use http::Method;

use super::{Inward, limits};
use crate::http::channel::{Broken, Server as _};
use crate::http::h2::{self, ServerStream, Tunnel};
use crate::http::message::{Length, RequestHead, ResponseHead};
use crate::http::progress::{Ending, Progress};
use crate::stream::Stream;

/// What is asked for must be whole after so long.
const HEAD: Duration = Duration::from_secs(30);
/// A connection without a tunnel is closed after so long.
const IDLE: Duration = Duration::from_secs(600);
/// How exactly both are told.
const TICK: u32 = 15;

/// A tunnel that is asked for.
#[derive(Debug)]
pub struct Asked {
    head: RequestHead,
    stream: ServerStream,
}

impl Asked {
    /// Where it is to lead.
    pub fn authority(&self) -> &str {
        self.head.authority()
    }

    /// What was said beside it; empty if nothing, or no text.
    pub fn said(&self, name: &str) -> &str {
        self.head.fields.get(name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// Ready when whoever asked has gone.
    pub async fn left(&mut self) {
        poll_fn(|cx| self.stream.poll_gone(cx)).await;
    }

    /// Opens it.
    ///
    /// # Errors
    /// If whoever asked has gone.
    pub fn accept(mut self) -> Result<Inward, Broken> {
        self.stream.respond(&ResponseHead { length: Length::Unknown, ..ResponseHead::new(200) })?;
        Ok(Tunnel::new(self.stream))
    }

    /// Does not.
    pub fn refuse(mut self, status: u16) {
        // Whoever asked may have gone.
        let _ = self.stream.respond(&ResponseHead::new(status));
    }
}

/// Serves a connection until it ends; what is asked for is given away, to be served in whatever task. After `until` no
/// tunnel is added, and it ends with those it has.
///
/// # Errors
/// If the peer breaks the protocol or the connection.
pub async fn serve(stream: Stream, until: impl Future<Output = ()>, mut give: impl FnMut(Asked)) -> io::Result<()> {
    let clock = Rc::new(Cell::new(0));
    let progress = Progress::new(clock.clone());
    let served = h2::accept(stream, limits(), progress.clone(), |head, stream| {
        let asked = Asked { head, stream };
        if asked.head.method == Method::CONNECT && asked.head.protocol().is_empty() {
            give(asked);
        } else {
            asked.refuse(405);
        }
    });
    let (mut served, mut until) = (std::pin::pin!(served), std::pin::pin!(until));
    let mut tick = tokio::time::interval(Duration::from_secs(TICK.into()));
    let mut leaving = false;
    loop {
        tokio::select! {
            ended = &mut served => return ended,
            () = &mut until, if !leaving => {
                leaving = true;
                progress.tell(Ending::Graceful);
            }
            _ = tick.tick() => {
                clock.set(clock.get() + TICK);
                progress.sweep(HEAD, IDLE);
            }
        }
    }
}
