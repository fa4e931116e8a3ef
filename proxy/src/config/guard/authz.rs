//! Who else is asked about requests and connections: Envoy's external authorization, checked.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::proto::core::{GrpcService, grpc_service, http_uri};
use hawser_api::proto::envoy::extensions::filters::http::ext_authz::v3 as proto;
use hawser_api::proto::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as TcpExtAuthz;
use hawser_api::proto::envoy::r#type::matcher::v3::{
    ListStringMatcher, MetadataMatcher, metadata_matcher::path_segment::Segment, value_matcher::MatchPattern,
};
use hawser_routing::StringMatch;
use http::{HeaderName, HeaderValue};
use prost::Message as _;

use crate::config::proto::{At as _, Refused, refuse, timeout};
use crate::guard::Marks;

/// How long an answer may take, unless it is said.
const TIMEOUT: Duration = Duration::from_millis(200);
/// The most that is held of a body.
const LARGEST_BODY: u32 = 1 << 20;

/// Somebody who is asked.
#[derive(Debug)]
pub struct Authz {
    /// About what; about everything, if absent.
    pub when: Option<When>,
    /// The cluster.
    pub cluster: Arc<str>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Without an answer, it is a yes.
    pub fail_open: bool,
    /// What a client is told without an answer.
    pub status_on_error: u16,
    /// How much of a body is sent along.
    pub body: Option<Body>,
    /// Fields that are sent along; all, if absent, or over HTTP none but a few.
    pub fields: Option<Names>,
    /// How.
    pub asks: Asks,
    /// Tells equal ones.
    pub fingerprint: u64,
}

/// What a filter before has written down.
#[derive(Debug)]
pub struct When {
    filter: String,
    key: String,
    value: StringMatch,
    invert: bool,
}

/// How much of a body is sent along.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Most bytes.
    pub most: usize,
    /// Of a longer one, its beginning; else it is refused.
    pub part: bool,
    /// As bytes, not as text.
    pub raw: bool,
}

/// How somebody is asked.
#[derive(Debug)]
pub enum Asks {
    /// Envoy's service over gRPC.
    Grpc {
        /// Its name.
        authority: String,
    },
    /// With the request's own head.
    Http(Box<OverHttp>),
}

/// Asking with the request's own head.
#[derive(Debug)]
pub struct OverHttp {
    /// What stands before the path.
    pub prefix: String,
    /// Fields that are added.
    pub adds: Vec<(HeaderName, HeaderValue)>,
    /// Fields of a consent that the application gets.
    pub to_upstream: Names,
    /// Fields of a refusal that the client gets; all, if absent.
    pub to_client: Option<Names>,
    /// Fields of a consent that the client gets.
    pub to_client_on_success: Names,
}

/// Names of fields.
#[derive(Debug, Default)]
pub struct Names(Box<[StringMatch]>);

impl Names {
    fn new(list: Option<&ListStringMatcher>) -> Result<Self, Refused> {
        list.into_iter().flat_map(|l| &l.patterns).map(StringMatch::new).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|one| one.matches(name))
    }
}

impl When {
    fn new(matcher: &MetadataMatcher) -> Result<Self, Refused> {
        let [step] = matcher.path.as_slice() else { refuse!("path: exactly one key is supported") };
        let Some(Segment::Key(key)) = &step.segment else { refuse!("path: a key is missing") };
        let Some(MatchPattern::StringMatch(value)) = matcher.value.as_ref().and_then(|v| v.match_pattern.as_ref())
        else {
            refuse!("value: only string_match is supported");
        };
        Ok(Self {
            filter: matcher.filter.clone(),
            key: key.clone(),
            value: StringMatch::new(value)?,
            invert: matcher.invert,
        })
    }
}

impl Authz {
    /// A filter of requests.
    pub(super) fn of_http(config: &proto::ExtAuthz) -> Result<Self, Refused> {
        use proto::ext_authz::Services;
        let ((cluster, timeout), asks) = match &config.services {
            Some(Services::GrpcService(service)) => {
                let (cluster, authority, timeout) = grpc(service).at("grpc_service")?;
                ((cluster, timeout), Asks::Grpc { authority })
            }
            Some(Services::HttpService(service)) => {
                let to = over_http(service).at("http_service")?;
                (to, Asks::Http(Box::new(OverHttp::new(service).at("http_service")?)))
            }
            None => refuse!("services is missing"),
        };
        let body = match &config.with_request_body {
            None => None,
            Some(body) if body.max_request_bytes == 0 || body.max_request_bytes > LARGEST_BODY => {
                refuse!("with_request_body.max_request_bytes: 1 to {LARGEST_BODY}");
            }
            Some(body) => Some(Body {
                most: body.max_request_bytes as usize,
                part: body.allow_partial_message,
                raw: body.pack_as_bytes,
            }),
        };
        let status = config.status_on_error.map_or(0, |status| status.code);
        Ok(Self {
            when: config.filter_enabled_metadata.as_ref().map(When::new).transpose().at("filter_enabled_metadata")?,
            cluster,
            timeout,
            fail_open: config.failure_mode_allow,
            status_on_error: u16::try_from(status).ok().filter(|s| (200..600).contains(s)).unwrap_or(403),
            body,
            fields: match &config.allowed_headers {
                None => None,
                some => Some(Names::new(some.as_ref()).at("allowed_headers")?),
            },
            asks,
            fingerprint: fingerprint(&config.encode_to_vec()),
        })
    }

