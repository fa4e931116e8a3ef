//! Requests that others are asked about.
//!
//! In: a request, who is asked about it. Out: the request as they want it, or the answer that it gets. Of its body is held what
//! is told of it, and no more; what is held is sent on from here.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::time::Instant;

use super::answer::{self, Answer};
use super::aside::{self, Aside};
use super::channel::{Broken, Held, Piece, Server};
use super::connection::Connection;
use super::finish::Exchange;
use super::head::{Shape, Switch};
use super::message::{RequestHead, ResponseHead, Version};
use super::own::Refused;
use crate::access_log::Details;
use crate::config::Config;
use crate::config::guard::authz::{Authz, Body};
use crate::guard::Marks;
use crate::guard::authz::{self, No, Question, Said, Told, Yes};
use crate::tcp::AskedOf;
use crate::telemetry::Consent;
use crate::worker::Worker;

/// What becomes of a request that somebody was asked about.
pub(super) enum Verdict {
    /// It may pass.
    Passes,
    /// It may not.
    Refused(Option<Details>, Box<Refused>),
    /// Its client has gone, or sent what is no HTTP.
    Gone(Broken),
}

/// What a question is about.
pub(super) struct About<'a> {
    pub(super) connection: &'a Rc<Connection>,
    pub(super) config: &'a Arc<Config>,
    pub(super) shape: &'a Shape,
    /// The edge: nobody before us is believed.
    pub(super) edge: bool,
}

/// Asks.
pub(super) async fn ask<S: Server>(
    about: &About<'_>,
    authz: &Authz,
    exchange: &mut Exchange,
    held: &mut Option<Held>,
    marks: &mut Marks,
    server: &mut S,
) -> Verdict {
    let connection = about.connection;
    let wanted = authz.body.filter(|_| about.shape.switch == Switch::No && (held.is_some() || !server.is_received()));
    if let Some(body) = wanted {
        match hold(about, body, exchange, held, server).await {
            Ok(()) => {}
            Err(verdict) => return verdict,
        }
    }
    let told = wanted.zip(held.as_ref()).map(|(body, held)| {
        let bytes = held.bytes();
        let part = bytes.len() > body.most || !held.is_whole();
        Told { bytes: &bytes[..bytes.len().min(body.most)], part, came: bytes.len() }
    });
    let asking = {
        let facts = connection.facts().request(&exchange.head, about.edge);
        authz::ask(
            authz,
            &Question {
                facts: &facts,
                from: connection.from,
                own: connection.peer.as_ref().map(|peer| &*peer.own),
                secure: connection.secure,
                began: SystemTime::now(),
                body: told,
            },
        )
    };
    let mut answered = pin!(heard(&connection.worker, about.config, authz, asking));
    let said = poll_fn(|cx| {
        if let Poll::Ready(said) = answered.as_mut().poll(cx) {
            return Poll::Ready(Ok(said));
        }
        // Nobody waits for an answer any more.
        server.poll_gone(cx).map(Err)
    });
    match said.await {
        Ok(said) => judge(authz, said, exchange, marks),
        Err(why) => Verdict::Gone(why),
    }
}

/// Asks about a connection; whether it may pass, and if not, why, as access logs have it.
pub(crate) async fn of_tcp(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    authz: &Authz,
    asked: AskedOf<'_>,
) -> Result<(), &'static str> {
    let question = Question {
        facts: asked.facts,
        from: asked.from,
        own: asked.own,
        secure: asked.own.is_some(),
        began: SystemTime::now(),
        body: None,
    };
    match heard(worker, config, authz, authz::ask(authz, &question)).await {
        Said::Yes(_) => Ok(()),
        Said::No(_) => Err("ext_authz_denied"),
        Said::Nothing(_) if authz.fail_open => Ok(()),
        Said::Nothing(_) | Said::Nonsense => Err("ext_authz_error"),
    }
}

/// Sends a question; what is said.
async fn heard(worker: &Rc<Worker>, config: &Arc<Config>, authz: &Authz, asking: authz::Asking) -> Said {
    let shape = Shape { http2: asking.grpc, grpc: asking.grpc, expects: false, switch: Switch::No };
    let until = Instant::now() + authz.timeout;
    let aside = Aside { worker, config, cluster: &authz.cluster, shape: &shape, attempt_count: None, until };
    let body = (asking.body.into(), None);
    let answered = Box::pin(aside::call(&aside, asking.head, body, Some(authz::LARGEST))).await;
    let said = answered.map_or(Said::Nothing(None), |mut answered| {
        super::head::clean_response(&mut answered.head);
        authz::hear(authz, &answered.head, &answered.body, answered.grpc_status)
    });
    worker.counters().consented(match &said {
        Said::Yes(_) => Consent::Given,
        Said::No(_) => Consent::Denied,
        Said::Nothing(_) | Said::Nonsense => Consent::Missing,
    });
    said
}

