//! From a proxy that could serve to the one that does.
//!
//! In: readiness, whoever started us. Out: the moment from which we are the service's main process, and whether all is in place.

use anyhow::bail;
use hawser_daemon::Service;
use hawser_daemon::readiness::Readiness;
use tokio::sync::oneshot;

use crate::take_over::Starter;

/// What a proxy that takes over waits for.
pub(super) struct Succession {
    /// Who started us.
    pub(super) starter: Starter,
    readiness: Readiness,
    service: Service,
    begin: oneshot::Sender<oneshot::Sender<()>>,
}

impl Succession {
    /// `begin` is told when we may, and tells when what belongs to the whole process is in place.
    pub(super) fn new(
        starter: Starter,
        readiness: Readiness,
        service: Service,
        begin: oneshot::Sender<oneshot::Sender<()>>,
    ) -> Self {
        Self { starter, readiness, service, begin }
    }

    /// Waits until nothing is missing and we may go. It may be dropped and asked again.
    pub(super) async fn allowed(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            () = self.readiness.ready() => {}
            () = self.starter.gone(), if !self.readiness.is_ready() => bail!("whoever started this proxy is gone"),
        }
        self.starter.may_go().await
    }

    /// We are the main process.
    pub(super) async fn begin(self) -> Starter {
        self.service.speak();
        let (told, begun) = oneshot::channel();
        if self.begin.send(told).is_ok() {
            let _ = begun.await;
        }
        self.starter
    }
}
