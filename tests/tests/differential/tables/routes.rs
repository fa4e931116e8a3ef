//! VirtualServices and DestinationRules: who takes a request, and what becomes of it on the way.

use crate::case::{Case, Servers, case};

/// A service with two subsets, and its routes.
macro_rules! routes {
    ($($line:literal)+) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {host: \"{host}\", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n",
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n",
            "metadata: {name: {name}, namespace: default}\nspec:\n  hosts: [\"{host}\"]\n  http:\n",
            $("  - ", $line, "\n",)+
        )
    };
}

pub(super) use routes;

macro_rules! policy {
    ($rest:literal) => {
        concat!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: {name}, namespace: default}\n",
            "spec: {host: \"{host}\", trafficPolicy: {", $rest, "}}\n"
        )
    };
}

pub(super) const fn routed(name: &'static str, send: &'static str, yaml: &'static str) -> Case {
    case(name, send).to(Servers::Two).with(yaml)
}

const OOPS: &str = "HTTP/1.1 500 Oops\ncontent-length: 0\n\n";
const THREE: &str = "GET /1 HTTP/1.1\nhost: {host}\n\n{read}GET /2 HTTP/1.1\nhost: {host}\n\n{read}{pause}GET /3 HTTP/1.1\nhost: {host}\n\n";

