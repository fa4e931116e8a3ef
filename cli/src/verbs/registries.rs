//! `hawser registries`: where services come from, and whether that still speaks.

use std::path::Path;

use hawser_api::proto::admin::{AcceptRegistryRequest, ListRegistriesRequest, RegistryInfo};
use serde::Serialize;

use super::call;
use crate::args::Registries;
use crate::failure::Outcome;
use crate::output::{self, Format, Row, time};
use crate::{connect, exit, terminal};

pub(super) async fn run(socket: Option<&Path>, format: Format, verb: Option<Registries>) -> Outcome {
    let mut admin = connect::admin(socket).await?;
    match verb {
        None | Some(Registries::List) => {
            let answer = admin.list_registries(call(ListRegistriesRequest {})).await?.into_inner();
            let rows: Vec<View> = answer.registries.into_iter().map(View::of).collect();
            output::list(format, &rows)?;
            if format == Format::Table {
                for (row, message) in rows.iter().flat_map(|row| row.messages.iter().map(move |m| (row, m))) {
                    terminal::warn(&format!("{} is {}: {message}", row.name, row.state));
                }
            }
            for note in &answer.notes {
                terminal::warn(note);
            }
        }
        Some(Registries::Accept { name }) => {
            let answer = admin.accept_registry(call(AcceptRegistryRequest { name })).await?.into_inner();
            eprintln!("the loss of {} is accepted", answer.name);
        }
    }
    Ok(exit::OK)
}

#[derive(Serialize)]
struct View {
    name: String,
    kind: String,
    /// `synced`, `syncing`, `stale`, `frozen`.
    state: String,
    since: Option<String>,
    messages: Vec<String>,
    services: u32,
    workloads: u32,
    last_contact: Option<String>,
    stored: Option<String>,
    #[serde(skip)]
    contact: String,
    #[serde(skip)]
    age: String,
}

impl View {
    fn of(r: RegistryInfo) -> Self {
        Self {
            contact: time::relative(r.last_contact),
            age: time::relative(r.since),
            name: r.name,
            kind: r.kind,
            state: r.state,
            since: time::text(r.since),
            messages: r.messages,
            services: r.services,
            workloads: r.workloads,
            last_contact: time::text(r.last_contact),
            stored: time::text(r.stored),
        }
    }
}

impl Row for View {
    const TITLES: &'static [&'static str] = &["NAME", "STATE", "SINCE", "SERVICES", "WORKLOADS", "LAST CONTACT"];

    fn cells(&self) -> Vec<String> {
        let (services, workloads) = (self.services.to_string(), self.workloads.to_string());
        vec![self.name.clone(), self.state.clone(), self.age.clone(), services, workloads, self.contact.clone()]
    }
}
