//! Joining: from a token to an identity on disk.
//!
//! In: a join token, and a connection to its discovery. Out: a [`Holder`] with record, certificates and roots. The secret is sent only to a server that
//! the token's pin and discovery's identity were verified for; the host key is on disk before anything is asked, so
//! that asking again after a lost answer is the same question.

mod addresses;

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use hawser_api::proto::host::host_client::HostClient;
use hawser_api::proto::host::{HostAddress, JoinRequest, Joined as Answer, Locality, WorkloadCsr};
use hawser_api::token::JoinToken;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::discovery::Connection;
use crate::identity::{Holder, Issued, JOIN, Joined, Key, challenge, host_key, joined, prove};
use crate::refusal::Refusal;
use crate::session::hostname;
use crate::state::StateDir;

const ANSWER: Duration = Duration::from_secs(20);

/// A join as it was asked for.
pub(crate) struct Enrolment {
    pub(crate) token: JoinToken,
    /// To who was found to be discovery.
    pub(crate) connection: Connection,
    pub(crate) addresses: Vec<HostAddress>,
    pub(crate) locality: Option<Locality>,
}

/// Gets an identity and keeps it.
pub(crate) async fn enroll(state: &StateDir, enrolment: Enrolment) -> Result<Holder, Refusal> {
    let Enrolment { token, connection, addresses, locality } = enrolment;
    let host_key = host_key(state)?;
    let workload_key = Arc::new(Key::generate().map_err(anyhow::Error::from)?);
    let request = JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret_bytes().to_vec(),
        host_public_key: host_key.public(),
        host_csr: host_key.request().map_err(anyhow::Error::from)?,
        workloads: vec![WorkloadCsr {
            workload_id: String::new(),
            csr: workload_key.request().map_err(anyhow::Error::from)?,
        }],
        addresses: addresses::announced(addresses, connection.local)?,
        hostname: hostname(),
        locality,
        version: env!("CARGO_PKG_VERSION").into(),
        signature: Vec::new(),
    };
    let answer = timeout(ANSWER, ask(&connection, request, &host_key))
        .await
        .map_err(|_| Refusal::new(Code::DeadlineExceeded, "discovery-unreachable", "discovery gave no answer"))??;
    let joined = Joined {
        discovery: token.addresses.clone(),
        trust_domain: token.trust_domain.clone(),
        pins: token.pins.clone(),
        token_id: token.id.clone(),
    };
    Ok(keep(state, joined, host_key, &workload_key, answer)?)
}

async fn ask(connection: &Connection, mut request: JoinRequest, key: &Key) -> Result<Answer, Refusal> {
    let (sender, receiver) = mpsc::channel(1);
    let mut client = HostClient::new(connection.channel.clone());
    let mut answers = client.join(ReceiverStream::new(receiver)).await?.into_inner();
    let nonce = challenge(&mut answers).await?;
    let message = zeroize::Zeroizing::new(request.encode_to_vec());
    request.signature = prove(key, JOIN, &nonce, &connection.exporter, &message).map_err(anyhow::Error::from)?;
    sender.send(request).await.map_err(|_| Refusal::new(Code::Unavailable, "", "the connection broke"))?;
    joined(&mut answers).await
}

fn keep(
    state: &StateDir,
    joined: Joined,
    host_key: Arc<Key>,
    workload_key: &Arc<Key>,
    answer: Answer,
) -> anyhow::Result<Holder> {
    let record = answer.record.ok_or_else(|| anyhow!("discovery sent no record"))?;
    let workloads = answer.workloads.into_iter().map(|certificate| (certificate, workload_key.clone())).collect();
    let issued = Issued { host: answer.host, workloads, roots: answer.roots };
    Holder::create(state, joined, host_key, record, issued)
}
