//! Leader election: of all replicas the one that holds a Lease writes to the cluster.
//!
//! `Lease ◀──compare and swap── elect ──▶ Leadership: until when we may write ──▶ status/`
//!
//! The rules are those of client-go. Whether a holder is gone is judged by our own clock alone: by how long its Lease has
//! not changed while we looked, never by the times that stand in it, because clocks of nodes differ. Every write carries the
//! resource version that was read, so of two that want the Lease one gets a conflict. A holder that cannot renew stops
//! writing [`MARGIN`] before anybody else may begin: [`Leadership`] is a deadline, not a flag, so a process that was
//! suspended finds out by itself.
//!
//! Nothing that serves traffic waits for any of this. Without permission for the Lease nobody writes, which is said loudly.

mod lease;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::lease::{Candidate, Step};
use crate::clock;
use crate::config::StatusArgs;
use crate::kubernetes::{Cluster, Complaints, cause};
use crate::metrics::Metrics;

/// How long before its Lease can be taken a leader stops writing.
pub const MARGIN: Duration = Duration::from_secs(1);

/// How long the end waits for the Lease to be given back.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);

/// The longest pause of a replica that may not read the Lease.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Until when we may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// Counts the times that we have become the leader. What was known of the cluster may be old in a new one.
    pub number: u64,
    /// By our clock; `None` if somebody else leads, or nobody.
    pub until: Option<Instant>,
}

impl Term {
    /// The number of the term, if we may write now.
    pub fn at(self, now: Instant) -> Option<u64> {
        self.until.is_some_and(|until| now < until).then_some(self.number)
    }
}

/// Tells writers whether they may write.
#[derive(Clone, Debug)]
pub struct Leadership {
    terms: watch::Receiver<Term>,
}

impl Leadership {
    /// One that is told by hand, for tests.
    pub fn channel() -> (watch::Sender<Term>, Self) {
        let (sender, terms) = watch::channel(Term::default());
        (sender, Self { terms })
    }

    /// The term that we know of. To be asked before each write.
    pub fn term(&self) -> Term {
        *self.terms.borrow()
    }

    /// Waits for the next change: a renewal, a loss, a new term. For ever once the election has ended.
    pub async fn changed(&mut self) {
        if self.terms.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A running election.
pub struct Election {
    /// Whether we lead.
    pub leadership: Leadership,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Election {
    /// Stops, and gives the Lease back if we hold it, so that the next replica need not wait for it to run out. To be
    /// called when nothing is written any more.
    pub async fn finish(self) {
        self.end.cancel();
        let _ = timeout(2 * RELEASE_PATIENCE, self.task).await;
    }
}

/// Starts the election of this replica among those of its namespace.
pub fn start(cluster: &Cluster, args: &StatusArgs, metrics: &Metrics) -> Election {
    let end = CancellationToken::new();
    let (terms, receiver) = watch::channel(Term::default());
    let elector = Elector {
        leases: Leases::new(&cluster.client, &cluster.namespace, &args.election_id),
        // A pod's container that starts again is not the process that held the Lease.
        candidate: Candidate::new(format!("{}_{:08x}", cluster.identity, fastrand::u32(..)), args.election_ttl),
        terms,
        metrics: metrics.clone(),
        complaints: Complaints::default(),
        clock: clock::system_time,
    };
    let task = tokio::spawn(elector.run(end.clone()));
    Election { leadership: Leadership { terms: receiver }, end, task }
}

/// The Lease, in the cluster.
struct Leases {
    api: Api<Lease>,
    namespace: Arc<str>,
    name: Arc<str>,
}

impl Leases {
    fn new(client: &Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), namespace: namespace.into(), name: name.into() }
    }
}

struct Elector {
    leases: Leases,
    candidate: Candidate,
    terms: watch::Sender<Term>,
    metrics: Metrics,
    complaints: Complaints,
    clock: fn() -> SystemTime,
}

impl Elector {
    /// Until `end`: an attempt, a pause, and so on. What is held then is given back.
    async fn run(mut self, end: CancellationToken) {
        let mut failures = 0_u32;
        self.show(false);
        loop {
            let ended = tokio::select! {
                ended = self.attempt() => ended,
                () = end.cancelled() => break,
            };
            match ended {
                Ok(()) => {
                    failures = 0;
                    if self.complaints.settled() {
                        info!("Leader election works again.");
                    }
                }
                Err(problem) => {
                    // Only permission takes its time; a server that is away may be back at any moment.
                    let is_refused =
                        matches!(&problem, Problem::Failed(error) if is_gone(error) || is_forbidden(error));
                    failures = if is_refused { failures.saturating_add(1) } else { 1 };
                    self.complain(&problem);
                }
            }
            self.tell();
            let pause = self.pause(failures);
            // A term that runs out during the pause is told when it does, not when the next attempt has failed.
            let lapse = self.candidate.until().filter(|until| *until < Instant::now() + pause);
            tokio::select! {
                () = sleep(pause) => {}
                () = end.cancelled() => break,
                () = until(lapse) => self.tell(),
            }
        }
        // Nobody writes any more; the Lease says so last.
        self.terms.send_modify(|term| term.until = None);
        self.show(false);
        if timeout(RELEASE_PATIENCE, self.release()).await.is_err() {
            info!("The Lease was not given back in time; the next replica waits until it runs out.");
        }
    }

