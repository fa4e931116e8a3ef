//! Requests for join tokens.

use hawser_api::join_request::{Spec, Status};
use serde::Deserialize;
use serde_json::Value;

use super::Item;
use crate::name::Name;

/// A JoinTokenRequest. What it wants is read when it is looked at, so that one that says nonsense holds up no other.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Request {
    metadata: RequestMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RequestMeta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    generation: i64,
    deletion_timestamp: Option<String>,
}

impl Request {
    pub(crate) fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    pub(crate) fn plain_name(&self) -> &str {
        &self.metadata.name
    }

    pub(crate) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(crate) fn generation(&self) -> i64 {
        self.metadata.generation
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether somebody has said what became of it.
    pub(crate) fn is_answered(&self) -> bool {
        let status: Status = Deserialize::deserialize(&self.status).unwrap_or_default();
        status.ready().is_some_and(|ready| ready.status == "True" || ready.status == "False")
    }

    /// What it wants.
    pub(crate) fn spec(&self) -> Result<Spec, String> {
        Deserialize::deserialize(&self.spec).map_err(|error: serde_json::Error| format!("spec: {error}"))
    }
}

impl Item for Request {
    fn name(&self) -> Name {
        Name::new(&self.metadata.namespace, &self.metadata.name)
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}
