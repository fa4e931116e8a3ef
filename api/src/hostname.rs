//! Host names of services.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A host name: lower case, no final dot, labels of RFC 1123, 253 characters at most; the first label may be `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(Arc<str>);

/// What is wrong with a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host name: {1}")]
pub struct InvalidHostname(String, &'static str);

impl Hostname {
    /// The name of service `name` in `namespace`: `<name>.<namespace>.svc.<domain>`.
    ///
    /// # Errors
    /// If the parts make no host name.
    pub fn service(name: &str, namespace: &str, domain: &str) -> Result<Self, InvalidHostname> {
        format!("{name}.{namespace}.svc.{domain}").parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the first label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether `name` is this host, or falls under it if this one is a wildcard.
    pub fn matches(&self, name: &Hostname) -> bool {
        match self.0.strip_prefix('*') {
            None => self == name,
            Some(suffix) => name.0.ends_with(suffix) && (name.0.len() > suffix.len()),
        }
    }
}

impl FromStr for Hostname {
    type Err = InvalidHostname;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| Err(InvalidHostname(text.chars().take(300).collect(), why));
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return invalid("it is empty");
        }
        if name.len() > 253 {
            return invalid("it is longer than 253 characters");
        }
        for (index, label) in name.split('.').enumerate() {
            if label == "*" && index == 0 {
                continue;
            }
            if label.is_empty() || label.len() > 63 {
                return invalid("each label has 1 to 63 characters");
            }
            let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !label.bytes().all(ok) {
                return invalid("labels hold letters, digits, '-' and '_' only");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return invalid("a label neither starts nor ends with '-'");
            }
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl TryFrom<String> for Hostname {
    type Error = InvalidHostname;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Hostname {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_normalised() {
        let name: Hostname = "Reviews.Default.SVC.cluster.local.".parse().unwrap();
        assert_eq!(name.as_str(), "reviews.default.svc.cluster.local");
    }

    #[test]
    fn a_wildcard_matches_what_is_under_it_only() {
        let star: Hostname = "*.example.com".parse().unwrap();
        assert!(star.matches(&"a.example.com".parse().unwrap()));
        assert!(star.matches(&"a.b.example.com".parse().unwrap()));
        assert!(!star.matches(&"example.com".parse().unwrap()));
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for bad in ["", ".", "a..b", "-a", "a-", "a b", "a.*.b", "é.com", &"a".repeat(64), &"a.".repeat(130)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }
}
