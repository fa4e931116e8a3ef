//! Join tokens asked for through a Kubernetes API server: the resource JoinTokenRequest, and the sealing of its answer.
//!
//! In: what somebody wants a token for, and a public key made for this one request. Out: an object's `spec`, its `status`,
//! the definition of its kind. Whoever may read the object reads the sealed token and can't open it: HPKE (RFC 9180,
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM), bound to the object. Invariant: who may write a `spec` decides whom
//! a token is for, who may write a `status` decides what is opened: both are rights that the cluster gives.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// API group of the kind.
pub const GROUP: &str = "hawser.io";
/// Its version.
pub const VERSION: &str = "v1";
/// Its name.
pub const KIND: &str = "JoinTokenRequest";
/// Its name in paths.
pub const PLURAL: &str = "jointokenrequests";
/// Type of the condition that says what became of a request.
pub const READY: &str = "Ready";

/// What every sealed token is bound to, beside its object.
const INFO: &[u8] = b"hawser.io/v1 JoinTokenRequest";
/// Bytes of a public key.
const KEY: usize = 32;
/// Longest sealed token; a token is at most 4 KiB.
const LONGEST: usize = 16 << 10;

/// What a token is wanted for. Its namespace is the object's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// WorkloadGroup whose instances may join.
    pub group: String,
    /// Ports of the group; they make it if it is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Labels of the group, if it is made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Service account of the workload, of the same namespace; empty is the group's, or `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// How long it lets hosts join; one hour unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// How many hosts may join with it; one unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<i64>,
    /// Only hosts in these networks may join.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_cidrs: Vec<String>,
    /// X25519 public key in base64, for this request alone.
    pub public_key: String,
}

/// A port by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Its name, which may say the protocol: `http`, `grpc-web`.
    pub name: String,
    /// Its number.
    pub number: i64,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// One of type [`READY`].
    pub conditions: Vec<Condition>,
    /// The token's id, as `hawser token list` shows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token_id: String,
    /// What the key to it is made of, in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encapsulated_key: String,
    /// The token, sealed, in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sealed_token: String,
    /// What is worth knowing of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A condition, as Kubernetes has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when.
    pub last_transition_time: String,
    /// Of which version of the spec.
    pub observed_generation: i64,
}

impl Status {
    /// The condition that says what became of it; none as long as nobody has decided.
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == READY)
    }
}

/// Which object an answer is for.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What tells it from another of that name.
    pub uid: &'a str,
}

impl Object<'_> {
    fn bound(&self) -> Vec<u8> {
        format!("{}/{}/{}", self.namespace, self.name, self.uid).into_bytes()
    }
}

/// Why a token can't be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a key.
    #[error(
        "spec.publicKey is no X25519 public key of 32 bytes in base64; `hawser token create --via-kubernetes` makes one"
    )]
    Key,
    /// Sealed for somebody else, or changed on its way.
    #[error("the token in the answer can't be opened: it was sealed for another request, or changed since")]
    Damaged,
    /// No key could be made.
    #[error("no key pair can be made: {0}")]
    Make(String),
}

/// A token that only one key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// [`Status::encapsulated_key`].
    pub encapsulated_key: String,
    /// [`Status::sealed_token`].
    pub sealed_token: String,
}

/// Seals a token for the key that a request names.
///
/// # Errors
/// If that is no key.
pub fn seal(token: &str, public_key: &str, object: Object<'_>) -> Result<Sealed, SealError> {
    let key = STANDARD.decode(public_key).ok().filter(|key| key.len() == KEY).ok_or(SealError::Key)?;
    let sealed = SUITE.seal(INFO, &object.bound(), token.as_bytes(), &HpkePublicKey(key));
    let (EncapsulatedSecret(secret), text) = sealed.map_err(|_| SealError::Key)?;
    Ok(Sealed { encapsulated_key: STANDARD.encode(secret), sealed_token: STANDARD.encode(text) })
}

/// A key pair for one request. The secret half stays here, and goes with it.
pub struct Opener {
    public: HpkePublicKey,
    secret: HpkePrivateKey,
}

impl Opener {
    /// A new one.
    ///
    /// # Errors
    /// If there is no randomness to be had.
    pub fn new() -> Result<Self, SealError> {
        let (public, secret) = SUITE.generate_key_pair().map_err(|error| SealError::Make(error.to_string()))?;
        Ok(Self { public, secret })
    }

    /// [`Spec::public_key`].
    pub fn public_key(&self) -> String {
        STANDARD.encode(&self.public.0)
    }

    /// Opens what was sealed for it.
    ///
    /// # Errors
    /// If it was sealed for another key or object, or changed since.
    pub fn open(&self, sealed: &Sealed, object: Object<'_>) -> Result<String, SealError> {
        let decode = |text: &str| {
            let fits = text.len() <= LONGEST;
            STANDARD.decode(text).ok().filter(|_| fits).ok_or(SealError::Damaged)
        };
        let secret = EncapsulatedSecret(decode(&sealed.encapsulated_key)?);
        let text = decode(&sealed.sealed_token)?;
        let opened = SUITE.open(&secret, INFO, &object.bound(), &text, &self.secret).map_err(|_| SealError::Damaged)?;
        String::from_utf8(opened).map_err(|_| SealError::Damaged)
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("public", &self.public_key()).finish_non_exhaustive()
    }
}

