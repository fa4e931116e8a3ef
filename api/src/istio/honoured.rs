//! What discovery honours of each kind today. This file is the table: whoever teaches discovery a field, adds it here.
//!
//! In: a checked resource. Out: the fields that have no effect, and whether the resource must be refused, because what
//! it asks for is a matter of security and would silently not happen.

mod entries;
mod groups;
mod policies;
mod routes;
mod sidecars;
mod tls;

pub use policies::is_dry_run;

use serde_json::Value;

use super::{FieldPath, Kind, Resource, Segment, Spec};

pub use routes::retries_on;

/// What of a resource has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Fields without effect.
    pub unhonoured: Vec<Unhonoured>,
    /// Why it must be refused, if it must.
    pub refuse: Option<String>,
}

/// A field without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhonoured {
    /// The field.
    pub path: FieldPath,
    /// Why.
    pub why: String,
}

/// What of `resource` discovery does not honour.
pub fn honoured(resource: &Resource) -> Report {
    let table = table(resource.kind());
    let mut report = Report { unhonoured: Vec::new(), refuse: table.refuse.map(str::to_owned) };
    if report.refuse.is_some() {
        return report;
    }
    let mut path = FieldPath::default();
    path.push_field("spec");
    let spec = serde_json::to_value(&resource.spec).unwrap_or_default();
    if table.honoured.is_empty() {
        let why = format!("{} is known, but not honoured yet: it has no effect", resource.kind());
        report.unhonoured.push(Unhonoured { path, why });
        return report;
    }
    walk(&spec, &mut path, "", &table, &mut report);
    report.refuse = report.refuse.or_else(|| policies::unenforceable(resource));
    if let Spec::VirtualService(service) = &resource.spec {
        routes::look(service, &path, &mut report);
    }
    if let Spec::DestinationRule(rule) = &resource.spec {
        tls::look(rule, &path, &mut report);
    }
    if let Spec::ServiceEntry(entry) = &resource.spec {
        entries::look(entry, &path, &mut report);
    }
    if let Spec::WorkloadGroup(group) = &resource.spec {
        groups::look(group, &resource.metadata, &path, &mut report);
    }
    if let Spec::Sidecar(sidecar) = &resource.spec {
        sidecars::look(sidecar, &path, &mut report);
    }
    report
}

/// Whether discovery honours a field of a kind, with some values at least; `[]` is any element, `*` any key.
pub fn honours(kind: Kind, field: &str) -> bool {
    let table = table(kind);
    let within = |field: &str, row: &str| {
        field.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let like = table.like.iter().find(|(one, _)| within(field, one));
    let field = like.map_or_else(|| field.to_owned(), |(one, other)| format!("{other}{}", &field[one.len()..]));
    table.refuse.is_none() && table.honoured.iter().any(|row| within(&field, row.trim_end_matches("[]")))
}

/// What is honoured of one kind.
struct Table {
    /// Fields, with all that is below them. Paths are within `spec`; `[]` is any element, `*` any key.
    honoured: &'static [&'static str],
    /// Honoured fields that are so with some values only.
    only: &'static [Only],
    /// Fields of which all holds that is said of another one.
    like: &'static [(&'static str, &'static str)],
    /// Why the whole kind is refused.
    refuse: Option<&'static str>,
}

/// A field that is honoured with some values only.
struct Only {
    path: &'static str,
    values: &'static [&'static str],
    why: &'static str,
    /// Refuse the resource with other values.
    refuse: bool,
}

const NOTHING: Table = Table { honoured: &[], only: &[], like: &[], refuse: None };

const NOT_YET: &str = "not honoured yet: it has no effect";
const MESH_ONLY: &str = "gateways are not honoured yet: only mesh has an effect";

fn table(kind: Kind) -> Table {
    match kind {
        Kind::VirtualService => VIRTUAL_SERVICE,
        Kind::DestinationRule => DESTINATION_RULE,
        Kind::ServiceEntry => SERVICE_ENTRY,
        Kind::WorkloadEntry => WORKLOAD_ENTRY,
        Kind::WorkloadGroup => WORKLOAD_GROUP,
        Kind::PeerAuthentication => PEER_AUTHENTICATION,
        Kind::AuthorizationPolicy => AUTHORIZATION_POLICY,
        Kind::RequestAuthentication => REQUEST_AUTHENTICATION,
        Kind::Sidecar => SIDECAR,
        Kind::Gateway | Kind::Telemetry => NOTHING,
    }
}

