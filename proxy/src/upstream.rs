//! Connections to endpoints, made or taken from the pool.
//!
//! In: a cluster, an endpoint, what is to be spoken. Out: a stream, or something that sends requests. Invariant: what
//! leaves here over mTLS leaves to the identity that discovery named, or not at all.

mod announce;
mod connect;
mod fault;
mod lease;
mod sender;

pub use connect::{Counted, Made, connect};
pub use fault::Fault;
pub use lease::{Kept, Lease, Rest, Sender, lease};

use std::net::SocketAddr;
use std::sync::Arc;

use hawser_api::names::{SECRET_DEFAULT, alpn};

use crate::config::{Cluster, Config, Endpoint, Transport};
use crate::pool;

/// Where something is sent.
#[derive(Clone, Copy, Debug)]
pub struct Target<'c> {
    /// The cluster.
    pub cluster: &'c Arc<Cluster>,
    /// The endpoint, or a bare address.
    pub to: To<'c>,
    /// Whom it is for, and where that one was going; absent of what comes from within this process.
    pub caller: Option<(&'c SocketAddr, &'c SocketAddr)>,
    /// The host that a request names, where servers are asked for that; its port is not part of it.
    pub host: Option<&'c str>,
}

/// An endpoint, or a bare address.
#[derive(Clone, Copy, Debug)]
pub enum To<'c> {
    /// Of the cluster.
    Endpoint(&'c Arc<Endpoint>),
    /// Where a connection was going.
    Address(SocketAddr),
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody answers, or with a wrong identity.
    Connect(Fault),
    /// Our certificate or the roots are not there.
    NoSecret,
    /// The cluster's limit.
    Limit,
    /// The server does not let streams become anything else.
    NoSwitch,
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request.
    Request,
    /// A request that failed on a connection that was kept: another one.
    Again,
    /// CONNECT.
    Connect,
    /// An upgrade.
    Upgrade,
}

impl Purpose {
    /// Whether it becomes something else than a request.
    pub fn switches(self) -> bool {
        matches!(self, Self::Connect | Self::Upgrade)
    }
}

impl<'c> Target<'c> {
    /// The address.
    pub fn address(&self) -> SocketAddr {
        match self.to {
            To::Endpoint(endpoint) => endpoint.spec.address,
            To::Address(address) => address,
        }
    }

    /// The endpoint, if it is one.
    pub fn endpoint(&self) -> Option<&'c Arc<Endpoint>> {
        match self.to {
            To::Endpoint(endpoint) => Some(endpoint),
            To::Address(_) => None,
        }
    }

    /// How it is secured.
    pub fn transport(&self) -> &'c Transport {
        match self.to {
            To::Endpoint(endpoint) => self.cluster.transport(endpoint),
            To::Address(_) => &self.cluster.spec.transports[self.cluster.spec.transports.len() - 1].1,
        }
    }

    /// Whether a hawser-proxy answers over mTLS of the mesh.
    pub fn is_hawser(&self) -> bool {
        let mesh = matches!(self.transport(), Transport::Tls(tls) if tls.certificate.is_some());
        // Behind a header each connection is one caller's.
        let shares = self.cluster.spec.header.is_none();
        mesh && shares && self.endpoint().is_some_and(|e| e.spec.hawser && !e.spec.hbone)
    }

    /// Whether it is reached through HBONE.
    pub fn is_hbone(&self) -> bool {
        let mesh = matches!(self.transport(), Transport::Tls(tls) if tls.certificate.is_some());
        mesh && self.endpoint().is_some_and(|e| e.spec.hbone)
    }

    /// Whether what is said there begins as the mesh does not have it: with a header, or with TLS of others.
    fn is_foreign(&self) -> bool {
        self.cluster.spec.header.is_some() || matches!(self.transport(), Transport::Tls(tls) if tls.foreign.is_some())
    }

    /// Whether it is on our own host.
    pub fn is_own(&self, config: &Config) -> bool {
        let host = self.endpoint().and_then(|e| e.spec.host.as_deref());
        host.is_some() && host == config.instance()
    }

    fn pool_to(&self) -> pool::To {
        match self.to {
            To::Endpoint(endpoint) => pool::To::Endpoint(endpoint.state.id),
            To::Address(address) => pool::To::Address(address),
        }
    }
}

/// The identity that calls over a transport show.
fn own_identity(config: &Config, transport: &Transport) -> Option<Arc<str>> {
    let name = match transport {
        Transport::Tls(tls) => tls.certificate.as_deref()?,
        Transport::Raw => SECRET_DEFAULT,
    };
    config.credentials.get(name).map(|c| c.identity.as_str().into())
}

/// Whether the other end chose the protocol of hawser-proxies.
fn is_hawser_h2(chosen: Option<&[u8]>) -> bool {
    chosen == Some(alpn::HAWSER_H2.as_bytes())
}
