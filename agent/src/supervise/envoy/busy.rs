//! What an Envoy is busy with, from its statistics.
//!
//! In: lines `name: value`. Out: how many requests are under way, and how many connections that carry no HTTP. Idle
//! connections of HTTP are nothing to wait for.

use std::time::Duration;

use tokio::time::Instant;

use crate::supervise::admin;

const PAGE: &str = "/stats?filter=downstream_(rq|cx)_active$";
const LOOK: Duration = Duration::from_millis(50);
/// Looks in a row that must find nothing: a caller may be a moment late to hear that it should go elsewhere.
const QUIET: u32 = 3;

/// Waits until nothing is under way; whether that came in time.
pub(super) async fn wait(until: Instant, runs: impl Fn() -> bool) -> bool {
    let mut quiet = 0;
    while quiet < QUIET {
        if Instant::now() >= until || !runs() {
            return false;
        }
        quiet = match admin::page(PAGE).await {
            Some((200, page)) if under_way(&page) == 0 => quiet + 1,
            _ => 0,
        };
        tokio::time::sleep(LOOK).await;
    }
    true
}

fn under_way(page: &str) -> u64 {
    let (mut requests, mut http, mut connections) = (0_u64, 0_u64, 0_u64);
    for line in page.lines() {
        let Some((name, Ok(value))) = line.rsplit_once(": ").map(|(name, value)| (name, value.parse::<u64>())) else {
            continue;
        };
        // Those of its own pages, and of its threads, which are counted with the listener's.
        let own = ["admin.", super::bootstrap::OWN]
            .iter()
            .any(|own| name.split_once('.').is_some_and(|(_, rest)| rest.starts_with(own)));
        if own || name.contains(".worker_") || name.contains(".main_thread.") {
            continue;
        }
        if name.starts_with("http.") && name.ends_with(".downstream_rq_active") {
            requests += value;
        } else if name.starts_with("http.") {
            http += value;
        } else if name.starts_with("listener.") && name.ends_with(".downstream_cx_active") {
            connections += value;
        }
    }
    requests + connections.saturating_sub(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_other_connections_count_and_idle_ones_do_not() {
        let page = "http.admin.downstream_cx_active: 2\nhttp.admin.downstream_rq_active: 1\n\
                    http.hawser.downstream_cx_active: 1\nhttp.hawser.downstream_rq_active: 1\n\
                    http.inbound_0.0.0.0_9080;.downstream_cx_active: 3\n\
                    http.inbound_0.0.0.0_9080;.downstream_rq_active: 1\n\
                    http.outbound_0.0.0.0_9080;.downstream_rq_active: 1\n\
                    listener.hawser.downstream_cx_active: 1\n\
                    listener.0.0.0.0_15006.downstream_cx_active: 5\n\
                    listener.0.0.0.0_15006.worker_0.downstream_cx_active: 5\n\
                    listener.admin.downstream_cx_active: 2\nlistener.admin.main_thread.downstream_cx_active: 2\n";
        assert_eq!(under_way(page), 2 + (5 - 3));
        assert_eq!(under_way("http.a.downstream_cx_active: 4\nlistener.a.downstream_cx_active: 4\n"), 0);
        assert_eq!(under_way("nonsense\n"), 0);
    }
}
