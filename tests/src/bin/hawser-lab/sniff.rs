//! Records every packet of this network namespace as a pcap file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let packets = socket(kind.0, kind.1, kind.2, kind.3).context("packets can't be read")?;
    setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000))?;
    let _ = setsockopt(&packets, sockopt::RcvBuf, &(16 << 20));
    let mut file = BufWriter::new(File::create(&args.file)?);
    // Magic, version 2.4, no zone, no accuracy, whole packets, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    let end = Arc::new(AtomicBool::new(false));
    let flag = end.clone();
    crate::on_end_of_input(move || flag.store(true, Ordering::Relaxed));
    crate::ready();
    let mut packet = vec![0; 65_536];
    loop {
        match recv(packets.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(length) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                let length = u32::try_from(length)?;
                for word in [u32::try_from(now.as_secs())?, now.subsec_micros(), length, length] {
                    file.write_all(&word.to_le_bytes())?;
                }
                file.write_all(&packet[..length as usize])?;
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {
                if end.load(Ordering::Relaxed) {
                    return Ok(file.flush()?);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
