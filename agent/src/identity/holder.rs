//! What this host is: its record, its certificates, the roots; in memory and on disk.
//!
//! In: what a join, a renewal or a session brought. Out: an immutable [`Identity`] that everybody watches, the
//! same after a restart. Files are written before anybody sees what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use hawser_api::identity::{SpiffeId, TrustDomain};
use hawser_api::proto::host::{Certificate, Record};
use hawser_api::token::Pin;
use prost::Message as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::credential::{Credential, Roots};
use super::key::Key;
use crate::state::StateDir;

const HOST_KEY: &str = "host.key";
const HOST_CHAIN: &str = "host.pem";
const ROOTS: &str = "roots.pem";
const RECORD: &str = "record.pb";
const JOINED: &str = "joined.json";
const WORKLOADS: &str = "workloads";

/// Everything that says who this host is. Shared, never changed in place.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) record: Arc<Record>,
    pub(crate) host: Arc<Credential>,
    /// By workload id.
    pub(crate) workloads: BTreeMap<String, Arc<Credential>>,
    pub(crate) roots: Arc<Roots>,
}

/// How the host came to be joined; the last file that a join writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) discovery: Vec<String>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) pins: Vec<Pin>,
    pub(crate) token_id: String,
}

/// What a state directory says of a host that is joined, for who may read it and does not hold it.
#[derive(Clone, Debug)]
pub(crate) struct OnDisk {
    pub(crate) joined: Joined,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

impl OnDisk {
    /// Reads it.
    pub(crate) fn read(dir: &std::path::Path) -> Option<Self> {
        let joined = serde_json::from_slice(&std::fs::read(dir.join(JOINED)).ok()?).ok()?;
        let roots = std::fs::read_to_string(dir.join(ROOTS)).ok().and_then(|text| Roots::read([text.as_str()]));
        Some(Self { joined, roots: roots.map(|roots| roots.certificates).unwrap_or_default() })
    }
}

/// Keeps the identity. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    state: StateDir,
    joined: Arc<Joined>,
    host_key: Arc<Key>,
    current: watch::Sender<Arc<Identity>>,
}

/// New certificates as they came, with the keys they were asked for.
pub(crate) struct Issued {
    pub(crate) host: Option<Certificate>,
    pub(crate) workloads: Vec<(Certificate, Arc<Key>)>,
    pub(crate) roots: Vec<String>,
}

/// The host's key, made at the first call.
pub(crate) fn host_key(state: &StateDir) -> anyhow::Result<Arc<Key>> {
    if let Some(pem) = state.read(HOST_KEY)? {
        let pem = zeroize::Zeroizing::new(pem);
        return Ok(Arc::new(Key::from_pem(&pem).with_context(|| state.path(HOST_KEY).display().to_string())?));
    }
    let key = Key::generate()?;
    state.write(HOST_KEY, key.to_pem().as_bytes())?;
    Ok(Arc::new(key))
}

/// Removes everything that a join wrote. The host key stays if asked: with it a join can be asked for again.
pub(crate) fn forget(state: &StateDir, keep_host_key: bool) -> anyhow::Result<()> {
    let mut first_error = None;
    let key = (!keep_host_key).then_some(HOST_KEY);
    for name in [JOINED, HOST_CHAIN, ROOTS, RECORD, WORKLOADS].into_iter().chain(key) {
        if let Err(error) = state.remove(name) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), |error| Err(error.into()))
}