const VIRTUAL_SERVICE: Table = Table {
    honoured: &[
        "hosts",
        "gateways[]",
        "exportTo",
        "http[].name",
        "http[].match[].name",
        "http[].match[].uri",
        "http[].match[].headers",
        "http[].match[].withoutHeaders",
        "http[].match[].queryParams",
        "http[].match[].scheme",
        "http[].match[].method",
        "http[].match[].authority",
        "http[].match[].ignoreUriCase",
        "http[].match[].port",
        "http[].match[].sourceLabels",
        "http[].match[].sourceNamespace",
        "http[].match[].gateways[]",
        "http[].route[].destination",
        "http[].route[].weight",
        "http[].route[].headers",
        "http[].headers",
        "http[].redirect",
        "http[].directResponse",
        "http[].delegate",
        "http[].rewrite",
        "http[].timeout",
        "http[].retries",
        "http[].fault.delay.percent",
        "http[].fault.delay.fixedDelay",
        "http[].fault.delay.percentage",
        "http[].fault.abort.httpStatus",
        "http[].fault.abort.grpcStatus",
        "http[].fault.abort.percentage",
        "http[].mirror",
        "http[].mirrors",
        "http[].mirrorPercent",
        "http[].mirrorPercentage",
        "http[].corsPolicy",
        "tcp[].match[].port",
        "tcp[].match[].destinationSubnets",
        "tcp[].match[].sourceLabels",
        "tcp[].match[].sourceNamespace",
        "tcp[].match[].gateways[]",
        "tcp[].route[].destination",
        "tcp[].route[].weight",
        "tls[].match[].sniHosts",
        "tls[].match[].port",
        "tls[].match[].destinationSubnets",
        "tls[].match[].sourceLabels",
        "tls[].match[].sourceNamespace",
        "tls[].match[].gateways[]",
        "tls[].route[].destination",
        "tls[].route[].weight",
    ],
    only: &[
        Only { path: "gateways[]", values: &["mesh"], why: MESH_ONLY, refuse: false },
        Only { path: "http[].match[].gateways[]", values: &["mesh"], why: MESH_ONLY, refuse: false },
        Only { path: "tcp[].match[].gateways[]", values: &["mesh"], why: MESH_ONLY, refuse: false },
        Only { path: "tls[].match[].gateways[]", values: &["mesh"], why: MESH_ONLY, refuse: false },
    ],
    like: &[],
    refuse: None,
};

const DESTINATION_RULE: Table = Table {
    honoured: &[
        "host",
        "exportTo",
        "subsets[].name",
        "subsets[].labels",
        "workloadSelector",
        "trafficPolicy.loadBalancer.simple",
        "trafficPolicy.loadBalancer.consistentHash",
        "trafficPolicy.loadBalancer.localityLbSetting",
        "trafficPolicy.loadBalancer.warmup",
        "trafficPolicy.loadBalancer.warmupDurationSecs",
        "trafficPolicy.connectionPool",
        "trafficPolicy.outlierDetection",
        "trafficPolicy.tls.mode",
        "trafficPolicy.tls.clientCertificate",
        "trafficPolicy.tls.privateKey",
        "trafficPolicy.tls.caCertificates",
        "trafficPolicy.tls.insecureSkipVerify",
        "trafficPolicy.tls.sni",
        "trafficPolicy.tls.subjectAltNames",
        "trafficPolicy.tls.caCrl",
        "trafficPolicy.tunnel",
        "trafficPolicy.proxyProtocol",
        "trafficPolicy.retryBudget.percent",
        "trafficPolicy.retryBudget.minRetryConcurrency",
        // Of the settings of a port.
        "trafficPolicy.port",
    ],
    only: &[],
    like: &[("subsets[].trafficPolicy", "trafficPolicy"), ("trafficPolicy.portLevelSettings[]", "trafficPolicy")],
    refuse: None,
};

const SERVICE_ENTRY: Table = Table {
    honoured: &[
        "hosts",
        "addresses",
        "ports",
        "location",
        "resolution",
        "endpoints",
        "workloadSelector",
        "exportTo",
        "subjectAltNames",
    ],
    only: &[],
    like: &[],
    refuse: None,
};

