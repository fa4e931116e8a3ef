//! `hawser apply`, `delete`, `validate`: resources of Istio's API.

use std::path::{Path, PathBuf};

use hawser_api::istio;
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

/// Every problem of every file, then a failure if there is any. Asks no server.
pub(super) fn validate(format: Format, files: &[PathBuf]) -> Outcome {
    let mut checked = Vec::new();
    for document in input::documents(files)? {
        let results = istio::parse_documents(&document.file, &document.yaml);
        if results.is_empty() {
            terminal::warn(&format!("{} holds no document", document.file));
        }
        checked.extend(results.into_iter().map(|result| Checked::of(&document.file, result)));
    }
    let bad = checked.iter().filter(|c| !c.valid).count();
    if format == Format::Table {
        for one in &checked {
            one.print()?;
        }
    } else {
        output::value(format, &checked)?;
    }
    match (bad, checked.len()) {
        (0, _) => Ok(exit::OK),
        (bad, all) => Err(Failure::new(exit::INVALID, format!("{bad} of {all} documents can't be used"))),
    }
}

#[derive(Serialize)]
struct Checked {
    file: String,
    line: u32,
    /// Empty where not even that could be read.
    object: String,
    valid: bool,
    problems: Vec<String>,
    /// Fields that are known and not honoured yet.
    warnings: Vec<String>,
}

impl Checked {
    fn of(file: &str, result: Result<istio::Parsed, istio::ParseError>) -> Self {
        let file = file.to_owned();
        match result {
            Ok(parsed) => {
                let report = istio::honoured(&parsed.resource);
                let object = parsed.resource.object_ref().to_string();
                let problems: Vec<_> = (report.refuse.iter())
                    .map(|why| format!("{file}:{}: {object} is refused: {why}", parsed.line))
                    .collect();
                let warnings = report.unhonoured.iter().map(|u| format!("{}: {}", u.path, u.why)).collect();
                Self { line: parsed.line, valid: problems.is_empty(), file, object, problems, warnings }
            }
            Err(error) => Self {
                line: error.line,
                object: error.object.as_ref().map(ToString::to_string).unwrap_or_default(),
                valid: false,
                problems: error.to_string().lines().map(str::to_owned).collect(),
                warnings: Vec::new(),
                file,
            },
        }
    }

    fn print(&self) -> Outcome<()> {
        if self.valid {
            output::text(&printable(&format!("{} valid\n", self.object)))?;
        }
        for problem in &self.problems {
            eprintln!("{}", printable(problem));
        }
        for warning in &self.warnings {
            terminal::warn(&format!("{}: {warning}", self.object));
        }
        Ok(())
    }
}
