//! Which objects wait to be written: each once, however often it changes. Time is a parameter.
//!
//! `push ──▶ ready ──pop──▶ in flight ──▶ done, or later again`
//!
//! Only keys wait, no contents. What is to be written is worked out when it is an object's turn, so the latest wins, and
//! nothing that is outdated is written.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Objects that wait, first come, first served.
#[derive(Debug)]
pub(super) struct Queue<K> {
    ready: VecDeque<K>,
    delayed: BTreeSet<(Instant, K)>,
    states: HashMap<K, State>,
    /// Failures in a row.
    failures: HashMap<K, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Until then; `failed`: it could not be written.
    Delayed {
        at: Instant,
        failed: bool,
    },
    /// `again`: it has been pushed since.
    InFlight {
        again: bool,
    },
}

/// The pause after the first failure; it doubles.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), delayed: BTreeSet::new(), states: HashMap::new(), failures: HashMap::new() }
    }
}

impl<K: Clone + Hash + Ord> Queue<K> {
    /// Puts an object in. One that waits for its time is looked at again, because something else may be to be written
    /// now; one that could not be written goes on waiting.
    pub(super) fn push(&mut self, key: &K) {
        match self.states.get_mut(key) {
            None => self.ready(key),
            Some(State::InFlight { again }) => *again = true,
            Some(State::Delayed { at, failed: false }) => {
                let at = *at;
                self.delayed.remove(&(at, key.clone()));
                self.ready(key);
            }
            Some(State::Ready | State::Delayed { failed: true, .. }) => {}
        }
    }

    fn ready(&mut self, key: &K) {
        self.states.insert(key.clone(), State::Ready);
        self.ready.push_back(key.clone());
    }

    /// The next object whose turn it is. To be followed by [`Queue::done`], [`Queue::at`] or [`Queue::failed`].
    pub(super) fn pop(&mut self, now: Instant) -> Option<K> {
        while let Some((_, key)) = self.delayed.first().filter(|(at, _)| *at <= now).cloned() {
            self.delayed.pop_first();
            self.ready(&key);
        }
        let key = self.ready.pop_front()?;
        self.states.insert(key.clone(), State::InFlight { again: false });
        Some(key)
    }

    /// It is written, or there is nothing to write.
    pub(super) fn done(&mut self, key: &K) {
        self.failures.remove(key);
        if self.states.remove(key) == Some(State::InFlight { again: true }) {
            self.push(key);
        }
    }

    /// Its turn is later.
    pub(super) fn at(&mut self, key: &K, at: Instant) {
        self.delay(key, at, false);
    }

    fn delay(&mut self, key: &K, at: Instant, failed: bool) {
        self.states.insert(key.clone(), State::Delayed { at, failed });
        self.delayed.insert((at, key.clone()));
    }

    /// It was not written; its turn is later, and later still the more often that happens. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, key: &K, now: Instant, jitter: f64) {
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = (SHORTEST * (1 << (*failures).min(16))).min(LONGEST);
        *failures = failures.saturating_add(1);
        self.delay(key, now + pause.mul_f64(1.0 + jitter * 0.5), true);
    }

    /// When somebody's turn comes.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        self.delayed.first().map(|(at, _)| *at)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.delayed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_waits_once_and_comes_again_if_it_changed_while_it_was_written() {
        let now = Instant::now();
        let mut queue = Queue::default();
        ["a", "b", "a"].iter().for_each(|key| queue.push(key));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.pop(now), Some("a"));
        queue.push(&"a");
        assert_eq!(queue.pop(now), Some("b"), "a is in flight");
        assert_eq!(queue.pop(now), None);
        queue.done(&"b");
        queue.done(&"a");
        assert_eq!(queue.pop(now), Some("a"));
        queue.done(&"a");
        assert_eq!((queue.pop(now), queue.next_at(now)), (None, None));
    }

    #[test]
    fn what_waits_for_its_time_is_looked_at_when_it_changes() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let mut queue = Queue::default();
        queue.push(&"a");
        queue.pop(now);
        queue.at(&"a", later);
        assert_eq!((queue.pop(now), queue.next_at(now)), (None, Some(later)));
        queue.push(&"a");
        assert_eq!((queue.len(), queue.pop(now), queue.next_at(now)), (1, Some("a"), None));
        queue.at(&"a", later);
        assert_eq!(queue.pop(later), Some("a"));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_fails_comes_again_at_growing_intervals_and_a_push_does_not_hurry_it() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.push(&"a");
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(queue.pop(now), Some("a"));
            queue.failed(&"a", now, 0.0);
            queue.push(&"a");
            assert_eq!(queue.pop(now), None);
            assert_eq!(queue.next_at(now), Some(now + Duration::from_secs(pause)));
            now += Duration::from_secs(pause);
        }
        queue.pop(now);
        queue.done(&"a");
        queue.push(&"a");
        queue.pop(now);
        queue.failed(&"a", now, 0.0);
        assert_eq!(queue.next_at(now), Some(now + SHORTEST), "a success ends the row");
    }
}