const SIDECAR: Table = Table {
    honoured: &[
        "workloadSelector",
        "ingress[].port.number",
        "ingress[].port.protocol",
        "ingress[].port.name",
        "ingress[].bind",
        "ingress[].captureMode",
        "ingress[].defaultEndpoint",
        "ingress[].connectionPool",
        "egress[].port.number",
        "egress[].port.protocol",
        "egress[].port.name",
        "egress[].bind",
        "egress[].captureMode",
        "egress[].hosts",
        "inboundConnectionPool",
        "outboundTrafficPolicy",
    ],
    only: &[],
    like: &[],
    refuse: None,
};

const WORKLOAD_ENTRY: Table = Table {
    honoured: &["address", "ports", "labels", "network", "locality", "weight", "serviceAccount"],
    only: &[],
    like: &[],
    refuse: None,
};

const WORKLOAD_GROUP: Table = Table {
    honoured: &[
        "metadata.labels",
        "metadata.annotations.traffic.sidecar.istio.io/includeOutboundIPRanges",
        "metadata.annotations.traffic.sidecar.istio.io/excludeOutboundIPRanges",
        "metadata.annotations.traffic.sidecar.istio.io/includeOutboundPorts",
        "metadata.annotations.traffic.sidecar.istio.io/excludeOutboundPorts",
        "metadata.annotations.traffic.sidecar.istio.io/includeInboundPorts",
        "metadata.annotations.traffic.sidecar.istio.io/excludeInboundPorts",
        "metadata.annotations.traffic.sidecar.istio.io/excludeInterfaces",
        "template.labels",
        "template.ports",
        "template.serviceAccount",
        "template.weight",
        "template.locality",
        "probe.initialDelaySeconds",
        "probe.timeoutSeconds",
        "probe.periodSeconds",
        "probe.successThreshold",
        "probe.failureThreshold",
        "probe.httpGet.path",
        "probe.httpGet.port",
        "probe.httpGet.host",
        "probe.httpGet.scheme",
        "probe.httpGet.httpHeaders",
        "probe.tcpSocket.port",
    ],
    only: &[],
    like: &[],
    refuse: None,
};

const PEER_AUTHENTICATION: Table =
    Table { honoured: &["selector", "mtls", "portLevelMtls"], only: &[], like: &[], refuse: None };

const REQUEST_AUTHENTICATION: Table = Table { honoured: &["selector", "jwtRules"], only: &[], like: &[], refuse: None };

const AUTHORIZATION_POLICY: Table =
    Table { honoured: &["selector", "rules", "action", "provider"], only: &[], like: &[], refuse: None };

/// Compares what is set with the table; `pattern` is the path without its indexes.
fn walk(value: &Value, path: &mut FieldPath, pattern: &str, table: &Table, report: &mut Report) {
    let pattern = table.like.iter().find(|(one, _)| *one == pattern).map_or(pattern, |(_, other)| other);
    if let (Some(text), Some(only)) = (value.as_str(), table.only.iter().find(|only| only.path == pattern))
        && !only.values.contains(&text)
    {
        if only.refuse {
            report.refuse.get_or_insert_with(|| format!("{path}: {text}: {}", only.why));
        } else {
            report.unhonoured.push(Unhonoured { path: path.clone(), why: format!("{text} {}", only.why) });
        }
        return;
    }
    if table.honoured.contains(&pattern) {
        return;
    }
    let leads_on =
        |row: &str| row.strip_prefix(pattern).is_some_and(|r| pattern.is_empty() || r.starts_with(['.', '[']));
    let told = report.unhonoured.len();
    let below = table.honoured.iter().any(|row| leads_on(row)) || table.like.iter().any(|(one, _)| leads_on(one));
    let conditional = table.only.iter().any(|only| leads_on(only.path));
    if !below {
        report.unhonoured.push(Unhonoured { path: path.clone(), why: NOT_YET.to_owned() });
    }
    if below || conditional {
        descend(value, path, pattern, table, report);
    }
    if !below {
        // Told already as a whole; only the refusals below it add something.
        report.unhonoured.truncate(told + 1);
    }
}

fn descend(value: &Value, path: &mut FieldPath, pattern: &str, table: &Table, report: &mut Report) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = if pattern.is_empty() { name.clone() } else { format!("{pattern}.{name}") };
                path.0.push(Segment::Name(name.clone()));
                walk(value, path, &below, table, report);
                path.0.pop();
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                path.0.push(Segment::Index(index));
                walk(value, path, &format!("{pattern}[]"), table, report);
                path.0.pop();
            }
        }
        _ => {}
    }
}
