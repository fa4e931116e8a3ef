//! The traffic policy of a port and subset, from the DestinationRule that counts for a view.
//!
//! In: the rules of a host. Out: references to what is set. Invariant: a port's settings stand in place of all
//! others; a subset's in place of the rule's, setting by setting.

use hawser_api::istio::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection,
    PortTrafficPolicy, Subset, TrafficPolicy,
};

/// What callers do, as far as a rule says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancerSettings>,
    pub(super) pool: Option<&'a ConnectionPoolSettings>,
    pub(super) outlier: Option<&'a OutlierDetection>,
    pub(super) tls: Option<&'a ClientTlsSettings>,
}

impl<'a> Policy<'a> {
    /// Of a port, in a subset if it has a name.
    pub(super) fn of(rule: Option<&'a DestinationRule>, port: u16, subset: Option<&'a Subset>) -> Self {
        let base = Self::read(rule.and_then(|r| r.traffic_policy.as_ref()), port);
        let over = Self::read(subset.and_then(|s| s.traffic_policy.as_ref()), port);
        Self {
            load_balancer: over.load_balancer.or(base.load_balancer),
            pool: over.pool.or(base.pool),
            outlier: over.outlier.or(base.outlier),
            tls: over.tls.or(base.tls),
        }
    }

    fn read(policy: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let Some(policy) = policy else { return Self::default() };
        let of_port = |p: &&PortTrafficPolicy| p.port.as_ref().is_some_and(|selector| selector.number.get() == port);
        match policy.port_level_settings.iter().find(of_port) {
            Some(p) => Self {
                load_balancer: p.load_balancer.as_ref(),
                pool: p.connection_pool.as_ref(),
                outlier: p.outlier_detection.as_ref(),
                tls: p.tls.as_ref(),
            },
            None => Self {
                load_balancer: policy.load_balancer.as_ref(),
                pool: policy.connection_pool.as_ref(),
                outlier: policy.outlier_detection.as_ref(),
                tls: policy.tls.as_ref(),
            },
        }
    }

    /// What the rule says of TLS.
    pub(super) fn tls_mode(&self) -> Option<ClientTlsMode> {
        self.tls.map(|tls| tls.mode())
    }
}
