//! hawser-proxy: the data plane of a host.

use clap::Parser as _;
use hawser_proxy::control;
use hawser_proxy::options::Options;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    hawser_daemon::init()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(control::run(options))
}
