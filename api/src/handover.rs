//! How the agent hands listening sockets to the proxy, over `listeners.sock` in the run directory.
//!
//! The agent starts the proxy as `hawser-proxy --run-dir <run directory>`, as the proxy's user. The proxy connects and
//! sends one frame of JSON, a [`Request`], with one descriptor (SCM_RIGHTS) for each listener in `holds`, in order. The
//! agent checks SO_PEERCRED and answers with one frame of JSON, an array of [`Listener`], with one descriptor for each,
//! in order: those that the proxy lacks. Both then keep the connection: while it is open the agent knows that the proxy
//! lives. When the agent goes away, the proxy goes on serving, connects again and names what it holds; so the new agent
//! gets duplicates and never binds a second socket to a port that the proxy serves. The agent may send further arrays
//! when the host gets further workloads, and ends the proxy by an [`End`] in place of an array: who may do that is who may
//! make the socket, and nobody else on the host. Frames are those of `hawser_sockets::{send_fds, recv_fds}`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// File name of the socket in the run directory.
pub const SOCKET: &str = "listeners.sock";
/// The most descriptors of one message: Linux takes 253.
pub const MOST: usize = 252;
/// The longest message.
pub const LONGEST: usize = 64 * 1024;
/// [`Listener::name`] of outbound capture.
pub const OUTBOUND: &str = "outbound";
/// [`Listener::name`] of inbound capture; the socket is transparent.
pub const INBOUND: &str = "inbound";
/// [`Listener::name`] of HBONE: connections come to it as they are. Absent where another program has the port.
pub const HBONE: &str = "hbone";

/// What the proxy says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// How many workers it runs; each gets its own listener for each address.
    pub workers: u32,
    /// Its version, for people.
    pub version: String,
    /// Its process.
    pub pid: i32,
    /// What it holds already; the descriptors come along, in this order. Empty at its start.
    #[serde(default)]
    pub holds: Vec<Listener>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// [`OUTBOUND`], [`INBOUND`] or [`HBONE`]; a proxy closes what it does not know.
    pub name: String,
    /// What it is bound to.
    pub addr: SocketAddr,
    /// Which worker accepts on it: 0 to `workers` - 1.
    pub worker: u32,
    /// Outbound: the id of the workload whose connections arrive there. Absent: the host's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Message {
    /// Sockets, whose descriptors come along.
    Listeners(Vec<Listener>),
    /// The proxy is to end.
    End(End),
}

/// An order to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Seconds that connections have to end themselves; what is left then is cut. A second order counts instead of the first.
    pub end_within: u32,
}

/// A message's bytes.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back() {
        let listener =
            Listener { name: INBOUND.into(), addr: "[::]:15006".parse().unwrap(), worker: 1, workload: None };
        let bytes = encode(&vec![&listener]);
        assert_eq!(bytes, b"[{\"name\":\"inbound\",\"addr\":\"[::]:15006\",\"worker\":1}]");
        assert_eq!(serde_json::from_slice::<Message>(&bytes).unwrap(), Message::Listeners(vec![listener]));
        let end = Message::End(End { end_within: 5 });
        assert_eq!(encode(&end), b"{\"end_within\":5}");
        assert_eq!(serde_json::from_slice::<Message>(&encode(&end)).unwrap(), end);
        let request: Request = serde_json::from_str(r#"{"workers":2,"version":"0.1.0","pid":7}"#).unwrap();
        assert!(request.holds.is_empty());
    }
}
