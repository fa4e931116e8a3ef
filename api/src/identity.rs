//! Identities: trust domains and SPIFFE ids.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A trust domain (SPIFFE ID, section 2.1): lower-case letters, digits, `.`, `-`, `_`; 1 to 255 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

/// What is wrong with an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// Not a trust domain.
    #[error("{0:?} is not a trust domain: it holds lower-case letters, digits, '.', '-' and '_', 255 at most")]
    TrustDomain(String),
    /// Not a SPIFFE id.
    #[error("{0:?} is not a SPIFFE id: {1}")]
    SpiffeId(String, &'static str),
}

impl TrustDomain {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity that only discovery has.
    pub fn discovery(&self) -> SpiffeId {
        SpiffeId::new(self, Path::Discovery)
    }

    /// The identity of a joined host.
    ///
    /// # Errors
    /// If `instance_id` can't be a segment of a SPIFFE id.
    pub fn host(&self, instance_id: &str) -> Result<SpiffeId, InvalidIdentity> {
        check_segment(instance_id)?;
        Ok(SpiffeId::new(self, Path::Host(instance_id.into())))
    }

    /// The identity of a workload.
    ///
    /// # Errors
    /// If namespace or service account can't be a segment of a SPIFFE id.
    pub fn workload(&self, namespace: &str, service_account: &str) -> Result<SpiffeId, InvalidIdentity> {
        check_segment(namespace)?;
        check_segment(service_account)?;
        let path = Path::Workload { namespace: namespace.into(), service_account: service_account.into() };
        Ok(SpiffeId::new(self, path))
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(ok) {
            return Err(InvalidIdentity::TrustDomain(text.chars().take(300).collect()));
        }
        Ok(Self(text.into()))
    }
}

/// What a SPIFFE id of the mesh names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// `/ns/<namespace>/sa/<service account>`.
    Workload {
        /// Namespace.
        namespace: Arc<str>,
        /// Service account.
        service_account: Arc<str>,
    },
    /// `/hawser/host/<instance id>`.
    Host(Arc<str>),
    /// `/hawser/discovery`.
    Discovery,
    /// Any other path, with its leading slash: somebody else's identity.
    Other(Arc<str>),
}

/// A SPIFFE id: `spiffe://<trust domain><path>`, 2048 bytes at most.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomain,
    path: Path,
}

impl SpiffeId {
    fn new(trust_domain: &TrustDomain, path: Path) -> Self {
        let text = match &path {
            Path::Workload { namespace, service_account } => {
                format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
            }
            Path::Host(id) => format!("spiffe://{trust_domain}/hawser/host/{id}"),
            Path::Discovery => format!("spiffe://{trust_domain}/hawser/discovery"),
            Path::Other(path) => format!("spiffe://{trust_domain}{path}"),
        };
        Self { text: text.into(), trust_domain: trust_domain.clone(), path }
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What it names.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Namespace and service account, if it is a workload's.
    pub fn workload(&self) -> Option<(&str, &str)> {
        match &self.path {
            Path::Workload { namespace, service_account } => Some((namespace, service_account)),
            _ => None,
        }
    }

    /// The instance id, if it is a joined host's.
    pub fn host(&self) -> Option<&str> {
        match &self.path {
            Path::Host(id) => Some(id),
            _ => None,
        }
    }
}

fn check_segment(segment: &str) -> Result<(), InvalidIdentity> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if segment.is_empty() || segment == "." || segment == ".." || segment.len() > 253 || !segment.bytes().all(ok) {
        let why = "a segment holds 1 to 253 letters, digits, '.', '-' and '_', and is neither '.' nor '..'";
        return Err(InvalidIdentity::SpiffeId(segment.chars().take(300).collect(), why));
    }
    Ok(())
}

impl FromStr for SpiffeId {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| InvalidIdentity::SpiffeId(text.chars().take(300).collect(), why);
        if text.len() > 2048 {
            return Err(invalid("it is longer than 2048 bytes"));
        }
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| invalid("it does not start with spiffe://"))?;
        let (domain, path) = rest.split_at(rest.find('/').ok_or_else(|| invalid("it has no path"))?);
        let trust_domain: TrustDomain = domain.parse()?;
        let segments: Vec<&str> = path[1..].split('/').collect();
        for segment in &segments {
            check_segment(segment)?;
        }
        let path = match segments.as_slice() {
            ["ns", namespace, "sa", account] => {
                Path::Workload { namespace: (*namespace).into(), service_account: (*account).into() }
            }
            ["hawser", "host", id] => Path::Host((*id).into()),
            ["hawser", "discovery"] => Path::Discovery,
            ["hawser", ..] => return Err(invalid("paths under /hawser are ours, and this is none of them")),
            _ => Path::Other(path.into()),
        };
        Ok(Self { text: text.into(), trust_domain, path })
    }
}

macro_rules! text_traits {
    ($type:ty, $get:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let get: fn(&$type) -> &str = $get;
                f.write_str(get(self))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
        impl TryFrom<String> for $type {
            type Error = InvalidIdentity;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.as_str().to_owned()
            }
        }
    };
}

text_traits!(TrustDomain, |x| &x.0);
text_traits!(SpiffeId, |x| &x.text);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_read_back() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        for id in [
            domain.discovery(),
            domain.host("7c3e0a5e-5a5e-4a5e-8a5e-5a5e5a5e5a5e").unwrap(),
            domain.workload("default", "reviews").unwrap(),
        ] {
            assert_eq!(id.as_str().parse::<SpiffeId>().unwrap(), id);
        }
        assert_eq!(domain.workload("default", "reviews").unwrap().workload(), Some(("default", "reviews")));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in [
            "http://x/ns/a/sa/b",
            "spiffe://",
            "spiffe://x",
            "spiffe://x/",
            "spiffe://X/ns/a/sa/b",
            "spiffe://x//a",
            "spiffe://x/ns/../sa/b",
            "spiffe://x/ns/a/sa/b/",
            "spiffe://x/a?b",
            "spiffe://x:1/a",
            "spiffe://x/hawser/root",
            "spiffe://x/a%20b",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_with_a_slash_can_not_become_another_identity() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        assert!(domain.workload("default/sa/admin", "x").is_err());
        assert!(domain.host("../discovery").is_err());
    }
}
