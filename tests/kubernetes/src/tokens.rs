//! Tokens of service accounts: made, and looked at.
//!
//! In: a service account and what its token is to be for. Out: a JWT signed with RS256; or, of a token, whose it is, or
//! the real server's sentence about why it is nobody's.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::auth::User;
use crate::kinds::Place;
use crate::store::Store;

/// Who signs.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// The key that tokens are signed with, made when first needed.
#[derive(Debug, Default)]
pub(crate) struct Signer(OnceLock<Option<Arc<RsaKeyPair>>>);

/// What a token says, beside who it is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bound {
    pub(crate) pod: Option<(String, String)>,
    pub(crate) node: Option<(String, String)>,
}

impl Signer {
    fn key(&self) -> Option<Arc<RsaKeyPair>> {
        self.0.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).ok().map(Arc::new)).clone()
    }

    fn key_id(key: &RsaKeyPair) -> String {
        BASE64.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key().as_ref()))
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let key = self.key()?;
        let head = json!({"alg": "RS256", "kid": Self::key_id(&key)});
        let text = format!("{}.{}", BASE64.encode(head.to_string()), BASE64.encode(claims.to_string()));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        Some(format!("{text}.{}", BASE64.encode(signature)))
    }

    /// The keys, for others to check tokens with.
    pub(crate) fn keys(&self) -> Value {
        let Some(key) = self.key() else { return json!({"keys": []}) };
        let Some((modulus, exponent)) = numbers(key.public_key().as_ref()) else { return json!({"keys": []}) };
        let (n, e) = (BASE64.encode(modulus), BASE64.encode(exponent));
        json!({"keys": [{"use": "sig", "kty": "RSA", "kid": Self::key_id(&key), "alg": "RS256", "n": n, "e": e}]})
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        let Some(key) = self.key() else { return false };
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
        public.verify(text.as_bytes(), signature).is_ok()
    }
}

/// Modulus and exponent of an RSAPublicKey in DER.
fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, _) = element(der, 0x30)?;
    let (modulus, rest) = element(content, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let bare = |number: &'_ [u8]| number.iter().position(|b| *b != 0).unwrap_or(0);
    Some((modulus.get(bare(modulus)..)?, exponent.get(bare(exponent)..)?))
}

fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_at_checked(2)?;
    if *head.first()? != tag {
        return None;
    }
    let short = usize::from(*head.get(1)?);
    let (length, rest) = if short < 0x80 {
        (short, rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(short - 0x80)?;
        (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
    };
    rest.split_at_checked(length)
}

/// The claims of a token.
pub(crate) fn claims(account: (&str, &str, &str), audiences: &[String], seconds: i64, bound: &Bound) -> Value {
    let (namespace, name, uid) = account;
    let now = Timestamp::now().as_second();
    let mut whose = json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}});
    for (key, what) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some((name, uid)) = what {
            whose[key] = json!({"name": name, "uid": uid});
        }
    }
    json!({
        "aud": audiences, "exp": now + seconds, "iat": now, "nbf": now, "iss": ISSUER, "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": whose, "sub": format!("system:serviceaccount:{namespace}:{name}"),
    })
}

/// Whose a token is, and for which of the audiences; or why it is nobody's.
pub(crate) fn review(
    signer: &Signer,
    store: &Store,
    token: &str,
    audiences: &[String],
) -> Result<(User, Vec<String>), String> {
    let nobody = || "invalid bearer token".to_owned();
    let because = |why: String| format!("[invalid bearer token, {why}]");
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(nobody());
    };
    let decoded = |part: &str| BASE64.decode(part).ok();
    let claims: Value = decoded(body).and_then(|b| serde_json::from_slice(&b).ok()).ok_or_else(nobody)?;
    if claims["iss"] != ISSUER {
        return Err(nobody());
    }
    let signature = decoded(signature).unwrap_or_default();
    if !signer.verifies(&format!("{head}.{body}"), &signature) {
        return Err(because("go-jose/go-jose: error in cryptographic primitive".to_owned()));
    }
    let now = Timestamp::now().as_second();
    if claims["exp"].as_i64().is_some_and(|end| end < now) {
        return Err(because("service account token has expired".to_owned()));
    }
    if claims["nbf"].as_i64().is_some_and(|start| start > now) {
        return Err(because("service account token is not valid yet".to_owned()));
    }
    let own: Vec<String> =
        claims["aud"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let common: Vec<String> = audiences.iter().filter(|a| own.contains(a)).cloned().collect();
    if common.is_empty() {
        let shown = |list: &[String]| list.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(" ");
        let why =
            format!("token audiences [{}] is invalid for the target audiences [{}]", shown(&own), shown(audiences));
        return Err(because(why));
    }
    let user = still_there(store, &claims).map_err(because)?;
    Ok((user, common))
}

/// Whether what a token is bound to is still there.
fn still_there(store: &Store, claims: &Value) -> Result<User, String> {
    let whose = &claims["kubernetes.io"];
    let part = |at: &str| whose.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name, uid) = (part("/namespace"), part("/serviceaccount/name"), part("/serviceaccount/uid"));
    let found = store.get(&Place::new("", "serviceaccounts"), namespace, name);
    let account = found.ok_or_else(|| format!("serviceaccounts \"{name}\" not found"))?;
    let now = account.metadata()["uid"].as_str().unwrap_or_default().to_owned();
    if now != uid {
        return Err(format!("service account UID ({now}) does not match claim ({uid})"));
    }
    let mut user = User::service_account(namespace, name, uid);
    let mut add = |key: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    add("credential-id", format!("JTI={}", claims["jti"].as_str().unwrap_or_default()));
    if whose.get("pod").is_some() {
        let (pod, uid) = (part("/pod/name"), part("/pod/uid"));
        let found = store.get(&Place::new("", "pods"), namespace, pod);
        let found = found.ok_or_else(|| "service account token has been invalidated".to_owned())?;
        let now = found.metadata()["uid"].as_str().unwrap_or_default().to_owned();
        if now != uid {
            return Err(format!("pod UID ({now}) does not match service account pod ref claim ({uid})"));
        }
        add("pod-name", pod.to_owned());
        add("pod-uid", uid.to_owned());
    }
    if whose.get("node").is_some() {
        add("node-name", part("/node/name").to_owned());
        add("node-uid", part("/node/uid").to_owned());
    }
    Ok(user)
}
