//! Rules of the configuration, found by the host or workload they are about.
//!
//! In: the resources that count. Out: VirtualServices and DestinationRules by host, policies by workload. Invariant:
//! of several rules for one thing the same one wins, whatever the order they were said in: the oldest, then the first
//! by name; the others are told so.

mod delegates;
mod policies;
mod security;
mod sidecars;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::istio::{DestinationRule, ObjectRef, Resource, Spec, VirtualService};
use hawser_mesh::Hostname;

use self::policies::Policies;
pub use self::security::Security;
use self::security::SecurityRules;
use self::sidecars::Sidecars;
pub(crate) use self::sidecars::spoken;
pub use self::sidecars::{Intake, Scope, Unknown};
use super::Settings;
use super::merge::selects;
use super::model::{TlsModes, visible};
use crate::keys::Origin;

/// A resource with its name.
pub type Named = (ObjectRef, Arc<Resource>);

/// Rules for one host name, the one that wins first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostRules {
    virtual_services: Vec<Named>,
    destination_rules: Vec<Named>,
}

impl HostRules {
    /// The first VirtualService that callers of a namespace see, of those that fit.
    pub(super) fn virtual_service(
        &self,
        namespace: &str,
        fits: impl Fn(&ObjectRef, &VirtualService) -> bool,
    ) -> Option<(&ObjectRef, &VirtualService)> {
        self.virtual_services.iter().find_map(|(object, resource)| match &resource.spec {
            Spec::VirtualService(rule)
                if visible(&rule.export_to, &object.namespace, namespace) && fits(object, rule) =>
            {
                Some((object, &**rule))
            }
            _ => None,
        })
    }

    /// The DestinationRule that counts for callers with these labels: one of their own namespace, else of the
    /// service's, else of the root namespace.
    pub fn destination(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        service_namespace: &str,
        root: &str,
    ) -> Option<&DestinationRule> {
        self.destination_by_name(namespace, labels, service_namespace, root).map(|(_, rule)| rule)
    }

    /// The same with its name.
    pub fn destination_by_name(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        service_namespace: &str,
        root: &str,
    ) -> Option<(&ObjectRef, &DestinationRule)> {
        let found = |wanted: &str| {
            self.destination_rules.iter().filter(|(object, _)| object.namespace == wanted).find_map(|(object, r)| {
                let Spec::DestinationRule(rule) = &r.spec else { return None };
                let own = object.namespace == namespace;
                let chosen = rule.workload_selector.as_ref().is_none_or(|s| own && selects(&s.match_labels, labels));
                (chosen && visible(&rule.export_to, &object.namespace, namespace)).then_some((object, &**rule))
            })
        };
        found(namespace).or_else(|| found(service_namespace)).or_else(|| found(root))
    }

    /// Names of all subsets that some rule makes.
    pub fn subsets(&self) -> BTreeSet<&str> {
        let rules = self.destination_rules.iter().filter_map(|(_, r)| match &r.spec {
            Spec::DestinationRule(rule) => Some(&rule.subsets),
            _ => None,
        });
        rules.flatten().map(|subset| subset.name.as_str()).collect()
    }
}

/// All rules.
#[derive(Debug, Default)]
pub struct Rules {
    virtual_services: ByHost,
    destination_rules: ByHost,
    policies: Policies,
    security: SecurityRules,
    sidecars: Sidecars,
    /// Hosts whose routes lead to a host, and to which of its ports; none is the one that they are called at.
    readers: HashMap<Hostname, BTreeMap<Hostname, BTreeSet<Option<u16>>>>,
    label_keys: BTreeSet<String>,
    /// Some rule looks at where callers are.
    reads_locality: bool,
    messages: BTreeMap<ObjectRef, Vec<String>>,
}

/// Resources by the host they name, exact names apart from wildcards.
#[derive(Debug, Default)]
struct ByHost {
    exact: HashMap<Hostname, Vec<Named>>,
    /// The longest first.
    wildcards: Vec<(Hostname, Named)>,
}

impl ByHost {
    fn add(&mut self, host: Hostname, named: Named) {
        if host.is_wildcard() {
            self.wildcards.push((host, named));
        } else {
            self.exact.entry(host).or_default().push(named);
        }
    }

    fn sort(&mut self) {
        for list in self.exact.values_mut() {
            list.sort_by(|a, b| age(a).cmp(&age(b)));
        }
        let key =
            |(host, named): &(Hostname, Named)| (std::cmp::Reverse(host.as_str().len()), host.clone(), order(named));
        self.wildcards.sort_by_cached_key(key);
    }

