//! Differences that several cases have.

pub(super) const CODING_STATUS: &str =
    "- client: HTTP/1.1 400 Bad Request\n\
     + client: HTTP/1.1 501 Not Implemented\n\
     - client:   content-length: 11\n\
     + client:   content-length: 15\n\
     - client:   body \"Bad Request\"\n\
     + client:   body \"Not Implemented\"\n\
     - log: 400 DPE HTTP/1.1 - - - sent 11\n\
     + log: 501 DPE HTTP/1.1 - - - sent 15";

pub(super) const EARLY_ANSWER: &str =
    "+ client:   connection: close\n\
     - client: the connection goes on: 503\n\
     + client: the connection is closed";

pub(super) const EXPECTATIONS: &str =
    "+ client: HTTP/1.1 100 Continue";

pub(super) const HEAD_LENGTH: &str =
    "+ client:   transfer-encoding: chunked";

pub(super) const HTTP10: &str =
    "- client: HTTP/1.0 200 OK\n\
     - client:   connection: close\n\
     - client:   content-length: 2\n\
     - client:   date: …\n\
     - client:   body \"ok\"\n\
     - server: GET / HTTP/1.1   at server v1\n\
     - server:   host: HOST\n\
     - server:   x-envoy-attempt-count: 1\n\
     - server:   x-forwarded-proto: http\n\
     - server:   x-request-id: …\n\
     - server:   body \"\"\n\
     - log: 200 - HTTP/1.0 GET / HOST sent 2\n\
     + log: 0 UF,URX - - - - sent 0";

pub(super) const HTTP10_2: &str =
    "- client: HTTP/1.1 400 Bad Request\n\
     + client: HTTP/1.1 426 Upgrade Required\n\
     - client:   content-length: 11\n\
     + client:   content-length: 16\n\
     - client:   body \"Bad Request\"\n\
     + client:   body \"Upgrade Required\"\n\
     - log: 400 DPE HTTP/1.1 - - - sent 11\n\
     + log: 426 DPE HTTP/1.1 - - - sent 16";

pub(super) const MALFORMED_STREAM: &str =
    "- client: the stream is reset: 1\n\
     - client: the connection goes on: 200\n\
     + client: the connection is closed";

pub(super) const NO_HOST: &str =
    "- log: 400 - HTTP/1.1 - - - sent 0\n\
     + log: 400 - HTTP/1.1 GET / - sent 0";

pub(super) const NOT_HTTP: &str =
    "- client: HTTP/1.1 400 Bad Request\n\
     - client:   connection: close\n\
     - client:   content-length: 11\n\
     - client:   content-type: text/plain\n\
     - client:   date: …\n\
     - client:   body \"Bad Request\"\n\
     - log: 400 DPE HTTP/1.1 - - - sent 11\n\
     + log: 0 UF,URX - - - - sent 0";

pub(super) const OWN_FIELDS: &str =
    "+ server:   x-hawser-protocol: HTTP/2";

pub(super) const SAFE_RETRIES: &str =
    "- client:   content-length: 118\n\
     + client:   content-length: 95\n\
     - client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination\"\n\
     + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: connection termination\"\n\
     - server: GET / HTTP/1.1   at server v1\n\
     - server:   host: HOST\n\
     - server:   x-envoy-attempt-count: 2\n\
     - server:   x-forwarded-proto: http\n\
     - server:   x-request-id: …\n\
     - server:   body \"\"\n\
     - server: GET / HTTP/1.1   at server v1\n\
     - server:   host: HOST\n\
     - server:   x-envoy-attempt-count: 3\n\
     - server:   x-forwarded-proto: http\n\
     - server:   x-request-id: …\n\
     - server:   body \"\"\n\
     - log: 503 UC HTTP/1.1 GET / HOST sent 118\n\
     + log: 503 UC HTTP/1.1 GET / HOST sent 95";

pub(super) const SAFE_RETRIES_2: &str =
    "- client: HTTP/1.1 503 Service Unavailable\n\
     - client:   content-length: 118\n\
     + client: HTTP/1.1 502 Bad Gateway\n\
     + client:   content-length: 87\n\
     - client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination\"\n\
     + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: protocol error\"\n\
     - server: GET / HTTP/1.1   at server v1\n\
     - server:   host: HOST\n\
     - server:   x-envoy-attempt-count: 2\n\
     - server:   x-forwarded-proto: http\n\
     - server:   x-request-id: …\n\
     - server:   body \"\"\n\
     - server: GET / HTTP/1.1   at server v1\n\
     - server:   host: HOST\n\
     - server:   x-envoy-attempt-count: 3\n\
     - server:   x-forwarded-proto: http\n\
     - server:   x-request-id: …\n\
     - server:   body \"\"\n\
     - log: 503 UC HTTP/1.1 GET / HOST sent 118\n\
     + log: 502 UPE HTTP/1.1 GET / HOST sent 87";

