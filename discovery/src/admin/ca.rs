//! A new root for the CA.

use std::time::SystemTime;

use hawser_api::proto::admin::Root;
use tonic::Status;

use super::AdminService;
use crate::identity::SourceError;

impl AdminService {
    /// Replaces the root; all that are trusted then.
    pub(super) async fn rotate(&self) -> Result<Vec<Root>, Status> {
        let (authority, window) = (self.inner.authority.clone(), self.inner.rejoin_window);
        let rotated = tokio::task::spawn_blocking(move || authority.rotate(window, SystemTime::now()));
        match rotated.await.map_err(|error| Status::internal(error.to_string()))? {
            Ok(()) => {
                tracing::info!("the CA has a new root");
                Ok(self.roots())
            }
            Err(error @ (SourceError::Plugged | SourceError::TooMany)) => {
                Err(Status::failed_precondition(error.to_string()))
            }
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}
