//! Which endpoint gets a request, and which is left alone for a while.
//!
//! In: a cluster's tiers, what is counted of its endpoints, the time. Out: an endpoint. Pure but for the counters; a
//! choice looks at a few endpoints, whatever the size of the cluster, unless those are unusable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use crate::config::{Balance, Cluster, Endpoint, Outlier, Tier};

mod hash;
#[cfg(test)]
mod tests;

pub use hash::{Hashed, Table, of as hash_of};

/// Endpoints that this request has tried.
pub type Tried = SmallVec<[u64; 4]>;

/// Chooses an endpoint: of the first tier that has one which is not ejected, one that was not tried if there is one. That all
/// of a tier were tried does not lead to the next one: they fail until they are ejected. If all are ejected, one of them is
/// better than none. `chance` gives any number, `hash` is of the request where that decides.
pub fn choose<'c>(
    cluster: &'c Cluster,
    now: u64,
    tried: &Tried,
    hash: Option<u64>,
    chance: impl FnMut() -> u32,
) -> Option<&'c Arc<Endpoint>> {
    let none = Tried::new();
    let among = [tried, &none];
    let among = if tried.is_empty() { &among[1..] } else { &among };
    choose_among(cluster, now, among, hash, chance)
}

/// Chooses an endpoint that was not tried, of the first tier that has one which is not ejected: nothing was said to those that
/// were, so it costs nothing to leave them.
pub fn choose_other<'c>(
    cluster: &'c Cluster,
    now: u64,
    tried: &Tried,
    hash: Option<u64>,
    chance: impl FnMut() -> u32,
) -> Option<&'c Arc<Endpoint>> {
    choose_among(cluster, now, &[tried], hash, chance)
}

/// Chooses an endpoint that is not among those tried; in each tier the first list counts, where it leaves none the next.
fn choose_among<'c>(
    cluster: &'c Cluster,
    now: u64,
    among: &[&Tried],
    hash: Option<u64>,
    mut chance: impl FnMut() -> u32,
) -> Option<&'c Arc<Endpoint>> {
    if !panics(cluster, now) {
        for tier in &cluster.tiers {
            for tried in among {
                let usable = |e: &Endpoint| !is_ejected(e, now) && is_untried(e, tried);
                if let Some(found) = choose_in(cluster, tier, (now, hash), &mut chance, usable) {
                    return Some(found);
                }
            }
        }
    }
    among.iter().find_map(|tried| {
        let untried = |e: &Endpoint| is_untried(e, tried);
        cluster.tiers.iter().find_map(|tier| choose_in(cluster, tier, (now, hash), &mut chance, untried))
    })
}

/// Chooses an endpoint of a tier behind those that were tried, if there is one that is usable.
pub fn choose_farther<'c>(
    cluster: &'c Cluster,
    now: u64,
    tried: &Tried,
    hash: Option<u64>,
    mut chance: impl FnMut() -> u32,
) -> Option<&'c Arc<Endpoint>> {
    let was_tried = |tier: &Tier| tier.endpoints.iter().any(|e| tried.contains(&e.state.id));
    let behind = cluster.tiers.iter().rposition(was_tried).map_or(0, |last| last + 1);
    let usable = |e: &Endpoint| !is_ejected(e, now) && is_untried(e, tried);
    cluster.tiers[behind..].iter().find_map(|tier| choose_in(cluster, tier, (now, hash), &mut chance, usable))
}

/// Whether so few endpoints are left that ejected ones are used too.
fn panics(cluster: &Cluster, now: u64) -> bool {
    let least = cluster.spec.least_healthy;
    if least <= 0.0 || cluster.state.ejected_until.load(Ordering::Relaxed) <= now {
        return false;
    }
    let of_tiers = || cluster.tiers.iter().flat_map(|tier| &tier.endpoints);
    let left = of_tiers().filter(|e| !is_ejected(e, now)).count();
    (left as f64) * 100.0 < least * of_tiers().count() as f64
}

/// Not tried by this request, and not lost since the configuration that it sees.
fn is_untried(endpoint: &Endpoint, tried: &Tried) -> bool {
    !tried.contains(&endpoint.state.id) && !endpoint.state.lost.is_cancelled()
}

