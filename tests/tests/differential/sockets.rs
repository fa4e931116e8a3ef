//! Unix sockets that lead to a server: a file that both proxies see, and an abstract name in each one's network.
//!
//! In: where they are, the server. Out: nothing; they serve for as long as the test runs. Who connects to the file is told by the
//! network that it lives in.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use crate::net::Net;

/// Serves both kinds, on both sides.
pub(crate) fn serve(sides: &[Net; 2], path: &Path, name: &str, to: SocketAddr) -> Result<()> {
    let file = UnixListener::bind(path).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    let nets = [sides[0].again()?, sides[1].again()?];
    thread::spawn(move || {
        for stream in file.incoming().flatten() {
            if let Some(net) = nets.iter().find(|net| lives_in(&stream, net)) {
                relay(stream, net, to);
            }
        }
    });
    for side in sides {
        let net = side.again()?;
        let at = UnixAddr::from_abstract_name(name)?;
        // Its name is one of the network of the thread that makes it.
        let listener = thread::scope(|scope| {
            let made = scope.spawn(|| -> Result<UnixListener> {
                net.enter()?;
                Ok(UnixListener::bind_addr(&at)?)
            });
            made.join().unwrap()
        })?;
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| relay(stream, &net, to)));
    }
    Ok(())
}

/// Whether who connected is in a network.
fn lives_in(stream: &UnixStream, net: &Net) -> bool {
    let Ok(peer) = getsockopt(stream, PeerCredentials) else { return false };
    let theirs = std::fs::metadata(format!("/proc/{}/ns/net", peer.pid()));
    theirs.is_ok_and(|theirs| net.inode().is_ok_and(|inode| theirs.ino() == inode))
}

/// Carries a connection to the server in that network.
fn relay(stream: UnixStream, net: &Net, to: SocketAddr) {
    let Ok(server) = net.connect(to) else { return };
    let (Ok(reads), Ok(writes)) = (stream.try_clone(), server.try_clone()) else { return };
    thread::spawn(move || there(reads, writes));
    thread::spawn(move || back(server, stream));
}

fn there(mut from: UnixStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.flush();
    let _ = to.shutdown(Shutdown::Write);
}

fn back(mut from: TcpStream, mut to: UnixStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.flush();
    let _ = to.shutdown(Shutdown::Write);
}
