//! What somebody changes of our table and routes, as the kernel tells it at once.
//!
//! In: notifications of nftables, routes, addresses and loopback. Out: an [`Event`] whenever one of them was about what
//! is ours, our own changes included: who waits for it compares before it acts. What others do to what is theirs is
//! read over. Where the kernel had to leave notifications out, that is an event too.

use std::io;

use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use super::compile;
use super::netlink::{find, messages};
use super::routes::PROTOCOL;
use super::ruleset::TABLE;

/// Something that is ours may not be what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The table was deleted and is not there again.
    pub gone: bool,
    /// Table, chains or rules.
    pub rules: bool,
    /// Elements of sets.
    pub elements: bool,
    /// Routes, or what they need.
    pub routes: bool,
    /// The program that changed the table, as the kernel names it.
    pub by: Option<String>,
}

/// Hears what is changed.
pub struct Watch {
    firewall: Source,
    routes: Source,
    loopback: u32,
    transaction: Event,
}

struct Source {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

/// More than the kernel puts into one datagram.
const BUFFER: usize = 64 << 10;
/// NFNLGRP_NFTABLES.
const FIREWALL_GROUPS: u32 = 1 << 6;
/// RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE.
const ROUTE_GROUPS: u32 = 1 | 1 << 6 | 1 << 8 | 1 << 10;

impl Watch {
    /// Hears from now on.
    ///
    /// # Errors
    /// If the kernel does not let us.
    pub fn start() -> io::Result<Self> {
        Ok(Self {
            firewall: Source::hear(NETLINK_NETFILTER, FIREWALL_GROUPS)?,
            routes: Source::hear(NETLINK_ROUTE, ROUTE_GROUPS)?,
            loopback: nix::net::if_::if_nametoindex("lo").unwrap_or_default(),
            transaction: Event::default(),
        })
    }

    /// Waits for the next event. Nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// If the kernel can't be heard any more.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            let Self { firewall, routes, .. } = self;
            let event = tokio::select! {
                biased;
                heard = firewall.receive() => match heard? {
                    Some(bytes) => firewall_event(bytes, &mut self.transaction),
                    None => {
                        self.transaction = Event::default();
                        Some(Event::anything())
                    }
                },
                heard = routes.receive() => match heard? {
                    Some(bytes) => route_event(bytes, self.loopback),
                    None => Some(Event::anything()),
                },
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }
}

impl Source {
    fn hear(protocol: isize, groups: u32) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER) })
    }

    /// One datagram; `None` if there were more than the socket could hold.
    async fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            Ok(()) => Ok(Some(&self.buffer)),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(&[])),
            Err(error) => Err(error),
        }
    }
}

const NFTABLES: u16 = 10 << 8;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
const NEW_GENERATION: u16 = 15;
const NEW_OBJECT: u16 = 18;
const INET: u8 = 1;
/// The table's name, in messages of every kind.
const NAME: u16 = 1;
/// The set's name, in messages of elements.
const SET_NAME: u16 = 2;
const PROGRAM: u16 = 3;

/// What a datagram of nftables says of our table; told when its transaction is whole.
fn firewall_event(bytes: &[u8], transaction: &mut Event) -> Option<Event> {
    let mut whole: Option<Event> = None;
    for (kind, body) in messages(bytes) {
        let (Some(kind), Some(family), Some(attributes)) = (kind.checked_sub(NFTABLES), body.first(), body.get(4..))
        else {
            continue;
        };
        if kind == NEW_GENERATION {
            let event = std::mem::take(transaction);
            if event != Event::default() {
                let by = find(attributes, PROGRAM).map(text);
                let before = whole.take().unwrap_or_default();
                whole = Some(Event { by, ..before.and(event) });
            }
            continue;
        }
        if *family != INET || find(attributes, NAME).is_none_or(|name| text(name) != TABLE) {
            continue;
        }
        match kind {
            DELETE_TABLE => transaction.gone = true,
            NEW_TABLE => (transaction.gone, transaction.rules) = (false, true),
            NEW_ELEMENT | DELETE_ELEMENT => {
                let set = find(attributes, SET_NAME).map(text).unwrap_or_default();
                transaction.elements |= !compile::expiring_sets().contains(&set.as_str());
            }
            NEW_OBJECT.. => {}
            _ => transaction.rules = true,
        }
    }
    whole
}

