//! What sessions carry: a resource, its version, the URL of its type.
//!
//! In: names and bodies as a compiler or a peer made them. Out: cheap clones that many sessions share. Invariant:
//! equal type URLs are equal values, and known types compare without reading a string.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hawser_api::names::types;

/// One resource as it goes over the wire; its body is never opened here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name within its type.
    pub name: Arc<str>,
    /// A hash of its content.
    pub version: Version,
    /// The encoded message: what becomes `Any.value`.
    pub body: Bytes,
}

impl Resource {
    /// What it takes in a response, a little rounded up.
    pub(crate) fn wire_size(&self) -> usize {
        self.body.len() + 2 * self.name.len() + self.version.as_str().len() + 96
    }
}

/// The version of one resource: equal content, equal version, whoever computed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// As it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Version {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of a resource type. Known ones stand in the order in which a client that resumes asks for
/// them: what is led to comes before what leads to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeUrl(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    /// Index into `KNOWN`.
    Known(u8),
    Other(Arc<str>),
}

const KNOWN: [&str; 7] =
    [types::ENDPOINTS, types::CLUSTER, types::ROUTE, types::LISTENER, types::SECRET, types::NAME, types::CAPTURE];

impl TypeUrl {
    /// EDS.
    pub const ENDPOINTS: Self = Self(Repr::Known(0));
    /// CDS.
    pub const CLUSTER: Self = Self(Repr::Known(1));
    /// RDS.
    pub const ROUTE: Self = Self(Repr::Known(2));
    /// LDS.
    pub const LISTENER: Self = Self(Repr::Known(3));
    /// SDS.
    pub const SECRET: Self = Self(Repr::Known(4));
    /// Host names for the agent's DNS.
    pub const NAME: Self = Self(Repr::Known(5));
    /// What the agent captures.
    pub const CAPTURE: Self = Self(Repr::Known(6));

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(index) => KNOWN[usize::from(*index)],
            Repr::Other(url) => url,
        }
    }

    /// The message's name without its package, for people: `Cluster`.
    pub fn short(&self) -> &str {
        let url = self.as_str();
        url.rsplit(['.', '/']).next().unwrap_or(url)
    }
}

impl From<&str> for TypeUrl {
    fn from(url: &str) -> Self {
        match (0..).zip(KNOWN).find(|(_, known)| *known == url) {
            Some((index, _)) => Self(Repr::Known(index)),
            None => Self(Repr::Other(url.into())),
        }
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}
