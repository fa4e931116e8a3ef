//! `hawser-agent`: the program.

use clap::Parser as _;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = hawser_agent::Args::parse();
    hawser_daemon::init()?;
    hawser_agent::run(args).await
}
