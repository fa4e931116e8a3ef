//! A WorkloadGroup as joining hosts need it, and the policies that keep hosts from joining it.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_api::istio::workload_group::ReadinessProbe;
use hawser_api::istio::{Resource, Spec, Traffic, WorkloadGroup, honoured, traffic};
use hawser_api::proto::host::{self, probe};
use hawser_mesh::Protocol;

use crate::registry::Snapshot;
use crate::registry::model::{ConfigOutcome, ConfigState};

/// What the hosts of a group serve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels of its workloads.
    pub labels: BTreeMap<String, String>,
    /// Where they listen, by number.
    pub ports: Vec<host::Port>,
    /// Service account; empty is `default`.
    pub service_account: String,
    /// Share of requests; 0 is the default.
    pub weight: u32,
    /// Locality for hosts that name none.
    pub locality: (String, String, String),
    /// What of its hosts' traffic is captured, if it says anything of that.
    pub traffic: Option<host::Traffic>,
}

impl Group {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Every group of a snapshot that counts.
    pub fn all(snapshot: &Snapshot) -> Vec<Self> {
        snapshot.configs.iter().filter(counts).filter_map(|c| Self::of(c.resource.as_deref()?)).collect()
    }

    /// One group of a snapshot.
    pub fn find(snapshot: &Snapshot, namespace: &str, name: &str) -> Option<Self> {
        let named = |c: &&ConfigState| c.object.as_ref().is_some_and(|o| o.namespace == namespace && o.name == name);
        let mut found = snapshot.configs.iter().filter(named).filter(counts);
        found.find_map(|c| Self::of(c.resource.as_deref()?))
    }

    /// What a WorkloadGroup says; `None` for other kinds.
    pub fn of(resource: &Resource) -> Option<Self> {
        let Spec::WorkloadGroup(group) = &resource.spec else { return None };
        let object = resource.object_ref();
        let template = group.template.clone().unwrap_or_default().0;
        let mut labels = template.labels.clone();
        labels.extend(group.metadata.iter().flat_map(|m| m.labels.clone()));
        let mut parts = template.locality.splitn(3, '/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        Some(Self {
            namespace: object.namespace,
            name: object.name,
            labels,
            ports: ports(group),
            service_account: template.service_account,
            weight: template.weight,
            locality: (part(), part(), part()),
            traffic: Some(traffic(&resource.metadata, group)).filter(|t| *t != Traffic::default()).map(told),
        })
    }
}

/// The same for agents.
fn told(of: Traffic) -> host::Traffic {
    let nets = |nets: std::collections::BTreeSet<ipnet::IpNet>| nets.iter().map(ToString::to_string).collect();
    let ports = |ports: std::collections::BTreeSet<u16>| ports.into_iter().map(u32::from).collect();
    host::Traffic {
        include_outbound_ranges: of.include_outbound_ranges.map(|all| host::traffic::Ranges { ranges: nets(all) }),
        exclude_outbound_ranges: nets(of.exclude_outbound_ranges),
        include_outbound_ports: ports(of.include_outbound_ports),
        exclude_outbound_ports: ports(of.exclude_outbound_ports),
        include_inbound_ports: of.include_inbound_ports.map(|all| host::traffic::Ports { ports: ports(all) }),
        exclude_inbound_ports: ports(of.exclude_inbound_ports),
        exclude_interfaces: of.exclude_interfaces.into_iter().collect(),
    }
}

fn counts(config: &&ConfigState) -> bool {
    matches!(config.outcome, ConfigOutcome::Honoured | ConfigOutcome::Partly)
}

/// A security policy that selects a group and can't be enforced, in words.
pub(super) fn blocking_policy(snapshot: &Snapshot, group: &Group) -> Option<String> {
    let root = &snapshot.settings.root_namespace;
    snapshot.configs.iter().find_map(|config| {
        let (object, resource) = (config.object.as_ref()?, config.resource.as_deref()?);
        if object.namespace != group.namespace && object.namespace != *root {
            return None;
        }
        let selector = match &resource.spec {
            // What is attached to a gateway or a waypoint is about no host.
            Spec::AuthorizationPolicy(policy) if policy.target_ref.is_some() || !policy.target_refs.is_empty() => {
                return None;
            }
            Spec::RequestAuthentication(policy) if policy.target_ref.is_some() || !policy.target_refs.is_empty() => {
                return None;
            }
            Spec::AuthorizationPolicy(policy) => &policy.selector,
            Spec::RequestAuthentication(policy) => &policy.selector,
            Spec::PeerAuthentication(policy) => &policy.selector,
            _ => return None,
        };
        if selector.as_ref().is_some_and(|s| !s.matches(&group.labels)) {
            return None;
        }
        let why = honoured(resource).refuse?;
        Some(format!("{object} selects group {} and can't be enforced ({why})", group.key()))
    })
}

