//! Application protocols: what a client offers, and what a server chooses of it.
//!
//! The offered list is a signal of the mesh, not a wish: a server tells mesh mTLS by it. So a client offers exactly
//! Istio's lists, and a server never selects `istio-peer-exchange`, which would oblige it to speak it.

use hawser_api::names::alpn;

use crate::detect::ClientHello;

/// What a client wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Offer {
    /// Bytes.
    Tcp,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/1.1, carried as HTTP/2 if the other side is a hawser-proxy.
    HawserHttp1,
    /// HTTP/2, the same.
    HawserHttp2,
    /// Bytes, in a tunnel that others share if the other side is a hawser-proxy.
    Tunnel,
    /// HBONE.
    Hbone,
}

/// The list a client offers.
pub fn offer(offer: Offer) -> Vec<Vec<u8>> {
    let (first, rest): (&[&str], &[&str]) = match offer {
        Offer::Tcp => (&[], &alpn::TCP),
        Offer::Http1 => (&[], &alpn::HTTP1),
        Offer::Http2 => (&[], &alpn::HTTP2),
        Offer::HawserHttp1 => (&[alpn::HAWSER_H2], &alpn::HTTP1),
        Offer::HawserHttp2 => (&[alpn::HAWSER_H2], &alpn::HTTP2),
        Offer::Tunnel => (&[alpn::HAWSER_TUNNEL], &alpn::TCP),
        Offer::Hbone => (&[], &[alpn::HBONE]),
    };
    first.iter().chain(rest).map(|p| p.as_bytes().to_vec()).collect()
}

/// What a server selects, if anything: `http` says whether HTTP is served on the chosen chain, `configured` is what
/// its context lists, for clients that are not of the mesh.
pub fn select(hello: &ClientHello, http: bool, configured: &[String]) -> Option<Vec<u8>> {
    let of_mesh = alpn::MESH_TCP.iter().chain(&alpn::MESH_HTTP).any(|p| hello.offers(p));
    let choices: Vec<&str> = match (http, of_mesh) {
        (true, true) => vec![alpn::HAWSER_H2, "h2", "http/1.1", "http/1.0"],
        (false, true) => vec![alpn::HAWSER_TUNNEL],
        (_, false) => configured.iter().map(String::as_str).filter(|p| *p != alpn::TCP[0]).collect(),
    };
    choices.into_iter().find(|p| hello.offers(p)).map(|p| p.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_never_takes_peer_exchange_and_nothing_for_tcp() {
        for (offered, http, is) in [
            (offer(Offer::Tcp), false, None),
            (offer(Offer::Tcp), true, None),
            (offer(Offer::Tunnel), false, Some("hawser-tunnel")),
            (offer(Offer::Tunnel), true, None),
            (offer(Offer::Http1), true, Some("http/1.1")),
            (offer(Offer::Http2), true, Some("h2")),
            (offer(Offer::HawserHttp1), true, Some("hawser-h2")),
            (offer(Offer::HawserHttp2), true, Some("hawser-h2")),
            (offer(Offer::Http1), false, None),
            (vec![b"istio-peer-exchange".to_vec(), b"istio".to_vec(), b"h2".to_vec()], true, Some("h2")),
            (vec![b"istio-peer-exchange".to_vec()], false, None),
            (vec![b"h2".to_vec()], true, Some("h2")),
        ] {
            let hello = ClientHello { server_name: None, alpn: offered.clone().into() };
            let configured = ["istio-peer-exchange".to_owned(), "h2".to_owned()];
            assert_eq!(select(&hello, http, &configured).as_deref(), is.map(str::as_bytes), "{offered:?} {http}");
        }
    }
}
