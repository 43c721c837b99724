//! What is to be told, in which order, and what has been told: pure, with the time as a parameter.
//!
//! `diagnostics × hosts ──▶ notes, worst first ──tokens──▶ one after another`
//!
//! The list of diagnostics is level-triggered. A problem that goes before it was its turn is never told, so what flaps
//! costs nothing, and what often solves itself is not told while it is young. What is told is remembered as long as the
//! problem is there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::GRACE;
use super::super::bucket::Bucket;
use super::{Rank, Text};
use crate::compile::{Diagnostic, Diagnostics, Kind, ObjectKey};
use crate::snapshot::{Route, Snapshot, Target};

/// Objects that one problem is told on.
const FAN_OUT: usize = 20;

/// Notes that wait for their turn.
const PENDING: usize = 500;

/// In all: so many at once, then one in this time.
const BURST: u32 = 50;
const EACH: Duration = Duration::from_millis(500);

/// For each object.
const OBJECT_BURST: u32 = 10;
const OBJECT_EACH: Duration = Duration::from_secs(5 * 60);

/// How long an error goes on until it is told again: Events vanish after an hour.
pub(super) const REPEAT: Duration = Duration::from_secs(30 * 60);

/// How often a note is tried.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(5);

/// One Event to be told.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Note {
    /// The object that it is told on.
    pub(in super::super) on: ObjectKey,
    pub(in super::super) text: Arc<Text>,
    /// If it was told before, one more of it is news: it has appeared in this term, or goes on for long.
    pub(in super::super) again: bool,
    tries: u32,
}

/// What is left out of a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct LeftOut {
    /// Notes about problems that others have as well, and are told on.
    pub(in super::super) shared: usize,
    /// Notes for which there was no room.
    pub(in super::super) crowded: usize,
}

/// What is to be told, and what has been.
pub(in super::super) struct Book {
    /// What was wrong at the last look.
    looked: Arc<Diagnostics>,
    /// Problems that are there, by their identity.
    active: HashMap<u64, Active>,
    /// Notes by rank, then by age.
    pending: BTreeMap<(Rank, u64), (Note, u64)>,
    next: u64,
    /// There was a look already: what appears now was not there before.
    has_looked: bool,
    /// When an error is told again: problem, object.
    repeats: BTreeSet<(Instant, u64, ObjectKey)>,
    /// Problems that may solve themselves, and when they are to be told if they have not: problem, object.
    young: BTreeSet<(Instant, u64, ObjectKey)>,
    /// No note before this.
    rest: Option<Instant>,
    bucket: Bucket,
    buckets: HashMap<ObjectKey, Bucket>,
}

struct Active {
    text: Arc<Text>,
    solved: Arc<Text>,
    /// The problem whatever its words and its effect.
    kind: u64,
    /// Of the hosts that it touches.
    hosts: u64,
    /// It often solves itself.
    is_brief: bool,
    /// It is not told before this.
    from: Instant,
    /// What it is to be told on; those that were first stay.
    on: Vec<ObjectKey>,
    /// The most that it concerned beside these.
    others: usize,
    told: HashSet<ObjectKey>,
}

impl Book {
    pub(in super::super) fn new(now: Instant) -> Self {
        Self {
            looked: Arc::default(),
            active: HashMap::new(),
            pending: BTreeMap::new(),
            next: 0,
            has_looked: false,
            repeats: BTreeSet::new(),
            young: BTreeSet::new(),
            rest: None,
            bucket: Bucket::new(BURST, EACH, now),
            buckets: HashMap::new(),
        }
    }

