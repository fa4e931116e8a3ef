//! The adapter of all kinds: asks the source, finds addresses, checks health, says what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use hawser_mesh::{Event, Health, Origin, Publisher, RegistryAdapter, RegistryId};
use hawser_registry_source::poll::Polls;
use hawser_registry_source::settings::digest;
use hawser_registry_source::{Closed, Context, Driver, Settings};

use crate::checks::Checks;
use crate::client::Client;
use crate::dns::Dns;
use crate::files::{Files, SAFETY_NET};
use crate::mapping::{Known, Mapper};
use crate::names::Names;
use crate::settings::{Mesh, Source};
use crate::targets::Said;

/// A list of targets, wherever it is.
#[derive(Debug)]
pub struct TargetsAdapter {
    id: RegistryId,
    source: Source,
    mesh: Mesh,
    context: Context,
}

impl TargetsAdapter {
    /// The registry `name` of this source, whose settings were checked.
    pub fn new(name: impl Into<Arc<str>>, source: Source, mesh: Mesh, context: Context) -> Self {
        let id = RegistryId { kind: source.kind(), name: name.into() };
        Self { id, source, mesh, context }
    }
}

impl RegistryAdapter for TargetsAdapter {
    fn id(&self) -> RegistryId {
        self.id.clone()
    }

    async fn run(self, publisher: Publisher) {
        let Closed = self.follow(publisher).await.err().unwrap_or(Closed);
    }
}

impl TargetsAdapter {
    async fn follow(self, publisher: Publisher) -> Result<(), Closed> {
        let settings = Settings { freeze: self.source.freeze() };
        let print = digest(&format!("{:?}", self.source.mapping()));
        let mapper = Mapper::new(&self.id.name, self.source.mapping().clone(), self.mesh);
        let driver = Driver::start(publisher, self.context, &settings, print).await?;
        let checks = self.source.health_check().cloned().map(Checks::start);
        let names = Names::default();
        let polls = match self.source {
            Source::HttpSd(of) => {
                let refresh = of.refresh;
                Polls::start(Client::new(of), refresh)
            }
            Source::FileSd(of) => Polls::start(Files::new(of.files), SAFETY_NET),
            Source::DnsSrv(of) => {
                let refresh = of.least_refresh;
                Polls::start(Dns::new(of), refresh)
            }
        };
        let follower =
            Follower { driver, mapper, names, checks, said: Said::default(), heard: false, told: BTreeMap::new() };
        follower.follow(polls).await
    }
}

/// What is known of a source.
struct Follower {
    driver: Driver,
    mapper: Mapper,
    names: Names,
    checks: Option<Checks>,
    said: Said,
    heard: bool,
    /// Problems that were told.
    told: BTreeMap<String, String>,
}

impl Follower {
    async fn follow(mut self, mut polls: Polls<Said>) -> Result<(), Closed> {
        loop {
            let Self { driver, checks, .. } = &mut self;
            let verdicts = async {
                match checks {
                    Some(checks) => checks.changed().await,
                    None => std::future::pending().await,
                }
            };
            let answer = tokio::select! {
                closed = driver.idle() => return Err(closed),
                answer = polls.next() => Some(answer),
                () = verdicts => None,
            };
            match answer {
                Some(Ok(Some(said))) => {
                    (self.said, self.heard) = (said, true);
                    self.say(true).await?;
                }
                // Names may have moved meanwhile.
                Some(Ok(None)) => self.say(true).await?,
                Some(Err(failure)) => self.driver.failed(failure.0).await?,
                None => self.say(false).await?,
            }
        }
    }

    /// Says what is so now. The source `spoke`, or only the health of its targets changed.
    async fn say(&mut self, spoke: bool) -> Result<(), Closed> {
        if !self.heard {
            return Ok(());
        }
        let mut problems = self.said.problems.clone();
        let mut partial = self.said.partial;
        if spoke {
            let Self { driver, names, said, .. } = self;
            let refreshed = names.refresh(&said.targets);
            let nameless = tokio::select! {
                closed = driver.idle() => return Err(closed),
                nameless = refreshed => nameless,
            };
            if let Some((count, why)) = nameless {
                partial = true;
                problems.insert("names".to_owned(), format!("{count} names of targets can't be looked up: {why}"));
            }
        }
        let verdicts = self.checks.as_ref().map(Checks::verdicts).unwrap_or_default();
        let mut known = Vec::with_capacity(self.said.targets.len());
        let mut asked = BTreeSet::new();
        for target in &self.said.targets {
            for address in self.names.of(target) {
                let at = SocketAddr::new(address, self.mapper.port(target));
                let health = verdicts.get(&at).copied().unwrap_or(Health::Healthy);
                asked.insert(at);
                known.push(Known { target, address, health });
            }
        }
        let mapped = self.mapper.map(&known);
        if let Some(checks) = &self.checks {
            checks.set(asked);
        }
        if let Some((count, why)) = mapped.nameless {
            problems.insert("service.hosts".to_owned(), format!("{count} targets make no host name: {why}"));
        }
        if spoke {
            self.tell(problems.clone()).await?;
        }
        // What never said anything may be what the stored state holds: nothing is gone because of it.
        if partial && !self.driver.ledger().is_complete() {
            for part in mapped.parts {
                self.driver.observe(&part.part, None, || part.objects).await?;
            }
            let why = problems.first_key_value().map(|(name, why)| format!("{name}: {why}"));
            return self.driver.failed(why.unwrap_or_default()).await;
        }
        match spoke {
            true => self.driver.all(mapped.parts).await,
            false => {
                for part in mapped.parts {
                    self.driver.revise(&part.part, part.objects).await?;
                }
                Ok(())
            }
        }
    }

    /// Tells problems that are new, and that others are over.
    async fn tell(&mut self, problems: BTreeMap<String, String>) -> Result<(), Closed> {
        let origin = |name: &String| Origin { name: name.as_str().into(), line: 0 };
        let over = self.told.keys().filter(|name| !problems.contains_key(*name)).map(|n| Event::Cleared(origin(n)));
        let new = problems.iter().filter(|(name, why)| self.told.get(*name) != Some(*why));
        let new = new.map(|(name, why)| Event::Rejected { origin: origin(name), message: format!("{name}: {why}") });
        for event in over.chain(new).collect::<Vec<_>>() {
            self.driver.report(event).await?;
        }
        self.told = problems;
        Ok(())
    }
}