/// Ports by number; the group's probe goes to the port that it asks, or to the first.
fn ports(group: &WorkloadGroup) -> Vec<host::Port> {
    let template = group.template.iter().flat_map(|t| &t.0.ports);
    let mut ports: Vec<host::Port> = template
        .map(|(name, port)| host::Port {
            name: name.clone(),
            port: u32::from(port.get()),
            protocol: Protocol::from_port_name(name).as_str().to_owned(),
            probe: None,
        })
        .collect();
    ports.sort_by(|a, b| (a.port, &a.name).cmp(&(b.port, &b.name)));
    if let Some(probe) = group.probe.as_ref().and_then(probe) {
        let asked = match &probe.kind {
            Some(probe::Kind::Http(http)) => http.port,
            Some(probe::Kind::Tcp(tcp)) => tcp.port,
            None => 0,
        };
        let at = ports.iter().position(|p| p.port == asked).unwrap_or(0);
        if let Some(port) = ports.get_mut(at) {
            port.probe = Some(probe);
        }
    }
    ports
}

/// An HTTP or TCP probe; others are reported as not honoured where the group is applied.
fn probe(of: &ReadinessProbe) -> Option<host::Probe> {
    let kind = if let Some(http) = &of.http_get {
        probe::Kind::Http(host::HttpProbe {
            path: if http.path.is_empty() { "/".to_owned() } else { http.path.clone() },
            port: u32::from(http.port.get()),
            scheme: if http.scheme.is_empty() { "HTTP".to_owned() } else { http.scheme.clone() },
            host: http.host.clone(),
            headers: http.http_headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
        })
    } else if let Some(tcp) = &of.tcp_socket {
        probe::Kind::Tcp(host::TcpProbe { port: u32::from(tcp.port.get()) })
    } else {
        return None;
    };
    let seconds = |value: i32, unset: u64| {
        let value = u64::try_from(value).ok().filter(|v| *v != 0).unwrap_or(unset);
        prost_types::Duration::try_from(Duration::from_secs(value)).ok()
    };
    let count = |value: i32| u32::try_from(value).unwrap_or(1).max(1);
    Some(host::Probe {
        kind: Some(kind),
        initial_delay: seconds(of.initial_delay_seconds, 0),
        timeout: seconds(of.timeout_seconds, 1),
        period: seconds(of.period_seconds, 10),
        success_threshold: count(of.success_threshold),
        failure_threshold: count(of.failure_threshold),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_api::istio::parse_documents;

    #[test]
    fn a_group_is_read_with_its_labels_ports_and_probe() {
        let yaml = "
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: reviews, namespace: shop}
spec:
  metadata: {labels: {app: reviews}, annotations: {traffic.sidecar.istio.io/excludeInboundPorts: '9081'}}
  template:
    ports: {http: 9080, tcp-admin: 9081}
    labels: {version: v1}
    serviceAccount: reviews
    locality: eu/eu-1
    weight: 7
  probe: {periodSeconds: 3, tcpSocket: {port: 9081}}
";
        let parsed = parse_documents("group.yaml", yaml).remove(0).unwrap();
        let group = Group::of(&parsed.resource).unwrap();
        assert_eq!(group.key(), "shop/reviews");
        assert_eq!(group.labels.len(), 2);
        assert_eq!((group.ports[0].port, group.ports[0].protocol.as_str()), (9080, "http"));
        assert!(group.ports[0].probe.is_none());
        let probe = group.ports[1].probe.clone().unwrap();
        assert_eq!(probe.period.unwrap().seconds, 3);
        assert_eq!(group.locality, ("eu".into(), "eu-1".into(), String::new()));
        assert_eq!((group.weight, group.service_account.as_str()), (7, "reviews"));
        assert_eq!(group.traffic.unwrap().exclude_inbound_ports, [9081]);
    }

    #[test]
    fn a_probe_is_told_with_all_that_is_said_of_it() {
        let yaml = "
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: reviews, namespace: shop}
spec:
  template: {ports: {http: 9080}}
  probe:
    initialDelaySeconds: 1
    timeoutSeconds: 2
    periodSeconds: 3
    successThreshold: 4
    failureThreshold: 5
    httpGet: {path: /ready, port: 9080, host: app.test, scheme: HTTP, httpHeaders: [{name: x-a, value: b}]}
";
        let parsed = parse_documents("group.yaml", yaml).remove(0).unwrap();
        let probe = Group::of(&parsed.resource).unwrap().ports[0].probe.clone().unwrap();
        let seconds = [&probe.initial_delay, &probe.timeout, &probe.period].map(|d| d.as_ref().unwrap().seconds);
        assert_eq!((seconds, probe.success_threshold, probe.failure_threshold), ([1, 2, 3], 4, 5));
        let Some(probe::Kind::Http(http)) = probe.kind else { panic!("it is HTTP") };
        assert_eq!((http.path.as_str(), http.port, http.host.as_str()), ("/ready", 9080, "app.test"));
        assert_eq!((http.scheme.as_str(), http.headers["x-a"].as_str()), ("HTTP", "b"));
    }
}
