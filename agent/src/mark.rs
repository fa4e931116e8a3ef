//! The mark of the agent's own sockets, by which redirection leaves them alone.
//!
//! The agent is told from others by its user where it has one; where it runs as root, as in a container, by this mark.

use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use crate::config::Config;
use crate::redirect::OWN_MARK;

/// The mark, if there is one to set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnMark(Option<u32>);

impl OwnMark {
    /// What the operator named; else ours, for who runs as root.
    pub(crate) fn of(config: &Config) -> Self {
        let root = nix::unistd::geteuid().is_root();
        Self(config.file.mark.or(root.then_some(OWN_MARK.value)))
    }

    /// Marks a socket. Without the privilege it stays as it is: then the user tells.
    pub(crate) fn set(self, socket: &impl AsFd) {
        if let Some(mark) = self.0
            && let Err(error) = setsockopt(socket, sockopt::Mark, &mark)
        {
            tracing::debug!(%error, "a socket was not marked");
        }
    }
}
