//! One try: a connection, the request on it, and the head of the response.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::answer::{self, Answer};
use super::channel::{Broken, Client as _, End, Pump, Server};
use super::head::{self, Shape, Switch, Wire};
use super::message::{Length, RequestHead, ResponseHead, Version};
use super::retry::Event;
use crate::config::Config;
use crate::tls::Offer;
use crate::upstream::{self, Lease, Problem, Purpose, Sender, Target};
use crate::worker::Worker;

/// What a try came to.
pub(super) enum Outcome {
    /// A response: its head, and what brings the rest.
    Answered(ResponseHead, Sender),
    /// None, and what the client is told if there is no other try.
    Failed(Event, Answer),
    /// The request has had its time.
    Late(Answer),
    /// The client went away, or sent what is no HTTP.
    ClientGone(Broken),
}

/// Until when things may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    whole: Option<(Instant, &'static Answer)>,
    of_try: Option<Instant>,
    request: Option<Instant>,
    /// How long the rest may take when the request has come in whole.
    after: Option<(Duration, &'static Answer)>,
}

impl Limits {
    /// The response has ended by `end`, or the client gets `answer`; the earliest counts.
    pub(super) fn end_by(&mut self, end: Instant, answer: &'static Answer) {
        if self.whole.is_none_or(|(before, _)| end < before) {
            self.whole = Some((end, answer));
        }
    }

    /// The response has ended so long after the request, or the client gets `answer`.
    pub(super) fn end_after(&mut self, time: Duration, answer: &'static Answer) {
        self.after = Some((time, answer));
    }

    /// The request has come in whole by then.
    pub(super) fn request_by(&mut self, end: Option<Instant>) {
        self.request = end;
    }

    /// The same, for a try that begins now.
    pub(super) fn of_try(self, per_try: Option<Duration>) -> Self {
        Self { of_try: per_try.map(|d| Instant::now() + d), ..self }
    }

    /// When all must be over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.whole.map(|(end, _)| end)
    }

    /// What limits a response whose head is there.
    pub(super) fn of_response(self) -> Timer {
        Timer::new(Self { of_try: None, request: None, ..self })
    }
}

