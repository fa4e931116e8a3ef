//! What connections to servers begin with: TLS of others, headers, proxies that lead on; and TLS that is passed on by its name.

use crate::case::{Case, Servers, Tls, case};

const GET: &str = "GET / HTTP/1.1\nhost: {host}\n\n";
const TWO: &str = "GET /1 HTTP/1.1\nhost: {host}\n\n{read}GET /2 HTTP/1.1\nhost: {host}\n\n";

/// A rule of the whole service.
macro_rules! policy {
    ($rest:literal) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {host: \"{host}\", trafficPolicy: {",
            $rest,
            "}}\n"
        )
    };
}

/// A service with two subsets, and its routes of TLS.
macro_rules! tls {
    ($($line:literal)+) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {host: \"{host}\", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n",
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n",
            "metadata: {name: {name}, namespace: default}\nspec:\n  hosts: [\"{host}\", \"*.{name}.test\"]\n  tls:\n",
            $("  - ", $line, "\n",)+
        )
    };
}

/// A service whose entry lists a name that servers may have.
macro_rules! listed {
    ($name:literal) => {
        concat!(
            "{hosts: ['{host}'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], ",
            "endpoints: [{address: '{servers}', ports: {main: {port1}}}], subjectAltNames: [", $name, "]}"
        )
    };
}

/// A route that calls by another host.
macro_rules! rewritten {
    ($host:literal) => {
        concat!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {hosts: ['{host}'], http: [{rewrite: {authority: ", $host, "}, route: [{destination: {host: '{host}'}}]}]}\n"
        )
    };
}

/// A service of many hosts.
const WILD: &str = "{hosts: ['*.{name}.test'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: HTTP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}";
const WILD_TCP: &str = "{hosts: ['*.{name}.test'], addresses: ['{address}'], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: main, protocol: TCP}], endpoints: [{address: '{servers}', ports: {main: {port1}}}]}";
macro_rules! wildcard {
    () => {
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\nspec: {host: '*.{name}.test', trafficPolicy: {tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}}}\n"
    };
}

/// A server outside of the mesh that speaks TLS.
const fn secured(name: &'static str, tls: Tls, yaml: &'static str) -> Case {
    case(name, GET).tls(tls).with(yaml)
}

/// TLS of the client, passed on by its name.
const fn passed(name: &'static str, asks_for: &'static str, yaml: &'static str) -> Case {
    case(name, GET).to(Servers::Two).port("TLS").tls(Tls::Plain).asks_for(asks_for).with(yaml)
}

