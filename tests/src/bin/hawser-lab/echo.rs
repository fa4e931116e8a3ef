//! A TCP server that says its name first and then gives back what it got, half-close included; and its caller.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    /// Said before anything is read; empty: nothing
    #[arg(long, default_value = "")]
    banner: String,
    /// Takes a request for an upgrade first, whatever it asks for
    #[arg(long)]
    upgrade: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DialArgs {
    /// `host:port`
    address: String,
    #[arg(long, default_value = "")]
    send: String,
    /// Seconds
    #[arg(long, default_value_t = 5)]
    limit: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let listener = TcpListener::bind(("::", args.port)).with_context(|| format!("port {}", args.port))?;
    crate::on_end_of_input(|| std::process::exit(0));
    crate::ready();
    for stream in listener.incoming().flatten() {
        let (banner, upgrade) = (args.banner.clone(), args.upgrade);
        std::thread::spawn(move || serve(stream, &banner, upgrade));
    }
    Ok(())
}

fn serve(mut stream: TcpStream, banner: &str, upgrade: bool) -> std::io::Result<()> {
    if upgrade {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && head.len() < 16 << 10 {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
    }
    stream.write_all(banner.as_bytes())?;
    let mut bytes = vec![0; 64 << 10];
    loop {
        let n = stream.read(&mut bytes)?;
        if n == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&bytes[..n])?;
    }
}

#[allow(clippy::print_stdout)]
pub(crate) fn dial(args: &DialArgs) -> Result<()> {
    let limit = Duration::from_secs(args.limit);
    let address = args.address.to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(args.send.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    print!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}
