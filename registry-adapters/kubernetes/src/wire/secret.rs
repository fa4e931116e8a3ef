//! Secrets that hold the way to another cluster.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::Item;
use crate::name::Name;

/// A secret. What is in it is shown nowhere.
#[derive(Clone, Deserialize)]
pub(crate) struct Secret {
    metadata: super::Meta,
    /// Base64, by key.
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

impl Secret {
    /// What is in it, by key, as it is written: in base64.
    pub(crate) fn data(&self) -> impl Iterator<Item = (&str, &str)> {
        self.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}

impl Item for Secret {
    fn name(&self) -> Name {
        Name::new(&self.metadata.namespace, &self.metadata.name)
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}
