//! EDS: the instances of a port and subset, by locality.
//!
//! In: a cluster's name. Out: its endpoints. Invariant: an endpoint that must not be used by anybody any more is
//! still there, with its health: lost is not drained, and neither is gone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hawser_api::names::{OutboundCluster, labels, metadata};
use hawser_api::proto::core::{self, HealthStatus};
use hawser_api::proto::endpoint::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use hawser_mesh::{Health, Locality, Nearness, RegistryKind, Resolution, Transport};
use prost_types::Struct;

use super::Compiled;
use super::context::Context;
use super::locality::{self, Caller, Preference};
use super::policy::Policy;
use super::proto::{address, boolean, endpoint_address, structure, text};
use crate::registry::ServiceState;
use crate::registry::model::{Instance, Member, TlsMode};
use crate::registry::selects;
use crate::view::Class;

/// The endpoints of a cluster; `None` if it has none to be asked for.
pub(super) fn compile(context: &Context<'_>, cluster: &OutboundCluster) -> Option<Compiled> {
    let state = context.reached(&cluster.host, cluster.port)?;
    if !by_eds(context, state) {
        return None;
    }
    Some(Compiled::new(&assignment(context, state, cluster)?, Vec::new()))
}

/// Whether the endpoints of a service come by EDS.
pub(super) fn by_eds(context: &Context<'_>, state: &ServiceState) -> bool {
    match state.service.resolution {
        Resolution::Static => true,
        // gRPC programs see those alone whose endpoints all have addresses, and which are as good as static.
        Resolution::Dns | Resolution::DnsRoundRobin => context.view.class == Class::Grpc,
        Resolution::None => false,
    }
}

/// The endpoints of a port and subset.
pub(super) fn assignment<'a>(
    context: &Context<'a>,
    state: &'a ServiceState,
    cluster: &OutboundCluster,
) -> Option<ClusterLoadAssignment> {
    let port = state.service.port(cluster.port)?;
    let (policy, subset) = context.policy(state, cluster.port, &cluster.subset)?;
    let caller = Caller { locality: context.view.locality.as_ref(), labels: &context.view.labels };
    let preference = match preference(context, &policy) {
        // Who says nothing of it in a rule may have said it of the service.
        Preference::None if state.service.nearness == Nearness::Zone && !says_locality(&policy) => {
            Preference::Nearest(None)
        }
        preference => preference,
    };
    let mut localities: BTreeMap<(u32, &Locality), Vec<LbEndpoint>> = BTreeMap::new();
    let mut elsewhere: BTreeMap<(u32, &Locality, Gateways), Behind> = BTreeMap::new();
    for instance in context.instances(state) {
        let workload = &instance.member.workload;
        if subset.is_some_and(|s| !selects(&s.labels, &workload.labels)) {
            continue;
        }
        let Some(target) = state.service.target(port, instance) else { continue };
        let rank = preference.rank(caller, &workload.locality, &workload.labels);
        match way(context, &instance.member, target) {
            Some(Way::Direct(address)) => {
                let Some(endpoint) = endpoint(context, state, instance, (address, target)) else { continue };
                localities.entry((rank, &workload.locality)).or_default().push(endpoint);
            }
            Some(Way::Through(gateways)) => {
                let health = workload.health_for(&state.service.host, target);
                let behind = elsewhere.entry((rank, &workload.locality, gateways)).or_default();
                behind.push((health, workload.weight.max(1)));
            }
            None => {}
        }
    }
    for ((rank, locality, gateways), behind) in elsewhere {
        let group = localities.entry((rank, locality)).or_default();
        group.extend(gateways.into_iter().map(|gateway| through(gateway, &behind)));
    }
    warn_of_strict(context, state, cluster);
    let ranks: Vec<u32> = {
        let mut ranks: Vec<u32> = localities.keys().map(|(rank, _)| *rank).collect();
        ranks.dedup();
        ranks
    };
    let sums = localities.iter().map(|((_, locality), all)| {
        (*locality, all.iter().fold(0u32, |sum, e| sum.saturating_add(e.load_balancing_weight.unwrap_or(1))))
    });
    let sums: Vec<(&Locality, u32)> = sums.collect();
    let weights = match preference {
        Preference::Shares(shares) => locality::weights(shares, &sums),
        _ => sums.iter().map(|(_, sum)| Some(*sum)).collect(),
    };
    let endpoints = localities
        .into_iter()
        .zip(weights)
        // Where there are shares, who has none is left out.
        .filter_map(|(group, weight)| Some((group, weight?)))
        .map(|(((rank, locality), lb_endpoints), weight)| LocalityLbEndpoints {
            locality: Some(core::Locality {
                region: locality.region.clone(),
                zone: locality.zone.clone(),
                sub_zone: locality.sub_zone.clone(),
            }),
            load_balancing_weight: Some(weight),
            lb_endpoints,
            // Without a gap, whatever ranks there are.
            priority: ranks.iter().position(|r| *r == rank).unwrap_or_default() as u32,
        })
        .collect();
    Some(ClusterLoadAssignment { cluster_name: cluster.to_string(), endpoints, policy: None })
}

