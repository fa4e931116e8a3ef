//! TLS of a DestinationRule that can't be started as it is said: calls would go out in plaintext, or to anybody.
//!
//! In: a checked DestinationRule. Out: why it must be refused, if it must.

use super::Report;
use crate::istio::destination_rule::{ClientTlsMode, ClientTlsSettings, TrafficPolicy};
use crate::istio::{DestinationRule, FieldPath, Segment};

/// Adds what is to be said to a report.
pub(super) fn look(rule: &DestinationRule, path: &FieldPath, report: &mut Report) {
    for (index, subset) in rule.subsets.iter().enumerate() {
        let path = below(path, "subsets", Some(index));
        of_policy(subset.traffic_policy.as_ref(), &path, report);
    }
    of_policy(rule.traffic_policy.as_ref(), path, report);
}

fn of_policy(policy: Option<&TrafficPolicy>, path: &FieldPath, report: &mut Report) {
    let Some(policy) = policy else { return };
    let path = below(path, "trafficPolicy", None);
    let mut all: Vec<_> = policy.tls.iter().map(|tls| (path.clone(), tls)).collect();
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        let path = below(&path, "portLevelSettings", Some(index));
        all.extend(port.tls.iter().map(|tls| (path.clone(), tls)));
    }
    for (path, settings) in all {
        if let Some((field, why)) = refused(settings) {
            report.refuse.get_or_insert_with(|| format!("{}: {why}", below(&below(&path, "tls", None), field, None)));
        }
    }
}

fn refused(settings: &ClientTlsSettings) -> Option<(&'static str, &'static str)> {
    if !matches!(settings.mode(), ClientTlsMode::Simple | ClientTlsMode::Mutual) {
        return None;
    }
    if !settings.credential_name.is_empty() {
        let why = "secrets by name are not honoured: name files that callers' hosts have, in caCertificates, and in \
                   clientCertificate and privateKey for MUTUAL";
        return Some(("credentialName", why));
    }
    let checked = settings.insecure_skip_verify != Some(true);
    if !checked && !settings.ca_crl.is_empty() {
        return Some(("caCrl", "with insecureSkipVerify revoked certificates would be taken: take one of the two out"));
    }
    let why = "name the file of the roots that servers are checked against, which callers' hosts have: the system's own are \
               not used; or say insecureSkipVerify: true";
    (checked && settings.ca_certificates.is_empty()).then_some(("caCertificates", why))
}

fn below(path: &FieldPath, field: &str, index: Option<usize>) -> FieldPath {
    let mut path = path.clone();
    path.push_field(field);
    path.0.extend(index.map(Segment::Index));
    path
}
