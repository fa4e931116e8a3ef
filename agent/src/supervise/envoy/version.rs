//! Which Envoy a program is, and whether it will do.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// The oldest that takes all that discovery sends: an older one ignores fields that it does not know.
const OLDEST: (u32, u32) = (1, 40);
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a program can't be the proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// There is none.
    #[error(
        "{} can't be run: install Envoy {}.{} or newer, or name its program in /etc/hawser/agent.yaml: \
         `envoy: {{binary: /path/to/envoy}}`", .0.display(), OLDEST.0, OLDEST.1
    )]
    Missing(PathBuf, #[source] std::io::Error),
    /// It does not say which it is.
    #[error("{} is no Envoy: `--version` does not say so; correct `envoy: {{binary: ...}}` in /etc/hawser/agent.yaml", .0.display())]
    Other(PathBuf),
    /// It would ignore what it does not know.
    #[error("{} is Envoy {}: Hawser needs {}.{} or newer; upgrade it", .0.display(), .1, OLDEST.0, OLDEST.1)]
    Old(PathBuf, String),
}

/// The version of a program that will do.
pub(crate) async fn version(binary: &Path) -> Result<String, Unusable> {
    let mut command = Command::new(binary);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match timeout(PATIENCE, command.output()).await {
        Ok(output) => output.map_err(|error| Unusable::Missing(binary.into(), error))?,
        Err(_) => return Err(Unusable::Other(binary.into())),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse(&text).ok_or_else(|| Unusable::Other(binary.into()))?;
    if numbers(&version).is_none_or(|found| found < OLDEST) {
        return Err(Unusable::Old(binary.into(), version));
    }
    Ok(version)
}

/// The version of one that runs, from its page `/server_info`.
pub(super) fn running(page: &str) -> Option<String> {
    let page: serde_json::Value = serde_json::from_str(page).ok()?;
    second(page.get("version")?.as_str()?)
}

/// `<program>  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse(text: &str) -> Option<String> {
    second(text.split_once("version: ")?.1)
}

fn second(text: &str) -> Option<String> {
    let version: String = text.split('/').nth(1)?.chars().take(32).collect();
    numbers(&version).map(|_| version)
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_envoy_says() {
        let said = "\n/usr/bin/envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse(said).as_deref(), Some("1.40.0"));
        assert_eq!(
            running(r#"{"version": "9e55809/1.41.0-dev/Clean/RELEASE/BoringSSL"}"#).as_deref(),
            Some("1.41.0-dev")
        );
        for other in ["", "nginx version: nginx/1.28.0", "version: a/b/c", "bash 5"] {
            let found = parse(other).and_then(|version| numbers(&version));
            assert!(found.is_none_or(|found| found < OLDEST), "{other}");
        }
    }

    #[tokio::test]
    async fn what_will_not_do_is_refused_with_its_cure() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, says: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let old = script("old", "envoy  version: abc/1.22.2/Clean/RELEASE/BoringSSL");
        let other = script("other", "hello");
        let new = script("new", "envoy  version: abc/2.0.1/Clean/RELEASE/BoringSSL");
        assert_eq!(version(&new).await.unwrap(), "2.0.1");
        for (path, words) in
            [(old, "1.22.2: Hawser needs 1.40"), (other, "no Envoy"), (dir.path().join("none"), "install Envoy 1.40")]
        {
            let error = version(&path).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
