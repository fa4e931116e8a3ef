//! RequestAuthentication, and policies on what tokens say.

use crate::case::{Case, case, http2};
use crate::policies::Set;

const fn get(name: &'static str, send: &'static str) -> Case {
    case(name, send).inbound()
}

/// A set whose one policy has these fields of an issuer beside its name and keys, with more resources behind it.
macro_rules! issuer {
    ($fields:literal) => { issuer!($fields, "") };
    ($fields:literal, $more:literal) => {
        concat!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: default}\n\
             spec:\n  selector: {matchLabels: {app: server}}\n  jwtRules:\n  - {issuer: me.test, jwks: '{keys:me}'", $fields, "}\n", $more
        )
    };
}

/// A policy that allows what matches.
macro_rules! allow {
    ($rules:literal) => {
        concat!("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\nspec: {selector: {matchLabels: {app: server}}, rules: ", $rules, "}\n")
    };
}

/// What every policy on tokens is tried with.
const TOKENS: &[Case] = &[
    get("no token", "GET /a HTTP/1.1\nhost: a.test\n\n"),
    get("a good one", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\n\n"),
    get("without a subject", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:no-subject}\n\n"),
    get("with a slash in its subject", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:slash}\n\n"),
];

pub(crate) const SETS: &[Set] = &[
    Set { name: "jwtRules[].issuer, jwks", yaml: issuer!(""), tries: &[
        get("no token", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("a good one", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\n\n"),
        get("a good one, in the query", "GET /a?x=1&access_token={jwt:good} HTTP/1.1\nhost: a.test\n\n"),
        get("a good one in lower case", "GET /a HTTP/1.1\nhost: a.test\nauthorization: bearer {jwt:good}\n\n"),
        get("a good one behind words", "GET /a HTTP/1.1\nhost: a.test\nauthorization: x Bearer {jwt:good}, y\n\n"),
        get("signed by somebody else", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:forged}\n\n"),
        get("of nobody's issuer", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:nobody}\n\n"),
        get("expired", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:expired}\n\n"),
        get("not yet valid", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:early}\n\n"),
        get("no JSON object", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:array}\n\n"),
        get("no token at all", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer abc\n\n"),
        get("nothing behind Bearer", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer \n\n"),
        get("three parts of nothing", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer a.b.c\n\n"),
        get("another scheme", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Basic eA==\n\n"),
        get("one good, one bad", "GET /a?access_token={jwt:forged} HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\n\n"),
        get("a preflight", "OPTIONS /a HTTP/1.1\nhost: a.test\norigin: b.test\naccess-control-request-method: PUT\nauthorization: Bearer {jwt:forged}\n\n"),
        get("over mTLS", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:forged}\n\n").mutual(),
        http2("gRPC", ":method: POST\n:scheme: http\n:authority: {host}\n:path: /a\ncontent-type: application/grpc\nte: trailers\nauthorization: Bearer {jwt:forged}\n\nabc").inbound().port("HTTP2"),
        case("TCP, which has no tokens", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:forged}\n\n").inbound().port("TCP"),
    ] },
    Set { name: "jwtRules[].audiences", yaml: issuer!(", audiences: [none, 'https://shop/']"), tries: &[
        get("one of them", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:audience}\n\n"),
        get("none", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:slash}\n\n"),
    ] },
    Set { name: "jwtRules[].fromHeaders", yaml: issuer!(", fromHeaders: [{name: X-Token, prefix: 'T '}, {name: x-bare}]"), tries: &[
        get("behind a prefix", "GET /a HTTP/1.1\nhost: a.test\nx-token: T {jwt:good}\n\n"),
        get("behind a prefix, with more behind it", "GET /a HTTP/1.1\nhost: a.test\nx-token: T {jwt:good}, y\n\n"),
        get("behind words and a prefix", "GET /a HTTP/1.1\nhost: a.test\nx-token: x T {jwt:good}\n\n"),
        get("without the prefix", "GET /a HTTP/1.1\nhost: a.test\nx-token: {jwt:forged}\n\n"),
        get("bare", "GET /a HTTP/1.1\nhost: a.test\nx-bare: {jwt:good}\n\n"),
        get("forged", "GET /a HTTP/1.1\nhost: a.test\nx-bare: {jwt:forged}\n\n"),
        get("where it is not looked for", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:forged}\n\n"),
    ] },
    Set { name: "jwtRules[].fromParams", yaml: issuer!(", fromParams: [token]"), tries: &[
        get("good", "GET /a?b=c&token={jwt:good}&d=e HTTP/1.1\nhost: a.test\n\n"),
        get("good, before a bare word", "GET /a?token={jwt:good}&d HTTP/1.1\nhost: a.test\n\n").kept("bare-words",
            "- server: GET /a?d HTTP/1.1\n+ server: GET /a?d= HTTP/1.1\n\
             - log: 200 - HTTP/1.1 GET /a?d a.test sent 2 details via_upstream ended - audit - ext - - asked - deny - - allow - -\n\
             + log: 200 - HTTP/1.1 GET /a?d= a.test sent 2 details via_upstream ended - audit - ext - - asked - deny - - allow - -"),
        get("alone", "GET /a?token={jwt:good} HTTP/1.1\nhost: a.test\n\n"),
        get("forged", "GET /a?token={jwt:forged} HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "jwtRules[].fromCookies", yaml: issuer!(", fromCookies: [session]"), tries: &[
        get("good", "GET /a HTTP/1.1\nhost: a.test\ncookie: a=b; session={jwt:good}; c=d\n\n"),
        get("forged", "GET /a HTTP/1.1\nhost: a.test\ncookie: session={jwt:forged}\n\n"),
        get("another", "GET /a HTTP/1.1\nhost: a.test\ncookie: sessions={jwt:forged}\n\n"),
    ] },
    Set { name: "jwtRules[].forwardOriginalToken", yaml: issuer!(", forwardOriginalToken: true"), tries: &[
        get("in a header", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\n\n"),
        get("in the query", "GET /a?access_token={jwt:good} HTTP/1.1\nhost: a.test\n\n"),
    ] },
    Set { name: "jwtRules[].outputPayloadToHeader", yaml: issuer!(", outputPayloadToHeader: X-Payload"), tries: &[
        get("of a token", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\nx-payload: forged\n\n"),
        get("of none", "GET /a HTTP/1.1\nhost: a.test\nx-payload: forged\n\n"),
    ] },
    Set { name: "jwtRules[].outputClaimToHeaders", yaml: issuer!(", outputClaimToHeaders: [{header: X-Sub, claim: sub}, {header: x-level, claim: level}, {header: x-admin, claim: admin}, {header: x-down, claim: deep.er}, {header: x-groups, claim: groups}, {header: x-odd, claim: odd}, {header: x-none, claim: none}]"), tries: &[
        get("of a token", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\nx-sub: forged\nx-none: forged\n\n"),
        get("of none", "GET /a HTTP/1.1\nhost: a.test\nx-sub: forged\n\n"),
    ] },
    Set { name: "jwtRules[].spaceDelimitedClaims", yaml: issuer!(", spaceDelimitedClaims: [scope]", "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\nspec: {rules: [{when: [{key: 'request.auth.claims[scope]', values: [write]}]}]}\n"), tries: TOKENS },
    Set { name: "several jwtRules", yaml: "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: default}\nspec: {jwtRules: [{issuer: me.test, jwks: '{keys:me}', fromHeaders: [{name: x-me}]}, {issuer: other.test, jwks: '{keys:other}', fromHeaders: [{name: x-other}]}]}\n", tries: &[
        get("none", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("the first", "GET /a HTTP/1.1\nhost: a.test\nx-me: {jwt:good}\n\n"),
        get("the second", "GET /a HTTP/1.1\nhost: a.test\nx-other: {jwt:other}\n\n"),
        get("each in the other's place", "GET /a HTTP/1.1\nhost: a.test\nx-other: {jwt:good}\nx-me: {jwt:other}\n\n"),
    ] },
    Set { name: "several RequestAuthentications", yaml: concat!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: default}\nspec: {jwtRules: [{issuer: me.test, jwks: '{keys:me}'}]}\n---\n",
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: istio-system}\nspec: {jwtRules: [{issuer: other.test, jwks: '{keys:other}'}]}\n"), tries: &[
        get("the first", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\n\n"),
        get("the second", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:other}\n\n"),
        get("a forged one", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:forged}\n\n"),
    ] },
    Set { name: "jwtRules[].jwksUri that can't be had", yaml: "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: default}\nspec: {jwtRules: [{issuer: me.test, jwksUri: 'http://127.0.0.1:1/keys', timeout: 1s}]}\n", tries: &[
        get("no token", "GET /a HTTP/1.1\nhost: a.test\n\n"),
        get("a token", "GET /a HTTP/1.1\nhost: a.test\nauthorization: Bearer {jwt:good}\n\n"),
    ] },
    Set { name: "rules[].from[].source.requestPrincipals", yaml: issuer!("", "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\nspec: {rules: [{from: [{source: {requestPrincipals: [me.test/you]}}]}]}\n"), tries: TOKENS },
    Set { name: "rules[].from[].source.requestPrincipals, any", yaml: concat!(issuer!(""), allow!("[{from: [{source: {requestPrincipals: ['*']}}]}]")), tries: TOKENS },
    Set { name: "rules[].from[].source.requestPrincipals, prefix", yaml: concat!(issuer!(""), allow!("[{from: [{source: {requestPrincipals: ['me.test/a*']}}]}]")), tries: TOKENS },
    Set { name: "rules[].from[].source.requestPrincipals, suffix", yaml: concat!(issuer!(""), allow!("[{from: [{source: {requestPrincipals: ['*/b']}}]}]")), tries: TOKENS },
    Set { name: "rules[].from[].source.notRequestPrincipals", yaml: concat!(issuer!(""), allow!("[{from: [{source: {notRequestPrincipals: ['me.test/you']}}]}]")), tries: TOKENS },
    Set { name: "rules[].when[], request.auth.principal", yaml: concat!(issuer!(""), allow!("[{when: [{key: request.auth.principal, values: [me.test/a/b]}]}]")), tries: TOKENS },
    Set { name: "rules[].when[], request.auth.audiences", yaml: concat!(issuer!(""), allow!("[{when: [{key: request.auth.audiences, values: [store]}]}]")), tries: TOKENS },
    Set { name: "rules[].when[], request.auth.presenter", yaml: concat!(issuer!(""), allow!("[{when: [{key: request.auth.presenter, values: ['*']}]}]")), tries: TOKENS },
    Set { name: "rules[].when[], request.auth.claims", yaml: concat!(issuer!(""), allow!("[{when: [{key: 'request.auth.claims[groups]', values: [ops], notValues: [root]}]}]")), tries: TOKENS },
    Set { name: "rules[].when[], request.auth.claims, nested", yaml: concat!(issuer!(""), allow!("[{when: [{key: 'request.auth.claims[deep][er]', values: ['do*']}]}]")), tries: TOKENS },
    Set { name: "rules[].when[], request.auth.claims, a number", yaml: concat!(issuer!(""), allow!("[{when: [{key: 'request.auth.claims[level]', values: ['3']}]}]")), tries: TOKENS },
];
