//! Connections that are turned away: counted, and logged as their listener says.
//!
//! Flags are Envoy's: `NR` where nothing takes a connection, `OM` where there are too many, none where the client is slow
//! or its handshake fails: that is told by `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.

use std::time::{Instant, SystemTime};

use super::dispatch::Arrival;
use crate::access_log::{Details, Downstream, Flags, Record};
use crate::config::{Config, Listener};
use crate::telemetry::Refusal;
use crate::worker::Worker;

/// A connection that may be turned away.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'c> {
    pub(crate) worker: &'c Worker,
    pub(crate) arrival: Arrival,
    /// Whose logs have it; without one only a log of the command line has.
    pub(crate) listener: Option<&'c Listener>,
    pub(crate) began: Instant,
    pub(crate) server_name: Option<&'c str>,
    pub(crate) chain: &'c str,
}

impl<'c> Incoming<'c> {
    /// One that came now.
    pub(crate) fn new(worker: &'c Worker, arrival: Arrival, listener: Option<&'c Listener>) -> Self {
        Self { worker, arrival, listener, began: Instant::now(), server_name: None, chain: "" }
    }

    /// Turns it away.
    #[cold]
    pub(crate) fn refuse(&self, why: Refusal) {
        self.end(why, None);
    }

    /// Turns it away because TLS with the client came to nothing.
    #[cold]
    pub(crate) fn refuse_tls(&self, why: Refusal, error: &str) {
        self.end(why, Some(error));
    }

    fn end(&self, why: Refusal, error: Option<&str>) {
        self.worker.counters().refuse(why);
        let logs = self.worker.shared.access_logs.of(self.listener.map_or(&[], |l| &l.access_log));
        if logs.is_empty() {
            return;
        }
        let (flags, details) = match why {
            Refusal::NoListener | Refusal::NoChain => (Flags::NR, Some(Details::Other("filter_chain_not_found"))),
            Refusal::TooMany => (Flags::OM, None),
            _ => (Flags::NONE, None),
        };
        let downstream = Downstream {
            local: Some(self.arrival.to),
            remote: self.arrival.peer,
            direct: self.arrival.peer,
            server_name: self.server_name,
            chain: self.chain,
            ..Downstream::default()
        };
        let lasted = self.began.elapsed();
        let start = SystemTime::now().checked_sub(lasted).unwrap_or(SystemTime::UNIX_EPOCH);
        let failure = error.map(|e| format!("TLS error: {e}"));
        let record = Record {
            flags,
            details: details.as_ref(),
            downstream_failure: failure.as_deref(),
            ..Record::new(downstream, start, lasted)
        };
        self.worker.lines.write(logs, &record);
    }
}

/// The listener of an address, as far as it is known.
pub(super) fn listener(config: &Config, arrival: Arrival, outbound: bool) -> Option<&Listener> {
    if outbound { config.outbound.get(&arrival.to).map(|l| &**l) } else { config.inbound.as_deref() }
}
