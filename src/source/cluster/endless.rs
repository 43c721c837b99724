//! Tasks that are never to end, and what happens when one does.
//!
//! `run ──panic, return──▶ said ──▶ ended ──wait──▶ run`
//!
//! Only a bug ends one. Nobody waits for these tasks, so without this nothing would tell that changes of a kind are
//! missed. What a task knows outlives its end, for only so it can tell what has gone meanwhile.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use tracing::error;

use super::attempts::Backoff;

/// A task that is never to end.
pub(super) trait Endless: Send + 'static {
    /// For people.
    fn name(&self) -> String;

    /// Works until a bug ends it.
    fn run(&mut self) -> impl Future<Output = ()> + Send;

    /// It has ended and is about to begin again: what may have been on its way is to be found out anew.
    fn ended(&mut self) {}
}

/// One that worked for this long begins again at once.
const LONG: Duration = Duration::from_secs(60);

/// Runs it, for ever.
pub(super) async fn keep(mut task: impl Endless) {
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        // What it leaves half done is what `ended` is for.
        let end = AssertUnwindSafe(task.run()).catch_unwind().await;
        if begun.elapsed() >= LONG {
            backoff = Backoff::default();
        }
        let wait = backoff.next(Backoff::REFUSED);
        let panicked = end.is_err();
        error!(task = task.name(), panicked, again_in = ?wait, "A task ended because of a bug. It is started again.");
        task.ended();
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    /// Ends in another way each time.
    struct Frail {
        runs: u32,
        ends: u32,
        told: mpsc::UnboundedSender<(u32, u32)>,
    }

    impl Endless for Frail {
        fn name(&self) -> String {
            "frail".into()
        }

        async fn run(&mut self) {
            self.runs += 1;
            self.told.send((self.runs, self.ends)).unwrap();
            match self.runs {
                1 => panic!("the first time"),
                2 => {}
                _ => std::future::pending().await,
            }
        }

        fn ended(&mut self) {
            self.ends += 1;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_or_returns_begins_again_with_what_it_knew() {
        let (told, mut heard) = mpsc::unbounded_channel();
        let task = tokio::spawn(keep(Frail { runs: 0, ends: 0, told }));
        for expected in [(1, 0), (2, 1), (3, 2)] {
            assert_eq!(heard.recv().await, Some(expected));
        }
        task.abort();
    }
}
