//! PeerAuthentication: whether workloads ask their callers for mesh certificates.

use std::collections::BTreeMap;

use super::check::Checker;
use super::message::{enumeration, message};
use super::{LabelSelector, Port};

message! {
    /// Whether workloads ask their callers for mesh certificates.
    pub struct PeerAuthentication [check_policy] {
        /// Workloads it is for; none is the namespace, or the mesh in the root namespace.
        selector: Option<LabelSelector>,
        /// For all ports; unset is inherited.
        mtls: Option<MutualTls>,
        /// For single ports of the workload.
        port_level_mtls: BTreeMap<Port, MutualTls>,
    }

    /// Mutual TLS.
    pub struct MutualTls {
        /// How.
        mode: MutualTlsMode,
    }
}

enumeration! {
    /// How callers may connect.
    pub enum MutualTlsMode {
        /// As the wider policy says; `PERMISSIVE` if there is none.
        Unset = "UNSET",
        /// Plaintext only.
        Disable = "DISABLE",
        /// Plaintext or mutual TLS.
        Permissive = "PERMISSIVE",
        /// Mutual TLS only.
        Strict = "STRICT",
    }
}

fn check_policy(policy: &PeerAuthentication, c: &mut Checker) {
    let selects = policy.selector.as_ref().is_some_and(|s| !s.match_labels.is_empty());
    if !policy.port_level_mtls.is_empty() && !selects {
        c.wrong(
            "port_level_mtls",
            "portLevelMtls requires selector: name the workload's labels in selector.matchLabels",
        );
    }
}
