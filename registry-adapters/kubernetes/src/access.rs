//! The way to a cluster's API server: address, credentials, roots.
//!
//! In: where they are: this pod's own account, a kubeconfig file, a kubeconfig that another cluster keeps. Out: answers.
//! What is read from files is read again when it no longer works. Invariant: no credential is in any message.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::watch::Failure;

/// Longest time for a connection to stand.
const CONNECT: Duration = Duration::from_secs(10);
/// Time between two readings of credentials that do not work.
const AGAIN: Duration = Duration::from_secs(5);
const JSON: &str = "application/json";
/// Largest refusal that is read, and largest object.
const REFUSAL: usize = 1 << 20;
/// Largest kubeconfig.
const MOST: u64 = 4 << 20;

/// Where credentials are.
#[derive(Clone)]
pub(crate) enum Source {
    /// This pod's own account.
    InCluster,
    /// A file, and which of its contexts; the current one unless said.
    File { file: PathBuf, context: Option<String> },
    /// What another cluster keeps; nothing as long as that was not heard.
    Kept(watch::Receiver<Option<Arc<Kubeconfig>>>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster => f.write_str("InCluster"),
            Self::File { file, context } => f.debug_tuple("File").field(file).field(context).finish(),
            Self::Kept(_) => f.write_str("Kept"),
        }
    }
}

/// The way to one API server.
#[derive(Debug)]
pub(crate) struct Access {
    source: Source,
    state: Mutex<State>,
    /// One reads credentials, others wait.
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    made: Option<Instant>,
    /// It was refused or did not get through: what it was made of may have changed.
    doubted: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("made", &self.made).finish_non_exhaustive()
    }
}

impl Access {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, state: Mutex::default(), making: tokio::sync::Mutex::default() }
    }

    /// Asks for a path with its query. `meta`: of objects, this kind of `meta.k8s.io/v1` is enough.
    pub(crate) async fn get(&self, path: &str, meta: Option<&str>) -> Result<Body, Failure> {
        let accept = match meta {
            Some(kind) => format!("application/json;as={kind};g=meta.k8s.io;v=v1,application/json"),
            None => JSON.to_owned(),
        };
        self.send(Request::get(path).header(header::ACCEPT, accept), Body::empty()).await.map(|(_, body)| body)
    }

    /// Creates an object, in JSON, and says what became of it.
    pub(crate) async fn post(&self, path: &str, object: Vec<u8>) -> Result<Bytes, Failure> {
        let request = Request::post(path).header(header::ACCEPT, JSON).header(header::CONTENT_TYPE, JSON);
        crate::watch::whole(self.send(request, Body::from(object)).await?.1, REFUSAL).await
    }

    /// Changes something, and says what became of it: whether it is new, and the object or a `Status`.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<(bool, Bytes), Failure> {
        let request =
            Request::builder().method(method).uri(path).header(header::ACCEPT, JSON).header(header::CONTENT_TYPE, kind);
        let (status, body) = self.send(request, Body::from(body)).await?;
        Ok((status == StatusCode::CREATED, crate::watch::whole(body, REFUSAL).await?))
    }

    async fn send(&self, request: http::request::Builder, body: Body) -> Result<(StatusCode, Body), Failure> {
        let client = self.client().await?;
        let request = request
            .header(header::USER_AGENT, concat!("hawser-discovery/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let answer = client.send(request).await.map_err(|error| failure(&error))?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok((head.status, body));
        }
        let after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = crate::watch::whole(body, REFUSAL).await.unwrap_or_default();
        Err(Failure::of_answer(head.status.as_u16(), after, &text))
    }

    /// What was asked failed: credentials may be other ones by now.
    pub(crate) fn failed(&self, failure: &Failure) {
        if matches!(failure, Failure::Unauthorized(_) | Failure::Unreachable(_)) {
            self.state.lock().doubted = true;
        }
    }

    /// Credentials changed: the next question uses the new ones.
    pub(crate) fn forget(&self) {
        *self.state.lock() = State::default();
    }

    async fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = self.made() {
            return Ok(client);
        }
        let _making = self.making.lock().await;
        if let Some(client) = self.made() {
            return Ok(client);
        }
        let made = self.make().await;
        let mut state = self.state.lock();
        state.made = Some(Instant::now());
        match made {
            Ok(client) => {
                (state.client, state.doubted) = (Some(client.clone()), false);
                Ok(client)
            }
            // What there was may still do.
            Err(failure) => state.client.clone().ok_or(failure),
        }
    }

    fn made(&self) -> Option<Client> {
        let state = self.state.lock();
        let again = state.doubted && state.made.is_none_or(|made| made.elapsed() >= AGAIN);
        state.client.clone().filter(|_| !again)
    }

    async fn make(&self) -> Result<Client, Failure> {
        let mut config = match &self.source {
            Source::InCluster => Config::incluster().map_err(|error| {
                Failure::Unauthorized(format!(
                    "this is no pod of a cluster ({error}); name a kubeconfig, or run hawser-discovery in the cluster"
                ))
            })?,
            Source::File { file, context } => {
                let (path, shown) = (file.clone(), file.display());
                let read = tokio::task::spawn_blocking(move || {
                    if std::fs::metadata(&path).is_ok_and(|m| !m.is_file() || m.len() > MOST) {
                        return Err(format!("it is no file of at most {} MiB", MOST >> 20));
                    }
                    Kubeconfig::read_from(&path).map_err(|error| deepest(&error))
                });
                let read = read.await.map_err(|error| Failure::Unauthorized(error.to_string()))?;
                let kubeconfig = read.map_err(|why| Failure::Unauthorized(format!("kubeconfig {shown}: {why}")))?;
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| Failure::Unauthorized(format!("kubeconfig {shown}: {}", deepest(&error))))?
            }
            Source::Kept(kept) => {
                let kubeconfig = kept.borrow().clone();
                let Some(kubeconfig) = kubeconfig else {
                    let why = "its kubeconfig is in a secret of another cluster, which was not heard yet";
                    return Err(Failure::Unauthorized(why.to_owned()));
                };
                Config::from_custom_kubeconfig((*kubeconfig).clone(), &KubeConfigOptions::default())
                    .await
                    .map_err(|error| Failure::Unauthorized(deepest(&error)))?
            }
        };
        config.connect_timeout = Some(CONNECT);
        // Watches last, and how often is asked again is our own affair.
        (config.read_timeout, config.write_timeout, config.default_retry) = (None, None, false);
        // Credentials may come from a program, which takes its time.
        let made = tokio::task::spawn_blocking(move || Client::try_from(config));
        let made = made.await.map_err(|error| Failure::Unauthorized(error.to_string()))?;
        made.map_err(|error| Failure::Unauthorized(deepest(&error)))
    }
}

fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Auth(error) => Failure::Unauthorized(deepest(error)),
        other => Failure::Unreachable(deepest(other)),
    }
}

/// The innermost cause says it best; the outer ones say that there is one.
fn deepest(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => deepest(source),
        None => error.to_string().chars().filter(|c| !c.is_control()).take(300).collect(),
    }
}
