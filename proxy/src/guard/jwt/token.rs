//! One token (RFC 7519): read, and verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::config::guard::jwt::Provider;
use crate::config::guard::jwt::keys::{Algorithm, Unverified};

/// Clocks may differ by so many seconds.
const SKEW: u64 = 60;

/// A verified token.
#[derive(Debug)]
pub(super) struct Token {
    /// Its payload.
    pub(super) payload: Value,
    /// The same, as it was written.
    pub(super) payload_text: String,
}

macro_rules! invalid {
    ($($name:ident = $text:literal,)+) => {
        /// Why a request may not pass.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Invalid {
            $(#[doc = $text] $name,)+
        }

        impl Invalid {
            /// In Envoy's words.
            pub(crate) fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

invalid! {
    Missing = "Jwt is missing",
    Expired = "Jwt is expired",
    NotYet = "Jwt not yet valid",
    Form = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    HeaderBase64 = "Jwt header is an invalid Base64url encoded",
    HeaderJson = "Jwt header is an invalid JSON",
    HeaderAlgorithm = "Jwt header [alg] field is required and must be a string",
    Algorithm = "Jwt header [alg] is not supported",
    HeaderKeyId = "Jwt header [kid] field is not a string",
    PayloadBase64 = "Jwt payload is an invalid Base64url encoded",
    PayloadJson = "Jwt payload is an invalid JSON",
    IssuerType = "Jwt payload [iss] field is not a string",
    SubjectType = "Jwt payload [sub] field is not a string",
    IssuedType = "Jwt payload [iat] field is not an integer",
    NotBeforeType = "Jwt payload [nbf] field is not an integer",
    ExpiresType = "Jwt payload [exp] field is not an integer",
    IdType = "Jwt payload [jti] field is not a string",
    AudienceType = "Jwt payload [aud] field is not a string or string list",
    SignatureBase64 = "Jwt signature is an invalid Base64url encoded",
    Issuer = "Jwt issuer is not configured",
    Audience = "Audiences in Jwt are not allowed",
    NoKeys = "Jwks doesn't have any valid public key",
    NoKey = "Jwks doesn't have key to match kid or alg from Jwt",
    Signature = "Jwt verification fails",
}

impl Token {
    /// Reads and verifies a token of a provider.
    pub(super) fn verified(text: &str, provider: &Provider, now: u64) -> Result<Self, Invalid> {
        let mut parts = text.split('.');
        let (Some(head), Some(body), Some(sign), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Invalid::Form);
        };
        let header = bytes(head).ok_or(Invalid::HeaderBase64)?;
        let header: Value = serde_json::from_slice(&header).map_err(|_| Invalid::HeaderJson)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(Invalid::HeaderAlgorithm)?;
        let algorithm = Algorithm::named(name).ok_or(Invalid::Algorithm)?;
        let id = text_of(&header, "kid", Invalid::HeaderKeyId)?;
        let payload = bytes(body).ok_or(Invalid::PayloadBase64)?;
        let payload: Value = serde_json::from_slice(&payload).map_err(|_| Invalid::PayloadJson)?;
        if !payload.is_object() {
            return Err(Invalid::PayloadJson);
        }
        let issuer = text_of(&payload, "iss", Invalid::IssuerType)?;
        text_of(&payload, "sub", Invalid::SubjectType)?;
        number(&payload, "iat", Invalid::IssuedType)?;
        let not_before = number(&payload, "nbf", Invalid::NotBeforeType)?;
        let expires = number(&payload, "exp", Invalid::ExpiresType)?;
        text_of(&payload, "jti", Invalid::IdType)?;
        let audiences = audiences(&payload)?;
        let signature = bytes(sign).ok_or(Invalid::SignatureBase64)?;
        if !provider.issuer.is_empty() && issuer != Some(provider.issuer.as_str()) {
            return Err(Invalid::Issuer);
        }
        if not_before.is_some_and(|time| now + SKEW < time) {
            return Err(Invalid::NotYet);
        }
        if expires.is_some_and(|time| now > time.saturating_add(SKEW)) {
            return Err(Invalid::Expired);
        }
        if !provider.audiences.is_empty() && !audiences.iter().any(|is| provider.audiences.iter().any(|a| same(a, is)))
        {
            return Err(Invalid::Audience);
        }
        if provider.keys.is_empty() {
            return Err(Invalid::NoKeys);
        }
        let signed = &text.as_bytes()[..head.len() + 1 + body.len()];
        match provider.keys.verify(algorithm, id, signed, &signature) {
            Ok(()) => Ok(Self { payload_text: body.to_owned(), payload }),
            Err(Unverified::NoKey) => Err(Invalid::NoKey),
            Err(Unverified::Bad) => Err(Invalid::Signature),
        }
    }
}

fn bytes(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn text_of<'v>(value: &'v Value, name: &str, wrong: Invalid) -> Result<Option<&'v str>, Invalid> {
    match value.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong),
    }
}

fn number(payload: &Value, name: &str, wrong: Invalid) -> Result<Option<u64>, Invalid> {
    match payload.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64)) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong),
        },
    }
}

fn audiences(payload: &Value) -> Result<Vec<&str>, Invalid> {
    match payload.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(all)) => {
            let texts = all.iter().map(|one| one.as_str().ok_or(Invalid::AudienceType));
            texts.collect()
        }
        Some(_) => Err(Invalid::AudienceType),
    }
}

/// Scheme and a slash at the end do not count, as in Envoy.
fn same(a: &str, b: &str) -> bool {
    plain(a) == plain(b)
}

fn plain(audience: &str) -> &str {
    let rest = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")).unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}
