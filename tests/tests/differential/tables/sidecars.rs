//! Sidecars: what is left of the mesh to the host of the proxies, and what becomes of the rest.

use crate::case::{At, Case, Servers, case};
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

/// A service that is called through a listener of the host's own.
const LISTENED_HTTP: &str = "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: {port1}, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}";
const LISTENED_TCP: &str = "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: {port1}, name: main, protocol: TCP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}";
/// It is wherever a connection was going, which is the listener itself.
const LISTENED_ANYWHERE: &str = "{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: HTTP}]}";
const TWO: &str = "GET /1 HTTP/1.1\nhost: {host}\n\n{read}GET /2 HTTP/1.1\nhost: {host}\n\n";

/// One of them.
pub(crate) const LISTENED: &Case = &listened("a service at a listener of the host's own");

const fn listened(name: &'static str) -> Case {
    case(name, GET).entry(LISTENED_HTTP).at(At::Own)
}

/// What comes in at a listener of the host's own.
const fn incoming(name: &'static str) -> Case {
    case(name, GET).inbound().at(At::Own)
}

/// A service of two ports, and routes of the first that lead to the other.
const TWO_PORTS: &str = "{hosts: ['{host}'], addresses: ['{servers}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: {port1}, name: main, protocol: HTTP}, {number: {port2}, name: other, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}, other: {port1}}}]}";
const TO_THE_OTHER: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\nspec: {hosts: ['{host}'], http: [{route: [{destination: {host: '{host}', port: {number: {port2}}}}]}]}\n";

