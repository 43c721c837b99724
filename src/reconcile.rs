//! The single writer: events in, one published snapshot after another.
//!
//! `inbox ──batch──▶ Compiler::compile ──▶ Publisher, metrics, report`
//!
//! A plain thread, because it computes and never awaits: a compile of ten thousand hosts stands in front of no
//! request and no scrape.

mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::clock::Clock;
use crate::compile::{Compiled, Compiler, Kind};
use crate::metrics::Metrics;
use crate::snapshot::Publisher;
use crate::source::Event;
use crate::state::{Holding, KINDS, Sink};

use record::Recorder;

/// How long changes are collected before they are compiled together.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// A batch ends after this time without a change …
    pub quiet: Duration,
    /// … or this long after its first change.
    pub longest: Duration,
    /// Objects are saved this long after they have changed.
    pub saving: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(50), longest: Duration::from_millis(500), saving: Duration::from_secs(10) }
    }
}

/// After how long what a bug has ended is tried again, if nothing changes.
const AGAIN: Duration = Duration::from_secs(60);

/// What has been published.
#[derive(Clone)]
pub struct Publication {
    /// Counts publications, from 1.
    pub generation: u64,
    /// The compiler's result.
    pub compiled: Arc<Compiled>,
}

/// What comes into the inbox.
pub enum Message {
    /// Something has changed.
    Event(Event),
    /// Somebody wants to know something.
    Ask(Ask),
}

/// A question to the compiler. It is put when everything that came before it has been compiled, and dropped as long as
/// nothing has been.
pub type Ask = Box<dyn FnOnce(&Compiler) + Send>;

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Everything that the reconciler writes to.
pub struct Outputs {
    /// Gets each snapshot.
    pub publisher: Publisher,
    /// Gets each publication; `None` until the first.
    pub publications: watch::Sender<Option<Publication>>,
    /// Gets counts and times.
    pub metrics: Metrics,
    /// Gets what is held, when it changes, and from time to time the objects of what is published.
    pub state: Sink,
}

