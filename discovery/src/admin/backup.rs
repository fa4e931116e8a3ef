//! A copy of the store, streamed as fast as it is read.

use hawser_api::proto::admin::BackupChunk;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::AdminService;

/// Pieces that wait for a slow reader.
const QUEUE: usize = 16;
/// Lines are gathered to pieces of about this size.
const PIECE: usize = 64 << 10;

impl AdminService {
    pub(super) fn backup_stream(&self) -> ReceiverStream<Result<BackupChunk, Status>> {
        let (out, pieces) = mpsc::channel(QUEUE);
        let store = self.inner.store.clone();
        tokio::task::spawn_blocking(move || {
            let mut gathered = Vec::with_capacity(PIECE);
            let result = store.backup(|line| {
                gathered.extend_from_slice(&line);
                if gathered.len() < PIECE {
                    return true;
                }
                let data = std::mem::replace(&mut gathered, Vec::with_capacity(PIECE));
                out.blocking_send(Ok(BackupChunk { data })).is_ok()
            });
            let last = match result {
                Ok(()) => Ok(BackupChunk { data: gathered }),
                Err(error) => Err(error.into()),
            };
            // The reader may have gone away.
            let _ = out.blocking_send(last);
        });
        ReceiverStream::new(pieces)
    }
}
