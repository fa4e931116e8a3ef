//! The lab's tools: a host's first process, a name server, a sniffer, a load generator, an echo, a pod's sidecar.
//!
//! In: a command line; stdin, whose end is the order to finish. Out: what was seen, on stdout. Invariant: none of
//! them outlives the test that started it.

mod dns;
mod echo;
mod hold;
mod hostile;
mod load;
mod sidecar;
mod sniff;
mod talk;

use std::io::Read as _;

use clap::Parser;

/// Tools of the test lab.
#[derive(Debug, Parser)]
enum Tool {
    /// First process of a host: mounts its file systems, reaps, ends with its stdin
    Hold(hold::Args),
    /// Name server that knows one name
    Dns(dns::Args),
    /// Records every packet of the network namespace into a pcap file
    Sniff(sniff::Args),
    /// Sends requests at a rate; ends with its stdin, or after a count; prints JSON
    Load(load::Args),
    /// TCP echo that says its name first
    Echo(echo::Args),
    /// Sends what no honest program sends, on many connections
    Hostile(hostile::Args),
    /// Connects, sends a text, half-closes, prints what comes back
    Dial(echo::DialArgs),
    /// Keeps a connection on which what is said comes back; ends with its stdin; prints JSON
    Talk(talk::Args),
    /// What a sidecar's agent does in a pod: certificates for the pod's token, configuration for its proxy
    Sidecar(sidecar::Args),
}

fn main() -> anyhow::Result<()> {
    match Tool::parse() {
        Tool::Hold(args) => hold::run(&args),
        Tool::Dns(args) => dns::run(&args),
        Tool::Sniff(args) => sniff::run(&args),
        Tool::Load(args) => load::run(args),
        Tool::Echo(args) => echo::run(&args),
        Tool::Hostile(args) => hostile::run(&args),
        Tool::Dial(args) => echo::dial(&args),
        Tool::Talk(args) => talk::run(&args),
        Tool::Sidecar(args) => sidecar::run(args),
    }
}

/// Says on stdout that others may go on.
#[allow(clippy::print_stdout)]
fn ready() {
    println!("ready");
}

/// Runs `then` when stdin ends: when the test finishes us, or is gone.
fn on_end_of_input(then: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(n) if n > 0) {}
        then();
    });
}
