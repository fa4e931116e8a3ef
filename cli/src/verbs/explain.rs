//! `hawser proxy-config` and `hawser why`: what is compiled, for people who look for a reason.

use std::path::Path;

use clap::ValueEnum as _;
use hawser_api::proto::admin::{
    ObjectRef, ProxyConfigRequest, ProxyConfigRow, WhyEndpoint, WhyRequest, WhyResponse, WhyStep,
};
use serde::Serialize;

use super::call;
use crate::args::{Given, ProxyConfig, Why};
use crate::failure::Outcome;
use crate::output::{self, Format, Row, joined};
use crate::{connect, exit};

pub(super) async fn proxy_config(socket: Option<&Path>, format: Format, config: ProxyConfig) -> Outcome {
    let kind = config.kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let request = ProxyConfigRequest { kind, host: config.host };
    let answer = connect::admin(socket).await?.proxy_config(call(request)).await?.into_inner();
    let rows = answer.rows;
    if rows.is_empty() && format == Format::Table {
        eprintln!("{} ({}) has none", answer.node_id, answer.class);
        return Ok(exit::OK);
    }
    match config.kind {
        Given::Listeners => output::list(format, &rows.into_iter().map(Listener::of).collect::<Vec<_>>()),
        Given::Routes => output::list(format, &rows.into_iter().map(Route::of).collect::<Vec<_>>()),
        Given::Clusters => output::list(format, &rows.into_iter().map(Cluster::of).collect::<Vec<_>>()),
        Given::Endpoints => output::list(format, &rows.into_iter().map(Endpoint::of).collect::<Vec<_>>()),
        Given::Secrets => output::list(format, &rows.into_iter().map(Secret::of).collect::<Vec<_>>()),
        Given::Policies => output::list(format, &rows.into_iter().map(Policy::of).collect::<Vec<_>>()),
    }?;
    Ok(exit::OK)
}

pub(super) async fn why(socket: Option<&Path>, format: Format, why: Why) -> Outcome {
    let Why { from, to, method, path, headers } = why;
    let request = WhyRequest { from, to, method, path, headers };
    let answer = connect::admin(socket).await?.why(call(request)).await?.into_inner();
    let served = !matches!(answer.outcome.as_str(), "no-route" | "no-endpoint" | "refused");
    let explained = Explained::of(answer);
    if format == Format::Table {
        output::list(format, &explained.steps)?;
        output::text(&format!("\n{}\n", explained.outcome))?;
        if !explained.endpoints.is_empty() {
            output::text("\n")?;
            output::list(format, &explained.endpoints)?;
        }
    } else {
        output::value(format, &explained)?;
    }
    Ok(if served { exit::OK } else { exit::NOT_SERVED })
}

#[derive(Serialize)]
struct Explained {
    outcome: String,
    steps: Vec<Step>,
    endpoints: Vec<Reached>,
}

impl Explained {
    fn of(answer: WhyResponse) -> Self {
        Self {
            outcome: answer.outcome,
            steps: answer.steps.into_iter().map(Step::of).collect(),
            endpoints: answer.endpoints.into_iter().map(Reached::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Step {
    what: String,
    name: String,
    says: String,
    decided_by: Vec<String>,
}

impl Step {
    fn of(step: WhyStep) -> Self {
        let WhyStep { what, name, says, decided_by } = step;
        Self { what, name, says, decided_by: decided(decided_by) }
    }
}

impl Row for Step {
    const TITLES: &'static [&'static str] = &["STEP", "NAME", "SAYS", "DECIDED BY"];

    fn cells(&self) -> Vec<String> {
        let name = if self.name.is_empty() { "-".to_owned() } else { self.name.clone() };
        vec![self.what.clone(), name, self.says.clone(), joined(&self.decided_by)]
    }
}

#[derive(Serialize)]
struct Reached {
    cluster: String,
    address: String,
    workload: String,
    health: String,
    mtls: bool,
    share: u32,
}

impl Reached {
    fn of(endpoint: WhyEndpoint) -> Self {
        let WhyEndpoint { cluster, address, workload, health, mtls, share } = endpoint;
        Self { cluster, address, workload, health, mtls, share }
    }
}

impl Row for Reached {
    const TITLES: &'static [&'static str] = &["ENDPOINT", "WORKLOAD", "HEALTH", "MTLS", "CLUSTER", "SHARE"];

    fn cells(&self) -> Vec<String> {
        let mtls = if self.mtls { "yes" } else { "no" };
        let (address, workload, cluster) = (self.address.clone(), self.workload.clone(), self.cluster.clone());
        vec![address, workload, self.health.clone(), mtls.to_owned(), cluster, format!("{}%", self.share)]
    }
}

/// A kind of rows: the fields of its listing, in the order of the answer's, and their titles.
macro_rules! rows {
    ($($kind:ident { $name:ident: $name_title:literal, $match:ident: $match_title:literal, $to:ident: $to_title:literal,
        $detail:ident: $detail_title:literal })*) => { $(
        #[derive(Serialize)]
        struct $kind {
            $name: String,
            $match: String,
            $to: String,
            $detail: String,
            decided_by: Vec<String>,
        }

        impl $kind {
            fn of(row: ProxyConfigRow) -> Self {
                let ProxyConfigRow { name, r#match, to, detail, decided_by } = row;
                Self { $name: name, $match: r#match, $to: to, $detail: detail, decided_by: decided(decided_by) }
            }
        }

        impl Row for $kind {
            const TITLES: &'static [&'static str] =
                &[$name_title, $match_title, $to_title, $detail_title, "DECIDED BY"];

            fn cells(&self) -> Vec<String> {
                let cell = |text: &String| if text.is_empty() { "-".to_owned() } else { text.clone() };
                let Self { $name, $match, $to, $detail, decided_by } = self;
                vec![cell($name), cell($match), cell($to), cell($detail), joined(decided_by)]
            }
        }
    )* };
}

rows! {
    Listener { listener: "LISTENER", takes: "TAKES", to: "TO", tls: "TLS" }
    Route { routes: "ROUTES", takes: "TAKES", to: "TO", route: "ROUTE" }
    Cluster { cluster: "CLUSTER", kind: "KIND", to: "TO", tls: "TLS" }
    Endpoint { cluster: "CLUSTER", address: "ENDPOINT", workload: "WORKLOAD", state: "STATE" }
    Secret { secret: "SECRET", what: "WHAT", identity: "IDENTITY", from: "FROM" }
    Policy { port: "PORT", name: "NAME", says: "SAYS", of: "OF" }
}

/// `VirtualService default/reviews`.
fn decided(all: Vec<ObjectRef>) -> Vec<String> {
    all.into_iter().map(|object| format!("{} {}/{}", object.kind, object.namespace, object.name)).collect()
}
