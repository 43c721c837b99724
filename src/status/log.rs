//! Publications become log lines.
//!
//! `Publication ──difference──▶ hosts that came, went or have other TLS; diagnostics that appeared or went`
//!
//! The list of diagnostics is level-triggered: each publication has all of them. What is said once is not repeated;
//! what is gone is said to be gone. A problem that does something else to traffic than before is said again, with its
//! new effect, and is not gone. One that often solves itself is said when it has lasted; one that has solved itself before
//! that leaves no line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::GRACE;
use super::cluster::wake;
use crate::compile::{Diagnostic, Diagnostics, Effect, ObjectKey, Renewed, Severity};
use crate::reconcile::Publication;
use crate::snapshot::{HostName, HostTls, Snapshot, Traffic, VirtualHost};
use crate::tls::about::sentence;
use crate::trie::Difference;

/// Lines for one publication; a broken repository must not flood the log.
const MAX_LINES: usize = 200;

/// Names in one list.
const MAX_NAMES: usize = 10;

/// Logs what publications change, until `end`.
pub async fn log(mut publications: watch::Receiver<Option<Publication>>, end: CancellationToken) {
    let mut status = Status::default();
    loop {
        let publication = publications.borrow_and_update().clone();
        if let Some(publication) = publication {
            status.report(&publication, Instant::now());
        }
        tokio::select! {
            () = end.cancelled() => return,
            changed = publications.changed() => if changed.is_err() {
                return;
            },
            () = wake(status.told.next_at()) => {}
        }
    }
}

/// Remembers what has been said.
#[derive(Default)]
struct Status {
    told: Told,
    snapshot: Option<Arc<Snapshot>>,
}

impl Status {
    /// Logs what is new at this time: hosts and certificates, and diagnostics that appeared, lasted or went.
    fn report(&mut self, publication: &Publication, now: Instant) {
        self.report_hosts(publication.generation, &publication.compiled.snapshot);
        report_diagnostics(&self.told.take(&publication.compiled.diagnostics, now));
    }

    /// One line if hosts appear or go, or are served with another certificate or policy. Endpoints come and go all the time.
    fn report_hosts(&mut self, generation: u64, snapshot: &Arc<Snapshot>) {
        let before = self.snapshot.replace(snapshot.clone());
        report_traffic(before.as_deref(), snapshot);
        let Some(before) = before else {
            info!(
                generation,
                hosts = snapshot.hosts.len(),
                backends = snapshot.backends.len(),
                "The first configuration is active."
            );
            return;
        };
        let (mut added, mut removed, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for Difference { key, before, now } in snapshot.hosts.since(&before.hosts, Arc::ptr_eq) {
            match (before, now) {
                (None, _) => added.push(key.clone()),
                (Some(_), None) => removed.push(key.clone()),
                (Some(before), Some(now)) if is_served_alike(before, now) => {}
                (Some(_), Some(_)) => changed.push(key.clone()),
            }
        }
        if added.is_empty() && removed.is_empty() && changed.is_empty() {
            return;
        }
        info!(
            generation,
            hosts = snapshot.hosts.len(),
            added = names(added),
            removed = names(removed),
            tls_changed = names(changed),
            "A new configuration is active."
        );
    }
}

fn report_diagnostics(news: &News) {
    for diagnostic in news.appeared.iter().take(MAX_LINES) {
        log_one(diagnostic);
    }
    if news.appeared.len() > MAX_LINES {
        warn!(more = news.appeared.len() - MAX_LINES, "There are more problems. `handfast check` lists all of them.");
    }
    for diagnostic in news.gone.iter().take(MAX_LINES) {
        // Solved, or its object is gone: which of the two, the lines about hosts say.
        info!(
            subject = %diagnostic.subject,
            reason = diagnostic.problem.code(),
            "No longer a problem: {}", sentence(&diagnostic.problem)
        );
    }
}

/// What has been told of diagnostics: pure, with the time as a parameter.
#[derive(Default)]
struct Told {
    /// What was wrong at the last look; `None` before the first.
    looked: Option<Arc<Diagnostics>>,
    /// Problems that may solve themselves, and when they are to be told if they have not.
    young: HashMap<Identity, (Instant, Diagnostic)>,
}

/// What is to be told.
#[derive(Debug, Default)]
struct News {
    /// The worst first, so that a limit cuts the least.
    appeared: Vec<Diagnostic>,
    gone: Vec<Diagnostic>,
}

impl Told {
    /// What is new with these diagnostics at this time. What is there at the first look may be old.
    fn take(&mut self, diagnostics: &Arc<Diagnostics>, now: Instant) -> News {
        let is_first = self.looked.is_none();
        let before = self.looked.replace(diagnostics.clone()).unwrap_or_default();
        let Changes { appeared, gone } = Changes::between(&before, diagnostics);
        let mut news = News::default();
        for (diagnostic, is_new) in appeared {
            let id = identity(diagnostic);
            if let Some((_, young)) = self.young.get_mut(&id) {
                young.clone_from(diagnostic);
            } else if is_new && !is_first && diagnostic.problem.is_often_brief() {
                self.young.insert(id, (now + GRACE, diagnostic.clone()));
            } else {
                news.appeared.push(diagnostic.clone());
            }
        }
        let was_told = |diagnostic: &&&Diagnostic| self.young.remove(&identity(diagnostic)).is_none();
        news.gone = gone.iter().filter(was_told).map(|diagnostic| (*diagnostic).clone()).collect();
        let lasted = self.young.extract_if(|_, (at, _)| *at <= now).map(|(_, (_, diagnostic))| diagnostic);
        news.appeared.extend(lasted);
        news.appeared.sort_by_cached_key(|diagnostic| (std::cmp::Reverse(diagnostic.severity()), identity(diagnostic)));
        news
    }

