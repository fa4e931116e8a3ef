//! Join tokens for requests that people make in a cluster, by the same rules as for `hawser token create`.
//!
//! In: what a request wants, and its namespace. Out: a token, or why not. Invariant: a request is for its own namespace.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hawser_api::join_request::Spec;
use hawser_api::proto::admin::admin_server::Admin as _;
use hawser_api::proto::admin::{CreateTokenRequest, NamedPort, RevokeTokenRequest};
use hawser_registry_kubernetes::{Minted, Minter, NoToken};
use tonic::{Code, Request, Status};

use crate::admin::AdminService;

/// Makes tokens once there is somebody who does. Clones share that.
#[derive(Clone, Debug, Default)]
pub(super) struct Minting(Arc<OnceLock<AdminService>>);

impl Minting {
    /// From now on this one makes them.
    pub(super) fn begin(&self, admin: AdminService) {
        let _ = self.0.set(admin);
    }
}

impl Minter for Minting {
    fn mint<'a>(&'a self, namespace: &'a str, spec: &'a Spec) -> BoxFuture<'a, Result<Minted, NoToken>> {
        async move {
            let Some(admin) = self.0.get() else { return Err(NoToken::Later("discovery starts".to_owned())) };
            let answer =
                admin.create_token(Request::new(request(namespace, spec)?)).await.map_err(refused)?.into_inner();
            let id = answer.info.unwrap_or_default().id;
            Ok(Minted { id, token: answer.token, warnings: answer.warnings })
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let Some(admin) = self.0.get() else { return };
            if let Err(status) = admin.revoke_token(Request::new(RevokeTokenRequest { id: id.to_owned() })).await {
                tracing::warn!(id, why = status.message(), "a join token is not taken back");
            }
        }
        .boxed()
    }
}

fn request(namespace: &str, spec: &Spec) -> Result<CreateTokenRequest, NoToken> {
    let invalid = |field: &str, why: &str| NoToken::Refused("Invalid", format!("spec.{field}: {why}"));
    let port = |port: &hawser_api::join_request::Port| {
        let number = u32::try_from(port.number).map_err(|_| invalid("ports", "a port is 1 to 65535"))?;
        Ok(NamedPort { name: port.name.clone(), port: number })
    };
    let ttl = spec.ttl_seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    let uses = u32::try_from(spec.uses.unwrap_or(1)).ok().filter(|uses| *uses > 0);
    Ok(CreateTokenRequest {
        namespace: namespace.to_owned(),
        group: spec.group.clone(),
        ports: spec.ports.iter().map(port).collect::<Result<_, _>>()?,
        ttl,
        uses: uses.ok_or_else(|| invalid("uses", "a token has at least one"))?,
        service_account: spec.service_account.clone(),
        source_cidrs: spec.source_cidrs.clone(),
        labels: spec.labels.clone().into_iter().collect(),
    })
}

/// What can't be, and what may be in a moment.
fn refused(status: Status) -> NoToken {
    let why = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => NoToken::Refused("Invalid", why),
        Code::NotFound => NoToken::Refused("GroupMissing", why),
        Code::FailedPrecondition | Code::AlreadyExists => NoToken::Refused("NotPossible", why),
        Code::PermissionDenied => NoToken::Refused("Denied", why),
        _ => NoToken::Later(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_its_own_namespace_and_says_what_is_wrong_with_it() {
        let spec =
            Spec { group: "web".into(), service_account: "web".into(), ttl_seconds: Some(60), ..Spec::default() };
        let made = request("shop", &spec).unwrap();
        assert_eq!((made.namespace.as_str(), made.group.as_str(), made.uses), ("shop", "web", 1));
        assert_eq!(made.ttl.unwrap().seconds, 60);
        for uses in [0, -1, i64::MAX] {
            let wrong = request("shop", &Spec { uses: Some(uses), ..spec.clone() });
            assert!(
                matches!(&wrong, Err(NoToken::Refused("Invalid", why)) if why.starts_with("spec.uses")),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn what_may_be_in_a_moment_is_not_refused() {
        assert!(matches!(refused(Status::unavailable("the cluster is missing")), NoToken::Later(_)));
        assert!(matches!(refused(Status::internal("disk")), NoToken::Later(_)));
        assert!(matches!(refused(Status::not_found("no group")), NoToken::Refused("GroupMissing", _)));
        assert!(matches!(refused(Status::failed_precondition("--advertise")), NoToken::Refused("NotPossible", _)));
    }
}
