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
//!
//! A proxy that takes over ([`Part::TakesOver`]) gets duplicates while the other one serves. It says [`Serving`] when it
//! serves and whoever started it knows that it stays; the agent then orders the other one to end and make room
//! ([`End::yields`]), and answers the new one with what it lacks, nothing perhaps: from then on that is the proxy. One that
//! made room connects again as [`Part::Yields`], and gets nothing. Fields are only ever added: who does not know them does
//! as before, and an agent that knows none of this refuses a second proxy.

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
    /// Why it connects.
    #[serde(default, skip_serializing_if = "Part::is_default")]
    pub part: Part,
    /// Whether it knows how to make room for another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub can_yield: bool,
}

/// Which part a proxy plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It is the proxy of the host.
    #[default]
    Serves,
    /// It takes over from the one that is.
    TakesOver,
    /// It has made room, and lets its connections end.
    Yields,
}

impl Part {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a proxy that takes over says, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// It serves, and stays.
    pub serving: bool,
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
    /// It may not take over.
    Refused(Refused),
}

/// Why a proxy may not take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A sentence for people.
    pub refused: String,
}

/// An order to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Seconds that connections have to end themselves; what is left then is cut. A second order counts instead of the first.
    pub end_within: u32,
    /// Another one has taken over: it takes no new connection, gives up its ports, and lets old connections be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yields: bool,
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
        let end = Message::End(End { end_within: 5, yields: false });
        assert_eq!(encode(&end), b"{\"end_within\":5}");
        assert_eq!(serde_json::from_slice::<Message>(&encode(&end)).unwrap(), end);
        let request: Request = serde_json::from_str(r#"{"workers":2,"version":"0.1.0","pid":7}"#).unwrap();
        assert!(request.holds.is_empty());
    }

    #[test]
    fn versions_apart_understand_each_other() {
        // As they were before anybody could take over.
        #[derive(Deserialize)]
        struct OldRequest {
            workers: u32,
        }
        #[derive(Deserialize)]
        struct OldEnd {
            end_within: u32,
        }
        let (version, holds) = ("0.2.0".to_owned(), Vec::new());
        let request = Request { workers: 2, version, pid: 7, holds, part: Part::TakesOver, can_yield: true };
        let bytes = encode(&request);
        assert!(bytes.ends_with(br#""part":"takes-over","can_yield":true}"#));
        assert_eq!(serde_json::from_slice::<Request>(&bytes).unwrap(), request);
        assert_eq!(serde_json::from_slice::<OldRequest>(&bytes).unwrap().workers, 2);
        let old: Request = serde_json::from_str(r#"{"workers":2,"version":"0.1.0","pid":7,"holds":[]}"#).unwrap();
        assert_eq!((old.part, old.can_yield), (Part::Serves, false));
        assert_eq!(encode(&old), br#"{"workers":2,"version":"0.1.0","pid":7,"holds":[]}"#);

        let end = Message::End(End { end_within: 3600, yields: true });
        assert_eq!(encode(&end), br#"{"end_within":3600,"yields":true}"#);
        assert_eq!(serde_json::from_slice::<Message>(&encode(&end)).unwrap(), end);
        assert_eq!(serde_json::from_slice::<OldEnd>(&encode(&end)).unwrap().end_within, 3600);
        let refused = Message::Refused(Refused { refused: "no".into() });
        assert_eq!(serde_json::from_slice::<Message>(&encode(&refused)).unwrap(), refused);
        assert_eq!(encode(&Serving { serving: true }), br#"{"serving":true}"#);
    }
}
