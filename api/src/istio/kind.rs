//! The kinds of resource, by their names, versions and short forms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kinds of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Kind {
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    WorkloadGroup,
    Sidecar,
    Gateway,
    PeerAuthentication,
    RequestAuthentication,
    AuthorizationPolicy,
    Telemetry,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 11] = [
        Self::VirtualService,
        Self::DestinationRule,
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::WorkloadGroup,
        Self::Sidecar,
        Self::Gateway,
        Self::PeerAuthentication,
        Self::RequestAuthentication,
        Self::AuthorizationPolicy,
        Self::Telemetry,
    ];

    /// As `kind:` has it.
    pub fn as_str(self) -> &'static str {
        self.names().0
    }

    /// Lower case, for many: `virtualservices`.
    pub fn plural(self) -> &'static str {
        self.names().1
    }

    /// The short form that people type, if there is one: `vs`.
    pub fn short(self) -> Option<&'static str> {
        self.names().2
    }

    /// The API group: `networking.istio.io`.
    pub fn group(self) -> &'static str {
        match self {
            Self::PeerAuthentication | Self::RequestAuthentication | Self::AuthorizationPolicy => "security.istio.io",
            Self::Telemetry => "telemetry.istio.io",
            _ => "networking.istio.io",
        }
    }

    /// Versions that are read, the one that is written first. All have the same fields.
    pub fn versions(self) -> &'static [&'static str] {
        match self.group() {
            "networking.istio.io" => &["v1", "v1beta1", "v1alpha3"],
            "security.istio.io" => &["v1", "v1beta1"],
            _ => &["v1", "v1alpha1"],
        }
    }

    /// Kind, plural and short form.
    fn names(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::VirtualService => ("VirtualService", "virtualservices", Some("vs")),
            Self::DestinationRule => ("DestinationRule", "destinationrules", Some("dr")),
            Self::ServiceEntry => ("ServiceEntry", "serviceentries", Some("se")),
            Self::WorkloadEntry => ("WorkloadEntry", "workloadentries", Some("we")),
            Self::WorkloadGroup => ("WorkloadGroup", "workloadgroups", Some("wg")),
            Self::Sidecar => ("Sidecar", "sidecars", None),
            Self::Gateway => ("Gateway", "gateways", Some("gw")),
            Self::PeerAuthentication => ("PeerAuthentication", "peerauthentications", Some("pa")),
            Self::RequestAuthentication => ("RequestAuthentication", "requestauthentications", Some("ra")),
            Self::AuthorizationPolicy => ("AuthorizationPolicy", "authorizationpolicies", Some("ap")),
            Self::Telemetry => ("Telemetry", "telemetries", None),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of resource")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads `VirtualService`, `virtualservice`, `virtualservices`, `vs`, and `virtualservices.networking.istio.io`.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let unknown = || UnknownKind(text.chars().take(64).collect());
        if text.len() > 64 {
            return Err(unknown());
        }
        let lower = text.to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|kind| {
            let word = lower.strip_suffix(kind.group()).and_then(|w| w.strip_suffix('.')).unwrap_or(&lower);
            kind.as_str().eq_ignore_ascii_case(word) || kind.plural() == word || kind.short() == Some(word)
        });
        found.ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_in_every_form_people_type() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(kind.plural().parse(), Ok(kind));
            assert_eq!(kind.short().unwrap_or(kind.plural()).parse(), Ok(kind));
            assert_eq!(format!("{}.{}", kind.plural(), kind.group()).parse(), Ok(kind));
        }
        assert!("virtualservicess".parse::<Kind>().is_err());
        assert!("".parse::<Kind>().is_err());
    }
}
