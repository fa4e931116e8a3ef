//! The access log's line of a connection.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Carried;
use crate::access_log::{Details, Downstream, Flags, Record};
use crate::config::{Chain, TcpSpec};
use crate::guard::Marks;
use crate::listen::Arrival;
use crate::tls::Peer;
use crate::worker::Worker;

/// What is known of a connection from its beginning.
#[derive(Clone, Copy)]
pub(super) struct Came<'c> {
    pub(super) worker: &'c Rc<Worker>,
    pub(super) arrival: Arrival,
    pub(super) spec: &'c TcpSpec,
    pub(super) chain: &'c Arc<Chain>,
    pub(super) peer: Option<&'c Peer>,
    pub(super) server_name: Option<&'c str>,
}

/// Bytes of a connection, added up while it lives.
#[derive(Default)]
pub(super) struct Bytes {
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Bytes {
    pub(super) fn add(&self, moved: Carried) {
        self.received.set(self.received.get() + moved.forth);
        self.sent.set(self.sent.get() + moved.back);
    }
}

/// What became of a connection.
pub(super) struct Went<'w> {
    pub(super) cluster: &'w str,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) attempts: u32,
    pub(super) flags: Flags,
    pub(super) failure: Option<&'static str>,
    pub(super) lasted: Duration,
    /// Why we ended it, if a policy made us.
    pub(super) ended_by: Option<&'w str>,
    /// Who refused it, if it was somebody who was asked.
    pub(super) details: Option<Details>,
    /// What policies want written down.
    pub(super) marks: Option<&'w Marks>,
}

impl Went<'_> {
    /// Nowhere.
    pub(super) fn nowhere() -> Self {
        Went {
            cluster: "",
            endpoint: None,
            attempts: 0,
            flags: Flags::NONE,
            failure: None,
            lasted: Duration::ZERO,
            ended_by: None,
            details: None,
            marks: None,
        }
    }
}

impl Came<'_> {
    /// Writes the line, where there is a log.
    pub(super) fn log(&self, bytes: &Bytes, went: &Went<'_>) {
        let logs = self.worker.shared.access_logs.of(&self.spec.access_log);
        if logs.is_empty() {
            return;
        }
        let downstream = Downstream {
            local: Some(self.arrival.to),
            remote: self.arrival.peer,
            direct: self.arrival.peer,
            server_name: self.server_name,
            peer: self.peer.map(|p| &*p.identity),
            peer_hash: self.peer.map(|p| p.hash.as_str()),
            own: self.peer.map(|p| &*p.own),
            tls: self.chain.tls.is_some().then_some("TLSv1.3"),
            chain: &self.chain.name,
            id: 0,
        };
        let start = SystemTime::now().checked_sub(went.lasted).unwrap_or(SystemTime::UNIX_EPOCH);
        let record = Record {
            flags: went.flags,
            transport_failure: went.failure,
            termination: went.ended_by,
            details: went.details.as_ref(),
            marks: went.marks,
            received: bytes.received.get(),
            sent: bytes.sent.get(),
            attempts: went.attempts,
            endpoint: went.endpoint,
            cluster: went.cluster,
            ..Record::new(downstream, start, went.lasted)
        };
        self.worker.lines.write(logs, &record);
    }
}
