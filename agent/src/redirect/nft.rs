//! The program `nft`: loads a batch, reads back our own table, and says what is missing where it can't.
//!
//! Only `table inet hawser` is ever read to act on it: another's rules are none of our business and may not parse. What
//! `hawser doctor` tells of them changes nothing, and is little where they can't be read.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nftables::schema::Nftables;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::ruleset::TABLE;

/// How long `nft` may take; tens of thousands of elements need about one second.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is read of other people's rules.
const LARGEST_LOOK: u64 = 8 << 20;

/// Why `nft` did not do it.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// No such program.
    #[error("nft is not installed: install package nftables (apt install nftables, or dnf install nftables)")]
    Missing,
    /// Built without libjansson.
    #[error("nft on this host was built without JSON support: install the distribution's own nftables package")]
    NoJson,
    /// Not root, no capability.
    #[error(
        "nft may not change the firewall: run as root, or with CAP_NET_ADMIN in the network namespace's user namespace"
    )]
    NotPermitted,
    /// A kernel without what we need.
    #[error("this kernel lacks {what}: load module {module}, or run a kernel with {config}")]
    Kernel {
        /// In words.
        what: &'static str,
        /// The module.
        module: &'static str,
        /// Its configuration option.
        config: &'static str,
    },
    /// Something else.
    #[error("nft refused: {0}")]
    Refused(String),
    /// It hangs.
    #[error("nft did not finish within {} s: is another program holding the firewall?", PATIENCE.as_secs())]
    TimedOut,
    /// It could not be run.
    #[error("nft could not be run")]
    Io(#[source] std::io::Error),
}

/// Loads a batch in one transaction.
pub(super) async fn load_json(batch: &Nftables<'_>) -> Result<(), NftError> {
    let payload = serde_json::to_string(batch).map_err(|e| NftError::Refused(e.to_string()))?;
    explain(run(&["-j", "-f", "-"], &payload).await).await.map(drop)
}

/// Loads a file in nft's own language in one transaction.
pub(super) async fn load_text(file: &str) -> Result<(), NftError> {
    explain(run(&["-f", "-"], file).await).await.map(drop)
}

/// Our table as nft writes it, without counters and elements; `None` if there is none.
pub(super) async fn list_rules() -> Result<Option<String>, NftError> {
    optional(run(&["-s", "-t", "list", "table", "inet", TABLE], "").await)
}

/// Our table as nft writes it, whole; `None` if there is none.
pub(super) async fn list_text() -> Result<Option<String>, NftError> {
    optional(run(&["list", "table", "inet", TABLE], "").await)
}

/// Our table as JSON; `None` if there is none.
pub(super) async fn list_json() -> Result<Option<serde_json::Value>, NftError> {
    json(optional(run(&["-j", "list", "table", "inet", TABLE], "").await)?)
}

/// The counters of our table as JSON; `None` if there is no table.
pub(super) async fn list_counters() -> Result<Option<serde_json::Value>, NftError> {
    json(optional(run(&["-j", "list", "counters", "table", "inet", TABLE], "").await)?)
}

fn json(text: Option<String>) -> Result<Option<serde_json::Value>, NftError> {
    let parse = |text: String| serde_json::from_str(&text);
    text.map(parse).transpose().map_err(|e| NftError::Refused(format!("its answer is no JSON: {e}")))
}

