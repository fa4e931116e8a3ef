//! Sidecars: what is left of the mesh to the host of the proxies, and what becomes of the rest.

use crate::case::{At, Case, case};
use crate::policies::Set;

const GET: &str = "GET / HTTP/1.1\nhost: {host}\n\n";
/// The service's address is the server's own, so that there is somebody there for who does not see the service.
const THERE: &str = "{hosts: ['{host}'], addresses: ['{servers}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: {port1}, name: main, protocol: TCP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}";
const WEB: &str = "{hosts: ['{host}'], addresses: ['{servers}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: {port1}, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}";

const fn there(name: &'static str) -> Case {
    case(name, GET).port("TCP").entry(THERE).at(At::Server)
}

const fn web(name: &'static str) -> Case {
    case(name, GET).entry(WEB).at(At::Server)
}

macro_rules! sidecar {
    ($spec:literal) => {
        concat!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a-sidecar, namespace: default}\nspec: ", $spec, "\n")
    };
}

/// One after the other.
pub(crate) const SETS: &[Set] = &[
    Set { name: "sidecar: hosts of this namespace", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['./*']}]}"), tries: &[
        case("sidecar: a service", GET),
        there("sidecar: TCP to a service"),
    ] },
    Set { name: "sidecar: of other workloads", yaml: sidecar!("{workloadSelector: {labels: {app: another}}, egress: [{hosts: ['~/*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        case("sidecar: a service, and a Sidecar of others", GET),
    ] },
    Set { name: "sidecar: a wildcard", yaml: sidecar!("{egress: [{hosts: ['*/*.diff.test']}]}"), tries: &[
        case("sidecar: a service below the wildcard", GET),
    ] },
    Set { name: "sidecar: REGISTRY_ONLY leaves what it names", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        case("sidecar: a service, when all else is refused", GET),
        there("sidecar: TCP to a service, when all else is refused"),
        web("sidecar: a service at the server, when all else is refused"),
    ] },
    Set { name: "sidecar: REGISTRY_ONLY refuses the rest", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['other/*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        there("sidecar: what is not named, when it is refused"),
        web("sidecar: HTTP that is not named, when it is refused"),
    ] },
];
