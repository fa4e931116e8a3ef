//! The certificate service of Istio's clients, on the TLS port.
//!
//! The caller's proof decides the identity. A proof is a current client certificate that is no joined host's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_api::identity::Path;
use hawser_api::proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use hawser_api::proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::{Request, Response, Status};

use super::authority::SignError;
use super::{Authority, CheckedRequest, Holder, Subject};
use crate::metrics::{CertificateKind, Metrics};
use crate::peer::Peer;

/// `istio.v1.auth.IstioCertificateService`.
#[derive(Clone, Debug)]
pub struct CertificateService {
    authority: Arc<Authority>,
    metrics: Metrics,
}

impl CertificateService {
    /// The service of an authority.
    pub fn new(authority: Arc<Authority>, metrics: Metrics) -> Self {
        Self { authority, metrics }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let id = match request.extensions().get::<Peer>() {
            Some(peer) if peer.joined_workload => {
                return Err(Status::permission_denied(
                    "a workload certificate of a joined host is no proof here: its agent renews it with the host's own",
                ));
            }
            Some(Peer { identity: Some(id), .. }) => id.clone(),
            _ if request.metadata().contains_key("authorization") => {
                return Err(Status::unauthenticated(
                    "this discovery takes no JSON Web Tokens as proof: show a current client certificate of the mesh",
                ));
            }
            _ => return Err(Status::unauthenticated("no proof of identity: show a current client certificate")),
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
