//! And, or, not: of permissions and of principals alike.

use hawser_api::proto::envoy::config::rbac::v3::{Permission, Principal, permission, principal};

/// Something that is put together from its like.
pub(super) trait Logic: Sized {
    /// Matches everything.
    fn any() -> Self;
    /// All of these.
    fn and(all: Vec<Self>) -> Self;
    /// Any of these.
    fn or(all: Vec<Self>) -> Self;
    /// Not this.
    fn not(one: Self) -> Self;
}

impl Logic for Permission {
    fn any() -> Self {
        Self { rule: Some(permission::Rule::Any(true)) }
    }

    fn and(rules: Vec<Self>) -> Self {
        Self { rule: Some(permission::Rule::AndRules(permission::Set { rules })) }
    }

    fn or(rules: Vec<Self>) -> Self {
        Self { rule: Some(permission::Rule::OrRules(permission::Set { rules })) }
    }

    fn not(one: Self) -> Self {
        Self { rule: Some(permission::Rule::NotRule(Box::new(one))) }
    }
}

impl Logic for Principal {
    fn any() -> Self {
        Self { identifier: Some(principal::Identifier::Any(true)) }
    }

    fn and(ids: Vec<Self>) -> Self {
        Self { identifier: Some(principal::Identifier::AndIds(principal::Set { ids })) }
    }

    fn or(ids: Vec<Self>) -> Self {
        Self { identifier: Some(principal::Identifier::OrIds(principal::Set { ids })) }
    }

    fn not(one: Self) -> Self {
        Self { identifier: Some(principal::Identifier::NotId(Box::new(one))) }
    }
}
