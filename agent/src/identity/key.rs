//! Private keys: made here, used here, wiped when dropped.
//!
//! In: nothing, or a PEM file of our own. Out: certificate requests and signatures. A key leaves this process only to
//! its own file (0600) and, for workloads, to the local proxy's memory.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize as _, Zeroizing};

/// A P-256 key pair.
pub(crate) struct Key(KeyPair);

/// A key that can't be made, read or used.
#[derive(Debug, thiserror::Error)]
#[error("private key: {0}")]
pub(crate) struct KeyError(String);

impl Key {
    /// A new one.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// The first private key of a PEM file.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| KeyError(error.to_string()))?;
        Ok(Self(KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?))
    }

    /// As PEM.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// For TLS.
    pub(crate) fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// PKCS#10, DER. Its names don't count: discovery decides them.
    pub(crate) fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&self.0)?.der().to_vec())
    }

    /// ECDSA with SHA-256, ASN.1 DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(self.0.sign(message)?)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl From<rcgen::Error> for KeyError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_file() {
        let key = Key::generate().unwrap();
        let read = Key::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(read.public(), key.public());
        assert!(Key::from_pem(b"-----BEGIN PRIVATE KEY-----\n").is_err());
        assert_eq!(format!("{key:?}"), "Key");
    }
}