/// Looks at the publication that is there and at each later one, until `end`. Of those that come faster than they are
/// looked at, the newest.
pub async fn follow(
    mut publications: watch::Receiver<Option<Publication>>,
    end: CancellationToken,
    mut look: impl FnMut(&Publication),
) {
    loop {
        let publication = publications.borrow_and_update().clone();
        if let Some(publication) = publication {
            look(&publication);
        }
        tokio::select! {
            () = end.cancelled() => return,
            changed = publications.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Runs until the inbox is closed by all its senders.
pub fn run(inbox: &Receiver<Message>, mut compiler: Compiler, clock: &Clock, batching: Batching, outputs: &Outputs) {
    let mut told = Told::default();
    let mut saving = Saving::default();
    let mut generation = 0;
    // Everything that has come is compiled.
    let mut is_compiled = false;
    let mut recompile_at = None;
    let mut compiled_at: Option<UnixTime> = None;
    let mut recorder = Recorder::default();
    let mut holding: Option<Holding> = None;
    loop {
        // One of four things wakes us: a change, a question, the clock reaching `recompile_at`, or the end. The clock is
        // looked at once a minute at least, because the time of day can jump.
        let now = (clock)();
        saving.save_if_due(&compiler, now, outputs);
        let wait = recompile_at.map_or(Duration::from_secs(60), |at: UnixTime| {
            Duration::from_secs(at.as_secs().saturating_sub(now.as_secs())).min(Duration::from_secs(60))
        });
        let mut asks: Vec<Ask> = Vec::new();
        match inbox.recv_timeout(saving.wait().map_or(wait, |until| until.min(wait))) {
            // Nothing has changed since the last compilation.
            Ok(Message::Ask(ask)) => {
                if is_compiled {
                    ask(&compiler);
                }
                continue;
            }
            Ok(Message::Event(event)) => {
                told.take(event, &mut compiler);
                collect(inbox, batching, |message| match message {
                    Message::Event(event) => told.take(event, &mut compiler),
                    Message::Ask(ask) => asks.push(ask),
                });
            }
            Err(RecvTimeoutError::Timeout) if recompile_at.is_some_and(|at| (clock)() >= at) => {}
            // A clock that was set back makes what was said about any date doubtful.
            Err(RecvTimeoutError::Timeout) if compiled_at.is_some_and(|at| (clock)() < at) => {}
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return saving.save(&compiler, (clock)(), outputs),
        }
        if !told.synced {
            continue;
        }
        let started = Instant::now();
        let now = (clock)();
        is_compiled = false;
        let Some(compiled) = compile(&mut compiler, now, &outputs.metrics) else {
            if generation == 0 {
                // There is nothing to go on with: the start fails, which others who serve do not notice.
                return;
            }
            recompile_at = Some(UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + AGAIN));
            continue;
        };
        let compiled = Arc::new(compiled);
        recompile_at = compiled.recompile_at;
        compiled_at = Some(now);
        is_compiled = true;
        outputs.publisher.publish(compiled.snapshot.clone());
        generation += 1;
        recorder.record(&compiled, started.elapsed(), now.as_secs(), &outputs.metrics);
        let is_same =
            |before: &Holding| Arc::ptr_eq(&before.held, &compiled.held) && before.remembered == told.remembered;
        if !holding.as_ref().is_some_and(is_same) {
            let now = Holding { held: compiled.held.clone(), remembered: told.remembered };
            outputs.state.hold(now.clone());
            holding = Some(now);
        }
        saving.note(&compiler, batching, outputs);
        outputs.publications.send_replace(Some(Publication { generation, compiled }));
        asks.into_iter().for_each(|ask| ask(&compiler));
    }
}

/// Compiles in spite of a bug: anew from the objects, if what was built before was to blame. `None` if the objects are:
/// what is in force stays, and the next change may be the remedy.
fn compile(compiler: &mut Compiler, now: UnixTime, metrics: &Metrics) -> Option<Compiled> {
    for effect in ["everything is compiled anew", "what is served stays served, until the next change or minute"] {
        // What it leaves half done is forgotten.
        if let Ok(compiled) = catch_unwind(AssertUnwindSafe(|| compiler.compile(now))) {
            return Some(compiled);
        }
        metrics.panics.inc();
        error!(effect, "The compiler has ended by a bug; please report it with the lines before.");
        compiler.begin_anew();
    }
    None
}

/// What events have said beside changes.
#[derive(Default)]
struct Told {
    /// The source has told all that was there at the start.
    synced: bool,
    /// How often we were told what others hold.
    remembered: u64,
}

impl Told {
    fn take(&mut self, event: Event, compiler: &mut Compiler) {
        match event {
            Event::Change(change) => compiler.apply(change),
            Event::Remember(held) => {
                compiler.remember(&held);
                self.remembered += 1;
            }
            Event::Synced => self.synced = true,
        }
    }
}

/// When objects are saved, and which were.
#[derive(Default)]
struct Saving {
    saved: Option<BTreeMap<Kind, u64>>,
    due: Option<Instant>,
}

impl Saving {
    /// Something was published.
    fn note(&mut self, compiler: &Compiler, batching: Batching, outputs: &Outputs) {
        if outputs.state.saves_objects() && self.due.is_none() && self.saved.as_ref() != Some(compiler.revisions()) {
            self.due = Some(Instant::now() + batching.saving);
        }
    }

    /// How long it is until something is due.
    fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn save_if_due(&mut self, compiler: &Compiler, now: UnixTime, outputs: &Outputs) {
        if self.due.is_some_and(|due| Instant::now() >= due) {
            self.save(compiler, now, outputs);
        }
    }

    /// Hands out the objects of the kinds that have changed. The first time all kinds, so that what was saved is complete.
    fn save(&mut self, compiler: &Compiler, now: UnixTime, outputs: &Outputs) {
        if self.due.take().is_none() {
            return;
        }
        let revisions = compiler.revisions();
        let is_changed = |kind: &Kind| self.saved.as_ref().is_none_or(|saved| saved.get(kind) != revisions.get(kind));
        let objects = KINDS.into_iter().filter(is_changed).map(|kind| (kind, compiler.objects(kind)));
        outputs.state.save(objects.collect(), now);
        self.saved = Some(revisions.clone());
    }
}

/// Takes what comes until the batch ends.
fn collect(inbox: &Receiver<Message>, batching: Batching, mut take: impl FnMut(Message)) {
    let end = Instant::now() + batching.longest;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match inbox.recv_timeout(left.min(batching.quiet)) {
            Ok(message) => take(message),
            // The next look at the inbox sees a disconnection again.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
        if left.is_zero() {
            return;
        }
    }
}
