//! The stream to the agent, kept open for ever.
//!
//! In: the agent's socket, questions of workers. Out: a configuration for the workers. The protocol is in
//! [`super::subscriptions`]; here is the I/O.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use hawser_api::names::{SECRET_DEFAULT, SECRET_ROOT};
use hawser_api::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use hawser_daemon::backoff::Backoff;
use hawser_daemon::readiness::{Guard, Readiness};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use super::subscriptions::{Subscriptions, Verdict};
use crate::config::Config;
use crate::dns::Resolver;
use crate::telemetry::Counters;
use crate::worker::Ask;

const CONNECT: Duration = Duration::from_secs(5);
const LARGEST: usize = 64 << 20;
const TIDY: Duration = Duration::from_secs(5);
/// Responses that are taken before a configuration is made of them.
const TOGETHER: usize = 256;

/// The proxy's side of xDS.
#[derive(Debug)]
pub struct Ads {
    subscriptions: Subscriptions,
    resolver: Resolver,
    config: Arc<ArcSwap<Config>>,
    changed: watch::Sender<()>,
    counters: Arc<Counters>,
    inbound: Option<Guard>,
    certificate: Option<Guard>,
    roots: Option<Guard>,
    garbage: Garbage,
}

/// What an old configuration leaves behind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Garbage {
    /// There was a new one since the last look.
    Fresh,
    /// There was none since then.
    Settled,
    /// It is gone.
    Gone,
}

impl Ads {
    /// Holds nothing yet: not ready before the inbound side, a certificate and roots are there.
    /// `config` is where a new one is put, and who is told.
    pub fn new(
        (config, changed): (Arc<ArcSwap<Config>>, watch::Sender<()>),
        counters: Arc<Counters>,
        readiness: &Readiness,
    ) -> Self {
        Self {
            subscriptions: Subscriptions::new(),
            resolver: Resolver::of_host(counters.clone()),
            config,
            changed,
            counters,
            inbound: Some(readiness.guard("configuration of inbound connections")),
            certificate: Some(readiness.guard("the workload's certificate")),
            roots: Some(readiness.guard("roots of the mesh")),
            garbage: Garbage::Gone,
        }
    }

    /// Runs for ever. Questions are taken with a stream and without one. From `former` on, the control plane is told that
    /// another proxy serves in our place.
    pub async fn run(mut self, socket: PathBuf, mut asked: mpsc::Receiver<Ask>, former: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let retired = former.is_cancelled();
            if retired {
                self.subscriptions.retire();
            }
            self.subscriptions.connected();
            // The agent may answer to a first request only: it goes along.
            match open(&socket, self.subscriptions.requests()).await {
                Ok((sender, stream)) => {
                    backoff.reset();
                    tracing::info!(socket = %socket.display(), "connected to the agent");
                    self.counters.xds_connected.store(1, Relaxed);
                    let why = tokio::select! {
                        why = self.session(&sender, stream, &mut asked) => why,
                        () = former.cancelled(), if !retired => "another proxy serves".to_owned(),
                    };
                    self.counters.xds_connected.store(0, Relaxed);
                    tracing::info!(%why, "the stream to the agent ended, serving with what is held");
                }
                Err(e) => tracing::debug!(socket = %socket.display(), error = %e, "no agent"),
            }
            self.subscriptions.disconnected();
            let wait = tokio::time::sleep(backoff.next_wait());
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    Some(ask) = asked.recv() => self.ask(ask),
                    (name, addresses) = self.resolver.next() => self.looked_up(name, addresses),
                }
            }
        }
    }

    async fn session(
        &mut self,
        sender: &mpsc::UnboundedSender<DeltaDiscoveryRequest>,
        mut stream: Streaming<DeltaDiscoveryResponse>,
        asked: &mut mpsc::Receiver<Ask>,
    ) -> String {
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            for request in self.subscriptions.requests() {
                if sender.send(request).is_err() {
                    return "the stream ended".to_owned();
                }
            }
            tokio::select! {
                message = stream.message() => {
                    let mut next = Some(message);
                    // What is there already goes into one configuration.
                    for _ in 0..TOGETHER {
                        match next.take() {
                            Some(Ok(Some(response))) => self.take(response),
                            Some(Ok(None)) => return "the stream ended".to_owned(),
                            Some(Err(status)) => return status.to_string(),
                            None => break,
                        }
                        next = stream.message().now_or_never();
                    }
                    match next {
                        Some(Ok(Some(response))) => self.take(response),
                        Some(Ok(None)) => return "the stream ended".to_owned(),
                        Some(Err(status)) => return status.to_string(),
                        None => {}
                    }
                    self.publish();
                }
                Some(ask) = asked.recv() => self.ask(ask),
                (name, addresses) = self.resolver.next() => self.looked_up(name, addresses),
                _ = tidy.tick() => {
                    self.subscriptions.tidy(Instant::now());
                    self.publish();
                    self.clear_away();
                }
            }
        }
    }

    fn take(&mut self, response: DeltaDiscoveryResponse) {
        match self.subscriptions.response(response) {
            Verdict::Accepted => drop(self.counters.xds_accepted.fetch_add(1, Relaxed)),
            Verdict::Rejected(why) => {
                self.counters.xds_rejected.fetch_add(1, Relaxed);
                tracing::warn!(%why, "configuration refused");
            }
        }
    }

    fn looked_up(&mut self, name: Arc<str>, addresses: Vec<IpAddr>) {
        self.subscriptions.looked_up(name, addresses);
        self.publish();
    }

    fn publish(&mut self) {
        if let Some(config) = self.subscriptions.snapshot() {
            self.resolver.want(&self.subscriptions.names_wanted());
            if config.credentials.contains_key(SECRET_DEFAULT) {
                drop(self.certificate.take());
            }
            if config.roots.contains_key(SECRET_ROOT) {
                drop(self.roots.take());
            }
            self.config.store(config);
            self.garbage = Garbage::Fresh;
            self.changed.send_replace(());
            self.counters.xds_resources.store(i64::try_from(self.subscriptions.held()).unwrap_or(i64::MAX), Relaxed);
        }
        if self.subscriptions.knows_inbound() {
            drop(self.inbound.take());
        }
        self.subscriptions.settle(&self.config.load(), Instant::now());
    }

    /// Once configuration rests, memory of what it was made of, and of the one before, goes back.
    fn clear_away(&mut self) {
        self.garbage = match self.garbage {
            Garbage::Fresh => Garbage::Settled,
            Garbage::Settled => {
                hawser_sockets::give_memory_back();
                Garbage::Gone
            }
            Garbage::Gone => Garbage::Gone,
        };
    }

    fn ask(&mut self, ask: Ask) {
        self.subscriptions.ask(ask.address, ask.answer, &self.config.load(), Instant::now());
    }
}

type Opened = (mpsc::UnboundedSender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>);

async fn open(socket: &Path, first: Vec<DeltaDiscoveryRequest>) -> Result<Opened, Status> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://agent").connect_timeout(CONNECT);
    let channel = endpoint.connect_with_connector(connector).await.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(LARGEST);
    // What we send is bounded by what we subscribe to.
    let (sender, receiver) = mpsc::unbounded_channel();
    first.into_iter().for_each(|request| drop(sender.send(request)));
    let stream = client.delta_aggregated_resources(UnboundedReceiverStream::new(receiver)).await?.into_inner();
    Ok((sender, stream))
}
