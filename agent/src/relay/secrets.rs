//! Certificates and keys for the local proxy, over the same ADS: SDS from memory.
//!
//! In: the host's identity. Out: secrets `default`, `ROOTCA` and one for each workload by its SPIFFE id. They never
//! touch a disk on their way and are given to the proxy's user only.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use hawser_api::names::{SECRET_DEFAULT, SECRET_ROOT};
use hawser_api::proto::core::{DataSource, data_source::Specifier};
use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use hawser_api::proto::tls::{CertificateValidationContext, Secret, TlsCertificate, secret::Type};
use hawser_xds::{Changes, Closure, DeltaServer, Limits, Refused, Resource, Source, TypeUrl, Version};
use prost::Message as _;

use crate::identity::{Credential, Identity};

/// SDS for one client.
#[derive(Debug)]
pub(crate) struct Secrets {
    server: DeltaServer,
    identity: Arc<Identity>,
    /// The workload that `default` is.
    workload: Option<String>,
}

struct View<'a> {
    identity: &'a Identity,
    workload: Option<&'a str>,
}

impl Secrets {
    /// SDS for a client that just connected.
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self { server: DeltaServer::new(Limits::default(), Closure::Off), identity, workload: None }
    }

    /// Which workload's certificate is the client's own.
    pub(crate) fn set_workload(&mut self, id: Option<String>) {
        self.workload = id;
    }

    /// Takes a request.
    pub(crate) fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
        now: Instant,
    ) -> Result<Vec<DeltaDiscoveryResponse>, Refused> {
        let view = View { identity: &self.identity, workload: self.workload.as_deref() };
        self.server.on_request(request, &view, now)
    }

    /// Certificates or roots changed.
    pub(crate) fn on_identity(&mut self, identity: Arc<Identity>, now: Instant) -> Vec<DeltaDiscoveryResponse> {
        self.identity = identity;
        let view = View { identity: &self.identity, workload: self.workload.as_deref() };
        self.server.on_change(&Changes::all(), &view, now)
    }
}

impl View<'_> {
    fn credential(&self, name: &str) -> Option<&Arc<Credential>> {
        if name != SECRET_DEFAULT {
            return self.identity.workloads.values().find(|credential| credential.identity.as_str() == name);
        }
        let first = || self.identity.record.workloads.first().map(|workload| workload.id.as_str());
        self.identity.workloads.get(self.workload.or_else(first)?)
    }

    /// Whether the name is one of ours, though its certificate may not be here yet.
    fn expected(&self, name: &str) -> bool {
        name == SECRET_DEFAULT || self.identity.record.workloads.iter().any(|workload| workload.spiffe_id == name)
    }
}

impl Source for View<'_> {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource> {
        if *ty != TypeUrl::SECRET {
            return None;
        }
        let (kind, version) = if name == SECRET_ROOT {
            let roots = Some(inline(self.identity.roots.pem.as_bytes()));
            let context = CertificateValidationContext { trusted_ca: roots, ..Default::default() };
            (Type::ValidationContext(context), hash(self.identity.roots.pem.as_bytes()))
        } else {
            let credential = self.credential(name)?;
            let certificate = TlsCertificate {
                certificate_chain: Some(inline(credential.chain_pem.as_bytes())),
                private_key: Some(inline(credential.key.to_pem().as_bytes())),
            };
            (Type::TlsCertificate(certificate), hash(credential.chain_pem.as_bytes()))
        };
        let secret = Secret { name: name.to_owned(), r#type: Some(kind) };
        Some(Resource { name: name.into(), version, body: Bytes::from(secret.encode_to_vec()) })
    }

    fn names(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        if *ty != TypeUrl::SECRET {
            return Vec::new();
        }
        let mut names: Vec<Arc<str>> = vec![SECRET_ROOT.into()];
        if self.credential(SECRET_DEFAULT).is_some() {
            names.push(SECRET_DEFAULT.into());
        }
        names.extend(self.identity.workloads.values().map(|credential| Arc::from(credential.identity.as_str())));
        names.sort();
        names.dedup();
        names
    }

    fn closure(&self, _: &TypeUrl, _: &str) -> Vec<(TypeUrl, Arc<str>)> {
        Vec::new()
    }

    fn undecided(&self, _: &TypeUrl, name: &str) -> bool {
        self.expected(name) && self.credential(name).is_none()
    }
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())) }
}

/// Of the public part only: a new key always comes with a new chain.
fn hash(bytes: &[u8]) -> Version {
    let digest = digest(&SHA256, bytes);
    let text: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Version::from(text)
}