pub(crate) const CASES: &[Case] = &[
    routed("uri exact", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri exact, and more of it", "GET /a/b HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri exact with a query", "GET /a?b HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri exact in capitals", "GET /A HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri exact, case ignored", "GET /A HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}, ignoreUriCase: true}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri exact, with escaped letters", "GET /%61 HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri prefix", "GET /a/b HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri prefix within a word", "GET /abc HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri prefix with a slash", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a/}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri prefix, case ignored", "GET /API/x HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /api}, ignoreUriCase: true}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri prefix behind dots", "GET /x/../a HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri regex", "GET /item/12 HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {regex: '/item/[0-9]+'}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri regex, and more of it", "GET /item/12/x HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {regex: '/item/[0-9]+'}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("uri regex with a query", "GET /item/12?x=y HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {regex: '/item/[0-9]+'}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("method", "POST / HTTP/1.1\nhost: {host}\ncontent-length: 0\n\n", routes!("{match: [{method: {exact: POST}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("method by regex", "PUT / HTTP/1.1\nhost: {host}\ncontent-length: 0\n\n", routes!("{match: [{method: {regex: 'P.*'}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("scheme", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{scheme: {exact: http}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("scheme of another kind", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{scheme: {exact: https}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("scheme by x-forwarded-proto", "GET / HTTP/1.1\nhost: {host}\nx-forwarded-proto: https\n\n", routes!("{match: [{scheme: {exact: https}}], route: [{v1}]}" "{route: [{v2}]}")).kept("scheme",
        "- server: GET / HTTP/1.1   at server v2\n\
         + server: GET / HTTP/1.1   at server v1",
    ),
    routed("authority", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{authority: {exact: '{host}'}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("authority with a port", "GET / HTTP/1.1\nhost: {host}:80\n\n", routes!("{match: [{authority: {exact: '{host}'}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("authority by prefix", "GET / HTTP/1.1\nhost: {host}:80\n\n", routes!("{match: [{authority: {prefix: '{host}'}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("header exact", "GET / HTTP/1.1\nhost: {host}\nX-User: jason\n\n", routes!("{match: [{headers: {x-user: {exact: jason}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("header exact in capitals", "GET / HTTP/1.1\nhost: {host}\nx-user: Jason\n\n", routes!("{match: [{headers: {x-user: {exact: jason}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("header twice", "GET / HTTP/1.1\nhost: {host}\nx-user: a\nx-user: b\n\n", routes!("{match: [{headers: {x-user: {exact: 'a,b'}}}], route: [{v1}]}" "{route: [{v2}]}")).kept("header-lists",
        "- server: GET / HTTP/1.1   at server v1\n\
         + server: GET / HTTP/1.1   at server v2",
    ),
    routed("header prefix", "GET / HTTP/1.1\nhost: {host}\nx-user: jason\n\n", routes!("{match: [{headers: {x-user: {prefix: ja}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("header regex", "GET / HTTP/1.1\nhost: {host}\nx-user: jason1\n\n", routes!("{match: [{headers: {x-user: {regex: 'jason[0-9]'}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("header there", "GET / HTTP/1.1\nhost: {host}\nx-user: any\n\n", routes!("{match: [{headers: {x-user: {}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("header there and empty", "GET / HTTP/1.1\nhost: {host}\nx-user:\n\n", routes!("{match: [{headers: {x-user: {}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("header not there", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{headers: {x-user: {}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("without a header", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{withoutHeaders: {x-user: {}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("without a header that is there", "GET / HTTP/1.1\nhost: {host}\nx-user: a\n\n", routes!("{match: [{withoutHeaders: {x-user: {exact: a}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("without a header of another value", "GET / HTTP/1.1\nhost: {host}\nx-user: b\n\n", routes!("{match: [{withoutHeaders: {x-user: {exact: a}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("two conditions, one of them met", "GET / HTTP/1.1\nhost: {host}\nx-a: 1\n\n", routes!("{match: [{headers: {x-a: {exact: '1'}, x-b: {exact: '1'}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("two matches, one of them met", "GET /b HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}}, {uri: {exact: /b}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("query exact", "GET /?v=1 HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{queryParams: {v: {exact: '1'}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("query exact among others", "GET /?a=b&v=1&c HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{queryParams: {v: {exact: '1'}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("query twice", "GET /?v=2&v=1 HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{queryParams: {v: {exact: '1'}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("query regex", "GET /?v=12 HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{queryParams: {v: {regex: '[0-9]+'}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("query escaped", "GET /?v=%31 HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{queryParams: {v: {exact: '1'}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("query empty", "GET /?v HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{queryParams: {v: {exact: ''}}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("port", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{port: 80}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("another port", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{port: 81}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("source labels", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{sourceLabels: {app: server}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("other source labels", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{sourceLabels: {app: other}}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("source namespace", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{sourceNamespace: default}], route: [{v1}]}" "{route: [{v2}]}")),
    routed("the first of two routes", "GET /a/b HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], route: [{v1}]}" "{match: [{uri: {exact: /a/b}}], route: [{v2}]}")),
    routed("no route of all", "GET /c HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], route: [{v1}]}" "{match: [{uri: {exact: /b}}], route: [{v2}]}")),
    routed("all weight on one", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{route: [{destination: {host: '{host}', subset: v1}, weight: 0}, {destination: {host: '{host}', subset: v2}, weight: 100}]}")),
    routed("a host that is not there", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{route: [{destination: {host: nowhere.test}}]}")),
    routed("rewrite of a prefix", "GET /a/b?c HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a/}}], rewrite: {uri: /x/}, route: [{v1}]}")),
    routed("rewrite of a prefix without its slash", "GET /a/b HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], rewrite: {uri: /}, route: [{v1}]}")).kept("double-slash",
        "- server: GET /b HTTP/1.1   at server v1\n\
         + server: GET //b HTTP/1.1   at server v1\n\
         - log: 200 - HTTP/1.1 GET /b HOST sent 2\n\
         + log: 200 - HTTP/1.1 GET //b HOST sent 2",
    ),
    routed("rewrite of an exact path", "GET /a?c HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {exact: /a}}], rewrite: {uri: /x}, route: [{v1}]}")),
    routed("rewrite of a regex", "GET /a/12?c HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {regex: '/a/.*'}}], rewrite: {uri: /x}, route: [{v1}]}")),
    routed("rewrite by a regex", "GET /a/12/b HTTP/1.1\nhost: {host}\n\n", routes!("{rewrite: {uriRegexRewrite: {match: '/a/([0-9]+)/(.*)', rewrite: '/\\2/\\1'}}, route: [{v1}]}")),
    routed("rewrite of the authority", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{rewrite: {authority: new.test}, route: [{v1}]}")),
    routed("rewrite of both", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], rewrite: {uri: /x, authority: new.test}, route: [{v1}]}")),
    routed("redirect", "GET /a?b HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {uri: /x, authority: new.test}}")),
    routed("redirect of the authority alone", "GET /a?b HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {authority: new.test}}")),
    routed("redirect of the path alone", "GET /a?b HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {uri: /x}}")),
    routed("redirect with a code", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {uri: /x, redirectCode: 307}}")),
    routed("redirect with a scheme", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {scheme: https}}")),
    routed("redirect with a port", "GET /a HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {port: 8080}}")),
    routed("redirect with the port of the request", "GET /a HTTP/1.1\nhost: {host}:80\n\n", routes!("{redirect: {scheme: https, derivePort: FROM_REQUEST_PORT}}")),
    routed("redirect with the port of the protocol", "GET /a HTTP/1.1\nhost: {host}:80\n\n", routes!("{redirect: {scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}}")),
    routed("redirect of HEAD", "HEAD /a HTTP/1.1\nhost: {host}\n\n", routes!("{redirect: {uri: /x}}")).kept("head-length",
        "- client:   content-length: 0\n\
         + client:   transfer-encoding: chunked",
    ),
    routed("redirect of a POST", "POST /a HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc", routes!("{redirect: {uri: /x, redirectCode: 308}}")).kept("early-answer",
        "+ client:   connection: close\n\
         - client: the connection goes on: 308\n\
         + client: the connection is closed",
    ),
    routed("direct response", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{directResponse: {status: 418, body: {string: teapot}}}")),
    routed("direct response in bytes", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{directResponse: {status: 200, body: {bytes: aGk=}}}")),
    routed("direct response without a body", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{directResponse: {status: 503}}")),
    routed("direct response for HEAD", "HEAD / HTTP/1.1\nhost: {host}\n\n", routes!("{directResponse: {status: 200, body: {string: hi}}}")),
    routed("direct response with headers", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{directResponse: {status: 200, body: {string: '{}'}}, headers: {response: {set: {content-type: application/json}, add: {x-a: b}}}}")),
    routed("direct response of 204", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{directResponse: {status: 204}}")),
    routed("request headers set", "GET / HTTP/1.1\nhost: {host}\nx-a: client\n\n", routes!("{headers: {request: {set: {x-a: new, x-b: new}}}, route: [{v1}]}")),
    routed("request headers added", "GET / HTTP/1.1\nhost: {host}\nx-a: client\n\n", routes!("{headers: {request: {add: {x-a: new, x-b: new}}}, route: [{v1}]}")),
    routed("request headers removed", "GET / HTTP/1.1\nhost: {host}\nx-a: 1\nX-B: 2\nx-a: 3\n\n", routes!("{headers: {request: {remove: [x-a, x-b, x-c]}}, route: [{v1}]}")),
    routed("host set by headers", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{headers: {request: {set: {host: new.test}}}, route: [{v1}]}")),
    routed("response headers set", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{headers: {response: {set: {x-a: new, server: me}}}, route: [{v1}]}")).serve(&["HTTP/1.1 200 OK\nx-a: old\ncontent-length: 2\n\nok"]),
    routed("response headers added", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{headers: {response: {add: {x-a: new, set-cookie: c=d}}}, route: [{v1}]}")).serve(&["HTTP/1.1 200 OK\nx-a: old\nset-cookie: a=b\ncontent-length: 2\n\nok"]),
    routed("response headers removed", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{headers: {response: {remove: [x-a]}}, route: [{v1}]}")).serve(&["HTTP/1.1 200 OK\nx-a: old\nx-b: old\ncontent-length: 2\n\nok"]),
    routed("headers of a destination", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{headers: {request: {set: {x-a: route, x-b: route}}}, route: [{destination: {host: '{host}', subset: v1}, headers: {request: {set: {x-a: destination}}, response: {set: {x-r: destination}}}}]}")),
    routed("routes of HTTP/1.1 keep names as they are", "GET / HTTP/1.1\nhost: {host}\n\n", routes!("{headers: {request: {set: {X-Mixed: Value}}}, route: [{v1}]}")),
    case("an endpoint that is ejected", THREE).answers(3).serve(&[OOPS]).with(policy!("outlierDetection: {consecutive5xxErrors: 2, interval: 100s, baseEjectionTime: 100s, maxEjectionPercent: 100}")).kept("last-endpoint",
        "- client: HTTP/1.1 500 Internal Server Error\n\
         - client:   content-length: 0\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 19\n\
         + client:   content-type: text/plain\n\
         - client:   body \"\"\n\
         - client: the connection goes on: 200\n\
         + client:   body \"no healthy upstream\"\n\
         + client: the connection goes on: 503\n\
         - server: GET /3 HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 500 - HTTP/1.1 GET /3 HOST sent 0\n\
         + log: 503 UH HTTP/1.1 GET /3 HOST sent 19",
    ),
    case("an endpoint that is ejected by gateway errors", THREE).answers(3).serve(&["HTTP/1.1 502 Oops\ncontent-length: 0\n\n"]).with(policy!("outlierDetection: {consecutiveGatewayErrors: 2, consecutive5xxErrors: 0, interval: 100s, baseEjectionTime: 100s, maxEjectionPercent: 100}")).kept("last-endpoint",
        "- client: HTTP/1.1 502 Bad Gateway\n\
         - client:   content-length: 0\n\
         + client: HTTP/1.1 503 Service Unavailable\n\
         + client:   content-length: 19\n\
         + client:   content-type: text/plain\n\
         - client:   body \"\"\n\
         - client: the connection goes on: 200\n\
         + client:   body \"no healthy upstream\"\n\
         + client: the connection goes on: 503\n\
         - server: GET /3 HTTP/1.1   at server v1\n\
         - server:   host: HOST\n\
         - server:   x-envoy-attempt-count: 1\n\
         - server:   x-forwarded-proto: http\n\
         - server:   x-request-id: …\n\
         - server:   body \"\"\n\
         - log: 502 - HTTP/1.1 GET /3 HOST sent 0\n\
         + log: 503 UH HTTP/1.1 GET /3 HOST sent 19",
    ),
    case("errors that are no gateway errors", THREE).answers(3).serve(&[OOPS]).with(policy!("outlierDetection: {consecutiveGatewayErrors: 2, consecutive5xxErrors: 0, interval: 100s, baseEjectionTime: 100s, maxEjectionPercent: 100}")),
    case("TLS of the mesh is off", "GET / HTTP/1.1\nhost: {host}\n\n").with(policy!("tls: {mode: DISABLE}")),
    case("HTTP/2 by a client's own protocol", "GET / HTTP/1.1\nhost: {host}\n\n").with(policy!("connectionPool: {http: {useClientProtocol: true}}")),
];
