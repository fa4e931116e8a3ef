//! The same without root: one user only, so our own traffic is told by its mark.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;

use hawser_agent::redirect::{Exempt, Intent, OWN_MARK, Redirection};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};

use crate::intent;

/// Set where a test has run itself again.
const INSIDE: &str = "HAWSER_TEST_INSIDE";

#[test]
fn redirection_works_in_a_user_namespace() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let program = std::env::current_exe().unwrap();
    let inside = ["--exact", "user_namespace::redirection_works_in_a_user_namespace", "--nocapture"];
    let output = Command::new("unshare").arg("-Urn").arg(program).args(inside).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The test itself, in a namespace of its own.
fn inside() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let state = tempfile::tempdir().unwrap();
    let intent = Intent { exempt: Exempt { marks: [OWN_MARK].into(), ..Exempt::default() }, ..intent() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut redirection = Redirection::new(state.path());
        redirection.apply(&intent).await.unwrap();
        assert_eq!(redirection.check().await.unwrap(), Vec::<String>::new());
    });
    let proxy = std::net::TcpListener::bind("127.0.0.1:15001").unwrap();
    let to: SocketAddr = "240.240.1.2:9080".parse().unwrap();
    assert!(TcpStream::connect(to).is_ok());
    assert!(proxy.accept().is_ok());
    assert!(marked(OWN_MARK.value, to).is_err(), "our own traffic is not captured");
    runtime.block_on(async {
        let mut redirection = Redirection::new(state.path());
        redirection.remove(std::time::Duration::ZERO).await.unwrap();
    });
    assert!(Command::new("nft").args(["list", "tables"]).output().unwrap().stdout.is_empty());
}

fn marked(mark: u32, to: SocketAddr) -> nix::Result<()> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::Mark, &mark)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))
}
