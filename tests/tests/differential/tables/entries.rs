//! ServiceEntries: how endpoints are found, and by what a connection to a service is told.

use crate::case::{At, Case, Servers, case};

const GET: &str = "GET / HTTP/1.1\nhost: {host}\n\n";
const TWO: &str = "GET /1 HTTP/1.1\nhost: {host}\n\n{read}GET /2 HTTP/1.1\nhost: {host}\n\n";
const ELSEWHERE: &str = "GET / HTTP/1.1\nhost: elsewhere.{name}.test\n\n";

/// The same host, of another namespace and with another server.
macro_rules! defined {
    ($namespace:literal $port:literal) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: {name}, namespace: ", $namespace, "}\n",
            "spec: {hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], ",
            "endpoints: [{address: '{servers}', ports: {main: {", $port, "}}}]}\n"
        )
    };
}

/// A service whose ServiceEntry says this.
const fn entry(name: &'static str, spec: &'static str) -> Case {
    case(name, GET).entry(spec)
}

pub(crate) const CASES: &[Case] = &[
    entry("entry: an endpoint that is a name",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{named}', ports: {main: {port1}}}]}"),
    entry("entry: the host itself is looked up",
        "{hosts: ['{named}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: TCP, targetPort: {port1}}]}").port("TCP"),
    entry("entry: several endpoints that are names",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{named}', ports: {main: {port1}}, weight: 3}, {address: 'a.{named}', ports: {main: {port2}}}]}").to(Servers::Two).either(),
    entry("entry: a name beside an address",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{named}', ports: {main: {port1}}}, {address: '{servers}', ports: {main: {port1}}}]}"),
    entry("entry: a name that nobody knows",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: nobody.example.test, ports: {main: {port1}}}]}"),
    entry("entry: one that nobody knows beside one that is known",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: nobody.example.test, ports: {main: {port1}}}, {address: '{named}', ports: {main: {port1}}}]}"),
    entry("entry: one address of a name",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{named}', ports: {main: {port1}}}]}"),
    entry("entry: TCP to a name",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: TCP}], endpoints: [{address: '{named}', ports: {main: {port1}}}]}").port("TCP"),
    entry("entry: localities of names",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{named}', ports: {main: {port1}}, locality: r1/z1, labels: {version: v1}}, {address: 'a.{named}', ports: {main: {port2}}, locality: r2/z1, labels: {version: v2}}]}")
        .to(Servers::Two).with("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\nspec: {host: \"{host}\", trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}}\n"),
    entry("entry: in the mesh, and no sidecar there",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_INTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{named}', ports: {main: {port1}}}]}"),
    entry("entry: outside of the mesh, whatever account it has",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}, serviceAccount: somebody}]}"),
    entry("entry: an endpoint of another network",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}, network: elsewhere}]}"),
    entry("entry: a workload with an account and of another network",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP, targetPort: {port1}}], workloadSelector: {labels: {app: '{name}'}}}")
        .with("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: {name}, namespace: default}\nspec: {address: \"{servers}\", labels: {app: \"{name}\"}, serviceAccount: somebody, network: elsewhere}\n"),
    entry("entry: workloads that are selected",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP, targetPort: {port1}}], workloadSelector: {labels: {app: '{name}'}}}")
        .with("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: {name}, namespace: default}\nspec: {address: \"{servers}\", labels: {app: \"{name}\"}, weight: 2, locality: r1/z1}\n"),
    entry("entry: workloads that are selected, and are names",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_INTERNAL, resolution: DNS, ports: [{number: 80, name: main, protocol: HTTP}], workloadSelector: {labels: {app: '{name}'}}}")
        .with("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: {name}, namespace: default}\nspec: {address: \"{named}\", labels: {app: \"{name}\"}, ports: {main: {port1}}}\n"),
    entry("entry: a host that another namespace defines too",
        "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}")
        .to(Servers::Two).with(defined!("a-first" "port2")),
    entry("entry: a host that two other namespaces define",
        "{hosts: ['{host}'], exportTo: [elsewhere], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}")
        .to(Servers::Two).with(concat!(defined!("z-last" "port1"), "---\n", defined!("a-first" "port2"))),
    entry("entry: a range of addresses, TCP",
        "{hosts: ['{host}'], addresses: ['{range}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: TCP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}").port("TCP").at(At::Range),
    entry("entry: a range of addresses, HTTP",
        "{hosts: ['{host}'], addresses: ['{range}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}").at(At::Range),
    entry("entry: several addresses, one of which is a range",
        "{hosts: ['{host}'], addresses: ['{range}', '{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}"),
    entry("entry: where it was going, TCP",
        "{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: TCP}]}").port("TCP").at(At::Server),
    entry("entry: where it was going, by an address",
        "{hosts: ['{host}'], addresses: ['{servers}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: TCP}]}").port("TCP").at(At::Server),
    entry("entry: where it was going, HTTP",
        "{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: HTTP}]}").at(At::Server),
    entry("entry: where it was going, undeclared",
        "{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main}]}").at(At::Server),
    case("entry: where it was going, two requests", TWO).answers(2)
        .entry("{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: HTTP}]}").at(At::Server),
    case("entry: where it was going, another host", ELSEWHERE)
        .entry("{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: HTTP}]}").at(At::Server),
    case("entry: where it was going, a wildcard", "GET / HTTP/1.1\nhost: a.b.{name}.test\n\n")
        .entry("{hosts: ['*.{name}.test'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: HTTP}]}").at(At::Server),
    case("entry: where it was going, a wildcard and its routes", "GET /gone HTTP/1.1\nhost: a.{name}.test\n\n")
        .entry("{hosts: ['*.{name}.test'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port1}, name: main, protocol: HTTP}]}").at(At::Server)
        .with("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\nspec: {hosts: ['*.{name}.test'], http: [{match: [{uri: {exact: /gone}}], directResponse: {status: 410}}, {directResponse: {status: 204}}]}\n"),
    entry("entry: where it was going, but for the port",
        "{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: {port2}, name: main, protocol: TCP, targetPort: {port1}}]}").port("TCP").at(At::Second),
];