/// Routes of another namespace.
const OTHERS: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: other}\nspec: {hosts: ['{host}'], http: [{directResponse: {status: 410}}]}\n";

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
    Set { name: "sidecar: an entry that is exported to others", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['*/*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        case("sidecar: an entry for another namespace", GET).port("TCP").at(At::Server).entry("{hosts: ['{host}'], addresses: ['{servers}'], exportTo: [other], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: {port1}, name: main, protocol: TCP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}"),
    ] },
    Set { name: "sidecar: a port of its own", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{port: {number: {0.port1}, protocol: HTTP, name: http}, hosts: ['./*']}, {port: {number: {1.port1}, protocol: HTTP, name: http-other}, hosts: ['other/*']}, {hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        web("sidecar: a port, and a service that it names"),
        web("sidecar: a port, and a service that it does not name"),
    ] },
    Set { name: "sidecar: what no service has goes to one", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: '{0.host}', port: {number: 80}}}}"), tries: &[
        case("sidecar: an egress proxy", GET).at(At::Second),
    ] },
    Set { name: "sidecar: what no service has goes to a part of one", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: '{0.host}', port: {number: 80}, subset: v1}}}"), tries: &[
        case("sidecar: an egress proxy, a subset", GET).to(Servers::Two).at(At::Second).with("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\nspec: {host: '{host}', subsets: [{name: v1, labels: {version: v1}}]}\n"),
    ] },
    Set { name: "sidecar: a port brings no other", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{port: {number: {0.port1}, protocol: HTTP, name: http}, hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        web("sidecar: a port, and routes to another one of the service").entry(TWO_PORTS).with(TO_THE_OTHER),
    ] },
    Set { name: "sidecar: all ports bring the other", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{port: {number: {0.port1}, protocol: HTTP, name: http}, hosts: ['./*']}, {hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        web("sidecar: a port, all others, and routes to another one of the service").entry(TWO_PORTS).with(TO_THE_OTHER),
    ] },
    Set { name: "sidecar: routes of a namespace that it does not name", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['./*']}]}"), tries: &[
        case("sidecar: routes that do not count", GET).with(OTHERS),
    ] },
    Set { name: "sidecar: routes of a namespace that it names", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{hosts: ['./*', 'other/{0.host}']}]}"), tries: &[
        case("sidecar: routes that count", GET).with(OTHERS),
    ] },
    Set { name: "sidecar: listeners of the host's own", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{port: {number: {0.port1}, protocol: HTTP, name: http-0}, captureMode: NONE, hosts: ['./*']}, {port: {number: {1.port1}, protocol: HTTP, name: http-1}, captureMode: NONE, bind: 0.0.0.0, hosts: ['./*']}, {port: {number: {2.port1}, protocol: TCP, name: tcp-2}, captureMode: NONE, bind: 127.0.0.1, hosts: ['./*']}, {port: {number: {3.port1}, protocol: HTTP, name: http-3}, captureMode: NONE, hosts: ['./*']}, {port: {number: {4.port1}, protocol: HTTP, name: http-4}, captureMode: NONE, hosts: ['./*']}, {port: {number: {5.port1}, protocol: HTTP, name: http-5}, captureMode: NONE, hosts: ['./*']}, {hosts: ['./*']}]}"), tries: &[
        listened("sidecar: captureMode NONE"),
        listened("sidecar: captureMode NONE, any address"),
        case("sidecar: captureMode NONE, TCP", GET).port("TCP").entry(LISTENED_TCP).at(At::Own),
        case("sidecar: captureMode NONE, a host that no service has", "GET / HTTP/1.1\nhost: elsewhere.test\n\n").entry(LISTENED_HTTP).at(At::Own),
        case("sidecar: captureMode NONE, where it was going", GET).entry(LISTENED_ANYWHERE).at(At::Own),
        case("sidecar: captureMode NONE, routes", GET).entry(LISTENED_HTTP).at(At::Own).with("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\nspec: {hosts: ['{host}'], http: [{match: [{uri: {exact: /}}], directResponse: {status: 410}}]}\n"),
        case("sidecar: beside captureMode NONE", GET),
    ] },
    Set { name: "sidecar: listeners of the host's own, when all else is refused", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, egress: [{port: {number: {0.port1}, protocol: HTTP, name: http-0}, captureMode: NONE, hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), tries: &[
        case("sidecar: captureMode NONE, a host that no service has is refused", "GET / HTTP/1.1\nhost: elsewhere.test\n\n").entry(LISTENED_HTTP).at(At::Own),
    ] },
    Set { name: "sidecar: ports taken in", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, ingress: [{port: {number: {0.port}, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:{0.port}'}, {port: {number: {1.port}, protocol: TCP, name: tcp}, captureMode: IPTABLES}, {port: {number: {2.port}, protocol: HTTP, name: http-2}, defaultEndpoint: '127.0.0.1:9'}]}"), tries: &[
        case("sidecar: ingress", GET).inbound(),
        case("sidecar: ingress, captureMode IPTABLES", GET).inbound(),
        case("sidecar: ingress, an endpoint where nobody is", GET).inbound().kept("safe-retries", "- client:   content-length: 121
+ client:   content-length: 98
- client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure\"
+ client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"
- log: 503 UF HTTP/1.1 GET / HOST sent 121 details upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} ended - audit - ext - - asked - deny - - allow - -
+ log: 503 UF HTTP/1.1 GET / HOST sent 98 details upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} ended - audit - ext - - asked - deny - - allow - -"),
        case("sidecar: ingress, over mTLS", GET).mutual(),
    ] },
    Set { name: "sidecar: sockets of the host", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, ingress: [{port: {number: {0.port}, protocol: HTTP, name: http}, defaultEndpoint: 'unix://{0.socket}'}, {port: {number: {1.port}, protocol: HTTP, name: http-1}, defaultEndpoint: 'unix://@{1.name}'}]}"), tries: &[
        case("sidecar: ingress, a Unix socket", TWO).answers(2).inbound().at(At::Socket),
        case("sidecar: ingress, an abstract Unix socket", GET).inbound().at(At::Socket),
    ] },
    Set { name: "sidecar: limits of what comes in", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, inboundConnectionPool: {http: {maxRequestsPerConnection: 1}}}"), tries: &[
        case("sidecar: inboundConnectionPool", TWO).answers(2).inbound(),
    ] },
    Set { name: "sidecar: limits of a port", yaml: sidecar!("{workloadSelector: {labels: {app: server}}, ingress: [{port: {number: {0.port}, protocol: HTTP, name: http}, connectionPool: {http: {maxRequestsPerConnection: 1}}}, {port: {number: {1.port}, protocol: HTTP, name: http-1}}]}"), tries: &[
        case("sidecar: ingress, connectionPool", TWO).answers(2).inbound(),
        case("sidecar: ingress, no connectionPool", TWO).answers(2).inbound(),
    ] },
    Set { name: "sidecar: listeners of the host's own for what comes in", yaml: concat!(sidecar!("{workloadSelector: {labels: {app: server}}, ingress: [{port: {number: {0.port1}, protocol: HTTP, name: http-0}, bind: 0.0.0.0, captureMode: NONE, defaultEndpoint: '127.0.0.1:{0.port}'}, {port: {number: {1.port1}, protocol: HTTP, name: http-1}, bind: 0.0.0.0, captureMode: NONE, defaultEndpoint: '127.0.0.1:{1.port}'}, {port: {number: {2.port1}, protocol: TCP, name: tcp-2}, bind: 0.0.0.0, captureMode: NONE, defaultEndpoint: '127.0.0.1:{2.port}'}, {port: {number: {3.port1}, protocol: HTTP, name: http-3}, bind: 0.0.0.0, captureMode: NONE, defaultEndpoint: '127.0.0.1:{3.port}'}, {port: {number: {4.port1}, protocol: HTTP, name: http-4}, bind: 0.0.0.0, captureMode: NONE, defaultEndpoint: '127.0.0.1:{4.port}'}]}"),
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a-bound, namespace: default}\nspec: {selector: {matchLabels: {app: server}}, action: DENY, rules: [{to: [{operation: {ports: ['{3.port1}'], paths: [/]}}]}]}\n",
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a-bound, namespace: default}\nspec: {selector: {matchLabels: {app: server}}, portLevelMtls: {{4.port1}: {mode: STRICT}}}\n"), tries: &[
        incoming("sidecar: ingress, captureMode NONE"),
        case("sidecar: ingress, captureMode NONE, over mTLS", GET).mutual().at(At::Own),
        case("sidecar: ingress, captureMode NONE, TCP", GET).inbound().port("TCP").at(At::Own),
        incoming("sidecar: ingress, captureMode NONE, denied"),
        incoming("sidecar: ingress, captureMode NONE, plaintext where mTLS is asked for"),
    ] },
];
