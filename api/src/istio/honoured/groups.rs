//! What of a WorkloadGroup would silently not happen: probes that no agent makes, with which hosts would count as healthy,
//! or as unhealthy, whatever they are; and annotations of its own that can't be read.
//!
//! In: a checked WorkloadGroup. Out: why it must be refused, if it must.

use super::Report;
use crate::istio::traffic::read;
use crate::istio::{FieldPath, ObjectMeta, WorkloadGroup};

const CURE: &str = "is not honoured, and hosts would count as healthy whatever they are; use httpGet or tcpSocket";
const HTTPS: &str = "HTTPS is not honoured, and hosts would never count as healthy; use HTTP or tcpSocket";

/// Adds what is to be said to a report.
pub(super) fn look(group: &WorkloadGroup, metadata: &ObjectMeta, path: &FieldPath, report: &mut Report) {
    if let Some((key, why)) = read(&metadata.annotations).1.first() {
        report.refuse.get_or_insert_with(|| format!("metadata.annotations[\"{key}\"]: {why}"));
    }
    let Some(probe) = &group.probe else { return };
    let at = |fields: &[&str]| {
        let mut path = path.clone();
        path.push_field("probe");
        fields.iter().for_each(|field| path.push_field(field));
        path
    };
    let https = probe.http_get.as_ref().is_some_and(|get| get.scheme.eq_ignore_ascii_case("HTTPS"));
    let refused = match () {
        () if probe.exec.is_some() => Some((at(&["exec"]), CURE)),
        () if probe.grpc.is_some() => Some((at(&["grpc"]), CURE)),
        () if https => Some((at(&["httpGet", "scheme"]), HTTPS)),
        () => None,
    };
    if let Some((path, why)) = refused {
        report.refuse.get_or_insert_with(|| format!("{path}: {why}"));
    }
}
