//! `hawser-discovery backup` and `restore`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use hawser_api::proto::admin::BackupRequest;
use hawser_api::proto::admin::admin_client::AdminClient;
use hyper_util::rt::TokioIo;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

use crate::args;
use crate::store::{self, Store, StoreError};

/// Writes a copy. If a discovery runs on the directory, it makes the copy.
///
/// # Errors
/// If the store can't be read or the copy can't be written.
pub async fn backup(args: args::Backup) -> anyhow::Result<()> {
    if !args.data_dir.join(store::FILE).exists() {
        bail!("--data-dir {}: there is no store in it", args.data_dir.display());
    }
    let mut out: Box<dyn Write + Send> = match &args.output {
        Some(path) => Box::new(create(path)?),
        None if io::stdout().is_terminal() => bail!("a copy holds the CA's key: name a file with --output"),
        None => Box::new(io::stdout()),
    };
    match Store::open(&args.data_dir) {
        Ok(store) => {
            let mut failed = None;
            store.backup(|piece| match out.write_all(&piece) {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            })?;
            if let Some(error) = failed {
                return Err(error).context("the copy can't be written");
            }
        }
        Err(StoreError::InUse(_)) => through(&args.admin_socket, &mut out).await?,
        Err(error) => return Err(error.into()),
    }
    out.flush().context("the copy can't be written")?;
    if let Some(path) = &args.output {
        File::open(path)?.sync_all()?;
        tracing::info!(file = %path.display(), "copy written: it holds the CA's key, keep it like one");
    }
    Ok(())
}

/// Puts a copy in place.
///
/// # Errors
/// If the directory is not empty, or the copy is not whole.
pub fn restore(args: &args::Restore) -> anyhow::Result<()> {
    let restored = match &args.input {
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            store::restore(&args.data_dir, BufReader::new(file))?
        }
        None => store::restore(&args.data_dir, io::stdin().lock())?,
    };
    tracing::info!(entries = restored.entries, dir = %args.data_dir.display(), "copy restored");
    Ok(())
}

async fn through(socket: &Path, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let path = socket.to_owned();
    let connect = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://admin.invalid")
        .connect_with_connector(connect)
        .await
        .with_context(|| format!("hawser-discovery runs on this directory, but not on {}", socket.display()))?;
    let mut pieces = AdminClient::new(channel).backup(BackupRequest {}).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        out.write_all(&piece.data).context("the copy can't be written")?;
    }
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("--output {}", path.display()))
}
