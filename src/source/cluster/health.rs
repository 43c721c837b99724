//! Whether watches work: metrics, and one log line when one stops and when it works again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::attempts::status;
use super::endless::Endless;
use crate::kubernetes::{Guard, cause, causes};
use crate::metrics::Metrics;

/// Longest wait for the head of the answer to a list or a watch.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shortest time between two starts of one watch.
const PACE: Duration = Duration::from_secs(1);

/// How often the server is asked whether it is there, and how long it may take to answer. While it does not answer it is
/// asked more often ([`PACE`]).
const PULSE: Duration = Duration::from_secs(5);

/// The health of all watches.
pub(super) struct Board {
    metrics: Metrics,
    watches: Vec<Health>,
    /// Since when the server has not answered, if so.
    silent: Arc<Mutex<Option<Instant>>>,
}

/// Asks the server for its version again and again. One that stands still keeps its connections, and its watches look as
/// if nothing happened: only an answer tells.
pub(super) struct Pulse {
    client: Client,
    silent: Arc<Mutex<Option<Instant>>>,
}

/// The health of one watch.
#[derive(Clone)]
pub(super) struct Health {
    kind: &'static str,
    namespace: Arc<str>,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
    /// How often the server has accepted the watch.
    accepted: watch::Sender<u64>,
}

struct State {
    /// Since when nothing is heard, if so.
    stale: Option<Instant>,
    /// The status codes of errors that were said, 0 for those without; that it is over not yet.
    said: Vec<u16>,
}

impl Board {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), watches: Vec::new(), silent: Arc::default() }
    }

    pub(super) fn health(&mut self, kind: &'static str, namespace: &str) -> Health {
        let state = State { stale: Some(Instant::now()), said: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let accepted = watch::Sender::new(0);
        let health = Health { kind, namespace: namespace.into(), metrics: self.metrics.clone(), state, accepted };
        self.watches.push(health.clone());
        health
    }

    pub(super) fn pulse(&self, client: Client) -> Pulse {
        Pulse { client, silent: self.silent.clone() }
    }
}

/// Keeps the metrics.
impl Endless for Board {
    fn name(&self) -> String {
        "health of watches".into()
    }

    async fn run(&mut self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let mut ages: BTreeMap<&str, f64> = BTreeMap::new();
            let silent = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            for health in &self.watches {
                let since = [health.state().stale, silent].into_iter().flatten().min();
                let age = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
                let oldest = ages.entry(health.kind).or_default();
                *oldest = oldest.max(age);
            }
            for (kind, age) in ages {
                self.metrics.watch_stale.with_label_values(&[kind]).set(age);
            }
        }
    }
}

impl Endless for Pulse {
    fn name(&self) -> String {
        "pulse of the API server".into()
    }

    async fn run(&mut self) {
        loop {
            let asked = Instant::now();
            let problem = match timeout(PULSE, self.client.apiserver_version()).await {
                Ok(Err(kube::Error::Api(status))) if status.code >= 500 => Some(status.message.clone()),
                Ok(Ok(_) | Err(kube::Error::Api(_))) => None,
                Ok(Err(error)) => Some(cause(&error)),
                Err(_) => Some(format!("no answer within {PULSE:?}")),
            };
            let pause = if problem.is_some() { PACE } else { PULSE };
            note_pulse(&self.silent, asked, problem);
            sleep(pause).await;
        }
    }
}

fn note_pulse(silent: &Mutex<Option<Instant>>, asked: Instant, problem: Option<String>) {
    let mut silent = silent.lock().unwrap_or_else(PoisonError::into_inner);
    match (problem, *silent) {
        (None, None) | (Some(_), Some(_)) => {}
        (None, Some(since)) => {
            *silent = None;
            info!(outage = ?since.elapsed(), "The API server answers again.");
        }
        (Some(error), None) => {
            *silent = Some(asked);
            warn!(
                error,
                "The API server does not answer. Changes may be missed, and everything that is served stays served."
            );
        }
    }
}

impl Health {
    /// For the client of the watch.
    pub(super) fn guard(&self) -> Guard {
        let health = self.clone();
        Guard::watch(PATIENCE, PACE, move || {
            health.works();
            health.accepted.send_modify(|count| *count += 1);
        })
    }

    /// Tells of each time that the server accepts the watch.
    pub(super) fn accepted(&self) -> watch::Receiver<u64> {
        self.accepted.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_stale(&self) -> bool {
        self.state().stale.is_some()
    }

    /// The server has accepted the watch, or listed all there is, or refused what is done without.
    pub(super) fn works(&self) {
        let mut state = self.state();
        let since = state.stale.take();
        if !std::mem::take(&mut state.said).is_empty() {
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
        let code = status(error).map_or(0, |status| status.code);
        // That nobody answers and that somebody says no are two things to know; there are few of them.
        if cause == "expired" || state.said.contains(&code) {
            debug!(kind = self.kind, namespace = %self.namespace, error = %causes, "The watch failed. It is tried again.");
        } else {
            state.said.push(code);
            warn!(
                kind = self.kind,
                namespace = %self.namespace,
                error = %causes,
                "The watch failed. It is tried again, and everything that is served stays served."
            );
        }
    }

    /// The task of the watch has ended, which is a bug.
    pub(super) fn ended(&self) {
        self.metrics.watch_errors.with_label_values(&[self.kind, "bug"]).inc();
        let mut state = self.state();
        state.stale.get_or_insert_with(Instant::now);
        // So that it is said when it works again.
        state.said.push(0);
    }

    pub(super) fn event(&self) {
        self.metrics.watch_events.with_label_values(&[self.kind]).inc();
    }

    pub(super) fn relisted(&self) {
        self.metrics.watch_relists.with_label_values(&[self.kind]).inc();
        self.works();
    }
}
