//! What is wrong with a source, in sentences with cause and cure.

use std::collections::BTreeMap;

use crate::client::Failure;

/// Kinds of trouble, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The token's file can't be read.
    Token,
    /// The token is none.
    BadToken,
    /// It may not ask.
    Denied,
    /// Services are hidden from the token.
    HiddenServices,
    /// Nodes are.
    HiddenNodes,
    /// No answer.
    Unreachable,
}

/// What is wrong now.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Kind, String>);

impl Troubles {
    pub(super) fn set(&mut self, kind: Kind, why: String) {
        self.0.insert(kind, why);
    }

    /// `true` if it was so.
    pub(super) fn clear(&mut self, kind: Kind) -> bool {
        self.0.remove(&kind).is_some()
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.0.contains_key(&kind)
    }

    pub(super) fn worst(&self) -> Option<&str> {
        self.0.values().next().map(String::as_str)
    }

    /// What is said can't be believed: rights are missing.
    pub(super) fn is_blind(&self) -> bool {
        self.0
            .keys()
            .any(|kind| matches!(kind, Kind::BadToken | Kind::Denied | Kind::HiddenServices | Kind::HiddenNodes))
    }
}

const POLICY: &str =
    "a policy with service_prefix \"\" { policy = \"read\" } and node_prefix \"\" { policy = \"read\" }";

pub(super) fn denied(failure: &Failure, token: bool) -> String {
    let cause = match failure {
        Failure::Denied(text) if text.contains("ACL not found") => {
            "the ACL token was deleted, has expired or never was one".to_owned()
        }
        other => other.to_string(),
    };
    let cure =
        if token { "write a token that is valid into tokenFile" } else { "name a file with a token in tokenFile" };
    format!("{cause}; the last state stays; {cure}: it needs {POLICY}")
}

pub(super) fn hidden(token: bool, denies_by_default: Option<bool>) -> String {
    let cause = match (token, denies_by_default) {
        (true, _) => "Consul hides services from the ACL token",
        (false, Some(true)) => "Consul's ACL policy is deny by default, and there is no token",
        (false, _) => "Consul hides services from requests without a token",
    };
    let cure = match token {
        true => "give the token",
        false => "name a file with a token in tokenFile, one with",
    };
    format!("{cause}; the last state stays; {cure} {POLICY}, or say partialView: true if it is meant to see a part")
}

pub(super) fn hidden_nodes() -> String {
    format!(
        "Consul lists services but hides their instances from us; the last state stays; the ACL token needs {POLICY}, or \
         say partialView: true if it is meant to see a part"
    )
}

pub(super) fn unreachable(failure: &Failure) -> String {
    match failure {
        Failure::NoPath(text) => format!("Consul's servers do not reach this datacenter: {text}; the last state stays"),
        Failure::Refused(text) if text.contains("Enterprise") => {
            format!("{text}; take partitions and namespaces out of the settings: this Consul has none")
        }
        Failure::Crowded(text) => {
            format!(
                "{text}; the last state stays; lower connections, or raise Consul's limits.http_max_conns_per_client"
            )
        }
        other => format!("Consul does not answer: {other}; the last state stays"),
    }
}
