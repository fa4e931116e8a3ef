//! AuthorizationPolicy of action CUSTOM: what an authorization service is asked, and what becomes of what it says.

use crate::case::{Case, case, http2};
use crate::policies::Set;

/// Providers of the mesh configuration.
pub(crate) const PROVIDERS: &str = r#"extensionProviders:
- {name: grpc, envoyExtAuthzGrpc: {service: default/authz.test, port: 9001, timeout: 8s}}
- {name: grpc-open, envoyExtAuthzGrpc: {service: authz.test, port: 9001, timeout: 500ms, failOpen: true}}
- {name: grpc-status, envoyExtAuthzGrpc: {service: authz.test, port: 9001, timeout: 500ms, statusOnError: '503'}}
- {name: grpc-body, envoyExtAuthzGrpc: {service: authz.test, port: 9001, timeout: 8s, includeRequestBodyInCheck: {maxRequestBytes: 10}}}
- {name: grpc-part, envoyExtAuthzGrpc: {service: authz.test, port: 9001, timeout: 8s, includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true}}}
- {name: grpc-raw, envoyExtAuthzGrpc: {service: authz.test, port: 9001, timeout: 8s, includeRequestBodyInCheck: {maxRequestBytes: 10, packAsBytes: true}}}
- {name: refusing, envoyExtAuthzGrpc: {service: authz.test, port: 9003, timeout: 8s}}
- {name: refusing-open, envoyExtAuthzHttp: {service: authz.test, port: 9004, timeout: 8s, failOpen: true}}
- {name: elsewhere, envoyExtAuthzGrpc: {service: nobody.test, port: 9001}}
- {name: other-namespace, envoyExtAuthzGrpc: {service: other/authz.test, port: 9001}}
- {name: other-port, envoyExtAuthzGrpc: {service: authz.test, port: 9999}}
- {name: bare, envoyExtAuthzHttp: {service: authz.test, port: 9000, timeout: 8s}}
- name: http
  envoyExtAuthzHttp:
    service: authz.test
    port: 9000
    timeout: 8s
    pathPrefix: /check
    clearRouteCache: true
    includeRequestHeadersInCheck: [X-Say, 'x-say-*', '*-told', content-type]
    includeAdditionalHeadersInCheck: {X-Added: 'added 100%%', x-say-b: ours}
    headersToUpstreamOnAllow: [x-user, 'x-group-*']
    headersToDownstreamOnAllow: [x-ok]
    headersToDownstreamOnDeny: [x-why, set-cookie]
- {name: http-old, envoyExtAuthzHttp: {service: authz.test, port: 9000, timeout: 8s, includeHeadersInCheck: [x-say]}}
- {name: http-open, envoyExtAuthzHttp: {service: authz.test, port: 9000, timeout: 500ms, failOpen: true}}
- {name: http-status, envoyExtAuthzHttp: {service: authz.test, port: 9000, timeout: 500ms, statusOnError: '503'}}
- {name: http-body, envoyExtAuthzHttp: {service: authz.test, port: 9000, timeout: 8s, includeRequestBodyInCheck: {maxRequestBytes: 10}}}
- {name: http-part, envoyExtAuthzHttp: {service: authz.test, port: 9000, timeout: 8s, includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true, packAsBytes: true}}}
"#;

/// The service that they name; `{servers}` is an address.
pub(crate) const SERVICE: &str = r#"---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: authz, namespace: default}
spec:
  hosts: [authz.test]
  addresses: [10.95.0.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9000, name: http-a, protocol: HTTP}, {number: 9001, name: grpc-a, protocol: GRPC}, {number: 9003, name: grpc-b, protocol: GRPC}, {number: 9004, name: http-b, protocol: HTTP}]
  endpoints: [{address: {servers}}]
"#;

const fn get(name: &'static str, send: &'static str) -> Case {
    case(name, send).inbound()
}

const fn tcp(name: &'static str) -> Case {
    case(name, "GET /authz/allow HTTP/1.1\nhost: a.test\n\n").inbound().port("TCP")
}

