//! What the tables hold: one leading version byte, then JSON; protobufs within it as base64.

use std::collections::BTreeMap;

use hawser_api::proto::host;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{StoreError, Table};
use crate::keys::Origin;

/// A kind of record.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {
    /// Its table.
    const TABLE: Table;
    /// Leading byte of what is written; a reader refuses others.
    const VERSION: u8 = 1;
}

/// A join token, by id. Times are seconds of Unix time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    #[serde(with = "base64_bytes")]
    pub secret_hash: Vec<u8>,
    /// Namespace of the group.
    pub namespace: String,
    /// Group.
    pub group: String,
    /// Service account; empty is the group's.
    pub service_account: String,
    /// When it was made.
    pub created: u64,
    /// When it ends.
    pub expires: u64,
    /// How many hosts it lets in.
    pub uses: u32,
    /// Who used it: hash of the host key to instance id.
    pub used_by: BTreeMap<String, String>,
    /// Taken back.
    pub revoked: bool,
    /// Networks that it may be used from; empty is anywhere.
    pub source_cidrs: Vec<ipnet::IpNet>,
}

/// A joined host, by instance id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRecord {
    /// Counts writes of this record, so that an older copy never replaces a newer one.
    pub revision: u64,
    /// SubjectPublicKeyInfo of the host key.
    #[serde(with = "base64_bytes")]
    pub host_key: Vec<u8>,
    /// What the host calls itself.
    pub hostname: String,
    /// Addresses, in order of preference.
    #[serde(with = "protos")]
    pub addresses: Vec<host::HostAddress>,
    /// Region, zone, sub-zone.
    pub locality: (String, String, String),
    /// What runs there.
    pub workloads: Vec<HostWorkload>,
    /// The token it came by.
    pub token: String,
    /// When it joined.
    pub joined: u64,
    /// When its standing last changed.
    pub seen: u64,
    /// Sessions so far, and the attempt that made the last one.
    pub epoch: u64,
    /// See `epoch`.
    #[serde(with = "base64_bytes")]
    pub attempt: Vec<u8>,
    /// Version of its agent.
    pub version: String,
    /// Its data plane is hawser-proxy.
    pub hawser: bool,
    /// What discovery last knew of it.
    pub standing: Standing,
    /// End of its last host certificate.
    pub certificate_ends: u64,
    /// Taken out by an administrator.
    pub revoked: bool,
}

/// A workload of a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostWorkload {
    /// As its agent knows it.
    #[serde(with = "proto")]
    pub workload: host::Workload,
    /// Share of requests; 0 is the default.
    pub weight: u32,
    /// The token's service account, which wins over the group's.
    pub token_account: String,
}

/// What discovery knows of a host between two of its own runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Joined, never had a session: not published.
    New,
    /// Had a session when last seen.
    Present,
    /// Its lease lapsed.
    Lapsed,
    /// It said goodbye, and may come back.
    Away,
}

/// Hash of a host key to the instance id it is bound to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostKey {
    /// The record.
    pub instance_id: String,
}

/// A resource of the configuration, by `kind/namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// As it was applied, one document.
    pub yaml: String,
    /// The file it came from, for people.
    pub file: String,
    /// Line of the document in it.
    pub line: u32,
}

/// An instance that was registered by hand, by `namespace/service/address`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Short name of the service.
    pub service: String,
    /// Namespace.
    pub namespace: String,
    /// IP address or host name.
    pub address: String,
    /// Ports.
    pub ports: Vec<PortRecord>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Service account; empty if it has no identity.
    pub service_account: String,
    /// Share of requests; 0 is the default.
    pub weight: u32,
    /// Region, zone, sub-zone.
    pub locality: (String, String, String),
}

/// A port by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRecord {
    /// `http`.
    pub name: String,
    /// `9080`.
    pub port: u16,
}

/// Keys of an issuer of tokens, by where they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeysRecord {
    /// The URL, or the issuer.
    pub place: String,
    /// It is an issuer.
    pub issuer: bool,
    /// A JSON web key set.
    pub keys: String,
}

impl KeysRecord {
    /// Of a place.
    pub fn new(origin: &Origin, keys: &str) -> Self {
        let (place, issuer) = match origin {
            Origin::Keys(url) => (url, false),
            Origin::Issuer(issuer) => (issuer, true),
        };
        Self { place: place.clone(), issuer, keys: keys.to_owned() }
    }

    /// Its key.
    pub fn key(origin: &Origin) -> String {
        origin.to_string()
    }

    /// The place.
    pub fn origin(&self) -> Origin {
        if self.issuer { Origin::Issuer(self.place.clone()) } else { Origin::Keys(self.place.clone()) }
    }
}

impl Record for KeysRecord {
    const TABLE: Table = Table::new("keys");
}
impl Record for TokenRecord {
    const TABLE: Table = Table::new("tokens");
}
impl Record for HostRecord {
    const TABLE: Table = Table::new("hosts");
}
impl Record for HostKey {
    const TABLE: Table = Table::new("host_keys");
}
impl Record for ConfigRecord {
    const TABLE: Table = Table::new("config");
}
impl Record for Registration {
    const TABLE: Table = Table::new("registrations");
}

pub(super) fn encode<R: Record>(key: &str, record: &R) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![R::VERSION];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|e| StoreError::Record { key: key.to_owned(), why: e.to_string() })?;
    Ok(bytes)
}

pub(super) fn decode<R: Record>(key: &str, bytes: &[u8]) -> Result<R, StoreError> {
    let unreadable = |why: String| StoreError::Record { key: key.to_owned(), why };
    match bytes.split_first() {
        Some((version, json)) if *version == R::VERSION => {
            serde_json::from_slice(json).map_err(|e| unreadable(e.to_string()))
        }
        Some((version, _)) => Err(unreadable(format!("version {version} is not known"))),
        None => Err(unreadable("it is empty".into())),
    }
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

mod proto {
    use prost::Message;
    use serde::{Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<M: Message, S: Serializer>(message: &M, serializer: S) -> Result<S::Ok, S::Error> {
        super::base64_bytes::serialize(&message.encode_to_vec(), serializer)
    }

    pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(de: D) -> Result<M, D::Error> {
        M::decode(super::base64_bytes::deserialize(de)?.as_slice()).map_err(D::Error::custom)
    }
}

mod protos {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<M: Message, S: Serializer>(messages: &[M], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(messages.iter().map(|m| STANDARD.encode(m.encode_to_vec())))
    }

    pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(de: D) -> Result<Vec<M>, D::Error> {
        let decode = |text: String| {
            M::decode(STANDARD.decode(text).map_err(D::Error::custom)?.as_slice()).map_err(D::Error::custom)
        };
        Vec::<String>::deserialize(de)?.into_iter().map(decode).collect()
    }
}