impl Holder {
    /// What is on disk, if the host is joined.
    pub(crate) fn load(state: &StateDir) -> anyhow::Result<Option<Self>> {
        let Some(joined) = state.read(JOINED)? else { return Ok(None) };
        let joined: Joined = serde_json::from_slice(&joined).context("joined.json")?;
        let host_key = host_key(state)?;
        let record = state.read_sealed(RECORD)?.ok_or_else(|| anyhow!("{RECORD} is missing"))?;
        let record = Record::decode(record.as_slice()).context(RECORD)?;
        let roots = read_text(state, ROOTS)?;
        let roots = Roots::read([roots.as_str()]).ok_or_else(|| anyhow!("{ROOTS} holds no certificate"))?;
        let id = joined.trust_domain.host(&record.instance_id)?;
        let host = Credential::read(id, &read_text(state, HOST_CHAIN)?, host_key.clone())?;
        let mut workloads = BTreeMap::new();
        for workload in &record.workloads {
            // A missing or damaged one is asked for again: see `renew`.
            match read_workload(state, &workload.id, &workload.spiffe_id) {
                Ok(credential) => _ = workloads.insert(workload.id.clone(), Arc::new(credential)),
                Err(error) => tracing::warn!(workload = workload.id, error = format!("{error:#}"), "no certificate"),
            }
        }
        let trust_domain = joined.trust_domain.clone();
        let identity =
            Identity { trust_domain, record: Arc::new(record), host: Arc::new(host), workloads, roots: roots.into() };
        Ok(Some(Self {
            state: state.clone(),
            joined: Arc::new(joined),
            host_key,
            current: watch::channel(identity.into()).0,
        }))
    }

    /// Checks and keeps what a join gave. [`JOINED`] is written last: without it nothing else counts.
    pub(crate) fn create(
        state: &StateDir,
        joined: Joined,
        host_key: Arc<Key>,
        record: Record,
        issued: Issued,
    ) -> anyhow::Result<Self> {
        check_record(&record, &joined.trust_domain)?;
        let roots = Roots::read(issued.roots.iter().map(String::as_str)).ok_or_else(|| anyhow!("no roots came"))?;
        let host = issued.host.ok_or_else(|| anyhow!("no host certificate came"))?;
        let id = joined.trust_domain.host(&record.instance_id)?;
        let host = accept(id, &host, host_key.clone(), &roots)?;
        let mut workloads = BTreeMap::new();
        for (certificate, key) in issued.workloads {
            let id = spiffe_id(&record, &certificate.workload_id)?;
            workloads.insert(certificate.workload_id.clone(), Arc::new(accept(id, &certificate, key, &roots)?));
        }
        for workload in &record.workloads {
            if !workloads.contains_key(&workload.id) {
                bail!("no certificate came for workload {}", workload.id);
            }
        }
        let trust_domain = joined.trust_domain.clone();
        let identity =
            Identity { trust_domain, record: Arc::new(record), host: Arc::new(host), workloads, roots: roots.into() };
        let holder = Self {
            state: state.clone(),
            joined: Arc::new(joined),
            host_key,
            current: watch::channel(Arc::new(identity)).0,
        };
        let identity = holder.current();
        holder.write_all(&identity)?;
        state.write_sealed(RECORD, &identity.record.encode_to_vec())?;
        state.write(JOINED, &serde_json::to_vec(&*holder.joined)?)?;
        Ok(holder)
    }

    /// The identity now.
    pub(crate) fn current(&self) -> Arc<Identity> {
        self.current.borrow().clone()
    }

