//! What a service of Consul is called in the mesh.
//!
//! In: the services that there are, settings. Out: each one's host names and namespace. Invariant: a host name belongs
//! to one service of a registry: the first by name that claims it, and a name of Consul's own before an alias.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hawser_mesh::Hostname;

use crate::settings::Settings;

/// The part of a Consul that one registry follows.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Datacenter.
    pub(crate) datacenter: Arc<str>,
    /// It is the servers' own.
    pub(crate) local: bool,
    /// Partition, where Consul has them.
    pub(crate) partition: Option<Arc<str>>,
    /// Namespace, where Consul has them.
    pub(crate) namespace: Option<Arc<str>>,
    /// The peer whose exported services these are.
    pub(crate) peer: Option<Arc<str>>,
    /// Namespace of the mesh.
    pub(crate) ours: Arc<str>,
    /// DNS suffix of the mesh: `cluster.local`.
    pub(crate) mesh_domain: Arc<str>,
    /// Instances of these sources are known from elsewhere.
    pub(crate) skip_sources: Vec<String>,
    /// The rest of what the operator says.
    pub(crate) settings: Arc<Settings>,
}

impl Scope {
    /// Where its services are, for people: the datacenter, or the peer.
    pub(crate) fn place(&self) -> &str {
        self.peer.as_deref().unwrap_or(&self.datacenter)
    }
}

/// Names of one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// In Consul.
    pub(crate) service: Arc<str>,
    /// Namespace of the mesh whose configuration counts.
    pub(crate) namespace: Arc<str>,
    /// Host names, each with the short name that people see; Consul's own first.
    pub(crate) hosts: Vec<(Hostname, Arc<str>)>,
    /// The port that callers dial, if an alias says one.
    pub(crate) port: Option<u16>,
}

/// Names of all services.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// By the service's name in Consul.
    pub(crate) names: BTreeMap<Arc<str>, Arc<Names>>,
    /// Which service a host name is.
    pub(crate) owners: HashMap<Hostname, Arc<str>>,
    /// Services that have no name here, or lack one, and why.
    pub(crate) problems: BTreeMap<Arc<str>, String>,
}

impl Claims {
    /// Names for these services, sorted.
    pub(crate) fn of<'a>(scope: &Scope, services: impl IntoIterator<Item = &'a Arc<str>>) -> Self {
        let services: Vec<&Arc<str>> = services.into_iter().collect();
        let mut all = Self::default();
        for service in &services {
            all.claim_own(scope, service);
        }
        for service in &services {
            all.claim_alias(scope, service);
        }
        all
    }

    fn claim_own(&mut self, scope: &Scope, service: &Arc<str>) {
        let wanted = own_names(scope, service);
        let mut hosts = Vec::new();
        for text in wanted {
            match text.parse::<Hostname>() {
                Ok(host) if !host.is_wildcard() => self.claim(host, service, service, &mut hosts),
                _ => {
                    let cure = "rename it to letters, digits and '-', at most 63; it is left out until then";
                    self.tell(service, format!("{:?} can't be part of a host name; {cure}", super::shown(service)));
                    return;
                }
            }
        }
        let names = Names { service: service.clone(), namespace: scope.ours.clone(), hosts, port: None };
        self.names.insert(service.clone(), Arc::new(names));
    }

    fn claim_alias(&mut self, scope: &Scope, service: &Arc<str>) {
        let Some(alias) = scope.settings.aliases.iter().find(|a| a.fits(service, scope.place())) else { return };
        let Some(names) = self.names.get(service) else { return };
        let mut names = Names::clone(names);
        let name: Arc<str> = alias.name.as_deref().map_or_else(|| service.clone(), Arc::from);
        match Hostname::service(&name, &alias.namespace, &scope.mesh_domain) {
            Ok(host) if !name.contains('.') => self.claim(host, service, &name, &mut names.hosts),
            _ => self.tell(
                service,
                format!("{:?} can't be a name of the mesh; give its alias another name", super::shown(&name)),
            ),
        }
        names.namespace = alias.namespace.as_str().into();
        names.port = alias.port;
        self.names.insert(service.clone(), Arc::new(names));
    }

    fn claim(&mut self, host: Hostname, service: &Arc<str>, short: &Arc<str>, hosts: &mut Vec<(Hostname, Arc<str>)>) {
        match self.owners.get(&host).filter(|owner| *owner != service).cloned() {
            Some(owner) => {
                self.tell(service, format!("{host} is service {:?} already; rename one of them", super::shown(&owner)))
            }
            None => {
                self.owners.insert(host.clone(), service.clone());
                hosts.push((host, short.clone()));
            }
        }
    }

    fn tell(&mut self, service: &Arc<str>, why: String) {
        self.problems.entry(service.clone()).or_insert(why);
    }
}

/// As Consul's own DNS says them.
fn own_names(scope: &Scope, service: &str) -> Vec<String> {
    let Settings { domain, short_names, .. } = &*scope.settings;
    let dc = &scope.datacenter;
    let other = |name: &Option<Arc<str>>| name.clone().filter(|n| &**n != "default");
    let (partition, namespace) = (other(&scope.partition), other(&scope.namespace));
    if let Some(peer) = &scope.peer {
        let namespace = namespace.map(|n| format!("{n}.ns.")).unwrap_or_default();
        let partition = partition.map(|p| format!("{p}.ap.")).unwrap_or_default();
        return vec![format!("{service}.service.{namespace}{peer}.peer.{partition}{domain}")];
    }
    if partition.is_none() && namespace.is_none() {
        let short = (scope.local && *short_names).then(|| format!("{service}.service.{domain}"));
        return std::iter::once(format!("{service}.service.{dc}.{domain}")).chain(short).collect();
    }
    let namespace = namespace.map(|n| format!("{n}.ns.")).unwrap_or_default();
    let partition = partition.map(|p| format!("{p}.ap.")).unwrap_or_default();
    vec![format!("{service}.service.{namespace}{partition}{dc}.dc.{domain}")]
}
