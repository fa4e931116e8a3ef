//! What of a ServiceEntry's values has no effect: names that nobody can look up in time, sockets that are files.
//!
//! In: a checked ServiceEntry. Out: fields without effect, and why it must be refused, if it must.

use super::{Report, Unhonoured};
use crate::istio::service_entry::Resolution;
use crate::istio::{FieldPath, Segment, ServiceEntry};

const DYNAMIC: &str = "DYNAMIC_DNS is not honoured: no proxy looks up the name that each caller asks for; list the hosts with \
                       resolution DNS, or choose NONE, which goes on to where callers were going";
const NONE_SELECTS: &str = "has no effect with resolution NONE, which goes on to where callers were going";
const UNIX: &str = "a Unix socket is reached by an Envoy only, and is left out for others";

/// Adds what is to be said to a report.
pub(super) fn look(entry: &ServiceEntry, path: &FieldPath, report: &mut Report) {
    let field = |name: &str| {
        let mut path = path.clone();
        path.push_field(name);
        path
    };
    if entry.resolution == Resolution::DynamicDns {
        report.refuse.get_or_insert_with(|| format!("{}: {DYNAMIC}", field("resolution")));
    }
    if entry.resolution == Resolution::None && entry.workload_selector.is_some() {
        report.unhonoured.push(Unhonoured { path: field("workloadSelector"), why: NONE_SELECTS.to_owned() });
    }
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        if endpoint.address.starts_with("unix://") {
            let mut path = field("endpoints");
            path.0.push(Segment::Index(index));
            path.push_field("address");
            report.unhonoured.push(Unhonoured { path, why: UNIX.to_owned() });
        }
    }
}
