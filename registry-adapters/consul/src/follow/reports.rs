//! What could not be used, told once and taken back when it is right.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hawser_mesh::{Event, Origin};
use hawser_registry_source::{Closed, Driver};

use crate::map::shown;

/// Services of which something is told at most; a broken registry must not fill everybody's listing.
const MAX_SERVICES: usize = 1000;

/// What a report of a service is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Its name.
    Name,
    /// The answer about it.
    Answer,
}

/// What was told.
#[derive(Debug)]
pub(super) struct Reports {
    datacenter: Arc<str>,
    told: HashMap<Arc<str>, BTreeMap<Origin, String>>,
}

impl Reports {
    pub(super) fn new(datacenter: &str) -> Self {
        Self { datacenter: datacenter.into(), told: HashMap::new() }
    }

    /// Tells one thing of a service, or takes it back.
    pub(super) async fn say(
        &mut self,
        driver: &mut Driver,
        service: &Arc<str>,
        topic: Topic,
        why: Option<String>,
    ) -> Result<(), Closed> {
        if why.is_none() && !self.told.contains_key(service) {
            return Ok(());
        }
        let topic = match topic {
            Topic::Name => "name",
            Topic::Answer => "answer",
        };
        let name = format!("{}/{}", self.datacenter, shown(service));
        let origin = Origin { name: format!("{name} ({topic})").into(), line: 0 };
        let mut now = self.told.get(service).cloned().unwrap_or_default();
        match why {
            Some(why) => now.insert(origin, format!("{name}: {why}")),
            None => now.remove(&origin),
        };
        self.set(driver, service, now).await
    }

    /// Tells what is wrong with the instances of a service, and takes back what no longer is.
    pub(super) async fn say_all(
        &mut self,
        driver: &mut Driver,
        service: &Arc<str>,
        problems: BTreeMap<Origin, String>,
    ) -> Result<(), Closed> {
        if problems.is_empty() && !self.told.contains_key(service) {
            return Ok(());
        }
        let topic = |origin: &Origin| origin.name.ends_with(" (name)") || origin.name.ends_with(" (answer)");
        let mut now = self.told.get(service).cloned().unwrap_or_default();
        now.retain(|origin, _| topic(origin));
        now.extend(problems);
        self.set(driver, service, now).await
    }

    /// Takes back what was told of services that are gone.
    pub(super) async fn retain(&mut self, driver: &mut Driver, keep: impl Fn(&str) -> bool) -> Result<(), Closed> {
        let gone: Vec<Arc<str>> = self.told.keys().filter(|service| !keep(service)).cloned().collect();
        for service in gone {
            self.set(driver, &service, BTreeMap::new()).await?;
        }
        Ok(())
    }

    async fn set(
        &mut self,
        driver: &mut Driver,
        service: &Arc<str>,
        now: BTreeMap<Origin, String>,
    ) -> Result<(), Closed> {
        if !self.told.contains_key(service) && self.told.len() >= MAX_SERVICES {
            return Ok(());
        }
        let before = self.told.remove(service).unwrap_or_default();
        for origin in before.keys().filter(|origin| !now.contains_key(*origin)) {
            driver.report(Event::Cleared(origin.clone())).await?;
        }
        for (origin, message) in now.iter().filter(|(origin, message)| before.get(*origin) != Some(*message)) {
            driver.report(Event::Rejected { origin: origin.clone(), message: message.clone() }).await?;
        }
        if !now.is_empty() {
            self.told.insert(service.clone(), now);
        }
        Ok(())
    }
}
