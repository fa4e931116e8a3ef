//! `agent.sock`: what `hawser` on this host asks for.
//!
//! In: gRPC over a Unix socket; SO_PEERCRED tells who asks. Out: answers of the [`Host`]. Whoever may open the socket
//! (group `hawser`) sees the status; verbs are for root and for the agent's own user.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;

use hawser_api::proto::agent::agent_server::{Agent, AgentServer};
use hawser_api::proto::agent::{
    DoctorRequest, DoctorResponse, JoinHostRequest, LeaveHostRequest, Progress, RedirectRequest, RedirectResponse,
    StatusRequest, StatusResponse,
};
use hawser_api::proto::host::{HelloRequest, HelloResponse};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use crate::host::{Host, Steps};
use crate::refusal::Refusal;

const GROUP: &str = "hawser";

/// Listens and answers.
pub(crate) fn serve(path: &Path, host: Host) -> anyhow::Result<JoinHandle<Result<(), tonic::transport::Error>>> {
    let listener = listen(path, 0o660)?;
    if let Some(group) = nix::unistd::Group::from_name(GROUP)?
        && let Err(error) = nix::unistd::chown(path, None, Some(group.gid))
    {
        tracing::warn!(%error, group = GROUP, "the agent's socket was not given to its group");
    }
    let server = Server::builder().add_service(AgentServer::new(Api { host }));
    Ok(tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener))))
}

/// A Unix socket at a path where an older agent may have left one.
pub(crate) fn listen(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

struct Api {
    host: Host,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Progress, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Api {
    type JoinStream = Answers;
    type LeaveStream = Answers;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let trust_domain = self.host.member().map(|member| member.holder.joined().trust_domain.to_string());
        Ok(Response::new(HelloResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            features: Vec::new(),
            trust_domain: trust_domain.unwrap_or_default(),
            ..HelloResponse::default()
        }))
    }

    async fn join(&self, request: Request<JoinHostRequest>) -> Result<Response<Answers>, Status> {
        only_root(&request)?;
        let host = self.host.clone();
        let request = request.into_inner();
        Ok(progress(|steps| async move { host.join(request, &steps).await }))
    }

    async fn leave(&self, request: Request<LeaveHostRequest>) -> Result<Response<Answers>, Status> {
        only_root(&request)?;
        let host = self.host.clone();
        let request = request.into_inner();
        Ok(progress(|steps| async move { host.leave(request, &steps).await }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.host.status().await))
    }

    async fn redirect(&self, request: Request<RedirectRequest>) -> Result<Response<RedirectResponse>, Status> {
        let verb = request.get_ref().verb();
        Ok(Response::new(self.host.redirect(verb).await.map_err(Refusal::from)?))
    }

    async fn doctor(&self, request: Request<DoctorRequest>) -> Result<Response<DoctorResponse>, Status> {
        if !request.get_ref().token.is_empty() {
            // It makes us connect to wherever the token says.
            only_root(&request)?;
        }
        Ok(Response::new(self.host.doctor(&request.get_ref().token).await?))
    }
}

/// Runs a verb to its end, whether or not somebody still listens to its progress.
fn progress<F, Work>(work: F) -> Response<Answers>
where
    F: FnOnce(Steps) -> Work,
    Work: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(64);
    let work = work(Steps::new(sender.clone()));
    tokio::spawn(async move {
        if let Err(refusal) = work.await {
            let _ = sender.send(Err(refusal.into())).await;
        }
    });
    Response::new(Box::pin(ReceiverStream::new(receiver)))
}

fn only_root<T>(request: &Request<T>) -> Result<(), Status> {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    let own = nix::unistd::geteuid().as_raw();
    if peer.is_some_and(|peer| peer.uid() == 0 || peer.uid() == own) {
        return Ok(());
    }
    Err(Status::permission_denied("only root may do this: use sudo"))
}
