//! Who may ask for what.
//!
//! In: the peer of the connection, the node it says it is, the records of joined hosts. Out: a client, or the sentence
//! why not. Invariant: namespace and labels of a joined host's workload come from its record; those of others must fit
//! their certificate.

use std::sync::Arc;

use hawser_api::identity::Path;
use hawser_api::names::metadata;
use hawser_api::proto::core::Node;
use tonic::Status;

use super::Hosts;
use crate::peer::Peer;
use crate::registry::Settings;
use crate::view::{Client, text};

/// The client that a node is.
pub(super) fn authorize(peer: &Peer, node: &Node, hosts: &dyn Hosts, settings: &Settings) -> Result<Client, Status> {
    let mut client = Client::from_node(node, peer.plaintext);
    if peer.plaintext {
        return Ok(client);
    }
    let Some(identity) = &peer.identity else {
        return Err(Status::unauthenticated("xDS needs a client certificate of this mesh"));
    };
    if *identity.trust_domain() != settings.trust_domain {
        return Err(Status::permission_denied(format!("{identity} is of another trust domain")));
    }
    match identity.path() {
        Path::Host(id) => {
            let Some(workload) = hosts.workload(id, text(node, metadata::WORKLOAD)) else {
                return Err(Status::permission_denied("the host is revoked or unknown, or has no such workload"));
            };
            client.namespace = workload.namespace.as_str().into();
            client.labels = workload.labels;
            client.locality = workload.locality;
            client.instance = Some(workload.instance);
        }
        Path::Workload { .. } if peer.joined_workload => {
            return Err(Status::permission_denied(
                "a workload certificate of a joined host opens nothing here; the host's own certificate does",
            ));
        }
        Path::Workload { namespace, service_account } => {
            if client.namespace != *namespace {
                let said = &client.namespace;
                return Err(Status::permission_denied(format!("{identity} can't be a node of namespace {said}")));
            }
            let said = text(node, metadata::SERVICE_ACCOUNT).filter(|said| !said.is_empty());
            if said.is_some_and(|said| *said != **service_account) {
                return Err(Status::permission_denied(format!("{identity} is not that service account")));
            }
        }
        Path::Discovery | Path::Other(_) => {
            return Err(Status::permission_denied(format!("{identity} is no client of xDS")));
        }
    }
    Ok(client)
}

/// The client as its record has it now; `None` if the host may no longer ask.
pub(super) fn refresh(client: &Client, hosts: &dyn Hosts) -> Option<Client> {
    let Some(instance) = &client.instance else { return Some(client.clone()) };
    let workload = hosts.workload(&instance.instance_id, Some(&instance.workload_id))?;
    let namespace: Arc<str> = match *client.namespace == *workload.namespace {
        true => client.namespace.clone(),
        false => workload.namespace.as_str().into(),
    };
    Some(Client { namespace, labels: workload.labels, locality: workload.locality, ..client.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hawser_api::identity::{SpiffeId, TrustDomain};
    use hawser_mesh::{InstanceRef, Locality};

    use super::super::HostWorkload;
    use super::*;

    struct One;

    impl Hosts for One {
        fn workload(&self, instance_id: &str, workload_id: Option<&str>) -> Option<HostWorkload> {
            (instance_id == "known" && workload_id.is_none_or(|id| id == "reviews")).then(|| HostWorkload {
                instance: InstanceRef { instance_id: "known".into(), workload_id: "reviews".into() },
                namespace: "prod".to_owned(),
                name: "reviews-known".to_owned(),
                service_account: "reviews".to_owned(),
                labels: BTreeMap::new(),
                locality: Locality { region: "eu".to_owned(), ..Locality::default() },
            })
        }
    }

    fn ask(identity: Option<SpiffeId>, joined_workload: bool, plaintext: bool) -> Result<Client, tonic::Code> {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let addr = "127.0.0.1:1".parse().unwrap();
        let peer = Peer { addr, identity, joined_workload, plaintext, exporter: None };
        let node = Node { id: "sidecar~10.0.0.5~vm.default~default.svc.cluster.local".to_owned(), ..Node::default() };
        authorize(&peer, &node, &One, &Settings::new(domain)).map_err(|status| status.code())
    }

    #[test]
    fn what_was_verified_decides() {
        use tonic::Code::{PermissionDenied, Unauthenticated};
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let other: TrustDomain = "example.org".parse().unwrap();
        let known = ask(domain.host("known").ok(), false, false).unwrap();
        assert_eq!((&*known.namespace, known.locality.region.as_str()), ("prod", "eu"));
        assert_eq!(&*ask(domain.workload("default", "x").ok(), false, false).unwrap().namespace, "default");
        assert!(ask(None, false, true).unwrap().plaintext);
        assert_eq!(ask(domain.host("revoked").ok(), false, false), Err(PermissionDenied));
        assert_eq!(ask(domain.workload("prod", "x").ok(), false, false), Err(PermissionDenied));
        assert_eq!(ask(domain.workload("default", "x").ok(), true, false), Err(PermissionDenied));
        assert_eq!(ask(other.workload("default", "x").ok(), false, false), Err(PermissionDenied));
        assert_eq!(ask(Some(domain.discovery()), false, false), Err(PermissionDenied));
        assert_eq!(ask(None, false, false), Err(Unauthenticated));
    }
}
