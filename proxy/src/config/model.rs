//! The configuration as workers see it: immutable, shared, swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use hawser_api::names::inbound_cluster;

use super::{Cluster, Credentials, HttpSpec, Listener, Roots, RouteSource, RouteTable, Workload};

/// One version of the configuration. Cloning is cheap enough for the control thread: all parts are shared.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Outbound listeners by where connections were going.
    pub outbound: HashMap<SocketAddr, Arc<Listener>>,
    /// Those of ports that hold at any address, by port.
    pub anywhere: HashMap<u16, Arc<Listener>>,
    /// The inbound listener.
    pub inbound: Option<Arc<Listener>>,
    /// Listeners that we bind ourselves, by where they are.
    pub bound: BTreeMap<SocketAddr, Arc<Listener>>,
    /// Routes by name.
    pub routes: HashMap<Arc<str>, Arc<RouteTable>>,
    /// Clusters by name.
    pub clusters: HashMap<Arc<str>, Arc<Cluster>>,
    /// Certificates by secret.
    pub credentials: HashMap<Arc<str>, Arc<Credentials>>,
    /// Roots by secret.
    pub roots: HashMap<Arc<str>, Arc<Roots>>,
}

impl Config {
    /// The routes of a connection; absent while discovery has not sent them.
    pub fn routes<'a>(&'a self, spec: &'a HttpSpec) -> Option<&'a Arc<RouteTable>> {
        match &spec.routes {
            RouteSource::Inline(table) => Some(table),
            RouteSource::Named(name) => self.routes.get(name),
        }
    }

    /// The instance id of the own host, if discovery said it.
    pub fn instance(&self) -> Option<&str> {
        self.inbound.as_ref()?.instance.as_deref()
    }

    /// The own workload, as far as discovery said who it is.
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        self.inbound.as_ref().map(|l| &l.workload)
    }

    /// The service of an inbound port, where its cluster names one.
    pub fn service_of(&self, port: u16) -> (Arc<str>, Arc<str>, Arc<str>) {
        let cluster = self.clusters.get(inbound_cluster(port, None).as_str());
        let service = cluster.map(|c| c.spec.service.clone()).unwrap_or_default();
        (service.host, service.name, service.namespace)
    }
}