fn choose_in<'t>(
    cluster: &Cluster,
    tier: &'t Tier,
    (now, hash): (u64, Option<u64>),
    chance: &mut impl FnMut() -> u32,
    usable: impl Fn(&Endpoint) -> bool,
) -> Option<&'t Arc<Endpoint>> {
    if tier.endpoints.len() == 1 {
        return tier.endpoints.first().filter(|e| usable(e));
    }
    // One that is new gets a part of its share; that of the rest goes to others.
    let warm = |e: &Endpoint, chance: u32| match &cluster.spec.warm_up {
        None => true,
        Some(warm_up) => {
            let age = now.saturating_sub(e.state.since);
            warm_up.is_over(age) || f64::from(chance) < warm_up.part(age) * f64::from(u32::MAX)
        }
    };
    let tries = match cluster.spec.balance {
        Balance::LeastRequest(choices) => choices,
        Balance::Random => 1,
        Balance::RoundRobin => {
            for _ in 0..WARM_TRIES {
                let found = in_turn(cluster, tier, &usable)?;
                if warm(found, chance()) {
                    return Some(found);
                }
            }
            return in_turn(cluster, tier, usable);
        }
        Balance::Hashed(_) => {
            let hash = hash.unwrap_or_else(|| u64::from(chance()) << 32 | u64::from(chance()));
            let found = tier.hashed.as_ref().and_then(|h| h.find(hash, |index| usable(&tier.endpoints[index])));
            match found {
                Some(index) => return tier.endpoints.get(index),
                // None is near: any will do.
                None => 1,
            }
        }
    };
    let mut best: Option<&Arc<Endpoint>> = None;
    for _ in 0..tries {
        let mut candidate = &tier.endpoints[draw(tier, chance())];
        if cluster.spec.warm_up.is_some() {
            for _ in 0..WARM_TRIES {
                if warm(candidate, chance()) {
                    break;
                }
                candidate = &tier.endpoints[draw(tier, chance())];
            }
        }
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

/// How often another endpoint is drawn for one that is new.
const WARM_TRIES: u32 = 16;

fn in_turn<'t>(cluster: &Cluster, tier: &'t Tier, usable: impl Fn(&Endpoint) -> bool) -> Option<&'t Arc<Endpoint>> {
    let n = tier.endpoints.len();
    let turn = cluster.state.turn.fetch_add(1, Ordering::Relaxed);
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
    let (server, gateway, local) = match outcome {
        Outcome::NoAnswer => (!outlier.split, !outlier.split, outlier.split),
        // Whoever lists errors means these, of whatever kind.
        Outcome::Status(status) if !outlier.codes.is_empty() => {
            let listed = outlier.codes.binary_search(&status).is_ok();
            (listed, listed, false)
        }
        Outcome::Status(status) => (status >= 500, matches!(status, 502..=504), false),
    };
    let mut full = false;
    if outlier.split {
        full |= in_a_row(&state.local, local, outlier.consecutive_local);
    }
    // A connection that failed, counted apart, says nothing of answers.
    if !local {
        full |= in_a_row(&state.failures, server, outlier.consecutive_5xx);
        full |= in_a_row(&state.gateway, gateway, outlier.consecutive_gateway);
    }
    if !full || is_ejected(endpoint, now) || !may_eject(cluster, outlier, now) {
        return false;
    }
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let good = now.saturating_sub(state.ejected_until.load(Ordering::Relaxed)) / millis(outlier.interval);
    let before = u64::from(state.ejections.load(Ordering::Relaxed)).saturating_sub(good);
    state.ejections.store(u32::try_from(before + 1).unwrap_or(u32::MAX), Ordering::Relaxed);
    let base = millis(outlier.base);
    let until = now.saturating_add(base.saturating_mul(before + 1).min(300_000.max(base)));
    state.ejected_until.store(until, Ordering::Relaxed);
    cluster.state.ejected_until.fetch_max(until, Ordering::Relaxed);
    true
}

/// Counts what comes in a row; whether there are `most`, if that is not 0. Then it begins anew.
fn in_a_row(counter: &AtomicU32, is: bool, most: u32) -> bool {
    if !is {
        if counter.load(Ordering::Relaxed) != 0 {
            counter.store(0, Ordering::Relaxed);
        }
        return false;
    }
    if most == 0 || counter.fetch_add(1, Ordering::Relaxed) + 1 < most {
        return false;
    }
    counter.store(0, Ordering::Relaxed);
    true
}

/// At least one endpoint may be ejected, and never more than the percentage.
fn may_eject(cluster: &Cluster, outlier: &Outlier, now: u64) -> bool {
    let all = cluster.endpoints.len();
    let ejected = cluster.endpoints.iter().filter(|e| is_ejected(e, now)).count();
    all > 1 && (ejected == 0 && outlier.most_percent > 0 || (ejected + 1) * 100 <= all * outlier.most_percent as usize)
}
