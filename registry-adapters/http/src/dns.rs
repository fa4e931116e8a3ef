//! SRV records as lists of targets.
//!
//! In: names, servers. Out: targets with the weights of their records, the best priority first and the others as last
//! choice. Asked again when the shortest life of the records is over, but not sooner than the settings say. Invariants:
//! a name or an address that can't be looked up keeps what it had; that there is none is believed the third time.

mod memory;
mod query;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use hawser_registry_source::poll::{Answer, Failure, Poll};
use hickory_proto::rr::Name;

use self::memory::Memory;
use self::query::{Found, Resolver, Srv};
use crate::names::choose;
use crate::settings::DnsSrv;
use crate::targets::{Said, Target};

/// Longest time between two questions.
const LONGEST: Duration = Duration::from_secs(600);
/// Questions at once.
const AT_ONCE: usize = 16;
/// Most records of a name that count.
const MAX_RECORDS: usize = 1000;

/// A name as DNS writes it.
///
/// # Errors
/// If it is none.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|e| e.to_string())?;
    if name.num_labels() < 2 {
        return Err("write it as _http._tcp.example.com".to_owned());
    }
    name.set_fqdn(true);
    Ok(name)
}

/// SRV names that are followed.
#[derive(Debug)]
pub(crate) struct Dns {
    settings: DnsSrv,
    resolver: Resolver,
    records: BTreeMap<String, Memory<Vec<Srv>>>,
    addresses: HashMap<String, Memory<Vec<IpAddr>>>,
    /// Names with more records than count, and how many they have.
    long: BTreeMap<String, usize>,
    last: Option<Said>,
}

impl Dns {
    pub(crate) fn new(settings: DnsSrv) -> Self {
        let resolver = Resolver::new(settings.servers.clone(), settings.timeout);
        Self {
            settings,
            resolver,
            records: BTreeMap::new(),
            addresses: HashMap::new(),
            long: BTreeMap::new(),
            last: None,
        }
    }

    /// Looks all up; the shortest life of what was found.
    async fn look(&mut self) -> Result<Duration, String> {
        let resolver = self.resolver.fresh().await?;
        let mut life = LONGEST;
        let asked = stream::iter(self.settings.names.clone()).map(|text| {
            let resolver = &resolver;
            async move {
                let found = match name(&text) {
                    Ok(name) => resolver.srv(&name).await,
                    Err(why) => Err(why),
                };
                (text, found)
            }
        });
        let mut answers = asked.buffer_unordered(AT_ONCE);
        let mut glue: HashMap<String, BTreeSet<IpAddr>> = HashMap::new();
        while let Some((text, found)) = answers.next().await {
            self.long.remove(&text);
            let memory = self.records.entry(text.clone()).or_default();
            let heard = match found {
                Err(why) => Err(why),
                Ok(None) => Ok(None),
                Ok(Some(Found { mut records, life: of_these, addresses })) => {
                    life = life.min(of_these);
                    addresses.into_iter().for_each(|(host, address)| {
                        glue.entry(host).or_default().insert(address);
                    });
                    records.sort();
                    if records.len() > MAX_RECORDS {
                        self.long.insert(text, records.len());
                        records.truncate(MAX_RECORDS);
                    }
                    Ok(Some(records))
                }
            };
            if !memory.hear(heard) {
                life = Duration::ZERO;
            }
        }
        drop(answers);
        let hosts = self.records.values().filter_map(Memory::known).flatten().map(|srv| srv.target.clone());
        let hosts: BTreeSet<String> = hosts.collect();
        self.addresses.retain(|host, _| hosts.contains(host));
        let asked = stream::iter(hosts).map(|host| {
            let (resolver, known) = (&resolver, glue.get(&host).cloned());
            async move {
                let found = match known {
                    Some(known) => Ok(Some((known, LONGEST))),
                    None => resolver.addresses(&host).await,
                };
                (host, found)
            }
        });
        let mut answers = asked.buffer_unordered(AT_ONCE);
        while let Some((host, found)) = answers.next().await {
            let heard = found.map(|found| {
                found.map(|(addresses, of_these)| {
                    life = life.min(of_these);
                    choose(addresses)
                })
            });
            if !self.addresses.entry(host).or_default().hear(heard) {
                life = Duration::ZERO;
            }
        }
        Ok(life)
    }

    fn said(&self) -> Said {
        let mut said = Said::default();
        for (text, memory) in &self.records {
            let Some(records) = memory.known() else {
                said.partial = true;
                said.problems.insert(text.clone(), memory.problem().unwrap_or_default());
                continue;
            };
            if let Some(problem) = memory.problem() {
                said.problems.insert(text.clone(), problem);
            }
            if let Some(count) = self.long.get(text) {
                let why = format!("it has {count} records; the first {MAX_RECORDS} by priority count");
                said.problems.entry(text.clone()).or_insert(why);
            }
            let best = records.iter().map(|srv| srv.priority).min().unwrap_or_default();
            for srv in records {
                let labels = Arc::new(BTreeMap::from([
                    ("__meta_dns_name".to_owned(), text.trim_end_matches('.').to_owned()),
                    ("__meta_dns_srv_record_target".to_owned(), srv.target.clone()),
                    ("__meta_dns_srv_record_port".to_owned(), srv.port.to_string()),
                ]));
                let memory = self.addresses.get(&srv.target);
                match memory.and_then(Memory::known) {
                    None => {
                        said.partial = true;
                        let why = memory.and_then(Memory::problem).unwrap_or_default();
                        said.problems.insert(srv.target.clone(), why);
                    }
                    Some(addresses) => said.targets.extend(addresses.iter().map(|address| Target {
                        host: address.to_string(),
                        port: Some(srv.port),
                        labels: labels.clone(),
                        weight: u32::from(srv.weight),
                        last_choice: srv.priority > best,
                    })),
                }
            }
        }
        said
    }
}

impl Poll for Dns {
    type Answer = Said;

    async fn poll(&mut self) -> Result<Answer<Said>, Failure> {
        let life = self.look().await.map_err(Failure)?;
        let said = self.said();
        if self.records.values().all(|memory| memory.is_silent())
            && let Some((name, why)) = said.problems.first_key_value()
        {
            return Err(Failure(format!("{name}: {why}")));
        }
        let next = Some(life.max(self.settings.least_refresh));
        let new = self.last.as_ref() != Some(&said);
        self.last = Some(said.clone());
        Ok(Answer { said: new.then_some(said), next })
    }
}

/// Where servers are, if none is named.
pub(crate) fn system_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.map(|address| SocketAddr::new(address, 53)).collect()
}
