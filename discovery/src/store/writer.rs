//! The one thread that writes. Jobs that gather while it commits go into its next transaction together.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use redb::{ReadableTable as _, WriteTransaction};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::records::{self, Record};
use super::{Shared, StoreError, Table, schema};

/// Jobs in one transaction at most, so that nobody waits for long.
const BATCH: usize = 256;

/// Jobs that wait at most; senders wait for room.
const QUEUE: usize = 1024;

/// A write transaction as jobs see it.
pub struct Txn<'a> {
    txn: &'a WriteTransaction,
    /// A write was refused half-way through some job: nothing of this transaction may be kept.
    spoilt: Cell<bool>,
}

/// Answers `Ok` once the transaction is committed, or the error that stopped it.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Job = Box<dyn FnOnce(Result<&Txn<'_>, StoreError>) -> Option<Finish> + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<Job>,
    /// Bounds the queue: a caller waits for room before it adds a job.
    room: Arc<Semaphore>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("store-writer".into()).spawn(move || run(&shared, queue))?;
        Ok(Self { jobs, room: Arc::new(Semaphore::new(QUEUE)) })
    }

    pub(super) async fn run<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Txn<'_>) -> Result<T, E> + Send + 'static,
    {
        let room = self.room.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (sender, answer) = oneshot::channel();
        // The permit goes with the job, not with the caller: one that gives up leaves its job in the queue.
        let answer_with = move |result| {
            drop(room);
            let _ = sender.send(result);
        };
        self.jobs.send(package(job, answer_with)).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn run_blocking<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Txn<'_>) -> Result<T, E> + Send + 'static,
    {
        let (sender, answer) = std::sync::mpsc::sync_channel(1);
        let answer_with = move |result| {
            let _ = sender.send(result);
        };
        self.jobs.send(package(job, answer_with)).map_err(|_| StoreError::Closed)?;
        answer.recv().map_err(|_| StoreError::Closed)?
    }
}

fn package<T, E, F, A>(job: F, answer: A) -> Job
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&Txn<'_>) -> Result<T, E> + Send + 'static,
    A: FnOnce(Result<T, E>) + Send + 'static,
{
    Box::new(move |txn| match txn.map_err(E::from).and_then(job) {
        Ok(value) => Some(Box::new(move |committed| answer(committed.map(|()| value).map_err(E::from)))),
        Err(error) => {
            answer(Err(error));
            None
        }
    })
}

fn run(shared: &Shared, mut queue: mpsc::UnboundedReceiver<Job>) {
    let mut broken = false;
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < BATCH {
            let Ok(job) = queue.try_recv() else { break };
            jobs.push(job);
        }
        if broken && let Err(error) = shared.reopen() {
            jobs.into_iter().for_each(|job| drop(job(Err(error.again()))));
            continue;
        }
        broken = commit(shared, jobs).is_err();
    }
}

/// `Err` if the database must be opened again.
fn commit(shared: &Shared, jobs: Vec<Job>) -> Result<(), ()> {
    let database = shared.database.read().clone();
    let txn = match database.begin_write() {
        Ok(txn) => txn,
        Err(error) => {
            let error = StoreError::from(error).at(&shared.dir);
            tracing::error!(%error, "store can not be written");
            jobs.into_iter().for_each(|job| drop(job(Err(error.again()))));
            return Err(());
        }
    };
    let view = Txn { txn: &txn, spoilt: Cell::new(false) };
    let finish: Vec<Finish> = jobs.into_iter().filter_map(|job| job(Ok(&view))).collect();
    let spoilt = view.spoilt.get();
    if finish.is_empty() || spoilt {
        let aborted = txn.abort();
        let error = StoreError::Database("a write beside this one was refused; nothing was changed".into());
        finish.into_iter().for_each(|finish| finish(Err(error.again())));
        return if spoilt { Err(()) } else { aborted.map_err(|_| ()) };
    }
    match txn.commit() {
        Ok(()) => {
            finish.into_iter().for_each(|finish| finish(Ok(())));
            Ok(())
        }
        Err(error) => {
            let error = StoreError::from(error).at(&shared.dir);
            tracing::error!(%error, "store can not be written");
            finish.into_iter().for_each(|finish| finish(Err(error.again())));
            Err(())
        }
    }
}

impl Txn<'_> {
    /// One record.
    ///
    /// # Errors
    /// If the disk refuses or the record can't be read.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let table = self.txn.open_table(R::TABLE)?;
        let value = table.get(key)?;
        value.map(|value| records::decode(key, value.value())).transpose()
    }

    /// All records of a kind, by key.
    ///
    /// # Errors
    /// If the disk refuses or a record can't be read.
    pub fn list<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        let table = self.txn.open_table(R::TABLE)?;
        let mut all = Vec::new();
        for entry in table.iter()? {
            let (key, value) = entry?;
            all.push((key.value().to_owned(), records::decode(key.value(), value.value())?));
        }
        Ok(all)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn put<R: Record>(&self, key: &str, record: &R) -> Result<(), StoreError> {
        self.put_raw(R::TABLE, key, &records::encode(key, record)?)
    }

    /// Removes a record; whether there was one.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn remove<R: Record>(&self, key: &str) -> Result<bool, StoreError> {
        self.watch(|| Ok(self.txn.open_table(R::TABLE)?.remove(key)?.is_some()))
    }

    /// Keeps a text under a name of table `meta`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn put_meta(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.put_raw(schema::META, name, value.as_bytes())
    }

    pub(super) fn put_raw(&self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.watch(|| Ok(self.txn.open_table(table)?.insert(key, value).map(drop)?))
    }

    fn watch<T>(&self, write: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        write().inspect_err(|_| self.spoilt.set(true))
    }
}

impl std::fmt::Debug for Txn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Txn").finish_non_exhaustive()
    }
}
