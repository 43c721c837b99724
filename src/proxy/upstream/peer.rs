//! One endpoint as a worker sees it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{Link, Sender};
use crate::proxy::settings::Settings;
use crate::snapshot::Address;

/// An endpoint: its load, its health and its kept connections.
pub(in crate::proxy) struct Peer {
    /// Where it is.
    pub(in crate::proxy) address: Address,
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Connections without a request, the one used last at the end: reusing it lets the others grow old.
    kept: Vec<Idle>,
    /// Failures since the last answer.
    failures: u32,
    /// How often it was left out since the last answer.
    ejections: u32,
    ejected_until: Option<Instant>,
}

struct Idle {
    sender: Sender,
    link: Link,
    since: Instant,
    _kept: Kept,
}

/// A place among the connections that are kept for a backend.
pub(super) struct Kept(Arc<AtomicUsize>);

impl Kept {
    /// `None` if all places are taken.
    pub(super) fn new(count: Arc<AtomicUsize>, most: usize) -> Option<Self> {
        if count.load(Ordering::Relaxed) >= most {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Some(Self(count))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one request as in flight until dropped.
pub(in crate::proxy) struct InFlight(Arc<Peer>);

impl InFlight {
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    pub(super) fn new(address: Address) -> Self {
        Self { address, in_flight: AtomicUsize::new(0), state: Mutex::default() }
    }

    /// Requests that this worker has sent and that have not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// The connection used last that is still good.
    pub(super) fn take_kept(&self, longest: Duration) -> Option<(Sender, Link)> {
        let mut state = self.state();
        while let Some(idle) = state.kept.pop() {
            if idle.sender.is_ready() && idle.since.elapsed() < longest && idle.link.is_quiet() {
                return Some((idle.sender, idle.link));
            }
        }
        None
    }

    pub(super) fn keep(&self, sender: Sender, link: Link, kept: Kept) {
        self.state().kept.push(Idle { sender, link, since: Instant::now(), _kept: kept });
    }

    /// Closes kept connections that are too old, and forgets those that the endpoint closed.
    pub(super) fn drop_expired(&self, longest: Duration) {
        self.state().kept.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < longest);
    }

    /// Closes all kept connections. False if there are none.
    pub(super) fn drop_kept(&self) -> bool {
        let kept = std::mem::take(&mut self.state().kept);
        !kept.is_empty()
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.state().ejected_until.is_some_and(|until| now < until)
    }

    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.ejections = 0;
        state.ejected_until = None;
    }

    /// Notes a failure; true if the endpoint is left out from now on. After an ejection it has one chance.
    pub(super) fn failed(&self, settings: &Settings) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        state.failures = state.failures.saturating_add(1);
        if state.failures < settings.eject_after || state.ejected_until.is_some_and(|until| now < until) {
            return false;
        }
        let doubled = settings.eject_for.saturating_mul(1_u32 << state.ejections.min(16));
        state.ejected_until = Some(now + doubled.min(settings.eject_for_at_most));
        state.ejections += 1;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
