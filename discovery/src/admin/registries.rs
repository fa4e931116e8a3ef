//! `hawser registries`: how registries are, and an operator's word to a frozen one.

use hawser_api::proto::admin::{ListRegistriesResponse, RegistryInfo};
use tonic::Status;

use super::{AdminService, SHOWN};
use crate::registry::model::{ConfigOutcome, ConfigState};
use crate::sources::{NotAccepted, services_by_registry};
use crate::words::{timestamp, unix};

impl AdminService {
    /// All registries, by name.
    pub(super) fn registries(&self) -> ListRegistriesResponse {
        let snapshot = self.inner.snapshots.borrow().clone();
        let services = services_by_registry(&snapshot);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let hosts_frozen = !self.inner.hosts.freezes().is_empty();
        let info = |known: &crate::registry::model::RegistryStatus| {
            let mut state = self.inner.sources.state(known);
            if known.id == crate::hosts::registry_id() && hosts_frozen {
                state.state = "frozen";
            }
            let of = |config: &&ConfigState| config.registry == known.id && config.outcome == ConfigOutcome::Rejected;
            let rejected = snapshot.configs.iter().filter(of).count();
            if rejected > 0 {
                let note = format!("{rejected} of what it says can't be used: `hawser get config` tells what, and why");
                state.messages.push(note);
            }
            RegistryInfo {
                name: known.id.to_string(),
                kind: known.id.kind.as_str().to_owned(),
                state: state.state.to_owned(),
                since: Some(timestamp(unix(state.since))),
                messages: state.messages,
                services: count(services.get(&known.id).copied().unwrap_or_default()),
                workloads: count(known.objects),
                last_contact: state.last_contact.map(|at| timestamp(unix(at))),
                stored: state.stored.map(|at| timestamp(unix(at))),
                left_out: state.unseen.left_out,
                left_out_count: count(state.unseen.left_out_count),
                refused: state.unseen.refused,
            }
        };
        let registries = snapshot.registries.iter().map(info).collect();
        ListRegistriesResponse { registries, notes: self.inner.sources.notes() }
    }

    /// Says that a loss is meant, and waits until it took effect.
    pub(super) async fn accept(&self, name: &str) -> Result<String, Status> {
        let (name, mut status) = self.inner.sources.accept(name).map_err(|error| match error {
            NotAccepted::Unknown(_) => Status::not_found(error.to_string()),
            NotAccepted::Ambiguous(..) => Status::invalid_argument(error.to_string()),
            NotAccepted::NotFrozen(_) => Status::failed_precondition(error.to_string()),
        })?;
        // Late is not wrong: the word is on its way.
        let _ = tokio::time::timeout(SHOWN, status.wait_for(|status| status.frozen.is_none())).await;
        Ok(name)
    }
}
