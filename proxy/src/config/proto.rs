//! Small things that every translation needs: why a resource is refused, messages inside `Any`, durations, numbers.

use std::time::Duration;

pub use hawser_routing::Refused;
use prost::Name;

/// Refuses with a formatted sentence.
macro_rules! refuse {
    ($($arg:tt)*) => { return Err($crate::config::Refused(format!($($arg)*))) };
}
pub(super) use refuse;

/// Why, with the place put before it.
pub(super) trait At<T> {
    fn at(self, place: impl std::fmt::Display) -> Result<T, Refused>;
}

impl<T> At<T> for Result<T, Refused> {
    fn at(self, place: impl std::fmt::Display) -> Result<T, Refused> {
        self.map_err(|e| Refused(format!("{place}: {e}")))
    }
}

/// Reads the message of an `Any`, if it is of type `M`.
pub(super) fn unpack<M: Name + Default>(any: &prost_types::Any) -> Result<Option<M>, Refused> {
    if any.type_url != M::type_url() {
        return Ok(None);
    }
    M::decode(&any.value[..]).map(Some).map_err(|e| Refused(format!("{} can't be read: {e}", M::NAME)))
}

/// Type name of a plain-text transport.
pub(super) const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// A duration that is not negative.
pub(super) fn duration(field: &str, value: Option<&prost_types::Duration>) -> Result<Option<Duration>, Refused> {
    match value {
        None => Ok(None),
        Some(d) => match Duration::try_from(*d) {
            Ok(d) => Ok(Some(d)),
            Err(_) => refuse!("{field} is negative"),
        },
    }
}

/// A duration of which 0 means none.
pub(super) fn timeout(field: &str, value: Option<&prost_types::Duration>) -> Result<Option<Duration>, Refused> {
    Ok(duration(field, value)?.filter(|d| !d.is_zero()))
}

/// A text of endpoint or listener metadata: `filter_metadata[filter][key]`.
pub(super) fn metadata_text<'a>(
    metadata: Option<&'a hawser_api::proto::core::Metadata>,
    filter: &str,
    key: &str,
) -> Option<&'a str> {
    match metadata_value(metadata, filter, key)? {
        prost_types::value::Kind::StringValue(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The same as a value.
pub(super) fn metadata_value<'a>(
    metadata: Option<&'a hawser_api::proto::core::Metadata>,
    filter: &str,
    key: &str,
) -> Option<&'a prost_types::value::Kind> {
    metadata?.filter_metadata.get(filter)?.fields.get(key)?.kind.as_ref()
}

/// Address and port of a TCP socket.
pub(super) fn socket_address(
    field: &str,
    address: Option<&hawser_api::proto::core::Address>,
) -> Result<std::net::SocketAddr, Refused> {
    use hawser_api::proto::core::address::Address;
    use hawser_api::proto::core::socket_address::PortSpecifier;
    let Some(Address::SocketAddress(socket)) = address.and_then(|a| a.address.as_ref()) else {
        refuse!("{field} is no socket address");
    };
    if socket.protocol != 0 {
        refuse!("{field} is not TCP, which alone is supported");
    }
    let Ok(ip) = socket.address.parse::<std::net::IpAddr>() else {
        refuse!("{field}: {:?} is no IP address", socket.address);
    };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { refuse!("{field} has no port") };
    match u16::try_from(port) {
        Ok(port) => Ok(std::net::SocketAddr::new(ip, port)),
        Err(_) => refuse!("{field}: {port} is no port"),
    }
}

/// Host name and port of a TCP socket, if that is how it is named.
pub(super) fn host_and_port(address: Option<&hawser_api::proto::core::Address>) -> Option<(&str, u16)> {
    use hawser_api::proto::core::address::Address;
    use hawser_api::proto::core::socket_address::PortSpecifier;
    let Some(Address::SocketAddress(socket)) = address.and_then(|a| a.address.as_ref()) else { return None };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
    let name = socket.address.as_str();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_name = !name.is_empty() && name.len() <= 253 && name.bytes().all(plain);
    let port = u16::try_from(port).ok().filter(|_| socket.protocol == 0 && is_name)?;
    name.parse::<std::net::IpAddr>().is_err().then_some((name, port))
}
