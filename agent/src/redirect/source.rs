//! The address that an Envoy calls its own host's applications from, over IPv6: `::6/128` on loopback.
//!
//! Capture tells those connections from calls by it. Its like of IPv4, 127.0.0.6, is every host's already.

use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::AddressMessage;

use super::routes::{RouteError, connected, loopback};

const SOURCE: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Adds it, or takes it away; a sentence if it can't be had.
pub(super) async fn set(wanted: bool) -> Result<Vec<String>, RouteError> {
    connected(async |handle| {
        let existing = existing(&handle).await?;
        if !wanted {
            for address in existing {
                handle.address().del(address).execute().await.map_err(RouteError::Netlink)?;
            }
            return Ok(Vec::new());
        }
        if !existing.is_empty() {
            return Ok(Vec::new());
        }
        match handle.address().add(loopback()?, SOURCE, 128).execute().await {
            Ok(()) => Ok(Vec::new()),
            // A host without IPv6 has no callers over it either.
            Err(error) => Ok(vec![format!("{SOURCE} can't be had on lo: nobody is served over IPv6 ({error})")]),
        }
    })
    .await
}

async fn existing(handle: &Handle) -> Result<Vec<AddressMessage>, RouteError> {
    let found = handle.address().get().set_link_index_filter(loopback()?).set_address_filter(SOURCE).execute();
    found.try_collect().await.map_err(RouteError::Netlink)
}