    /// When something is to be told if nothing changes.
    fn next_at(&self) -> Option<Instant> {
        self.young.values().map(|(at, _)| *at).min()
    }
}

/// One line for each state that hosts have come to; of those that are new, for each that is not well.
fn report_traffic(before: Option<&Snapshot>, now: &Snapshot) {
    let nothing = Snapshot::default();
    for (traffic, hosts) in changed_traffic(before.unwrap_or(&nothing), now) {
        let (state, count, hosts) = (traffic.code(), hosts.len(), names(hosts));
        match traffic {
            Traffic::Works | Traffic::WorksWithLosses => {
                info!(state, count, hosts, "What requests get: {}.", traffic.words());
            }
            Traffic::Answers503 | Traffic::Answers503Partly | Traffic::NotServed | Traffic::RefusesTls => {
                warn!(state, count, hosts, "What requests get: {}.", traffic.words());
            }
        }
    }
}

/// Hosts whose requests get something else than before, by what they get.
fn changed_traffic(before: &Snapshot, now: &Snapshot) -> BTreeMap<Traffic, Vec<HostName>> {
    let mut changed: BTreeMap<Traffic, Vec<HostName>> = BTreeMap::new();
    for Difference { key, before, now } in now.traffic.since(&before.traffic, PartialEq::eq) {
        if let Some(now) = now.filter(|now| before.is_some() || **now != Traffic::Works) {
            changed.entry(*now).or_default().push(key.clone());
        }
    }
    changed
}

/// What one list of diagnostics has and the one before it had not, and the other way round.
struct Changes<'a> {
    /// To be said: new problems (true), and known ones with another effect.
    appeared: Vec<(&'a Diagnostic, bool)>,
    /// No longer there, whatever the effect.
    gone: Vec<&'a Diagnostic>,
}

impl<'a> Changes<'a> {
    fn between(before: &'a Diagnostics, now: &'a Diagnostics) -> Self {
        let mut changes = Changes { appeared: Vec::new(), gone: Vec::new() };
        now.since(before).iter().for_each(|Renewed { before, now }| changes.add(before, now));
        changes
    }

