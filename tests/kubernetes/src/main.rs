//! The double as a program, for network namespaces: a server on an address, and a control endpoint without TLS.
//!
//! In: flags; what is asked of the control endpoint. Out: a line `ready` when it serves; a kubeconfig. Ends with SIGTERM.
#![allow(clippy::print_stdout)]

mod control;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use hawser_kube_double::{Double, Options};

/// A double of a Kubernetes API server, for tests
#[derive(Debug, Parser)]
struct Flags {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Further names and addresses for its certificate
    #[arg(long)]
    name: Vec<String>,
    /// Where the kubeconfig of its admin is written
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Where its control endpoint listens, without TLS
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Objects that are there from the start, as YAML
    #[arg(long)]
    apply: Vec<PathBuf>,
    /// Pods are left as they are: nobody brings them up or ends them
    #[arg(long)]
    no_kubelet: bool,
}

fn main() -> ExitCode {
    match run(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(flags))
}

async fn serve(flags: Flags) -> Result<()> {
    let kubelet = (!flags.no_kubelet).then_some(Duration::from_millis(200));
    let options = Options { listen: flags.listen, names: flags.name, kubelet, ..Options::default() };
    let double = Arc::new(Double::start(options).await?);
    for file in &flags.apply {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
        double.apply(&text).with_context(|| format!("{}", file.display()))?;
    }
    if let Some(file) = &flags.kubeconfig {
        std::fs::write(file, double.kubeconfig()).with_context(|| format!("{} can't be written", file.display()))?;
    }
    if let Some(address) = flags.control {
        control::open(address, Arc::clone(&double)).await?;
    }
    println!("ready {}", double.address());
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    end.recv().await;
    Ok(())
}
