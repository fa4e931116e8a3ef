//! What filters do: faults on purpose, calls from other origins; and copies for others.

use super::routes::{routed, routes};
use crate::case::{Case, Servers, http2};

const GET: &str = "GET / HTTP/1.1\nhost: {host}\n\n";
const POST: &str = "POST / HTTP/1.1\nhost: {host}\ncontent-length: 3\n\nabc";
const GRPC: &str = ":method: POST\n:scheme: http\n:authority: {host}\n:path: /a.B/C\ncontent-type: application/grpc\nte: trailers\n\n{nul}{nul}{nul}{nul}{nul}";
const CROSS: &str = "GET / HTTP/1.1\nhost: {host}\norigin: https://a.test\n\n";
const FOREIGN: &str = "GET / HTTP/1.1\nhost: {host}\norigin: https://b.test\n\n";
const PREFLIGHT: &str = "OPTIONS / HTTP/1.1\nhost: {host}\norigin: https://a.test\naccess-control-request-method: PUT\n\n";
const FOREIGN_PREFLIGHT: &str = "OPTIONS / HTTP/1.1\nhost: {host}\norigin: https://b.test\naccess-control-request-method: PUT\n\n";

pub(crate) const CASES: &[Case] = &[
    routed("fault: abort", GET, routes!("{fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: abort of no share", GET, routes!("{fault: {abort: {httpStatus: 503, percentage: {value: 0}}}, route: [{v1}]}")),
    routed("fault: abort without a share", GET, routes!("{fault: {abort: {httpStatus: 503}}, route: [{v1}]}")),
    routed("fault: abort of HEAD", "HEAD / HTTP/1.1\nhost: {host}\n\n", routes!("{fault: {abort: {httpStatus: 404, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: abort of a POST", POST, routes!("{fault: {abort: {httpStatus: 500, percentage: {value: 100}}}, route: [{v1}]}")).kept("early-answer",
        "+ client:   connection: close\n\
         - client: the connection goes on: 500\n\
         + client: the connection is closed",
    ),
    routed("fault: abort with a status of gRPC, for HTTP", GET, routes!("{fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: abort of a redirect", GET, routes!("{fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, redirect: {uri: /x}}")),
    routed("fault: abort of a direct response", GET, routes!("{fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, directResponse: {status: 200}}")),
    routed("fault: abort and response headers", GET, routes!("{fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, headers: {response: {set: {x-a: b}}}, route: [{v1}]}")),
    routed("fault: abort and retries", GET, routes!("{fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, retries: {attempts: 2, retryOn: 5xx}, route: [{v1}]}")),
    http2("fault: abort of gRPC with a status of gRPC", GRPC).port("GRPC").to(Servers::Two).with(routes!("{fault: {abort: {grpcStatus: '7', percentage: {value: 100}}}, route: [{v1}]}")),
    http2("fault: abort of gRPC with a status of HTTP", GRPC).port("GRPC").to(Servers::Two).with(routes!("{fault: {abort: {httpStatus: 429, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: delay", GET, routes!("{fault: {delay: {fixedDelay: 0.3s, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: delay of a POST", POST, routes!("{fault: {delay: {fixedDelay: 0.3s, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: delay by the old field", GET, routes!("{fault: {delay: {fixedDelay: 0.3s, percent: 100}}, route: [{v1}]}")),
    routed("fault: delay of no share", GET, routes!("{fault: {delay: {fixedDelay: 0.3s, percentage: {value: 0}}}, route: [{v1}]}")),
    routed("fault: delay and abort", GET, routes!("{fault: {delay: {fixedDelay: 0.3s, percentage: {value: 100}}, abort: {httpStatus: 555, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: delay that a time-out does not count", GET, routes!("{timeout: 0.25s, fault: {delay: {fixedDelay: 0.5s, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("fault: delay before a time-out", GET, routes!("{timeout: 0.2s, fault: {delay: {fixedDelay: 0.3s, percentage: {value: 100}}}, route: [{v1}]}")).serve(&["{hold}"]),
    routed("fault: delay of another route", GET, routes!("{match: [{uri: {exact: /a}}], fault: {delay: {fixedDelay: 5s, percentage: {value: 100}}}, route: [{v1}]}" "{route: [{v2}]}")),
    routed("cors: an origin", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, route: [{v1}]}")),
    routed("cors: another origin", FOREIGN, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, route: [{v1}]}")),
    routed("cors: no origin", GET, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, route: [{v1}]}")),
    routed("cors: an origin by prefix", CROSS, routes!("{corsPolicy: {allowOrigins: [{prefix: 'https://a'}]}, route: [{v1}]}")),
    routed("cors: an origin by regex", CROSS, routes!("{corsPolicy: {allowOrigins: [{regex: 'https://[a-c]\\.test'}]}, route: [{v1}]}")),
    routed("cors: any origin", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: '*'}]}, route: [{v1}]}")),
    routed("cors: any origin by the old field", CROSS, routes!("{corsPolicy: {allowOrigin: ['*']}, route: [{v1}]}")),
    routed("cors: with credentials", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}], allowCredentials: true, exposeHeaders: [x-a, x-b], allowMethods: [PUT], maxAge: 10s}, route: [{v1}]}")),
    routed("cors: a server that says so itself", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, route: [{v1}]}")).serve(&["HTTP/1.1 200 OK\naccess-control-allow-origin: *\ncontent-length: 2\n\nok"]),
    routed("cors: a preflight", PREFLIGHT, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}], allowCredentials: true, exposeHeaders: [x-a], allowMethods: [GET, PUT], allowHeaders: [x-c, x-d], maxAge: 24h}, route: [{v1}]}")),
    routed("cors: a preflight and nothing more", PREFLIGHT, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, route: [{v1}]}")),
    routed("cors: a preflight and response headers", PREFLIGHT, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, headers: {response: {set: {x-a: b}}}, route: [{v1}]}")),
    routed("cors: a preflight of another origin", FOREIGN_PREFLIGHT, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}], allowMethods: [PUT]}, route: [{v1}]}")),
    routed("cors: a preflight of another origin that is not forwarded", FOREIGN_PREFLIGHT, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}], allowMethods: [PUT], unmatchedPreflights: IGNORE}, route: [{v1}]}")),
    routed("cors: OPTIONS that is no preflight", "OPTIONS / HTTP/1.1\nhost: {host}\norigin: https://a.test\n\n", routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, route: [{v1}]}")),
    routed("cors: a redirect", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, redirect: {uri: /x}}")),
    routed("cors: a direct response", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, directResponse: {status: 200, body: {string: hi}}}")),
    routed("cors: a time-out", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, timeout: 0.2s, route: [{v1}]}")).serve(&["{hold}"]),
    routed("cors: a fault", CROSS, routes!("{corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}, fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, route: [{v1}]}")),
    routed("mirror", "GET /a?b HTTP/1.1\nhost: {host}\nx-a: b\n\n", routes!("{mirror: {host: '{host}', subset: v2}, route: [{v1}]}")).arrive(2).kept("mirrors", MIRRORED),
    routed("mirror: the host has a port", "GET / HTTP/1.1\nhost: {host}:80\n\n", routes!("{mirror: {host: '{host}', subset: v2}, route: [{v1}]}")).arrive(2).kept("mirrors", MIRRORED),
    routed("mirror: a body", POST, routes!("{mirror: {host: '{host}', subset: v2}, route: [{v1}]}")).arrive(2).kept("mirrors", MIRRORED),
    routed("mirror: a body in chunks", "POST / HTTP/1.1\nhost: {host}\ntransfer-encoding: chunked\n\n3\nabc\n{pause}3\ndef\n0\n\n", routes!("{mirror: {host: '{host}', subset: v2}, route: [{v1}]}")).arrive(2).kept("mirrors", MIRRORED),
    routed("mirror: as the route has it", "GET /a/b HTTP/1.1\nhost: {host}\n\n", routes!("{match: [{uri: {prefix: /a}}], rewrite: {uri: /x, authority: new.test}, headers: {request: {set: {x-a: b}}}, mirror: {host: '{host}', subset: v2}, route: [{v1}]}")).arrive(2).kept("mirrors", MIRRORED),
    routed("mirror: no share", GET, routes!("{mirror: {host: '{host}', subset: v2}, mirrorPercentage: {value: 0}, route: [{v1}]}")),
    routed("mirror: no share by the old field", GET, routes!("{mirror: {host: '{host}', subset: v2}, mirrorPercent: 0, route: [{v1}]}")),
    routed("mirror: several", GET, routes!("{mirrors: [{destination: {host: '{host}', subset: v2}, percentage: {value: 100}}, {destination: {host: '{host}', subset: v2}, percentage: {value: 0}}], route: [{v1}]}")).arrive(2).kept("mirrors", MIRRORED),
    routed("mirror: nobody is there", GET, routes!("{mirror: {host: '{host}', subset: v3}, route: [{v1}]}")),
    routed("mirror: a direct response has none", GET, routes!("{directResponse: {status: 200}}")),
];

const MIRRORED: &str =
    "+ server:   x-envoy-internal: true\n\
     + server:   x-forwarded-for: PROXY";
