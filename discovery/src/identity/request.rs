//! Certificate requests: proof that the caller has the key, and a key that is good enough. Nothing else in a request
//! counts.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// Requests are a few hundred bytes; an RSA 4096 one is under two thousand.
const LONGEST: usize = 8192;

/// What is wrong with a certificate request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Not PKCS#10.
    #[error("the certificate request can't be read: it must be one PKCS#10 request")]
    Unreadable,
    /// A key that is not taken.
    #[error("the certificate request's key is not taken: ECDSA P-256 and RSA of 2048 to 4096 bits are")]
    Key,
    /// A signature algorithm that is not taken.
    #[error("the certificate request's signature algorithm is not taken: SHA-256 or better, by the key itself")]
    Algorithm,
    /// The signature is wrong.
    #[error("the certificate request is not signed by its own key")]
    Signature,
}

/// The key of a request whose holder proved that it has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedRequest {
    pub(super) key: SubjectPublicKeyInfo,
    spki: Vec<u8>,
}

impl CheckedRequest {
    /// Checks a request in PEM.
    ///
    /// # Errors
    /// See [`InvalidRequest`].
    pub fn from_pem(pem: &str) -> Result<Self, InvalidRequest> {
        if pem.len() > 2 * LONGEST {
            return Err(InvalidRequest::Unreadable);
        }
        let der =
            CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| InvalidRequest::Unreadable)?;
        Self::from_der(&der)
    }

    /// Checks a request in DER.
    ///
    /// # Errors
    /// See [`InvalidRequest`].
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidRequest> {
        if der.len() > LONGEST {
            return Err(InvalidRequest::Unreadable);
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| InvalidRequest::Unreadable)?;
        if !rest.is_empty() {
            return Err(InvalidRequest::Unreadable);
        }
        let info = &request.certification_request_info;
        let key = info.subject_pki.parsed().map_err(|_| InvalidRequest::Key)?;
        let algorithm = &request.signature_algorithm.algorithm;
        let verifier: &'static dyn VerificationAlgorithm = match key {
            PublicKey::EC(_) => {
                let key_type = &info.subject_pki.algorithm;
                let curve = key_type.parameters.as_ref().and_then(|p| p.as_oid().ok());
                if key_type.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
                    return Err(InvalidRequest::Key);
                }
                if *algorithm != OID_SIG_ECDSA_WITH_SHA256 {
                    return Err(InvalidRequest::Algorithm);
                }
                &signature::ECDSA_P256_SHA256_ASN1
            }
            PublicKey::RSA(rsa) => {
                if info.subject_pki.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
                    return Err(InvalidRequest::Key);
                }
                if !(2048..=4096).contains(&rsa.key_size()) || rsa.try_exponent().is_ok_and(|e| e < 65537) {
                    return Err(InvalidRequest::Key);
                }
                if *algorithm == OID_PKCS1_SHA256WITHRSA {
                    &signature::RSA_PKCS1_2048_8192_SHA256
                } else if *algorithm == OID_PKCS1_SHA384WITHRSA {
                    &signature::RSA_PKCS1_2048_8192_SHA384
                } else if *algorithm == OID_PKCS1_SHA512WITHRSA {
                    &signature::RSA_PKCS1_2048_8192_SHA512
                } else {
                    return Err(InvalidRequest::Algorithm);
                }
            }
            _ => return Err(InvalidRequest::Key),
        };
        UnparsedPublicKey::new(verifier, info.subject_pki.subject_public_key.as_ref())
            .verify(info.raw, request.signature_value.as_ref())
            .map_err(|_| InvalidRequest::Signature)?;
        let spki = info.subject_pki.raw.to_vec();
        let key = SubjectPublicKeyInfo::from_der(&spki).map_err(|_| InvalidRequest::Key)?;
        Ok(Self { key, spki })
    }

    /// The key, as SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> &[u8] {
        &self.spki
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::new(vec!["evil.example".to_owned()]).unwrap().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_request_signed_by_its_own_p256_or_rsa_key_is_taken() {
        let key = KeyPair::generate().unwrap();
        let checked = CheckedRequest::from_der(&request(&key)).unwrap();
        assert!(checked.public_key().len() > 64);
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        assert!(CheckedRequest::from_der(&request(&key)).is_ok());
    }

    #[test]
    fn without_proof_of_possession_it_is_refused() {
        let mut der = request(&KeyPair::generate().unwrap());
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(CheckedRequest::from_der(&der), Err(InvalidRequest::Signature));
    }

    #[test]
    fn other_curves_garbage_and_trailing_bytes_are_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(CheckedRequest::from_der(&request(&other)), Err(InvalidRequest::Key));
        assert_eq!(CheckedRequest::from_der(&[0x30, 0x82, 0xff]), Err(InvalidRequest::Unreadable));
        assert_eq!(CheckedRequest::from_pem("-----BEGIN"), Err(InvalidRequest::Unreadable));
        let mut der = request(&KeyPair::generate().unwrap());
        der.push(0);
        assert_eq!(CheckedRequest::from_der(&der), Err(InvalidRequest::Unreadable));
    }
}