pub(crate) const CASES: &[Case] = &[
    secured("TLS: a server's certificate is checked", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")),
    secured("TLS: names that a server must have", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, subjectAltNames: [other.test, server.test]}")),
    secured("TLS: a name that stands for many", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, subjectAltNames: [a.wild.test]}")),
    secured("TLS: a name that a server has not", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, subjectAltNames: [other.test]}")),
    secured("TLS: another root", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/other.pem}")),
    secured("TLS: a name to ask for", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, sni: asked.test}")),
    secured("TLS: a name that an entry lists", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, sni: asked.test}")).entry(listed!("server.test")),
    secured("TLS: a name that an entry lists and a server has not", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, sni: asked.test}")).entry(listed!("other.test")),
    secured("TLS: a name that an entry lists, and the host", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")).entry(listed!("server.test")),
    secured("TLS: a name that an entry lists and a server has not, and the host", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")).entry(listed!("other.test")),
    secured("TLS: a host with a port", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")).sends("GET / HTTP/1.1\nhost: {host}:80\n\n"),
    secured("TLS: a host that a route writes", Tls::Plain, concat!(policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}"), rewritten!("server.test"))),
    secured("TLS: a host that a route writes, and a server has not", Tls::Plain, concat!(policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}"), rewritten!("other.test"))),
    secured("TLS: a host that a route writes, and nobody is checked", Tls::Plain, concat!(policy!("tls: {mode: SIMPLE, insecureSkipVerify: true}"), rewritten!("other.test"))),
    secured("TLS: a wildcard", Tls::Plain, wildcard!()).entry(WILD).sends("GET / HTTP/1.1\nhost: a.{name}.test\n\n{read}{close}"),
    secured("TLS: a wildcard, two hosts", Tls::Plain, wildcard!()).entry(WILD).sends("GET /1 HTTP/1.1\nhost: a.{name}.test\n\n{read}GET /2 HTTP/1.1\nhost: b.{name}.test\n\n{read}GET /3 HTTP/1.1\nhost: a.{name}.test\n\n{read}{close}").answers(3),
    secured("TLS: a wildcard, a host that the server is not for", Tls::Plain, wildcard!()).entry(WILD).sends("GET / HTTP/1.1\nhost: a.b.{name}.test\n\n{read}{close}"),
    secured("TLS: a wildcard, of TCP", Tls::Plain, wildcard!()).entry(WILD_TCP).port("TCP"),
    secured("TLS: whoever it is", Tls::Plain, policy!("tls: {mode: SIMPLE, insecureSkipVerify: true}")),
    secured("TLS: a client's certificate", Tls::Mutual, policy!("tls: {mode: MUTUAL, caCertificates: {tls}/root.pem, clientCertificate: {tls}/client.pem, privateKey: {tls}/client-key.pem}")),
    secured("TLS: a client's certificate that is missing", Tls::Mutual, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")).kept("late-alerts",
        "- client:   content-length: 118\n\
         + client:   content-length: 121\n\
         - client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination\"\n\
         + client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure\"\n\
         - log: 503 UC HTTP/1.1 GET / HOST sent 118\n\
         + log: 503 URX,UF HTTP/1.1 GET / HOST sent 121",
    ),
    secured("TLS: revoked", Tls::Revoked, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, caCrl: {tls}/revoked.pem}")),
    secured("TLS: another one is revoked", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, caCrl: {tls}/revoked.pem}")),
    secured("TLS: nothing is revoked", Tls::Revoked, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, caCrl: {tls}/nothing.pem}")),
    secured("TLS: a list that is over", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, caCrl: {tls}/stale.pem}")),
    secured("TLS: a list of another root", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem, caCrl: {tls}/foreign.pem}")),
    secured("TLS: as HTTP/2", Tls::Plain, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}")).kept("scheme",
        "- server: :scheme: https\n\
         + server: :scheme: http",
    ),
    secured("TLS: nobody speaks it", Tls::No, policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")),
    case("TLS: of TCP", GET).port("TCP").tls(Tls::Plain).with(policy!("tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")),
    case("PROXY: in text", TWO).answers(2).with(policy!("proxyProtocol: {version: V1}")),
    case("PROXY: in binary", TWO).answers(2).with(policy!("proxyProtocol: {version: V2}")),
    case("PROXY: of TCP, in text", GET).port("TCP").with(policy!("proxyProtocol: {version: V1}")),
    case("PROXY: of TCP, in binary", GET).port("TCP").with(policy!("proxyProtocol: {version: V2}")),
    case("PROXY: before TLS", GET).tls(Tls::Plain).with(policy!("proxyProtocol: {version: V2}, tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")),
    case("PROXY: as HTTP/2", GET).with(policy!("proxyProtocol: {version: V1}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}")),
    case("tunnel: CONNECT", "hello{read 5}{close}").port("TCP").serve(&["HTTP/1.1 200 OK\n\n{echo}"]).with(policy!("tunnel: {protocol: CONNECT, targetHost: far.test, targetPort: 443}")),
    case("tunnel: by default", "hello{read 5}{close}").port("TCP").serve(&["HTTP/1.1 200 OK\n\n{echo}"]).with(policy!("tunnel: {targetHost: 192.0.2.7, targetPort: 8443}")),
    case("tunnel: POST", "hello{read 5}{eof}").port("TCP").serve(&["{early}HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n{pause}5\nworld\n{read}0\n\n"]).with(policy!("tunnel: {protocol: POST, targetHost: far.test, targetPort: 443}")),
    case("tunnel: as HTTP/2", "hello{read 5}{close}").port("TCP").serve(&["{early}:status: 200\n\nworld{open}"]).with(concat!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: {name}-far, namespace: default}\n",
        "spec: {hosts: [far.{name}.test], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 3128, name: main, protocol: HTTP2}], endpoints: [{address: {servers}, ports: {main: {port1}}}]}\n",
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}-far, namespace: default}\n",
        "spec: {host: far.{name}.test, trafficPolicy: {tunnel: {targetHost: far.test, targetPort: 443}}}\n",
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {hosts: ['{host}'], tcp: [{route: [{destination: {host: far.{name}.test, port: {number: 3128}}}]}]}\n",
    )),
    case("tunnel: refused", "hello").port("TCP").serve(&["HTTP/1.1 403 Forbidden\ncontent-length: 0\n\n"]).with(policy!("tunnel: {protocol: CONNECT, targetHost: far.test, targetPort: 443}")),
    case("tunnel: through TLS", "hello{read 5}{close}").port("TCP").tls(Tls::Plain).serve(&["HTTP/1.1 200 OK\n\n{echo}"]).with(policy!("tunnel: {targetHost: far.test, targetPort: 443}, tls: {mode: SIMPLE, caCertificates: {tls}/root.pem}")),
    passed("TLS routes: a name", "a.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test']}], route: [{v2}]}" "{match: [{sniHosts: ['b.{name}.test']}], route: [{v1}]}")),
    passed("TLS routes: another name", "b.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test']}], route: [{v2}]}" "{match: [{sniHosts: ['b.{name}.test']}], route: [{v1}]}")),
    passed("TLS routes: a wildcard", "a.{name}.test", tls!("{match: [{sniHosts: ['*.{name}.test']}], route: [{v2}]}" "{match: [{sniHosts: ['{host}']}], route: [{v1}]}")),
    passed("TLS routes: a port", "a.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test'], port: 81}], route: [{v1}]}" "{match: [{sniHosts: ['a.{name}.test'], port: 80}], route: [{v2}]}")),
    passed("TLS routes: a subnet", "a.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test'], destinationSubnets: [10.97.0.0/16]}], route: [{v1}]}" "{match: [{sniHosts: ['a.{name}.test'], destinationSubnets: [10.96.0.0/16]}], route: [{v2}]}")),
    passed("TLS routes: source labels", "a.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test'], sourceLabels: {app: other}}], route: [{v1}]}" "{match: [{sniHosts: ['a.{name}.test'], sourceLabels: {app: server}}], route: [{v2}]}")),
    passed("TLS routes: source namespace", "a.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test'], sourceNamespace: other}], route: [{v1}]}" "{match: [{sniHosts: ['a.{name}.test'], sourceNamespace: default}], route: [{v2}]}")),
    passed("TLS routes: the mesh's gateway", "a.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test'], gateways: [mesh]}], route: [{v2}]}")),
    passed("TLS routes: all weight on one", "a.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test']}], route: [{destination: {host: '{host}', subset: v1}, weight: 0}, {destination: {host: '{host}', subset: v2, port: {number: 80}}, weight: 100}]}")),
    passed("TLS routes: a name that has none", "c.{name}.test", tls!("{match: [{sniHosts: ['a.{name}.test']}], route: [{v2}]}")),
    case("TLS passed on without routes", GET).port("TLS").tls(Tls::Plain).asks_for("{host}"),
];
