//! What nobody needs any more: records past their rejoin window, tokens long past their end.

use std::time::Duration;

use super::{Hosts, Refusal};
use crate::store::{HostRecord, TokenRecord};

/// How often.
pub(super) const EVERY: Duration = Duration::from_secs(3600);
/// A token is kept this long after its end, so that who shows it hears that it expired.
const TOKENS: u64 = 30 * 24 * 3600;

impl Hosts {
    pub(super) async fn sweep(self) {
        let now = Self::now();
        let window = self.inner.settings.rejoin_window.as_secs();
        let gone = |record: &HostRecord| now > record.certificate_ends.saturating_add(window);
        let old: Vec<_> = self.list().into_iter().filter(|h| gone(&h.record)).map(|h| h.instance_id).collect();
        for id in old {
            if let Err(error) = self.forget(&id).await {
                tracing::warn!(host = %id, %error, "a record past its rejoin window can not be removed");
            }
        }
        let swept = self
            .inner
            .store
            .write(move |txn| {
                for (id, token) in txn.list::<TokenRecord>()? {
                    if now > token.expires.saturating_add(TOKENS) {
                        txn.remove::<TokenRecord>(&id)?;
                    }
                }
                Ok::<_, Refusal>(())
            })
            .await;
        if let Err(error) = swept {
            tracing::warn!(%error, "old tokens can not be removed");
        }
    }
}
