//! Resources of the configuration: which of several with one name counts, and what becomes of each.
//!
//! In: resources and refusals with where they are written. Out: the ones that count, and the state of all for
//! listings. Invariant: for one (kind, namespace, name) files win over the API, and the API over Kubernetes; who
//! loses is shown as shadowed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hawser_api::istio::request_authentication::JwtRule;
use hawser_api::istio::{Kind, ObjectRef, Resource, Spec};
use hawser_mesh::{Hostname, Origin, RegistryId, RegistryKind};

use super::Tables;
use crate::keys::{self, Fetched};
use crate::registry::merge::Apart;
use crate::registry::model::{ConfigOutcome, ConfigState};
use crate::registry::rules::{Rules, resolve};
use crate::registry::snapshot::ServiceState;
use crate::registry::{AuthzProviders, Settings, convert};

/// Sorts sources: whose resource wins first.
type SourceKey = (u8, RegistryId);

#[derive(Default)]
pub(super) struct Configs {
    all: BTreeMap<ObjectRef, BTreeMap<SourceKey, (Arc<Resource>, Origin)>>,
    rejected: BTreeMap<(RegistryId, Origin), String>,
    changed: bool,
    rules_changed: bool,
    policies_changed: bool,
}

/// A resource of that name counts now, or none does, instead of another.
pub(super) struct Effective {
    object: ObjectRef,
    old: Option<(RegistryId, Arc<Resource>)>,
    new: Option<(RegistryId, Arc<Resource>)>,
}

impl Configs {
    pub(super) fn upsert(
        &mut self,
        registry: &RegistryId,
        resource: Arc<Resource>,
        origin: Origin,
    ) -> Option<Effective> {
        self.rejected.remove(&(registry.clone(), origin.clone()));
        let object = resource.object_ref();
        let old = self.effective(&object);
        let key = (precedence(registry.kind), registry.clone());
        self.all.entry(object.clone()).or_default().insert(key, (resource, origin));
        self.compared(object, old)
    }

    pub(super) fn delete(&mut self, registry: &RegistryId, object: &ObjectRef) -> Option<Effective> {
        let old = self.effective(object);
        let sources = self.all.get_mut(object)?;
        sources.remove(&(precedence(registry.kind), registry.clone()))?;
        if sources.is_empty() {
            self.all.remove(object);
        }
        self.compared(object.clone(), old)
    }

    pub(super) fn reject(&mut self, registry: &RegistryId, origin: Origin, message: String) {
        self.rejected.insert((registry.clone(), origin), message);
        self.changed = true;
    }

    pub(super) fn clear(&mut self, registry: &RegistryId, origin: &Origin) {
        self.changed |= self.rejected.remove(&(registry.clone(), origin.clone())).is_some();
    }

    /// Nothing of a registry is wrong any more: it is gone.
    pub(super) fn clear_all(&mut self, registry: &RegistryId) {
        let before = self.rejected.len();
        self.rejected.retain(|(of, _), _| of != registry);
        self.changed |= self.rejected.len() != before;
    }

    /// Names of a registry's resources.
    pub(super) fn of(&self, registry: &RegistryId) -> Vec<ObjectRef> {
        let key = (precedence(registry.kind), registry.clone());
        self.all.iter().filter(|(_, sources)| sources.contains_key(&key)).map(|(object, _)| object.clone()).collect()
    }

