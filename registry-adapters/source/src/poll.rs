//! Asking a source again and again, beside the task that hears its answers.
//!
//! In: something that can be asked, an interval. Out: answers and failures, one at a time. Invariant: a source is asked
//! by one question at a time, never more often than the pacing allows, and not at all while nobody takes the answer.

use std::time::{Duration, Instant};

use hawser_daemon::backoff::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::pacing::{Bucket, Pacer, spread};

/// Something that can be asked.
pub trait Poll: Send + 'static {
    /// What it answers.
    type Answer: Send;

    /// Asks once; bounded in time by itself.
    fn poll(&mut self) -> impl Future<Output = Result<Answer<Self::Answer>, Failure>> + Send;

    /// Waits until it is worth asking before the interval is over: a file changed. May be dropped half way.
    fn hint(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// What a source answers.
#[derive(Debug)]
pub struct Answer<T> {
    /// What it has; `None` if that is as at the last answer.
    pub said: Option<T>,
    /// When to ask again, if not after the usual interval.
    pub next: Option<Duration>,
}

/// It does not answer, and why: a sentence with the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// A source that is asked; stops when dropped.
#[derive(Debug)]
pub struct Polls<T> {
    answers: mpsc::Receiver<Result<Option<T>, Failure>>,
    task: JoinHandle<()>,
}

impl<T: Send + 'static> Polls<T> {
    /// Begins to ask: now, then each `interval`, give or take a tenth; after failures with a back-off up to
    /// `interval`, or 30 s if that is longer.
    pub fn start(source: impl Poll<Answer = T>, interval: Duration) -> Self {
        let (sender, answers) = mpsc::channel(1);
        Self { answers, task: tokio::spawn(ask(source, interval, sender)) }
    }

    /// The next answer; `Ok(None)` if it is the same as the last one.
    pub async fn next(&mut self) -> Result<Option<T>, Failure> {
        match self.answers.recv().await {
            Some(answer) => answer,
            // The task ends only with us, or if it panicked: then nobody asks any more.
            None => std::future::pending().await,
        }
    }
}

impl<T> Drop for Polls<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hints that come faster than this are one.
const LEAST: Duration = Duration::from_millis(100);

async fn ask<T: Send>(
    mut source: impl Poll<Answer = T>,
    interval: Duration,
    sender: mpsc::Sender<Result<Option<T>, Failure>>,
) {
    let longest = interval.max(Duration::from_secs(30));
    let first = Duration::from_secs(1).min(interval);
    let mut pacer = Pacer::new(Bucket::new(5, Duration::from_millis(500)), Backoff::new(first, longest));
    loop {
        let (answer, wait) = match source.poll().await {
            Ok(Answer { said, next }) => {
                let least = pacer.answered(Instant::now()).max(LEAST);
                let wait = next.unwrap_or_else(|| spread(interval));
                (Ok(said), (least, wait.max(least)))
            }
            Err(failure) => {
                let wait = pacer.failed(Instant::now()).max(LEAST);
                (Err(failure), (LEAST, wait))
            }
        };
        if sender.send(answer).await.is_err() {
            return;
        }
        let (least, wait) = wait;
        tokio::time::sleep(least).await;
        // The time is what ends it as well.
        let _ = tokio::time::timeout(wait - least, source.hint()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    struct Script(VecDeque<Result<u32, &'static str>>);

    impl Poll for Script {
        type Answer = u32;

        async fn poll(&mut self) -> Result<Answer<u32>, Failure> {
            match self.0.pop_front() {
                Some(Ok(said)) => Ok(Answer { said: Some(said), next: None }),
                Some(Err(why)) => Err(Failure(why.to_owned())),
                None => Ok(Answer { said: None, next: None }),
            }
        }
    }

    #[tokio::test]
    async fn answers_and_failures_come_in_the_order_in_which_they_were_asked_for() {
        let script = [Ok(1), Err("down"), Ok(2)];
        let mut polls = Polls::start(Script(script.into()), Duration::from_millis(150));
        let started = Instant::now();
        assert_eq!(polls.next().await, Ok(Some(1)));
        assert_eq!(polls.next().await, Err(Failure("down".to_owned())));
        assert!(started.elapsed() >= Duration::from_millis(130), "not before the interval is over");
        assert_eq!(polls.next().await, Ok(Some(2)));
        assert_eq!(polls.next().await, Ok(None));
    }
}
