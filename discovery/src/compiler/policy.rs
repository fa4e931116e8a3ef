//! The traffic policy of a port and subset, from the DestinationRule that counts for a view.
//!
//! In: the rules of a host. Out: references to what is set. Invariant: a port's settings stand in place of all
//! others, those that it leaves out included; a subset's in place of the rule's, setting by setting.

use hawser_api::istio::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection,
    PortTrafficPolicy, ProxyProtocol, RetryBudget, Subset, TrafficPolicy, TunnelSettings,
};

/// What callers do, as far as a rule says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancerSettings>,
    pub(super) pool: Option<&'a ConnectionPoolSettings>,
    pub(super) outlier: Option<&'a OutlierDetection>,
    pub(super) tls: Option<&'a ClientTlsSettings>,
    pub(super) retry_budget: Option<&'a RetryBudget>,
    pub(super) proxy_protocol: Option<&'a ProxyProtocol>,
}

impl<'a> Policy<'a> {
    /// Of a port, in a subset if it has a name.
    pub(super) fn of(rule: Option<&'a DestinationRule>, port: u16, subset: Option<&'a Subset>) -> Self {
        let base = rule.and_then(|r| r.traffic_policy.as_ref());
        let Some(over) = subset.and_then(|s| s.traffic_policy.as_ref()) else { return Self::read(base, port) };
        if let Some(own) = Self::of_port(over, port) {
            return own;
        }
        let (base, over) = (Self::read(base, port), Self::whole(over));
        Self {
            load_balancer: over.load_balancer.or(base.load_balancer),
            pool: over.pool.or(base.pool),
            outlier: over.outlier.or(base.outlier),
            tls: over.tls.or(base.tls),
            retry_budget: over.retry_budget.or(base.retry_budget),
            proxy_protocol: over.proxy_protocol.or(base.proxy_protocol),
        }
    }

    fn read(policy: Option<&'a TrafficPolicy>, port: u16) -> Self {
        policy.map_or_else(Self::default, |p| Self::of_port(p, port).unwrap_or_else(|| Self::whole(p)))
    }

    /// What a policy says of one port.
    fn of_port(policy: &'a TrafficPolicy, port: u16) -> Option<Self> {
        let of_port = |p: &&PortTrafficPolicy| p.port.as_ref().is_some_and(|selector| selector.number.get() == port);
        let of_port = policy.port_level_settings.iter().find(of_port)?;
        Some(Self {
            load_balancer: of_port.load_balancer.as_ref(),
            pool: of_port.connection_pool.as_ref(),
            outlier: of_port.outlier_detection.as_ref(),
            tls: of_port.tls.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
            proxy_protocol: policy.proxy_protocol.as_ref(),
        })
    }

    /// What it says of all others.
    fn whole(policy: &'a TrafficPolicy) -> Self {
        Self {
            load_balancer: policy.load_balancer.as_ref(),
            pool: policy.connection_pool.as_ref(),
            outlier: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
            proxy_protocol: policy.proxy_protocol.as_ref(),
        }
    }

    /// What the rule says of TLS.
    pub(super) fn tls_mode(&self) -> Option<ClientTlsMode> {
        self.tls.map(|tls| tls.mode())
    }
}

/// Through what connections are tunnelled: of a subset what it says itself, else what the rule says. (As in Istio, a subset
/// that says nothing has none.)
pub(super) fn tunnel<'a>(rule: &'a DestinationRule, subset: Option<&'a Subset>) -> Option<&'a TunnelSettings> {
    let policy = match subset {
        Some(subset) => subset.traffic_policy.as_ref(),
        None => rule.traffic_policy.as_ref(),
    };
    policy?.tunnel.as_ref()
}

#[cfg(test)]
mod tests {
    use hawser_api::istio::{Spec, parse_documents};

    use super::*;

    const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {tcp: {maxConnections: 1}}
    tls: {mode: DISABLE}
    portLevelSettings:
    - {port: {number: 80}, connectionPool: {tcp: {maxConnections: 2}}}
    - {port: {number: 81}, loadBalancer: {simple: RANDOM}, outlierDetection: {consecutive5xxErrors: 3}, tls: {mode: ISTIO_MUTUAL}}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:
      connectionPool: {tcp: {maxConnections: 3}}
      portLevelSettings:
      - {port: {number: 82}, outlierDetection: {consecutive5xxErrors: 4}}
";

    /// Balancing, connections, failures in a row, TLS: of a port, in a subset or not.
    fn said(port: u16, subset: Option<&str>) -> String {
        let resource = parse_documents("a.yaml", RULE).remove(0).unwrap().resource;
        let Spec::DestinationRule(rule) = &resource.spec else { panic!("another kind") };
        let subset = subset.map(|name| rule.subsets.iter().find(|s| s.name == name).unwrap());
        let policy = Policy::of(Some(rule), port, subset);
        let balance = policy.load_balancer.and_then(|lb| lb.simple);
        let connections = policy.pool.and_then(|p| p.tcp.as_ref()).map(|t| t.max_connections);
        let failures = policy.outlier.and_then(|o| o.consecutive5xx_errors);
        format!("{balance:?} {connections:?} {failures:?} {:?}", policy.tls_mode())
    }

    #[test]
    fn a_ports_settings_stand_in_place_of_all_others() {
        assert_eq!(said(90, None), "Some(RoundRobin) Some(1) None Some(Disable)");
        assert_eq!(said(80, None), "None Some(2) None None", "what it leaves out is not taken from the rule");
        assert_eq!(said(81, None), "Some(Random) None Some(3) Some(IstioMutual)");
    }

    #[test]
    fn a_subset_stands_in_place_of_the_rule_setting_by_setting_and_its_ports_as_a_whole() {
        assert_eq!(said(90, Some("v1")), "Some(RoundRobin) Some(3) None Some(Disable)");
        assert_eq!(said(81, Some("v1")), "Some(Random) Some(3) Some(3) Some(IstioMutual)");
        assert_eq!(said(82, Some("v1")), "None None Some(4) None");
    }
}
