//! DestinationRules: which endpoint, how many connections, when one is left out; TCP.

use super::routes::{routed, routes};
use crate::case::{Case, Servers, case, http2};

/// A rule of the whole service.
macro_rules! policy {
    ($rest:literal) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {host: \"{host}\", trafficPolicy: {", $rest, "}}\n"
        )
    };
}

/// A service with two subsets, and its routes of TCP.
macro_rules! tcp {
    ($($line:literal)+) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {host: \"{host}\", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n",
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n",
            "metadata: {name: {name}, namespace: default}\nspec:\n  hosts: [\"{host}\"]\n  tcp:\n",
            $("  - ", $line, "\n",)+
        )
    };
}

/// Routes that are left to another VirtualService.
macro_rules! delegated {
    ($root:literal, $($line:literal)+) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {host: \"{host}\", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n",
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n",
            "metadata: {name: {name}, namespace: default}\nspec:\n  hosts: [\"{host}\"]\n  http:\n  - ", $root, "\n  - {route: [{v1}]}\n",
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n",
            "metadata: {name: {name}-part, namespace: default}\nspec:\n  http:\n",
            $("  - ", $line, "\n",)+
        )
    };
}

const GET: &str = "GET / HTTP/1.1\nhost: {host}\n\n";
const OOPS: &str = "HTTP/1.1 500 Oops\ncontent-length: 0\n\n";
const OK: &str = "HTTP/1.1 200 OK\ncontent-length: 2\n\nok";
const TWO: &str = "GET /1 HTTP/1.1\nhost: {host}\n\n{read}GET /2 HTTP/1.1\nhost: {host}\n\n";
const FOUR: &str = "GET /1 HTTP/1.1\nhost: {host}\nx-user: a\n\n{read}GET /2 HTTP/1.1\nhost: {host}\nx-user: a\n\n{read}GET /3 HTTP/1.1\nhost: {host}\nx-user: a\n\n{read}GET /4 HTTP/1.1\nhost: {host}\nx-user: a\n\n";
const QUERIES: &str = "GET /1?u=a HTTP/1.1\nhost: {host}\n\n{read}GET /2?u=a HTTP/1.1\nhost: {host}\n\n{read}GET /3?x&u=a HTTP/1.1\nhost: {host}\n\n";
const COOKIES: &str = "GET /1 HTTP/1.1\nhost: {host}\ncookie: a=b; user=x\n\n{read}GET /2 HTTP/1.1\nhost: {host}\ncookie: user=x\n\n{read}GET /3 HTTP/1.1\nhost: {host}\ncookie: user=x; a=c\n\n";
const RAW: &str = "GET / HTTP/1.1\nhost: {host}\n\n";

const fn balanced(name: &'static str, send: &'static str, answers: usize, yaml: &'static str) -> Case {
    case(name, send).to(Servers::Two).answers(answers).with(yaml).either()
}

/// Several requests of a caller that is where the first server is.
const fn near(name: &'static str, yaml: &'static str) -> Case {
    case(name, FOUR).to(Servers::Two).answers(4).with(yaml)
}

const fn carried(name: &'static str, yaml: &'static str) -> Case {
    case(name, RAW).to(Servers::Two).port("TCP").with(yaml)
}

