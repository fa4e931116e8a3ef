//! The control endpoint: what a test in another process wants of the double.
//!
//! `POST /apply` (YAML), `/delete` (`{"kind", "name"}`), `/merge` (`{"kind", "name", "change"}`), `/fault` (a fault),
//! `/generate` (a load), `/account` (`{"namespace", "name", "audiences"}`), `/freeze`, `/thaw`, `/stop`, `/start`, `/forget`,
//! `/break`, `/starting` (`{"forbidden_ms", "unavailable_ms"}`), `/advance` (`{"by"}`); `DELETE /faults`, `/requests`;
//! `GET /faults`, `/requests`, `/kubeconfig`, `/object?kind=..&name=..`, `/objects?kind=..&namespace=..`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hawser_kube_double::{Double, Fault, Load};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const LARGEST: usize = 64 << 20;

/// Opens it.
pub(crate) async fn open(address: SocketAddr, double: Arc<Double>) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("the address {address} can't be bound"))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let double = Arc::clone(&double);
            tokio::spawn(async move {
                let service = service_fn(|request| exchange(&double, request));
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // How a connection ends is the client's affair.
                let _ = serving.await;
            });
        }
    });
    Ok(())
}

async fn exchange(double: &Double, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match answer(double, request).await {
        Ok(text) => (200, text),
        Err(error) => (400, format!("{error:#}\n")),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}

async fn answer(double: &Double, request: Request<Incoming>) -> Result<String> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|e| anyhow::anyhow!("{e}"))?.to_bytes();
    let text = std::str::from_utf8(&body)?;
    let given = || -> Result<Value> { serde_json::from_str(text).context("the body is no JSON") };
    let part = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let of_query =
        |key: &str| query.split('&').find_map(|p| p.strip_prefix(&format!("{key}="))).unwrap_or_default().to_owned();
    match (head.method.as_str(), head.uri.path()) {
        ("POST", "/apply") => double.apply(text)?,
        ("POST", "/delete") => {
            let what = given()?;
            if !double.delete(&part(&what, "kind"), &part(&what, "name")) {
                bail!("there is no {} {}", part(&what, "kind"), part(&what, "name"));
            }
        }
        ("POST", "/merge") => {
            let what = given()?;
            return Ok(double.merge(&part(&what, "kind"), &part(&what, "name"), &what["change"])?.to_string());
        }
        ("POST", "/fault") => double.fault(serde_json::from_str::<Fault>(text).context("this is no fault")?),
        ("POST", "/generate") => double.generate(&serde_json::from_str::<Load>(text).context("this is no load")?),
        ("POST", "/account") => {
            let what = given()?;
            let audiences: Vec<&str> =
                what["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            return double.service_account(&part(&what, "namespace"), &part(&what, "name"), &audiences, 86_400);
        }
        ("POST", "/freeze") => double.freeze(),
        ("POST", "/thaw") => double.thaw(),
        ("POST", "/stop") => double.stop().await,
        ("POST", "/start") => double.start_again().await?,
        ("POST", "/forget") => double.forget(),
        ("POST", "/break") => double.break_watches(),
        ("POST", "/advance") => double.advance(given()?["by"].as_u64().context("by how many versions?")?),
        ("POST", "/starting") => {
            let what = given()?;
            let span = |key: &str| Duration::from_millis(what[key].as_u64().unwrap_or(0));
            double.starting(span("forbidden_ms"), span("unavailable_ms"));
        }
        ("DELETE", "/faults") => double.clear_faults(),
        ("DELETE", "/requests") => double.forget_requests(),
        ("GET", "/faults") => {
            let used = double.faults_used();
            return Ok(used
                .iter()
                .map(|(fault, times)| json!({"fault": fault, "used": times}))
                .collect::<Value>()
                .to_string());
        }
        ("GET", "/requests") => return Ok(serde_json::to_string(&double.requests())?),
        ("GET", "/kubeconfig") => return Ok(double.kubeconfig()),
        ("GET", "/object") => {
            let found = double.get(&of_query("kind"), &of_query("name"));
            return Ok(found.context("it is not there")?.to_string());
        }
        ("GET", "/objects") => {
            let namespace = of_query("namespace");
            let namespace = (!namespace.is_empty()).then_some(namespace.as_str());
            return Ok(Value::from(double.list(&of_query("kind"), namespace)).to_string());
        }
        (method, path) => bail!("nobody knows what {method} {path} is to do"),
    }
    Ok(String::new())
}
