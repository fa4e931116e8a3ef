//! From single probes to a port's health.
//!
//! In: results of probes, in order. Out: unknown until enough agree, then healthy or unhealthy; a change needs as many
//! results in a row as its threshold says.

use hawser_api::proto::host::Health;

/// Health of one port.
#[derive(Clone, Debug)]
pub(crate) struct Thresholds {
    success: u32,
    failure: u32,
    health: Health,
    /// Results in a row that speak for another health.
    streak: u32,
    last: Option<bool>,
}

impl Thresholds {
    /// Zero means Istio's default: 1 success, 3 failures.
    pub(crate) fn new(success: u32, failure: u32) -> Self {
        let or = |value, default| if value == 0 { default } else { value };
        Self { success: or(success, 1), failure: or(failure, 3), health: Health::Unknown, streak: 0, last: None }
    }

    /// Takes a result; returns the health after it.
    pub(crate) fn record(&mut self, success: bool) -> Health {
        self.streak = if self.last == Some(success) { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(success);
        if success && self.streak >= self.success {
            self.health = Health::Healthy;
        } else if !success && self.streak >= self.failure {
            self.health = Health::Unhealthy;
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_not_down_until_enough_probes_failed() {
        let mut port = Thresholds::new(0, 0);
        assert_eq!(port.record(false), Health::Unknown);
        assert_eq!(port.record(false), Health::Unknown);
        assert_eq!(port.record(false), Health::Unhealthy);
        assert_eq!(port.record(true), Health::Healthy);
        assert_eq!(port.record(false), Health::Healthy);
        assert_eq!(port.record(true), Health::Healthy);
        assert_eq!(port.record(false), Health::Healthy);
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        let mut port = Thresholds::new(2, 1);
        assert_eq!(port.record(true), Health::Unknown);
        assert_eq!(port.record(false), Health::Unhealthy);
        assert_eq!(port.record(true), Health::Unhealthy);
        assert_eq!(port.record(true), Health::Healthy);
    }
}
