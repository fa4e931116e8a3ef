//! `google.protobuf.Any`: a message with the URL of its type.
//!
//! In: messages of `proto`, or an `Any` of a peer. Out: the other. Invariant: an `Any` is only read as the type
//! that its URL names.

use prost::Name;
use prost_types::Any;

/// Why an `Any` can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its URL names another type.
    #[error("a message of type {found:?} where {expected} belongs")]
    Type {
        /// What it says.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// Its bytes are no such message.
    #[error("not a valid {expected}")]
    Malformed {
        /// The type.
        expected: String,
        /// Where the bytes go wrong.
        #[source]
        source: prost::DecodeError,
    },
}

/// A message with its type URL.
pub fn pack<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// The message, if it is one of this type.
pub fn unpack<M: Name + Default>(any: &Any) -> Result<M, Error> {
    let expected = M::type_url();
    if any.type_url != expected {
        return Err(Error::Type { found: any.type_url.clone(), expected });
    }
    M::decode(any.value.as_slice()).map_err(|source| Error::Malformed { expected, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::types;
    use crate::proto::{cluster::Cluster, endpoint::ClusterLoadAssignment, listener::Listener, mesh, route, tls};

    #[test]
    fn a_message_comes_back_and_only_as_what_it_is() {
        let cluster = Cluster { name: "c".to_owned(), ..Default::default() };
        let any = pack(&cluster);
        assert_eq!(unpack::<Cluster>(&any).unwrap(), cluster);
        let error = unpack::<Listener>(&any).unwrap_err().to_string();
        assert!(error.contains("v3.Cluster") && error.contains("v3.Listener"), "{error}");
        let torn = Any { value: vec![0x0a, 9], ..any };
        assert!(matches!(unpack::<Cluster>(&torn), Err(Error::Malformed { .. })));
    }

    #[test]
    fn type_urls_are_those_of_the_messages() {
        assert_eq!(Cluster::type_url(), types::CLUSTER);
        assert_eq!(Listener::type_url(), types::LISTENER);
        assert_eq!(ClusterLoadAssignment::type_url(), types::ENDPOINTS);
        assert_eq!(route::RouteConfiguration::type_url(), types::ROUTE);
        assert_eq!(tls::Secret::type_url(), types::SECRET);
        assert_eq!(
            (mesh::Name::type_url().as_str(), mesh::Capture::type_url().as_str()),
            (types::NAME, types::CAPTURE)
        );
    }
}