/// A set whose one policy asks this provider of what stands below `/authz`.
macro_rules! asks {
    ($provider:literal) => { asks!($provider, "[{to: [{operation: {paths: ['/authz/*']}}]}]") };
    ($provider:literal, $rules:literal) => {
        concat!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: c, namespace: default}\n\
             spec: {selector: {matchLabels: {app: server}}, action: CUSTOM, provider: {name: ", $provider, "}, rules: ", $rules, "}\n"
        )
    };
}

/// Another policy.
macro_rules! and {
    ($name:literal, $spec:literal) => {
        concat!("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ", $name, ", namespace: default}\nspec: ", $spec, "\n")
    };
}

const POST: &str = "POST /authz/allow HTTP/1.1\nhost: a.test\ncontent-length: 5\n\nabcde";

/// What providers that are told of bodies are tried with; what becomes of one that is larger than they are told.
macro_rules! bodies {
    ($($too_large:tt)*) => { &[
        get("none", "GET /authz/allow HTTP/1.1\nhost: a.test\n\n"),
        get("a small one", POST),
        get("as large as may be", "POST /authz/allow HTTP/1.1\nhost: a.test\ncontent-length: 10\n\n0123456789"),
        get("in chunks", "POST /authz/allow HTTP/1.1\nhost: a.test\ntransfer-encoding: chunked\n\n3\nabc\n2\nde\n0\n\n"),
        get("too large", "POST /authz/allow HTTP/1.1\nhost: a.test\ncontent-length: 12\n\n0123456789ab")$($too_large)*,
        get("no text", "POST /authz/allow HTTP/1.1\nhost: a.test\ncontent-length: 3\n\na{xff}b"),
        get("refused", "POST /authz/deny HTTP/1.1\nhost: a.test\ncontent-length: 5\n\nabcde"),
        get("of what it is not asked about", "POST /b HTTP/1.1\nhost: a.test\ncontent-length: 12\n\n0123456789ab"),
    ] };
}

/// An answer before the body has ended.
const EARLY: &str = "+ client:   connection: close\n- client: the connection goes on: 200\n+ client: the connection is closed";

const ERRORS: &[Case] = &[
    get("it fails", "GET /authz/error HTTP/1.1\nhost: a.test\n\n"),
    get("it is slow", "GET /authz/slow HTTP/1.1\nhost: a.test\n\n"),
    get("it says no", "GET /authz/deny HTTP/1.1\nhost: a.test\n\n"),
    get("it says yes", "GET /authz/allow HTTP/1.1\nhost: a.test\n\n"),
];

const ASKED: &[Case] = &[
    get("a matching path", "GET /authz/allow HTTP/1.1\nhost: a.test\n\n"),
    get("another path", "GET /b HTTP/1.1\nhost: a.test\n\n"),
];

const CONNECTIONS: &[Case] = &[tcp("TCP in plaintext"), tcp("TCP over mTLS").mutual()];

