//! Sidecars: which services a workload sees, what becomes of addresses that none has, what it takes in.
//!
//! In: Sidecars of namespaces. Out: the one that counts for a workload, read once. Invariant: one that names labels goes before
//! one that is for all, the oldest before others, a namespace's own before the root namespace's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hawser_api::istio::destination_rule::ConnectionPoolSettings;
use hawser_api::istio::sidecar::{CaptureMode, IstioEgressListener, IstioIngressListener, OutboundMode, SidecarPort};
use hawser_api::istio::{ObjectRef, Sidecar, Spec, VirtualService};
use hawser_mesh::{Hostname, Protocol};
use parking_lot::Mutex;

use super::{Named, age, resolve};
use crate::registry::Settings;
use crate::registry::merge::selects;
use crate::registry::model::Service;

/// What a Sidecar leaves of the mesh. Equal ones are one value of a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Whose word it is.
    pub object: ObjectRef,
    egress: Vec<Egress>,
    /// What becomes of addresses that no service has; the mesh's settings decide if it is absent.
    pub unknown: Option<Unknown>,
}

impl Hash for Scope {
    /// By its name alone: views are looked up for every client at every change.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.object.hash(state);
    }
}

/// What becomes of calls to what no service has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unknown {
    /// They go on to where they were going.
    Passed,
    /// They end here.
    Blocked,
    /// They go to this service.
    Sent {
        /// Its name.
        host: Hostname,
        /// Its port.
        port: u16,
        /// The subset, if it has a name.
        subset: String,
    },
}

/// Services that are seen at a port, or at all that are not named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Egress {
    port: Option<u16>,
    hosts: Vec<Wanted>,
    excluded: Vec<Wanted>,
    /// It is a listener that proxies bind, and nothing is captured for it.
    bound: Option<Bound>,
}

/// A listener that applications call by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Bound {
    at: SocketAddr,
    protocol: Protocol,
}

/// Hosts of a namespace, or of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Wanted {
    namespace: Option<String>,
    /// All, if absent.
    host: Option<Hostname>,
}

impl Scope {
    /// Whether a service is seen at any of its ports, whichever way.
    pub fn sees(&self, service: &Service) -> bool {
        let bound = || self.egress.iter().filter(|egress| egress.bound.is_some());
        service.ports.iter().any(|port| {
            self.admits(service, port.port) || bound().any(|e| e.port == Some(port.port) && e.takes(service))
        })
    }

    /// How many parts of `egress` there are.
    pub(in crate::registry) fn parts(&self) -> usize {
        self.egress.len()
    }

    /// Whether a part takes a service at any of its ports.
    pub(in crate::registry) fn part_takes(&self, part: usize, service: &Service) -> bool {
        self.egress.get(part).is_some_and(|egress| egress.takes_some(service))
    }

    /// Whether a part brings a service's port: a part with a port brings that one alone.
    pub fn brings(&self, service: &Service, port: u16) -> bool {
        self.egress.iter().any(|egress| egress.is_for(port) && egress.takes(service))
    }

    /// Whether a part that takes `reader`, whose routes lead to those ports of another service, brings a port of that one.
    pub fn infers(&self, reader: &Service, ports: &BTreeSet<Option<u16>>, port: u16) -> bool {
        let led = ports.contains(&None) || ports.contains(&Some(port));
        let brings = |egress: &&Egress| egress.port == Some(port) || egress.port.is_none() && led;
        self.egress.iter().filter(brings).any(|egress| egress.takes_some(reader))
    }

    /// Listeners that proxies bind for calls, in the order of the Sidecar.
    pub fn bound(&self) -> impl Iterator<Item = SocketAddr> {
        self.egress.iter().filter_map(|egress| Some(egress.bound?.at))
    }

    /// What such a listener speaks.
    pub fn speaks(&self, at: SocketAddr) -> Option<Protocol> {
        self.at(at).and_then(|egress| Some(egress.bound?.protocol))
    }

    /// Whether it leads to a service.
    pub fn leads(&self, at: SocketAddr, service: &Service) -> bool {
        self.at(at).is_some_and(|egress| egress.takes(service))
    }

    fn at(&self, at: SocketAddr) -> Option<&Egress> {
        self.egress.iter().find(|egress| egress.bound.is_some_and(|bound| bound.at == at))
    }