    /// Takes the Lease or renews it, if it is to be had.
    async fn attempt(&mut self) -> Result<(), Problem> {
        let patience = self.candidate.patience(Instant::now());
        timeout(patience, self.take_or_renew()).await.map_err(|_| Problem::Silent)?.map_err(Problem::Failed)
    }

    async fn take_or_renew(&mut self) -> Result<(), Error> {
        // What we hold is renewed without reading it first: if somebody has changed it, there is a conflict.
        if let Some(renewed) = self.candidate.renewal(self.timestamp()) {
            match self.write(Step::Replace(Box::new(renewed))).await {
                Err(error) if is_lost_race(&error) || is_gone(&error) => {}
                done => return done,
            }
        }
        let found = self.leases.api.get_opt(&self.leases.name).await?;
        let step = self.candidate.look(found, Instant::now(), self.timestamp());
        match self.write(step).await {
            // Somebody was faster; the next look says who.
            Err(error) if is_lost_race(&error) => Ok(()),
            done => done,
        }
    }

    async fn write(&mut self, step: Step) -> Result<(), Error> {
        let sent = Instant::now();
        let written = match step {
            Step::Wait => return Ok(()),
            Step::Create(mut lease) => {
                lease.metadata.name = Some(self.leases.name.to_string());
                lease.metadata.namespace = Some(self.leases.namespace.to_string());
                self.leases.api.create(&PostParams::default(), &lease).await?
            }
            Step::Replace(lease) => self.leases.api.replace(&self.leases.name, &PostParams::default(), &lease).await?,
        };
        self.candidate.written(written, sent);
        Ok(())
    }

    /// Gives the Lease back, if it is ours. It is read first: the answer to a renewal may have been lost, or cut off.
    async fn release(&mut self) {
        let Ok(Some(found)) = self.leases.api.get_opt(&self.leases.name).await else { return };
        let Some(released) = self.candidate.released(found, self.timestamp()) else { return };
        match self.leases.api.replace(&self.leases.name, &PostParams::default(), &released).await {
            Ok(_) => info!("The Lease is given back."),
            Err(error) => info!(error = cause(&error), "The Lease is not given back; it runs out by itself."),
        }
    }

    /// Tells writers what has become of the term, if it is something new.
    fn tell(&mut self) {
        let now = Instant::now();
        let until = self.candidate.until().filter(|until| now < *until);
        let before = *self.terms.borrow();
        let (led, leads) = (before.until.is_some(), until.is_some());
        if before.until == until {
            return;
        }
        let number = before.number + u64::from(leads && !led);
        self.terms.send_replace(Term { number, until });
        self.show(leads);
        let Leases { namespace, name, .. } = &self.leases;
        match (led, leads) {
            (false, true) => info!(%namespace, lease = %name, "This replica leads: it writes statuses and Events."),
            (true, false) => warn!(%namespace, lease = %name, "This replica no longer leads, and writes nothing."),
            (true, true) | (false, false) => {}
        }
    }

    fn show(&self, leads: bool) {
        let Leases { namespace, name, .. } = &self.leases;
        self.metrics.leader.with_label_values(&[&*format!("{namespace}/{name}")]).set(i64::from(leads));
    }

    fn complain(&mut self, problem: &Problem) {
        let Leases { namespace, name, .. } = &self.leases;
        match problem {
            Problem::Failed(error) if is_forbidden(error) || is_gone(error) => {
                let error = cause(error);
                if self.complaints.is_due(&error, Instant::now()) {
                    warn!(
                        %namespace,
                        lease = %name,
                        error,
                        "The Lease cannot be used, so this replica cannot become the one that writes statuses and Events: is the Role from the chart installed? Traffic is served anyway."
                    );
                }
            }
            Problem::Failed(error) => {
                let error = cause(error);
                if self.complaints.is_due(&error, Instant::now()) {
                    warn!(%namespace, lease = %name, error, "The Lease cannot be read or written; trying again.");
                }
            }
            Problem::Silent => {
                if self.complaints.is_due("no answer in time", Instant::now()) {
                    warn!(%namespace, lease = %name, "There is no answer about the Lease; trying again.");
                }
            }
        }
    }

    /// Until the next attempt. Replicas that wait do not all come at once, and those without permission come rarely.
    fn pause(&self, failures: u32) -> Duration {
        let retry = self.candidate.retry();
        let longest = if self.candidate.until().is_some() { retry } else { LONGEST_PAUSE.max(retry) };
        let backed_off = retry.saturating_mul(1_u32 << failures.saturating_sub(1).min(8)).min(longest);
        backed_off + retry.mul_f64(fastrand::f64() * 0.2)
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::try_from((self.clock)()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Why an attempt has come to nothing.
enum Problem {
    Failed(Error),
    /// No answer, or not in time.
    Silent,
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        // What else can go wrong is on this side of the API server.
        _ => None,
    }
}

fn is_lost_race(error: &Error) -> bool {
    code(error) == Some(409)
}

fn is_gone(error: &Error) -> bool {
    code(error) == Some(404)
}

fn is_forbidden(error: &Error) -> bool {
    matches!(code(error), Some(401 | 403))
}