    /// A filter of connections.
    pub(super) fn of_tcp(config: &TcpExtAuthz) -> Result<Self, Refused> {
        let Some(service) = &config.grpc_service else { refuse!("grpc_service is missing") };
        let (cluster, authority, timeout) = grpc(service).at("grpc_service")?;
        Ok(Self {
            when: config.filter_enabled_metadata.as_ref().map(When::new).transpose().at("filter_enabled_metadata")?,
            cluster,
            timeout,
            fail_open: config.failure_mode_allow,
            status_on_error: 403,
            body: None,
            fields: None,
            asks: Asks::Grpc { authority },
            fingerprint: fingerprint(&config.encode_to_vec()),
        })
    }

    /// Whether it is asked about what filters before have marked so.
    pub fn is_asked(&self, marks: &Marks) -> bool {
        let Some(when) = &self.when else { return true };
        marks.find(&when.filter, &when.key).is_some_and(|text| when.value.matches(text)) != when.invert
    }
}

impl OverHttp {
    fn new(service: &proto::HttpService) -> Result<Self, Refused> {
        let prefix = service.path_prefix.clone();
        if !prefix.is_empty() && (!prefix.starts_with('/') || !prefix.bytes().all(|b| b.is_ascii_graphic())) {
            refuse!("path_prefix: {prefix:?} is no beginning of a path");
        }
        let mut adds = Vec::new();
        for header in service.authorization_request.iter().flat_map(|request| &request.headers_to_add) {
            let name = HeaderName::from_bytes(header.key.to_ascii_lowercase().as_bytes());
            let value = header.value.replace("%%", "\0");
            if value.contains('%') {
                refuse!("headers_to_add: {:?}: variables such as {:?} are not supported", header.key, header.value);
            }
            match (name, HeaderValue::from_str(&value.replace('\0', "%"))) {
                (Ok(name), Ok(value)) if !FRAMING.contains(&name.as_str()) => adds.push((name, value)),
                _ => refuse!("headers_to_add: {:?} is no header that can be added", header.key),
            }
        }
        let said = service.authorization_response.as_ref();
        let names = |list: Option<&Option<ListStringMatcher>>| Names::new(list.and_then(Option::as_ref));
        let to_client = names(said.map(|s| &s.allowed_client_headers))?;
        Ok(Self {
            prefix,
            adds,
            to_upstream: names(said.map(|s| &s.allowed_upstream_headers))?,
            to_client: Some(to_client).filter(|names| !names.0.is_empty()),
            to_client_on_success: names(said.map(|s| &s.allowed_client_headers_on_success))?,
        })
    }
}

/// What frames a message, or belongs to its connection, nobody else says.
pub const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Cluster, authority, and how long an answer may take.
fn grpc(service: &GrpcService) -> Result<(Arc<str>, String, Duration), Refused> {
    let Some(grpc_service::TargetSpecifier::EnvoyGrpc(to)) = &service.target_specifier else {
        refuse!("envoy_grpc is missing");
    };
    if to.cluster_name.is_empty() {
        refuse!("cluster_name is missing");
    }
    // A cluster's name is no authority.
    let authority = if to.authority.is_empty() { to.cluster_name.replace('|', "_.") } else { to.authority.clone() };
    if HeaderValue::from_str(&authority).is_err() {
        refuse!("authority: {authority:?} can't be one");
    }
    let timeout = timeout("timeout", service.timeout.as_ref())?.unwrap_or(TIMEOUT);
    Ok((to.cluster_name.as_str().into(), authority, timeout))
}

/// Cluster, and how long an answer may take.
fn over_http(service: &proto::HttpService) -> Result<(Arc<str>, Duration), Refused> {
    let Some(uri) = &service.server_uri else { refuse!("server_uri is missing") };
    match &uri.http_upstream_type {
        Some(http_uri::HttpUpstreamType::Cluster(cluster)) if !cluster.is_empty() => {
            Ok((cluster.as_str().into(), timeout("timeout", uri.timeout.as_ref())?.unwrap_or(TIMEOUT)))
        }
        _ => refuse!("server_uri.cluster is missing"),
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
