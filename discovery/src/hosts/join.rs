//! Join and rejoin: from a token, or from the host key alone, to a record and certificates.

use std::net::IpAddr;

use hawser_api::proto::host;

use super::epoch::{Epoch, Verdict};
use super::sign::{Requests, shown};
use super::tokens::{Bearer, Use, judge, key_hash};
use super::{Binding, Group, Hosts, Refusal, address, proof, record};
use crate::peer::Peer;
use crate::store::{HostKey, HostRecord, Standing, TokenRecord, Txn};
use crate::words::duration;

/// A host that says nothing else is looked for at these ports, besides its group's.
const SSH: u16 = 22;

impl Hosts {
    /// Turns a token into a record and certificates. Idempotent for a token and a host key.
    ///
    /// # Errors
    /// Why the host is refused.
    pub async fn join(
        &self,
        request: host::JoinRequest,
        peer: &Peer,
        binding: &Binding,
    ) -> Result<host::Joined, Refusal> {
        let Checked { requests, locality } = Checked::of(&request, binding)?;

        // Judged here for a quick answer, and again where the use is taken.
        let token: Option<TokenRecord> = self.inner.store.get(&shown(&request.token_id))?;
        let key = key_hash(&request.host_public_key);
        let source = peer.addr.ip();
        judge(token.as_ref(), &Bearer { secret: &request.secret, host_key: &key, source, now: Self::now() })?;
        let token = token.ok_or(Refusal::TokenUnknown)?;

        let group = self.group(&token.namespace, &token.group)?;
        if requests.count() != 1 {
            return Err(Refusal::Malformed("a token makes one workload: send one request for it".into()));
        }
        let addresses = self.check_addresses(&request.addresses, source, &group).await?;

        let admission = Admission {
            id: uuid::Uuid::new_v4().to_string(),
            token_id: request.token_id.clone(),
            secret: request.secret.clone(),
            key,
            source,
            now: Self::now(),
            group,
            mesh: self.inner.settings.mesh.clone(),
            fresh: HostRecord {
                revision: 0,
                host_key: request.host_public_key.clone(),
                hostname: request.hostname.clone(),
                addresses,
                locality,
                workloads: Vec::new(),
                token: request.token_id.clone(),
                joined: Self::now(),
                seen: Self::now(),
                epoch: 0,
                attempt: Vec::new(),
                version: request.version.clone(),
                hawser: true,
                standing: Standing::New,
                certificate_ends: self.certificate_ends(),
                revoked: false,
            },
        };
        let (id, record, first) = self.inner.store.write(move |txn| admission.admit(txn)).await?;
        if first {
            self.inner.metrics.token_use();
        }
        self.learn(&id, record.clone());
        tracing::info!(instance_id = id, hostname = record.hostname, source = %source, "host joined");
        self.certify(&id, &record, &requests)
    }

    /// New certificates for a host that proves its key.
    ///
    /// # Errors
    /// Why the host is refused.
    pub async fn rejoin(&self, request: host::RejoinRequest, binding: &Binding) -> Result<host::Joined, Refusal> {
        check_text(&request.version, "version", 64)?;
        let known = self.record_of(&request.instance_id);
        // A revoked host proves its key first: a stranger learns nothing about records.
        let host_key = match &known {
            Ok(record) => record.host_key.clone(),
            Err(Refusal::HostRevoked) => {
                let record: Option<HostRecord> = self.inner.store.get(&shown(&request.instance_id))?;
                record.ok_or(Refusal::HostUnknown)?.host_key
            }
            Err(_) => return Err(Refusal::HostUnknown),
        };
        proof::check_rejoin(&request, &host_key, binding)?;
        let record = known?;
        let requests = Requests::check(&request.host_csr, &host_key, &request.workloads)?;
        if requests.count() != record.workloads.len() {
            let count = record.workloads.len();
            return Err(Refusal::Malformed(format!("this host has {count} workloads: send one request for each")));
        }
        let (epoch, attempt, version) = (request.epoch, request.attempt.clone(), request.version.clone());
        let (now, ends, window) = (Self::now(), self.certificate_ends(), self.inner.settings.rejoin_window);
        let record = self
            .update(&request.instance_id, move |record| {
                if record.revoked {
                    return Err(Refusal::HostRevoked);
                }
                if now > record.certificate_ends.saturating_add(window.as_secs()) {
                    return Err(Refusal::RejoinWindowPassed(duration(window)));
                }
                let known = Epoch { number: record.epoch, attempt: record.attempt.clone() };
                if known.judge(epoch, &attempt) == Verdict::Twin {
                    return Err(Refusal::HostCloned);
                }
                record.certificate_ends = ends;
                record.version = version;
                Ok(record.clone())
            })
            .await?;
        tracing::info!(instance_id = request.instance_id, hostname = record.hostname, "host rejoined");
        self.certify(&request.instance_id, &record, &requests)
    }

