//! Which endpoint gets a request, and which is left alone for a while.
//!
//! In: a cluster's tiers, what is counted of its endpoints, the time. Out: an endpoint. Pure but for the counters; a
//! choice looks at a few endpoints, whatever the size of the cluster, unless those are unusable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use crate::config::{Balance, Cluster, Endpoint, Outlier, Tier};

#[cfg(test)]
mod tests;

/// Endpoints that this request has tried.
pub type Tried = SmallVec<[u64; 4]>;

/// Chooses an endpoint: of the first tier that has one which is neither ejected nor tried; if none has, an ejected one
/// is better than none. `chance` gives any number.
pub fn choose<'c>(
    cluster: &'c Cluster,
    now: u64,
    tried: &Tried,
    mut chance: impl FnMut() -> u32,
) -> Option<&'c Arc<Endpoint>> {
    let usable = |e: &Endpoint| !is_ejected(e, now) && is_untried(e, tried);
    for tier in &cluster.tiers {
        if let Some(found) = choose_in(tier, cluster.spec.balance, &mut chance, usable) {
            return Some(found);
        }
    }
    let untried = |e: &Endpoint| is_untried(e, tried);
    cluster.tiers.iter().find_map(|tier| choose_in(tier, cluster.spec.balance, &mut chance, untried))
}

/// Not tried by this request, and not lost since the configuration that it sees.
fn is_untried(endpoint: &Endpoint, tried: &Tried) -> bool {
    !tried.contains(&endpoint.state.id) && !endpoint.state.lost.is_cancelled()
}

fn choose_in<'t>(
    tier: &'t Tier,
    balance: Balance,
    chance: &mut impl FnMut() -> u32,
    usable: impl Fn(&Endpoint) -> bool,
) -> Option<&'t Arc<Endpoint>> {
    if tier.endpoints.len() == 1 {
        return tier.endpoints.first().filter(|e| usable(e));
    }
    let tries = match balance {
        Balance::LeastRequest(choices) => choices,
        Balance::Random => 1,
        Balance::RoundRobin => return in_turn(tier, usable),
    };
    let mut best: Option<&Arc<Endpoint>> = None;
    for _ in 0..tries {
        let candidate = &tier.endpoints[draw(tier, chance())];
        if usable(candidate) && best.is_none_or(|b| load(candidate) < load(b)) {
            best = Some(candidate);
        }
    }
    // Chance hit unusable ones only: look at all, from a random place on.
    best.or_else(|| {
        let n = tier.endpoints.len();
        let start = draw(tier, chance());
        (0..n).map(|i| &tier.endpoints[(start + i) % n]).find(|e| usable(e))
    })
}

/// Draws by weight.
fn draw(tier: &Tier, chance: u32) -> usize {
    match tier.sums.last() {
        None => chance as usize % tier.endpoints.len(),
        Some(all) => {
            // 32 bits of chance spread over the sum of weights.
            let at = (u128::from(chance) * u128::from(*all)) >> 32;
            tier.sums.partition_point(|sum| u128::from(*sum) <= at).min(tier.endpoints.len() - 1)
        }
    }
}

/// Requests in flight; weights are in the draw already.
fn load(endpoint: &Endpoint) -> u32 {
    endpoint.state.active.load(Ordering::Relaxed)
}

static TURN: AtomicU32 = AtomicU32::new(0);

fn in_turn(tier: &Tier, usable: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
    let n = tier.endpoints.len();
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let start = match tier.sums.last() {
        None => turn as usize % n,
        // A golden-ratio walk visits weights evenly.
        Some(_) => draw(tier, turn.wrapping_mul(0x9E37_79B9)),
    };
    (0..n).map(|i| &tier.endpoints[(start + i) % n]).find(|e| usable(e))
}

fn is_ejected(endpoint: &Endpoint, now: u64) -> bool {
    endpoint.state.ejected_until.load(Ordering::Relaxed) > now
}

/// How a request ended, as far as its endpoint is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No connection, or it broke.
    NoAnswer,
    /// A status.
    Status(u16),
}

/// Takes a request's end into account; `true` if the endpoint is ejected by it.
pub fn report(cluster: &Cluster, endpoint: &Endpoint, outcome: Outcome, now: u64) -> bool {
    let Some(outlier) = &cluster.spec.outlier else { return false };
    let state = &endpoint.state;
    let (server, gateway) = match outcome {
        Outcome::NoAnswer => (true, true),
        Outcome::Status(status) => (status >= 500, matches!(status, 502..=504)),
    };
    let limit = match (outlier.consecutive_5xx, outlier.consecutive_gateway) {
        (n, _) if n > 0 && server => n,
        (_, n) if n > 0 && gateway => n,
        _ => {
            if state.failures.load(Ordering::Relaxed) != 0 {
                state.failures.store(0, Ordering::Relaxed);
            }
            return false;
        }
    };
    if state.failures.fetch_add(1, Ordering::Relaxed) + 1 < limit || is_ejected(endpoint, now) {
        return false;
    }
    state.failures.store(0, Ordering::Relaxed);
    if !may_eject(cluster, outlier, now) {
        return false;
    }
    let times = u64::from(state.ejections.fetch_add(1, Ordering::Relaxed)) + 1;
    let base = u64::try_from(outlier.base.as_millis()).unwrap_or(30_000);
    state.ejected_until.store(now + (base * times).min(300_000.max(base)), Ordering::Relaxed);
    true
}

/// At least one endpoint may be ejected, and never more than the percentage.
fn may_eject(cluster: &Cluster, outlier: &Outlier, now: u64) -> bool {
    let all = cluster.endpoints.len();
    let ejected = cluster.endpoints.iter().filter(|e| is_ejected(e, now)).count();
    all > 1 && (ejected == 0 && outlier.most_percent > 0 || (ejected + 1) * 100 <= all * outlier.most_percent as usize)
}
