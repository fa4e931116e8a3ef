//! Join tokens: made, listed, taken back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hawser_api::hostname::Hostname;
use hawser_api::istio::workload_entry::WorkloadTemplate;
use hawser_api::istio::workload_group::GroupMetadata;
use hawser_api::istio::{Port, Resource, WorkloadEntry, WorkloadGroup};
use hawser_api::proto::admin::{CreateTokenRequest, CreateTokenResponse, TokenInfo};
use hawser_api::token::JoinToken;
use ipnet::IpNet;
use tonic::Status;

use super::AdminService;
use super::registrations::{check_label, or_default, ports};
use crate::hosts::{Group, secret_hash};
use crate::registry::model::Rank;
use crate::store::{PortRecord, StoreError, TokenRecord};
use crate::words::{timestamp, unix};

const DEFAULT_TTL: Duration = Duration::from_secs(3600);
const LONGEST_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Uses that one token may have.
const MOST_USES: u32 = 100_000;
/// Bytes of a secret.
const SECRET: usize = 32;

impl AdminService {
    pub(super) async fn new_token(&self, request: CreateTokenRequest) -> Result<CreateTokenResponse, Status> {
        let namespace = or_default(request.namespace);
        check_label("namespace", &namespace)?;
        check_label("group", &request.group)?;
        if !request.service_account.is_empty() {
            check_label("service account", &request.service_account)?;
        }
        let ttl = match request.ttl {
            None => DEFAULT_TTL,
            Some(ttl) => Duration::try_from(ttl).map_err(|_| Status::invalid_argument("a token's life is positive"))?,
        };
        if ttl.is_zero() || ttl > LONGEST_TTL {
            return Err(Status::invalid_argument("a token lives 1 second to 90 days"));
        }
        if request.uses > MOST_USES {
            return Err(Status::invalid_argument(format!("a token has at most {MOST_USES} uses")));
        }
        let cidrs = request.source_cidrs.iter().map(|text| cidr(text)).collect::<Result<Vec<_>, _>>()?;
        if cidrs.len() > 64 {
            return Err(Status::invalid_argument("a token is bound to at most 64 networks"));
        }
        if self.inner.advertise.is_empty() {
            return Err(Status::failed_precondition(
                "discovery does not know the address that hosts reach it at: start it with --advertise host:15012",
            ));
        }

        let mut warnings = Vec::new();
        let wanted = ports(&request.ports)?;
        let group = self.group_for_token(&namespace, &request.group, &wanted, request.labels, &mut warnings).await?;
        self.check_shadow(&group, &mut warnings);

        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET]>());
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 9]>());
        let now = unix(SystemTime::now());
        let record = TokenRecord {
            secret_hash: secret_hash(secret.as_bytes()),
            namespace,
            group: request.group,
            service_account: request.service_account,
            created: now,
            expires: now + ttl.as_secs().max(1),
            uses: request.uses.max(1),
            used_by: BTreeMap::new(),
            revoked: false,
            source_cidrs: cidrs,
        };
        let token = JoinToken {
            addresses: self.inner.advertise.clone(),
            trust_domain: self.inner.authority.trust_domain().clone(),
            pins: self.inner.authority.pins(),
            id: id.clone(),
            secret,
        };
        let info = info(&id, &record);
        self.inner.store.write(move |txn| txn.put::<TokenRecord>(&id, &record)).await?;
        Ok(CreateTokenResponse { token: token.reveal(), info: Some(info), warnings })
    }

    pub(super) fn tokens(&self) -> Result<Vec<TokenInfo>, Status> {
        let all = self.inner.store.list::<TokenRecord>()?;
        Ok(all.iter().map(|(id, record)| info(id, record)).collect())
    }

    pub(super) async fn revoke(&self, id: String) -> Result<(), Status> {
        let found = self
            .inner
            .store
            .write({
                let id = id.clone();
                move |txn| {
                    let Some(mut token) = txn.get::<TokenRecord>(&id)? else { return Ok(false) };
                    token.revoked = true;
                    txn.put(&id, &token)?;
                    Ok::<_, StoreError>(true)
                }
            })
            .await?;
        if found { Ok(()) } else { Err(Status::not_found(format!("there is no token {id:?}"))) }
    }

    /// The group of a token: the one that exists, if it agrees with the ports that were named; a new one otherwise.
    async fn group_for_token(
        &self,
        namespace: &str,
        name: &str,
        wanted: &[PortRecord],
        labels: BTreeMap<String, String>,
        warnings: &mut Vec<String>,
    ) -> Result<Group, Status> {
        let snapshot = self.inner.snapshots.borrow().clone();
        if let Some(group) = Group::find(&snapshot, namespace, name) {
            let mut known: Vec<(u32, &str)> = group.ports.iter().map(|p| (p.port, p.name.as_str())).collect();
            let mut asked: Vec<(u32, &str)> = wanted.iter().map(|p| (u32::from(p.port), p.name.as_str())).collect();
            known.sort_unstable();
            asked.sort_unstable();
            if !asked.is_empty() && known != asked {
                let known: Vec<String> = known.iter().map(|(port, name)| format!("{name}={port}")).collect();
                return Err(Status::failed_precondition(format!(
                    "group {namespace}/{name} exists with ports {}: leave --port out, or edit the group first",
                    known.join(", ")
                )));
            }
            if labels.iter().any(|(key, value)| group.labels.get(key) != Some(value)) {
                warnings.push(format!("group {namespace}/{name} exists: its own labels stay as they are"));
            }
            return Ok(group);
        }
        let missing = snapshot.missing();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Status::unavailable(format!(
                "{missing} still missing: the group may be there; try again soon"
            )));
        }
        if wanted.is_empty() {
            return Err(Status::not_found(format!(
                "group {namespace}/{name} does not exist: name its ports to make it, as in --port http=9080"
            )));
        }
        let resource = new_group(namespace, name, wanted, labels);
        let group = Group::of(&resource).ok_or_else(|| Status::internal("the new group is none"))?;
        self.apply_made(resource).await?;
        Ok(group)
    }

    /// Warns if the service that a group implies is defined by something else.
    fn check_shadow(&self, group: &Group, warnings: &mut Vec<String>) {
        let settings = &self.inner.settings;
        let key = group.key();
        if group.namespace == settings.root_namespace || group.namespace == "kube-system" {
            warnings.push(format!("group {key} implies no service: its namespace is reserved"));
            return;
        }
        let Ok(host) = Hostname::service(&group.name, &group.namespace, &settings.domain) else { return };
        let snapshot = self.inner.snapshots.borrow().clone();
        let others: Vec<String> = snapshot
            .definitions(&host)
            .iter()
            .flat_map(|state| &state.service.sources)
            .filter(|s| Rank::of(s.registry.kind) != Rank::Group && !s.origin.starts_with("WorkloadGroup"))
            .map(|s| if s.origin.is_empty() { s.registry.to_string() } else { s.origin.clone() })
            .collect();
        if !others.is_empty() {
            warnings.push(format!(
                "service {host} is defined by {}: hosts of group {key} belong to it only if its selector takes their \
                 labels",
                others.join(", ")
            ));
        }
    }
}

