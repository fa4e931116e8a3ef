//! The Unix socket of administrators: root, discovery's own user, and group `hawser-admin`.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hawser_daemon::drain::Watch;
use http::{Request, Response};
use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tower::Service;

use super::connection::serve;
use crate::peer::Peer;

/// Its members may ask what root may ask.
const GROUP: &str = "hawser-admin";
/// Open connections.
const CONNECTIONS: usize = 256;

/// The socket, removed when dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Makes the socket; one that a dead process left is replaced.
    ///
    /// # Errors
    /// If something else is at the path, another process listens there, or the directory can't be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket is in its place",
                ));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another hawser-discovery listens there"));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        // Who may connect is decided by the credentials of the peer; the mode only keeps others out earlier.
        let group = Group::from_name(GROUP).ok().flatten();
        if let Some(group) = group {
            match nix::unistd::chown(path, None, Some(group.gid)) {
                Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o660))?,
                Err(_) => fs::set_permissions(path, Permissions::from_mode(0o666))?,
            }
        } else {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
        }
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves administrators until the drain.
    pub async fn run<S>(self, routes: S, drain: Watch)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = drain.draining() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "admin socket: a connection can not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = room.clone().try_acquire_owned() else { continue };
            let (routes, ends) = (routes.clone(), drain.clone());
            drain.spawn(async move {
                let _permit = permit;
                if !may(&stream).await {
                    return;
                }
                let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                serve(stream, Peer::plaintext(nowhere), routes, ends.draining()).await;
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // The next start removes it if this can't.
        let _ = fs::remove_file(&self.path);
    }
}

async fn may(stream: &UnixStream) -> bool {
    let Ok(credentials) = stream.peer_cred() else { return false };
    let (uid, gid) = (Uid::from_raw(credentials.uid()), Gid::from_raw(credentials.gid()));
    if uid.is_root() || uid == Uid::effective() {
        return true;
    }
    // Looks into the system's user database, which may be slow.
    let member = tokio::task::spawn_blocking(move || is_member(uid, gid)).await.unwrap_or(false);
    if !member {
        tracing::warn!(uid = uid.as_raw(), "admin socket: refused, neither root nor in group {GROUP}");
    }
    member
}

fn is_member(uid: Uid, gid: Gid) -> bool {
    let Ok(Some(group)) = Group::from_name(GROUP) else { return false };
    if group.gid == gid {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    nix::unistd::getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}