    /// Whether routes that a namespace has for some hosts count for calls to a service's port: those that the part names by which
    /// the port is seen.
    pub fn routes(&self, service: &Service, port: u16, namespace: &str, hosts: &[Hostname]) -> bool {
        let named = self.egress.iter().find(|egress| egress.port == Some(port) && egress.takes(service));
        let seen = named.or_else(|| self.egress.iter().find(|egress| egress.port.is_none() && egress.takes(service)));
        seen.is_some_and(|egress| egress.routes(namespace, hosts))
    }

    /// The same of a VirtualService.
    pub fn counts(
        &self,
        service: &Service,
        port: u16,
        (object, rule): (&ObjectRef, &VirtualService),
        domain: &str,
    ) -> bool {
        let hosts = rule.hosts.iter().filter_map(|host| resolve(host, &object.namespace, domain));
        self.routes(service, port, &object.namespace, &hosts.collect::<Vec<_>>())
    }

    /// Whether a service is seen at a port, by calls that are captured.
    pub fn admits(&self, service: &Service, port: u16) -> bool {
        let Some(declared) = service.port(port) else { return false };
        let named = self.egress.iter().find(|egress| egress.port == Some(port));
        let rest = || self.egress.iter().filter(|egress| egress.port.is_none()).any(|egress| egress.takes(service));
        match named {
            // Only who calls it by itself comes to it.
            Some(named) if named.bound.is_some() => rest() && (named.takes(service) || !declared.protocol.is_http()),
            // What is HTTP shares one listener, which who names the port has for himself.
            Some(named) => named.takes(service) || !declared.protocol.is_http() && rest(),
            None => rest(),
        }
    }
}

impl Egress {
    fn new(listener: &IstioEgressListener, namespace: &str) -> Self {
        let port = listener.port.as_ref().and_then(|port| port.number.number());
        let bound = port.filter(|_| listener.capture_mode == CaptureMode::None).and_then(|port| {
            // As in Istio: what nobody else can reach, unless somebody says so.
            let ip = if listener.bind.is_empty() { Ipv4Addr::LOCALHOST.into() } else { listener.bind.parse().ok()? };
            Some(Bound { at: SocketAddr::new(ip, port), protocol: listener.port.as_ref().map(spoken)? })
        });
        let mut made = Self { port, hosts: Vec::new(), excluded: Vec::new(), bound };
        for text in &listener.hosts {
            let Some((of, host)) = text.split_once('/') else { continue };
            let (excluded, of) = match of.strip_prefix('~') {
                Some("") => (true, "*"),
                Some(of) => (true, of),
                None => (false, of),
            };
            let namespace = match of {
                "*" => None,
                "." => Some(namespace.to_owned()),
                of => Some(of.to_owned()),
            };
            let host = match host {
                "*" => None,
                host => match host.parse() {
                    Ok(host) => Some(host),
                    Err(_) => continue,
                },
            };
            if excluded { &mut made.excluded } else { &mut made.hosts }.push(Wanted { namespace, host });
        }
        made
    }

    /// Whether it names one of the hosts of routes of a namespace; wildcards of both sides count, as in Istio.
    fn routes(&self, namespace: &str, hosts: &[Hostname]) -> bool {
        let of = |wanted: &&Wanted| wanted.namespace.as_deref().is_none_or(|of| of == namespace);
        let fits = |wanted: &Wanted, host: &Hostname| {
            wanted.host.as_ref().is_none_or(|w| w == host || w.matches(host) || host.matches(w))
        };
        let left_out =
            |wanted: &Wanted, host: &Hostname| wanted.host.as_ref().is_none_or(|w| w == host || w.matches(host));
        hosts.iter().any(|host| {
            self.hosts.iter().filter(of).any(|wanted| fits(wanted, host))
                && !self.excluded.iter().filter(of).any(|wanted| left_out(wanted, host))
        })
    }