const NEW_LINK: u16 = 16;
const DELETE_ADDRESS: u16 = 21;
const DELETE_ROUTE: u16 = 25;
const UP: u32 = 1;

/// What a datagram of the routes' says of ours, or of loopback, which takes ours with it when it goes down.
fn route_event(bytes: &[u8], loopback: u32) -> Option<Event> {
    let number = |body: &[u8], at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let ours = |(kind, body): (u16, &[u8])| match kind {
        DELETE_ROUTE => body.get(5) == Some(&PROTOCOL),
        DELETE_ADDRESS => number(body, 4) == Some(loopback),
        NEW_LINK => number(body, 4) == Some(loopback) && number(body, 8).is_some_and(|flags| flags & UP != 0),
        _ => false,
    };
    messages(bytes).any(ours).then(|| Event { routes: true, ..Event::default() })
}

impl Event {
    /// What there is to look at when nothing is known.
    pub fn anything() -> Self {
        Self { rules: true, elements: true, routes: true, ..Self::default() }
    }

    /// Both, this one being the earlier.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            gone: if later.gone || later.rules { later.gone } else { self.gone },
            rules: self.rules || later.rules,
            elements: self.elements || later.elements,
            routes: self.routes || later.routes,
            by: later.by.or(self.by),
        }
    }
}

fn text(name: &[u8]) -> String {
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::netlink::attribute;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(body);
        bytes
    }

    fn nft(kind: u16, attributes: &[(u16, &str)]) -> Vec<u8> {
        let mut body = vec![INET, 0, 0, 0];
        for (kind, value) in attributes {
            body.extend(attribute(*kind, format!("{value}\0").as_bytes()));
        }
        message(NFTABLES | kind, &body)
    }

    fn told(parts: &[Vec<u8>]) -> Option<Event> {
        firewall_event(&parts.concat(), &mut Event::default())
    }

    #[test]
    fn a_flush_and_a_replacement_are_told_apart_when_they_are_whole() {
        let end = nft(NEW_GENERATION, &[(PROGRAM, "nft")]);
        let [gone, made] = [DELETE_TABLE, NEW_TABLE].map(|kind| nft(kind, &[(NAME, TABLE)]));
        let by = Some("nft".to_owned());
        let flushed = Event { gone: true, by: by.clone(), ..Event::default() };
        assert_eq!(told(&[gone.clone(), end.clone()]), Some(flushed.clone()));
        let replaced = Event { rules: true, by, ..Event::default() };
        assert_eq!(told(&[gone.clone(), made, end.clone()]), Some(replaced.clone()));
        // Not before its end is there, however it comes.
        let mut open = Event::default();
        assert_eq!(firewall_event(&gone, &mut open), None);
        assert_eq!(firewall_event(&end, &mut open), Some(flushed.clone()));
        assert!(replaced.clone().and(flushed.clone()).gone && !flushed.and(replaced).gone);
    }

    #[test]
    fn what_is_not_ours_is_read_over() {
        let end = nft(NEW_GENERATION, &[(PROGRAM, "ufw")]);
        assert_eq!(told(&[nft(DELETE_TABLE, &[(NAME, "filter")]), end.clone()]), None);
        let renewed = nft(NEW_ELEMENT, &[(NAME, TABLE), (SET_NAME, "servers4")]);
        assert_eq!(told(&[renewed, end.clone()]), None, "our own renewals");
        let targets = nft(DELETE_ELEMENT, &[(NAME, TABLE), (SET_NAME, "targets4")]);
        assert!(told(&[targets, end]).is_some_and(|event| event.elements && !event.rules));
        let route = |protocol| message(DELETE_ROUTE, &[2, 16, 0, 0, 254, protocol, 254, 1, 0, 0, 0, 0]);
        assert_eq!(route_event(&route(4), 1), None);
        assert!(route_event(&[route(4), route(PROTOCOL)].concat(), 1).is_some_and(|event| event.routes));
        assert_eq!(route_event(&[7; 40], 1), None);
    }
}
