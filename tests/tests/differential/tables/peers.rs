//! PeerAuthentication: who must bring a certificate of the mesh.

use crate::case::{Case, case};
use crate::policies::Set;

const fn get(name: &'static str) -> Case {
    case(name, "GET /a HTTP/1.1\nhost: a.test\n\n").inbound()
}

const ALL: &[Case] = &[
    get("HTTP in plaintext"),
    get("HTTP over mTLS").mutual(),
    get("TCP in plaintext").port("TCP"),
    get("TCP over mTLS").mutual().port("TCP"),
];

macro_rules! policy {
    ($name:literal, $namespace:literal, $spec:literal) => {
        concat!("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ", $name, ", namespace: ", $namespace, "}\nspec: ", $spec, "\n---\n")
    };
}

/// A policy that lets one principal in.
macro_rules! only {
    ($principal:literal) => {
        concat!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\nspec: ",
            "{selector: {matchLabels: {app: server}}, action: ALLOW, rules: [{from: [{source: {principals: ['", $principal, "']}}]}]}\n---\n"
        )
    };
}

/// Of the mesh's own trust domain, of one that counts as it (`trustDomainAliases`), and of one that does not.
const OTHERS: &[Case] = &[
    get("HTTP of our own").mutual(),
    get("HTTP of an alias").who("spiffe://old.test/ns/default/sa/caller"),
    get("HTTP of another account of an alias").who("spiffe://old.test/ns/default/sa/another"),
    get("HTTP of another trust domain").who("spiffe://other.test/ns/default/sa/caller"),
    get("TCP of an alias").who("spiffe://old.test/ns/default/sa/caller").port("TCP"),
    get("TCP of another account of an alias").who("spiffe://old.test/ns/default/sa/another").port("TCP"),
    get("TCP of another trust domain").who("spiffe://other.test/ns/default/sa/caller").port("TCP").kept("failed-tls",
        "+ log: 0 - - - - - sent 0 details - ended - audit - ext - - asked - deny - - allow - -",
    ),
];

pub(crate) const SETS: &[Set] = &[
    Set { name: "mtls.mode STRICT of the mesh", yaml: policy!("p", "istio-system", "{mtls: {mode: STRICT}}"), tries: ALL },
    Set { name: "mtls.mode STRICT of a namespace", yaml: policy!("p", "default", "{mtls: {mode: STRICT}}"), tries: ALL },
    Set { name: "mtls.mode STRICT of workloads", yaml: policy!("p", "default", "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}}"), tries: ALL },
    Set { name: "mtls.mode PERMISSIVE", yaml: policy!("p", "default", "{mtls: {mode: PERMISSIVE}}"), tries: ALL },
    Set { name: "mtls.mode UNSET inherits", yaml: concat!(
        policy!("p", "istio-system", "{mtls: {mode: STRICT}}"), policy!("p", "default", "{mtls: {mode: UNSET}}"), policy!("q", "default", "{selector: {matchLabels: {app: server}}}")), tries: ALL },
    Set { name: "a namespace's mode goes before the mesh's", yaml: concat!(
        policy!("p", "istio-system", "{mtls: {mode: STRICT}}"), policy!("p", "default", "{mtls: {mode: PERMISSIVE}}")), tries: ALL },
    Set { name: "portLevelMtls", yaml: concat!(
        policy!("p", "default", "{mtls: {mode: STRICT}}"),
        policy!("q", "default", "{selector: {matchLabels: {app: server}}, portLevelMtls: {8056: {mode: PERMISSIVE}, 8057: {mode: PERMISSIVE}, 8058: {mode: UNSET}}}")), tries: &[
        get("HTTP in plaintext"),
        get("HTTP over mTLS").mutual(),
        get("TCP in plaintext").port("TCP"),
        get("TCP in plaintext, next port").port("TCP"),
        get("TCP in plaintext, the port after that").port("TCP"),
        get("TCP in plaintext, the last port").port("TCP"),
    ] },
    Set { name: "trust domains that count as the mesh's", yaml: only!("cluster.local/ns/default/sa/caller"), tries: OTHERS },
    Set { name: "trust domains that count as the mesh's, by another one's name", yaml: only!("old.test/ns/default/sa/caller"), tries: OTHERS },
    Set { name: "policies of other workloads", yaml: concat!(
        policy!("p", "other", "{mtls: {mode: STRICT}}"), policy!("p", "default", "{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}")), tries: ALL },
];