/// Takes as much of a request's body as is to be told of it.
async fn hold<S: Server>(
    about: &About<'_>,
    body: Body,
    exchange: &Exchange,
    held: &mut Option<Held>,
    server: &mut S,
) -> Result<(), Verdict> {
    if held.is_none() && about.shape.expects && exchange.head.version == Version::Http2 {
        // (HTTP/1 asks when it reads.)
        let _ = server.interim(&ResponseHead::new(100));
    }
    let held = held.get_or_insert_default();
    let longest = about.connection.spec.request_timeout;
    let late = longest.map(|longest| tokio::time::sleep_until(Instant::from_std(exchange.began()) + longest));
    let mut late = pin!(late);
    let refused = |answer: Answer| Verdict::Refused(None, Box::new(answer.into()));
    // Of a part no more than is told is waited for; of a whole it must be seen that there is no more.
    let enough = |held: &Held| held.is_whole() || held.bytes().len() >= body.most + usize::from(!body.part);
    while !enough(held) {
        let taken = poll_fn(|cx| match take(held, server, cx) {
            Poll::Pending if late.as_mut().as_pin_mut().is_some_and(|late| late.poll(cx).is_ready()) => {
                Poll::Ready(Err(Stop::Late))
            }
            taken => taken,
        });
        match taken.await {
            Ok(()) => {}
            Err(Stop::Gone(why)) => return Err(Verdict::Gone(why)),
            Err(Stop::Late) => return Err(refused(answer::SLOW_REQUEST)),
            Err(Stop::Full) => return Err(refused(answer::OVERLOAD)),
        }
    }
    if !body.part && held.bytes().len() > body.most {
        return Err(refused(answer::TOO_LARGE));
    }
    Ok(())
}

/// Why a body can't be held.
enum Stop {
    /// Its client has gone, or sends what is no HTTP.
    Gone(Broken),
    /// It takes too long.
    Late,
    /// There is no room.
    Full,
}

/// Takes the next piece of a body.
fn take<S: Server>(held: &mut Held, server: &mut S, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
    match server.poll_piece(cx) {
        Poll::Ready(Ok(Piece::Data { bytes, last })) => {
            let (n, room) = (bytes.len(), held.take(bytes));
            server.consume(n);
            if !room {
                return Poll::Ready(Err(Stop::Full));
            }
            if last {
                held.end(None);
            }
        }
        Poll::Ready(Ok(Piece::Trailers(fields))) => held.end(Some(&fields)),
        Poll::Ready(Ok(Piece::End)) => held.end(None),
        Poll::Ready(Err(why)) => return Poll::Ready(Err(Stop::Gone(why))),
        Poll::Pending => {
            // What asks the client for its body may not be on its way yet.
            return match server.poll_flush(cx) {
                Poll::Ready(Err(why)) => Poll::Ready(Err(Stop::Gone(why))),
                _ => Poll::Pending,
            };
        }
    }
    Poll::Ready(Ok(()))
}

fn judge(authz: &Authz, said: Said, exchange: &mut Exchange, marks: &mut Marks) -> Verdict {
    match said {
        Said::Yes(yes) => {
            marks.said(&yes.metadata);
            pass(*yes, exchange)
        }
        Said::No(no) => {
            marks.said(&no.metadata);
            refuse("ext_authz_denied", 403, *no)
        }
        Said::Nothing(no) => {
            if let Some(no) = &no {
                marks.said(&no.metadata);
            }
            if authz.fail_open {
                return Verdict::Passes;
            }
            refuse("ext_authz_error", authz.status_on_error, no.map(|no| *no).unwrap_or_default())
        }
        Said::Nonsense => refuse("ext_authz_invalid", 500, No::default()),
    }
}

fn pass(yes: Yes, exchange: &mut Exchange) -> Verdict {
    yes.request.request(&mut exchange.head);
    if !yes.query.is_empty() {
        requery(&mut exchange.head, &yes.query);
    }
    if !yes.response.is_empty() {
        exchange.is_changed(yes.response);
    }
    Verdict::Passes
}

fn refuse(details: &'static str, status: u16, no: No) -> Verdict {
    let status = if no.status == 0 { status } else { no.status };
    let refused = Refused { changes: Some(no.fields), instead: Some((status, no.body)), ..answer::UNAUTHORIZED.into() };
    Verdict::Refused(Some(Details::Other(details)), Box::new(refused))
}

/// Sets and removes parameters of a query; the others stay as they are.
fn requery(head: &mut RequestHead, changes: &[(String, Option<String>)]) {
    let good = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'&' | b'#'));
    let (path, query) = head.path_and_query();
    if path.is_empty() || path == "*" {
        return;
    }
    let mut pairs: Vec<String> =
        query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.is_empty()).map(str::to_owned).collect();
    for (key, value) in changes {
        let is = |pair: &String| pair.split_once('=').map_or(pair.as_str(), |(k, _)| k) == key;
        let at = pairs.iter().position(is);
        pairs.retain(|pair| !is(pair));
        if let Some(value) = value.as_ref().filter(|value| good(key) && good(value)) {
            pairs.insert(at.unwrap_or(pairs.len()).min(pairs.len()), format!("{key}={value}"));
        }
    }
    let whole = if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) };
    head.set_path(whole.as_bytes());
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn parameters_are_set_and_removed_and_the_others_stay() {
        let set = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let gone = |key: &str| (key.to_owned(), None);
        for (path, changes, is) in [
            ("/a", vec![set("x", "1")], "/a?x=1"),
            ("/a?b=c&x=0&d", vec![set("x", "1")], "/a?b=c&x=1&d"),
            ("/a?b=c&x=0&x=2", vec![gone("x")], "/a?b=c"),
            ("/a?x", vec![gone("x")], "/a"),
            ("/a?b", vec![set("x", "1&y=2")], "/a?b"),
            ("/a?b", vec![set("x", "1 HTTP/1.1\r\nhost: b")], "/a?b"),
        ] {
            let mut head = RequestHead::new(Method::GET, Version::Http11);
            head.set_path(path.as_bytes());
            requery(&mut head, &changes);
            assert_eq!(head.path(), is);
        }
    }
}