pub(crate) const SETS: &[Set] = &[
    Set { name: "action CUSTOM, provider of gRPC", yaml: asks!("grpc"), tries: &[
        get("yes", "GET /authz/allow?a=b HTTP/1.1\nhost: a.test\nx-a: 1\nx-a: 2\nx-forwarded-for: 1.2.3.4\n\n"),
        get("yes, over mTLS", "GET /authz/allow HTTP/1.1\nhost: a.test\n\n").mutual(),
        get("yes, with a body that it is not told", POST),
        get("no", "GET /authz/deny HTTP/1.1\nhost: a.test\n\n"),
        get("no, with status, fields and body", "GET /authz/deny-so HTTP/1.1\nhost: a.test\n\n"),
        get("no, to HEAD", "HEAD /authz/deny-so HTTP/1.1\nhost: a.test\n\n"),
        get("no, with nothing said", "GET /authz/deny-bare HTTP/1.1\nhost: a.test\n\n"),
        get("an error", "GET /authz/error HTTP/1.1\nhost: a.test\n\n"),
        get("an error with status, fields and body", "GET /authz/error-so HTTP/1.1\nhost: a.test\n\n"),
        get("of another path", "GET /b HTTP/1.1\nhost: a.test\n\n"),
        get("two requests, one refused", "GET /authz/allow HTTP/1.1\nhost: a.test\n\nGET /authz/deny HTTP/1.1\nhost: a.test\n\n").answers(2),
        get("changes of heads", "GET /authz/changes HTTP/1.1\nhost: a.test\nx-add: 0\nx-absent: 0\nx-set: 0\nx-set: 00\nx-present: 0\nx-old-append: 0\nx-old-set: 0\nx-gone: 0\nx-case: 0\n\n")
            .serve(&["HTTP/1.1 200 OK\ncontent-length: 2\nx-resp-add: 0\nx-resp-absent: 0\nx-resp-set: 0\nx-resp-present: 0\nx-resp-old: 0\nx-resp-old-set: 0\n\nok"]),
        get("changes of the query", "GET /authz/query?a=1&gone=1&b=c HTTP/1.1\nhost: a.test\n\n"),
        get("another path and host", "GET /authz/rewrite HTTP/1.1\nhost: a.test\n\n"),
        get("what is logged", "GET /authz/metadata HTTP/1.1\nhost: a.test\n\n"),
        http2("HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /authz/allow\nx-a: b\n").inbound().port("HTTP2"),
        http2("gRPC, refused", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /authz/deny-so\ncontent-type: application/grpc\nte: trailers\n\nabc").inbound().port("HTTP2"),
        http2("gRPC, refused with nothing said", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /authz/deny\ncontent-type: application/grpc\nte: trailers\n\nabc").inbound().port("HTTP2"),
        tcp("TCP in plaintext"),
        tcp("TCP over mTLS").mutual(),
    ] },
    Set { name: "envoyExtAuthzGrpc.failOpen, timeout", yaml: asks!("grpc-open"), tries: ERRORS },
    Set { name: "envoyExtAuthzGrpc.statusOnError", yaml: asks!("grpc-status"), tries: ERRORS },
    Set { name: "envoyExtAuthzGrpc.includeRequestBodyInCheck", yaml: asks!("grpc-body"), tries: bodies!(.kept("early-answer", EARLY)) },
    Set { name: "includeRequestBodyInCheck.allowPartialMessage", yaml: asks!("grpc-part"), tries: bodies!() },
    Set { name: "includeRequestBodyInCheck.packAsBytes", yaml: asks!("grpc-raw"), tries: bodies!(.kept("early-answer", EARLY)) },
    Set { name: "envoyExtAuthzHttp without more", yaml: asks!("bare"), tries: &[
        get("yes", "GET /authz/allow?a=b HTTP/1.1\nhost: a.test\nauthorization: Basic eA==\nx-say: 1\nuser-agent: u\n\n"),
        get("yes, with a body that it is not told", POST),
        get("yes, to HEAD", "HEAD /authz/allow HTTP/1.1\nhost: a.test\n\n"),
        get("another status of success", "GET /authz/no-content HTTP/1.1\nhost: a.test\n\n"),
        get("no", "GET /authz/deny HTTP/1.1\nhost: a.test\n\n"),
        get("no, with fields and body", "GET /authz/deny-so HTTP/1.1\nhost: a.test\n\n"),
        get("elsewhere", "GET /authz/elsewhere HTTP/1.1\nhost: a.test\n\n"),
        get("an error", "GET /authz/error HTTP/1.1\nhost: a.test\n\n"),
        get("no answer", "GET /authz/broken HTTP/1.1\nhost: a.test\n\n"),
        get("fields that nobody asked for", "GET /authz/changes HTTP/1.1\nhost: a.test\nx-gone: 1\n\n"),
        http2("HTTP/2", ":method: GET\n:scheme: http\n:authority: {host}\n:path: /authz/allow\nx-a: b\n").inbound().port("HTTP2"),
        tcp("TCP in plaintext"),
        tcp("TCP over mTLS").mutual(),
    ] },
    Set { name: "envoyExtAuthzHttp with everything", yaml: asks!("http"), tries: &[
        get("what it is told", "GET /authz/allow?a=b HTTP/1.1\nhost: a.test\nauthorization: Basic eA==\nx-say: 1\nx-say: 2\nx-say-a: 3\nx-say-b: 4\nthis-is-told: 5\nx-secret: 6\n\n"),
        get("what it changes", "GET /authz/changes HTTP/1.1\nhost: a.test\nx-gone: 1\nx-say-gone: 1\nx-user: forged\nx-group-a: forged\n\n"),
        get("no, with fields and body", "GET /authz/deny-so HTTP/1.1\nhost: a.test\n\n"),
        get("elsewhere", "GET /authz/elsewhere HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "envoyExtAuthzHttp.includeHeadersInCheck", yaml: asks!("http-old"), tries: &[
        get("what it is told", "GET /authz/allow HTTP/1.1\nhost: a.test\nx-say: 1\nx-say-a: 3\n\n"),
    ] },
    Set { name: "envoyExtAuthzHttp.failOpen, timeout", yaml: asks!("http-open"), tries: ERRORS },
    Set { name: "envoyExtAuthzHttp.statusOnError", yaml: asks!("http-status"), tries: ERRORS },
    Set { name: "envoyExtAuthzHttp.includeRequestBodyInCheck", yaml: asks!("http-body"), tries: bodies!(.kept("early-answer", EARLY)) },
    Set { name: "envoyExtAuthzHttp.includeRequestBodyInCheck, in part", yaml: asks!("http-part"), tries: bodies!() },
    Set { name: "a provider that nobody has", yaml: asks!("missing"), tries: ASKED },
    Set { name: "a provider whose service nobody has", yaml: asks!("elsewhere"), tries: ASKED },
    Set { name: "a provider whose service is of another namespace", yaml: asks!("other-namespace"), tries: ASKED },
    Set { name: "a provider whose service has no such port", yaml: asks!("other-port"), tries: ASKED },
    Set { name: "a provider that does not answer", yaml: asks!("refusing"), tries: ASKED },
    Set { name: "a provider that does not answer, failOpen", yaml: asks!("refusing-open"), tries: ASKED },
    Set { name: "several providers", yaml: concat!(asks!("grpc"), and!("d", "{action: CUSTOM, provider: {name: bare}, rules: [{to: [{operation: {paths: [/b]}}]}]}")), tries: &[
        get("what the first is for", "GET /authz/allow HTTP/1.1\nhost: a.test\n\n"),
        get("what the second is for", "GET /b HTTP/1.1\nhost: a.test\n\n"),
        get("what neither is for", "GET /c HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "CUSTOM before DENY before ALLOW", yaml: concat!(
        asks!("grpc"),
        and!("d", "{action: DENY, rules: [{when: [{key: 'request.headers[x-denied]', values: ['*']}]}]}"),
        and!("e", "{rules: [{to: [{operation: {methods: [GET]}}]}]}")), tries: &[
        get("refused by CUSTOM and DENY", "GET /authz/deny HTTP/1.1\nhost: a.test\nx-denied: 1\n\n"),
        get("refused by DENY", "GET /authz/allow HTTP/1.1\nhost: a.test\nx-denied: 1\n\n"),
        get("refused by DENY after a change", "GET /authz/changes HTTP/1.1\nhost: a.test\nx-denied: 1\n\n"),
        get("not allowed", "PUT /authz/allow HTTP/1.1\nhost: a.test\ncontent-length: 0\n\n"),
        get("allowed", "GET /authz/allow HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "CUSTOM of connections", yaml: asks!("grpc", "[{to: [{operation: {ports: ['8056', '8057', '8058', '8059']}}]}]"), tries: CONNECTIONS },
    Set { name: "CUSTOM of connections that are not meant", yaml: asks!("grpc", "[{to: [{operation: {ports: ['8047']}}]}]"), tries: CONNECTIONS },
    Set { name: "CUSTOM of connections without an answer", yaml: asks!("refusing", "[{to: [{operation: {ports: ['8056', '8057', '8058', '8059']}}]}]"), tries: CONNECTIONS },
    Set { name: "CUSTOM without rules", yaml: asks!("grpc", "[]"), tries: &[
        get("nothing is asked", "GET /authz/deny HTTP/1.1\nhost: a.test\n\n"),
        tcp("TCP"),
    ] },
];
