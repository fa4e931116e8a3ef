//! Whether an instance takes requests, and its share of them.
//!
//! The worst check counts: of the node and of the instance. A critical check takes it out; a warning leaves it in with
//! the weight for warnings, and a weight of nothing means no new requests; maintenance lets it finish what it has.

use hawser_mesh::Health;

use crate::wire::{Check, Weights};

const NODE_MAINTENANCE: &str = "_node_maintenance";
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const MAX_WEIGHT: i64 = 65_535;

/// Health and weight by the checks that count for an instance.
pub(crate) fn standing(checks: &[Check], weights: Option<Weights>) -> (Health, u32) {
    let weights = weights.unwrap_or_default();
    let mut health = Health::Healthy;
    let mut warned = false;
    for check in checks {
        let maintenance = check.check_id == NODE_MAINTENANCE || check.check_id.starts_with(SERVICE_MAINTENANCE);
        match check.status.as_str() {
            "critical" if maintenance => health = health.max(Health::Draining),
            "critical" => health = health.max(Health::Unhealthy),
            "maintenance" => health = health.max(Health::Draining),
            "warning" => warned = true,
            // Unknown is not down.
            _ => {}
        }
    }
    let said = if warned { weights.warning } else { weights.passing };
    if said <= 0 && warned {
        health = health.max(Health::Draining);
    }
    (health, u32::try_from(said.clamp(1, MAX_WEIGHT)).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, status: &str) -> Check {
        Check { check_id: id.to_owned(), status: status.to_owned(), ..Check::default() }
    }

    #[test]
    fn the_worst_check_of_node_and_service_counts() {
        let weights = Some(Weights { passing: 10, warning: 2 });
        type Checks = [(&'static str, &'static str)];
        let table: [(&Checks, Health, u32); 9] = [
            (&[], Health::Healthy, 10),
            (&[("serfHealth", "passing"), ("service:a", "passing")], Health::Healthy, 10),
            (&[("serfHealth", "passing"), ("service:a", "warning")], Health::Healthy, 2),
            (&[("serfHealth", "critical"), ("service:a", "passing")], Health::Unhealthy, 10),
            (&[("serfHealth", "passing"), ("service:a", "critical")], Health::Unhealthy, 10),
            (&[("_node_maintenance", "critical")], Health::Draining, 10),
            (&[("_service_maintenance:a", "critical"), ("x", "warning")], Health::Draining, 2),
            (&[("_service_maintenance:a", "critical"), ("x", "critical")], Health::Unhealthy, 10),
            (&[("x", "something new")], Health::Healthy, 10),
        ];
        for (checks, health, weight) in table {
            let list: Vec<Check> = checks.iter().map(|(id, status)| check(id, status)).collect();
            assert_eq!(standing(&list, weights), (health, weight), "{checks:?}");
        }
    }

    #[test]
    fn weights_of_any_size_are_bounded_and_none_for_warnings_means_no_new_requests() {
        let warned = [check("x", "warning")];
        assert_eq!(standing(&warned, Some(Weights { passing: 1, warning: 0 })), (Health::Draining, 1));
        assert_eq!(standing(&[], Some(Weights { passing: i64::MAX, warning: 1 })), (Health::Healthy, 65_535));
        assert_eq!(standing(&[], Some(Weights { passing: i64::MIN, warning: 1 })), (Health::Healthy, 1));
        assert_eq!(standing(&[], None), (Health::Healthy, 1));
    }
}
