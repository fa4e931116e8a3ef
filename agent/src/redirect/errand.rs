//! Short runs of the agent's program that do one thing to redirection and end.
//!
//! `redirect-guard <state dir> <seconds>` undoes a commit that nobody confirms; `redirect-restore <state dir>` loads what
//! was saved, at boot, before the network is up; `redirect-remove <state dir>` takes everything away, for who removes the agent
//! when it does not run. None needs the agent's configuration.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{RedirectError, Redirection, guard};

/// Runs an errand if the arguments name one.
pub fn errand(args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.take(4).collect();
    let name = args.first()?.to_str()?;
    let result = match (name, args.get(1).map(PathBuf::from)) {
        ("redirect-guard", Some(dir)) => {
            let seconds = args.get(2).and_then(|s| s.to_str()?.parse().ok());
            let timer = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or(super::TIMER);
            run(guard(&dir, timer))
        }
        ("redirect-restore", Some(dir)) => run(async {
            for note in Redirection::new(&dir).restore().await? {
                tracing::warn!("{note}");
            }
            Ok(())
        }),
        ("redirect-remove", Some(dir)) => run(async { Redirection::new(&dir).remove(Duration::ZERO).await.map(drop) }),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes.
            tracing::error!(
                errand = name,
                error = format!("{:#}", anyhow::Error::from(error)),
                "redirection could not be settled"
            );
            ExitCode::FAILURE
        }
    })
}

fn run(work: impl Future<Output = Result<(), RedirectError>>) -> Result<(), RedirectError> {
    // Without a log the errand still does its work.
    _ = hawser_daemon::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| RedirectError::Nft(super::NftError::Io(e)))?;
    runtime.block_on(work)
}
