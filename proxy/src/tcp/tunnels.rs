//! Connections that carry tunnels, kept for the next one; and whether a connection becomes a tunnel at all.
//!
//! In: a target. Out: a tunnel to it, on a connection that others share: the same endpoint, the same transport and
//! identity. Bounded in connections, tunnels of each, and idle time. Invariant: who answers was verified when the
//! connection was made, and a lost endpoint takes its connections and all their tunnels with it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::names::alpn;
use tokio::sync::Notify;

use super::tunnel::{Connection, Outward, Refused};
use crate::config::{Config, Transport};
use crate::http::message::Fields;
use crate::stream::end::End;
use crate::tls::Offer;
use crate::upstream::{self, Counted, Fault, Made, Problem, Rest, Target};
use crate::worker::Worker;

/// The most connections of a key; beyond, each connection is its own.
const MOST: usize = 8;
/// A connection without tunnels is kept so long.
const IDLE: Duration = Duration::from_secs(300);

/// How a connection reaches an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// On a connection of its own.
    Own,
    /// As a tunnel between hawser-proxies, if the other end agrees.
    Shared,
    /// Through HBONE.
    Hbone,
}

/// What carries a connection's bytes.
pub enum Opened {
    /// A tunnel, counted as a connection of its cluster.
    Tunnel(Outward, Rc<Counted>),
    /// A connection of its own.
    Own(Made),
    /// Through a proxy that leads elsewhere.
    Through(Box<dyn End>, Option<Rest>),
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tunnel(..) => "Tunnel",
            Self::Own(_) => "Own",
            Self::Through(..) => "Through",
        })
    }
}

/// The way that a connection takes. Sharing saves handshakes, sockets and records of TLS; what it costs is a copy of every
/// byte at each end, and that tunnels wait for one another where packets get lost. So it is not for a cluster whose
/// connections carry much.
pub fn way(shared: bool, config: &Config, target: &Target<'_>) -> Way {
    if target.is_own(config) || target.cluster.spec.header.is_some() {
        // It never leaves the process; or its other end hears whose it is, and takes it for nobody else's.
        Way::Own
    } else if target.is_hbone() {
        Way::Hbone
    } else if shared && target.is_hawser() && !target.cluster.state.habit.is_bulk() {
        Way::Shared
    } else {
        Way::Own
    }
}

/// Connections of one worker.
#[derive(Debug, Default)]
pub struct Tunnels {
    groups: RefCell<HashMap<Key, Rc<Group>>>,
}

/// What a connection is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The id of the endpoint's state.
    endpoint: u64,
    /// The transport, with the identity that we show.
    transport: u64,
    way: Way,
}

#[derive(Debug, Default)]
struct Group {
    connections: RefCell<Vec<Connection>>,
    /// One is being made: others wait for it.
    connecting: Cell<bool>,
    /// How many attempts failed.
    failures: Cell<u64>,
    /// The other end did not agree to tunnels when it was asked last: nobody waits for an answer that will be no.
    refuses: Cell<bool>,
    /// Told when one was made, or was not.
    changed: Notify,
}

/// Opens a tunnel to a target, or a connection of its own if the other end wants none.
///
/// # Errors
/// If there is neither.
pub async fn open(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    way: Way,
    said: &Fields,
) -> Result<Opened, Problem> {
    let offer = match way {
        Way::Own => return upstream::connect(worker, config, target, Offer::Tcp).await.map(Opened::Own),
        Way::Shared => Offer::Tunnel,
        Way::Hbone => Offer::Hbone,
    };
    let (Some(endpoint), Transport::Tls(tls)) = (target.endpoint(), target.transport()) else {
        return Err(Problem::NoSecret);
    };
    let key = Key { endpoint: endpoint.state.id, transport: tls.fingerprint, way };
    let group = worker.tunnels.groups.borrow_mut().entry(key).or_default().clone();
    // A connection may go away just when it is asked; another one is then tried, and at last a new one.
    for _ in 0..=MOST {
        let connection = match group.ready().await? {
            Some(connection) => connection,
            None if group.connections.borrow().len() >= MOST && way == Way::Shared => {
                return upstream::connect(worker, config, target, Offer::Tcp).await.map(Opened::Own);
            }
            None if group.connections.borrow().len() >= MOST => return Err(Problem::Limit),
            None => match make(worker, config, target, &group, offer).await? {
                Opening::Connection(connection) => connection,
                Opening::Own(made) => return Ok(Opened::Own(made)),
            },
        };
        let counted = Rc::new(Counted::new(target.cluster)?);
        match within(target, connection.open(endpoint.spec.address, said)).await? {
            Ok(tunnel) => return Ok(Opened::Tunnel(tunnel, counted)),
            Err(Refused::Status(status)) => {
                tracing::debug!(to = %endpoint.spec.address, status, "the tunnel is refused");
                let denied = status == super::DENIED;
                return Err(Problem::Connect(if denied { Fault::Denied } else { Fault::Tunnel }));
            }
            Err(Refused::Connection) => {}
        }
    }
    Err(Problem::Connect(Fault::Reset))
}