pub(super) const STRICT_CHUNKS: &str =
    "- client: HTTP/1.1 400 Bad Request\n\
     - client:   connection: close\n\
     - client:   content-length: 11\n\
     - client:   content-type: text/plain\n\
     + client: HTTP/1.1 200 OK\n\
     + client:   content-length: 2\n\
     - client:   body \"Bad Request\"\n\
     - client: the connection is closed\n\
     - log: 400 DPE HTTP/1.1 POST / HOST sent 11\n\
     + client:   body \"ok\"\n\
     + client: the connection goes on: 200\n\
     + server: POST / HTTP/1.1   at server v1\n\
     + server:   host: HOST\n\
     + server:   transfer-encoding: chunked\n\
     + server:   x-forwarded-proto: http\n\
     + server:   x-request-id: …\n\
     + server:   body \"abc\"\n\
     + log: 200 - HTTP/1.1 POST / HOST sent 2";

pub(super) const STRICT_HEADS: &str =
    "- client: HTTP/1.1 400 Bad Request\n\
     - client:   connection: close\n\
     - client:   content-length: 11\n\
     - client:   content-type: text/plain\n\
     + client: HTTP/1.1 200 OK\n\
     + client:   content-length: 2\n\
     - client:   body \"Bad Request\"\n\
     - client: the connection is closed\n\
     - log: 400 DPE HTTP/1.1 - - - sent 11\n\
     + client:   body \"ok\"\n\
     + client: the connection goes on: 200\n\
     + server: GET / HTTP/1.1   at server v1\n\
     + server:   host: HOST\n\
     + server:   x-forwarded-proto: http\n\
     + server:   x-request-id: …\n\
     + server:   body \"\"\n\
     + log: 200 - HTTP/1.1 GET / HOST sent 2";

pub(super) const STRICT_HOSTS: &str =
    "- client: HTTP/1.1 400 Bad Request\n\
     - client:   connection: close\n\
     - client:   content-length: 11\n\
     + client: HTTP/1.1 503 Service Unavailable\n\
     + client:   content-length: 98\n\
     - client:   body \"Bad Request\"\n\
     - client: the connection is closed\n\
     - log: 400 DPE HTTP/1.1 - - - sent 11\n\
     + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure\"\n\
     + client: the connection goes on: 200\n\
     + log: 503 UF HTTP/1.1 GET / HOST,other.test sent 98";

pub(super) const TRAILERS: &str =
    "- client:   trailer x-t: 1";

pub(super) const UPGRADES: &str =
    "+ client:   connection: close\n\
     - client: the connection goes on: 200\n\
     + client: the connection is closed";

pub(super) const VERSIONS: &str =
    "- client: HTTP/1.1 505 HTTP Version Not Supported\n\
     + client: HTTP/1.1 426 Upgrade Required\n\
     - client:   content-length: 26\n\
     + client:   content-length: 16\n\
     - client:   body \"HTTP Version Not Supported\"\n\
     + client:   body \"Upgrade Required\"\n\
     - log: 505 DPE HTTP/1.1 - - - sent 26\n\
     + log: 426 DPE HTTP/1.1 - - - sent 16";

pub(super) const VERSIONS_2: &str =
    "- client: HTTP/1.1 502 Bad Gateway\n\
     - client:   content-length: 87\n\
     - client:   content-type: text/plain\n\
     + client: HTTP/1.1 200 OK\n\
     + client:   content-length: 2\n\
     - client:   body \"upstream connect error or disconnect/reset before headers. reset reason: protocol error\"\n\
     + client:   body \"ok\"\n\
     - log: 502 UPE HTTP/1.1 GET / HOST sent 87\n\
     + log: 200 - HTTP/1.1 GET / HOST sent 2";

pub(super) const INBOUND_RETRIES: &str = "- client:   content-length: 118\n\
     + client:   content-length: 95\n\
     - client:   body \"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination\"\n\
     + client:   body \"upstream connect error or disconnect/reset before headers. reset reason: connection termination\"\n\
     - server: GET / HTTP/1.1   at server v1\n\
     - server:   host: HOST\n\
     - server:   x-forwarded-proto: http\n\
     - server:   x-request-id: …\n\
     - server:   body \"\"\n\
     - server: GET / HTTP/1.1   at server v1\n\
     - server:   host: HOST\n\
     - server:   x-forwarded-proto: http\n\
     - server:   x-request-id: …\n\
     - server:   body \"\"\n\
     - log: 503 UC HTTP/1.1 GET / HOST sent 118\n\
     + log: 503 UC HTTP/1.1 GET / HOST sent 95";
