//! Fetching one document by HTTP, for whoever needs no list of targets.
//!
//! In: a URL. Out: the body. Bounded in time and in size; a redirection is not followed, for it may lead anywhere.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Got, exchange, tls};

/// Fetches a document of at most `most` bytes.
///
/// # Errors
/// Why there is none, in words.
pub async fn get(url: &str, within: Duration, most: usize) -> Result<Bytes, String> {
    let fetched = tokio::time::timeout(within, fetch(url)).await;
    let body = fetched.unwrap_or_else(|_| Err(format!("it does not answer within {within:?}")))?;
    if body.len() > most { Err(format!("its answer is larger than {most} bytes")) } else { Ok(body) }
}

async fn fetch(url: &str) -> Result<Bytes, String> {
    let url: Uri = url.parse().map_err(|e| format!("{e}"))?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("hawser-discovery/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|e| e.to_string())?;
    let stream = TcpStream::connect((host, port)).await.map_err(|e| format!("it can't be reached: {e}"))?;
    let Got { status, body, .. } = if secure {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host}: {e}"))?;
        let stream = TlsConnector::from(tls(None).await?).connect(name, stream).await;
        exchange(stream.map_err(|e| format!("TLS fails: {e}"))?, request).await?
    } else {
        exchange(stream, request).await?
    };
    match status {
        StatusCode::OK => Ok(body),
        status if status.is_redirection() => {
            Err(format!("it answers {status}; redirections are not followed, write the final URL"))
        }
        status => Err(format!("it answers {status}")),
    }
}