    /// Whether it is about calls to that port.
    fn is_for(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Whether it takes a service at one of its ports.
    fn takes_some(&self, service: &Service) -> bool {
        service.ports.iter().any(|port| self.is_for(port.port)) && self.takes(service)
    }

    fn takes(&self, service: &Service) -> bool {
        let fits = |wanted: &Wanted| {
            wanted.namespace.as_deref().is_none_or(|namespace| *namespace == *service.namespace)
                && wanted.host.as_ref().is_none_or(|host| host == &service.host || host.matches(&service.host))
        };
        !self.excluded.iter().any(fits) && self.hosts.iter().any(fits)
    }
}

/// What a port of a Sidecar speaks.
pub(crate) fn spoken(port: &SidecarPort) -> Protocol {
    match port.protocol.as_str() {
        "" => Protocol::from_port_name(&port.name),
        protocol => protocol.parse().unwrap_or_default(),
    }
}

type Scopes = HashMap<(ObjectRef, String), Option<Arc<Scope>>>;
/// The most that is kept of what was read: clients say themselves which namespace they are of.
const MOST: usize = 10_000;

/// All Sidecars.
#[derive(Debug, Default)]
pub(super) struct Sidecars {
    namespaces: HashMap<String, Vec<Named>>,
    /// What was read of them, by Sidecar and namespace: once for all clients, as long as the rules stand.
    scopes: Mutex<Scopes>,
}

impl PartialEq for Sidecars {
    fn eq(&self, other: &Self) -> bool {
        self.namespaces == other.namespaces
    }
}

impl Sidecars {
    pub(super) fn add(&mut self, named: Named) {
        self.namespaces.entry(named.0.namespace.clone()).or_default().push(named);
    }

    pub(super) fn sort(&mut self) {
        let for_all = |named: &Named| read(named).is_none_or(|sidecar| sidecar.workload_selector.is_none());
        for list in self.namespaces.values_mut() {
            list.sort_by(|a, b| (for_all(a), age(a)).cmp(&(for_all(b), age(b))));
        }
    }

    /// What is to be said to those that never count.
    pub(super) fn losers(&self) -> impl Iterator<Item = (&ObjectRef, String)> {
        self.namespaces.values().flat_map(|list| {
            let mut all = list.iter().filter(|n| read(n).is_some_and(|sidecar| sidecar.workload_selector.is_none()));
            let winner = all.next();
            all.filter_map(move |named| {
                let winner = &winner?.0;
                Some((
                    &named.0,
                    format!(
                        "{} is for all workloads of the namespace already, and is older or first by name",
                        winner.name
                    ),
                ))
            })
        })
    }

    /// The one that counts for a workload.
    pub(super) fn of(&self, namespace: &str, labels: &BTreeMap<String, String>, root: &str) -> Option<&Named> {
        let chosen = |named: &&Named| {
            let selector = read(named).and_then(|sidecar| sidecar.workload_selector.as_ref());
            selector.is_none_or(|selector| selects(&selector.labels, labels))
        };
        let for_all = |named: &&Named| read(named).is_some_and(|sidecar| sidecar.workload_selector.is_none());
        let own = self.namespaces.get(namespace).into_iter().flatten().find(chosen);
        own.or_else(|| self.namespaces.get(root).into_iter().flatten().find(for_all))
    }

    /// What it leaves of the mesh.
    pub(super) fn scope(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        settings: &Settings,
    ) -> Option<Arc<Scope>> {
        let named = self.of(namespace, labels, &settings.root_namespace)?;
        let key = (named.0.clone(), namespace.to_owned());
        let mut scopes = self.scopes.lock();
        if scopes.len() >= MOST && !scopes.contains_key(&key) {
            scopes.clear();
        }
        scopes.entry(key).or_insert_with(|| Self::read_scope(named, namespace, settings)).clone()
    }

    fn read_scope(named: &Named, namespace: &str, settings: &Settings) -> Option<Arc<Scope>> {
        let sidecar = read(named)?;
        let mut egress: Vec<Egress> = sidecar.egress.iter().map(|listener| Egress::new(listener, namespace)).collect();
        if egress.is_empty() {
            let all = Wanted { namespace: None, host: None };
            egress.push(Egress { port: None, hosts: vec![all], excluded: Vec::new(), bound: None });
        }
        let unknown =
            sidecar.outbound_traffic_policy.as_ref().map(|policy| match (policy.mode, &policy.egress_proxy) {
                (Some(OutboundMode::AllowAny), None) => Unknown::Passed,
                (Some(OutboundMode::AllowAny), Some(to)) => match resolve(&to.host, namespace, &settings.domain) {
                    Some(host) => {
                        let port = to.port.as_ref().and_then(|port| port.number.number()).unwrap_or_default();
                        Unknown::Sent { host, port, subset: to.subset.clone() }
                    }
                    None => Unknown::Blocked,
                },
                _ => Unknown::Blocked,
            });
        Some(Arc::new(Scope { object: named.0.clone(), egress, unknown }))
    }
}

/// What a workload takes in, as its Sidecar says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intake<'a> {
    /// Ports in place of those that are declared elsewhere; none, if those count.
    pub ports: &'a [IstioIngressListener],
    pool: Option<&'a ConnectionPoolSettings>,
}

