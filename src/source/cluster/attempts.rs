//! What comes of an attempt to list or to watch, and how long it is until the next one.

use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;

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
    /// What an error comes to.
    pub(super) fn of(error: &watcher::Error) -> Self {
        match status(error) {
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

/// Waits between attempts: doubling, and never long, because everything that happens meanwhile is missed.
#[derive(Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const SHORTEST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(2);

    /// The next wait, with up to a half taken off so that replicas do not ask together.
    pub(super) fn next(&mut self) -> Duration {
        let wait = Self::SHORTEST.saturating_mul(1 << self.attempts.min(8)).min(Self::LONGEST);
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
        let waits: Vec<Duration> = (0..50).map(|_| backoff.next()).collect();
        assert!(waits[0] <= Backoff::SHORTEST && waits[0] >= Backoff::SHORTEST / 2);
        assert!(waits.iter().all(|wait| *wait <= Backoff::LONGEST));
        assert!(waits[10..].iter().all(|wait| *wait >= Backoff::LONGEST / 2));
        // A list that is about to be asked for proves nothing.
        backoff.settle(&watcher::Event::<()>::Init);
        assert!(backoff.next() >= Backoff::LONGEST / 2);
        backoff.settle(&watcher::Event::<()>::InitDone);
        assert!(backoff.next() <= Backoff::SHORTEST);
    }
}
