//! Bytes that no honest program sends: damaged TLS hellos, HTTP requests, HTTP/2 frames, and noise.
//!
//! In: where to, what kind, how many; a seed, so that a finding can be had again. Out: how many connections were
//! answered, closed, or still open at the end. Invariant: every connection is given up after its limit.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `host:port`
    address: String,
    #[arg(long, value_enum)]
    kind: Kind,
    #[arg(long, default_value_t = 50)]
    count: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest wait for an answer, milliseconds
    #[arg(long, default_value_t = 300)]
    limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Tls,
    Http,
    Http2,
    Noise,
}

/// A random number generator that gives the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or_default()
    }
}

#[allow(clippy::print_stdout)]
pub(crate) fn run(args: &Args) -> Result<()> {
    let address = args.address.to_socket_addrs()?.next().context("no address")?;
    let (next, connected, answered) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.count {
                        return;
                    }
                    let mut dice = Dice(args.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number + 1));
                    let bytes = attack(args.kind, number, &mut dice);
                    if let Ok(answer) = send(address, &bytes, Duration::from_millis(args.limit)) {
                        connected.fetch_add(1, Ordering::Relaxed);
                        answered.fetch_add(u64::from(answer > 0), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (connected, answered) = (connected.into_inner(), answered.into_inner());
    println!("{{\"sent\":{},\"connected\":{connected},\"answered\":{answered}}}", args.count);
    Ok(())
}

fn send(address: SocketAddr, bytes: &[u8], limit: Duration) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // The other side may hang up at any byte: that is its right.
    let _ = stream.write_all(bytes);
    let mut answer = [0; 4096];
    Ok(stream.read(&mut answer).unwrap_or(0))
}

fn attack(kind: Kind, number: u64, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = match kind {
        Kind::Tls => hello(number, dice),
        Kind::Http => request(number),
        Kind::Http2 => frames(number, dice),
        Kind::Noise => (0..dice.below(4096)).map(|_| dice.next() as u8).collect(),
    };
    // Every third one as it is, the others with a few bytes changed, or cut short.
    if number % 3 == 1 {
        for _ in 0..1 + dice.below(8) {
            let at = dice.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = dice.next() as u8;
            }
        }
    } else if number % 3 == 2 {
        bytes.truncate(dice.below(bytes.len()));
    }
    bytes
}

/// A ClientHello with a server name and protocols, some of whose lengths lie.
fn hello(number: u64, dice: &mut Dice) -> Vec<u8> {
    let name = match number % 4 {
        0 => "outbound_.9080_._.details.default.svc.cluster.local".to_owned(),
        1 => "a".repeat(300),
        2 => "\0\u{7f}..".to_owned(),
        _ => String::new(),
    };
    let alpn: &[u8] = match number % 3 {
        0 => b"\x05istio\x08istio-h2",
        1 => b"\xffistio",
        _ => b"\x00\x00",
    };
    let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let mut extensions = vec![0, 0];
    extensions.extend(length(name.len() + 5));
    extensions.extend(length(name.len() + 3));
    extensions.push(0);
    extensions.extend(length(name.len()));
    extensions.extend(name.bytes());
    extensions.extend([0, 16]);
    extensions.extend(length(alpn.len() + 2));
    extensions.extend(length(alpn.len()));
    extensions.extend(alpn);
    extensions.extend([0, 0x2b, 0, 3, 2, 3, 4]);
    let mut body = vec![3, 3];
    body.extend((0..32).map(|_| dice.next() as u8));
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(length(extensions.len()));
    body.extend(extensions);
    let mut out = vec![0x16, 3, 1];
    out.extend(length(body.len() + 4));
    out.extend([1, 0]);
    out.extend(length(body.len()));
    out.extend(body);
    out
}

fn request(number: u64) -> Vec<u8> {
    let host = "host: details.default.svc.cluster.local:9080\r\n";
    let text = match number % 12 {
        0 => format!("GET / HTTP/1.1\r\n{host}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        1 => format!("GET / HTTP/1.1\r\n{host}content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        2 => format!("GET / HTTP/1.1\r\n{host}{}\r\n", "x: y\r\n".repeat(5000)),
        3 => format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100_000)),
        4 => format!("GET / HTTP/1.1\r\n{host}x: {}\r\n\r\n", "b".repeat(200_000)),
        5 => format!("POST / HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
        6 => format!("GET / HTTP/1.1\r\n{host}transfer-encoding: gzip, chunked\r\n\r\n"),
        7 => "GET / HTTP/9.9\r\n\r\n".to_owned(),
        8 => format!("GET / HTTP/1.1\n{host}\n\n"),
        9 => format!("\r\n\r\n\r\nGET\t/\tHTTP/1.1\r\n{host}: empty\r\n folded\r\n\r\n"),
        10 => format!("CONNECT 127.0.0.1:22 HTTP/1.1\r\n{host}\r\n"),
        _ => format!("GET http://127.0.0.1:15000/quit HTTP/1.1\r\n{host}connection: upgrade\r\nupgrade: h2c\r\n\r\n"),
    };
    text.into_bytes()
}

/// The HTTP/2 preface and frames that say too much, too often, or nonsense.
fn frames(number: u64, dice: &mut Dice) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        out.extend(&u32::try_from(payload.len()).unwrap_or_default().to_be_bytes()[1..]);
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
    };
    frame(4, 0, 0, &[]);
    match number % 6 {
        // Settings without end, pings without end, resets of streams just opened, headers without end.
        0 => (0..2000).for_each(|_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 1])),
        1 => (0..2000).for_each(|_| frame(6, 0, 0, &[0; 8])),
        2 => (0..1000).for_each(|i| {
            frame(1, 4, 2 * i + 1, &[0x82, 0x86, 0x84, 0x41, 1, b'x']);
            frame(3, 0, 2 * i + 1, &[0, 0, 0, 8]);
        }),
        3 => {
            frame(1, 0, 1, &[0x82]);
            (0..500).for_each(|_| frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']));
        }
        4 => frame(0, 0, 0, &[0; 100]),
        _ => {
            let noise: Vec<u8> = (0..500).map(|_| dice.next() as u8).collect();
            frame(1, 5, 1, &noise);
        }
    }
    out
}
