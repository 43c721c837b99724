//! Everything that is wrong, kept by the object that it is about.
//!
//! `what units report ──by subject──▶ one settled list each ──▶ Diagnostics`
//!
//! A unit that reports something else than before has the lists of those objects settled again, and no other. Whoever
//! follows what is wrong asks for the lists that are not the same as before ([`Diagnostics::since`]): in a cluster with
//! five thousand certificates that expire soon, the renewal of one is about one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::view::Unit;
use super::{Diagnostic, ObjectKey};
use crate::trie::Trie;

/// Everything that is wrong. As a slice it is sorted by subject, field, code and message; it is put together when that is
/// first asked for, which costs as much as there is.
#[derive(Clone, Default)]
pub struct Diagnostics {
    by_subject: Trie<ObjectKey, Arc<[Diagnostic]>>,
    sorted: OnceLock<Box<[Diagnostic]>>,
}

/// What is wrong with an object, where that is not what it was.
pub struct Renewed<'a> {
    /// What was wrong with it.
    pub before: &'a [Diagnostic],
    /// What is wrong now.
    pub now: &'a [Diagnostic],
}

impl Diagnostics {
    /// What has become of earlier ones, sorted by subject. What is the same is not looked at.
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<Renewed<'a>> {
        let mut found = self.by_subject.since(&before.by_subject, Arc::ptr_eq);
        found.sort_unstable_by_key(|difference| difference.key);
        let list = |list: Option<&'a Arc<[Diagnostic]>>| list.map_or(&[][..], |list| list);
        found.into_iter().map(|found| Renewed { before: list(found.before), now: list(found.now) }).collect()
    }
}

impl Deref for Diagnostics {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        self.sorted.get_or_init(|| {
            let lists: BTreeMap<&ObjectKey, &Arc<[Diagnostic]>> = self.by_subject.iter().collect();
            lists.into_values().flat_map(|list| list.iter().cloned()).collect()
        })
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Self {
        let lists = by_subject(diagnostics).into_iter().map(|(subject, list)| (subject, settle(list).into()));
        Self { by_subject: lists.collect(), sorted: OnceLock::new() }
    }
}

impl PartialEq for Diagnostics {
    fn eq(&self, other: &Self) -> bool {
        self.by_subject == other.by_subject
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What units report.
#[derive(Default)]
pub(super) struct Reports {
    /// By subject and who says it. No list is empty, so that healthy units cost nothing. `None` is the set of objects
    /// itself: what could not be read, and what is there twice.
    lists: HashMap<ObjectKey, BTreeMap<Option<Unit>, Vec<Diagnostic>>>,
    /// What each has something to say about.
    subjects: HashMap<Option<Unit>, BTreeSet<ObjectKey>>,
    changed: BTreeSet<ObjectKey>,
    settled: Arc<Diagnostics>,
}

impl Reports {
    /// Puts what a unit says in place of what it said before.
    pub(super) fn report(&mut self, unit: Option<Unit>, diagnostics: Vec<Diagnostic>) {
        let now = by_subject(diagnostics);
        for subject in self.subjects.remove(&unit).unwrap_or_default() {
            if !now.contains_key(&subject)
                && let Some(lists) = self.lists.get_mut(&subject)
            {
                lists.remove(&unit);
                if lists.is_empty() {
                    self.lists.remove(&subject);
                }
                self.changed.insert(subject);
            }
        }
        if now.is_empty() {
            return;
        }
        self.subjects.insert(unit.clone(), now.keys().cloned().collect());
        for (subject, list) in now {
            let lists = self.lists.entry(subject.clone()).or_default();
            if lists.get(&unit) != Some(&list) {
                lists.insert(unit.clone(), list);
                self.changed.insert(subject);
            }
        }
    }

    /// All of it, as it is now.
    pub(super) fn settle(&mut self) -> Arc<Diagnostics> {
        for subject in std::mem::take(&mut self.changed) {
            let said = self.lists.get(&subject).into_iter().flat_map(BTreeMap::values).flatten();
            let list = settle(said.cloned().collect());
            let list = if list.is_empty() { None } else { Some(list) };
            if self.settled.by_subject.get(&subject).map(Arc::as_ref) != list.as_deref() {
                let settled = Arc::make_mut(&mut self.settled);
                settled.by_subject.set(&subject, list.map(Into::into));
                settled.sorted = OnceLock::new();
            }
        }
        self.settled.clone()
    }
}

/// Sorts by subject, field, code and message, and merges what differs in its hosts only.
fn settle(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_cached_key(|diagnostic| {
        let Diagnostic { subject, field, problem, effect, hosts } = diagnostic;
        (subject.clone(), field.clone(), problem.code(), problem.to_string(), *effect, hosts.first().cloned())
    });
    let mut settled: Vec<Diagnostic> = Vec::with_capacity(diagnostics.len());
    for diagnostic in diagnostics {
        match settled.last_mut() {
            Some(last)
                if (&last.subject, &last.field, &last.problem, last.effect)
                    == (&diagnostic.subject, &diagnostic.field, &diagnostic.problem, diagnostic.effect) =>
            {
                last.hosts.extend(diagnostic.hosts);
            }
            Some(_) | None => settled.push(diagnostic),
        }
    }
    for diagnostic in &mut settled {
        diagnostic.hosts.sort_unstable();
        diagnostic.hosts.dedup();
    }
    settled
}

fn by_subject(diagnostics: impl IntoIterator<Item = Diagnostic>) -> BTreeMap<ObjectKey, Vec<Diagnostic>> {
    let mut lists: BTreeMap<ObjectKey, Vec<Diagnostic>> = BTreeMap::new();
    for diagnostic in diagnostics {
        lists.entry(diagnostic.subject.clone()).or_default().push(diagnostic);
    }
    lists
}
