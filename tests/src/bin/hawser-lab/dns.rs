//! A name server that knows one name, and those that say their addresses themselves: `10-77-0-1.ip.test`, with several
//! addresses `10-77-0-1.10-77-0-2.ip.test`. It says of all others that they do not exist.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    name: String,
    #[arg(long)]
    answer: Ipv4Addr,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let socket = UdpSocket::bind(args.listen).with_context(|| args.listen.to_string())?;
    crate::on_end_of_input(|| std::process::exit(0));
    crate::ready();
    let mut query = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut query)?;
        if let Some(answer) = reply(&query[..length], &args.name, args.answer) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn reply(query: &[u8], known: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut name = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        name.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = query.get(at..at + 2)?;
    let question = query.get(12..at + 4)?;
    let name = name.join(".");
    let addresses = if name == known { vec![address] } else { spelled(&name) };
    let shown = if kind == [0, 1] { addresses.as_slice() } else { &[] };
    // Id, response with recursion, one question.
    let mut out = query.get(..2)?.to_vec();
    let code = if addresses.is_empty() { 0x83 } else { 0x80 };
    out.extend([0x81, code, 0, 1, 0, u8::try_from(shown.len()).ok()?, 0, 0, 0, 0]);
    out.extend(question);
    for address in shown {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}

/// The addresses that a name spells out.
fn spelled(name: &str) -> Vec<Ipv4Addr> {
    let Some(labels) = name.strip_suffix(".ip.test") else { return Vec::new() };
    labels.split('.').filter_map(|label| label.replace('-', ".").parse().ok()).take(8).collect()
}