    /// The most specific first.
    fn of(&self, host: &Hostname) -> Vec<Named> {
        let exact = self.exact.get(host).into_iter().flatten();
        exact.chain(self.wildcards.iter().filter(|(w, _)| w.matches(host)).map(|(_, named)| named)).cloned().collect()
    }
}

impl Rules {
    /// From the resources that count.
    pub(super) fn build<'a>(
        resources: impl Iterator<Item = (&'a ObjectRef, &'a Arc<Resource>)>,
        settings: &Settings,
    ) -> Self {
        let mut rules = Self::default();
        let resources: Vec<_> = resources.collect();
        let delegates = delegates::of(resources.iter().copied());
        for (object, resource) in resources {
            let named = || (object.clone(), resource.clone());
            match &resource.spec {
                Spec::VirtualService(rule) if rule.is_for_mesh() => {
                    let mut told = Vec::new();
                    let whole = delegates::expanded(named(), &delegates, &settings.domain, &mut told);
                    if !told.is_empty() {
                        rules.messages.insert(object.clone(), told);
                    }
                    let Spec::VirtualService(rule) = &whole.1.spec else { continue };
                    let named = || whole.clone();
                    for text in &rule.hosts {
                        let Some(host) = resolve(text, &object.namespace, &settings.domain) else { continue };
                        rules.read(rule, &host, &object.namespace, settings);
                        rules.virtual_services.add(host, named());
                    }
                }
                Spec::DestinationRule(rule) => {
                    if let Some(selector) = &rule.workload_selector {
                        rules.label_keys.extend(selector.match_labels.keys().cloned());
                    }
                    rules.locality(rule);
                    if let Some(host) = resolve(&rule.host, &object.namespace, &settings.domain) {
                        rules.destination_rules.add(host, named());
                    }
                }
                Spec::Sidecar(_) => rules.sidecars.add(named()),
                Spec::PeerAuthentication(_) => rules.policies.add(named(), &settings.root_namespace),
                Spec::AuthorizationPolicy(_) | Spec::RequestAuthentication(_) => {
                    rules.security.add(named(), &settings.root_namespace);
                }
                _ => {}
            }
        }
        rules.virtual_services.sort();
        rules.destination_rules.sort();
        rules.policies.sort();
        rules.security.sort();
        rules.sidecars.sort();
        rules.tell_losers();
        rules
    }

    /// Rules for one host.
    pub(super) fn for_host(&self, host: &Hostname) -> HostRules {
        HostRules {
            virtual_services: self.virtual_services.of(host),
            destination_rules: self.destination_rules.of(host),
        }
    }

    /// What a workload's ports take.
    pub(crate) fn modes(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Arc<TlsModes> {
        self.policies.modes(namespace, labels)
    }

    /// The policies that a workload is held to.
    pub(crate) fn security(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Arc<Security> {
        self.security.of(namespace, labels)
    }

    /// Where the keys are that policies name, and how long an answer may take.
    pub fn key_origins(&self) -> BTreeMap<Origin, Option<Duration>> {
        self.security.key_origins()
    }

    /// The policy that decides what a workload's port takes, if one does.
    pub(crate) fn mode_decided_by(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        port: u16,
    ) -> Option<&ObjectRef> {
        self.policies.decided_by(namespace, labels, port)
    }

    /// What a Sidecar leaves of the mesh to a workload, if there is one for it.
    pub fn scope(&self, namespace: &str, labels: &BTreeMap<String, String>, settings: &Settings) -> Option<Arc<Scope>> {
        self.sidecars.scope(namespace, labels, settings)
    }

    /// What a workload takes in, as far as a Sidecar says.
    pub fn intake(&self, namespace: &str, labels: &BTreeMap<String, String>, root: &str) -> Intake<'_> {
        Intake::of(self.sidecars.of(namespace, labels, root))
    }

    /// Hosts whose routes lead to this one, and to which of its ports.
    pub(crate) fn readers_of(&self, host: &Hostname) -> impl Iterator<Item = (&Hostname, &BTreeSet<Option<u16>>)> {
        self.readers.get(host).into_iter().flatten()
    }

    /// What is to be said of a resource.
    pub(super) fn messages_of(&self, object: &ObjectRef) -> &[String] {
        self.messages.get(object).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether views are made of the same labels as before.
    pub(super) fn same_scope(&self, other: &Self) -> bool {
        self.label_keys == other.label_keys
            && self.reads_locality == other.reads_locality
            && self.sidecars == other.sidecars
    }

    /// Labels of callers that some rule reads.
    pub fn label_keys(&self) -> &BTreeSet<String> {
        &self.label_keys
    }

    /// Whether some rule looks at where callers are.
    pub fn reads_locality(&self) -> bool {
        self.reads_locality
    }

    /// Notes whether a DestinationRule looks at where callers are, and which of their labels it compares.
    fn locality(&mut self, rule: &DestinationRule) {
        let policies = rule.traffic_policy.iter().chain(rule.subsets.iter().filter_map(|s| s.traffic_policy.as_ref()));
        for policy in policies {
            let ports = policy.port_level_settings.iter();
            self.reads_locality |=
                policy.outlier_detection.is_some() || ports.clone().any(|port| port.outlier_detection.is_some());
            let balancers = policy.load_balancer.iter().chain(ports.filter_map(|port| port.load_balancer.as_ref()));
            for setting in balancers.filter_map(|lb| lb.locality_lb_setting.as_ref()) {
                self.reads_locality = true;
                let keys = setting.failover_priority.iter().filter(|key| !key.contains('='));
                self.label_keys.extend(keys.cloned());
            }
        }
    }

    /// Notes which labels a VirtualService reads of its callers, and where it leads.
    fn read(&mut self, rule: &VirtualService, host: &Hostname, namespace: &str, settings: &Settings) {
        let http = rule.http.iter().flat_map(|route| &route.r#match).flat_map(|m| m.source_labels.keys());
        let tcp = rule.tcp.iter().flat_map(|route| &route.r#match).flat_map(|m| m.source_labels.keys());
        let tls = rule.tls.iter().flat_map(|route| &route.r#match).flat_map(|m| m.source_labels.keys());
        self.label_keys.extend(http.chain(tcp).chain(tls).cloned());
        let http = rule.http.iter().flat_map(|route| {
            let to = route.route.iter().map(|to| &to.destination);
            to.chain(&route.mirror).chain(route.mirrors.iter().map(|mirror| &mirror.destination))
        });
        let tcp = rule.tcp.iter().flat_map(|route| &route.route).map(|to| &to.destination);
        let tls = rule.tls.iter().flat_map(|route| &route.route).map(|to| &to.destination);
        for destination in http.chain(tcp).chain(tls) {
            if let Some(to) = resolve(&destination.host, namespace, &settings.domain).filter(|to| to != host) {
                let port = destination.port.as_ref().and_then(|port| port.number.number());
                self.readers.entry(to).or_default().entry(host.clone()).or_default().insert(port);
            }
        }
    }

    /// Says to each rule that never wins who does.
    fn tell_losers(&mut self) {
        let mut told = std::mem::take(&mut self.messages);
        for (host, list) in self.virtual_services.exact.iter() {
            for (object, _) in list.iter().skip(1) {
                let winner = &list[0].0;
                let what = format!(
                    "{}/{} routes {host} already, and is older or first by name",
                    winner.namespace, winner.name
                );
                told.entry(object.clone()).or_default().push(what);
            }
        }
        for (host, list) in self.destination_rules.exact.iter() {
            for (index, (object, resource)) in list.iter().enumerate() {
                let selected = |r: &Resource| match &r.spec {
                    Spec::DestinationRule(rule) => rule.workload_selector.is_some(),
                    _ => false,
                };
                let winner = list[..index]
                    .iter()
                    .find(|(o, r)| o.namespace == object.namespace && !selected(r) && !selected(resource));
                if let Some((winner, _)) = winner {
                    let what =
                        format!("{} says what to do with {host} already, and is older or first by name", winner.name);
                    told.entry(object.clone()).or_default().push(what);
                }
            }
        }
        for (object, what) in self.sidecars.losers() {
            told.entry(object.clone()).or_default().push(what);
        }
        for messages in told.values_mut() {
            messages.sort();
        }
        self.messages = told;
    }
}

/// A host as a rule of `namespace` names it: without a dot it is a service of that namespace.
pub(crate) fn resolve(text: &str, namespace: &str, domain: &str) -> Option<Hostname> {
    if text.contains('.') || text == "*" { text.parse().ok() } else { Hostname::service(text, namespace, domain).ok() }
}

/// What decides between two rules: age, then name. Rules without a date are older than those with one: they lie in
/// files, which somebody keeps in order.
fn age(named: &Named) -> (&str, &ObjectRef) {
    (&named.1.metadata.creation_timestamp, &named.0)
}

fn order(named: &Named) -> (String, ObjectRef) {
    (named.1.metadata.creation_timestamp.clone(), named.0.clone())
}
