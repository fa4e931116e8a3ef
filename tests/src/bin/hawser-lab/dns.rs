//! A name server that knows one name, and says of all others that they do not exist.

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
    let ours = name.join(".") == known;
    let has_answer = ours && kind == [0, 1];
    // Id, response with recursion, one question.
    let mut out = query.get(..2)?.to_vec();
    out.extend([0x81, if ours { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
    out.extend(question);
    if has_answer {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}
