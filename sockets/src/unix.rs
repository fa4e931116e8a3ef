//! Unix sockets: who is at the other end, and listeners that appear whole.
//!
//! In: paths, streams. Out: listeners, credentials. Invariant: a socket is never reachable with other rights than
//! it was asked for, and a living server's socket is never taken from it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The process at the other end of a Unix socket, as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process; may be gone, and its number reused.
    pub pid: i32,
}

/// Who is at the other end.
pub fn peer_credentials(stream: &impl AsFd) -> io::Result<PeerCredentials> {
    let found = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(PeerCredentials { uid: found.uid(), gid: found.gid(), pid: found.pid() })
}

/// A listener at `path` with this mode and, if given, group. It is made under another name and renamed, so that
/// nobody finds it half made. What a dead server left is replaced; if somebody answers there, it is an error.
/// To be called on a tokio runtime.
pub fn unix_listener(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    refuse_if_used(path)?;
    let beside = beside(path)?;
    let listener = bind(&beside, mode, group).and_then(|listener| {
        std::fs::rename(&beside, path)?;
        Ok(listener)
    });
    if listener.is_err() {
        // What is left of the attempt; it may not even exist.
        let _ = std::fs::remove_file(&beside);
    }
    listener
}

fn bind(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    socket.bind(&SockAddr::unix(path)?)?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

fn refuse_if_used(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?.file_type(),
    };
    if !kind.is_socket() {
        let text = format!("{} exists and is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // Connected, or its queue is full: somebody lives there.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => {
            let text = format!("another process answers on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// `.<name>.<pid>` in the same directory.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a name"))?;
    Ok(path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_listener_appears_with_its_rights_and_replaces_only_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let group = nix::unistd::getegid().as_raw();
        let listener = unix_listener(&path, 0o660, Some(group)).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), (0o660, group));

        let refused = unix_listener(&path, 0o600, None).unwrap_err();
        assert_eq!(refused.to_string(), format!("another process answers on {}", path.display()));
        drop(listener);
        let listener = unix_listener(&path, 0o600, None).unwrap();
        let client = UnixStream::connect(&path).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let me = PeerCredentials {
            uid: nix::unistd::geteuid().as_raw(),
            gid: group,
            pid: i32::try_from(std::process::id()).unwrap(),
        };
        assert_eq!((peer_credentials(&client).unwrap(), peer_credentials(&server).unwrap()), (me, me));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(unix_listener(&path, 0o600, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
