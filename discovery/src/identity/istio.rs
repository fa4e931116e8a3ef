//! The certificate service of Istio's clients, on the TLS port.
//!
//! The caller's proof decides the identity. A proof is a current client certificate that is no joined host's, or else a
//! token of a service account of a Kubernetes cluster that is followed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_api::identity::Path;
use hawser_api::proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use hawser_api::proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::{Request, Response, Status};

use super::accounts::Accounts;
use super::authority::SignError;
use super::{Authority, CheckedRequest, Holder, Subject};
use crate::metrics::{CertificateKind, Metrics};
use crate::peer::Peer;

/// `istio.v1.auth.IstioCertificateService`.
#[derive(Clone, Debug)]
pub struct CertificateService {
    authority: Arc<Authority>,
    accounts: Accounts,
    metrics: Metrics,
}

impl CertificateService {
    /// The service of an authority.
    pub fn new(authority: Arc<Authority>, accounts: Accounts, metrics: Metrics) -> Self {
        Self { authority, accounts, metrics }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let shown = match request.extensions().get::<Peer>() {
            Some(peer) if peer.joined_workload => {
                return Err(Status::permission_denied(
                    "a workload certificate of a joined host is no proof here: its agent renews it with the host's own",
                ));
            }
            Some(peer) => peer.identity.clone(),
            None => None,
        };
        let id = match shown {
            Some(id) => id,
            None => {
                self.accounts.caller(request.metadata(), self.authority.trust_domain()).await?.ok_or_else(|| {
                    Status::unauthenticated(
                        "no proof of identity: show a current client certificate, or the token of a service account",
                    )
                })?
            }
        };
        if !matches!(id.path(), Path::Workload { .. }) {
            return Err(Status::permission_denied(format!("{id} is no workload: this service signs for workloads")));
        }
        let request = request.into_inner();
        let checked = CheckedRequest::from_pem(&request.csr).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let life = u64::try_from(request.validity_duration).ok().map(Duration::from_secs);
        let subject = Subject { id, holder: Holder::Caller };
        let issued = self.authority.issue(&checked, &subject, life, SystemTime::now())?;
        self.metrics.certificate(CertificateKind::Caller);
        let cert_chain = issued.chain.into_iter().chain(self.authority.roots_pem().iter().cloned()).collect();
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

impl From<SignError> for Status {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Identity(_) => Self::permission_denied(error.to_string()),
            SignError::Expired => Self::failed_precondition(error.to_string()),
            SignError::Failed(_) => Self::internal(error.to_string()),
        }
    }
}