/// What of where endpoints are decides for callers of the view.
fn preference<'a>(context: &Context<'_>, policy: &Policy<'a>) -> Preference<'a> {
    let setting = policy.load_balancer.and_then(|lb| lb.locality_lb_setting.as_ref());
    let caller = Caller { locality: context.view.locality.as_ref(), labels: &context.view.labels };
    Preference::of(setting, policy.outlier.is_some(), caller)
}

/// Whether a rule says anything of localities.
fn says_locality(policy: &Policy<'_>) -> bool {
    policy.load_balancer.is_some_and(|lb| lb.locality_lb_setting.is_some())
}

/// Whether callers of the view have shares for localities.
pub(super) fn by_shares(context: &Context<'_>, policy: &Policy<'_>) -> bool {
    matches!(preference(context, policy), Preference::Shares(_))
}

/// How callers of the view get to an instance.
enum Way<'a> {
    /// By its address.
    Direct(&'a str),
    /// By one of the ways into its network.
    Through(Gateways),
}

type Gateways = Vec<(IpAddr, u16)>;
/// Health and weight of each instance that is behind a gateway.
type Behind = Vec<(Health, u32)>;

/// What is in the caller's network, or in that of all, is called by its address; what is behind gateways through one of them,
/// if they can lead it on: they look at the server name of mTLS.
fn way<'a>(context: &Context<'_>, member: &'a Member, target: u16) -> Option<Way<'a>> {
    let (addresses, own) = (&member.workload.addresses, context.view.network.as_str());
    let direct = member.address(own);
    if addresses.contains_key(own) || addresses.contains_key("") {
        return direct.map(Way::Direct);
    }
    let gateways = addresses.keys().map(|network| context.gateways(network)).find(|gateways| !gateways.is_empty());
    let Some(gateways) = gateways else { return direct.map(Way::Direct) };
    let led = is_mtls(context, member, target) && !is_tunnelled(context, member, target);
    (led && context.view.class != Class::Grpc).then_some(Way::Through(gateways))
}

/// A way into a network, for all that is behind it: it takes requests if something there does.
fn through((address, port): (IpAddr, u16), behind: &Behind) -> LbEndpoint {
    let best = behind.iter().map(|(health, _)| *health).min().unwrap_or_default();
    let weight = behind.iter().filter(|(health, _)| *health == best).fold(0u32, |sum, (_, w)| sum.saturating_add(*w));
    let mtls = structure([("tlsMode", text("istio"))]);
    LbEndpoint {
        health_status: status(best) as i32,
        // Who answers is one of the service's: which, the gateway decides.
        metadata: Some(core::Metadata {
            filter_metadata: [(metadata::TRANSPORT_SOCKET_MATCH.to_owned(), mtls)].into(),
        }),
        load_balancing_weight: Some(weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: endpoint_address(&address.to_string(), port),
            hostname: String::new(),
        })),
    }
}

fn status(health: Health) -> HealthStatus {
    match health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Degraded => HealthStatus::Degraded,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy => HealthStatus::Unhealthy,
    }
}

