//! `hawser.host.v1.Host` on the TLS port: who calls, and which verb it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::proto::host::host_server::Host;
use hawser_api::proto::host::join_response::Kind;
use hawser_api::proto::host::{
    Challenge, ConnectBackRequest, ConnectBackResponse, ConnectBackResult, HelloRequest, HelloResponse, JoinRequest,
    JoinResponse, Joined, RejoinRequest, SessionRequest, SessionResponse, SignRequest, SignResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::connect_back::MOST_PORTS;
use super::{Binding, Hosts, Refusal, session};
use crate::ads;
use crate::peer::Peer;

/// Time for the one request after the challenge.
const ANSWER: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone)]
pub struct HostService {
    hosts: Hosts,
    ads: ads::Server,
}

impl HostService {
    /// The service of all hosts; `ads` knows which proxies hold their endpoints.
    pub fn new(hosts: Hosts, ads: ads::Server) -> Self {
        Self { hosts, ads }
    }

    /// What this server is.
    pub fn hello(hosts: &Hosts) -> HelloResponse {
        HelloResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: Vec::new(),
            trust_domain: hosts.mesh().trust_domain.to_string(),
            virtual_ranges: hosts.inner.settings.virtual_ranges.iter().map(ToString::to_string).collect(),
            now: Some(std::time::SystemTime::now().into()),
        }
    }

    /// Challenge, one request, one answer.
    fn exchange<R, F, A>(&self, request: Request<Streaming<R>>, verb: &'static str, answer: A) -> Answered<JoinResponse>
    where
        R: Send + 'static,
        F: Future<Output = Result<Joined, Refusal>> + Send,
        A: FnOnce(Hosts, R, Peer, Binding) -> F + Send + 'static,
    {
        let peer = peer(&request)?.clone();
        let exporter = peer.exporter.ok_or_else(|| Status::unauthenticated("this call needs TLS"))?;
        let binding = Binding { nonce: rand::random(), exporter };
        let (out, answers) = mpsc::channel(2);
        let hosts = self.hosts.clone();
        let mut said = request.into_inner();
        tokio::spawn(async move {
            let challenge = Challenge { nonce: binding.nonce.to_vec(), hello: Some(Self::hello(&hosts)) };
            if out.send(Ok(JoinResponse { kind: Some(Kind::Challenge(challenge)) })).await.is_err() {
                return;
            }
            let request = match tokio::time::timeout(ANSWER, said.message()).await {
                Ok(Ok(Some(request))) => request,
                Ok(Ok(None)) => return,
                Ok(Err(status)) => return drop(out.send(Err(status)).await),
                Err(_) => {
                    let late = Status::deadline_exceeded("no request followed the challenge within 10 seconds");
                    return drop(out.send(Err(late)).await);
                }
            };
            let source = peer.addr;
            let metrics = hosts.inner.metrics.clone();
            let result = match answer(hosts, request, peer, binding).await {
                Ok(joined) => {
                    metrics.join(verb);
                    Ok(JoinResponse { kind: Some(Kind::Joined(joined)) })
                }
                Err(refusal) => {
                    metrics.join(refusal.reason());
                    tracing::info!(%source, reason = refusal.reason(), %refusal, "not {verb}");
                    Err(refusal.into())
                }
            };
            // Who asked may be gone; it asks again and gets the same.
            let _ = out.send(result).await;
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

type Answered<T> = Result<Response<ReceiverStream<Result<T, Status>>>, Status>;

#[tonic::async_trait]
impl Host for HostService {
    type JoinStream = ReceiverStream<Result<JoinResponse, Status>>;
    type RejoinStream = ReceiverStream<Result<JoinResponse, Status>>;
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(Self::hello(&self.hosts)))
    }

    async fn join(&self, request: Request<Streaming<JoinRequest>>) -> Answered<JoinResponse> {
        self.exchange(request, "joined", |hosts, request, peer, binding| async move {
            hosts.join(request, &peer, &binding).await
        })
    }

    async fn rejoin(&self, request: Request<Streaming<RejoinRequest>>) -> Answered<JoinResponse> {
        self.exchange(
            request,
            "rejoined",
            |hosts, request, _, binding| async move { hosts.rejoin(request, &binding).await },
        )
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let (id, _) = host_of(&request)?;
        Ok(Response::new(self.hosts.sign(&id, request.into_inner()).await?))
    }

    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Answered<SessionResponse> {
        let (id, source) = host_of(&request)?;
        self.hosts.record_of(&id)?;
        let (out, answers) = mpsc::channel(session::QUEUE);
        tokio::spawn(self.hosts.clone().serve(id, source, request.into_inner(), out, self.ads.clone()));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn connect_back(
        &self,
        request: Request<ConnectBackRequest>,
    ) -> Result<Response<ConnectBackResponse>, Status> {
        let (id, _) = host_of(&request)?;
        let record = self.hosts.record_of(&id)?;
        let asked = request.into_inner().ports;
        if asked.len() > MOST_PORTS {
            return Err(Status::invalid_argument("at most 64 ports are looked at"));
        }
        let declared =
            |port: u32| port == 22 || record.workloads.iter().any(|w| w.workload.ports.iter().any(|p| p.port == port));
        let mut ports = Vec::new();
        for port in asked {
            let number = u16::try_from(port).ok().filter(|_| declared(port));
            ports.push(number.ok_or_else(|| Status::invalid_argument(format!("port {port} is not declared")))?);
        }
        let address = record.addresses.first().and_then(|a| a.address.parse::<IpAddr>().ok());
        let address = address.ok_or_else(|| Status::failed_precondition("this host has no address on record"))?;
        let seen = self.hosts.inner.connect_back.look(address, &ports).await;
        let result = |(port, outcome)| ConnectBackResult { port: u32::from(port), outcome: i32::from(outcome) };
        Ok(Response::new(ConnectBackResponse { results: seen.into_iter().map(result).collect() }))
    }
}

fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request.extensions().get().ok_or_else(|| Status::internal("this listener does not say who its peers are"))
}

/// The joined host that calls, and from where.
fn host_of<T>(request: &Request<T>) -> Result<(Arc<str>, IpAddr), Status> {
    let peer = peer(request)?;
    let id = peer.identity.as_ref().and_then(|id| id.host());
    let id = id.ok_or_else(|| {
        Status::unauthenticated("this call needs the certificate of a joined host; workload certificates open nothing")
    })?;
    Ok((id.into(), peer.addr.ip()))
}
