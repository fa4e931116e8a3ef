//! Whether a request is tried again, and after what wait. Pure.
//!
//! Rule: what was not sent, or was refused unseen, is safe. What was sent and not answered is safe for methods that change
//! nothing. All else needs the route's word. A body of which more was taken than is kept is never sent again.

use std::time::Duration;

use http::Method;

use super::channel::AGAIN;
use super::message::{Known, Length, ResponseHead};
use crate::config::RetryPolicy;

/// Safe retries of a request without the route's word.
const SAFE: u32 = 2;
/// Kept connections that turned out dead: they cost nothing but themselves.
const DEAD: u32 = 8;

/// What happened to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A connection that was kept was dead; nothing was sent.
    Dead,
    /// No connection.
    NoConnection,
    /// The server refused it unseen.
    Refused,
    /// It was sent, and the connection broke.
    Broken,
    /// It took longer than a try may.
    TryTimeout,
    /// A limit of the cluster.
    Overflow,
    /// An answer: status, and gRPC's if it is in the head.
    Answer(u16, Option<u8>),
    /// An answer that says that there are too many requests in a time.
    RateLimited,
}

impl Event {
    /// What an answer comes to.
    pub(super) fn answer(response: &ResponseHead) -> Self {
        let grpc = || std::str::from_utf8(response.fields.known(Known::GrpcStatus)?).ok()?.parse().ok();
        // Whoever is asked to slow down is asked so with an error.
        if response.status >= 400 && response.fields.get("x-envoy-ratelimited").is_some() {
            return Self::RateLimited;
        }
        Self::Answer(response.status, grpc())
    }
}

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Tries<'p> {
    policy: Option<&'p RetryPolicy>,
    safe: bool,
    retried: u32,
    dead: u32,
}

impl<'p> Tries<'p> {
    /// Of a request.
    pub(super) fn new(policy: Option<&'p RetryPolicy>, method: &Method) -> Self {
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method);
        Self { policy, safe, retried: 0, dead: 0 }
    }

    /// Whether a body of that length may have to be sent again after a part of it was sent.
    pub(super) fn may_resend(&self, length: Length) -> bool {
        let small = !matches!(length, Length::Exact(n) if n > AGAIN as u64);
        small && self.policy.is_some_and(|p| p.most > 0)
    }

    /// The wait before the next try, if there is one; `whole` says that the body can be sent from its start.
    pub(super) fn again(&mut self, event: Event, whole: bool, chance: u32) -> Option<Duration> {
        if !whole {
            return None;
        }
        if event == Event::Dead && self.dead < DEAD {
            self.dead += 1;
            return Some(Duration::ZERO);
        }
        if self.policy.is_some_and(|p| p.most == 0) {
            return None;
        }
        let asked = self.policy.is_some_and(|p| asked(p, event));
        let safe = match event {
            Event::Dead | Event::NoConnection | Event::Refused => true,
            Event::Broken => self.safe,
            Event::TryTimeout | Event::Overflow | Event::Answer(..) | Event::RateLimited => false,
        };
        let most = match self.policy {
            Some(policy) if asked => policy.most.max(if safe { SAFE } else { 0 }),
            _ if safe => SAFE,
            _ => 0,
        };
        if self.retried >= most {
            return None;
        }
        self.retried += 1;
        if !asked && self.retried == 1 {
            return Some(Duration::ZERO);
        }
        let (base, longest) =
            self.policy.map_or((Duration::from_millis(25), Duration::from_millis(250)), |p| (p.wait, p.longest_wait));
        let ceiling = base.saturating_mul(1 << self.retried.min(10)).min(longest);
        Some(ceiling.mul_f64(f64::from(chance) / f64::from(u32::MAX)))
    }

    /// Whether all retries that a route asked for are used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.policy.is_some_and(|p| p.most > 0 && self.retried >= p.most)
    }

    /// Whether the route asks for a retry after it.
    pub(super) fn asks_for(&self, event: Event) -> bool {
        self.policy.is_some_and(|p| asked(p, event))
    }

    /// Retries so far.
    pub(super) fn retried(&self) -> u32 {
        self.retried
    }
}

fn asked(policy: &RetryPolicy, event: Event) -> bool {
    let on = &policy.on;
    match event {
        Event::Dead => true,
        Event::NoConnection => {
            on.connect_failure || on.unsent || on.gateway_error || on.server_error || on.statuses.contains(&503)
        }
        Event::Refused => on.refused_stream || on.reset || on.server_error,
        Event::Broken => on.reset || on.server_error || on.gateway_error,
        Event::TryTimeout => on.reset || on.server_error || on.gateway_error,
        // More tries are the last thing that a cluster at its limit needs.
        Event::Overflow => false,
        Event::RateLimited => on.rate_limited,
        Event::Answer(status, grpc) => {
            on.statuses.contains(&status)
                || on.server_error && status >= 500
                || on.gateway_error && (502..=504).contains(&status)
                || on.conflict && status == 409
                || grpc.is_some_and(|status| on.grpc.contains(&status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RetryOn;

    fn policy(on: RetryOn, most: u32) -> RetryPolicy {
        let wait = Duration::from_millis(25);
        RetryPolicy {
            on,
            most,
            per_try: None,
            other_hosts: true,
            other_priorities: false,
            wait,
            longest_wait: wait * 10,
        }
    }

    #[test]
    fn what_may_have_been_done_is_not_done_again() {
        let mut post = Tries::new(None, &Method::POST);
        assert_eq!(post.again(Event::Broken, true, 0), None);
        assert_eq!(post.again(Event::Answer(503, None), true, 0), None);
        assert!(post.again(Event::NoConnection, true, 0).is_some());
        assert!(post.again(Event::Refused, true, 0).is_some());
        assert_eq!(post.again(Event::NoConnection, true, 0), None, "not for ever");
        let mut get = Tries::new(None, &Method::GET);
        assert!(get.again(Event::Broken, true, 0).is_some());
        assert_eq!(get.again(Event::Broken, false, 0), None, "its body is half sent");
    }

    #[test]
    fn a_route_may_forbid_it() {
        let never = policy(RetryOn::default(), 0);
        let mut tries = Tries::new(Some(&never), &Method::GET);
        assert_eq!(tries.again(Event::Broken, true, 0), None);
        assert_eq!(tries.again(Event::Dead, true, 0), Some(Duration::ZERO), "of which nothing was sent");
    }

    #[test]
    fn a_route_may_ask_for_more() {
        let on = RetryOn { statuses: vec![503], grpc: vec![14], ..RetryOn::default() };
        let asked = policy(on, 1);
        let mut tries = Tries::new(Some(&asked), &Method::POST);
        let wait = tries.again(Event::Answer(503, None), true, u32::MAX).unwrap();
        assert_eq!(wait, Duration::from_millis(50));
        assert_eq!(tries.again(Event::Answer(200, Some(14)), true, 0), None, "one was allowed");
        assert_eq!(Tries::new(Some(&asked), &Method::GET).again(Event::Answer(500, None), true, 0), None);
    }
}