    /// The identity and every later one.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Identity>> {
        self.current.subscribe()
    }

    /// How the host joined.
    pub(crate) fn joined(&self) -> &Joined {
        &self.joined
    }

    /// The host's key.
    pub(crate) fn host_key(&self) -> &Arc<Key> {
        &self.host_key
    }

    /// A record as discovery says it is now.
    pub(crate) fn set_record(&self, record: Record) -> anyhow::Result<()> {
        let current = self.current();
        if *current.record == record {
            return Ok(());
        }
        check_record(&record, &self.joined.trust_domain)?;
        if record.instance_id != current.record.instance_id {
            bail!("the record of another host came");
        }
        self.state.write_sealed(RECORD, &record.encode_to_vec())?;
        let mut next = Identity::clone(&current);
        next.workloads.retain(|id, credential| {
            record.workloads.iter().any(|w| w.id == *id && w.spiffe_id == credential.identity.as_str())
        });
        next.record = record.into();
        self.current.send_replace(next.into());
        Ok(())
    }

    /// Checks, keeps and publishes new certificates.
    pub(crate) fn renewed(&self, issued: Issued) -> anyhow::Result<()> {
        let current = self.current();
        let mut next = Identity::clone(&current);
        if !issued.roots.is_empty() {
            let roots = Roots::read(issued.roots.iter().map(String::as_str));
            next.roots = roots.ok_or_else(|| anyhow!("the roots that came can't be read"))?.into();
        }
        if let Some(host) = &issued.host {
            next.host = accept(current.host.identity.clone(), host, self.host_key.clone(), &next.roots)?.into();
        }
        for (certificate, key) in issued.workloads {
            let id = spiffe_id(&next.record, &certificate.workload_id)?;
            let credential = accept(id, &certificate, key, &next.roots)?;
            next.workloads.insert(certificate.workload_id.clone(), credential.into());
        }
        self.write_all(&next)?;
        self.current.send_replace(next.into());
        Ok(())
    }

    fn write_all(&self, identity: &Identity) -> anyhow::Result<()> {
        self.state.directory(WORKLOADS)?;
        self.state.write(ROOTS, identity.roots.pem.as_bytes())?;
        for (id, credential) in &identity.workloads {
            let key = credential.key.to_pem();
            let file = zeroize::Zeroizing::new(format!("{}{}", &*credential.chain_pem, &*key));
            self.state.write(&workload_file(id), file.as_bytes())?;
        }
        self.state.write(HOST_CHAIN, identity.host.chain_pem.as_bytes())?;
        Ok(())
    }
}

fn accept(id: SpiffeId, certificate: &Certificate, key: Arc<Key>, roots: &Roots) -> anyhow::Result<Credential> {
    let mut pem = String::new();
    for part in &certificate.chain {
        pem.push_str(part.trim_end());
        pem.push('\n');
    }
    let credential = Credential::read(id, &pem, key)?;
    credential.verify(roots, UnixTime::now())?;
    Ok(credential)
}

fn check_record(record: &Record, trust_domain: &TrustDomain) -> anyhow::Result<()> {
    trust_domain.host(&record.instance_id)?;
    if record.workloads.is_empty() || record.workloads.len() > 64 {
        bail!("the record has {} workloads: 1 to 64 are possible", record.workloads.len());
    }
    for workload in &record.workloads {
        let id: SpiffeId = workload.spiffe_id.parse()?;
        if id.workload().is_none() || id.trust_domain() != trust_domain {
            bail!("workload {} has no workload's identity: {id}", workload.id);
        }
    }
    Ok(())
}

fn spiffe_id(record: &Record, workload: &str) -> anyhow::Result<SpiffeId> {
    let found = record.workloads.iter().find(|w| w.id == workload);
    let workload =
        found.ok_or_else(|| anyhow!("a certificate came for workload {workload:?}, which this host has not"))?;
    Ok(workload.spiffe_id.parse()?)
}

fn read_workload(state: &StateDir, id: &str, spiffe_id: &str) -> anyhow::Result<Credential> {
    let pem = zeroize::Zeroizing::new(read_text(state, &workload_file(id))?);
    let key = Key::from_pem(pem.as_bytes())?;
    let chain = &pem[..pem.find("-----BEGIN PRIVATE KEY").unwrap_or(pem.len())];
    Ok(Credential::read(spiffe_id.parse()?, chain, key.into())?)
}

fn read_text(state: &StateDir, name: &str) -> anyhow::Result<String> {
    let bytes = state.read(name)?.ok_or_else(|| anyhow!("{} is missing", state.path(name).display()))?;
    String::from_utf8(bytes).with_context(|| format!("{name} is not text"))
}

/// The file of a workload: its id with what a file name can't hold replaced.
fn workload_file(id: &str) -> String {
    let mut name = format!("{WORKLOADS}/");
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'@' => name.push(byte.into()),
            b'.' if !name.ends_with('/') => name.push('.'),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name + ".pem"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_workload_id_leaves_its_directory() {
        assert_eq!(workload_file("reviews@nginx.service"), "workloads/reviews@nginx.service.pem");
        assert_eq!(workload_file("../../x"), "workloads/%2e.%2f..%2fx.pem");
    }
}
