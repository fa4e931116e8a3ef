//! Policies of who may do what, enforced or tried.

use std::sync::Arc;

use hawser_api::proto::envoy::config::rbac::v3 as proto;

use crate::config::proto::{At as _, Refused};
use crate::http::message::Name;

/// Policies of one action.
pub type Rules = hawser_routing::Rules<Name>;

/// Policies that are enforced, and such as are only tried.
#[derive(Debug)]
pub struct Rbac {
    /// Enforced.
    pub enforced: Option<Rules>,
    /// Only written down.
    pub tried: Option<Rules>,
    /// Before the names of what is written down.
    pub prefix: Arc<str>,
}

impl Rbac {
    pub(super) fn new(
        rules: Option<&proto::Rbac>,
        tried: Option<&proto::Rbac>,
        prefix: &str,
        http: bool,
    ) -> Result<Self, Refused> {
        let made = |rules: Option<&proto::Rbac>| rules.map(|r| Rules::new(r, http, Name::new)).transpose();
        Ok(Self { enforced: made(rules).at("rules")?, tried: made(tried).at("shadow_rules")?, prefix: prefix.into() })
    }
}
