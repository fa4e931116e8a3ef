//! What hosts say to discovery before anybody knows them: certificate requests, and joins.
//!
//! In: a byte that says what it is, and that. Out: whether it was taken. Invariant: of what is taken the key is one that
//! mesh certificates may have, and no text is longer than is kept.

use std::net::IpAddr;
use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use hawser_api::proto::core::Node;
use hawser_api::proto::host::JoinRequest;
use hawser_discovery::hosts::{Binding, doors, signed_text};
use hawser_discovery::identity::CheckedRequest;
use hawser_discovery::view::Client;
use prost::Message as _;

/// What stands before the point of a P-256 key in DER.
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// A key of nobody, so that a join can be signed by whoever sends it.
static KEY: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, include_bytes!("host.key")).expect("a good key")
});

pub(crate) fn stranger(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    match kind % 4 {
        0 => request(CheckedRequest::from_der(bytes).ok()),
        1 => std::str::from_utf8(bytes).is_ok_and(|pem| request(CheckedRequest::from_pem(pem).ok())),
        2 => join(bytes),
        _ => node(bytes),
    }
}

fn request(checked: Option<CheckedRequest>) -> bool {
    checked.is_some_and(|checked| {
        // From a point of P-256 to 4096 bits of RSA.
        assert!((P256.len() + 65..600).contains(&checked.public_key().len()));
        true
    })
}

fn join(bytes: &[u8]) -> bool {
    let Ok(mut request) = JoinRequest::decode(bytes) else { return false };
    let binding = Binding { nonce: [1; 32], exporter: [2; 32] };
    request.signature.clear();
    request.host_public_key = [P256, KEY.public_key().as_ref()].concat();
    let text = signed_text("hawser-join-v1", &binding, &request.encode_to_vec());
    request.signature = KEY.sign(&SystemRandom::new(), &text).expect("a signature").as_ref().to_vec();
    let ranges = ["240.240.0.0/16".parse().expect("a network")];
    match doors::join(&request, &binding, &ranges) {
        Err(refusal) => {
            assert_ne!(refusal.reason(), "signature-invalid");
            assert!(refusal.to_string().len() < 1024, "{refusal}");
            false
        }
        Ok(addresses) => {
            assert!(!addresses.is_empty() && addresses.len() <= 8);
            for kept in addresses {
                let ip: IpAddr = kept.address.parse().expect("an address");
                assert!(!ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified() && ip == ip.to_canonical());
            }
            assert!(request.hostname.len() <= 253 && request.workloads.len() <= 64);
            true
        }
    }
}

/// A node, as a client of xDS names itself.
fn node(bytes: &[u8]) -> bool {
    let Ok(node) = Node::decode(bytes) else { return false };
    let client = Client::from_node(&node, true);
    assert!(!client.namespace.is_empty() && client.addresses.len() <= 64);
    assert_eq!(client, Client::from_node(&node, true));
    true
}
