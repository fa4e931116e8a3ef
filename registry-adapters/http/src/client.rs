//! Fetching a list by HTTP.
//!
//! In: a URL, files of secrets and roots. Out: the body, or that it did not change. Invariant: bounded in time and in
//! size; secrets are read from their files for each request and are in no message; a redirection is not followed, for
//! it would take the secrets elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hawser_registry_source::poll::{Answer, Failure, Poll};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue, IF_NONE_MATCH, USER_AGENT,
};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::settings::HttpSd;
use crate::targets::{self, MAX_TEXT, Said};

/// Largest file of secrets.
const MAX_SECRET: u64 = 64 << 10;
/// Where systems keep their roots.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A list that is fetched.
#[derive(Debug)]
pub(crate) struct Client {
    settings: HttpSd,
    /// Of the last answer that was understood.
    tag: Option<HeaderValue>,
    last: Option<Bytes>,
}

impl Client {
    pub(crate) fn new(settings: HttpSd) -> Self {
        Self { settings, tag: None, last: None }
    }

    async fn fetch(&mut self) -> Result<Option<Said>, String> {
        let url: Uri = self.settings.url.parse().map_err(|e| format!("{e}"))?;
        let request = self.request(&url).await?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|e| format!("it can't be reached: {e}"))?;
        let response = if secure {
            let config = tls(self.settings.ca_file.clone()).await?;
            let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host}: {e}"))?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            exchange(stream.map_err(|e| format!("TLS fails: {e}; caFile names the roots that count"))?, request).await?
        } else {
            exchange(stream, request).await?
        };
        let Got { status, tag, json, body } = response;
        if status == StatusCode::NOT_MODIFIED && self.last.is_some() {
            return Ok(None);
        }
        if status != StatusCode::OK {
            let cure = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; look at bearerTokenFile or headersFile",
                status if status.is_redirection() => "; redirections are not followed, write the final URL",
                _ => "",
            };
            return Err(format!("it answers {status}{cure}"));
        }
        if !json {
            return Err("its answer is not application/json: something else answers there".to_owned());
        }
        if self.last.as_ref() == Some(&body) {
            return Ok(None);
        }
        let said = Said { targets: targets::json(&body)?, ..Said::default() };
        (self.tag, self.last) = (tag, Some(body));
        Ok(Some(said))
    }

    async fn request(&self, url: &Uri) -> Result<Request<Empty<Bytes>>, String> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path)
            .header(HOST, url.authority().map_or("", |authority| authority.as_str()))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("hawser-discovery/", env!("CARGO_PKG_VERSION")))
            .header("x-prometheus-refresh-interval-seconds", self.settings.refresh.as_secs_f64().to_string());
        if let Some(tag) = &self.tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        if let Some(file) = &self.settings.bearer_token_file {
            let token = secret(file, "bearerTokenFile").await?;
            let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut value = value.map_err(|_| format!("bearerTokenFile {}: it is no token", file.display()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(file) = &self.settings.headers_file {
            for (number, line) in secret(file, "headersFile").await?.lines().enumerate() {
                if line.trim().is_empty() || line.starts_with('#') {
                    continue;
                }
                let header = line.split_once(':').and_then(|(name, value)| {
                    let mut value = HeaderValue::try_from(value.trim()).ok()?;
                    value.set_sensitive(true);
                    Some((HeaderName::try_from(name.trim()).ok()?, value))
                });
                let (name, value) = header.ok_or_else(|| {
                    format!("headersFile {} line {}: write it as Name: value", file.display(), number + 1)
                })?;
                request = request.header(name, value);
            }
        }
        request.body(Empty::new()).map_err(|e| e.to_string())
    }
}

impl Poll for Client {
    type Answer = Said;

    async fn poll(&mut self) -> Result<Answer<Said>, Failure> {
        let (limit, url) = (self.settings.timeout, self.settings.url.clone());
        let fetched = tokio::time::timeout(limit, self.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("it does not answer within {limit:?}")));
        fetched.map(|said| Answer { said, next: None }).map_err(|why| Failure(format!("{url}: {why}")))
    }
}

pub(crate) struct Got {
    pub(crate) status: StatusCode,
    tag: Option<HeaderValue>,
    json: bool,
    pub(crate) body: Bytes,
}

pub(crate) async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Got, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e: hyper::Error| format!("the exchange broke: {e}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let json = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            value.split(';').next().is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"))
        });
        let body = Limited::new(body, MAX_TEXT).collect().await;
        let body = body.map_err(|e| format!("its answer can't be read ({} MiB are the most): {e}", MAX_TEXT >> 20))?;
        Ok(Got { status: head.status, tag: head.headers.get(ETAG).cloned(), json, body: body.to_bytes() })
    };
    tokio::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            got = &mut answer => return got,
            // What it failed with is what the answer fails with.
            _ = &mut connection, if open => open = false,
        }
    }
}

async fn secret(file: &Path, field: &str) -> Result<String, String> {
    let wrong = |e: String| format!("{field} {}: {e}", file.display());
    let size = tokio::fs::metadata(file).await.map_err(|e| wrong(e.to_string()))?.len();
    if size > MAX_SECRET {
        return Err(wrong("it is larger than 64 KiB".to_owned()));
    }
    tokio::fs::read_to_string(file).await.map_err(|e| wrong(e.to_string()))
}

/// Read anew for each connection: roots are replaced while we run.
pub(crate) async fn tls(file: Option<PathBuf>) -> Result<Arc<ClientConfig>, String> {
    let made = tokio::task::spawn_blocking(move || {
        let found = SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists());
        let file = file.or(found).ok_or("this system has no bundle of roots; name one with caFile")?;
        let mut roots = RootCertStore::empty();
        let wrong = |e: String| format!("caFile {}: {e}", file.display());
        for certificate in CertificateDer::pem_file_iter(&file).map_err(|e| wrong(e.to_string()))? {
            roots.add(certificate.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    });
    made.await.map_err(|e| e.to_string())?
}
