//! `hawser doctor`: what is to be mended on this host, before it joins or since.
//!
//! The agent looks, as it has the rights. Where none runs, that is said, and its program looks once without being it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hawser_api::proto::agent::finding::Verdict;
use hawser_api::proto::agent::{DoctorRequest, DoctorResponse, Finding};
use hawser_api::token::JoinToken;
use prost::Message as _;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use super::call;
use crate::args::Doctor;
use crate::failure::{Failure, Outcome, printable};
use crate::output::{self, Format};
use crate::{connect, exit, input};

const PROGRAM: &str = "hawser-agent";
/// Longer than all looks together.
const PATIENCE: Duration = Duration::from_secs(20);
const LARGEST: u64 = 1 << 20;

pub(super) async fn run(socket: Option<&Path>, format: Format, doctor: Doctor) -> Outcome {
    let variable = std::env::var("HAWSER_TOKEN").ok();
    let token = input::token_if_any(doctor.token, doctor.token_file.as_deref(), variable)?.unwrap_or_default();
    if !token.is_empty() {
        token.parse::<JoinToken>().map_err(|e| Failure::new(exit::INVALID, format!("{e}")))?;
    }
    let findings = match connect::agent(socket).await {
        Ok(mut agent) => match agent.doctor(call(DoctorRequest { token })).await {
            Ok(answer) => answer.into_inner().findings,
            Err(status) if status.code() == Code::Unimplemented => {
                return Err(Failure::new(exit::FAILURE, "the agent that runs here is older than this command")
                    .hint("systemctl restart hawser-agent"));
            }
            Err(status) => return Err(status.into()),
        },
        Err(away) if away.is_absence() => without_agent(&away, &token).await,
        Err(failure) => return Err(failure),
    };
    show(format, &findings)?;
    let unfit = findings.iter().any(|finding| finding.verdict() == Verdict::Failure);
    Ok(if unfit { exit::UNFIT } else { exit::OK })
}

/// What can be seen while the agent is away, its absence first.
async fn without_agent(away: &Failure, token: &str) -> Vec<Finding> {
    let mut findings = vec![finding(Verdict::Failure, away.to_string(), "systemctl start hawser-agent")];
    match look(token).await {
        Ok(seen) => findings.extend(seen),
        Err(why) => findings.push(finding(Verdict::Unknown, why, "install the package hawser-agent")),
    }
    findings
}

/// Has the agent's program look, which needs no running agent.
async fn look(token: &str) -> Result<Vec<Finding>, String> {
    let program = program().ok_or_else(|| format!("{PROGRAM} is not installed here, so nothing else was looked at"))?;
    let failed = |why: String| format!("{} could not look at this host: {}", program.display(), printable(&why));
    let mut command = tokio::process::Command::new(&program);
    command.arg("doctor").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let said = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(token.as_bytes()).await?;
        }
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(LARGEST).read_to_end(&mut bytes).await?;
        }
        child.wait().await.map(|status| (status, bytes))
    };
    match tokio::time::timeout(PATIENCE, said).await {
        Ok(Ok((status, bytes))) if status.success() => DoctorResponse::decode(bytes.as_slice())
            .map(|said| said.findings)
            .map_err(|error| failed(error.to_string())),
        Ok(Ok((status, _))) => Err(failed(status.to_string())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer in {} s", PATIENCE.as_secs()))),
    }
}

/// Beside this program, or where packages have it.
fn program() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(PROGRAM)));
    beside.into_iter().chain([Path::new("/usr/bin").join(PROGRAM)]).find(|path| path.is_file())
}

fn finding(verdict: Verdict, sentence: String, cure: &str) -> Finding {
    Finding { check: "agent".to_owned(), verdict: verdict.into(), sentence, cure: cure.to_owned() }
}

/// One as programs read it.
#[derive(Serialize)]
struct Shown<'a> {
    check: &'a str,
    verdict: &'static str,
    sentence: &'a str,
    cure: &'a str,
}

impl<'a> Shown<'a> {
    fn of(finding: &'a Finding) -> Self {
        let Finding { check, sentence, cure, .. } = finding;
        Self { check, verdict: word(finding.verdict()), sentence, cure }
    }
}

fn show(format: Format, findings: &[Finding]) -> Outcome<()> {
    if format != Format::Table {
        return output::value(format, &findings.iter().map(Shown::of).collect::<Vec<_>>());
    }
    let mut text = String::new();
    for finding in findings {
        let verdict = finding.verdict();
        let line = |text: &str| printable(text).replace(['\n', '\t'], " ");
        text.push_str(&format!("{:<8} {:<13} {}\n", word(verdict), line(&finding.check), line(&finding.sentence)));
        if verdict != Verdict::Ok && !finding.cure.is_empty() {
            text.push_str(&format!("{:<22} {}\n", "", line(&finding.cure)));
        }
    }
    output::text(&text)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failure => "failure",
        Verdict::Unknown => "unknown",
    }
}
