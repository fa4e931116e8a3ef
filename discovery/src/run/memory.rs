//! Memory that building snapshots needed for a moment: given back.
//!
//! In: snapshots. Out: pages for the kernel. Lists of large registries are read, compared and dropped; the allocator would keep
//! what they took for ever. Invariant: nothing waits for it but other allocations, for a few milliseconds.

use std::time::Duration;

use tokio::time::sleep;

use crate::registry::Snapshots;

/// How long things stay as they are before memory is looked at: what follows a change is done by then.
const SETTLED: Duration = Duration::from_secs(1);
/// Between two looks: giving back costs milliseconds.
const BETWEEN: Duration = Duration::from_secs(9);

/// Gives memory back after changes, for as long as there are snapshots.
pub(super) async fn give_back(mut snapshots: Snapshots) {
    while snapshots.changed().await.is_ok() {
        sleep(SETTLED).await;
        // The allocator's locks are not for a thread that serves.
        if tokio::task::spawn_blocking(hawser_sockets::give_memory_back).await.is_err() {
            return;
        }
        sleep(BETWEEN).await;
    }
}
