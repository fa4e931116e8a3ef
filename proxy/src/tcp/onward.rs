//! Connections that another proxy takes on: CONNECT, or POST whose bodies are the bytes.
//!
//! In: an endpoint that is a proxy, where it is to lead. Out: an end that bytes are carried to, when the proxy has agreed. The
//! version of HTTP is that of the cluster. Invariant: a byte of a caller goes out only behind that agreement.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use http::Method;

use super::tunnels::Opened;
use crate::config::{Config, HttpProtocol, Onward};
use crate::http::channel::{Broken, Channel as _, Client as _};
use crate::http::h2::Tunnel;
use crate::http::message::{Length, RequestHead, Version};
use crate::tls::Offer;
use crate::upstream::{self, Fault, Problem, Purpose, Sender, Target};
use crate::worker::Worker;

/// Asks a proxy to lead on.
///
/// # Errors
/// If it can't be reached, or does not want to.
pub(super) async fn open(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    onward: &Onward,
) -> Result<Opened, Problem> {
    let limit = target.cluster.spec.connect_timeout;
    let opening = asked(worker, config, target, onward);
    // Reaching the proxy has its own time; what it needs to reach others is as long.
    tokio::time::timeout(limit * 2, opening).await.map_err(|_| Problem::Connect(Fault::Slow))?
}

async fn asked(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    onward: &Onward,
) -> Result<Opened, Problem> {
    let http2 = target.cluster.spec.options.protocol != HttpProtocol::Http1;
    let offer = if http2 { Offer::Http2 } else { Offer::Http1 };
    let mut sender = upstream::lease(worker, config, target, offer, Purpose::Connect).await?.sender;
    let method = if onward.post { Method::POST } else { Method::CONNECT };
    let mut head = RequestHead::new(method, if http2 { Version::Http2 } else { Version::Http11 });
    head.set_authority(onward.to.as_bytes());
    // Of HTTP/1.1 what follows a CONNECT is no body.
    let mut length = Length::None;
    if onward.post {
        head.set_path(b"/");
    }
    if onward.post || http2 {
        length = Length::Unknown;
    }
    head.length = length;
    let over = |why: Broken| {
        tracing::debug!(address = %target.address(), cluster = %target.cluster.spec.name, %why, "no tunnel");
        Problem::Connect(if why == Broken::Gone { Fault::Reset } else { Fault::Tunnel })
    };
    sender.request(&head, length).map_err(over)?;
    poll_fn(|cx| sender.poll_flush(cx)).await.map_err(over)?;
    let status = loop {
        match poll_fn(|cx| sender.poll_response(cx)).await.map_err(over)?.status {
            // It switches to nothing that it was asked for.
            100 | 102..200 => {}
            status => break status,
        }
    };
    // A body without an end, as a tunnel has it, is what 200 has of all statuses in HTTP/1.1.
    let agreed = if http2 { (200..300).contains(&status) } else { status == 200 };
    if !agreed {
        tracing::debug!(address = %target.address(), cluster = %target.cluster.spec.name, status, "the tunnel is refused");
        return Err(Problem::Connect(Fault::Tunnel));
    }
    Ok(match sender {
        Sender::Http1(kept) if !onward.post => {
            let (stream, rest) = kept.into_stream();
            Opened::Through(Box::new(stream), Some(rest))
        }
        Sender::Http2(stream) => Opened::Through(Box::new(Tunnel::new(stream)), None),
        sender @ Sender::Http1(_) => Opened::Through(Box::new(Tunnel::new(sender)), None),
    })
}
