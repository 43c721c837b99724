//! The task that keeps statuses in the cluster as they should be, if this replica leads.
//!
//! ```text
//! publications ─┐            differing               Next
//! seen ─────────┼──▶ look ──────────────▶ Queue ──▶ Plans ──▶ at most IN_FLIGHT writes, PACE a second
//! addresses ────┘                            ▲                    │
//!                                            └── failed, later ◀──┘
//! ```
//!
//! It runs beside everything else on the control thread and holds nothing up: configurations are compiled and served
//! whatever is written here, and however slowly. What thousands of changes mean for one object is one write.

#[cfg(test)]
pub(super) mod tests;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::addresses::{self, Addresses, Source};
use super::apply::{Outcome, Target, apply};
use super::bucket::Bucket;
use super::events::{Remark, Teller};
use super::plan::{Next, Plans, Wanted, What, Write};
use super::queue::Queue;
use crate::clock;
use crate::compile::{Kind, ObjectKey};
use crate::config::StatusArgs;
use crate::kubernetes::{Cluster, Complaints, cause};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::reconcile::Publication;
use crate::source::cluster::seen::Seen;

pub use super::events::Remarks;

/// Writes at one time.
const IN_FLIGHT: usize = 8;

/// Writes a second, and how many may come at once.
const PACE: u32 = 200;

/// Changes that come closer together are looked at together.
const QUIET: Duration = Duration::from_millis(200);

/// How long one write may take, with the client's own retries.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing is written after the API server has asked for that, or was not there.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How long the end waits for what is being written, and for addresses to be taken away.
const LAST_WRITES: Duration = Duration::from_secs(3);
const LEAVING: Duration = Duration::from_secs(8);

/// What the writers look at.
pub(super) struct Inputs {
    /// Where to write.
    pub(super) cluster: Cluster,
    /// What to write.
    pub(super) args: StatusArgs,
    /// What stands there.
    pub(super) seen: Seen,
    /// What is served.
    pub(super) publications: watch::Receiver<Option<Publication>>,
    /// Whether to write.
    pub(super) leadership: Leadership,
    /// Gets counts.
    pub(super) metrics: Metrics,
}