/// The definition of the kind, for a Kubernetes API server.
pub fn definition() -> Value {
    let text = |longest: u32| json!({"type": "string", "maxLength": longest});
    let spec = json!({
        "type": "object", "required": ["group", "publicKey"],
        // What was asked for stays: an answer is for what stood there.
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "a request does not change: delete it and make a new one"}],
        "properties": {
            "group": {"type": "string", "minLength": 1, "maxLength": 63, "description": "WorkloadGroup of this namespace whose instances may join"},
            "ports": {"type": "array", "maxItems": 64, "description": "Ports of the group; they make it if it is missing",
                "items": {"type": "object", "required": ["name", "number"], "properties": {
                    "name": text(63), "number": {"type": "integer", "minimum": 1, "maximum": 65535}}}},
            "labels": {"type": "object", "maxProperties": 64, "additionalProperties": text(63), "description": "Labels of the group, if it is made"},
            "serviceAccount": {"type": "string", "maxLength": 63, "description": "Service account of the workload, of this namespace"},
            "ttlSeconds": {"type": "integer", "minimum": 1, "maximum": 7_776_000, "description": "How long it lets hosts join; 3600 unless said"},
            "uses": {"type": "integer", "minimum": 1, "maximum": 100_000, "description": "How many hosts may join with it; 1 unless said"},
            "sourceCidrs": {"type": "array", "maxItems": 64, "items": text(64), "description": "Only hosts in these networks may join"},
            "publicKey": {"type": "string", "minLength": 44, "maxLength": 44, "description": "X25519 public key in base64, for this request alone"},
        },
    });
    let condition = json!({"type": "object", "required": ["type", "status"], "properties": {
        "type": text(316), "status": text(16), "reason": text(1024), "message": text(32_768),
        "lastTransitionTime": {"type": "string", "format": "date-time"}, "observedGeneration": {"type": "integer", "format": "int64"}}});
    let status = json!({"type": "object", "properties": {
        "conditions": {"type": "array", "items": condition}, "tokenId": text(64),
        "encapsulatedKey": text(256), "sealedToken": text(16_384), "warnings": {"type": "array", "items": text(4096)}}});
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}"), "labels": {"app.kubernetes.io/managed-by": "hawser"}},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": {"kind": KIND, "listKind": format!("{KIND}List"),
                "plural": PLURAL, "singular": KIND.to_lowercase(), "categories": ["hawser-io"]},
            "versions": [{"name": VERSION, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": status}}},
                "additionalPrinterColumns": [
                    column("Group", ".spec.group"), column("Ready", ".status.conditions[?(@.type==\"Ready\")].status"),
                    column("Reason", ".status.conditions[?(@.type==\"Ready\")].reason"),
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: Object<'_> = Object { namespace: "shop", name: "join-1", uid: "u-1" };

    #[test]
    fn a_sealed_token_is_opened_by_its_key_for_its_object_and_by_nothing_else() {
        let (mine, yours) = (Opener::new().unwrap(), Opener::new().unwrap());
        let sealed = seal("hwj1.secret", &mine.public_key(), OBJECT).unwrap();
        assert!(!format!("{sealed:?} {mine:?}").contains("hwj1"));
        assert_eq!(mine.open(&sealed, OBJECT).unwrap(), "hwj1.secret");
        assert_eq!(yours.open(&sealed, OBJECT), Err(SealError::Damaged));
        for other in [
            Object { namespace: "pay", ..OBJECT },
            Object { name: "join-2", ..OBJECT },
            Object { uid: "u-2", ..OBJECT },
        ] {
            assert_eq!(mine.open(&sealed, other), Err(SealError::Damaged), "{other:?}");
        }
        let again = seal("hwj1.secret", &mine.public_key(), OBJECT).unwrap();
        assert_ne!(sealed, again, "the same twice looks different");
        let mixed = Sealed { encapsulated_key: again.encapsulated_key, ..sealed };
        assert_eq!(mine.open(&mixed, OBJECT), Err(SealError::Damaged));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "AAAA", "not base64", &STANDARD.encode([0; 32]), &STANDARD.encode([1; 33])] {
            assert_eq!(seal("hwj1.secret", bad, OBJECT), Err(SealError::Key), "{bad:?}");
        }
    }

    #[test]
    fn the_definition_takes_what_a_spec_is_and_nothing_that_it_does_not_have() {
        let spec = Spec {
            group: "web".into(),
            ports: vec![Port { name: "http".into(), number: 80 }],
            labels: [("app".to_owned(), "web".to_owned())].into(),
            service_account: "web".into(),
            ttl_seconds: Some(60),
            uses: Some(2),
            source_cidrs: vec!["10.0.0.0/8".into()],
            public_key: Opener::new().unwrap().public_key(),
        };
        let value = serde_json::to_value(&spec).unwrap();
        assert_eq!(serde_json::from_value::<Spec>(value.clone()).unwrap(), spec);
        let known =
            definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
                .clone();
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&value), names(&known));
    }
}
