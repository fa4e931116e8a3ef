//! Tokens of service accounts: what their cluster's API server says of them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::Access;
use crate::watch::Failure;

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Asks a cluster's API server about tokens. Needs the right to create `tokenreviews.authentication.k8s.io`.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Access>);

impl Tokens {
    pub(crate) fn new(access: Arc<Access>) -> Self {
        Self(access)
    }

    /// `status` of the TokenReview of a token that should be for `audience`.
    ///
    /// # Errors
    /// If the API server can't be asked, in words that tell nothing of the token.
    pub async fn review(&self, token: &str, audience: &str) -> Result<Value, String> {
        #[derive(Deserialize)]
        struct Answer {
            status: Value,
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let answer = self.0.post(PATH, review.to_string().into_bytes()).await.inspect_err(|why| self.0.failed(why));
        let answer = answer.map_err(|why| match why {
            Failure::Denied(why) => format!("it refuses the question ({why}); grant create on tokenreviews"),
            other => other.to_string(),
        })?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| "its answer is no TokenReview".to_owned())?;
        Ok(answer.status)
    }
}
