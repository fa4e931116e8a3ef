//! Sets of keys (RFC 7517), ready to verify with.
//!
//! In: a JSON web key set, as its issuer publishes it. Out: keys by id and algorithm. Bounded; what can't be used is left out.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use aws_lc_rs::{encoding::PublicKeyX509Der, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The most keys of a set that are looked at.
const MOST: usize = 100;

/// Algorithms of signatures (RFC 7518, 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS #1 1.5, and the bits of SHA-2.
    Rs(u16),
    /// RSA with PSS, and the bits of SHA-2.
    Ps(u16),
    /// ECDSA, and the bits of SHA-2, which name the curve.
    Es(u16),
    /// HMAC, and the bits of SHA-2.
    Hs(u16),
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        let bits = |bits: &str| match bits {
            "256" => Some(256),
            "384" => Some(384),
            "512" => Some(512),
            _ => None,
        };
        if name == "EdDSA" {
            return Some(Self::EdDsa);
        }
        let (kind, rest) = name.split_at_checked(2)?;
        match kind {
            "RS" => bits(rest).map(Self::Rs),
            "PS" => bits(rest).map(Self::Ps),
            "ES" => bits(rest).map(Self::Es),
            "HS" => bits(rest).map(Self::Hs),
            _ => None,
        }
    }
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    /// For each algorithm, as a parsed key belongs to one.
    Rsa(Vec<(Algorithm, ParsedPublicKey)>),
    Ec(Algorithm, ParsedPublicKey),
    Ed(ParsedPublicKey),
    Secret(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Why a signature is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// No key has the id and is for the algorithm.
    NoKey,
    /// Those that are did not make it.
    Bad,
}

impl Keys {
    /// Reads a set; what can't be read is a set without keys.
    pub fn read(jwks: &[u8]) -> Self {
        let read = serde_json::from_slice::<Value>(jwks).unwrap_or_default();
        let keys = read.get("keys").and_then(Value::as_array);
        Self(keys.into_iter().flatten().take(MOST).filter_map(Key::read).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a signature.
    ///
    /// # Errors
    /// If no key made it.
    pub fn verify(&self, algorithm: Algorithm, id: Option<&str>, text: &[u8], sign: &[u8]) -> Result<(), Unverified> {
        let mut why = Unverified::NoKey;
        for key in &self.0 {
            let other = |own: &String| id.is_some_and(|id| !id.is_empty() && !own.is_empty() && own != id);
            if key.id.as_ref().is_some_and(other) || key.algorithm.is_some_and(|own| own != algorithm) {
                continue;
            }
            why = Unverified::Bad;
            if key.material.verify(algorithm, text, sign) {
                return Ok(());
            }
        }
        Err(why)
    }
}

impl Key {
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|used| used != "sig") {
            return None;
        }
        let algorithm = match text("alg") {
            Some(name) => Some(Algorithm::named(name)?),
            None => None,
        };
        let material = match text("kty")? {
            "RSA" => rsa(bytes("n")?, bytes("e")?)?,
            "EC" => ec(text("crv")?, &bytes("x")?, &bytes("y")?)?,
            "OKP" if text("crv") == Some("Ed25519") => {
                Material::Ed(ParsedPublicKey::new(&signature::ED25519, bytes("x")?).ok()?)
            }
            "oct" => Material::Secret(bytes("k").filter(|secret| !secret.is_empty())?),
            _ => return None,
        };
        Some(Self { id: text("kid").map(str::to_owned), algorithm, material })
    }
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Option<Material> {
    let der: PublicKeyX509Der<'_> = RsaPublicKeyComponents { n, e }.as_der().ok()?;
    let algorithms: [(Algorithm, &'static dyn VerificationAlgorithm); 6] = [
        (Algorithm::Rs(256), &signature::RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Rs(384), &signature::RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::Rs(512), &signature::RSA_PKCS1_2048_8192_SHA512),
        (Algorithm::Ps(256), &signature::RSA_PSS_2048_8192_SHA256),
        (Algorithm::Ps(384), &signature::RSA_PSS_2048_8192_SHA384),
        (Algorithm::Ps(512), &signature::RSA_PSS_2048_8192_SHA512),
    ];
    let parsed = algorithms.into_iter().map(|(name, by)| Some((name, ParsedPublicKey::new(by, der.as_ref()).ok()?)));
    parsed.collect::<Option<Vec<_>>>().map(Material::Rsa)
}

fn ec(curve: &str, x: &[u8], y: &[u8]) -> Option<Material> {
    let (algorithm, by, size): (_, &'static dyn VerificationAlgorithm, usize) = match curve {
        "P-256" => (Algorithm::Es(256), &signature::ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (Algorithm::Es(384), &signature::ECDSA_P384_SHA384_FIXED, 48),
        "P-521" => (Algorithm::Es(512), &signature::ECDSA_P521_SHA512_FIXED, 66),
        _ => return None,
    };
    if x.len() > size || y.len() > size {
        return None;
    }
    // Some issuers leave leading zeros out.
    let mut point = vec![4; 1];
    for part in [x, y] {
        point.resize(point.len() + size - part.len(), 0);
        point.extend_from_slice(part);
    }
    Some(Material::Ec(algorithm, ParsedPublicKey::new(by, point).ok()?))
}

impl Material {
    /// What a key is made for decides, never what a token says of it.
    fn verify(&self, algorithm: Algorithm, text: &[u8], sign: &[u8]) -> bool {
        match self {
            Self::Rsa(keys) => keys.iter().any(|(by, key)| *by == algorithm && key.verify_sig(text, sign).is_ok()),
            Self::Ec(by, key) => *by == algorithm && key.verify_sig(text, sign).is_ok(),
            Self::Ed(key) => algorithm == Algorithm::EdDsa && key.verify_sig(text, sign).is_ok(),
            Self::Secret(secret) => {
                let digest = match algorithm {
                    Algorithm::Hs(256) => hmac::HMAC_SHA256,
                    Algorithm::Hs(384) => hmac::HMAC_SHA384,
                    Algorithm::Hs(512) => hmac::HMAC_SHA512,
                    _ => return false,
                };
                hmac::verify(&hmac::Key::new(digest, secret), text, sign).is_ok()
            }
        }
    }
}
