//! The compiler: xDS resources as a pure function of name, view and snapshot.
//!
//! In: names that clients ask for, in a view. Out: encoded resources whose version is a hash of their content.
//! Invariant: equal input gives equal bytes, in any process; a result is used again until something that it read has
//! changed.

mod access_log;
mod agent;
mod cache;
mod cluster;
mod context;
mod endpoints;
mod grpc;
mod inbound;
mod listener;
mod locality;
mod policy;
mod proto;
mod route;
mod security;
mod tls;
mod touched;

use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::names::{OutboundCluster, clusters, listeners};
use hawser_mesh::{Protocol, ServicePort};
use hawser_xds::{Resource, Source, TypeUrl, Version};
use prost::Message;

pub use self::cache::Compiler;
use self::context::Context;
use crate::registry::Snapshot;
use crate::registry::model::{Member, WorkloadId, is_captured};
use crate::view::{Class, Client, View};

/// A resource that another one needs.
type Need = (TypeUrl, Arc<str>);

/// A resource before it has a name.
struct Compiled {
    body: Vec<u8>,
    needs: Vec<Need>,
}

impl Compiled {
    fn new<M: Message>(message: &M, needs: Vec<Need>) -> Self {
        Self { body: message.encode_to_vec(), needs }
    }
}

/// The world as one client sees it: what its session reads.
pub struct Sight<'a> {
    compiler: &'a Compiler,
    snapshot: &'a Snapshot,
    view: Arc<View>,
    client: &'a Client,
    workload: Option<WorkloadId>,
}

impl<'a> Sight<'a> {
    /// Of a client in a snapshot.
    pub fn new(compiler: &'a Compiler, client: &'a Client, snapshot: &'a Snapshot) -> Self {
        Self { compiler, snapshot, view: compiler.view(client, snapshot), client, workload: client.workload(snapshot) }
    }

    /// Whether both are the sight of one view and workload, at whatever time.
    pub fn same_view(&self, other: &Sight<'_>) -> bool {
        Arc::ptr_eq(&self.view, &other.view) && self.workload == other.workload
    }

    /// Names that may differ from what they were in the snapshot `before`.
    pub fn touched(&self, before: &Snapshot) -> hawser_xds::Changes {
        touched::of(self.compiler, &self.view, self.workload.as_ref(), before, self.snapshot)
    }

    fn member(&self) -> Option<&'a Arc<Member>> {
        self.workload.as_ref().and_then(|id| self.snapshot.workload(id))
    }

    /// Resources of the client's own inbound side belong to nobody else, and are not remembered.
    fn own(&self, ty: &TypeUrl, name: &str) -> Option<Option<Compiled>> {
        let context = Context::new(&self.view, self.snapshot);
        if *ty == TypeUrl::LISTENER && name == listeners::VIRTUAL_INBOUND {
            let served = self.view.class != Class::Grpc;
            return Some(if served { inbound::listener(&context, self.member(), &self.client.labels) } else { None });
        }
        if *ty == TypeUrl::LISTENER
            && let Some(made) = self.member().and_then(|member| inbound::listener_at(&context, member, name))
        {
            return Some(Some(made));
        }
        if *ty == TypeUrl::CLUSTER && name.starts_with("inbound|") {
            return Some(inbound::cluster(&context, self.member(), name));
        }
        None
    }
}

impl Source for Sight<'_> {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource> {
        match self.own(ty, name) {
            Some(own) => own.map(|made| resource(name.into(), made.body)),
            None => self.compiler.get(&self.view, self.snapshot, ty, name).map(|found| found.0),
        }
    }

    fn names(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        let mut all = self.compiler.names(&self.view, self.snapshot, ty).to_vec();
        if self.view.class == Class::Envoy {
            if *ty == TypeUrl::LISTENER {
                all.push(listeners::VIRTUAL_INBOUND.into());
                let bound = self.member().into_iter().flat_map(|member| inbound::bound_of(self.snapshot, member));
                all.extend(bound.map(|at| Arc::from(listener::bound::name(self.view.class, at))));
            } else if *ty == TypeUrl::CLUSTER
                && let Some(member) = self.member()
            {
                all.extend(inbound::clusters_of(self.snapshot, member).into_iter().map(Arc::from));
            }
            all.sort();
            all.dedup();
        }
        all
    }

    fn closure(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)> {
        let (mut all, mut next) = (Vec::new(), vec![(ty.clone(), Arc::<str>::from(name))]);
        if let Some(own) = self.own(ty, name) {
            next = own.map(|made| made.needs).unwrap_or_default();
            all.clone_from(&next);
        }
        while let Some((ty, name)) = next.pop() {
            let Some((_, needs)) = self.compiler.get(&self.view, self.snapshot, &ty, &name) else { continue };
            for need in needs.iter() {
                if !all.contains(need) {
                    all.push(need.clone());
                    next.push(need.clone());
                }
            }
        }
        all.sort();
        all
    }
}

