//! A part of a Consul as a registry: from settings to a task that follows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_daemon::backoff::Backoff;
use hawser_mesh::{Publisher, RegistryAdapter, RegistryId, RegistryKind};
use hawser_registry_source::settings::digest;
use hawser_registry_source::{Closed, Context, Driver};

use crate::client::{Client, Failure, Question, Token};
use crate::follow::follow;
use crate::map::Scope;
use crate::plan::Limits;
use crate::settings::{Part, Settings, is_name};
use crate::wire::AgentSelf;

/// Connections that are kept back from queries that wait: for reads, for what tells of changes, for changing over.
const RESERVE: usize = 32;
/// Questions besides reads and waiting queries.
const OTHERS: usize = 8;
/// Most reads at once.
const PARALLEL: usize = 16;
/// Time after which a service is read again though nothing says that it changed.
const REFRESH: Duration = Duration::from_secs(600);
/// Time between two tries to begin.
const LONGEST: Duration = Duration::from_secs(15);

/// Follows one part of a Consul: a datacenter, where Consul has them with a partition and a namespace.
#[derive(Debug)]
pub struct ConsulAdapter {
    id: RegistryId,
    part: Part,
    settings: Arc<Settings>,
    context: Context,
    mesh_domain: Arc<str>,
}

impl ConsulAdapter {
    /// The registries that a Consul of this name is: one for each part that its settings name.
    pub fn registries(name: &str, settings: &Settings) -> Vec<(RegistryId, Part)> {
        let parts = settings.parts();
        let id = |part: &Part| RegistryId { kind: RegistryKind::Consul, name: part.name_in(name).into() };
        parts.into_iter().map(|part| (id(&part), part)).collect()
    }

    /// An adapter of one of [`ConsulAdapter::registries`]. `mesh_domain` is the DNS suffix of the mesh.
    pub fn new(id: RegistryId, part: Part, settings: Settings, context: Context, mesh_domain: &str) -> Self {
        Self { id, part, settings: Arc::new(settings), context, mesh_domain: mesh_domain.into() }
    }

    /// How many queries may wait, and how many reads may be out, of what connections this part has.
    fn shares(&self) -> (usize, usize) {
        let connections = self.settings.connections / self.settings.parts().len().max(1);
        let reserve = RESERVE.min(connections / 2);
        let parallel = reserve.saturating_sub(OTHERS).clamp(1, PARALLEL);
        (connections.saturating_sub(reserve), parallel)
    }

    /// Everything that decides what is said of the same Consul.
    fn digest(&self) -> u64 {
        let s = &self.settings;
        let names = (&self.part, &self.mesh_domain, &s.namespace, &s.namespaces, &s.domain, s.short_names, &s.aliases);
        digest(&format!("{names:?} {:?}", (&s.networks, &s.skip_external_sources, s.partial_view)))
    }

    async fn follow(self, publisher: Publisher) -> Result<(), Closed> {
        let (digest, (room, parallel)) = (self.digest(), self.shares());
        let Self { part, settings, context, mesh_domain, .. } = self;
        let source = hawser_registry_source::Settings { freeze: settings.freeze };
        let mut driver = Driver::start(publisher, context, &source, digest).await?;
        if settings.exceeds_consuls_own_limit() {
            let connections = settings.connections;
            tracing::info!(
                connections,
                "more than Consul takes by default: limits.http_max_conns_per_client must allow it"
            );
        }
        let token = Arc::new(Token::new(settings.token_file.clone()));
        let mut backoff = Backoff::new(Duration::from_millis(500), LONGEST);
        let client = loop {
            match Client::new(settings.clone(), token.clone()) {
                Ok(client) => break client,
                Err(error) => driver.failed(error.to_string()).await?,
            }
            driver.wait(tokio::time::sleep(backoff.next_wait())).await?;
        };
        let own = loop {
            let mut found = None;
            client.renew();
            driver.wait(async { found = Some(own_datacenter(&client).await) }).await?;
            match found {
                Some(Ok(own)) => break own,
                Some(Err(failure)) => {
                    driver.failed(format!("Consul does not answer: {failure}; the last state stays")).await?
                }
                None => {}
            }
            driver.wait(tokio::time::sleep(backoff.next_wait())).await?;
        };
        let scope = Scope {
            local: part.peer.is_none() && part.datacenter.as_ref().is_none_or(|dc| **dc == *own),
            datacenter: part.datacenter.unwrap_or(own),
            partition: part.partition,
            ours: part
                .namespace
                .as_ref()
                .and_then(|n| settings.namespaces.get(&**n))
                .unwrap_or(&settings.namespace)
                .as_str()
                .into(),
            namespace: part.namespace,
            peer: part.peer,
            mesh_domain,
            skip_sources: settings.skip_external_sources.clone(),
            settings: settings.clone(),
        };
        let default = |name: &Option<Arc<str>>| name.as_ref().is_none_or(|n| &**n == "default");
        let limits = Limits {
            parallel,
            sweep: settings.sweep,
            refresh: REFRESH.max(settings.sweep),
            wait: settings.wait + settings.wait / 16,
            partial_view: settings.partial_view,
            lists_consul: default(&scope.partition) && default(&scope.namespace) && scope.peer.is_none(),
            peer: scope.peer.is_some(),
            token: token.is_set(),
        };
        let started = Instant::now();
        let closed = follow(scope, &client, &token, limits, room, &mut driver).await;
        tracing::debug!(after = ?started.elapsed(), "consul is no longer followed");
        Err(closed)
    }
}

impl RegistryAdapter for ConsulAdapter {
    fn id(&self) -> RegistryId {
        self.id.clone()
    }

    async fn run(self, publisher: Publisher) {
        let (Ok(()) | Err(Closed)) = self.follow(publisher).await;
    }
}

/// The servers' own datacenter: as the agent says it, or, if that is secret, the nearest one.
async fn own_datacenter(client: &Client) -> Result<Arc<str>, Failure> {
    let ask = |path: &[&str]| Question {
        path: path.iter().map(|segment| Arc::from(*segment)).collect(),
        index: None,
        stale: false,
        scoped: false,
        slot: None,
    };
    let unreadable = |error: serde_json::Error| Failure::Unreadable(error.to_string());
    match client.ask(None, &ask(&["agent", "self"])).await {
        Ok(answer) => {
            let agent: AgentSelf = serde_json::from_slice(&answer.body).map_err(unreadable)?;
            let version: String = agent.config.version.chars().take(40).collect();
            tracing::info!(datacenter = ?agent.config.datacenter, ?version, "consul answers");
            if !agent.config.datacenter.is_empty() {
                return datacenter(agent.config.datacenter);
            }
        }
        Err(Failure::Denied(_) | Failure::NotFound(_)) => {}
        Err(failure) => return Err(failure),
    }
    let answer = client.ask(None, &ask(&["catalog", "datacenters"])).await?;
    let all: Vec<String> = serde_json::from_slice(&answer.body).map_err(unreadable)?;
    let first = all.into_iter().next();
    first.map(datacenter).ok_or_else(|| Failure::Unreadable("it knows no datacenter, not even its own".to_owned()))?
}

/// A datacenter's name, which becomes part of host names and of listings.
fn datacenter(name: String) -> Result<Arc<str>, Failure> {
    match is_name(&name) {
        true => Ok(name.into()),
        false => {
            let shown: String = name.chars().take(100).collect();
            Err(Failure::Unreadable(format!("{shown:?} is no name of a datacenter")))
        }
    }
}
