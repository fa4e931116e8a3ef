//! What a join token lets in. Pure: the record, the caller and the time come in.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::refusal::Refusal;
use crate::store::TokenRecord;

/// Who shows a token, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bearer<'a> {
    /// The secret.
    pub secret: &'a [u8],
    /// Hash of the host key: see [`key_hash`].
    pub host_key: &'a str,
    /// Where it connects from.
    pub source: IpAddr,
    /// Unix time.
    pub now: u64,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// This key used it before: the same record again, at no cost.
    Again(String),
    /// A use of it.
    First,
}

/// Judges a token. `None` is one that is not known.
///
/// # Errors
/// Why it is refused. Who does not know the secret learns only that the token is unknown.
pub(super) fn judge(token: Option<&TokenRecord>, bearer: &Bearer<'_>) -> Result<Use, Refusal> {
    let hash = secret_hash(bearer.secret);
    let known = token.map_or([0; 32].as_slice(), |t| t.secret_hash.as_slice());
    let equal = verify_slices_are_equal(&hash, known).is_ok();
    let token = token.filter(|_| equal).ok_or(Refusal::TokenUnknown)?;
    let source = bearer.source.to_canonical();
    if !token.source_cidrs.is_empty() && !token.source_cidrs.iter().any(|net| net.contains(&source)) {
        let nets: Vec<String> = token.source_cidrs.iter().map(ToString::to_string).collect();
        return Err(Refusal::SourceRefused(source, nets.join(", ")));
    }
    if token.revoked {
        return Err(Refusal::TokenRevoked);
    }
    // The answer was lost, perhaps for longer than the token lives: the host proves its key, that is enough.
    if let Some(instance) = token.used_by.get(bearer.host_key) {
        return Ok(Use::Again(instance.clone()));
    }
    if bearer.now >= token.expires {
        let ago = std::time::Duration::from_secs(bearer.now - token.expires);
        return Err(Refusal::TokenExpired(crate::words::duration(ago)));
    }
    if u32::try_from(token.used_by.len()).unwrap_or(u32::MAX) >= token.uses {
        return Err(Refusal::TokenUsedUp(token.uses));
    }
    Ok(Use::First)
}

/// How a secret is stored.
pub fn secret_hash(secret: &[u8]) -> Vec<u8> {
    digest(&SHA256, secret).as_ref().to_vec()
}

/// How a host key (SubjectPublicKeyInfo) is named in tables.
pub fn key_hash(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, spki))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenRecord {
        TokenRecord {
            secret_hash: secret_hash(b"secret"),
            namespace: "default".into(),
            group: "reviews".into(),
            service_account: String::new(),
            created: 0,
            expires: 100,
            uses: 1,
            used_by: [("me".to_owned(), "id-1".to_owned())].into(),
            revoked: false,
            source_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    fn bearer() -> Bearer<'static> {
        Bearer { secret: b"secret", host_key: "me", source: "10.1.2.3".parse().unwrap(), now: 50 }
    }

    #[test]
    fn the_same_key_gets_the_same_record_even_after_the_end() {
        assert_eq!(judge(Some(&token()), &bearer()).unwrap(), Use::Again("id-1".into()));
        assert_eq!(judge(Some(&token()), &Bearer { now: 1000, ..bearer() }).unwrap(), Use::Again("id-1".into()));
        assert_eq!(
            judge(Some(&TokenRecord { uses: 2, ..token() }), &Bearer { host_key: "you", ..bearer() }).unwrap(),
            Use::First
        );
    }

    #[test]
    fn each_refusal_has_its_own_reason() {
        let you = Bearer { host_key: "you", ..bearer() };
        let reason =
            |token: Option<TokenRecord>, bearer: &Bearer<'_>| judge(token.as_ref(), bearer).unwrap_err().reason();
        assert_eq!(reason(None, &bearer()), "token-unknown");
        assert_eq!(reason(Some(token()), &Bearer { secret: b"guess", ..bearer() }), "token-unknown");
        assert_eq!(reason(Some(token()), &you), "token-used-up");
        assert_eq!(reason(Some(TokenRecord { uses: 2, ..token() }), &Bearer { now: 100, ..you }), "token-expired");
        assert_eq!(reason(Some(TokenRecord { revoked: true, ..token() }), &bearer()), "token-revoked");
        let outside = Bearer { source: "192.168.0.1".parse().unwrap(), ..bearer() };
        assert_eq!(reason(Some(token()), &outside), "source-refused");
    }

    #[test]
    fn who_does_not_know_the_secret_learns_nothing_else() {
        let revoked = TokenRecord { revoked: true, ..token() };
        let guess = Bearer { secret: b"guess", now: 1000, ..bearer() };
        assert_eq!(judge(Some(&revoked), &guess).unwrap_err().reason(), "token-unknown");
    }

    #[test]
    fn a_mapped_source_address_is_its_ipv4_address() {
        let mapped = Bearer { source: "::ffff:10.1.2.3".parse().unwrap(), ..bearer() };
        assert!(judge(Some(&token()), &mapped).is_ok());
    }
}
