//! Tokens for the tables: their issuers' keys are new in each run.
//!
//! `{keys:me}` is the key set of an issuer, in one line that YAML takes as a text; `{jwt:NAME}` is a token of [`PAYLOADS`].

use anyhow::{Context as _, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::case::Case;

/// Tokens: name, issuer whose key signs, payload. Far in the future is soon enough for all of them.
const PAYLOADS: &[(&str, &str, &str)] = &[
    (
        "good",
        "me",
        r#"{"iss":"me.test","sub":"you","aud":["shop","store"],"exp":4102444800,"scope":"read write","groups":["dev","ops"],"odd":["??>>~"],"level":3,"admin":true,"deep":{"er":"down","list":["x"]}}"#,
    ),
    ("other", "other", r#"{"iss":"other.test","sub":"them","exp":4102444800}"#),
    ("slash", "me", r#"{"iss":"me.test","sub":"a/b","exp":4102444800}"#),
    ("nobody", "me", r#"{"iss":"nobody.test","sub":"you","exp":4102444800}"#),
    ("forged", "other", r#"{"iss":"me.test","sub":"you","exp":4102444800}"#),
    ("expired", "me", r#"{"iss":"me.test","sub":"you","exp":1000000000}"#),
    ("early", "me", r#"{"iss":"me.test","sub":"you","nbf":4102444800}"#),
    ("audience", "me", r#"{"iss":"me.test","sub":"you","aud":"elsewhere","exp":4102444800}"#),
    ("no-subject", "me", r#"{"iss":"me.test","exp":4102444800}"#),
    ("array", "me", r#"[1]"#),
];

/// Keys of a run, and what they sign.
pub(crate) struct Tokens {
    keys: Vec<(&'static str, EcdsaKeyPair)>,
    tokens: Vec<(&'static str, String)>,
}

impl Tokens {
    /// New keys.
    pub(crate) fn new() -> Result<Self> {
        let pair = |name| Ok((name, EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?));
        let keys = ["me", "other"].map(pair).into_iter().collect::<Result<Vec<_>>>()?;
        let mut tokens = Vec::new();
        for (name, signer, payload) in PAYLOADS {
            let (_, key) = keys.iter().find(|(name, _)| name == signer).context("an issuer has a key")?;
            let header = format!(r#"{{"alg":"ES256","kid":"{signer}"}}"#);
            let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let signature = key.sign(&SystemRandom::new(), text.as_bytes())?;
            tokens.push((*name, format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))));
        }
        Ok(Self { keys, tokens })
    }

    /// The key set of an issuer.
    pub(crate) fn set(&self, name: &str) -> Option<String> {
        let (_, key) = self.keys.iter().find(|(own, _)| *own == name)?;
        let point = key.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        // The other issuer's token says the same kid where it forges.
        Some(format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}]}}"#, part(1..33), part(33..65)))
    }

    /// Text with what stands in braces.
    pub(crate) fn replaced(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, _) in &self.keys {
            text = text.replace(&format!("{{keys:{name}}}"), &self.set(name).unwrap_or_default());
        }
        for (name, token) in &self.tokens {
            text = text.replace(&format!("{{jwt:{name}}}"), token);
        }
        text
    }

    /// A case whose tokens are written out. It lives as long as the run.
    pub(crate) fn written(&self, case: &'static Case) -> &'static Case {
        if !case.send.contains("{jwt:") {
            return case;
        }
        Box::leak(Box::new(Case { send: Box::leak(self.replaced(case.send).into_boxed_str()), ..*case }))
    }
}
