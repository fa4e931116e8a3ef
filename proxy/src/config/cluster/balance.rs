//! How an endpoint of a cluster is chosen.

use std::time::Duration;

use hawser_api::proto::cluster as proto;
use hawser_api::proto::cluster::cluster::{LbConfig, LbPolicy, SlowStartConfig};

use super::super::Refused;
use super::super::proto::{At as _, duration, refuse};
use crate::balance::Table;

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The least loaded of some, chosen by chance.
    LeastRequest(u32),
    /// By chance.
    Random,
    /// In turn.
    RoundRobin,
    /// By a hash of the request.
    Hashed(Table),
}

/// How new endpoints come to their share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    window: f64,
    exponent: f64,
    least: f64,
}

impl WarmUp {
    /// Reads it; `None` if it takes no time.
    ///
    /// # Errors
    /// If its numbers are none that can be used.
    pub fn new(config: &SlowStartConfig) -> Result<Option<Self>, Refused> {
        let window = duration("slow_start_window", config.slow_start_window.as_ref())?.unwrap_or(Duration::ZERO);
        if window.is_zero() {
            return Ok(None);
        }
        let aggression = config.aggression.as_ref().map_or(1.0, |a| a.default_value);
        let percent = config.min_weight_percent.as_ref().map_or(10.0, |p| p.value);
        if !aggression.is_finite() || aggression <= 0.0 || !percent.is_finite() {
            refuse!("aggression is above 0, min_weight_percent a number");
        }
        let least = (percent / 100.0).clamp(0.0, 1.0);
        Ok(Some(Self { window: window.as_secs_f64() * 1000.0, exponent: 1.0 / aggression, least }))
    }

    /// The part of its share that an endpoint has at an age in milliseconds.
    pub fn part(&self, age: u64) -> f64 {
        let grown = (age as f64).max(1.0) / self.window;
        // Not that of the C library: for this alone, each proxy would map all of its mathematics.
        if grown >= 1.0 { 1.0 } else { libm::pow(grown, self.exponent).max(self.least) }
    }

    /// Whether an endpoint of that age has its whole share.
    pub fn is_over(&self, age: u64) -> bool {
        age as f64 >= self.window
    }
}

pub(super) fn balance(cluster: &proto::Cluster) -> Result<(Balance, Option<WarmUp>), Refused> {
    let config = cluster.lb_config.as_ref();
    let mut slow = None;
    let balance = match LbPolicy::try_from(cluster.lb_policy) {
        Ok(LbPolicy::RoundRobin) => {
            if let Some(LbConfig::RoundRobinLbConfig(c)) = config {
                slow = c.slow_start_config.as_ref();
            }
            Balance::RoundRobin
        }
        Ok(LbPolicy::LeastRequest) => {
            let mut choices = None;
            if let Some(LbConfig::LeastRequestLbConfig(c)) = config {
                (choices, slow) = (c.choice_count, c.slow_start_config.as_ref());
            }
            Balance::LeastRequest(choices.unwrap_or(2).clamp(2, 10))
        }
        Ok(LbPolicy::Random | LbPolicy::ClusterProvided) => Balance::Random,
        Ok(LbPolicy::RingHash) => Balance::Hashed(Table::Ring(match config {
            Some(LbConfig::RingHashLbConfig(c)) => c.minimum_ring_size.unwrap_or(1024),
            _ => 1024,
        })),
        Ok(LbPolicy::Maglev) => Balance::Hashed(Table::Maglev(match config {
            Some(LbConfig::MaglevLbConfig(c)) => c.table_size.unwrap_or(65_537),
            _ => 65_537,
        })),
        Ok(other) => refuse!("lb_policy {} is not supported", other.as_str_name()),
        Err(_) => refuse!("lb_policy {} is unknown", cluster.lb_policy),
    };
    if let Balance::Hashed(table) = balance {
        check(table)?;
    }
    Ok((balance, slow.map(WarmUp::new).transpose().at("slow_start_config")?.flatten()))
}

fn check(table: Table) -> Result<(), Refused> {
    match table {
        Table::Ring(least) if least > 8 * 1024 * 1024 => refuse!("minimum_ring_size {least} is larger than 8388608"),
        Table::Maglev(size) if !is_prime(size) || size > 5_000_011 => {
            refuse!("table_size {size} is no prime up to 5000011")
        }
        _ => Ok(()),
    }
}

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_endpoint_comes_to_its_share_in_its_time() {
        let warm = |exponent| WarmUp { window: 1000.0, exponent, least: 0.1 };
        let parts = |exponent, ages: [u64; 4]| ages.map(|age| (warm(exponent).part(age) * 100.0).round());
        assert_eq!(parts(1.0, [0, 50, 500, 1000]), [10.0, 10.0, 50.0, 100.0]);
        assert_eq!(parts(0.5, [0, 250, 640, 2000]), [10.0, 50.0, 80.0, 100.0]);
    }

    #[test]
    fn a_table_of_maglev_is_a_prime() {
        for (size, is) in [(0, false), (1, false), (2, true), (65_536, false), (65_537, true), (5_000_011, true)] {
            assert_eq!(check(Table::Maglev(size)).is_ok(), is, "{size}");
        }
    }
}
