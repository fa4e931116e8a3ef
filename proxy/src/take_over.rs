//! A new proxy in place of the one that runs: what is done by the process that was asked for it, and by the new one.
//!
//! In: the program as it lies on the disk, the service manager if there is one. Out: a child that serves, which is then the
//! service's main process; or no child, and why. Between both is a socket, the child's stdin, with a line for each step:
//! the child is `ready`, it may `go`, it is `serving`; or `no`, and why. Invariant: until it may go, the child changes
//! nothing, and it does not outlive whoever started it.

mod starter;
mod successor;

pub use starter::run;
pub(crate) use successor::Starter;

/// The child has sockets and configuration.
const READY: &str = "ready";
/// The service manager knows the child.
const GO: &str = "go";
/// The child is the proxy.
const SERVING: &str = "serving";
/// The child can't take over; a sentence follows.
const NO: &str = "no";
