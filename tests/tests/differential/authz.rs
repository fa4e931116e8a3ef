//! A service that authorizes, over gRPC and over HTTP: it answers as the path says that it is asked about, and writes down what
//! it is told.
//!
//! In: sockets, the case of the moment. Out: lines among what that case's servers saw. A connection, which has no path,
//! may pass if its caller has proved who it is.

use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use hawser_api::proto::core::{Address, HeaderValue, HeaderValueOption, QueryParameter, address, socket_address};
use hawser_api::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use hawser_api::proto::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use hawser_api::proto::envoy::service::auth::v3::check_response::HttpResponse;
use hawser_api::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use hawser_api::proto::envoy::r#type::v3::HttpStatus;
use hawser_api::proto::google::rpc;
use hawser_tests::wait;
use prost_types::value::Kind;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::Side;
use crate::message::{Body, Head};
use crate::net::IDLE;
use crate::seen::{fields, text};
use crate::server::Requests;
use crate::stream::Stream;

/// Longer than the providers of the bed wait that are tried with it.
const SLOW: Duration = Duration::from_millis(1500);
/// What providers of the bed put before paths.
const PREFIX: &str = "/check";
/// What only Envoy says when it asks over HTTP, of itself: docs/envoy.md tells it.
const OF_ENVOY: [&str; 2] = ["x-envoy-internal", "x-forwarded-for"];

/// The service. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Authz {
    now: Arc<Mutex<Arc<Requests>>>,
    theirs: IpAddr,
}

impl Authz {
    /// Serves these sockets for as long as the test runs; who asks from `theirs` is the Envoy.
    pub(crate) fn start(grpc: TcpListener, http: TcpListener, theirs: IpAddr) -> Result<Self> {
        let this = Self { now: Arc::default(), theirs };
        grpc.set_nonblocking(true)?;
        let serving = this.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().spawn(move || {
            runtime.block_on(async move {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(grpc).expect("it listens"));
                let service = AuthorizationServer::new(serving);
                let served = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
                served.await.expect("it serves");
            });
        })?;
        let serving = this.clone();
        thread::Builder::new().spawn(move || {
            for stream in http.incoming().flatten() {
                let Ok(peer) = stream.peer_addr() else { continue };
                let _ = stream.set_read_timeout(Some(IDLE));
                let _ = stream.set_nodelay(true);
                let serving = serving.clone();
                thread::spawn(move || serving.http(Stream::plain(stream), peer.ip()));
            }
        })?;
        Ok(this)
    }

    /// From now on what is asked belongs to this case.
    pub(crate) fn serve(&self, requests: Arc<Requests>) {
        *self.now.lock().unwrap() = requests;
    }

    fn write(&self, from: IpAddr, lines: Vec<String>) {
        let side = if from == self.theirs { Side::Envoy } else { Side::Ours };
        let requests = self.now.lock().unwrap().clone();
        let number = requests.begin(side, 9, lines);
        requests.add(side, number, Vec::new());
    }

    fn http(&self, mut stream: Stream, from: IpAddr) {
        while let Ok(head) = Head::read(&mut stream) {
            let body = Body::read(&mut stream, &head, false);
            let path = head.first.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut lines = vec![format!("asked over HTTP: {}", head.first)];
            let told: Vec<_> =
                head.fields.iter().filter(|(name, _)| !OF_ENVOY.contains(&name.as_str())).cloned().collect();
            lines.extend(fields(&told).map(|line| format!("  {line}")));
            lines.push(format!("  body {:?}", text(&body.bytes)));
            self.write(from, lines);
            let (path, _) = path.split_once('?').unwrap_or((&path, ""));
            let answer = match path.strip_prefix(PREFIX).unwrap_or(path) {
                "/authz/allow" => "200 OK\r\ncontent-length: 0\r\n\r\n",
                "/authz/changes" => {
                    "200 OK\r\ncontent-length: 2\r\nx-user: me\r\nx-group-a: 1\r\nx-group-a: 2\r\nx-ok: yes\r\nx-ok: no\r\n\
                     x-other: not sent on\r\nx-envoy-auth-headers-to-remove: x-gone, X-Say-Gone\r\n\r\nok"
                }
                "/authz/no-content" => "204 No Content\r\n\r\n",
                "/authz/deny-so" => {
                    "401 Unauthorized\r\ncontent-length: 10\r\nx-why: because\r\nx-other: told?\r\ncontent-type: text/html\r\n\
                     www-authenticate: Basic\r\nset-cookie: a=b\r\nset-cookie: c=d\r\n\r\nno, thanks"
                }
                "/authz/elsewhere" => "302 Found\r\ncontent-length: 0\r\nlocation: http://login.test/\r\n\r\n",
                "/authz/error" => "503 Service Unavailable\r\ncontent-length: 3\r\n\r\nbad",
                "/authz/broken" => return,
                "/authz/slow" => {
                    wait::between_looks(SLOW);
                    "200 OK\r\ncontent-length: 0\r\n\r\n"
                }
                _ => "403 Forbidden\r\ncontent-length: 0\r\n\r\n",
            };
            stream.write(format!("HTTP/1.1 {answer}").as_bytes());
        }
    }
}

