//! What changes all the while.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hawser_tests::wait::between_looks;

use super::place::Place;
use crate::mesh::SERVICE;

/// Edits a VirtualService or a DestinationRule every second; how often.
pub(super) fn edit(place: &Place, over: &AtomicBool) -> anyhow::Result<u32> {
    every(Duration::from_secs(1), over, |number| {
        let yaml = if number % 2 == 0 { routes(number / 2) } else { policy(number / 2) };
        place.mesh.apply(&yaml).map(drop)
    })
}

/// Lets a host leave and join again; how often.
pub(super) fn come_and_go(place: &Place, over: &AtomicBool) -> anyhow::Result<u32> {
    every(Duration::from_secs(15), over, |_| {
        place.leave()?;
        between_looks(Duration::from_secs(2));
        place.enter()
    })
}

fn every(span: Duration, over: &AtomicBool, mut work: impl FnMut(u32) -> anyhow::Result<()>) -> anyhow::Result<u32> {
    let mut next = Instant::now() + span;
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        if Instant::now() < next {
            between_looks(Duration::from_millis(50));
            continue;
        }
        work(count)?;
        count += 1;
        next = (next + span).max(Instant::now());
    }
    Ok(count)
}

/// Routes that differ from edit to edit, and all lead to the same place.
fn routes(number: u32) -> String {
    let to = format!("    route: [{{destination: {{host: {SERVICE}}}}}]\n");
    let mut yaml = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: bench, namespace: default}}\nspec:\n  \
         hosts: [{SERVICE}]\n  http:\n"
    );
    for group in 0..number % 20 {
        let _ = write!(yaml, "  - match: [{{headers: {{x-group: {{exact: g{group}}}}}}}]\n{to}");
    }
    let _ = write!(yaml, "  - timeout: {}s\n    retries: {{attempts: {}}}\n{to}", 15 + number % 7, 2 + number % 3);
    yaml
}

fn policy(number: u32) -> String {
    let balancer = ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"][number as usize % 3];
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bench, namespace: default}}\nspec:\n  \
         host: {SERVICE}\n  trafficPolicy:\n    loadBalancer: {{simple: {balancer}}}\n    \
         connectionPool: {{tcp: {{connectTimeout: {}s}}}}\n",
        5 + number % 5
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_edit_is_like_the_one_before() {
        for number in 0..50 {
            assert_ne!(routes(number), routes(number + 1));
            assert_ne!(policy(number), policy(number + 1));
        }
    }
}