    /// A group that hosts may join now.
    fn group(&self, namespace: &str, name: &str) -> Result<Group, Refusal> {
        let snapshot = self.inner.snapshots.borrow().clone();
        let group = Group::find(&snapshot, namespace, name);
        let group = group.ok_or_else(|| match snapshot.missing() {
            missing if missing.is_empty() => Refusal::GroupUnknown(format!("{namespace}/{name}")),
            missing => Refusal::NotReady(missing.join(", ")),
        })?;
        match super::group::blocking_policy(&snapshot, &group) {
            Some(policy) => Err(Refusal::PolicyNotEnforceable(policy)),
            None => Ok(group),
        }
    }

    /// Addresses that a host may have: it connects from one of them, or answers at the first.
    pub(super) async fn check_addresses(
        &self,
        announced: &[host::HostAddress],
        source: IpAddr,
        group: &Group,
    ) -> Result<Vec<host::HostAddress>, Refusal> {
        let addresses = address::check(announced, &self.inner.settings.virtual_ranges)?;
        if address::seen(&addresses, source) {
            return Ok(addresses);
        }
        let first = addresses.first().map(|a| a.address.clone()).unwrap_or_default();
        let ip: IpAddr =
            first.parse().map_err(|_| Refusal::AddressRefused(first.clone(), "it is no address".into()))?;
        let ports: Vec<u16> = group.ports.iter().filter_map(|p| u16::try_from(p.port).ok()).chain([SSH]).collect();
        if self.inner.connect_back.answers(ip, &ports).await {
            return Ok(addresses);
        }
        let why = format!("this host connects from {source}, and nobody answers discovery at the address it names");
        Err(Refusal::AddressRefused(first, why))
    }
}

/// A join of which everything is right that can be seen without looking anything up.
pub(super) struct Checked {
    requests: Requests,
    /// Region, zone, subzone.
    locality: (String, String, String),
}

impl Checked {
    /// Checks the texts, the proof and the certificate requests.
    pub(super) fn of(request: &host::JoinRequest, binding: &Binding) -> Result<Self, Refusal> {
        check_text(&request.hostname, "host name", 253)?;
        check_text(&request.version, "version", 64)?;
        proof::check_join(request, binding)?;
        let requests = Requests::check(&request.host_csr, &request.host_public_key, &request.workloads)?;
        Ok(Self { requests, locality: locality(request.locality.clone())? })
    }
}

/// What is decided and written in one transaction.
struct Admission {
    id: String,
    token_id: String,
    secret: Vec<u8>,
    key: String,
    source: IpAddr,
    now: u64,
    group: Group,
    mesh: record::Mesh,
    fresh: HostRecord,
}

impl Admission {
    /// The record's id, the record, and whether a use of the token was taken.
    fn admit(self, txn: &Txn<'_>) -> Result<(String, HostRecord, bool), Refusal> {
        let token: Option<TokenRecord> = txn.get(&self.token_id)?;
        let bearer = Bearer { secret: &self.secret, host_key: &self.key, source: self.source, now: self.now };
        let used = judge(token.as_ref(), &bearer)?;
        let mut token = token.ok_or(Refusal::TokenUnknown)?;

        let bound = match &used {
            Use::Again(id) => Some(id.clone()),
            Use::First => txn.get::<HostKey>(&self.key)?.map(|bound| bound.instance_id),
        };
        let known = match bound {
            Some(id) => txn.get::<HostRecord>(&id)?.map(|record| (id, record)),
            None => None,
        };
        let (id, mut record) = match known {
            Some((_, record)) if record.revoked => return Err(Refusal::HostRevoked),
            Some((id, record)) => {
                let own = record.workloads.first().map(|w| format!("{}/{}", w.workload.namespace, w.workload.group));
                if let Some(own) = own.filter(|own| *own != self.group.key()) {
                    return Err(Refusal::AlreadyJoined(own));
                }
                let kept = HostRecord {
                    addresses: self.fresh.addresses,
                    hostname: self.fresh.hostname,
                    locality: self.fresh.locality,
                    version: self.fresh.version,
                    token: self.fresh.token,
                    certificate_ends: self.fresh.certificate_ends,
                    ..record
                };
                (id, kept)
            }
            None => (self.id, self.fresh),
        };
        let made = record::new_workload(&self.group, &token.service_account, &id, &self.mesh)
            .map_err(|e| Refusal::Malformed(e.to_string()))?;
        record.workloads = vec![made];
        if record.locality == Default::default() {
            record.locality = self.group.locality;
        }
        record.revision += 1;
        let first = used == Use::First;
        token.used_by.insert(self.key.clone(), id.clone());
        txn.put(&id, &record)?;
        txn.put(&self.key, &HostKey { instance_id: id.clone() })?;
        txn.put(&self.token_id, &token)?;
        Ok((id, record, first))
    }
}

fn locality(said: Option<host::Locality>) -> Result<(String, String, String), Refusal> {
    let said = said.unwrap_or_default();
    for part in [&said.region, &said.zone, &said.sub_zone] {
        check_text(part, "locality", 253)?;
    }
    Ok((said.region, said.zone, said.sub_zone))
}

/// A stranger's text that is kept: bounded, and nothing that would garble a terminal.
pub(super) fn check_text(text: &str, what: &str, longest: usize) -> Result<(), Refusal> {
    if text.len() > longest || text.chars().any(char::is_control) {
        return Err(Refusal::Malformed(format!(
            "the {what} is longer than {longest} bytes or holds control characters"
        )));
    }
    Ok(())
}
