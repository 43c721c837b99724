//! What comes of an attempt to list or to watch, and how long it is until the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;
use tokio::sync::mpsc;

/// What a watch tells the start.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) answer: Answer,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No answer, or one that may be another the next time.
    Failed,
    /// Everything that was there has been sent.
    Listed,
    /// The server says no: neither permission nor the kind are going to come by themselves.
    Refused,
}

impl Answer {
    /// What an error of a watch comes to.
    pub(super) fn of(error: &watcher::Error) -> Self {
        Self::by(status(error))
    }

    /// What an error of a single request comes to.
    pub(super) fn to_request(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::by(Some(status)),
            _ => Self::by(None),
        }
    }

    fn by(status: Option<&Status>) -> Self {
        match status {
            Some(status) if matches!(status.code, 403 | 404) => Self::Refused,
            Some(_) | None => Self::Failed,
        }
    }
}

/// The server's answer, if it is one.
pub(super) fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

/// The way from one watch to the start.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) index: usize,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    /// The start waits for nothing any more.
    pub(super) has_begun: Arc<AtomicBool>,
}

impl Reporter {
    pub(super) fn tell(&self, answer: Answer) {
        // Without a receiver this task is about to be ended.
        let _ = self.reports.send(Report { index: self.index, answer });
    }

    /// The longest wait after this answer. A no is seldom followed by a yes, but while the start waits for that, soon.
    pub(super) fn longest_wait(&self, answer: Answer) -> Duration {
        match answer {
            Answer::Refused if self.has_begun.load(Ordering::Relaxed) => Backoff::REFUSED,
            Answer::Refused | Answer::Failed | Answer::Listed => Backoff::LONGEST,
        }
    }
}

/// Waits between attempts: doubling, and never long, because everything that happens meanwhile is missed.
#[derive(Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const SHORTEST: Duration = Duration::from_millis(200);
    /// Where the next attempt may well succeed.
    pub(super) const LONGEST: Duration = Duration::from_secs(2);
    /// Where somebody has to do something first.
    pub(super) const REFUSED: Duration = Duration::from_secs(30);

    /// The next wait, with up to a half taken off so that replicas do not ask together.
    pub(super) fn next(&mut self, longest: Duration) -> Duration {
        let wait = Self::SHORTEST.saturating_mul(1 << self.attempts.min(8)).min(longest);
        self.attempts = self.attempts.saturating_add(1);
        wait.mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    /// The next wait is short again if this event shows that the server answers. One does not: that a list begins is
    /// said before it is asked for.
    pub(super) fn settle<K>(&mut self, event: &watcher::Event<K>) {
        match event {
            watcher::Event::Init => {}
            watcher::Event::InitApply(_)
            | watcher::Event::InitDone
            | watcher::Event::Apply(_)
            | watcher::Event::Delete(_) => self.attempts = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_two_seconds_and_no_further() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..50).map(|_| backoff.next(Backoff::LONGEST)).collect();
        assert!(waits[0] <= Backoff::SHORTEST && waits[0] >= Backoff::SHORTEST / 2);
        assert!(waits.iter().all(|wait| *wait <= Backoff::LONGEST));
        assert!(waits[10..].iter().all(|wait| *wait >= Backoff::LONGEST / 2));
        // A list that is about to be asked for proves nothing.
        backoff.settle(&watcher::Event::<()>::Init);
        assert!(backoff.next(Backoff::LONGEST) >= Backoff::LONGEST / 2);
        backoff.settle(&watcher::Event::<()>::InitDone);
        assert!(backoff.next(Backoff::LONGEST) <= Backoff::SHORTEST);
    }

    #[test]
    fn a_no_is_asked_about_ever_less_often_once_nobody_waits_for_it() {
        let (reports, _inbox) = mpsc::unbounded_channel();
        let reporter = Reporter { index: 0, reports, has_begun: Arc::default() };
        let mut backoff = Backoff::default();
        let mut next = |answer| backoff.next(reporter.longest_wait(answer));
        assert!((0..50).all(|_| next(Answer::Refused) <= Backoff::LONGEST));
        reporter.has_begun.store(true, Ordering::Relaxed);
        assert!((0..50).all(|_| next(Answer::Failed) <= Backoff::LONGEST));
        assert!((0..50).map(|_| next(Answer::Refused)).all(|wait| (15..=30).contains(&wait.as_secs())));
    }
}
