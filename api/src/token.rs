//! Join tokens: `hwj1.` and base64url of JSON.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::identity::TrustDomain;

const PREFIX: &str = "hwj1.";
const LONGEST: usize = 4096;

/// SHA-256 of a root certificate's SubjectPublicKeyInfo (RFC 7469's pin).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl TryFrom<String> for Pin {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(&text).map_err(|_| InvalidToken::Content("a pin is not base64url"))?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidToken::Content("a pin has not 32 bytes"))?))
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

/// What lets a host join: where discovery is, how it is known, and a secret. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// `host:port` of discovery's TLS port, 1 to 8, tried in order.
    #[serde(rename = "a")]
    pub addresses: Vec<String>,
    /// Trust domain.
    #[serde(rename = "t")]
    pub trust_domain: TrustDomain,
    /// One or two roots; discovery's chain must end in one of them.
    #[serde(rename = "p")]
    pub pins: Vec<Pin>,
    /// Public half: names the token at discovery.
    #[serde(rename = "i")]
    pub id: String,
    /// Secret half, base64url.
    #[serde(rename = "s")]
    pub secret: String,
}

/// What is wrong with a join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Not our prefix.
    #[error("this is not a join token: it starts with {PREFIX}")]
    Prefix,
    /// Cut off or mistyped.
    #[error("the join token is damaged: copy it again as a whole, from {PREFIX} to its end")]
    Damaged,
    /// Decoded, but its content is not right.
    #[error("the join token can't be used: {0}")]
    Content(&'static str),
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(InvalidToken::Prefix)?;
        if body.len() > LONGEST {
            return Err(InvalidToken::Damaged);
        }
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| InvalidToken::Damaged)?;
        let token: Self = serde_json::from_slice(&json).map_err(|_| InvalidToken::Damaged)?;
        if token.addresses.is_empty() || token.addresses.len() > 8 {
            return Err(InvalidToken::Content("it names no discovery address, or more than 8"));
        }
        if token.pins.is_empty() || token.pins.len() > 2 {
            return Err(InvalidToken::Content("it holds no pin, or more than 2"));
        }
        if token.id.is_empty() || token.id.len() > 64 || token.secret.is_empty() || token.secret.len() > 128 {
            return Err(InvalidToken::Content("its id or secret has a wrong length"));
        }
        Ok(token)
    }
}

impl JoinToken {
    /// The token as people copy it. Not `Display`, so that no log line shows it by accident.
    pub fn reveal(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    /// The secret's bytes as they are sent and hashed.
    pub fn secret_bytes(&self) -> &[u8] {
        self.secret.as_bytes()
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("addresses", &self.addresses)
            .field("trust_domain", &self.trust_domain)
            .field("pins", &self.pins)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            addresses: vec!["10.0.0.1:15012".into()],
            trust_domain: "cluster.local".parse().unwrap(),
            pins: vec![Pin([7; 32])],
            id: "abc".into(),
            secret: "s3cret".into(),
        }
    }

    #[test]
    fn a_token_reads_back() {
        let text = token().reveal();
        assert!(text.starts_with("hwj1."));
        assert_eq!(text.parse::<JoinToken>().unwrap(), token());
        assert_eq!(format!("  {text}\n").parse::<JoinToken>().unwrap(), token());
    }

    #[test]
    fn debug_hides_the_secret() {
        assert!(!format!("{:?}", token()).contains("s3cret"));
    }

    #[test]
    fn a_damaged_token_is_told_from_something_else() {
        let text = token().reveal();
        assert_eq!(text[..text.len() - 5].parse::<JoinToken>(), Err(InvalidToken::Damaged));
        assert_eq!("eyJ".parse::<JoinToken>(), Err(InvalidToken::Prefix));
        assert_eq!(format!("hwj1.{}", "A".repeat(9999)).parse::<JoinToken>(), Err(InvalidToken::Damaged));
    }
}