/// The writers of this replica.
pub struct Writers {
    /// Takes what is to be told beside diagnostics.
    pub remarks: Remarks,
    end: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

/// Writes statuses and Events whenever this replica leads. To be called when traffic is served, and not with
/// `--no-status`.
pub fn start(
    cluster: &Cluster,
    args: &StatusArgs,
    leadership: &Leadership,
    seen: &Seen,
    publications: &watch::Receiver<Option<Publication>>,
    metrics: &Metrics,
) -> Writers {
    let inputs = Inputs {
        cluster: cluster.clone(),
        args: args.clone(),
        seen: seen.clone(),
        publications: publications.clone(),
        leadership: leadership.clone(),
        metrics: metrics.clone(),
    };
    let end = CancellationToken::new();
    let (remarks, tasks) = spawn(inputs, &end);
    Writers { remarks, end, tasks }
}

fn spawn(inputs: Inputs, end: &CancellationToken) -> (Remarks, [JoinHandle<()>; 2]) {
    let (remarks, remarked) = mpsc::channel(64);
    let others = Remarks(remarks.clone());
    let events = Teller::new(&inputs, remarked);
    let writer = Writer {
        source: Source::of(&inputs.args),
        wanted: Wanted::default(),
        addresses: watch::Sender::new(None),
        plans: Plans::default(),
        policies: Queue::default(),
        ingresses: Queue::default(),
        in_flight: JoinSet::new(),
        bucket: Bucket::new(PACE, Duration::from_secs(1) / PACE, Instant::now()),
        rest: Rest::default(),
        complaints: Complaints::default(),
        remarks,
        inputs,
    };
    (others, [tokio::spawn(writer.run(end.clone())), tokio::spawn(events.run(end.clone()))])
}

impl Writers {
    /// Stops writing: what is being written is finished, and, if the operator wants that and this is the last replica,
    /// addresses are taken away. Takes a few seconds at most. To be called when the process begins to end, before the
    /// Lease is left to the next replica, so that another writes while this one drains.
    pub async fn finish(self) {
        self.end.cancel();
        for task in self.tasks {
            let _ = timeout(2 * (LAST_WRITES + LEAVING), task).await;
        }
    }
}

struct Writer {
    inputs: Inputs,
    source: Source,
    wanted: Wanted,
    addresses: watch::Sender<Addresses>,
    plans: Plans,
    /// Few, and not to wait behind thousands of Ingresses.
    policies: Queue<ObjectKey>,
    ingresses: Queue<ObjectKey>,
    in_flight: JoinSet<Ended>,
    bucket: Bucket,
    rest: Rest,
    complaints: Complaints,
    remarks: mpsc::Sender<Remark>,
}

/// A write that has ended.
struct Ended {
    key: ObjectKey,
    write: Write,
    /// Whether another writer's was taken over; `None` if there was no answer in time.
    result: Option<Result<bool, kube::Error>>,
}

/// Nothing is written before its end.
#[derive(Default)]
struct Rest {
    until: Option<Instant>,
    length: Duration,
}

impl Writer {
    async fn run(mut self, end: CancellationToken) {
        let mut publications = self.inputs.publications.clone();
        let mut changes = self.inputs.seen.subscribe();
        let mut leadership = self.inputs.leadership.clone();
        let mut addresses = self.addresses.subscribe();
        let mut term = None;
        let mut look_at = Some(Instant::now());
        let mut follower: Option<JoinHandle<()>> = None;
        loop {
            let now = Instant::now();
            let leads = leadership.term().at(now);
            if leads != term {
                // What was known of the cluster belongs to another term, and somebody else may have written since.
                term = leads;
                self.forget();
                look_at = term.map(|_| now);
                if let Some(follower) = follower.take() {
                    follower.abort();
                }
                follower = term.map(|_| self.follow_addresses());
            }
            if term.is_some() && look_at.is_some_and(|at| at <= now) {
                look_at = self.look(now);
            }
            if term.is_some() {
                self.dispatch(now);
            }
            self.count();
            let wake_at = term.and_then(|_| earliest(look_at, self.next_at(now)));
            // One of these wakes us: something that is to be written may have changed, a write has ended, it is time for
            // the next one or for a look, or the process ends.
            tokio::select! {
                () = end.cancelled() => break,
                changed = publications.changed() => match changed {
                    Ok(()) if self.is_news() => self.hurry(&mut look_at),
                    Ok(()) => {}
                    Err(_) => end.cancelled().await,
                },
                Ok(()) = changes.changed() => self.hurry(&mut look_at),
                Ok(()) = addresses.changed() => self.hurry(&mut look_at),
                () = leadership.changed() => {}
                Some(ended) = self.in_flight.join_next() => self.ended(ended),
                () = wake(wake_at) => {}
            }
        }
        if let Some(follower) = follower {
            follower.abort();
        }
        self.leave().await;
    }

    /// Follows the addresses for as long as this term lasts.
    fn follow_addresses(&self) -> JoinHandle<()> {
        let (source, cluster, found) = (self.source.clone(), self.inputs.cluster.clone(), self.addresses.clone());
        tokio::spawn(async move { addresses::follow(&source, &cluster, &found).await })
    }

    /// Whether what is published asks for other statuses than the last look did. Most of what is published is about
    /// certificates and endpoints.
    fn is_news(&self) -> bool {
        self.inputs.publications.borrow().as_ref().is_some_and(|publication| {
            !publication.compiled.ingresses.is_copy(&self.wanted.ingresses)
                || !publication.compiled.policies.is_copy(&self.wanted.policies)
        })
    }

    /// A look is due soon, not at once: changes come in crowds.
    fn hurry(&self, look_at: &mut Option<Instant>) {
        let soon = Instant::now() + QUIET;
        if look_at.is_none_or(|at| soon < at) {
            *look_at = Some(soon);
        }
    }

    fn forget(&mut self) {
        self.plans = Plans::default();
        self.policies = Queue::default();
        self.ingresses = Queue::default();
        self.in_flight.abort_all();
        self.rest = Rest::default();
    }

