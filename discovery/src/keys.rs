//! Keys of issuers of tokens: fetched, kept, renewed.
//!
//! In: what RequestAuthentications name. Out: sets of keys, which the compiler puts into what it makes. Invariant: what was
//! fetched last stays, over a restart too, until something else is fetched; without keys an issuer has no good token.

mod fetch;
mod keeper;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hawser_api::istio::request_authentication::JwtRule;

pub use self::keeper::{Keeper, REFRESH};

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// At this URL.
    Keys(String),
    /// At a URL that the issuer's own configuration names (OpenID Connect Discovery 1.0, 4).
    Issuer(String),
}

impl Origin {
    /// Of an issuer whose keys are not written down; `None` if they are, or if nobody says where they are.
    pub fn of(rule: &JwtRule) -> Option<Self> {
        match (&rule.jwks, &rule.jwks_uri) {
            (Some(_), _) => None,
            (None, Some(uri)) => Some(Self::Keys(uri.clone())),
            (None, None) => {
                let url = rule.issuer.starts_with("https://") || rule.issuer.starts_with("http://");
                url.then(|| Self::Issuer(rule.issuer.clone()))
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(url) => f.write_str(url),
            Self::Issuer(issuer) => {
                write!(f, "{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
            }
        }
    }
}

/// What was fetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetched {
    keys: BTreeMap<Origin, Arc<str>>,
    problems: BTreeMap<Origin, String>,
}

impl Fetched {
    /// The keys at a place.
    pub fn get(&self, origin: &Origin) -> Option<&Arc<str>> {
        self.keys.get(origin)
    }

    /// Why they could not be fetched last.
    pub fn problem(&self, origin: &Origin) -> Option<&str> {
        self.problems.get(origin).map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