    /// Something that states show changed elsewhere.
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// The state of every resource, if any may have changed since the last call.
    pub(super) fn take_states(
        &mut self,
        apart: &HashMap<Hostname, Apart>,
        rules: &Rules,
        keys: &Fetched,
        (settings, aliases): (&Settings, &BTreeMap<Hostname, Hostname>),
    ) -> Option<Vec<ConfigState>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut problems: BTreeMap<(&RegistryId, &str), Vec<String>> = BTreeMap::new();
        let mut hosts: Vec<_> = apart.iter().collect();
        hosts.sort_by_key(|(host, _)| *host);
        for (host, list) in hosts {
            for (key, why) in list {
                let problem = format!("does not count for {host}: {why}");
                problems.entry((&key.registry, &key.origin)).or_default().push(problem);
            }
        }
        let mut states = Vec::new();
        for (object, sources) in &self.all {
            for (index, ((_, registry), (resource, origin))) in sources.iter().enumerate() {
                let mut messages = convert::warnings(resource);
                let name = object.to_string();
                messages.extend(problems.get(&(registry, name.as_str())).into_iter().flatten().cloned());
                let outcome = if index > 0 {
                    let winner = sources.keys().next().map(|(_, r)| r.to_string()).unwrap_or_default();
                    messages.insert(0, format!("{winner} has a {} of that name, which counts instead", object.kind));
                    ConfigOutcome::Shadowed
                } else {
                    messages.extend(rules.messages_of(object).iter().cloned());
                    messages.extend(unfetched(resource, keys));
                    messages.extend(misnamed(resource, aliases, &settings.domain));
                    messages.extend(unknown(resource, &settings.authorization));
                    if messages.is_empty() { ConfigOutcome::Honoured } else { ConfigOutcome::Partly }
                };
                states.push(ConfigState {
                    object: Some(object.clone()),
                    registry: registry.clone(),
                    origin: origin.clone(),
                    outcome,
                    messages,
                    resource: Some(resource.clone()),
                });
            }
        }
        for ((registry, origin), message) in &self.rejected {
            states.push(ConfigState {
                object: None,
                registry: registry.clone(),
                origin: origin.clone(),
                outcome: ConfigOutcome::Rejected,
                messages: vec![message.clone()],
                resource: None,
            });
        }
        Some(states)
    }

    /// Resources that count, by name.
    fn counting(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<Resource>)> {
        self.all.iter().filter_map(|(object, sources)| Some((object, &sources.values().next()?.0)))
    }

    fn effective(&self, object: &ObjectRef) -> Option<(RegistryId, Arc<Resource>)> {
        let ((_, registry), (resource, _)) = self.all.get(object)?.iter().next()?;
        Some((registry.clone(), resource.clone()))
    }

    fn compared(&mut self, object: ObjectRef, old: Option<(RegistryId, Arc<Resource>)>) -> Option<Effective> {
        self.changed = true;
        let new = self.effective(&object);
        (old != new).then_some(Effective { object, old, new })
    }
}

impl Tables {
    pub(super) fn config_changed(&mut self, changed: Option<Effective>) {
        let Some(Effective { object, old, new }) = changed else { return };
        match object.kind {
            Kind::ServiceEntry | Kind::WorkloadGroup | Kind::WorkloadEntry => {
                if let Some((registry, resource)) = old {
                    let keep = new.as_ref().map(|(r, _)| r) == Some(&registry);
                    self.retract(&object, &registry, &resource, keep && object.kind == Kind::WorkloadEntry);
                }
                if let Some((registry, resource)) = new {
                    self.assert(&object, &registry, &resource);
                }
            }
            Kind::PeerAuthentication | Kind::AuthorizationPolicy | Kind::RequestAuthentication => {
                self.configs.policies_changed = true;
            }
            _ => self.configs.rules_changed = true,
        }
    }

    fn assert(&mut self, object: &ObjectRef, registry: &RegistryId, resource: &Resource) {
        for (host, definition) in convert::definitions(object, resource, &self.settings) {
            let key = convert::definition_key(object, resource, registry, precedence(registry.kind));
            self.define(host, key, definition);
        }
        if let Some(workload) = convert::workload(object, resource, &self.settings) {
            self.set_workload(convert::workload_id(object, registry), Some(Arc::new(workload)));
        }
    }

    fn retract(&mut self, object: &ObjectRef, registry: &RegistryId, resource: &Resource, replaced: bool) {
        for (host, _) in convert::definitions(object, resource, &self.settings) {
            self.undefine(&host, &convert::definition_key(object, resource, registry, precedence(registry.kind)));
        }
        if object.kind == Kind::WorkloadEntry && !replaced {
            self.set_workload(convert::workload_id(object, registry), None);
        }
    }