    /// Puts what is not as it should be into the queues. Returns when to look again without a change.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        let publication = self.inputs.publications.borrow().clone();
        // Nothing is known, so nothing is to be written, and nothing to be taken away.
        let publication = publication?;
        self.wanted = Wanted {
            ingresses: publication.compiled.ingresses.clone(),
            policies: publication.compiled.policies.clone(),
            addresses: self.addresses.borrow().clone(),
        };
        let objects = self.inputs.seen.objects();
        let (differing, later) = self.plans.differing(&self.wanted, &objects, now);
        drop(objects);
        for key in &differing {
            queue(&mut self.policies, &mut self.ingresses, key).push(key);
        }
        later
    }

    /// Sends what may be sent now.
    fn dispatch(&mut self, now: Instant) {
        let time = Timestamp::try_from(clock::system_time()).unwrap_or(Timestamp::UNIX_EPOCH);
        while self.in_flight.len() < IN_FLIGHT && self.rest.is_over(now) {
            let Some(until) = self.inputs.leadership.term().until.filter(|until| now < *until) else { return };
            if self.bucket.next_at(now) > now {
                return;
            }
            let Some(key) = self.policies.pop(now).or_else(|| self.ingresses.pop(now)) else { return };
            let objects = self.inputs.seen.objects();
            let next = self.plans.next(&key, &self.wanted, &objects, now, time);
            drop(objects);
            let queue = queue(&mut self.policies, &mut self.ingresses, &key);
            match next {
                Next::Nothing => queue.done(&key),
                Next::At(at) => queue.at(&key, at),
                Next::Contested => {
                    queue.done(&key);
                    self.contested(key);
                }
                Next::Write(write) => {
                    self.bucket.take(now);
                    let client = self.inputs.cluster.client.clone();
                    let manager = self.inputs.seen.manager();
                    // A leader whose term ends writes nothing more, also not what it had begun.
                    let deadline = until.min(now + PATIENCE);
                    self.in_flight.spawn(async move {
                        let force = !matches!(write.what, What::Clear);
                        let sent = apply(&client, &manager, &key, &write.uid, &write.status, force);
                        let result = timeout_at(deadline, sent).await.ok();
                        Ended { key, write, result }
                    });
                }
            }
        }
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // One that was ended by us belongs to a term that is over.
        let Ok(Ended { key, write, result }) = ended else { return };
        let now = Instant::now();
        let is_clear = matches!(write.what, What::Clear);
        let queue = queue(&mut self.policies, &mut self.ingresses, &key);
        let outcome = match result {
            Some(Ok(taken_over)) => {
                self.plans.written(&key, write, now);
                queue.done(&key);
                self.rest = Rest::default();
                if self.complaints.settled() {
                    info!("Statuses are written again.");
                }
                match (is_clear, taken_over) {
                    (true, _) => Outcome::Cleared,
                    (false, true) => Outcome::TakenOver,
                    (false, false) => Outcome::Written,
                }
            }
            Some(Err(kube::Error::Api(status))) if status.code == 404 => {
                // If it is there all the same, the kind is not, and that may take long.
                queue.failed(&key, now, 1.0);
                Outcome::Gone
            }
            failed => {
                queue.failed(&key, now, fastrand::f64());
                self.rest.after(&failed, now);
                let error = match &failed {
                    Some(Err(error)) => cause(error),
                    Some(Ok(_)) | None => "no answer in time".to_owned(),
                };
                if self.complaints.is_due(&kind_of(&failed), now) {
                    warn!(object = %key, error, "Cannot write a status. It is tried again.");
                }
                Outcome::Failed
            }
        };
        self.record(&key, outcome);
    }

    fn contested(&self, key: ObjectKey) {
        self.record(&key, Outcome::Contested);
        if key.kind == Kind::TlsPolicy {
            let other = self.inputs.seen.objects().policies.get(&key).and_then(|seen| seen.other.clone());
            return info!(
                object = %key, other = other.as_deref(),
                "Another installation of Handfast writes the conditions of this TlsPolicy, so this one does not."
            );
        }
        warn!(
            object = %key,
            "Another controller keeps changing status.loadBalancer of this Ingress, so Handfast leaves it alone. Let only one controller serve its class, or run this one with --no-status."
        );
        // If there are too many to be told, the log and the metric have them.
        let _ = self.remarks.try_send(Remark::Contested(key));
    }

