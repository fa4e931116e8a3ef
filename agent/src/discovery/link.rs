//! The one connection that the host keeps to discovery, and who may use it.
//!
//! In: what the session says, which dials and judges. Out: a watch on [`Reach`] for relay, renewal and status. A
//! connection that was declared dead is dead for all at once: nobody waits for its time-outs.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::dial::Connection;

/// Publishes how discovery is reached. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Link(watch::Sender<LinkState>);

/// How discovery is reached, and since when.
#[derive(Clone, Debug)]
pub(crate) struct LinkState {
    pub(crate) reach: Reach,
    pub(crate) since: SystemTime,
}

/// How discovery is reached.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// Not known yet: the first attempt since the start is under way.
    Connecting,
    /// Connected, with a session that discovery accepted.
    Up(Arc<Live>),
    /// Away; attempts go on.
    Down,
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) channel: Channel,
    /// Fires when the connection is given up.
    pub(crate) dead: CancellationToken,
}

impl Link {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self(watch::channel(LinkState { reach: Reach::Connecting, since: SystemTime::now() }).0)
    }

    /// The state and its changes.
    pub(crate) fn watch(&self) -> watch::Receiver<LinkState> {
        self.0.subscribe()
    }

    /// The state now.
    pub(crate) fn state(&self) -> LinkState {
        self.0.borrow().clone()
    }

    /// The connection, if there is one.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        match &self.0.borrow().reach {
            Reach::Up(live) => Some(live.clone()),
            _ => None,
        }
    }

    /// Discovery accepted the session on this connection.
    pub(crate) fn up(&self, connection: &Connection) {
        let live = Live { channel: connection.channel.clone(), dead: CancellationToken::new() };
        self.set(Reach::Up(Arc::new(live)));
    }

    /// The connection is lost, or an attempt failed.
    pub(crate) fn down(&self) {
        if !matches!(self.0.borrow().reach, Reach::Down) {
            self.set(Reach::Down);
        }
    }

    fn set(&self, reach: Reach) {
        let before = self.0.send_replace(LinkState { reach, since: SystemTime::now() });
        if let Reach::Up(live) = before.reach {
            live.dead.cancel();
        }
    }
}

impl Reach {
    /// The word for people.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up(_) => "connected",
            Self::Down => "unreachable",
        }
    }
}
