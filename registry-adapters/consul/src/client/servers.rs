//! Which server to ask. No I/O; time is passed in.
//!
//! Invariant: a server that failed or is behind its leader is asked after all others, for a while that grows; none is
//! ever given up.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// A server that is behind may have caught up after this.
const BEHIND: Duration = Duration::from_secs(10);

/// What is known of the servers.
#[derive(Debug)]
pub(crate) struct Servers {
    all: Vec<Server>,
}

#[derive(Clone, Debug, Default)]
struct Server {
    failures: u32,
    avoid_until: Option<Instant>,
    /// It answered over HTTP/2, or over HTTP/1.1; unknown before it answers.
    http2: Option<bool>,
}

impl Servers {
    /// As many servers, of which nothing is known.
    pub(crate) fn new(count: usize) -> Self {
        Self { all: vec![Server::default(); count] }
    }

    /// All of them, the best first; `spread` tells apart questions that should go to different ones.
    pub(crate) fn order(&self, spread: usize, now: Instant) -> Vec<usize> {
        let count = self.all.len().max(1);
        let mut order: Vec<usize> = (0..self.all.len()).map(|n| (n + spread) % count).collect();
        order.sort_by_key(|n| self.all.get(*n).and_then(|s| s.avoid_until).filter(|until| *until > now));
        order
    }

    /// This one answered.
    pub(crate) fn answered(&mut self, server: usize) {
        if let Some(server) = self.all.get_mut(server) {
            (server.failures, server.avoid_until) = (0, None);
        }
    }

    /// This one spoke HTTP/2, or did not.
    pub(crate) fn speaks(&mut self, server: usize, http2: bool) {
        if let Some(server) = self.all.get_mut(server) {
            server.http2 = Some(http2);
        }
    }

    /// Queries may share connections wherever they go: what a server speaks that was not heard yet is not known, and one
    /// that can't be reached takes none.
    pub(crate) fn speak_http2(&self) -> bool {
        let so = |server: &Server| server.http2.unwrap_or(server.failures > 0);
        self.all.iter().any(|server| server.http2 == Some(true)) && self.all.iter().all(so)
    }

    /// This one did not.
    pub(crate) fn failed(&mut self, server: usize, now: Instant) {
        if let Some(server) = self.all.get_mut(server) {
            let wait = FIRST.saturating_mul(1 << server.failures.min(10)).min(LONGEST);
            server.failures = server.failures.saturating_add(1);
            server.avoid_until = Some(now + wait);
        }
    }

    /// This one answered with an old state.
    pub(crate) fn is_behind(&mut self, server: usize, now: Instant) {
        if let Some(server) = self.all.get_mut(server) {
            server.avoid_until = Some(now + BEHIND);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_speak_http2_only_if_each_that_can_be_reached_does() {
        let mut servers = Servers::new(2);
        servers.speaks(0, true);
        assert!(!servers.speak_http2(), "the other one is not known");
        servers.failed(1, Instant::now());
        assert!(servers.speak_http2());
        servers.speaks(1, false);
        servers.speaks(0, true);
        servers.answered(1);
        assert!(!servers.speak_http2(), "whoever answered last");
        servers.speaks(1, true);
        assert!(servers.speak_http2());
    }

    #[test]
    fn questions_are_spread_over_servers_that_answer() {
        let now = Instant::now();
        let servers = Servers::new(3);
        let firsts: Vec<usize> = (0..4).filter_map(|n| servers.order(n, now).first().copied()).collect();
        assert_eq!(firsts, [0, 1, 2, 0]);
    }

    #[test]
    fn a_server_that_failed_is_asked_last_until_its_time_is_over() {
        let now = Instant::now();
        let mut servers = Servers::new(2);
        servers.failed(0, now);
        assert_eq!(servers.order(0, now), [1, 0]);
        assert_eq!(servers.order(0, now + FIRST), [0, 1]);
        (0..20).for_each(|_| servers.failed(0, now));
        assert_eq!(servers.order(0, now + LONGEST - FIRST), [1, 0]);
        assert_eq!(servers.order(0, now + LONGEST), [0, 1]);
        servers.answered(0);
        servers.is_behind(1, now);
        assert_eq!(servers.order(1, now), [0, 1]);
    }
}
