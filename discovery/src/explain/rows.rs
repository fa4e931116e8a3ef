//! What a proxy is given, one kind of it, in rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::hostname::Hostname;
use hawser_api::names::{OutboundCluster, SECRET_DEFAULT, SECRET_ROOT};
use hawser_api::proto::admin::{ObjectRef, ProxyConfigRow};
use hawser_api::proto::cluster::Cluster;
use hawser_api::proto::listener::Listener;
use hawser_api::proto::route::RouteConfiguration;
use hawser_xds::{Source as _, TypeUrl};

use super::resource::{Serves, get, tunnel};
use super::upstream::{describe, foreign_tls, targets, tls};
use super::words::{action, chain_match, route_match, shares};
use super::{callee, find, reference};
use crate::ads::Asked;
use crate::compiler::Sight;
use crate::registry::model::Member;
use crate::registry::{ServiceState, Snapshot};
use crate::view::Client;

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Filter chains of its listeners.
    Listeners,
    /// Routes of its virtual hosts.
    Routes,
    /// Clusters.
    Clusters,
    /// Endpoints of its clusters.
    Endpoints,
    /// Certificates and roots that its configuration names.
    Secrets,
    /// What its own ports take, and from whom.
    Policies,
}

impl std::str::FromStr for Kind {
    type Err = super::Unexplained;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "listeners" => Self::Listeners,
            "routes" => Self::Routes,
            "clusters" => Self::Clusters,
            "endpoints" => Self::Endpoints,
            "secrets" => Self::Secrets,
            "policies" => Self::Policies,
            _ => return Err(super::Unexplained::Invalid(format!("{text:?} is no kind of configuration"))),
        })
    }
}

/// The rows of a client, which asked for these names and whose workload is `member`.
pub fn rows(
    kind: Kind,
    sight: &Sight<'_>,
    snapshot: &Snapshot,
    client: &Client,
    asked: &Asked,
    member: Option<&Arc<Member>>,
) -> Vec<ProxyConfigRow> {
    let reader = Reader { sight, snapshot, client, names: names(sight, asked) };
    match kind {
        Kind::Listeners => reader.listeners(),
        Kind::Routes => reader.routes(),
        Kind::Clusters => reader.clusters(),
        Kind::Endpoints => reader.endpoints(),
        Kind::Secrets => secrets(member),
        Kind::Policies => policies(snapshot, member),
    }
}

/// All names that it holds: what it asked for, what comes with that, and what a wildcard lists.
fn names(sight: &Sight<'_>, asked: &Asked) -> Asked {
    let mut all: Asked = BTreeMap::new();
    for (ty, names) in asked {
        let listed = sight.names(ty);
        for name in names.iter().chain(&listed) {
            all.entry(ty.clone()).or_default().insert(name.clone());
            for (ty, name) in sight.closure(ty, name) {
                all.entry(ty).or_default().insert(name);
            }
        }
    }
    all
}

struct Reader<'a> {
    sight: &'a Sight<'a>,
    snapshot: &'a Snapshot,
    client: &'a Client,
    names: Asked,
}

