//! Certificates for the workloads of a record, and for the host itself.

use std::time::{SystemTime, UNIX_EPOCH};

use hawser_api::proto::host;

use super::{Hosts, Refusal};
use crate::identity::{CheckedRequest, Holder, Issued, Subject};
use crate::metrics::CertificateKind;
use crate::store::HostRecord;
use crate::words::{timestamp, unix};

/// Workloads of one host at most.
pub(super) const MOST_WORKLOADS: usize = 64;

/// Requests of a record, checked, before anything is written.
pub(super) struct Requests {
    host: CheckedRequest,
    workloads: Vec<CheckedRequest>,
}

impl Requests {
    /// Checks the requests of a join or rejoin: one by the host key, one for each workload.
    pub(super) fn check(host_csr: &[u8], host_key: &[u8], workloads: &[host::WorkloadCsr]) -> Result<Self, Refusal> {
        let host = check(host_csr)?;
        if host.public_key() != host_key {
            return Err(Refusal::Malformed("the host's certificate request is signed by another key".into()));
        }
        if workloads.is_empty() || workloads.len() > MOST_WORKLOADS {
            return Err(Refusal::Malformed("a host sends one certificate request for each of its workloads".into()));
        }
        let workloads = workloads.iter().map(|w| check(&w.csr)).collect::<Result<_, _>>()?;
        Ok(Self { host, workloads })
    }

    pub(super) fn count(&self) -> usize {
        self.workloads.len()
    }
}

impl Hosts {
    /// Certificates of a record, in its order.
    pub(super) fn certify(&self, id: &str, record: &HostRecord, requests: &Requests) -> Result<host::Joined, Refusal> {
        let host = self.sign_host(id, &requests.host)?;
        let pairs = record.workloads.iter().zip(&requests.workloads);
        let workloads = pairs.map(|(w, request)| self.sign_workload(&w.workload, request)).collect::<Result<_, _>>()?;
        Ok(host::Joined {
            record: Some(super::record::for_agent(id, record, &self.inner.settings.mesh)),
            host: Some(host),
            workloads,
            roots: self.inner.authority.roots_pem().to_vec(),
        })
    }

    /// Certificates for a host with a current host certificate.
    ///
    /// # Errors
    /// If the record is gone, a request is for somebody else, or is none.
    pub async fn sign(&self, id: &str, request: host::SignRequest) -> Result<host::SignResponse, Refusal> {
        let record = self.record_of(id)?;
        if request.requests.is_empty() || request.requests.len() > MOST_WORKLOADS + 1 {
            return Err(Refusal::Malformed("1 to 65 certificate requests are signed at once".into()));
        }
        let mut certificates = Vec::new();
        let mut renews_host = false;
        for wanted in &request.requests {
            let checked = check(&wanted.csr)?;
            if wanted.workload_id.is_empty() {
                if checked.public_key() != record.host_key {
                    let why = "the host's certificate request is signed by another key than its record's";
                    return Err(Refusal::Malformed(why.into()));
                }
                renews_host = true;
                certificates.push(self.sign_host(id, &checked)?);
            } else {
                let own = record.workloads.iter().find(|w| w.workload.id == wanted.workload_id);
                let own = own.ok_or_else(|| {
                    Refusal::Malformed(format!("this host has no workload {:?}", shown(&wanted.workload_id)))
                })?;
                certificates.push(self.sign_workload(&own.workload, &checked)?);
            }
        }
        if renews_host {
            let ends = self.certificate_ends();
            self.update(id, move |record| {
                record.certificate_ends = record.certificate_ends.max(ends);
                Ok(())
            })
            .await?;
        }
        Ok(host::SignResponse { certificates, roots: self.inner.authority.roots_pem().to_vec() })
    }

    /// End of a host certificate that is signed now, at the latest.
    pub(super) fn certificate_ends(&self) -> u64 {
        unix(SystemTime::now() + self.inner.authority.life())
    }

    fn sign_host(&self, id: &str, request: &CheckedRequest) -> Result<host::Certificate, Refusal> {
        let id = self.inner.authority.trust_domain().host(id).map_err(|e| Refusal::Malformed(e.to_string()))?;
        let subject = Subject { id, holder: Holder::Host };
        let issued = self.inner.authority.issue(request, &subject, None, SystemTime::now())?;
        self.inner.metrics.certificate(CertificateKind::Host);
        Ok(certificate(String::new(), issued))
    }

    fn sign_workload(&self, own: &host::Workload, request: &CheckedRequest) -> Result<host::Certificate, Refusal> {
        let id = own.spiffe_id.parse().map_err(|e| Refusal::Malformed(format!("{e}")))?;
        let subject = Subject { id, holder: Holder::JoinedWorkload };
        let issued = self.inner.authority.issue(request, &subject, None, SystemTime::now())?;
        self.inner.metrics.certificate(CertificateKind::Workload);
        Ok(certificate(own.id.clone(), issued))
    }
}

fn check(csr: &[u8]) -> Result<CheckedRequest, Refusal> {
    CheckedRequest::from_der(csr).map_err(|e| Refusal::Malformed(e.to_string()))
}

fn certificate(workload_id: String, issued: Issued) -> host::Certificate {
    let not_after = issued.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    host::Certificate { workload_id, chain: issued.chain, not_after: Some(timestamp(not_after)) }
}

/// A stranger's text, cut to what fits a sentence.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