    /// Takes in what is wrong now: what appeared is to be told, and what is gone is not, or is told to be gone.
    /// Objects with which the same is wrong as at the last look are not looked at. What is there at the first look is not
    /// young, as far as anybody knows.
    pub(in super::super) fn look(
        &mut self,
        diagnostics: Arc<Diagnostics>,
        snapshot: &Snapshot,
        at: Instant,
    ) -> LeftOut {
        let before = std::mem::replace(&mut self.looked, diagnostics.clone());
        let renewed = diagnostics.since(&before);
        let mut left_out = LeftOut::default();
        let mut appeared = Vec::new();
        let mut now = HashSet::new();
        let mut kinds = HashSet::new();
        let again = std::mem::replace(&mut self.has_looked, true);
        for diagnostic in renewed.iter().flat_map(|renewed| renewed.now) {
            let (id, kind, hosts) = identify(diagnostic);
            now.insert(id);
            kinds.insert(kind);
            if self.active.get(&id).is_some_and(|active| active.hosts == hosts) {
                continue;
            }
            let concerned = concerned(diagnostic, snapshot);
            let is_brief = diagnostic.problem.is_often_brief();
            let active = self.active.entry(id).or_insert_with(|| Active {
                text: Arc::new(Text::of(diagnostic)),
                solved: Arc::new(Text::solved(diagnostic)),
                kind,
                hosts,
                is_brief,
                from: if is_brief && again { at + GRACE } else { at },
                on: Vec::new(),
                others: 0,
                told: HashSet::new(),
            });
            active.hosts = hosts;
            let others = concerned.len().saturating_sub(FAN_OUT);
            // Those that are left out are counted once, however the problem spreads.
            left_out.shared += others.saturating_sub(active.others);
            active.others = active.others.max(others);
            let is_concerned: HashSet<&ObjectKey> = concerned.iter().collect();
            active.on.retain(|on| is_concerned.contains(on));
            for on in &concerned {
                if active.on.len() >= FAN_OUT {
                    break;
                }
                if !active.on.contains(on) {
                    active.on.push(on.clone());
                    if !active.told.contains(on) {
                        match active.from > at {
                            true => drop(self.young.insert((active.from, id, on.clone()))),
                            false => appeared.push((id, on.clone(), active.text.clone())),
                        }
                    }
                }
            }
        }
        let gone = renewed.iter().flat_map(|renewed| renewed.before).map(|diagnostic| identify(diagnostic).0);
        let gone = gone.filter(|id| !now.contains(id)).filter_map(|id| self.active.remove_entry(&id));
        let gone: HashMap<u64, Active> = gone.collect();
        if !gone.is_empty() {
            self.pending.retain(|_, (_, id)| !gone.contains_key(id));
            self.repeats.retain(|(_, id, _)| !gone.contains_key(id));
            self.young.retain(|(_, id, _)| !gone.contains_key(id));
        }
        for active in gone.into_values() {
            // Where the same problem has other words or another effect now, that is what is told.
            if (active.text.rank != Rank::Info || active.is_brief) && !kinds.contains(&active.kind) {
                let told = active.told.into_iter().map(|on| (0, on, active.solved.clone()));
                appeared.extend(told);
            }
        }
        appeared.sort_by(|one, other| (one.2.rank, &one.1).cmp(&(other.2.rank, &other.1)));
        for (id, on, text) in appeared {
            left_out.crowded += usize::from(!self.add(id, on, text, again));
        }
        left_out
    }

    /// Puts a note beside those of diagnostics.
    pub(in super::super) fn remark(&mut self, on: ObjectKey, text: Text) -> bool {
        self.add(0, on, Arc::new(text), true)
    }

    /// False if there was no room, for this one or for another in its place.
    fn add(&mut self, id: u64, on: ObjectKey, text: Arc<Text>, again: bool) -> bool {
        let rank = text.rank;
        self.next += 1;
        self.pending.insert((rank, self.next), (Note { on, text, again, tries: 0 }, id));
        self.pending.len() <= PENDING || {
            self.pending.pop_last();
            false
        }
    }

    /// The next note that may be told; and how many were dropped, because their object has had its share.
    pub(in super::super) fn next(&mut self, now: Instant) -> (Option<(Note, u64)>, usize) {
        let mut dropped = 0;
        if self.rest.is_some_and(|rest| now < rest) {
            return (None, 0);
        }
        self.rest = None;
        while let Some((_, id, on)) = self.repeats.first().filter(|(at, ..)| *at <= now).cloned() {
            self.repeats.pop_first();
            if let Some(active) = self.active.get(&id).filter(|active| active.on.contains(&on)) {
                let text = active.text.clone();
                // What there is no room for is told another time.
                self.add(id, on, text, true);
            }
        }
        while let Some((_, id, on)) = self.young.first().filter(|(at, ..)| *at <= now).cloned() {
            self.young.pop_first();
            if let Some(active) = self.active.get(&id).filter(|active| active.on.contains(&on)) {
                let text = active.text.clone();
                dropped += usize::from(!self.add(id, on, text, true));
            }
        }
        while self.bucket.next_at(now) <= now {
            let Some((_, (note, id))) = self.pending.pop_first() else { break };
            let object = self.buckets.entry(note.on.clone());
            if note.tries == 0 && !object.or_insert_with(|| Bucket::new(OBJECT_BURST, OBJECT_EACH, now)).take(now) {
                dropped += 1;
                continue;
            }
            self.bucket.take(now);
            if self.buckets.len() > 2 * PENDING {
                self.buckets.retain(|_, bucket| !bucket.is_full(now));
            }
            return (Some((note, id)), dropped);
        }
        (None, dropped)
    }

