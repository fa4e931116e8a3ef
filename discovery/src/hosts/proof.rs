//! The signature of a host key over a join or rejoin: it binds what is said to this connection and this moment.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use hawser_api::proto::host::{JoinRequest, RejoinRequest};
use prost::Message as _;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::refusal::Refusal;

/// What a connection adds to a signature.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The challenge's nonce.
    pub nonce: [u8; 32],
    /// The TLS exporter.
    pub exporter: [u8; 32],
}

/// Checks the signature of a join by the key that it brings.
///
/// # Errors
/// If the key is no P-256 key or the signature is wrong.
pub(super) fn check_join(request: &JoinRequest, binding: &Binding) -> Result<(), Refusal> {
    let unsigned = JoinRequest { signature: Vec::new(), ..request.clone() };
    let content = signed_text("hawser-join-v1", binding, &unsigned.encode_to_vec());
    check(&request.host_public_key, &content, &request.signature)
}

/// Checks the signature of a rejoin by the key of the record.
///
/// # Errors
/// If the signature is wrong.
pub(super) fn check_rejoin(request: &RejoinRequest, host_key: &[u8], binding: &Binding) -> Result<(), Refusal> {
    let unsigned = RejoinRequest { signature: Vec::new(), ..request.clone() };
    let content = signed_text("hawser-rejoin-v1", binding, &unsigned.encode_to_vec());
    check(host_key, &content, &request.signature)
}

/// What is signed: label, zero byte, nonce, exporter, SHA-256 of the message without its signature.
pub fn signed_text(label: &str, binding: &Binding, message: &[u8]) -> Vec<u8> {
    let mut text = label.as_bytes().to_vec();
    text.push(0);
    text.extend_from_slice(&binding.nonce);
    text.extend_from_slice(&binding.exporter);
    text.extend_from_slice(digest(&SHA256, message).as_ref());
    text
}

fn check(spki: &[u8], content: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    let point = p256_point(spki)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(content, signature)
        .map_err(|_| Refusal::SignatureInvalid)
}

fn p256_point(spki: &[u8]) -> Result<Vec<u8>, Refusal> {
    let bad = || Refusal::Malformed("the host key is no ECDSA P-256 key".into());
    if spki.len() > 256 {
        return Err(bad());
    }
    let (rest, parsed) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| bad())?;
    let curve = parsed.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    if !rest.is_empty() || parsed.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Err(bad());
    }
    Ok(parsed.subject_public_key.data.to_vec())
}
