//! `hawser-agent doctor`: the same looks without a running agent, for `hawser doctor` where there is none.
//!
//! In: the agent's own arguments, a join token on stdin or nothing. Out: a `DoctorResponse` on stdout. It takes no lock, makes no
//! file, and may less than the agent unless it is root.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use hawser_api::proto::agent::DoctorResponse;
use hawser_api::token::JoinToken;
use prost::Message as _;

use super::{Finding, Patient, examine};
use crate::Args;
use crate::config::Config;
use crate::identity::OnDisk;

const CHECK: &str = "agent";
const LONGEST: u64 = 64 << 10;

/// Runs if the arguments ask for it.
pub fn errand(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    (args.next()? == "doctor").then(|| match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn run(args: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let args = Args::try_parse_from(std::iter::once(OsString::from("hawser-agent")).chain(args))?;
    let mut token = zeroize::Zeroizing::new(String::new());
    if !std::io::stdin().is_terminal() {
        std::io::stdin().take(LONGEST).read_to_string(&mut token)?;
    }
    let token: Option<JoinToken> = Some(token.trim()).filter(|token| !token.is_empty()).map(str::parse).transpose()?;
    let mut findings = Vec::new();
    let config = Config::load(&args).unwrap_or_else(|error| {
        let cure = "mend it, then: systemctl start hawser-agent";
        findings.push(Finding::failure(CHECK, format!("the agent can't start: {error:#}"), cure));
        Config::bare(&args)
    });
    let joined = OnDisk::read(&config.state_dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let patient = Patient { config: &config, member: None, joined: joined.as_ref(), token: token.as_ref() };
    findings.extend(runtime.block_on(examine(&patient)));
    // Whatever hangs on a disk or in a name service is left behind.
    runtime.shutdown_background();
    let response = DoctorResponse { findings: findings.into_iter().map(Into::into).collect() };
    std::io::stdout().write_all(&response.encode_to_vec())?;
    Ok(())
}
