//! `hawser apply`, `delete`, `validate`: resources of Istio's API.

use std::path::{Path, PathBuf};

use hawser_api::proto::admin::{Applied, ApplyRequest, DeleteRequest, ObjectRef};
use serde::Serialize;

use crate::args::{Apply, Delete};
use crate::failure::{Failure, Outcome, printable};
use crate::output::{self, Format};
use crate::{connect, exit, input, terminal};

use super::call;

pub(super) async fn apply(socket: Option<&Path>, format: Format, apply: Apply) -> Outcome {
    let documents = input::documents(&apply.files.files)?;
    let request = ApplyRequest { documents, dry_run: apply.dry_run };
    let answer = connect::admin(socket).await?.apply(call(request)).await?.into_inner();
    show(format, answer.applied, if apply.dry_run { " (dry run)" } else { "" })
}

pub(super) async fn delete(socket: Option<&Path>, format: Format, delete: Delete) -> Outcome {
    let documents = input::documents(&delete.files)?;
    let objects = match (delete.kind, delete.name) {
        (Some(kind), Some(name)) => vec![ObjectRef { kind, namespace: delete.namespace, name }],
        _ => Vec::new(),
    };
    let answer = connect::admin(socket).await?.delete(call(DeleteRequest { documents, objects })).await?.into_inner();
    show(format, answer.deleted, "")
}

fn show(format: Format, applied: Vec<Applied>, suffix: &str) -> Outcome {
    let views: Vec<View> = applied.into_iter().map(View::of).collect();
    if format != Format::Table {
        output::value(format, &views)?;
        return Ok(exit::OK);
    }
    for view in &views {
        output::text(&printable(&format!("{} {}{suffix}\n", view.title(), view.outcome)))?;
        for warning in &view.warnings {
            terminal::warn(&format!("{}: {warning}", view.title()));
        }
    }
    Ok(exit::OK)
}

#[derive(Serialize)]
struct View {
    kind: String,
    namespace: String,
    name: String,
    outcome: String,
    warnings: Vec<String>,
}

impl View {
    fn of(applied: Applied) -> Self {
        let object = applied.object.unwrap_or_default();
        Self {
            kind: object.kind,
            namespace: object.namespace,
            name: object.name,
            outcome: applied.outcome,
            warnings: applied.warnings,
        }
    }

    fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Every problem of every file, then a failure if there is any.
pub(super) fn validate(_format: Format, files: &[PathBuf]) -> Outcome {
    let _documents = input::documents(files)?;
    Err(Failure::new(exit::FAILURE, "not yet"))
}