    /// When there is a note to be told.
    pub(in super::super) fn next_at(&mut self, now: Instant) -> Option<Instant> {
        let repeat = self.repeats.first().map(|(at, ..)| *at);
        let young = self.young.first().map(|(at, ..)| *at);
        let pending = (!self.pending.is_empty()).then(|| self.bucket.next_at(now));
        let next = [repeat, young, pending].into_iter().flatten().min()?;
        Some(next.max(self.rest.unwrap_or(next)))
    }

    /// The note is told, now or before.
    pub(in super::super) fn told(&mut self, note: &Note, id: u64, now: Instant) {
        if let Some(active) = self.active.get_mut(&id) {
            active.told.insert(note.on.clone());
            if note.text.rank == Rank::Error {
                self.repeats.insert((now + REPEAT, id, note.on.clone()));
            }
        }
    }

    /// The note was not taken. False if it is given up.
    pub(in super::super) fn failed(&mut self, mut note: Note, id: u64, now: Instant) -> bool {
        note.tries += 1;
        // What is wrong is most likely wrong for every note.
        self.rest = Some(now + PAUSE * note.tries);
        let is_there = id == 0 || self.active.contains_key(&id);
        let tried_again = is_there && note.tries < TRIES;
        if tried_again {
            self.next += 1;
            self.pending.insert((note.text.rank, self.next), (note, id));
        }
        tried_again || !is_there
    }

    /// How many wait.
    pub(in super::super) fn len(&self) -> usize {
        self.pending.len()
    }
}

/// Numbers that tell a problem from others: with its words and effect, without, and of its hosts.
fn identify(diagnostic: &Diagnostic) -> (u64, u64, u64) {
    let Diagnostic { subject, field, problem, effect, hosts } = diagnostic;
    let number = |part: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        part(&mut hasher);
        // Zero is for notes that belong to no problem.
        hasher.finish().max(1)
    };
    let kind = number(&|hasher| (subject, field, problem.code()).hash(hasher));
    let id = number(&|hasher| (kind, problem.to_string(), effect).hash(hasher));
    (id, kind, number(&|hasher| hosts.hash(hasher)))
}

/// The objects that a diagnostic concerns, those to be told first first.
///
/// What is wrong with an Ingress concerns it alone. What is wrong with a Service concerns those that have a route to it.
/// Everything else concerns the Ingresses of the hosts that it touches: those of its own namespace, which alone can name
/// it; without any (the default certificate, the policy of a class), the oldest of each host.
fn concerned(diagnostic: &Diagnostic, snapshot: &Snapshot) -> Vec<ObjectKey> {
    let subject = &diagnostic.subject;
    if subject.kind == Kind::Ingress {
        return vec![subject.clone()];
    }
    let hosts = || diagnostic.hosts.iter().filter_map(|host| snapshot.hosts.get(host.as_str()));
    let key = |(namespace, name): &(Arc<str>, Arc<str>)| ObjectKey {
        kind: Kind::Ingress,
        namespace: namespace.clone(),
        name: name.clone(),
    };
    let mut known = HashSet::new();
    if subject.kind == Kind::Service {
        let leads_there = |route: &&Arc<Route>| match &route.target {
            Target::Backend(backend) => (&backend.namespace, &backend.service) == (&subject.namespace, &subject.name),
            Target::Dropped => false,
        };
        let routes = hosts().flat_map(|host| host.routes.routes());
        return routes
            .filter(leads_there)
            .map(|route| &route.ingress)
            .filter(|name| known.insert(*name))
            .map(key)
            .collect();
    }
    let near = hosts().flat_map(|host| host.ingresses.iter()).filter(|(namespace, _)| *namespace == subject.namespace);
    let mut found: Vec<ObjectKey> = near.filter(|name| known.insert(*name)).map(key).collect();
    if found.is_empty() {
        let oldest = hosts().filter_map(|host| host.ingresses.first());
        found = oldest.filter(|name| known.insert(*name)).map(key).collect();
    }
    if subject.kind == Kind::TlsPolicy {
        found.insert(0, subject.clone());
    }
    found
}