/// Fires when a limit is reached; without limits it costs nothing.
pub(super) struct Timer {
    limits: Limits,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Which limit was reached.
pub(super) enum Fired {
    /// That of all.
    Whole(&'static Answer),
    /// That of a try.
    Try,
    /// That of the request's body.
    Request,
}

impl Timer {
    fn new(limits: Limits) -> Self {
        let first = [limits.deadline(), limits.of_try, limits.request].into_iter().flatten().min();
        Self { limits, sleep: first.map(|at| Box::pin(tokio::time::sleep_until(at))) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, receiving: bool) -> Poll<Fired> {
        if !receiving && let Some((time, answer)) = self.limits.after.take() {
            self.limits.end_by(Instant::now() + time, answer);
            *self = Self::new(self.limits);
        }
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        while sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some((end, answer)) = self.limits.whole
                && end <= now
            {
                return Poll::Ready(Fired::Whole(answer));
            }
            if self.limits.of_try.is_some_and(|end| end <= now) {
                return Poll::Ready(Fired::Try);
            }
            if self.limits.request.take_if(|end| *end <= now).is_some() && receiving {
                return Poll::Ready(Fired::Request);
            }
            match [self.limits.deadline(), self.limits.of_try, self.limits.request].into_iter().flatten().min() {
                Some(next) => sleep.as_mut().reset(next),
                None => {
                    self.sleep = None;
                    return Poll::Pending;
                }
            }
        }
        Poll::Pending
    }
}

type To<'t> = (&'t Rc<Worker>, &'t Arc<Config>, &'t Target<'t>, Offer, Purpose);

/// Tries.
pub(super) async fn attempt<S: Server>(
    (worker, config, target, offer, purpose): To<'_>,
    head: &mut RequestHead,
    shape: &Shape,
    attempt_count: Option<u32>,
    server: &mut S,
    body: &mut Pump,
    limits: &mut Limits,
) -> Outcome {
    let mut timer = Timer::new(*limits);
    let leased = {
        let mut lease = std::pin::pin!(upstream::lease(worker, config, target, offer, purpose));
        poll_fn(|cx| match lease.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => timer.poll(cx, !body.is_ended()).map(Err),
        })
        .await
    };
    let Lease { mut sender, reused, hawser } = match leased {
        Ok(Ok(lease)) => lease,
        Ok(Err(Problem::Limit)) => return Outcome::Failed(Event::Overflow, answer::OVERFLOW),
        Ok(Err(Problem::NoSwitch)) => return Outcome::Late(answer::NO_SWITCH),
        Ok(Err(Problem::NoSecret)) => return Outcome::Failed(Event::NoConnection, answer::NO_CONNECTION),
        Ok(Err(Problem::Connect(fault))) => return Outcome::Failed(Event::NoConnection, Answer::unreached(fault)),
        Err(fired) => return late(fired),
    };
    let wire = match (&sender, hawser) {
        (Sender::Http1(_), _) => Wire::Http1,
        (Sender::Http2(_), true) => Wire::Hawser,
        (Sender::Http2(_), false) => Wire::Http2,
    };
    let method = head::fit(head, shape, wire, attempt_count);
    // What HTTP/2 sends behind a CONNECT is no body: it waits until both ends have agreed.
    let tunnel = shape.switch != Switch::No && (head.version == Version::Http2 || wire != Wire::Http1);
    let length = if tunnel { Length::None } else { head.length };
    let mut none = Pump::new(true);
    let body = if tunnel { &mut none } else { body };
    let sent = sender.request(head, length);
    if let Some(method) = method {
        // As the client asked: so it is logged, and tried again.
        head.method = method;
        head.set_protocol(b"");
    }
    let waited = match sent {
        Ok(()) => poll_fn(|cx| response(cx, server, &mut sender, body, &mut timer)).await,
        Err(why) => Err(Stop::Server(why)),
    };
    // The time of all may have begun meanwhile.
    (limits.whole, limits.after) = (timer.limits.whole, timer.limits.after);
    match waited {
        Ok(response) => Outcome::Answered(response, sender),
        Err(Stop::Client(why)) => Outcome::ClientGone(why),
        Err(Stop::Late(fired)) => late(fired),
        Err(Stop::Server(why)) => {
            let unsent = !sender.was_sent() && !body.is_touched();
            let (event, answer) = match why {
                _ if unsent && reused => (Event::Dead, answer::BROKEN),
                Broken::Refused => (Event::Refused, answer::REFUSED),
                _ if unsent => (Event::NoConnection, answer::NO_CONNECTION),
                Broken::Gone | Broken::Slow => (Event::Broken, answer::BROKEN),
                Broken::Reset => (Event::Broken, answer::RESET),
                Broken::Malformed(_) | Broken::TooLarge => (Event::Answer(502, None), answer::NONSENSE),
            };
            tracing::debug!(address = %target.address(), cluster = %target.cluster.spec.name, %why, "no response");
            Outcome::Failed(event, answer)
        }
    }
}

fn late(fired: Fired) -> Outcome {
    match fired {
        Fired::Whole(answer) => Outcome::Late(*answer),
        Fired::Try => Outcome::Failed(Event::TryTimeout, answer::TRY_TIMEOUT),
        Fired::Request => Outcome::Late(answer::SLOW_REQUEST),
    }
}

enum Stop {
    Client(Broken),
    Server(Broken),
    Late(Fired),
}

/// Sends the request's body while the response is waited for.
fn response<S: Server>(
    cx: &mut Context<'_>,
    server: &mut S,
    sender: &mut Sender,
    body: &mut Pump,
    timer: &mut Timer,
) -> Poll<Result<ResponseHead, Stop>> {
    match body.poll(server, sender, cx) {
        Poll::Ready(Err(End::From(why))) => return Poll::Ready(Err(Stop::Client(why))),
        // A server may answer and not want the rest: what it says comes first.
        Poll::Ready(Err(End::To(_))) => body.give_up(),
        Poll::Ready(Ok(())) | Poll::Pending => {}
    }
    loop {
        match sender.poll_response(cx) {
            Poll::Ready(Ok(mut head)) if head.status < 200 && head.status != 101 => {
                head::clean_response(&mut head);
                if let Err(why) = server.interim(&head) {
                    return Poll::Ready(Err(Stop::Client(why)));
                }
                if let Poll::Ready(Err(why)) = server.poll_flush(cx) {
                    return Poll::Ready(Err(Stop::Client(why)));
                }
            }
            Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
            Poll::Ready(Err(why)) => return Poll::Ready(Err(Stop::Server(why))),
            Poll::Pending => break,
        }
    }
    if let Poll::Ready(fired) = timer.poll(cx, !body.is_ended()) {
        return Poll::Ready(Err(Stop::Late(fired)));
    }
    if body.is_ended()
        && let Poll::Ready(why) = server.poll_gone(cx)
    {
        return Poll::Ready(Err(Stop::Client(why)));
    }
    Poll::Pending
}