#[tonic::async_trait]
impl Authorization for Authz {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let from = request.remote_addr().map(|a| a.ip()).ok_or_else(|| Status::internal("nobody asks"))?;
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let end = |name: &str, peer: Option<&Peer>, with_port| {
            let peer = peer.cloned().unwrap_or_default();
            let address = peer.address.as_ref().map(|a| shown(a, with_port)).unwrap_or_default();
            format!("  {name} {address} principal {:?} service {:?}", peer.principal, peer.service)
        };
        let mut lines = vec!["asked over gRPC".to_owned()];
        lines.push(end("source", attributes.source.as_ref(), false));
        lines.push(end("destination", attributes.destination.as_ref(), true));
        let request = attributes.request.unwrap_or_default();
        let http = request.http;
        if let Some(http) = &http {
            lines.push(format!("  time {}", request.time.is_some_and(|t| t.seconds > 1_700_000_000)));
            lines.extend(of_request(http));
        }
        let contexts = [attributes.metadata_context, attributes.route_metadata_context];
        lines.push(format!("  contexts {:?}", contexts.map(|context| context.map(|c| c.filter_metadata.len()))));
        self.write(from, lines);
        let caller = attributes.source.is_some_and(|peer| !peer.principal.is_empty());
        match http {
            Some(http) => answer(&http.path).await,
            None if caller => Ok(Response::new(CheckResponse::default())),
            None => Ok(Response::new(status(7))),
        }
    }
}

fn shown(of: &Address, with_port: bool) -> String {
    let Some(address::Address::SocketAddress(socket)) = &of.address else { return format!("{of:?}") };
    match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) if with_port => format!("{}:{port}", socket.address),
        _ => socket.address.clone(),
    }
}

fn of_request(http: &HttpRequest) -> Vec<String> {
    let mut lines = vec![
        format!("  id {}", !http.id.is_empty()),
        format!("  {} {} {} of {} scheme {}", http.protocol, http.method, http.path, http.host, http.scheme),
        format!("  size {} body {:?} raw {:?}", http.size, http.body, text(&http.raw_body)),
    ];
    let told: Vec<_> = http.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    lines.extend(fields(&told).map(|line| format!("  {line}")));
    lines
}

fn status(code: i32) -> CheckResponse {
    CheckResponse { status: Some(rpc::Status { code, ..rpc::Status::default() }), ..CheckResponse::default() }
}

/// Name, value, whether it is appended (the old way), action.
fn header(name: &str, value: &str, append: Option<bool>, append_action: i32) -> HeaderValueOption {
    let header = HeaderValue { key: name.to_owned(), value: value.to_owned() };
    HeaderValueOption { header: Some(header), append, append_action }
}

