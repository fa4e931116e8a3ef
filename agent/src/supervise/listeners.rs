//! The sockets that connections of the mesh arrive at: made here, served by the proxy, kept by both.
//!
//! In: the host's workloads and the proxy's number of workers. Out: listening sockets, one for each address and worker,
//! and duplicates that outlive the proxy, so that a connection that arrives in between waits instead of being refused.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use hawser_api::handover::{HBONE, INBOUND, Listener, MOST, OUTBOUND};
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

    /// Makes what is missing. A family that the host does not have is left out, and so is HBONE's port where another
    /// program has it; whether that is so. With `spare`, sockets of workers that there are no more of stay: connections may
    /// wait in them, which other workers take.
    pub(super) fn complete(&mut self, wanted: Vec<Listener>, spare: bool) -> io::Result<bool> {
        let mut taken = false;
        let same = |a: &Listener, b: &Listener| Listener { worker: b.worker, ..a.clone() } == *b;
        let mut more = if spare { MOST.saturating_sub(wanted.len()) } else { 0 };
        self.0.retain(|listener, _| {
            let stays = wanted.contains(listener);
            let spared = !stays && more > 0 && wanted.iter().any(|wanted| same(listener, wanted));
            more -= usize::from(spared);
            stays || spared
        });
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
                Err(error) if listener.name == HBONE && error.kind() == io::ErrorKind::AddrInUse => taken = true,
                Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", listener.addr))),
            }
        }
        Ok(taken)
    }

    /// What there is.
    pub(super) fn names(&self) -> Vec<Listener> {
        self.0.keys().cloned().collect()
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
    let mut kinds = vec![(INBOUND, ports::INBOUND, None), (HBONE, ports::HBONE, None)];
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
        assert_eq!(two.len(), 2 * 4 * 2);
        assert_eq!(two[0].addr.to_string(), "0.0.0.0:15006");
        assert_eq!((two[2].name.as_str(), two[2].addr.to_string().as_str()), (HBONE, "0.0.0.0:15008"));
        assert_eq!((two[4].workload.as_deref(), two[6].workload.as_deref()), (None, Some("b")));
        assert!(wanted(&record, u32::MAX).len() <= MOST);
        assert_eq!(wanted(&record, 0).len(), 8);
    }

    #[test]
    fn sockets_of_fewer_workers_stay_where_somebody_serves_them() {
        let on = |name: &str, worker, addr: &str| Listener {
            name: name.into(),
            addr: addr.parse().unwrap(),
            worker,
            workload: None,
        };
        let (a, b) = ("127.0.0.1:0", "127.0.0.2:0");
        let all = vec![on(OUTBOUND, 0, a), on(OUTBOUND, 1, a), on(HBONE, 0, b), on(HBONE, 1, b)];
        let mut listeners = Listeners::default();
        listeners.complete(all, false).unwrap();
        listeners.complete(vec![on(OUTBOUND, 0, a)], true).unwrap();
        assert_eq!(listeners.0.keys().map(|l| l.worker).collect::<Vec<_>>(), [0, 1], "nobody wants the other port");
        listeners.complete(vec![on(OUTBOUND, 0, a)], false).unwrap();
        assert_eq!(listeners.0.len(), 1);
    }

    #[test]
    fn a_program_that_has_the_port_of_hbone_keeps_it_and_nothing_else_suffers() {
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let on = |name: &str, addr: SocketAddr| Listener { name: name.into(), addr, worker: 0, workload: None };
        let both = |name| vec![on(name, theirs.local_addr().unwrap()), on(OUTBOUND, "127.0.0.2:0".parse().unwrap())];
        let mut listeners = Listeners::default();
        assert!(listeners.complete(both(HBONE), false).unwrap());
        assert_eq!(listeners.0.len(), 1);
        assert!(Listeners::default().complete(both(OUTBOUND), false).is_err());
    }
}
