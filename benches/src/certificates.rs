//! A root and a workload's certificate, as the mesh has them: P-256, one critical URI SAN.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

/// The identity of both ends.
pub(crate) const IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/bench";

/// PEM texts.
pub(crate) struct Certificates {
    pub(crate) root: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// The same as files: root, chain, key, and chain with key in one.
pub(crate) struct Files {
    pub(crate) root: PathBuf,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) both: PathBuf,
}

impl Certificates {
    /// New ones.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let root_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::OrganizationName, "bench");
        let root_pem = root.self_signed(&root_key)?.pem();
        let issuer = Issuer::new(root, root_key);

        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = DistinguishedName::new();
        leaf.subject_alt_names = vec![SanType::URI(IDENTITY.try_into()?)];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = leaf.signed_by(&key, &issuer)?.pem();
        Ok(Self { root: root_pem, chain, key: key.serialize_pem() })
    }

    /// Writes them.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<Files> {
        let files = Files {
            root: dir.join("root.pem"),
            chain: dir.join("chain.pem"),
            key: dir.join("key.pem"),
            both: dir.join("both.pem"),
        };
        std::fs::write(&files.root, &self.root)?;
        std::fs::write(&files.chain, &self.chain)?;
        std::fs::write(&files.key, &self.key)?;
        std::fs::write(&files.both, format!("{}{}", self.chain, self.key))?;
        Ok(files)
    }
}