async fn answer(path: &str) -> Result<Response<CheckResponse>, Status> {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let denied = |code, body: &str, headers| DeniedHttpResponse {
        status: Some(HttpStatus { code }),
        headers,
        body: body.to_owned(),
    };
    let mut made = status(0);
    match path {
        "/authz/allow" => {}
        "/authz/changes" => made.http_response = Some(HttpResponse::OkResponse(changes())),
        "/authz/query" => {
            let set = |key: &str, value: &str| QueryParameter { key: key.to_owned(), value: value.to_owned() };
            let ok = OkHttpResponse {
                query_parameters_to_set: vec![set("a", "2"), set("new", "3")],
                query_parameters_to_remove: vec!["gone".to_owned()],
                ..OkHttpResponse::default()
            };
            made.http_response = Some(HttpResponse::OkResponse(ok));
        }
        "/authz/rewrite" => {
            let headers = vec![header(":path", "/elsewhere?b=c", None, 2), header("host", "other.test", None, 2)];
            made.http_response = Some(HttpResponse::OkResponse(OkHttpResponse { headers, ..Default::default() }));
        }
        "/authz/metadata" => {
            let text = prost_types::Value { kind: Some(Kind::StringValue("said".to_owned())) };
            let number = prost_types::Value { kind: Some(Kind::NumberValue(7.0)) };
            let inner = prost_types::Struct { fields: [("deep".to_owned(), number)].into() };
            let inner = prost_types::Value { kind: Some(Kind::StructValue(inner)) };
            let fields = [("word".to_owned(), text), ("inner".to_owned(), inner)].into();
            made.dynamic_metadata = Some(prost_types::Struct { fields });
        }
        "/authz/deny-so" => {
            made = status(16);
            let headers = vec![
                header("x-why", "because", None, 0),
                header("content-type", "text/html", None, 0),
                header("set-cookie", "a=b", None, 0),
                header("set-cookie", "c=d", None, 0),
                header("x-once", "1", Some(false), 0),
                header("x-once", "2", Some(false), 0),
            ];
            made.http_response = Some(HttpResponse::DeniedResponse(denied(401, "no, thanks", headers)));
        }
        "/authz/deny-bare" => {
            made = status(7);
            made.http_response = Some(HttpResponse::DeniedResponse(DeniedHttpResponse::default()));
        }
        "/authz/error" => return Err(Status::internal("bad")),
        "/authz/error-so" => {
            made = status(13);
            let headers = vec![header("x-why", "trouble", None, 0)];
            made.http_response = Some(HttpResponse::ErrorResponse(denied(502, "trouble", headers)));
        }
        "/authz/slow" => tokio::time::sleep(SLOW).await,
        _ => made = status(7),
    }
    Ok(Response::new(made))
}

/// Every way to change a head.
fn changes() -> OkHttpResponse {
    OkHttpResponse {
        headers: vec![
            header("x-add", "1", None, 0),
            header("x-absent", "1", None, 1),
            header("x-new-absent", "1", None, 1),
            header("x-set", "1", None, 2),
            header("x-new-set", "1", None, 2),
            header("x-present", "1", None, 3),
            header("x-new-present", "1", None, 3),
            header("x-old-append", "1", Some(true), 0),
            header("x-new-old-append", "1", Some(true), 0),
            header("x-old-set", "1", Some(false), 0),
            header("X-Case", "1", None, 2),
        ],
        headers_to_remove: vec!["x-gone".to_owned(), "host".to_owned(), ":path".to_owned()],
        response_headers_to_add: vec![
            header("x-resp-add", "1", None, 0),
            header("x-resp-absent", "1", None, 1),
            header("x-resp-new-absent", "1", None, 1),
            header("x-resp-set", "1", None, 2),
            header("x-resp-present", "1", None, 3),
            header("x-resp-new-present", "1", None, 3),
            header("x-resp-old", "1", Some(true), 0),
            header("x-resp-old-set", "1", Some(false), 0),
        ],
        ..OkHttpResponse::default()
    }
}