impl Reader<'_> {
    fn all<M: prost::Message + Default>(&self, ty: &TypeUrl) -> Vec<M> {
        self.names.get(ty).into_iter().flatten().filter_map(|name| get(self.sight, ty, name)).collect()
    }

    fn listeners(&self) -> Vec<ProxyConfigRow> {
        let mut rows = Vec::new();
        for listener in self.all::<Listener>(&TypeUrl::LISTENER) {
            for chain in listener.filter_chains.iter().chain(&listener.default_filter_chain) {
                let to = match Serves::of(chain) {
                    Serves::Http(routes, _) => format!("routes {routes}"),
                    Serves::Tcp(to) => shares(&to),
                    Serves::Other => String::new(),
                };
                rows.push(ProxyConfigRow {
                    name: listener.name.clone(),
                    r#match: chain_match(chain.filter_chain_match.as_ref()),
                    to,
                    detail: match tunnel(chain) {
                        Some(tunnel) => tunnel,
                        None if chain.transport_socket.is_some() => "mTLS".to_owned(),
                        None => String::new(),
                    },
                    decided_by: Vec::new(),
                });
            }
        }
        rows
    }

    fn routes(&self) -> Vec<ProxyConfigRow> {
        let settings = &self.snapshot.settings;
        let scope = self.snapshot.rules.scope(&self.client.namespace, &self.client.labels, settings);
        let mut rows = Vec::new();
        for table in self.all::<RouteConfiguration>(&TypeUrl::ROUTE) {
            for host in &table.virtual_hosts {
                let named = host.name.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?)));
                let found = named
                    .and_then(|(name, port): (&str, u16)| Some((self.service(&name.parse::<Hostname>().ok()?)?, port)));
                let rule = found.and_then(|(state, port)| {
                    let caller = (&*self.client.namespace, scope.as_deref());
                    state.virtual_service(caller, port, &settings.domain, |rule| !rule.http.is_empty())
                });
                let decided_by: Vec<ObjectRef> = rule.map(|(object, _)| reference(object)).into_iter().collect();
                rows.extend(host.routes.iter().map(|route| ProxyConfigRow {
                    name: table.name.clone(),
                    r#match: format!(
                        "{}: {}",
                        host.domains.first().map_or("", String::as_str),
                        route_match(route.r#match.as_ref())
                    ),
                    to: action(route),
                    detail: route.name.clone(),
                    decided_by: decided_by.clone(),
                }));
            }
        }
        rows
    }

    /// A service as the client has it.
    fn service(&self, host: &Hostname) -> Option<&ServiceState> {
        find::counting(self.snapshot, self.client, self.snapshot.definitions(host))
    }

    fn clusters(&self) -> Vec<ProxyConfigRow> {
        let row = |cluster: Cluster| {
            let parsed = OutboundCluster::parse(&cluster.name);
            let state = parsed.as_ref().and_then(|parsed| self.service(&parsed.host));
            let root = &self.snapshot.settings.root_namespace;
            let rule = state.and_then(|state| {
                let (namespace, labels) = (&self.client.namespace, &self.client.labels);
                state.rules.destination_by_name(namespace, labels, &state.service.namespace, root)
            });
            ProxyConfigRow {
                r#match: describe(&cluster),
                to: format!("{} endpoints", targets(self.sight, &cluster, state).len()),
                detail: tls(&cluster),
                decided_by: rule.map(|(object, _)| reference(object)).into_iter().collect(),
                name: cluster.name,
            }
        };
        self.all::<Cluster>(&TypeUrl::CLUSTER).into_iter().map(row).collect()
    }

    fn endpoints(&self) -> Vec<ProxyConfigRow> {
        let mut rows = Vec::new();
        for cluster in self.all::<Cluster>(&TypeUrl::CLUSTER) {
            let parsed = OutboundCluster::parse(&cluster.name);
            let state = parsed.and_then(|parsed| self.service(&parsed.host));
            for target in targets(self.sight, &cluster, state) {
                let mut detail = vec![target.health.to_owned(), format!("weight {}", target.weight)];
                detail.extend((target.priority > 0).then(|| format!("priority {}", target.priority)));
                detail.extend((!target.locality.is_empty()).then(|| target.locality.clone()));
                let spoken = match target.mtls {
                    true => "mTLS",
                    false if foreign_tls(&cluster) => "TLS",
                    false => "plaintext",
                };
                detail.push(spoken.to_owned());
                detail.extend((!target.identity.is_empty()).then(|| target.identity.clone()));
                rows.push(ProxyConfigRow {
                    name: cluster.name.clone(),
                    r#match: target.place(),
                    to: target.member.as_ref().map(|m| m.workload.key.to_string()).unwrap_or_default(),
                    detail: detail.join(", "),
                    decided_by: Vec::new(),
                });
            }
        }
        rows
    }
}

/// What they are is known here; keys and certificates are with the host.
fn secrets(member: Option<&Arc<Member>>) -> Vec<ProxyConfigRow> {
    let identity = member.and_then(|m| m.workload.identity.as_ref()).map(ToString::to_string).unwrap_or_default();
    let row = |name: &str, what: &str, to: String| ProxyConfigRow {
        name: name.to_owned(),
        r#match: what.to_owned(),
        to,
        detail: "from the host's agent, over the same stream".to_owned(),
        decided_by: Vec::new(),
    };
    vec![
        row(SECRET_ROOT, "roots that peers are checked against", String::new()),
        row(SECRET_DEFAULT, "certificate and key, both sides", identity),
    ]
}

fn policies(snapshot: &Snapshot, member: Option<&Arc<Member>>) -> Vec<ProxyConfigRow> {
    let Some(member) = member else { return Vec::new() };
    let workload = &member.workload;
    let mut ports: BTreeMap<u16, &str> = workload.ports.iter().map(|(name, port)| (*port, name.as_str())).collect();
    for port in member.modes.ports.keys() {
        ports.entry(*port).or_default();
    }
    let mut rows: Vec<ProxyConfigRow> = (ports.iter())
        .map(|(port, name)| {
            let decided = snapshot.rules.mode_decided_by(&workload.key.namespace, &workload.labels, *port);
            ProxyConfigRow {
                name: port.to_string(),
                r#match: (*name).to_owned(),
                to: format!("{:?}", member.modes.of(*port)).to_uppercase(),
                detail: "mTLS".to_owned(),
                decided_by: decided.map(reference).into_iter().collect(),
            }
        })
        .collect();
    rows.extend(callee::selecting(snapshot, member).into_iter().map(|policy| ProxyConfigRow {
        name: "all".to_owned(),
        r#match: "calls".to_owned(),
        to: policy.kind.clone(),
        detail: "authorization".to_owned(),
        decided_by: vec![policy],
    }));
    rows
}
