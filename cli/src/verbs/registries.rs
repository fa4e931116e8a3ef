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
                for row in &rows {
                    row.messages.iter().for_each(|m| terminal::warn(&format!("{} is {}: {m}", row.name, row.state)));
                    row.refused.iter().for_each(|what| terminal::warn(&format!("{}: {what}", row.name)));
                    row.left_out().iter().for_each(|what| terminal::note(&format!("{}: {what}", row.name)));
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

/// Namespaces that are named in a sentence.
const SHOWN: usize = 10;

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
    /// Namespaces that are no part of the mesh.
    left_out: Vec<String>,
    left_out_count: u32,
    /// What we may not see or write.
    refused: Vec<String>,
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
            left_out: r.left_out,
            left_out_count: r.left_out_count,
            refused: r.refused,
        }
    }

    /// Namespaces that are no part of the mesh, in a sentence.
    fn left_out(&self) -> Option<String> {
        let shown: Vec<&str> = self.left_out.iter().take(SHOWN).map(String::as_str).collect();
        let more = self.left_out_count.saturating_sub(u32::try_from(shown.len()).unwrap_or(u32::MAX));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!shown.is_empty()).then(|| format!("discoverySelectors leave out {}{more}", shown.join(", ")))
    }
}

impl Row for View {
    const TITLES: &'static [&'static str] = &["NAME", "STATE", "SINCE", "SERVICES", "WORKLOADS", "LAST CONTACT"];

    fn cells(&self) -> Vec<String> {
        let (services, workloads) = (self.services.to_string(), self.workloads.to_string());
        vec![self.name.clone(), self.state.clone(), self.age.clone(), services, workloads, self.contact.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_that_are_left_out_are_named_as_far_as_a_line_goes() {
        let view = |all: usize| {
            let names = (0..all.min(1000)).map(|number| format!("n{number}")).collect();
            View::of(RegistryInfo { left_out: names, left_out_count: all as u32, ..RegistryInfo::default() }).left_out()
        };
        assert_eq!(view(0), None);
        assert_eq!(view(2).unwrap(), "discoverySelectors leave out n0, n1");
        assert!(view(3000).unwrap().ends_with("n8, n9 and 2990 more"));
    }
}