    fn record(&self, key: &ObjectKey, outcome: Outcome) {
        let labels = [target(key).label(), outcome.label()];
        self.inputs.metrics.status_writes.with_label_values(&labels).inc();
    }

    fn count(&self) {
        for (target, queue) in [(Target::Ingress, &self.ingresses), (Target::TlsPolicy, &self.policies)] {
            let length = i64::try_from(queue.len()).unwrap_or(i64::MAX);
            self.inputs.metrics.status_queue.with_label_values(&[target.label()]).set(length);
        }
    }

    /// When something may be sent that cannot be sent now.
    fn next_at(&mut self, now: Instant) -> Option<Instant> {
        // The end of a write wakes us.
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        let next = earliest(self.policies.next_at(now), self.ingresses.next_at(now))?;
        let allowed = self.bucket.next_at(now).max(self.rest.until.unwrap_or(now));
        Some(next.max(allowed))
    }

    /// The last writes, if we still lead.
    async fn leave(mut self) {
        let finish = async {
            while let Some(ended) = self.in_flight.join_next().await {
                self.ended(ended);
            }
        };
        let _ = timeout(LAST_WRITES, finish).await;
        let leads = |leadership: &Leadership| leadership.term().at(Instant::now()).is_some();
        if !self.inputs.args.update_status_on_shutdown || !leads(&self.inputs.leadership) {
            return;
        }
        match timeout(LAST_WRITES, addresses::is_another_running(&self.inputs.cluster)).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => return,
            Ok(Err(error)) => {
                info!(error = cause(&error), "It is unknown whether another replica runs, so addresses stay.");
                return;
            }
            Err(_) => return,
        }
        info!("This is the last replica, so addresses are removed (--update-status-on-shutdown).");
        self.plans.leave();
        let clear = async {
            self.look(Instant::now());
            // Nothing is sent when the term is over, so there is nothing to wait for.
            while leads(&self.inputs.leadership) {
                self.dispatch(Instant::now());
                if self.in_flight.is_empty() && self.ingresses.len() == 0 {
                    return;
                }
                let next_at = self.next_at(Instant::now());
                tokio::select! {
                    Some(ended) = self.in_flight.join_next() => self.ended(ended),
                    () = wake(next_at) => {}
                }
            }
        };
        if timeout(LEAVING, clear).await.is_err() {
            warn!(left = self.ingresses.len(), "There was not enough time to remove all addresses.");
        }
    }
}

impl Rest {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// What the API server cannot do now it cannot do for other objects either.
    fn after(&mut self, failed: &Option<Result<bool, kube::Error>>, now: Instant) {
        let asked = match failed {
            Some(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 429 | 500..) => {
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Duration::from_secs(seconds.into())
            }
            // This object cannot be written, which says nothing about others.
            Some(Err(kube::Error::Api(_))) | Some(Ok(_)) => return,
            Some(Err(_)) | None => Duration::ZERO,
        };
        if self.is_over(now) {
            self.length = (self.length * 2).clamp(SHORTEST_REST, LONGEST_REST);
            self.until = Some(now + self.length.max(asked.min(LONGEST_REST)));
        }
    }
}

/// What failures have in common that are one complaint, whichever objects they are about.
fn kind_of(failed: &Option<Result<bool, kube::Error>>) -> String {
    match failed {
        Some(Err(kube::Error::Api(status))) => format!("status {}", status.code),
        Some(Err(error)) => cause(error),
        Some(Ok(_)) | None => "no answer in time".to_owned(),
    }
}

fn target(key: &ObjectKey) -> Target {
    if key.kind == Kind::TlsPolicy { Target::TlsPolicy } else { Target::Ingress }
}

fn queue<'a>(
    policies: &'a mut Queue<ObjectKey>,
    ingresses: &'a mut Queue<ObjectKey>,
    key: &ObjectKey,
) -> &'a mut Queue<ObjectKey> {
    match target(key) {
        Target::TlsPolicy => policies,
        Target::Ingress => ingresses,
    }
}

pub(super) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

pub(super) async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