fn endpoint(
    context: &Context<'_>,
    state: &ServiceState,
    instance: &Instance,
    (dialled, target): (&str, u16),
) -> Option<LbEndpoint> {
    let member = &instance.member;
    let by_name = state.service.is_looked_up() && context.view.class != Class::Grpc;
    // Ours speaks TCP alone.
    if context.is_hawser() && dialled.starts_with("unix://") {
        return None;
    }
    let at = match endpoint_address(dialled, target) {
        Some(at) => at,
        None if by_name => address(dialled, target),
        None => return None,
    };
    let health = member.workload.health_for(&state.service.host, target);
    if context.view.class == Class::Grpc && (health != Health::Healthy || strict(member, target)) {
        return None;
    }
    Some(LbEndpoint {
        health_status: status(health) as i32,
        metadata: describe(context, member, target),
        load_balancing_weight: Some(member.workload.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address: Some(at), hostname: String::new() })),
    })
}

fn describe(context: &Context<'_>, member: &Member, target: u16) -> Option<core::Metadata> {
    if context.view.class == Class::Grpc {
        return None;
    }
    let mut all: BTreeMap<String, Struct> = BTreeMap::new();
    let workload = &member.workload;
    all.insert(metadata::ISTIO.to_owned(), structure([("workload", text(istio_workload(member)))]));
    let mtls = is_mtls(context, member, target);
    if mtls {
        all.insert(metadata::TRANSPORT_SOCKET_MATCH.to_owned(), structure([("tlsMode", text("istio"))]));
    }
    if context.is_hawser() {
        let mut fields = Vec::new();
        if let Some(identity) = workload.identity.as_ref().filter(|_| mtls) {
            fields.push(("identity", text(identity.as_str())));
        }
        if mtls && is_tunnelled(context, member, target) {
            fields.push((metadata::TUNNEL, text(metadata::TUNNEL_HBONE)));
        }
        if workload.hawser {
            fields.push(("h2", boolean(true)));
        }
        if let Some(instance) = &workload.instance {
            fields.push(("host", text(&*instance.instance_id)));
        }
        if !fields.is_empty() {
            all.insert(metadata::HAWSER.to_owned(), structure(fields));
        }
    }
    Some(core::Metadata { filter_metadata: all })
}

/// Whether callers of the view call a port with mTLS.
fn is_mtls(context: &Context<'_>, member: &Member, target: u16) -> bool {
    !context.view.plaintext
        && match member.transport(target) {
            Transport::Plaintext => false,
            Transport::Mtls => true,
            // Who can't tunnel calls in plaintext, unless there is a sidecar beside the tunnel.
            Transport::Hbone => {
                let mode = member.workload.labels.get(labels::TLS_MODE);
                context.is_hawser() || mode.is_some_and(|mode| mode == "istio")
            }
        }
}

/// Whether they do so through HBONE.
fn is_tunnelled(context: &Context<'_>, member: &Member, target: u16) -> bool {
    context.is_hawser() && member.transport(target) == Transport::Hbone
}

/// `name;namespace;canonical name;revision;cluster`.
pub(super) fn istio_workload(member: &Member) -> String {
    let labels = &member.workload.labels;
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).cloned();
    let key = &member.id.key;
    let own = match member.id.registry.kind {
        // There the name among all workloads also says what it is.
        RegistryKind::Kubernetes => &member.workload.key.name,
        _ => &key.name,
    };
    let name = member.workload.group.clone().unwrap_or_else(|| own.to_string());
    let canonical = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    let (canonical, revision) = (canonical.unwrap_or_else(|| name.clone()), revision.unwrap_or("latest".to_owned()));
    format!("{name};{};{canonical};{revision};", key.namespace)
}

/// Whether a caller without certificates gets nothing there.
fn strict(member: &Member, target: u16) -> bool {
    member.workload.transport != Transport::Plaintext && member.modes.of(target) == TlsMode::Strict
}

/// A client without certificates finds no instance that takes mTLS only, and nobody would tell it why.
fn warn_of_strict<'a>(context: &Context<'a>, state: &'a ServiceState, cluster: &OutboundCluster) {
    if context.view.class != Class::Grpc {
        return;
    }
    let Some(port) = state.service.port(cluster.port) else { return };
    let strict = context
        .instances(state)
        .iter()
        .filter(|i| state.service.target(port, i).is_some_and(|target| strict(&i.member, target)));
    let count = strict.count();
    if count > 0 {
        tracing::warn!(%cluster, count, "gRPC clients without a proxy get no endpoints that take mTLS only");
    }
}