/// What redirection needs of the kernel, each tried by itself without changing anything; the first that is missing.
pub async fn probe() -> Result<(), NftError> {
    let nat = |rule: &str| {
        format!("table inet {TABLE} {{\nchain probe {{ type nat hook prerouting priority -110; {rule}; }}\n}}\n")
    };
    let filter = |rule: &str| {
        format!("table inet {TABLE} {{\nchain probe {{ type filter hook prerouting priority -150; {rule}; }}\n}}\n")
    };
    let sets = format!("table inet {TABLE} {{\nset probe {{ type ipv4_addr . inet_service; flags interval; }}\n}}\n");
    let probes: [(String, &str, &str, &str); 6] = [
        (format!("table inet {TABLE} {{ }}"), "nftables with family inet", "nf_tables", "CONFIG_NF_TABLES_INET"),
        (sets, "sets of address ranges and ports", "nf_tables", "CONFIG_NF_TABLES, Linux 5.6 or later"),
        (nat("dnat ip to ip daddr"), "address translation in nftables", "nft_chain_nat nft_nat", "CONFIG_NFT_NAT"),
        (nat("tcp dport 1 redirect to :2"), "redirection in nftables", "nft_redir", "CONFIG_NFT_REDIR"),
        (filter("fib daddr type local accept"), "address look-up in nftables", "nft_fib_inet", "CONFIG_NFT_FIB_INET"),
        (
            filter("tcp dport 1 tproxy ip to 127.0.0.1:2"),
            "transparent proxying in nftables",
            "nft_tproxy",
            "CONFIG_NFT_TPROXY",
        ),
    ];
    for (file, what, module, config) in probes {
        match run(&["-c", "-f", "-"], &file).await {
            Ok(_) => {}
            Err(NftError::Refused(_)) => return Err(NftError::Kernel { what, module, config }),
            Err(other) => return Err(other),
        }
    }
    run(&["-j", "-c", "-f", "-"], r#"{"nftables":[]}"#).await.map(drop)
}

/// What the program says it is.
pub(crate) async fn version() -> Result<String, NftError> {
    run(&["--version"], "").await
}

/// Every chain of the host by name, hook and policy, without rules: who else has a firewall here.
pub(crate) async fn chains() -> Result<serde_json::Value, NftError> {
    look(&["-j", "list", "chains"]).await
}

/// Somebody's table, without elements of its sets: what it lets in. Nothing is done with it but to tell.
pub(crate) async fn table_of_others(family: &str, table: &str) -> Result<serde_json::Value, NftError> {
    look(&["-j", "-t", "list", "table", family, table]).await
}

/// Reads what may be anybody's and of any size.
async fn look(args: &[&str]) -> Result<serde_json::Value, NftError> {
    let mut command = Command::new(program());
    command.args(args).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(spawning)?;
    let mut text = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(LARGEST_LOOK + 1).read_to_end(&mut text).await.map_err(NftError::Io)?;
    }
    if text.len() as u64 > LARGEST_LOOK {
        return Err(NftError::Refused("its answer is too long".into()));
    }
    if !child.wait().await.map_err(NftError::Io)?.success() {
        return Err(NftError::Refused(args.join(" ")));
    }
    serde_json::from_slice(&text).map_err(|e| NftError::Refused(format!("its answer is no JSON: {e}")))
}

fn spawning(error: std::io::Error) -> NftError {
    match error.kind() {
        std::io::ErrorKind::NotFound => NftError::Missing,
        _ => NftError::Io(error),
    }
}

/// A refusal that names no cause gets one from the probes.
async fn explain(result: Result<String, NftError>) -> Result<String, NftError> {
    match result {
        Err(NftError::Refused(reason)) => {
            probe().await?;
            Err(NftError::Refused(reason))
        }
        other => other,
    }
}

fn optional(result: Result<String, NftError>) -> Result<Option<String>, NftError> {
    match result {
        Ok(text) => Ok(Some(text)),
        Err(NftError::Refused(reason)) if reason.contains("No such file or directory") => Ok(None),
        Err(other) => Err(other),
    }
}

async fn run(args: &[&str], input: &str) -> Result<String, NftError> {
    let mut command = Command::new(program());
    command.args(args).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(spawning)?;
    let stdin = child.stdin.take();
    let fed = async {
        if let Some(mut stdin) = stdin {
            // A program that stops reading says why on its standard error.
            _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(fed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(PATIENCE, both).await.map_err(|_| NftError::TimedOut)?.map_err(NftError::Io)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(if said.contains("JSON support not compiled-in") {
        NftError::NoJson
    } else if said.contains("Operation not permitted") {
        NftError::NotPermitted
    } else {
        NftError::Refused(first_lines(&said))
    })
}

/// Where administrators' programs are, even if the search path of a service leaves it out.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(known).map(|dir| dir.join("nft")).find(|file| file.is_file());
    found.unwrap_or_else(|| PathBuf::from("nft"))
}

fn first_lines(text: &str) -> String {
    let mut lines: String =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).take(4).collect::<Vec<_>>().join("; ");
    if let Some((end, _)) = lines.char_indices().nth(500) {
        lines.truncate(end);
    }
    lines
}