fn new_group(namespace: &str, name: &str, ports: &[PortRecord], mut labels: BTreeMap<String, String>) -> Resource {
    labels.entry("app".to_owned()).or_insert_with(|| name.to_owned());
    let template = WorkloadEntry {
        ports: ports.iter().map(|p| (p.name.clone(), Port::new(p.port))).collect(),
        ..WorkloadEntry::default()
    };
    let spec = WorkloadGroup {
        metadata: Some(GroupMetadata { labels, ..GroupMetadata::default() }),
        template: Some(WorkloadTemplate(template)),
        probe: None,
    };
    Resource::new(namespace, name, spec)
}

fn info(id: &str, record: &TokenRecord) -> TokenInfo {
    TokenInfo {
        id: id.to_owned(),
        namespace: record.namespace.clone(),
        group: record.group.clone(),
        service_account: record.service_account.clone(),
        created: Some(timestamp(record.created)),
        expires: Some(timestamp(record.expires)),
        uses: record.uses,
        used: u32::try_from(record.used_by.len()).unwrap_or(u32::MAX),
        revoked: record.revoked,
        source_cidrs: record.source_cidrs.iter().map(ToString::to_string).collect(),
    }
}

/// A network, or a single address.
fn cidr(text: &str) -> Result<IpNet, Status> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    net.map(|net| net.trunc()).ok_or_else(|| Status::invalid_argument(format!("{text:?} is no network: 10.0.0.0/8 is")))
}