impl<'a> Intake<'a> {
    pub(super) fn of(named: Option<&'a Named>) -> Self {
        let Some(sidecar) = named.and_then(read) else { return Self::default() };
        Self { ports: &sidecar.ingress, pool: sidecar.inbound_connection_pool.as_ref() }
    }

    /// What is said of a port.
    pub fn port(&self, number: u16) -> Option<&'a IstioIngressListener> {
        let of = |listener: &&IstioIngressListener| {
            listener.port.as_ref().is_some_and(|port| port.number.number() == Some(number))
        };
        self.ports.iter().find(of)
    }

    /// Listeners that the proxy of a workload binds for what comes in: at the workload's own address, unless another is named.
    pub fn bound(&self, own: Option<IpAddr>) -> impl Iterator<Item = SocketAddr> {
        let bound = self.ports.iter().filter(|listener| listener.capture_mode == CaptureMode::None);
        bound.filter_map(move |listener| {
            let ip = if listener.bind.is_empty() { own } else { listener.bind.parse().ok() };
            Some(SocketAddr::new(ip?, listener.port.as_ref()?.number.number()?))
        })
    }

    /// Limits of what comes in at a port.
    pub fn pool(&self, number: u16) -> Option<&'a ConnectionPoolSettings> {
        self.port(number).and_then(|listener| listener.connection_pool.as_ref()).or(self.pool)
    }
}

