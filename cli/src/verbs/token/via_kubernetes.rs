//! `hawser token create --via-kubernetes`: a join token for whoever has the right to ask for one in a cluster.
//!
//! In: flags, a kubeconfig. Out: the token, as without the cluster. A JoinTokenRequest with a public key made for it alone goes
//! to the API server; discovery answers in its status, sealed for that key. Invariant: the request does not outlive the
//! command, as far as that can be helped.

use std::time::Duration;

use hawser_api::join_request::{GROUP, KIND, Object, Opener, PLURAL, Port, Sealed, Spec, Status, VERSION};
use hawser_api::token::JoinToken;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{TokenCreate, Via};
use crate::failure::{Failure, Outcome, printable};
use crate::output::{self, Format};
use crate::{exit, terminal};

/// How long discovery may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Longest wait for an answer of the API server.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest answer.
const MOST: usize = 2 << 20;

/// Makes a token.
pub(super) async fn create(format: Format, create: TokenCreate) -> Outcome {
    let (client, own) = client(&create.via).await?;
    let (namespace, group) = match create.group.split_once('/') {
        Some((namespace, group)) => (namespace.to_owned(), group.to_owned()),
        None => (own, create.group.clone()),
    };
    let opener = Opener::new().map_err(|error| Failure::new(exit::FAILURE, error.to_string()))?;
    let spec = spec(create, group.clone(), &opener)?;
    let requests = Requests { client, namespace };
    let made = requests.make(&spec).await?;
    let answered = requests.answered(&made).await;
    requests.delete(&made).await;
    let status = answered?;
    let token = open(&opener, &requests.namespace, &made, &status)?;
    for warning in &status.warnings {
        terminal::warn(warning);
    }
    show(format, &token, &status, &requests.namespace, &group)
}

fn show(format: Format, token: &str, status: &Status, namespace: &str, group: &str) -> Outcome {
    if format == Format::Table {
        output::text(&format!("{token}\n"))?;
        eprintln!("token {} lets hosts join {namespace}/{group}", printable(&status.token_id));
        return Ok(exit::OK);
    }
    #[derive(Serialize)]
    struct Created<'a> {
        token: &'a str,
        id: &'a str,
        namespace: &'a str,
        group: &'a str,
    }
    output::value(format, &Created { token, id: &status.token_id, namespace, group })?;
    Ok(exit::OK)
}

/// The token of an answer, which must be one.
fn open(opener: &Opener, namespace: &str, made: &Made, status: &Status) -> Outcome<String> {
    let sealed =
        Sealed { encapsulated_key: status.encapsulated_key.clone(), sealed_token: status.sealed_token.clone() };
    let object = Object { namespace, name: &made.name, uid: &made.uid };
    let token = opener.open(&sealed, object).map_err(|error| Failure::new(exit::FAILURE, error.to_string()))?;
    let read: JoinToken = token.parse().map_err(|error| Failure::new(exit::FAILURE, format!("the answer: {error}")))?;
    if read.id != status.token_id {
        return Err(Failure::new(exit::FAILURE, "the answer holds another token than it says"));
    }
    Ok(token)
}

fn spec(create: TokenCreate, group: String, opener: &Opener) -> Outcome<Spec> {
    let ttl = i64::try_from(create.ttl.as_secs().max(1));
    Ok(Spec {
        group,
        ports: create.ports.into_iter().map(|port| Port { name: port.name, number: port.port.into() }).collect(),
        labels: create.labels.into_iter().collect(),
        service_account: create.service_account.unwrap_or_default(),
        ttl_seconds: Some(ttl.map_err(|_| Failure::new(exit::USAGE, "--ttl: a token lives 1 second to 90 days"))?),
        uses: Some(create.uses.into()),
        source_cidrs: create.sources,
        public_key: opener.public_key(),
    })
}

/// A client of the cluster, and the namespace that its context names.
async fn client(via: &Via) -> Outcome<(Client, String)> {
    let options = KubeConfigOptions { context: via.context.clone(), ..KubeConfigOptions::default() };
    let hint = "name one with --kubeconfig or KUBECONFIG, and a context of it with --context";
    let unusable = |error: &dyn std::error::Error| {
        Failure::new(exit::INVALID, format!("the kubeconfig can't be used: {}", deepest(error))).hint(hint)
    };
    let config = match &via.kubeconfig {
        Some(file) => {
            let read = Kubeconfig::read_from(file).map_err(|error| {
                Failure::new(exit::INVALID, format!("--kubeconfig {}: {}", file.display(), deepest(&error))).hint(hint)
            })?;
            Config::from_custom_kubeconfig(read, &options).await.map_err(|error| unusable(&error))?
        }
        None => Config::from_kubeconfig(&options).await.map_err(|error| unusable(&error))?,
    };
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| unusable(&error))?;
    Ok((client, namespace))
}

/// A request that was made.
struct Made {
    name: String,
    uid: String,
}

/// The requests of a namespace.
struct Requests {
    client: Client,
    namespace: String,
}

impl Requests {
    fn path(&self) -> String {
        format!("/apis/{GROUP}/{VERSION}/namespaces/{}/{PLURAL}", self.namespace)
    }

