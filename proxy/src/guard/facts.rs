//! What policies look at.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use crate::http::message::{Fields, Known, RequestHead};
use crate::listen::Arrival;

/// What is known of a request, or of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'f> {
    /// Where it was going.
    pub(crate) to: SocketAddr,
    /// The other end of the connection.
    pub(crate) direct: IpAddr,
    /// The client, as proxies before us tell it.
    pub(crate) remote: IpAddr,
    /// Server name of the ClientHello.
    pub(crate) server_name: Option<&'f str>,
    /// The identity that mTLS proved.
    pub(crate) peer: Option<&'f str>,
    /// The request, if it is one.
    pub(crate) request: Option<&'f RequestHead>,
    /// Claims of verified tokens.
    pub(crate) claims: Option<&'f Map<String, Value>>,
}

impl<'f> Facts<'f> {
    /// Of a connection.
    pub(crate) fn of(arrival: Arrival, server_name: Option<&'f str>, peer: Option<&'f str>) -> Self {
        // What never left the host comes from where it goes.
        let direct = arrival.peer.unwrap_or(arrival.to).ip().to_canonical();
        Self { to: arrival.to, direct, remote: direct, server_name, peer, request: None, claims: None }
    }

    /// Of one of its requests; `edge` if nobody before us is believed.
    pub(crate) fn request(mut self, head: &'f RequestHead, edge: bool) -> Self {
        if !edge && let Some(told) = forwarded(&head.fields) {
            self.remote = told;
        }
        self.request = Some(head);
        self
    }
}

/// The last address of `x-forwarded-for`: the one that the proxy before us has added.
fn forwarded(fields: &Fields) -> Option<IpAddr> {
    fields.known(Known::ForwardedFor)?;
    let last = fields.all(Known::ForwardedFor.name()).last()?;
    let last = last.rsplit(|b| *b == b',').next()?.trim_ascii();
    std::str::from_utf8(last).ok()?.parse().ok()
}

#[test]
fn the_last_of_who_was_forwarded_for_counts() {
    for (lines, is) in [
        (&["1.2.3.4, 5.6.7.8"][..], Some("5.6.7.8")),
        (&["1.2.3.4", "::1"], Some("::1")),
        (&["1.2.3.4:80"], None),
        (&["1.2.3.4,"], None),
        (&[], None),
    ] {
        let mut fields = Fields::default();
        lines.iter().for_each(|line| fields.push_known(Known::ForwardedFor, line.as_bytes()));
        assert_eq!(forwarded(&fields), is.map(|text| text.parse().unwrap()), "{lines:?}");
    }
}
