//! Joining by itself, with a token that the service manager hands over.
//!
//! In: the credential `hawser.token` (`LoadCredential=`), of an image or of the machine that boots it. Out: a joined host, with
//! no command. A token that this host has left with is not used again: who left wants to stay out.

use std::path::PathBuf;
use std::time::Duration;

use hawser_api::proto::agent::JoinHostRequest;
use hawser_api::token::JoinToken;
use hawser_daemon::backoff::Backoff;
use zeroize::Zeroizing;

use crate::host::{Host, Steps};
use crate::state::StateDir;

const NAME: &str = "hawser.token";
/// The id of the token that was left with.
const LEFT: &str = "left";
/// A token is far shorter.
const LONGEST: u64 = 64 << 10;

/// Joins as soon as that can be, unless the host is joined.
pub(crate) async fn join(host: Host, state: StateDir) {
    let token = match read() {
        Ok(Some(token)) => token,
        Ok(None) => return,
        Err(error) => return tracing::error!(credential = NAME, %error, "the join token can't be read"),
    };
    let parsed: JoinToken = match token.parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            host.set_trouble(Some(format!("the credential {NAME} is no join token: {error}")));
            return tracing::error!(credential = NAME, %error, "this is no join token");
        }
    };
    if state.read(LEFT).ok().flatten().is_some_and(|left| left == parsed.id.as_bytes()) {
        tracing::info!(credential = NAME, "this host has left the mesh with this token, and stays out");
        return;
    }
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    while host.member().is_none() {
        let request = JoinHostRequest { token: token.to_string(), ..JoinHostRequest::default() };
        match host.join(request, &Steps::silent()).await {
            Ok(()) => break,
            Err(refusal) => {
                tracing::warn!(credential = NAME, reason = refusal.reason, why = %refusal, "this host could not join");
                host.set_trouble(Some(refusal.sentence));
            }
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
    // By itself, or because somebody had it join meanwhile.
    host.set_trouble(None);
}

/// Notes that the host left, if it would join by itself again.
pub(crate) fn left(state: &StateDir, token_id: &str) {
    if path().is_some_and(|path| path.exists())
        && let Err(error) = state.write(LEFT, token_id.as_bytes())
    {
        tracing::warn!(%error, "the next start will join again with the same token");
    }
}

fn path() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(NAME))
}

fn read() -> std::io::Result<Option<Zeroizing<String>>> {
    use std::io::Read as _;
    let Some(path) = path().filter(|path| path.exists()) else { return Ok(None) };
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}
