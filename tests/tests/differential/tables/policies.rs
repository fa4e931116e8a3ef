//! AuthorizationPolicy: who may do what.

use crate::case::{Case, case, http2};
use crate::policies::Set;

const fn get(name: &'static str, send: &'static str) -> Case {
    case(name, send).inbound()
}

const fn tcp(name: &'static str, send: &'static str) -> Case {
    case(name, send).inbound().port("TCP")
}

/// A set whose one policy has this action and these rules.
macro_rules! policy {
    ($action:literal, $rules:literal) => {
        concat!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\n\
             spec:\n  selector: {matchLabels: {app: server}}\n  action: ", $action, "\n  rules: ", $rules, "\n"
        )
    };
}

const ANY: &[Case] = &[
    get("in plaintext", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    get("over mTLS", "GET /a HTTP/1.1\nhost: a.test\n\n").mutual(),
    tcp("TCP in plaintext", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    tcp("TCP over mTLS", "GET /a HTTP/1.1\nhost: a.test\n\n").mutual(),
];

pub(crate) const SETS: &[Set] = &[
    Set { name: "rules[].to[].operation.paths", yaml: policy!("DENY", "[{to: [{operation: {paths: [/denied, '/d/*', '*/end', '/Case']}}]}]"), tries: &[
        get("exact", "GET /denied HTTP/1.1\nhost: a.test\n\n"),
        get("exact with a query", "GET /denied?a=b HTTP/1.1\nhost: a.test\n\n"),
        get("longer", "GET /denied/x HTTP/1.1\nhost: a.test\n\n"),
        get("prefix", "GET /d/x/y HTTP/1.1\nhost: a.test\n\n"),
        get("suffix", "GET /x/end HTTP/1.1\nhost: a.test\n\n"),
        get("case", "GET /case HTTP/1.1\nhost: a.test\n\n"),
        get("escaped", "GET /%64enied HTTP/1.1\nhost: a.test\n\n"),
        get("with dots", "GET /x/../denied HTTP/1.1\nhost: a.test\n\n"),
        get("nothing of it", "GET /free HTTP/1.1\nhost: a.test\n\n"),
        get("HEAD", "HEAD /denied HTTP/1.1\nhost: a.test\n\n"),
        get("with a body", "POST /denied HTTP/1.1\nhost: a.test\ncontent-length: 3\n\nabc").kept("early-answer",
            "+ client:   connection: close\n- client: the connection goes on: 200\n+ client: the connection is closed"),
        get("two requests, one refused", "GET /free HTTP/1.1\nhost: a.test\n\nGET /denied HTTP/1.1\nhost: a.test\n\n").answers(2),
        get("over mTLS", "GET /denied HTTP/1.1\nhost: a.test\n\n").mutual(),
        http2("HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /denied\n").inbound().port("HTTP2"),
        http2("gRPC", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /denied\ncontent-type: application/grpc\nte: trailers\n\nabc").inbound().port("HTTP2"),
        tcp("TCP, which has no paths", "GET /free HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "rules[].to[].operation.notPaths", yaml: policy!("ALLOW", "[{to: [{operation: {notPaths: ['/secret*']}}]}]"), tries: &[
        get("another", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("it", "GET /secret/x HTTP/1.1\nhost: a.test\n\n"),
        tcp("TCP, for which the rule does not count", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "rules[].to[].operation.paths, templates", yaml: policy!("DENY", "[{to: [{operation: {paths: ['/a/{*}/c', '/deep/{**}', '/x/{*}']}}]}]"), tries: &[
        get("one segment", "GET /a/b/c HTTP/1.1\nhost: a.test\n\n"),
        get("two segments for one", "GET /a/b/b/c HTTP/1.1\nhost: a.test\n\n"),
        get("an empty segment", "GET /a//c HTTP/1.1\nhost: a.test\n\n"),
        get("none of many", "GET /deep/ HTTP/1.1\nhost: a.test\n\n"),
        get("many", "GET /deep/a/b/c?d HTTP/1.1\nhost: a.test\n\n"),
        get("odd letters", "GET /x/a~b!$&'()+,;:@= HTTP/1.1\nhost: a.test\n\n"),
        get("an escape", "GET /x/a%20b HTTP/1.1\nhost: a.test\n\n"),
        get("more than the last", "GET /x/a/b HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "rules[].to[].operation.methods", yaml: policy!("DENY", "[{to: [{operation: {methods: [DELETE, 'PO*']}}]}]"), tries: &[
        get("exact", "DELETE /a HTTP/1.1\nhost: a.test\n\n"),
        get("prefix", "POST /a HTTP/1.1\nhost: a.test\ncontent-length: 0\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        tcp("TCP, which has no methods", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "rules[].to[].operation.notMethods", yaml: policy!("DENY", "[{to: [{operation: {notMethods: [GET]}}]}]"), tries: &[
        get("it", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("another", "PUT /a HTTP/1.1\nhost: a.test\ncontent-length: 0\n\n"),
    ] },
    Set { name: "rules[].to[].operation.hosts", yaml: policy!("DENY", "[{to: [{operation: {hosts: [Bad.test, '*.bad.test', 'worse.*']}}]}]"), tries: &[
        get("exact, in another case", "GET /a HTTP/1.1\nhost: bAD.test\n\n"),
        get("with a port", "GET /a HTTP/1.1\nhost: bad.test:80\n\n"),
        get("suffix", "GET /a HTTP/1.1\nhost: x.BAD.test\n\n"),
        get("prefix", "GET /a HTTP/1.1\nhost: worse.example\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: good.test\n\n"),
    ] },
    Set { name: "rules[].to[].operation.notHosts", yaml: policy!("ALLOW", "[{to: [{operation: {notHosts: [bad.test]}}]}]"), tries: &[
        get("it", "GET /a HTTP/1.1\nhost: bad.test\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: good.test\n\n"),
    ] },
    Set { name: "rules[].to[].operation.ports", yaml: policy!("ALLOW", "[{to: [{operation: {ports: ['8056', '8057', '8058', '8059']}}]}]"), tries: ANY },
    Set { name: "rules[].to[].operation.notPorts", yaml: policy!("DENY", "[{to: [{operation: {notPorts: ['8056', '8057', '8058', '8059']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.principals", yaml: policy!("ALLOW", "[{from: [{source: {principals: ['cluster.local/ns/default/sa/default', 'cluster.local/ns/default/sa/caller']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.principals, prefix and suffix", yaml: policy!("ALLOW", "[{from: [{source: {principals: ['cluster.local/ns/default/*', '*/sa/nobody']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.principals, of another trust domain that counts as the mesh's", yaml: policy!("DENY", "[{from: [{source: {principals: ['old.test/ns/default/sa/caller']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.principals, of a trust domain that does not", yaml: policy!("DENY", "[{from: [{source: {principals: ['other.test/ns/default/sa/caller']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.trustDomains, of another one that counts as the mesh's", yaml: policy!("DENY", "[{from: [{source: {trustDomains: [old.test]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.principals, any", yaml: policy!("DENY", "[{from: [{source: {principals: ['*']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.notPrincipals", yaml: policy!("DENY", "[{from: [{source: {notPrincipals: ['cluster.local/ns/default/sa/*']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.namespaces", yaml: policy!("ALLOW", "[{from: [{source: {namespaces: ['def*', other]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.notNamespaces", yaml: policy!("DENY", "[{from: [{source: {notNamespaces: [default]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.serviceAccounts", yaml: policy!("DENY", "[{from: [{source: {serviceAccounts: [default, default/caller]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.notServiceAccounts", yaml: policy!("DENY", "[{from: [{source: {notServiceAccounts: [other/default]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.trustDomains", yaml: policy!("ALLOW", "[{from: [{source: {trustDomains: [cluster.local]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.notTrustDomains", yaml: policy!("DENY", "[{from: [{source: {notTrustDomains: ['cluster.*']}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.ipBlocks", yaml: policy!("ALLOW", "[{from: [{source: {ipBlocks: ['{caller}', 192.0.2.0/24]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.notIpBlocks", yaml: policy!("DENY", "[{from: [{source: {notIpBlocks: [192.0.2.0/24]}}]}]"), tries: ANY },
    Set { name: "rules[].from[].source.remoteIpBlocks", yaml: policy!("DENY", "[{from: [{source: {remoteIpBlocks: [1.2.3.0/24, '2001:db8::/32', '{caller}']}}]}]"), tries: &[
        get("the client itself", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("told by a proxy", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 9.9.9.9, 1.2.3.4\n\n"),
        get("another one told by a proxy", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 1.2.3.4, 9.9.9.9\n\n"),
        get("told in two lines", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 9.9.9.9\nx-forwarded-for: 1.2.3.4\n\n"),
        get("of IPv6", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 2001:db8::7\n\n"),
        get("no address", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: unknown\n\n"),
        get("over mTLS", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 9.9.9.9\n\n").mutual(),
        tcp("TCP", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "rules[].from[].source.notRemoteIpBlocks", yaml: policy!("ALLOW", "[{from: [{source: {notRemoteIpBlocks: [1.2.3.4/32]}}]}]"), tries: &[
        get("it", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 1.2.3.4\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 1.2.3.5\n\n"),
    ] },
    Set { name: "rules[].when[], request.headers", yaml: policy!("DENY", "[{when: [{key: 'request.headers[X-A]', values: [bad, 'w*', '*se']}]}]"), tries: &[
        get("exact", "GET /a HTTP/1.1\nhost: a.test\nx-a: bad\n\n"),
        get("prefix", "GET /a HTTP/1.1\nhost: a.test\nx-a: what\n\n"),
        get("suffix", "GET /a HTTP/1.1\nhost: a.test\nx-a: worse\n\n"),
        get("two values", "GET /a HTTP/1.1\nhost: a.test\nx-a: bad\nx-a: bad\n\n"),
        get("two values, the second one bad", "GET /a HTTP/1.1\nhost: a.test\nx-a: good\nx-a: bad\n\n"),
        get("two values in one line", "GET /a HTTP/1.1\nhost: a.test\nx-a: good,bad\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: a.test\nx-a: good\n\n"),
        get("none", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        tcp("TCP, which has no headers", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "rules[].when[], request.headers, not and any", yaml: policy!("ALLOW", "[{when: [{key: 'request.headers[x-a]', notValues: [bad]}, {key: 'request.headers[x-b]', values: ['*']}]}]"), tries: &[
        get("both hold", "GET /a HTTP/1.1\nhost: a.test\nx-b: 1\n\n"),
        get("the first does not", "GET /a HTTP/1.1\nhost: a.test\nx-a: bad\nx-b: 1\n\n"),
        get("the second does not", "GET /a HTTP/1.1\nhost: a.test\nx-a: good\n\n"),
        get("the first twice, once bad", "GET /a HTTP/1.1\nhost: a.test\nx-a: good\nx-a: bad\nx-b: 1\n\n"),
    ] },
    Set { name: "rules[].when[], request.headers, allowed", yaml: policy!("ALLOW", "[{when: [{key: 'request.headers[x-a]', values: [good]}]}]"), tries: &[
        get("it", "GET /a HTTP/1.1\nhost: a.test\nx-a: good\n\n"),
        get("twice, once bad", "GET /a HTTP/1.1\nhost: a.test\nx-a: good\nx-a: bad\n\n"),
        get("twice, first bad", "GET /a HTTP/1.1\nhost: a.test\nx-a: bad\nx-a: good\n\n"),
    ] },
    Set { name: "rules[].when[], source.ip", yaml: policy!("ALLOW", "[{when: [{key: source.ip, values: ['{caller}/32'], notValues: [192.0.2.1]}]}]"), tries: ANY },
    Set { name: "rules[].when[], remote.ip", yaml: policy!("DENY", "[{when: [{key: remote.ip, values: [1.2.3.4]}]}]"), tries: &[
        get("it", "GET /a HTTP/1.1\nhost: a.test\nx-forwarded-for: 1.2.3.4\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "rules[].when[], source.namespace", yaml: policy!("ALLOW", "[{when: [{key: source.namespace, values: [default]}]}]"), tries: ANY },
    Set { name: "rules[].when[], source.principal", yaml: policy!("DENY", "[{when: [{key: source.principal, notValues: ['cluster.local/ns/other/*']}]}]"), tries: ANY },
    Set { name: "rules[].when[], source.serviceAccount", yaml: policy!("ALLOW", "[{when: [{key: source.serviceAccount, values: [default/default, caller]}]}]"), tries: ANY },
    Set { name: "rules[].when[], source.trustDomain", yaml: policy!("DENY", "[{when: [{key: source.trustDomain, notValues: [elsewhere]}]}]"), tries: ANY },
    Set { name: "rules[].when[], destination.port", yaml: policy!("DENY", "[{when: [{key: destination.port, notValues: ['8056', '8057', '8058', '8059']}]}]"), tries: ANY },
    Set { name: "rules[].when[], destination.ip", yaml: policy!("DENY", "[{when: [{key: destination.ip, notValues: [192.0.2.0/24]}]}]"), tries: ANY },
    Set { name: "rules[].when[], connection.sni", yaml: policy!("ALLOW", "[{when: [{key: connection.sni, values: [workload.mesh, '*.example']}]}]"), tries: ANY },
    Set { name: "action ALLOW without rules", yaml: policy!("ALLOW", "[]"), tries: ANY },
    Set { name: "action ALLOW of everything", yaml: policy!("ALLOW", "[{}]"), tries: ANY },
    Set { name: "action DENY without rules", yaml: policy!("DENY", "[]"), tries: ANY },
    Set { name: "action DENY of everything", yaml: policy!("DENY", "[{}]"), tries: ANY },
    Set { name: "action AUDIT", yaml: policy!("AUDIT", "[{to: [{operation: {paths: [/a]}}]}]"), tries: &[
        get("it", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("another", "GET /b HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "from, to and when together", yaml: policy!("ALLOW", "[{from: [{source: {namespaces: [default], notPrincipals: ['cluster.local/ns/x/*']}}], to: [{operation: {methods: [GET], paths: ['/a*']}}, {operation: {methods: [PUT]}}], when: [{key: 'request.headers[x-a]', values: [b]}]}]"), tries: &[
        get("all hold", "GET /a HTTP/1.1\nhost: a.test\nx-a: b\n\n").mutual(),
        get("the second operation", "PUT /b HTTP/1.1\nhost: a.test\nx-a: b\ncontent-length: 0\n\n").mutual(),
        get("neither operation", "GET /b HTTP/1.1\nhost: a.test\nx-a: b\n\n").mutual(),
        get("not the caller", "GET /a HTTP/1.1\nhost: a.test\nx-a: b\n\n"),
        get("not the condition", "GET /a HTTP/1.1\nhost: a.test\n\n").mutual(),
    ] },
    Set { name: "DENY before ALLOW", yaml: concat!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: yes, namespace: default}\nspec: {rules: [{to: [{operation: {paths: ['/a*']}}]}]}\n---\n",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no, namespace: default}\nspec: {action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}, {to: [{operation: {paths: [/a/no]}}]}]}\n"), tries: &[
        get("allowed", "GET /a/b HTTP/1.1\nhost: a.test\n\n"),
        get("denied", "GET /a/no HTTP/1.1\nhost: a.test\n\n"),
        get("denied by two rules", "PUT /a/no HTTP/1.1\nhost: a.test\ncontent-length: 0\n\n"),
        get("neither", "GET /b HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "a policy of the root namespace", yaml: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}\n", tries: ANY },
    Set { name: "a policy of the root namespace with a selector", yaml: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {selector: {matchLabels: {app: server}}, action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}\n", tries: ANY },
    Set { name: "a policy of other workloads", yaml: concat!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\nspec: {selector: {matchLabels: {app: other}}, action: DENY, rules: [{}]}\n---\n",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: other}\nspec: {action: DENY, rules: [{}]}\n"), tries: ANY },
    Set { name: "a trial of DENY", yaml: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default, annotations: {istio.io/dry-run: 'true'}}\nspec: {action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}\n", tries: &[
        get("it would be refused", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("it would not", "GET /b HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "a trial of ALLOW", yaml: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default, annotations: {istio.io/dry-run: 'true'}}\nspec: {rules: [{to: [{operation: {paths: [/a]}}]}]}\n", tries: &[
        get("it would be allowed", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("it would not", "GET /b HTTP/1.1\nhost: a.test\n\n"),
    ] },
];
