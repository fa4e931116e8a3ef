//! Texts that people and other programs hand over: tokens, names, messages of a socket, Istio's YAML.
//!
//! In: a byte that says what it is, and the text. Out: whether it was taken. Invariant: what was taken is written as
//! something that is taken for the same.

// Each target uses one of the two.
#![allow(dead_code)]

use hawser_api::handover::{self, Listener, Request};
use hawser_api::hostname::Hostname;
use hawser_api::identity::SpiffeId;
use hawser_api::istio::{honoured, parse_documents_in, parse_mesh_config};
use hawser_api::token::JoinToken;

/// Tokens, identities, host names, messages of the socket that listeners come by.
pub(crate) fn short(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match kind % 6 {
        0 => text.parse::<JoinToken>().is_ok_and(|token| {
            assert_eq!(token.reveal().parse().as_ref(), Ok(&token));
            assert!(token.addresses.len() <= 8 && !format!("{token:?}").contains("secret"));
            true
        }),
        // The same, without the work of finding base64.
        1 => {
            use base64::Engine as _;
            let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
            short(&[b"\0hwj1.", body.as_bytes()].concat())
        }
        2 => text.parse::<SpiffeId>().is_ok_and(|id| {
            assert_eq!(id.to_string(), text);
            assert!(id.as_str().len() <= 2048 && id.as_str().starts_with(&format!("spiffe://{}/", id.trust_domain())));
            true
        }),
        3 => text.parse::<Hostname>().is_ok_and(|host| {
            assert_eq!(host.as_str().parse().as_ref(), Ok(&host));
            assert!(host.as_str().len() <= 255);
            true
        }),
        4 => serde_json::from_str::<Request>(text).is_ok_and(|request| {
            assert_eq!(serde_json::from_slice::<Request>(&handover::encode(&request)).ok(), Some(request));
            true
        }),
        _ => serde_json::from_str::<Vec<Listener>>(text).is_ok_and(|listeners| {
            assert_eq!(serde_json::from_slice::<Vec<Listener>>(&handover::encode(&listeners)).ok(), Some(listeners));
            true
        }),
    }
}

/// Documents of Istio's API; `bytes` may also be the mesh's settings.
pub(crate) fn yaml(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Err(error) = parse_mesh_config("m.yaml", text) {
        assert!(!error.to_string().is_empty());
    }
    let results = parse_documents_in("n", "f.yaml", text);
    assert!(results.len() <= 10_001);
    let mut good = 0;
    for result in results {
        match result {
            Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
            Ok(parsed) => {
                good += 1;
                let resource = parsed.resource;
                let _ = honoured(&resource);
                let written = resource.to_yaml();
                let again = parse_documents_in("other", "g.yaml", &written);
                let again: Vec<_> = again.into_iter().map(|result| result.map(|parsed| parsed.resource)).collect();
                assert_eq!(again, [Ok(resource)], "{written}");
            }
        }
    }
    good > 0
}
