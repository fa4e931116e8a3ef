//! `hawser proxy-config` and `hawser why`: questions about what is compiled.

use std::collections::BTreeSet;

use hawser_api::proto::admin::{ProxyConfigRequest, ProxyConfigResponse, WhyRequest, WhyResponse};
use tonic::Status;

use super::AdminService;
use crate::compiler::Sight;
use crate::explain::{self, Call, Kind, Unexplained};

impl AdminService {
    pub(super) async fn config_of_proxy(&self, request: ProxyConfigRequest) -> Result<ProxyConfigResponse, Status> {
        let ProxyConfigRequest { kind, host } = request;
        let kind: Kind = kind.parse()?;
        let snapshot = self.inner.ads.snapshot();
        let names: BTreeSet<String> =
            explain::workloads(&snapshot, &host).into_iter().map(|member| explain::node_name(member)).collect();
        let is = |id: &str| id == host || id.split('~').nth(2).is_some_and(|name| names.contains(name));
        let found = self.inner.ads.asked_by(is).await;
        let Some((client, asked)) = found.first() else {
            let why = match names.is_empty() {
                true => format!("there is no host, workload or node {host:?}"),
                false => format!("the proxy of {host} is not connected"),
            };
            return Err(Unexplained::NotFound(why).into());
        };
        let sight = Sight::new(self.inner.ads.compiler(), client, &snapshot);
        let member = client.workload(&snapshot).and_then(|id| snapshot.workload(&id));
        let rows = explain::rows(kind, &sight, &snapshot, client, asked, member);
        Ok(ProxyConfigResponse { node_id: client.node_id.clone(), class: client.class.as_str().to_owned(), rows })
    }

    pub(super) fn explain_call(&self, request: WhyRequest) -> Result<WhyResponse, Status> {
        let WhyRequest { from, to, method, path, headers } = request;
        let snapshot = self.inner.ads.snapshot();
        let call = Call { from, to, method, path, headers };
        Ok(explain::why(self.inner.ads.compiler(), &snapshot, &call)?)
    }
}

impl From<Unexplained> for Status {
    fn from(why: Unexplained) -> Self {
        match why {
            Unexplained::Invalid(text) => Self::invalid_argument(text),
            Unexplained::NotFound(text) => {
                let mut status = Self::not_found(text);
                let hint =
                    "hawser proxy-status lists the proxies that are connected, hawser get workloads the workloads";
                if let Ok(hint) = hint.parse() {
                    status.metadata_mut().insert("hawser-hint", hint);
                }
                status
            }
        }
    }
}