    /// What is wrong with one object.
    fn add(&mut self, before: &'a [Diagnostic], now: &'a [Diagnostic]) {
        let with_effect = |diagnostic: &'a Diagnostic| (problem_of(diagnostic), diagnostic.effect);
        let said: HashSet<_> = before.iter().map(with_effect).collect();
        let was: HashSet<_> = before.iter().map(problem_of).collect();
        let mut known: HashSet<_> = now.iter().map(problem_of).collect();
        let appeared = now.iter().filter(|diagnostic| !said.contains(&with_effect(diagnostic)));
        self.appeared.extend(appeared.map(|diagnostic| (diagnostic, !was.contains(&problem_of(diagnostic)))));
        self.gone.extend(before.iter().filter(|diagnostic| known.insert(problem_of(diagnostic))));
    }
}

/// What makes two diagnostics the same problem: subject, field, code and message, but not what it does to traffic.
fn problem_of(diagnostic: &Diagnostic) -> (&ObjectKey, &str, &'static str, String) {
    let problem = &diagnostic.problem;
    (&diagnostic.subject, &diagnostic.field, problem.code(), problem.to_string())
}

/// The same for longer than the diagnostic is there.
type Identity = (ObjectKey, Box<str>, &'static str, String);

fn identity(diagnostic: &Diagnostic) -> Identity {
    let (subject, field, code, message) = problem_of(diagnostic);
    (subject.clone(), field.into(), code, message)
}

fn is_served_alike(before: &VirtualHost, after: &VirtualHost) -> bool {
    match (&before.tls, &after.tls) {
        (HostTls::Absent, HostTls::Absent) | (HostTls::Refuse, HostTls::Refuse) => true,
        (HostTls::Terminate(before), HostTls::Terminate(after)) => Arc::ptr_eq(before, after),
        (HostTls::Absent | HostTls::Refuse | HostTls::Terminate(_), _) => false,
    }
}

/// A list for people: sorted, and cut.
fn names(mut hosts: Vec<HostName>) -> String {
    hosts.sort();
    let shown = hosts.iter().take(MAX_NAMES).map(|host| host.label()).collect::<Vec<_>>().join(",");
    match hosts.len().checked_sub(MAX_NAMES) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

fn log_one(diagnostic: &Diagnostic) {
    let hosts = diagnostic.hosts.iter().map(|host| host.label()).collect::<Vec<_>>().join(",");
    let effect = match diagnostic.effect {
        Effect::None => "none",
        effect => effect.code(),
    };
    macro_rules! line {
        ($level:ident) => {
            $level!(
                subject = %diagnostic.subject,
                field = %diagnostic.field,
                reason = diagnostic.problem.code(),
                effect,
                hosts,
                "{} What to do: {}.", sentence(&diagnostic.problem), diagnostic.problem.remedy()
            )
        };
    }
    match diagnostic.severity() {
        Severity::Error => line!(error),
        Severity::Warning => line!(warn),
        Severity::Info => line!(info),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compile::{Compiler, Kind, Options, Problem};

    fn diagnostic(name: &str, message: &str, effect: Effect) -> Diagnostic {
        Diagnostic {
            subject: ObjectKey { kind: Kind::Secret, namespace: "shop".into(), name: name.into() },
            field: "data".into(),
            problem: Problem::BadClassParameters { error: message.into() },
            effect,
            hosts: Vec::new(),
        }
    }

    /// The names and effects of what is said to have appeared, and the names of what is said to be gone.
    fn said(before: &[Diagnostic], now: &[Diagnostic]) -> (Vec<(String, Effect)>, Vec<String>) {
        let [before, now] = [before, now].map(|list| list.iter().cloned().collect());
        let changes = Changes::between(&before, &now);
        let name = |diagnostic: &&Diagnostic| diagnostic.subject.name.to_string();
        let appeared = changes.appeared.iter().map(|(diagnostic, _)| (name(diagnostic), diagnostic.effect));
        (appeared.collect(), changes.gone.iter().map(name).collect())
    }

    #[test]
    fn hosts_are_named_where_their_requests_get_something_else() {
        let snapshot = |hosts: &[(&str, Traffic)]| Snapshot {
            traffic: hosts.iter().map(|(name, traffic)| (name.parse().unwrap(), *traffic)).collect(),
            ..Snapshot::default()
        };
        let said = |before: &Snapshot, now: &Snapshot| -> Vec<(Traffic, String)> {
            changed_traffic(before, now).into_iter().map(|(traffic, hosts)| (traffic, names(hosts))).collect()
        };
        let first = snapshot(&[
            ("a.example", Traffic::Works),
            ("b.example", Traffic::Answers503),
            ("c.example", Traffic::Answers503),
        ]);
        let expected = vec![(Traffic::Answers503, "b.example,c.example".to_owned())];
        assert_eq!(said(&Snapshot::default(), &first), expected, "a new host that works needs no word");
        let second = snapshot(&[("a.example", Traffic::RefusesTls), ("b.example", Traffic::Works)]);
        let expected = vec![(Traffic::Works, "b.example".to_owned()), (Traffic::RefusesTls, "a.example".to_owned())];
        assert_eq!(said(&first, &second), expected, "one that is gone is said elsewhere");
        assert_eq!(said(&second, &second.clone()), []);
    }

    #[test]
    fn a_problem_with_another_effect_is_said_once_more_and_is_not_gone() {
        let refused = diagnostic("a", "x", Effect::HostRefused);
        let held = diagnostic("a", "x", Effect::LastGood);
        let (before, now) = ([refused], [held.clone()]);
        assert_eq!(said(&before, &now), (vec![("a".into(), Effect::LastGood)], vec![]));
        assert_eq!(said(&now, &[held]), (vec![], vec![]));
        assert_eq!(said(&now, &before), (vec![("a".into(), Effect::HostRefused)], vec![]));
    }

    #[test]
    fn a_problem_that_is_gone_is_said_to_be_gone_once_and_another_in_its_place_to_have_appeared() {
        let (refused, held) = (diagnostic("a", "x", Effect::HostRefused), diagnostic("a", "x", Effect::LastGood));
        let other = diagnostic("b", "x", Effect::LastGood);
        let worse = diagnostic("a", "y", Effect::LastGood);
        assert_eq!(said(&[refused, held.clone()], &[]), (vec![], vec!["a".into()]));
        assert_eq!(
            said(std::slice::from_ref(&held), &[worse]),
            (vec![("a".into(), Effect::LastGood)], vec!["a".into()])
        );
        assert_eq!(said(&[held], &[other]), (vec![("b".into(), Effect::LastGood)], vec!["a".into()]));
    }

    /// The codes of what is told to have appeared and to be gone, at so many milliseconds.
    fn codes(told: &mut Told, start: Instant, millis: u64, now: &[Diagnostic]) -> [Vec<&'static str>; 2] {
        let diagnostics = Arc::new(now.iter().cloned().collect());
        let news = told.take(&diagnostics, start + Duration::from_millis(millis));
        [news.appeared, news.gone].map(|list| list.iter().map(|one| one.problem.code()).collect())
    }

    const NOTHING: [Vec<&str>; 2] = [Vec::new(), Vec::new()];

    fn missing(effect: Effect) -> Diagnostic {
        let problem = Problem::ServiceNotFound { service: "shop/solver".into() };
        Diagnostic { problem, ..diagnostic("solver", "", effect) }
    }

    #[test]
    fn what_solves_itself_within_seconds_leaves_no_line() {
        let (mut told, start) = (Told::default(), Instant::now());
        let other = diagnostic("a", "x", Effect::None);
        codes(&mut told, start, 0, &[]);
        // The Service of a challenge goes 0.4 s before its Ingress; what cannot solve itself is told at once.
        let both = [missing(Effect::RouteDropped), other.clone()];
        assert_eq!(codes(&mut told, start, 1_000, &both), [vec!["bad-class-parameters"], vec![]]);
        assert_eq!(told.next_at(), Some(start + Duration::from_millis(6_000)));
        assert_eq!(codes(&mut told, start, 1_400, &[other]), NOTHING);
        assert_eq!(told.next_at(), None);
    }

    #[test]
    fn what_lasts_is_told_once_with_its_newest_effect_and_told_to_be_gone() {
        let (mut told, start) = (Told::default(), Instant::now());
        codes(&mut told, start, 0, &[]);
        assert_eq!(codes(&mut told, start, 1_000, &[missing(Effect::None)]), NOTHING);
        let worse = [missing(Effect::RouteDropped)];
        assert_eq!(codes(&mut told, start, 3_000, &worse), NOTHING, "its age is that of the problem");
        assert_eq!(codes(&mut told, start, 5_999, &worse), NOTHING);
        let news = told.take(&Arc::new(worse.iter().cloned().collect()), start + Duration::from_secs(6));
        assert_eq!(news.appeared, worse);
        assert_eq!((codes(&mut told, start, 9_000, &worse), told.next_at()), (NOTHING, None));
        let milder = [missing(Effect::None)];
        assert_eq!(codes(&mut told, start, 9_500, &milder), [vec!["service-not-found"], vec![]], "it is not young");
        assert_eq!(codes(&mut told, start, 9_600, &[]), [vec![], vec!["service-not-found"]]);
    }

    #[test]
    fn what_is_there_at_the_start_is_told_at_once() {
        let (mut told, start) = (Told::default(), Instant::now());
        assert_eq!(codes(&mut told, start, 0, &[missing(Effect::None)]), [vec!["service-not-found"], vec![]]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_wakes_by_itself_for_what_has_lasted() {
        let (publications, receiver) = watch::channel(None);
        let mut compiled = Compiler::new(Options::default()).compile(rustls::pki_types::UnixTime::now());
        let mut publish = |generation, diagnostics: &[Diagnostic]| {
            compiled.diagnostics = Arc::new(diagnostics.iter().cloned().collect());
            let compiled = Arc::new(compiled.clone());
            publications.send_replace(Some(Publication { generation, compiled }));
        };
        let mut status = Status::default();
        publish(1, &[]);
        status.report(&receiver.borrow().clone().unwrap(), Instant::now());
        publish(2, &[missing(Effect::None)]);
        let publication = receiver.borrow().clone().unwrap();
        status.report(&publication, Instant::now());
        let begun = Instant::now();
        wake(status.told.next_at()).await;
        assert_eq!(begun.elapsed(), GRACE);
        assert_eq!(status.told.take(&publication.compiled.diagnostics, Instant::now()).appeared.len(), 1);
    }
}
