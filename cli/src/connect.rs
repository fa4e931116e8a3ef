//! Connections to the two Unix sockets.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hawser_api::proto::admin::admin_client::AdminClient;
use hawser_api::proto::agent::agent_client::AgentClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::exit;
use crate::failure::{Failure, Outcome};

const CONNECT: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: usize = 256 << 20;

/// Whose socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The agent on this host.
    Agent,
    /// Discovery on this host.
    Discovery,
}

impl Side {
    fn variable(self) -> &'static str {
        match self {
            Self::Agent => "HAWSER_AGENT_SOCKET",
            Self::Discovery => "HAWSER_ADMIN_SOCKET",
        }
    }

    fn default_path(self) -> &'static str {
        match self {
            Self::Agent => "/run/hawser/agent.sock",
            Self::Discovery => "/run/hawser-discovery/admin.sock",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Agent => "hawser-agent",
            Self::Discovery => "hawser-discovery",
        }
    }

    /// Where the socket is: the command line, else the environment, else the usual place.
    pub(crate) fn path(self, given: Option<&Path>) -> PathBuf {
        match (given, std::env::var_os(self.variable())) {
            (Some(path), _) => path.to_owned(),
            (None, Some(path)) if !path.is_empty() => path.into(),
            _ => self.default_path().into(),
        }
    }
}

/// A client of discovery.
pub(crate) async fn admin(given: Option<&Path>) -> Outcome<AdminClient<Channel>> {
    Ok(AdminClient::new(channel(Side::Discovery, given).await?).max_decoding_message_size(LARGEST_ANSWER))
}

/// A client of the agent.
pub(crate) async fn agent(given: Option<&Path>) -> Outcome<AgentClient<Channel>> {
    Ok(AgentClient::new(channel(Side::Agent, given).await?).max_decoding_message_size(LARGEST_ANSWER))
}

async fn channel(side: Side, given: Option<&Path>) -> Outcome<Channel> {
    let path = side.path(given);
    let stream = match tokio::time::timeout(CONNECT, UnixStream::connect(&path)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refused(side, &path, &error)),
        Err(_) => return Err(refused(side, &path, &ErrorKind::TimedOut.into())),
    };
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_| {
        // One connection a command: a second one would hide that the first was lost.
        let stream = stream.take().ok_or_else(|| std::io::Error::from(ErrorKind::ConnectionReset));
        async move { stream.map(TokioIo::new) }
    });
    Endpoint::from_static("http://socket")
        .connect_with_connector(connector)
        .await
        .map_err(|error| Failure::new(exit::NO_SOCKET, format!("{} does not answer: {error}", path.display())))
}

fn refused(side: Side, path: &Path, error: &std::io::Error) -> Failure {
    let (unit, path) = (side.unit(), path.display());
    let failure = |text: String| Failure::new(exit::NO_SOCKET, text);
    match error.kind() {
        ErrorKind::NotFound => failure(format!("{unit} is not running here: there is no socket {path}"))
            .hint(format!("start it (systemctl start {unit}), or name its socket with --socket or {}", side.variable()))
            .absence(),
        ErrorKind::ConnectionRefused => failure(format!("{unit} is not running: nobody listens on {path}"))
            .hint(format!("start it: systemctl start {unit}"))
            .absence(),
        ErrorKind::PermissionDenied => {
            failure(format!("you may not open {path}")).hint("run it with sudo, or join the socket's group")
        }
        _ => failure(format!("{path} can't be opened: {error}")),
    }
}