fn read(named: &Named) -> Option<&Sidecar> {
    match &named.1.spec {
        Spec::Sidecar(sidecar) => Some(sidecar),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::istio::parse_documents;
    use hawser_mesh::{Location, Protocol, Resolution, ServicePort};

    use super::*;

    fn sidecars(text: &str) -> Sidecars {
        let mut all = Sidecars::default();
        for parsed in parse_documents("a.yaml", text) {
            let resource = Arc::new(parsed.unwrap().resource);
            all.add((resource.object_ref(), resource));
        }
        all.sort();
        all
    }

    fn sidecar(namespace: &str, name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        )
    }

    fn service(host: &str, namespace: &str, ports: &[(u16, Protocol)]) -> Service {
        let port = |(port, protocol): &(u16, Protocol)| ServicePort {
            name: format!("p{port}"),
            port: *port,
            protocol: *protocol,
            target_port: *port,
        };
        Service {
            host: host.parse().unwrap(),
            namespace: namespace.into(),
            name: "a".into(),
            ports: ports.iter().map(port).collect(),
            addresses: Vec::new(),
            virtual_addresses: Vec::new(),
            resolution: Resolution::Static,
            location: Location::Internal,
            export_to: Vec::new(),
            subject_alt_names: Vec::new(),
            labels: BTreeMap::new(),
            nearness: hawser_mesh::Nearness::default(),
            aliases: Vec::new(),
            sources: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    fn settings() -> Settings {
        Settings::new("cluster.local".parse().unwrap())
    }

    fn scope(egress: &str) -> Arc<Scope> {
        let all = sidecars(&sidecar("default", "a", &format!("{{egress: [{egress}]}}")));
        all.scope("default", &BTreeMap::new(), &settings()).unwrap()
    }

    #[test]
    fn the_narrowest_and_oldest_counts_and_the_root_namespaces_is_for_all_that_have_none() {
        let text = [
            sidecar("default", "b-all", "{egress: [{hosts: ['b/*']}]}"),
            sidecar("default", "a-all", "{egress: [{hosts: ['a/*']}]}"),
            sidecar("default", "z-some", "{workloadSelector: {labels: {app: x}}, egress: [{hosts: ['z/*']}]}"),
            sidecar("istio-system", "root", "{egress: [{hosts: ['./*']}]}"),
            sidecar("istio-system", "a-some", "{workloadSelector: {labels: {app: x}}, egress: [{hosts: ['q/*']}]}"),
        ];
        let all = sidecars(&text.concat());
        let labels = |app: &str| BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let of = |namespace: &str, app: &str| {
            all.scope(namespace, &labels(app), &settings()).map(|scope| scope.object.name.clone())
        };
        assert_eq!(of("default", "x").as_deref(), Some("z-some"));
        assert_eq!(of("default", "y").as_deref(), Some("a-all"));
        assert_eq!(of("other", "x").as_deref(), Some("root"));
        assert_eq!(of("istio-system", "x").as_deref(), Some("a-some"));
        let losers: Vec<_> = all.losers().map(|(object, _)| object.name.clone()).collect();
        assert_eq!(losers, ["b-all"]);
        // A dot is the namespace of the workload, whoever says it.
        let seen = all.scope("other", &labels("y"), &settings()).unwrap();
        assert!(seen.sees(&service("a.test", "other", &[(80, Protocol::Http)])));
        assert!(!seen.sees(&service("a.test", "istio-system", &[(80, Protocol::Http)])));
    }

    #[test]
    fn hosts_are_told_by_namespace_and_name() {
        let web = |host: &str, namespace: &str| service(host, namespace, &[(80, Protocol::Http)]);
        let seen = scope("{hosts: ['./*', 'shared/*.example.com', '*/one.example.org']}");
        for (host, namespace, is) in [
            ("x.test", "default", true),
            ("x.test", "shared", false),
            ("a.example.com", "shared", true),
            ("*.example.com", "shared", true),
            ("a.example.com", "other", false),
            ("one.example.org", "anywhere", true),
            ("two.example.org", "anywhere", false),
        ] {
            assert_eq!(seen.sees(&web(host, namespace)), is, "{host} of {namespace}");
        }
        assert!(!scope("{hosts: ['~/*']}").sees(&web("a.test", "default")));
    }

    #[test]
    fn a_port_that_is_named_is_of_those_that_it_names() {
        let seen = scope("{port: {number: 80, protocol: HTTP, name: http}, hosts: ['a/*']}, {hosts: ['b/*']}");
        let both = [(80, Protocol::Http), (81, Protocol::Http)];
        let admitted = |namespace: &str| {
            let service = service("x.test", namespace, &both);
            (seen.admits(&service, 80), seen.admits(&service, 81))
        };
        assert_eq!(admitted("a"), (true, false));
        assert_eq!(admitted("b"), (false, true));
        // What is not HTTP has listeners of its own addresses.
        assert!(seen.admits(&service("x.test", "b", &[(80, Protocol::Tcp)]), 80));
    }

    #[test]
    fn a_part_with_a_port_brings_that_one_alone() {
        let named = "{port: {number: 80, protocol: HTTP, name: http}, hosts: ['a/*']}";
        let both = service("x.test", "a", &[(80, Protocol::Http), (81, Protocol::Http)]);
        let (only, all) = (scope(named), scope(&format!("{named}, {{hosts: ['a/*']}}")));
        assert!(only.brings(&both, 80) && !only.brings(&both, 81));
        assert!(all.brings(&both, 80) && all.brings(&both, 81));
        assert!(!only.part_takes(0, &service("y.test", "a", &[(81, Protocol::Http)])), "it has no such port");
        // What routes of a service lead to comes along: of the part's own port, else of the ports they name.
        let ports = |all: &[Option<u16>]| all.iter().copied().collect::<BTreeSet<Option<u16>>>();
        assert!(only.infers(&both, &ports(&[None]), 80) && !only.infers(&both, &ports(&[Some(90)]), 90));
        let rest = scope("{hosts: ['a/*']}");
        assert!(rest.infers(&both, &ports(&[Some(90)]), 90) && !rest.infers(&both, &ports(&[Some(90)]), 91));
        assert!(rest.infers(&both, &ports(&[Some(90), None]), 91), "whatever it is called at");
        assert!(!rest.infers(&service("y.test", "b", &[(80, Protocol::Http)]), &ports(&[None]), 80), "not named");
    }

    #[test]
    fn a_listener_that_is_bound_is_reached_by_itself_alone() {
        let port = |more: &str| format!("{{port: {{number: 80, protocol: HTTP, name: http}}, hosts: ['a/*']{more}}}");
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let only = scope(&port(", captureMode: NONE"));
        let service = service("x.test", "a", &[(80, Protocol::Http)]);
        assert_eq!(only.bound().collect::<Vec<_>>(), [at("127.0.0.1:80")], "nobody else reaches it");
        assert_eq!(only.speaks(at("127.0.0.1:80")), Some(Protocol::Http));
        assert!(only.sees(&service) && only.leads(at("127.0.0.1:80"), &service));
        assert!(!only.admits(&service, 80), "what is captured does not come there");
        let both = scope(&format!("{}, {{hosts: ['*/*']}}", port(", captureMode: NONE, bind: 0.0.0.0")));
        assert_eq!(both.bound().collect::<Vec<_>>(), [at("0.0.0.0:80")]);
        assert!(both.admits(&service, 80), "and it is seen besides");
        assert_eq!(scope(&port("")).bound().count(), 0);
    }

    #[test]
    fn routes_count_by_the_namespace_that_they_are_in_and_the_hosts_that_they_name() {
        let service = service("x.example.com", "a", &[(80, Protocol::Http), (81, Protocol::Http)]);
        let counts = |egress: &str, port: u16, namespace: &str, hosts: &[&str]| {
            let hosts: Vec<Hostname> = hosts.iter().map(|host| host.parse().unwrap()).collect();
            scope(egress).routes(&service, port, namespace, &hosts)
        };
        let own = "{hosts: ['a/*']}";
        assert!(counts(own, 80, "a", &["x.example.com"]));
        assert!(!counts(own, 80, "default", &["x.example.com"]), "routes of a namespace that is not named");
        assert!(counts("{hosts: ['a/*', './x.example.com']}", 80, "default", &["x.example.com"]));
        assert!(counts("{hosts: ['*/*']}", 80, "anywhere", &["x.example.com"]));
        // A host besides is enough, and wildcards of either side.
        assert!(counts("{hosts: ['a/x.example.com']}", 80, "a", &["y.test", "x.example.com"]));
        assert!(counts("{hosts: ['a/x.example.com']}", 80, "a", &["*.example.com"]));
        assert!(counts("{hosts: ['a/*.example.com']}", 80, "a", &["x.example.com"]));
        // A port has those of its own listener.
        let apart = "{port: {number: 80, protocol: HTTP, name: http}, hosts: ['a/*', 'default/*']}, {hosts: ['a/*']}";
        assert!(counts(apart, 80, "default", &["x.example.com"]));
        assert!(!counts(apart, 81, "default", &["x.example.com"]));
    }

    #[test]
    fn what_a_sidecar_says_is_read_once() {
        let all = sidecars(&sidecar("istio-system", "a", "{egress: [{hosts: ['./*']}]}"));
        let of = |namespace: &str| all.scope(namespace, &BTreeMap::new(), &settings()).unwrap();
        assert!(Arc::ptr_eq(&of("one"), &of("one")));
        assert_ne!(of("one"), of("two"), "a dot is another namespace");
    }

    #[test]
    fn unknown_addresses_are_as_the_sidecar_says_or_as_the_mesh_does() {
        let of = |policy: &str| {
            let all = sidecars(&sidecar("default", "a", &format!("{{egress: [{{hosts: ['*/*']}}]{policy}}}")));
            all.scope("default", &BTreeMap::new(), &settings()).unwrap().unknown.clone()
        };
        assert_eq!(of(""), None);
        assert_eq!(of(", outboundTrafficPolicy: {}"), Some(Unknown::Blocked), "as the API has it");
        assert_eq!(of(", outboundTrafficPolicy: {mode: REGISTRY_ONLY}"), Some(Unknown::Blocked));
        assert_eq!(of(", outboundTrafficPolicy: {mode: ALLOW_ANY}"), Some(Unknown::Passed));
        let sent =
            of(", outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out.x.test, port: {number: 90}}}");
        let host = "out.x.test".parse().unwrap();
        assert_eq!(sent, Some(Unknown::Sent { host, port: 90, subset: String::new() }));
    }
}
