//! The sockets that connections of the mesh arrive at: made here, served by the proxy, kept by both.
//!
//! In: the host's workloads and the proxy's number of workers. Out: listening sockets, one for each address and worker,
//! and duplicates that outlive the proxy, so that a connection that arrives in between waits instead of being refused.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use hawser_api::handover::{INBOUND, Listener, MOST, OUTBOUND};
use hawser_api::names::ports;
use hawser_api::proto::host::Record;
use hawser_sockets::{reuse_port_listener, transparent_listener};

const BACKLOG: u32 = 4096;

/// The sockets, by what they are for.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<Listener, OwnedFd>);

impl Listeners {
    /// Takes what a proxy holds already; the kernel's own word on an address counts.
    pub(super) fn adopt(&mut self, listeners: Vec<Listener>, descriptors: Vec<OwnedFd>) {
        for (listener, descriptor) in listeners.into_iter().zip(descriptors) {
            let socket = std::net::TcpListener::from(descriptor);
            if socket.local_addr().is_ok_and(|address| address == listener.addr) {
                self.0.entry(listener).or_insert(socket.into());
            }
        }
    }

    /// Makes what is missing. A family that the host does not have is left out.
    pub(super) fn complete(&mut self, wanted: Vec<Listener>) -> io::Result<()> {
        self.0.retain(|listener, _| wanted.contains(listener));
        for listener in wanted {
            if self.0.contains_key(&listener) {
                continue;
            }
            let made = if listener.name == INBOUND {
                transparent_listener(listener.addr, BACKLOG)
            } else {
                reuse_port_listener(listener.addr, BACKLOG)
            };
            match made {
                Ok(socket) => _ = self.0.insert(listener, socket.into()),
                Err(error) if listener.addr.is_ipv6() && no_family(&error) => {}
                Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", listener.addr))),
            }
        }
        Ok(())
    }

    /// What a proxy lacks that holds these.
    pub(super) fn beyond<'a>(&'a self, holds: &[Listener]) -> (Vec<&'a Listener>, Vec<BorrowedFd<'a>>) {
        let missing = self.0.iter().filter(|(listener, _)| !holds.contains(listener));
        missing.map(|(listener, socket)| (listener, socket.as_fd())).unzip()
    }

    /// Closes them all: nobody will serve what waits in them.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }
}

/// What a host's proxy listens on.
pub(super) fn wanted(record: &Record, workers: u32) -> Vec<Listener> {
    let mut kinds = vec![(INBOUND, ports::INBOUND, None)];
    for (index, workload) in record.workloads.iter().enumerate() {
        let port = u16::try_from(workload.outbound_port).ok().filter(|port| *port != 0).unwrap_or(ports::OUTBOUND);
        kinds.push((OUTBOUND, port, (index > 0).then(|| workload.id.clone())));
    }
    // As many workers as fit into one message; a proxy with more shares what it gets.
    let fitting = u32::try_from(MOST / (2 * kinds.len())).unwrap_or(1).max(1);
    let mut wanted = Vec::new();
    for worker in 0..workers.clamp(1, fitting) {
        for (name, port, workload) in &kinds {
            for ip in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
                let (name, addr) = ((*name).to_owned(), SocketAddr::new(ip, *port));
                wanted.push(Listener { name, addr, worker, workload: workload.clone() });
            }
        }
    }
    wanted
}

fn no_family(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(number, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use hawser_api::proto::host::Workload;

    use super::*;

    #[test]
    fn each_worker_gets_each_address_and_no_message_grows_too_long() {
        let workload = |id: &str, outbound_port| Workload { id: id.into(), outbound_port, ..Workload::default() };
        let record = Record { workloads: vec![workload("a", 15001), workload("b", 15100)], ..Record::default() };
        let two = wanted(&record, 2);
        assert_eq!(two.len(), 2 * 3 * 2);
        assert_eq!(two[0].addr.to_string(), "0.0.0.0:15006");
        assert_eq!((two[2].workload.as_deref(), two[4].workload.as_deref()), (None, Some("b")));
        assert!(wanted(&record, u32::MAX).len() <= MOST);
        assert_eq!(wanted(&record, 0).len(), 6);
    }
}