fn resource(name: Arc<str>, body: Vec<u8>) -> Resource {
    Resource { name, version: version(&body), body: body.into() }
}

/// A hash of the content, so that every replica and every run gives equal content one version.
fn version(body: &[u8]) -> Version {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    let text: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Version::from(text)
}

/// One resource, whatever its type.
fn compile(context: &Context<'_>, ty: &TypeUrl, name: &str) -> Option<Compiled> {
    let class = context.view.class;
    match ty {
        t if *t == TypeUrl::LISTENER && class == Class::Grpc => grpc::listener(context, name),
        t if *t == TypeUrl::LISTENER => listener::outbound(context, name),
        t if *t == TypeUrl::ROUTE => route::compile(context, name),
        t if *t == TypeUrl::CLUSTER => match OutboundCluster::parse(name) {
            Some(parsed) => cluster::outbound(context, &parsed).filter(|_| parsed.to_string() == name),
            None => cluster::built_in(context, name),
        },
        t if *t == TypeUrl::ENDPOINTS => {
            let parsed = OutboundCluster::parse(name).filter(|parsed| parsed.to_string() == name)?;
            endpoints::compile(context, &parsed)
        }
        t if *t == TypeUrl::NAME && context.is_hawser() => agent::name(context, name),
        t if *t == TypeUrl::CAPTURE && context.is_hawser() => agent::capture(context, name),
        _ => None,
    }
}

/// What a wildcard of a type holds, without the client's own inbound side.
fn names(context: &Context<'_>, ty: &TypeUrl) -> Vec<String> {
    match ty {
        t if *t == TypeUrl::NAME && context.is_hawser() => context
            .all()
            .iter()
            .filter(|s| !s.service.dialled().is_empty())
            .map(|s| s.service.host.to_string())
            .collect(),
        t if *t == TypeUrl::CAPTURE && context.is_hawser() => agent::capture_names(context),
        _ if context.view.class != Class::Envoy => Vec::new(),
        t if *t == TypeUrl::LISTENER => {
            let mut all = std::collections::BTreeSet::from([listeners::VIRTUAL_OUTBOUND.to_owned()]);
            all.extend(context.bound().into_iter().map(|at| listener::bound::name(context.view.class, at)));
            for state in context.all() {
                for port in state.service.ports.iter().filter(|p| is_captured(p) && context.admits(state, p.port)) {
                    if port.protocol.is_http() || state.service.is_wide() {
                        all.insert(format!("0.0.0.0_{}", port.port));
                    }
                    if !port.protocol.is_http() {
                        let addresses = state.service.dialled();
                        all.extend(addresses.into_iter().map(|a: IpAddr| format!("{a}_{}", port.port)));
                    }
                }
            }
            all.into_iter().collect()
        }
        t if *t == TypeUrl::CLUSTER => {
            let built_in = [clusters::BLACK_HOLE, clusters::INBOUND_PASSTHROUGH, clusters::PASSTHROUGH];
            let mut all: Vec<String> = built_in.iter().map(|c| (*c).to_owned()).collect();
            for state in context.all().into_iter().chain(context.inferred()) {
                let subsets = context.destination_rule(state).into_iter().flat_map(|rule| &rule.subsets);
                let subsets: Vec<&str> = std::iter::once("").chain(subsets.map(|s| s.name.as_str())).collect();
                let brought = |p: &&ServicePort| p.protocol != Protocol::Udp && context.brings(state, p.port);
                for port in state.service.ports.iter().filter(brought) {
                    let host = &state.service.host;
                    let name =
                        |subset: &&str| OutboundCluster::with_subset(host.clone(), port.port, *subset).to_string();
                    all.extend(subsets.iter().map(name));
                }
            }
            all
        }
        _ => Vec::new(),
    }
}