/// The other end connects to its application meanwhile, which may take as long as any connection.
async fn within<T>(target: &Target<'_>, opening: impl Future<Output = T>) -> Result<T, Problem> {
    let limit = target.cluster.spec.connect_timeout;
    tokio::time::timeout(limit, opening).await.map_err(|_| Problem::Connect(Fault::Slow))
}

enum Opening {
    Connection(Connection),
    Own(Made),
}

async fn make(
    worker: &Rc<Worker>,
    config: &Arc<Config>,
    target: &Target<'_>,
    group: &Rc<Group>,
    offer: Offer,
) -> Result<Opening, Problem> {
    let connecting = Connecting::begin(group);
    let failed = |problem| {
        group.failures.set(group.failures.get() + 1);
        problem
    };
    let made = upstream::connect(worker, config, target, offer).await.map_err(failed)?;
    let agreed = match offer {
        Offer::Hbone => made.chosen.as_deref() == Some(alpn::HBONE.as_bytes()),
        _ => made.chosen.as_deref() == Some(alpn::HAWSER_TUNNEL.as_bytes()),
    };
    group.refuses.set(!agreed);
    if !agreed {
        return if offer == Offer::Hbone { Err(failed(Problem::Connect(Fault::Tls))) } else { Ok(Opening::Own(made)) };
    }
    let lost = target.endpoint().map(|e| e.state.lost.clone());
    let connection = Connection::start(made.stream, lost);
    group.connections.borrow_mut().push(connection.clone());
    drop(connecting);
    Ok(Opening::Connection(connection))
}

impl Group {
    /// A connection that has room and lives; `None` if one is to be made.
    async fn ready(&self) -> Result<Option<Connection>, Problem> {
        loop {
            if let Some(connection) = self.pick() {
                if connection.is_alive(crate::clock::now_ms()).await {
                    return Ok(Some(connection));
                }
                continue;
            }
            if !self.connecting.get() || self.refuses.get() {
                return Ok(None);
            }
            let failures = self.failures.get();
            self.changed.notified().await;
            if self.failures.get() != failures {
                // What was waited for failed: nobody waits in line for the next failure.
                return Err(Problem::Connect(Fault::Other));
            }
        }
    }

    /// The connection with the fewest tunnels.
    fn pick(&self) -> Option<Connection> {
        let mut all = self.connections.borrow_mut();
        all.retain(|c| !c.is_closed());
        all.iter().filter(|c| c.has_room()).min_by_key(|c| c.active()).cloned()
    }
}

impl Tunnels {
    /// Drops what is over, or idle for too long.
    pub fn sweep(&self, now: u64) {
        let idle = u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX);
        self.groups.borrow_mut().retain(|_, group| {
            let used = |c: &Connection| c.active() > 0 || now.saturating_sub(c.last_used()) < idle;
            group.connections.borrow_mut().retain(|c| !c.is_closed() && used(c));
            !group.connections.borrow().is_empty() || Rc::strong_count(group) > 1
        });
    }
}

/// While one connection is being made; others are told when it is dropped.
struct Connecting(Rc<Group>);

impl Connecting {
    fn begin(group: &Rc<Group>) -> Self {
        group.connecting.set(true);
        Self(group.clone())
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.changed.notify_waiters();
    }
}

/// The address that a connection for tunnels is made to.
pub fn door(target: SocketAddr, offer: Offer) -> SocketAddr {
    match offer {
        Offer::Hbone => SocketAddr::new(target.ip(), hawser_api::names::ports::HBONE),
        _ => target,
    }
}
