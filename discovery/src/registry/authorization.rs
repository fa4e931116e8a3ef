//! Services that policies of CUSTOM ask: a setting of the whole mesh.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_api::istio::mesh_config::{ExtAuthzHttp, ExtAuthzRequestBody, ExtensionProvider};
use hawser_mesh::Hostname;

/// How long an answer may take, unless it is said: as in Istio.
const TIMEOUT: Duration = Duration::from_secs(600);

/// All of them, by name.
pub type AuthzProviders = BTreeMap<String, AuthzProvider>;

/// A service that is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthzProvider {
    /// The service.
    pub host: Hostname,
    /// Its namespace, if that is said.
    pub namespace: Option<String>,
    /// The service's port.
    pub port: u16,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Without an answer, it is a yes.
    pub fail_open: bool,
    /// What a client is told without an answer; 403, if absent.
    pub status_on_error: Option<u16>,
    /// Whether what an answer changes has a say in where the request goes.
    pub clear_route_cache: bool,
    /// How much of a request's body it is told.
    pub body: Option<ExtAuthzRequestBody>,
    /// How it is asked.
    pub asks: Asks,
}

/// How a service is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asks {
    /// Envoy's service over gRPC.
    Grpc,
    /// With the request's own head; it answers with a status.
    Http(Box<ExtAuthzHttp>),
}

impl AuthzProvider {
    /// The provider that is written, if it is one of authorization.
    pub fn new(written: &ExtensionProvider) -> Option<Self> {
        // Two types that say the same of how somebody is reached.
        macro_rules! provider {
            ($written:expr, $asks:expr) => {{
                let (namespace, host) = service(&$written.service)?;
                Some(Self {
                    host,
                    namespace,
                    port: $written.port.get(),
                    timeout: $written.timeout.map_or(TIMEOUT, |t| t.get()),
                    fail_open: $written.fail_open,
                    status_on_error: $written.status_on_error.parse().ok(),
                    clear_route_cache: $written.clear_route_cache,
                    body: $written.include_request_body_in_check.clone(),
                    asks: $asks,
                })
            }};
        }
        match (&written.envoy_ext_authz_http, &written.envoy_ext_authz_grpc) {
            (Some(http), _) => provider!(http, Asks::Http(Box::new(http.clone()))),
            (None, Some(grpc)) => provider!(grpc, Asks::Grpc),
            (None, None) => None,
        }
    }
}

/// `namespace/host`, or `host`.
fn service(text: &str) -> Option<(Option<String>, Hostname)> {
    let (namespace, host) = text.split_once('/').map_or((None, text), |(ns, host)| (Some(ns.to_owned()), host));
    Some((namespace, host.parse().ok()?))
}