pub(crate) const CASES: &[Case] = &[
    balanced("hash of a header, ring", FOUR, 4, policy!("loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 128}}}")),
    balanced("hash of a header, Maglev", FOUR, 4, policy!("loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 251}}}")),
    balanced("hash of a header, the ring's size by the old field", FOUR, 4, policy!("loadBalancer: {consistentHash: {httpHeaderName: x-user, minimumRingSize: 256}}")),
    balanced("hash of a parameter", QUERIES, 3, policy!("loadBalancer: {consistentHash: {httpQueryParameterName: u}}")),
    balanced("hash of the caller's address", FOUR, 4, policy!("loadBalancer: {consistentHash: {useSourceIp: true}}")),
    balanced("hash of a cookie", COOKIES, 3, policy!("loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}}")),
    balanced("hash of a cookie that is made", GET, 1, policy!("loadBalancer: {consistentHash: {httpCookie: {name: user, path: /p, ttl: 60s}}}")),
    balanced("hash of a cookie that is made, of a session", GET, 1, policy!("loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}}")),
    balanced("hash of a cookie that is made, with attributes", GET, 1, policy!("loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 1s, attributes: [{name: SameSite, value: Strict}, {name: Secure, value: ''}]}}}")),
    balanced("hash of a cookie that is not made", GET, 1, policy!("loadBalancer: {consistentHash: {httpCookie: {name: user}}}")),
    balanced("hash of a subset's rule", FOUR, 4, concat!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {host: \"{host}\", subsets: [{name: v1, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}]}\n",
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {hosts: [\"{host}\"], http: [{route: [{destination: {host: \"{host}\", subset: v1}}]}]}\n",
    )),
    balanced("in turn", TWO, 2, policy!("loadBalancer: {simple: ROUND_ROBIN}")),
    case("by chance", GET).with(policy!("loadBalancer: {simple: RANDOM}")),
    case("the least loaded", GET).with(policy!("loadBalancer: {simple: LEAST_REQUEST}")),
    case("the least loaded by the old name", GET).with(policy!("loadBalancer: {simple: LEAST_CONN}")),
    case("where the connection was going", GET).with(policy!("loadBalancer: {simple: PASSTHROUGH}")),
    case("warm-up", GET).with(policy!("loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 10s, minimumPercent: 20, aggression: 2}}")),
    case("warm-up by the old field", GET).with(policy!("loadBalancer: {simple: LEAST_REQUEST, warmupDurationSecs: 10s}")),
    near("localities: shares", policy!("loadBalancer: {localityLbSetting: {distribute: [{from: 'r1/*', to: {'r2/*': 100}}]}}")),
    case("localities: shares of callers elsewhere", GET).to(Servers::Two).either().with(policy!("loadBalancer: {localityLbSetting: {distribute: [{from: r2, to: {r2: 100}}]}}")),
    near("localities: the nearest", policy!("outlierDetection: {consecutive5xxErrors: 5}")),
    near("localities: another region stands in", policy!("loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r2}]}}, outlierDetection: {consecutive5xxErrors: 5}")),
    near("localities: labels in common", policy!("loadBalancer: {localityLbSetting: {failoverPriority: ['version=v2', topology.kubernetes.io/region]}}, outlierDetection: {consecutive5xxErrors: 5}")),
    near("localities: the region in common", policy!("loadBalancer: {localityLbSetting: {failoverPriority: [topology.kubernetes.io/region]}}, outlierDetection: {consecutive5xxErrors: 5}")),
    case("localities: off", GET).to(Servers::Two).either().with(policy!("loadBalancer: {localityLbSetting: {enabled: false}}, outlierDetection: {consecutive5xxErrors: 5}")),
    case("connections: keepalive", GET).with(policy!("connectionPool: {tcp: {tcpKeepalive: {probes: 3, time: 10s, interval: 5s}}}")),
    case("connections: time to connect", GET).to(Servers::Refusing).with(policy!("connectionPool: {tcp: {connectTimeout: 1s}}")),
    case("connections: their longest life", TWO).answers(2).with(policy!("connectionPool: {tcp: {maxConnectionDuration: 1s}}")),
    case("connections: idle", TWO).answers(2).with(policy!("connectionPool: {http: {idleTimeout: 1s}}")),
    case("connections: as HTTP/2", GET).with(policy!("connectionPool: {http: {h2UpgradePolicy: UPGRADE}}")),
    case("connections: not as HTTP/2", GET).with(policy!("connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}")),
    case("connections: as HTTP/2, with PINGs", GET).with(policy!("connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 5s, timeout: 1s}, maxConcurrentStreams: 1}}")),
    http2("connections: streams of one", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /\n").port("HTTP2").with(policy!("connectionPool: {http: {maxConcurrentStreams: 1}}")),
    case("connections: limits that are not met", GET).with(policy!("connectionPool: {tcp: {maxConnections: 10}, http: {http1MaxPendingRequests: 10, http2MaxRequests: 10, maxRequestsPerConnection: 10, maxRetries: 10}}")),
    case("retries: beyond the budget", GET).serve(&[OOPS]).with(concat!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {host: \"{host}\", trafficPolicy: {retryBudget: {percent: 100, minRetryConcurrency: 5}}}\n",
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {hosts: [\"{host}\"], http: [{retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: \"{host}\"}}]}]}\n",
    )),
    case("retries: none are left", GET).serve(&[OOPS, OK]).with(concat!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {host: \"{host}\", trafficPolicy: {connectionPool: {http: {maxRetries: 5}}}}\n",
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {hosts: [\"{host}\"], http: [{retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: \"{host}\"}}]}]}\n",
    )),
    case("outliers: listed statuses", TWO).answers(2).serve(&["HTTP/1.1 418 Teapot\ncontent-length: 0\n\n"]).with(policy!("outlierDetection: {consecutive5xxErrors: 9, outlierDetectionHttpErrorCodes: [418, 429], interval: 100s, baseEjectionTime: 100s}")),
    case("outliers: counted apart", TWO).answers(2).to(Servers::Refusing).with(policy!("outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 9, interval: 100s, baseEjectionTime: 100s}")),
    case("outliers: too few would be left", "GET /1 HTTP/1.1\nhost: {host}\n\n{read}GET /2 HTTP/1.1\nhost: {host}\n\n{read}{pause}GET /3 HTTP/1.1\nhost: {host}\n\n").answers(3).serve(&[OOPS]).with(policy!("outlierDetection: {consecutive5xxErrors: 2, minHealthPercent: 50, interval: 100s, baseEjectionTime: 100s, maxEjectionPercent: 100}")),
    case("a port's own settings", GET).serve(&[OOPS]).with(policy!("loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 80}, connectionPool: {http: {maxRequestsPerConnection: 1}}}]")),
    case("a rule for nobody here", GET).with(concat!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: other}\n",
        "spec: {host: \"{host}\", exportTo: [.], trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}\n"
    )),
    case("a rule for other workloads", GET).with(concat!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {host: \"{host}\", workloadSelector: {matchLabels: {app: other}}, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}\n"
    )),
    carried("TCP: a route", tcp!("{route: [{v2}]}")),
    carried("TCP: all weight on one", tcp!("{route: [{destination: {host: '{host}', subset: v1}, weight: 0}, {destination: {host: '{host}', subset: v2}, weight: 100}]}")),
    carried("TCP: a port", tcp!("{match: [{port: 80}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: another port", tcp!("{match: [{port: 81}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: a subnet", tcp!("{match: [{destinationSubnets: [10.96.0.0/16]}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: another subnet", tcp!("{match: [{destinationSubnets: [10.97.0.0/16]}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: source labels", tcp!("{match: [{sourceLabels: {app: server}}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: other source labels", tcp!("{match: [{sourceLabels: {app: other}}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: source namespace", tcp!("{match: [{sourceNamespace: default}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: the mesh's gateway", tcp!("{match: [{gateways: [mesh]}], route: [{v2}]}" "{route: [{v1}]}")),
    carried("TCP: two matches, one of them met", tcp!("{match: [{port: 81}, {port: 80, destinationSubnets: [10.96.0.0/16]}], route: [{v2}]}" "{route: [{v1}]}")),
    case("TCP: hash of the caller's address", RAW).to(Servers::Two).port("TCP").either().with(policy!("loadBalancer: {consistentHash: {useSourceIp: true}}")),
    case("TCP: idle", "GET / HTTP/1.1\nhost: {host}\n\n{read}{pause}").port("TCP").with(policy!("connectionPool: {tcp: {idleTimeout: 5s}}")),
    case("TCP: as long as it may last", "GET / HTTP/1.1\nhost: {host}\n\n").serve(&["{hold}"]).port("TCP").with(policy!("connectionPool: {tcp: {maxConnectionDuration: 0.5s}}")),
    routed("delegate", "GET /a/b HTTP/1.1\nhost: {host}\n\n", delegated!("{match: [{uri: {prefix: /a}}], delegate: {name: '{name}-part'}}", "{match: [{uri: {exact: /a/b}}], route: [{v2}]}")),
    routed("delegate: what it does not match", "GET /a/c HTTP/1.1\nhost: {host}\n\n", delegated!("{match: [{uri: {prefix: /a}}], delegate: {name: '{name}-part'}}", "{match: [{uri: {exact: /a/b}}], route: [{v2}]}")),
    routed("delegate: outside of its root", "GET /b HTTP/1.1\nhost: {host}\n\n", delegated!("{match: [{uri: {prefix: /a}}], delegate: {name: '{name}-part', namespace: default}}", "{match: [{uri: {prefix: /b}}], route: [{v2}]}")),
    routed("delegate: what its root says besides", "GET /a HTTP/1.1\nhost: {host}\n\n", delegated!("{match: [{uri: {prefix: /a}}], rewrite: {uri: /x}, headers: {request: {set: {x-a: b}}}, delegate: {name: '{name}-part'}}", "{route: [{v2}]}")),
    routed("several VirtualServices, the first by name", GET, concat!(routes!("{route: [{v2}]}"),
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}-later, namespace: default}\n",
        "spec: {hosts: [\"{host}\"], http: [{directResponse: {status: 418}}]}\n",
    )),
    routed("a VirtualService that is not for here", GET, concat!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: other}\n",
        "spec: {hosts: [\"{host}\"], exportTo: [.], http: [{directResponse: {status: 418}}]}\n",
    )).either(),
    routed("match: another source namespace", GET, routes!("{match: [{sourceNamespace: other}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("match: the mesh's gateway", GET, routes!("{match: [{gateways: [mesh]}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("match: a scheme by prefix", GET, routes!("{match: [{scheme: {prefix: ht}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("redirect of a prefix", "GET /a/b?c HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /x}}")).kept("redirected-paths",
        "- log: 301 - HTTP/1.1 GET /a/b?c HOST sent 0\n\
         + log: 301 - HTTP/1.1 GET /x/b?c HOST sent 0",
    ),
    routed("response headers where nobody is", GET, routes!("{headers: {response: {set: {x-a: b}}}, route: [{destination: {host: '{host}', subset: v3}}]}")),
    routed("response headers of a time-out", GET, routes!("{timeout: 0.2s, headers: {response: {set: {x-a: b}}}, route: [{v1}]}")).serve(&["{hold}"]),
    routed("redirect with 302", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {uri: /x, redirectCode: 302}}")),
    routed("redirect with 303", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {uri: /x, redirectCode: 303}}")),
    routed("redirect of a host with a port", "GET /a HTTP/1.1\nhost: {host}:80\n\n", routes!("{redirect: {authority: new.test, port: 8080, scheme: https}}")),
    routed("redirect with a query of its own", "GET /a?b HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {uri: '/x?y=z'}}")),
    routed("rewrite by a regex, several times", "GET /aXbXc?X HTTP/1.1\nhost: {host}\n\n", routes!("{rewrite: {uriRegexRewrite: {match: X, rewrite: Y}}, route: [{v1}]}")),
    routed("rewrite by a regex that does not match", "GET /abc HTTP/1.1\nhost: {host}\n\n", routes!("{rewrite: {uriRegexRewrite: {match: '^/x', rewrite: /y}}, route: [{v1}]}")),
    routed("retries: as many as there may be", GET, routes!("{retries: {attempts: 3, retryOn: 5xx}, route: [{v1}]}")).serve(&[OOPS, OOPS, OOPS, OK]),
    routed("retries: one too few", GET, routes!("{retries: {attempts: 2, retryOn: 5xx}, route: [{v1}]}")).serve(&[OOPS, OOPS, OOPS, OK]),
    routed("retries: backoff", GET, routes!("{retries: {attempts: 1, retryOn: 5xx, backoff: 0.05s}, route: [{v1}]}")).serve(&[OOPS, OK]),
    routed("retries: previous hosts too", GET, routes!("{retries: {attempts: 1, retryOn: 5xx, retryIgnorePreviousHosts: false}, route: [{v1}]}")).serve(&[OOPS, OK]),
    routed("retries: remote localities", GET, routes!("{retries: {attempts: 1, retryOn: 5xx, retryRemoteLocalities: true}, route: [{v1}]}")).serve(&[OOPS, OK]),
    case("retries: within the locality", GET).to(Servers::Two).serve(&[OOPS, OOPS, OOPS, OK]).with(concat!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {host: \"{host}\", trafficPolicy: {outlierDetection: {consecutive5xxErrors: 9}}}\n",
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {hosts: [\"{host}\"], http: [{retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: \"{host}\"}}]}]}\n",
    )),
    case("retries: to another locality", GET).to(Servers::Two).serve(&[OOPS, OOPS, OK]).with(concat!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {host: \"{host}\", trafficPolicy: {outlierDetection: {consecutive5xxErrors: 9}}}\n",
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {name}, namespace: default}\n",
        "spec: {hosts: [\"{host}\"], http: [{retries: {attempts: 3, retryOn: 5xx, retryRemoteLocalities: true}, route: [{destination: {host: \"{host}\"}}]}]}\n",
    )),
    routed("retries: limited in rate", GET, routes!("{retries: {attempts: 1, retryOn: 'envoy-ratelimited'}, route: [{v1}]}")).serve(&["HTTP/1.1 429 Slow\nx-envoy-ratelimited: true\ncontent-length: 0\n\n", OK]),
    routed("retries: limited in rate, which nobody asked for", GET, routes!("{retries: {attempts: 1, retryOn: '429'}, route: [{v1}]}")).serve(&["HTTP/1.1 429 Slow\nx-envoy-ratelimited: true\ncontent-length: 0\n\n", OK]),
    routed("retries: a POST that is reset", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc", routes!("{retries: {attempts: 1, retryOn: reset}, route: [{v1}]}")).serve(&["{reset}", OK]),
    routed("retries: a POST that is reset, before it was sent", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc", routes!("{retries: {attempts: 1, retryOn: reset-before-request}, route: [{v1}]}")).serve(&["{close}", OK]),
    routed("retries: a body in pieces", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n{pause}3\ndef\n0\n\n", routes!("{retries: {attempts: 2, retryOn: 5xx}, route: [{v1}]}")).serve(&[OOPS, OOPS, OK]),
    routed("retries: a large body", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 60000\n\n{a*60000}", routes!("{retries: {attempts: 1, retryOn: 5xx}, route: [{v1}]}")).serve(&[OOPS, OK]),
];
