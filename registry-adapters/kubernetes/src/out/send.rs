//! One write, from its request to what came of it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::access::Access;
use crate::watch::Failure;
use crate::wire::MANAGER;

/// Longest time that a write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    /// To apply an object; also where others own what it says.
    Apply { object: Value, force: bool },
    /// To change a status as it was at a version.
    Status { version: String, conditions: Vec<Value> },
    /// To delete an object, if it is still that one.
    Delete { uid: String },
    /// To make one.
    Create(Value),
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    /// Of the object, or of its like for a new one.
    pub(super) path: String,
    pub(super) ask: Ask,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// It was not there before.
    pub(super) new: bool,
    /// The object, or a `Status`.
    pub(super) body: Value,
}

impl Job {
    pub(super) async fn send(self, access: &Access) -> Result<Answer, Failure> {
        let by = format!("fieldManager={MANAGER}");
        let (method, path, kind, body) = match self.ask {
            Ask::Apply { object, force } => {
                let path = format!("{}?{by}&force={force}", self.path);
                (Method::PATCH, path, "application/apply-patch+yaml", object)
            }
            Ask::Status { version, conditions } => {
                let change = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
                (Method::PATCH, format!("{}/status?{by}", self.path), "application/merge-patch+json", change)
            }
            Ask::Delete { uid } => {
                let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
                (Method::DELETE, self.path, "application/json", options)
            }
            Ask::Create(object) => (Method::POST, format!("{}?{by}", self.path), "application/json", object),
        };
        let write = access.write(method, &path, kind, body.to_string().into_bytes());
        let written = tokio::time::timeout(PATIENCE, write).await;
        let written = written.unwrap_or_else(|_| Err(Failure::Unreachable("no answer in time".to_owned())));
        let (new, body) = written.inspect_err(|failure| access.failed(failure))?;
        let body = serde_json::from_slice(&body).map_err(|error| Failure::Unreadable(error.to_string()))?;
        Ok(Answer { new, body })
    }
}