    /// Rules that changed take effect on the services and workloads they name.
    pub(super) fn refresh_rules(&mut self) {
        let policies = std::mem::take(&mut self.configs.policies_changed);
        if !std::mem::take(&mut self.configs.rules_changed) && !policies {
            return;
        }
        let rules = Rules::build(self.configs.counting(), &self.settings);
        self.changes.rules |= !rules.same_scope(&self.snapshot.rules);
        self.snapshot.rules = Arc::new(rules);
        let rules = self.snapshot.rules.clone();
        let stale = |host: &Hostname, states: &[ServiceState]| {
            let rules = rules.for_host(host);
            states.iter().any(|state| *state.rules != rules)
        };
        let touched = self.snapshot.services.iter().filter(|(host, states)| stale(host, states));
        self.dirty.extend(touched.map(|(host, _)| host.clone()));
        if policies {
            self.changes.policies = true;
            self.refresh_modes();
        }
    }
}

/// Hosts of rules that are other names for services: rules are for services.
fn misnamed(resource: &Resource, aliases: &BTreeMap<Hostname, Hostname>, domain: &str) -> Vec<String> {
    let hosts: Vec<(String, &str)> = match &resource.spec {
        Spec::VirtualService(rule) => {
            rule.hosts.iter().enumerate().map(|(i, host)| (format!("spec.hosts[{i}]"), host.as_str())).collect()
        }
        Spec::DestinationRule(rule) => vec![("spec.host".to_owned(), rule.host.as_str())],
        _ => Vec::new(),
    };
    let namespace = &resource.metadata.namespace;
    let problem = |(field, text): (String, &str)| {
        let to = aliases.get(&resolve(text, namespace, domain)?)?;
        Some(format!("{field}: {text} is another name for {to}, whose rules count for it; write {to}"))
    };
    hosts.into_iter().filter_map(problem).collect()
}

/// Issuers whose keys can't be had.
fn unfetched(resource: &Resource, fetched: &Fetched) -> Vec<String> {
    let Spec::RequestAuthentication(policy) = &resource.spec else { return Vec::new() };
    let problem = |(i, rule): (usize, &JwtRule)| {
        let what = match keys::Origin::of(rule) {
            Some(origin) => {
                let state = if fetched.get(&origin).is_some() { "the last good keys count" } else { REFUSED };
                format!("{origin}: {}: {state}", fetched.problem(&origin)?)
            }
            None if rule.jwks.is_some() => return None,
            None => format!("neither jwks nor jwksUri, and the issuer is no URL: {REFUSED}"),
        };
        Some(format!("spec.jwtRules[{i}]: {what}"))
    };
    policy.jwt_rules.iter().enumerate().filter_map(problem).collect()
}

/// A provider that the mesh configuration does not have.
fn unknown(resource: &Resource, providers: &AuthzProviders) -> Option<String> {
    let Spec::AuthorizationPolicy(policy) = &resource.spec else { return None };
    let name = policy.provider.as_ref().map(|p| &p.name).filter(|name| !providers.contains_key(*name))?;
    Some(format!(
        "spec.provider.name: {name} authorizes nothing: what the policy matches is refused; write it into \
         extensionProviders of the mesh configuration, with envoyExtAuthzGrpc or envoyExtAuthzHttp"
    ))
}

const REFUSED: &str = "requests with a token of this issuer are refused";

/// Files before the API before the rest.
fn precedence(kind: RegistryKind) -> u8 {
    match kind {
        RegistryKind::Files => 0,
        RegistryKind::Api => 1,
        RegistryKind::Kubernetes => 2,
        RegistryKind::Hosts
        | RegistryKind::Consul
        | RegistryKind::HttpSd
        | RegistryKind::FileSd
        | RegistryKind::DnsSrv => 3,
    }
}
