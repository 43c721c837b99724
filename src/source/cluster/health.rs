//! Whether watches work: metrics, and one log line when one stops and when it works again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::runtime::watcher;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::kubernetes::Guard;
use crate::metrics::Metrics;

/// Longest wait for the head of the answer to a list or a watch.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shortest time between two starts of one watch.
const PACE: Duration = Duration::from_secs(1);

/// The health of all watches.
#[derive(Default)]
pub(super) struct Board {
    watches: Vec<Health>,
}

/// The health of one watch.
#[derive(Clone)]
pub(super) struct Health {
    kind: &'static str,
    namespace: Arc<str>,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Since when nothing is heard, if so.
    stale: Option<Instant>,
    /// An error was said, and that it is over not yet.
    is_said: bool,
}

impl Board {
    pub(super) fn health(&mut self, kind: &'static str, namespace: &str, metrics: &Metrics) -> Health {
        let state = State { stale: Some(Instant::now()), is_said: false };
        let state = Arc::new(Mutex::new(state));
        let health = Health { kind, namespace: namespace.into(), metrics: metrics.clone(), state };
        self.watches.push(health.clone());
        health
    }

    /// Keeps the metrics, for ever.
    pub(super) async fn tick(self, metrics: Metrics) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let mut ages: BTreeMap<&str, f64> = BTreeMap::new();
            for health in &self.watches {
                let age = health.state().stale.map_or(0.0, |since| since.elapsed().as_secs_f64());
                let oldest = ages.entry(health.kind).or_default();
                *oldest = oldest.max(age);
            }
            for (kind, age) in ages {
                metrics.watch_stale.with_label_values(&[kind]).set(age);
            }
        }
    }
}

impl Health {
    /// For the client of the watch.
    pub(super) fn guard(&self) -> Guard {
        let health = self.clone();
        Guard::watch(PATIENCE, PACE, move || health.works())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has accepted the watch, or listed all there is.
    pub(super) fn works(&self) {
        let mut state = self.state();
        let since = state.stale.take();
        if std::mem::take(&mut state.is_said) {
            let outage = since.map(|since| since.elapsed()).unwrap_or_default();
            info!(kind = self.kind, namespace = %self.namespace, ?outage, "The watch works again.");
        }
    }

    /// A list, a watch or its stream has failed.
    pub(super) fn failed(&self, error: &watcher::Error) {
        let cause = match error {
            watcher::Error::InitialListFailed(_) => "list",
            watcher::Error::WatchStartFailed(_) => "start",
            // The server's memory does not reach back that far: a new list follows, and nothing is wrong.
            watcher::Error::WatchError(status) if status.code == 410 => "expired",
            watcher::Error::WatchError(_) => "server",
            watcher::Error::WatchFailed(_) => "stream",
            watcher::Error::NoResourceVersion => "version",
        };
        self.metrics.watch_errors.with_label_values(&[self.kind, cause]).inc();
        let mut state = self.state();
        state.stale.get_or_insert_with(Instant::now);
        let causes = causes(error);
        if cause == "expired" || std::mem::replace(&mut state.is_said, true) {
            debug!(kind = self.kind, namespace = %self.namespace, error = %causes, "The watch failed; it is tried again.");
        } else {
            warn!(
                kind = self.kind,
                namespace = %self.namespace,
                error = %causes,
                "The watch failed; it is tried again, and what is served stays served."
            );
        }
    }

    pub(super) fn event(&self) {
        self.metrics.watch_events.with_label_values(&[self.kind]).inc();
    }

    pub(super) fn relisted(&self) {
        self.metrics.watch_relists.with_label_values(&[self.kind]).inc();
        self.works();
    }
}

/// An error with what it comes from, each part once: many repeat their source in their own text.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
