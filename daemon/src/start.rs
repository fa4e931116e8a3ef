//! First things first: logs, TLS provider, signals.

use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, LazyLock};

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::journal::Journal;

/// Starts logging and installs the TLS provider. Logs go to the journal, with their fields, where stderr is a stream of it;
/// else to stderr. `HAWSER_LOG` sets the filter (`info` by default), in the syntax of `tracing`: `info,hawser_proxy=debug`.
/// Call once, first.
///
/// # Errors
/// If `HAWSER_LOG` can't be read, or logging was started before.
pub fn init() -> anyhow::Result<()> {
    let filter = match std::env::var("HAWSER_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|e| anyhow::anyhow!("HAWSER_LOG={text:?}: {e}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = match journal() {
        Some(journal) => registry.with(journal).try_init(),
        None => {
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()
        }
    };
    started.map_err(|e| anyhow::anyhow!("logging was started before: {e}"))?;
    // Whoever asks for the process's default gets the same provider as those who ask for it by name.
    let _ = (*tls_provider()).clone().install_default();
    Ok(())
}

/// The journal, if stderr leads there and it can be had.
fn journal() -> Option<Journal> {
    let (device, inode) = std::env::var("JOURNAL_STREAM").ok().and_then(|stream| parse_stream(&stream))?;
    let stderr = std::fs::metadata("/proc/self/fd/2").ok()?;
    if (stderr.dev(), stderr.ino()) == (device, inode) { Journal::open().ok() } else { None }
}

/// `JOURNAL_STREAM`: the device and inode of the journal's end.
fn parse_stream(stream: &str) -> Option<(u64, u64)> {
    let (device, inode) = stream.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// The one TLS provider of the project. AES-128-GCM stands first, as in Envoy: SHA-384, which comes with AES-256, makes a
/// handshake an eighth dearer, and neither can be broken.
pub fn tls_provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // Stable, so that the rest keeps its order: TLS 1.3 before 1.2.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        Arc::new(provider)
    });
    PROVIDER.clone()
}

/// Waits for SIGTERM or SIGINT and says which.
///
/// # Errors
/// If signal handlers can't be installed.
pub async fn shutdown_signal() -> std::io::Result<&'static str> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => Ok("SIGTERM"),
        _ = int.recv() => Ok("SIGINT"),
    }
}
