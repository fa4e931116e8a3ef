//! The new proxy's end: whoever started it, on its stdin.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{GO, NO, READY, SERVING};

const GONE: &str = "whoever started this proxy is gone";

/// Whoever started us.
#[derive(Debug)]
pub(crate) struct Starter {
    stream: UnixStream,
    said_ready: bool,
    heard: Vec<u8>,
}

impl Starter {
    /// The one on stdin.
    ///
    /// # Errors
    /// If that is no socket.
    pub(crate) fn on_stdin() -> anyhow::Result<Self> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
        let stream = std::os::unix::net::UnixStream::from(stdin);
        stream.set_nonblocking(true)?;
        let no_socket = "--successor is for hawser-proxy itself: use --take-over";
        stream.local_addr().context(no_socket)?;
        Ok(Self::new(UnixStream::from_std(stream).context(no_socket)?))
    }

    fn new(stream: UnixStream) -> Self {
        Self { stream, said_ready: false, heard: Vec::new() }
    }

    /// Says that we could serve, once, and waits until we may. It may be dropped and asked again.
    ///
    /// # Errors
    /// If it is gone: then nobody wants us.
    pub(crate) async fn may_go(&mut self) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.said_ready, true) {
            self.say(READY).await?;
        }
        let expected = format!("{GO}\n");
        while self.heard.len() < expected.len() {
            let read = self.stream.read_buf(&mut self.heard).await.context(GONE)?;
            ensure!(read > 0, GONE);
        }
        ensure!(self.heard == expected.as_bytes(), "whoever started this proxy says something else than {GO}");
        Ok(())
    }

    /// Waits until it is gone, before we may go.
    pub(crate) async fn gone(&self) {
        // It says nothing before we do.
        let _ = self.stream.readable().await;
    }

    /// Says that we are the proxy. It may not wait for that.
    pub(crate) async fn serving(mut self) {
        let _ = self.say(SERVING).await;
    }

    /// Says why we can't be.
    pub(crate) async fn no(&mut self, why: &anyhow::Error) {
        let why = format!("{why:#}").replace('\n', " ");
        let _ = self.say(&format!("{NO}: {}", why.chars().take(1000).collect::<String>())).await;
    }

    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let line = format!("{line}\n");
        self.stream.write_all(line.as_bytes()).await.context(GONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_begins_before_it_may_or_when_nobody_wants_it_any_more() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut starter = Starter::new(ours);
        let told = async {
            let mut heard = [0; 6];
            theirs.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"ready\n");
            theirs.write_all(b"go\n").await.unwrap();
        };
        let (may, ()) = tokio::join!(starter.may_go(), told);
        may.unwrap();

        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut starter = Starter::new(ours);
        drop(theirs);
        starter.gone().await;
        assert!(starter.may_go().await.is_err());
    }
}