    async fn make(&self, spec: &Spec) -> Outcome<Made> {
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND,
            "metadata": {"generateName": "join-", "namespace": self.namespace}, "spec": spec,
        });
        let (status, answer) =
            self.ask(Method::POST, &format!("{}?fieldValidation=Strict", self.path()), Some(&object)).await?;
        let text = |at: &str| answer.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        match status {
            StatusCode::CREATED | StatusCode::OK => Ok(Made { name: text("/metadata/name"), uid: text("/metadata/uid") }),
            StatusCode::NOT_FOUND => Err(Failure::new(
                exit::NOT_FOUND,
                format!("the cluster does not know {PLURAL}.{GROUP}, or has no namespace {}", self.namespace),
            )
            .hint("its owner applies what `hawser manifest generate` prints: docs/kubernetes.md")),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(Failure::new(exit::FAILURE, said(&answer, status))
                .hint(format!(
                    "whoever runs namespace {} gives the right: kubectl create rolebinding … --clusterrole=hawser-join-tokens",
                    self.namespace
                ))),
            _ => Err(Failure::new(exit::INVALID, said(&answer, status))),
        }
    }

    /// What discovery made of a request.
    async fn answered(&self, made: &Made) -> Outcome<Status> {
        let path = format!("{}/{}", self.path(), made.name);
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            let (code, answer) = self.ask(Method::GET, &path, None).await?;
            if code == StatusCode::NOT_FOUND {
                return Err(Failure::new(exit::FAILURE, "the request was deleted before anybody answered it"));
            }
            if code == StatusCode::OK {
                let status: Status = serde_json::from_value(answer["status"].clone()).unwrap_or_default();
                match status.ready().map(|ready| (ready.status.as_str(), ready)) {
                    Some(("True", _)) => return Ok(status),
                    Some(("False", ready)) => return Err(Failure::new(exit::INVALID, printable(&ready.message))),
                    _ => {}
                }
            } else if !code.is_server_error() && code != StatusCode::TOO_MANY_REQUESTS {
                return Err(Failure::new(exit::FAILURE, said(&answer, code)));
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Failure::new(exit::FAILURE, format!("nobody answered the request within {} s", PATIENCE.as_secs())).hint(
            "is this cluster in discovery's registries.yaml, and may discovery answer? docs/kubernetes.md has its role",
        ))
    }

    async fn delete(&self, made: &Made) {
        let path = format!("{}/{}", self.path(), made.name);
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": made.uid}});
        let deleted = self.ask(Method::DELETE, &path, Some(&options)).await;
        if !deleted.is_ok_and(|(code, _)| code.is_success() || code == StatusCode::NOT_FOUND) {
            let (namespace, name) = (&self.namespace, &made.name);
            terminal::warn(&format!("{PLURAL} {namespace}/{name} is still there; discovery removes it in ten minutes"));
        }
    }

    async fn ask(&self, method: Method, path: &str, object: Option<&Value>) -> Outcome<(StatusCode, Value)> {
        let body = object.map(|object| Body::from(object.to_string().into_bytes())).unwrap_or_else(Body::empty);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("hawser/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| Failure::new(exit::INVALID, format!("{path}: {error}")))?;
        let asked = async {
            let answer = self.client.send(request).await.map_err(|error| deepest(&error))?;
            let (head, body) = answer.into_parts();
            let text = Limited::new(body, MOST).collect().await.map_err(|error| error.to_string())?.to_bytes();
            let plain = || String::from_utf8_lossy(&text).trim().into();
            Ok((head.status, serde_json::from_slice(&text).unwrap_or_else(|_| plain())))
        };
        let answer: Result<_, String> =
            tokio::time::timeout(ANSWER, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        answer.map_err(|why| Failure::new(exit::FAILURE, format!("the API server can't be asked: {}", printable(&why))))
    }
}

/// What the API server says, where it does not do what it should.
fn said(answer: &Value, code: StatusCode) -> String {
    let text = answer["message"].as_str().or(answer.as_str()).unwrap_or_default();
    let text: String = text.chars().take(500).collect();
    if text.is_empty() { format!("the API server answers {code}") } else { printable(&text) }
}

/// The innermost cause says it best.
fn deepest(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => deepest(source),
        None => printable(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::join_request;

    use super::*;

    fn made() -> Made {
        Made { name: "join-x".to_owned(), uid: "u-1".to_owned() }
    }

    #[test]
    fn what_was_sealed_for_somebody_else_or_is_another_token_is_refused() {
        let (opener, other) = (Opener::new().unwrap(), Opener::new().unwrap());
        let token = JoinToken {
            addresses: vec!["10.0.0.1:15012".into()],
            trust_domain: "cluster.local".parse().unwrap(),
            pins: vec![hawser_api::token::Pin([7; 32])],
            id: "abc".into(),
            secret: "s3cret".into(),
        };
        let answer = |text: &str, id: &str| {
            let object = Object { namespace: "shop", name: "join-x", uid: "u-1" };
            let sealed = join_request::seal(text, &opener.public_key(), object).unwrap();
            let Sealed { encapsulated_key, sealed_token } = sealed;
            Status { token_id: id.to_owned(), encapsulated_key, sealed_token, ..Status::default() }
        };
        let good = answer(&token.reveal(), "abc");
        assert_eq!(open(&opener, "shop", &made(), &good).unwrap(), token.reveal());
        assert!(open(&other, "shop", &made(), &good).is_err());
        assert!(open(&opener, "pay", &made(), &good).is_err());
        assert!(open(&opener, "shop", &made(), &answer(&token.reveal(), "other")).is_err());
        assert!(open(&opener, "shop", &made(), &answer("rm -rf /", "abc")).is_err());
        assert!(open(&opener, "shop", &made(), &Status::default()).is_err());
    }
}
