//! The last failed handshakes, kept for people: who failed where and why, with what the client had offered.
//!
//! ```text
//! worker-N ──Failure──▶ Shard N ──┐
//! worker-M ──Failure──▶ Shard M ──┴─merge──▶ report (/api/failures, handfast failures), summary (log lines)
//! ```
//!
//! Counters say how many; these are the examples. A worker writes only to a shard of its own, so its lock is free but
//! for the moment in which somebody reads. What is kept is bounded, and by kind (host × reason): a few clients each,
//! and of one client only the newest, with a count. So a scanner that fails a thousand times in one way takes one place,
//! and cannot push out the one client that fails in another.

pub mod follow;
pub mod report;
pub mod summary;
pub mod view;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::AlertDescription;

use crate::snapshot::HostName;
use crate::tls::offer::Offer;
use crate::tls::reason::{Blame, Reason};

/// One failed handshake, or one that the shadow policy would have failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub time: SystemTime,
    /// The client's address, or the network that it was masked to.
    pub client: Box<str>,
    /// The server name that it asked for; escaped if it is none.
    pub server_name: Option<Box<str>>,
    /// The virtual host that it was counted under.
    pub host: Option<HostName>,
    /// Why it failed.
    pub reason: Reason,
    /// Whose fault it is.
    pub blame: Blame,
    /// The alert that we sent.
    pub alert_sent: Option<AlertDescription>,
    /// The alert that the client sent.
    pub alert_received: Option<AlertDescription>,
    /// What the client offered, if its hello was complete; lists that no real client has are cut.
    pub offer: Option<Box<Offer>>,
    /// What was served, or would have been.
    pub served: Option<Served>,
    /// What else is known, in one statement; empty if nothing is.
    pub detail: Box<str>,
    /// What to do about it.
    pub remedy: Box<str>,
}

/// A certificate that was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// SHA-256 of the leaf, hexadecimal.
    pub fingerprint: Box<str>,
    /// Type and size of its key.
    pub key: Box<str>,
}

/// Failures of one client in one way.
#[derive(Clone, Debug)]
pub struct Example {
    /// The newest one.
    pub last: Arc<Failure>,
    /// When the first one was.
    pub first: SystemTime,
    /// How many there were.
    pub count: u64,
}

impl Example {
    /// Puts together what two workers have seen of one client.
    fn add(&mut self, other: &Example) {
        self.first = self.first.min(other.first);
        self.count += other.count;
        if self.last.time < other.last.time {
            self.last = other.last.clone();
        }
    }
}

/// What a kind of failure is: a host and a reason.
pub type Kind = (Option<HostName>, Reason);

/// Where workers put failures.
pub struct Failures {
    shards: Vec<Mutex<Shard>>,
}

impl Failures {
    /// With a shard for each of so many workers.
    pub fn new(workers: usize) -> Self {
        let workers = workers.max(1);
        let shard = || Mutex::new(Shard { capacity: EXAMPLES / workers, ..Shard::default() });
        Self { shards: (0..workers).map(|_| shard()).collect() }
    }

    /// Puts a failure into a worker's shard.
    pub fn record(&self, worker: usize, failure: Failure) {
        lock(&self.shards[worker % self.shards.len()]).record(failure);
    }

    /// All examples, newest first; of one host if `host` is given.
    pub fn examples(&self, host: Option<&HostName>) -> Vec<Example> {
        type Who = (Box<str>, Option<Box<str>>);
        let mut found: HashMap<(Kind, Who), Example> = HashMap::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let kinds = shard.kinds.iter().filter(|((name, _), _)| host.is_none() || name.as_ref() == host);
            for (kind, example) in kinds.flat_map(|(kind, examples)| examples.iter().map(move |one| (kind, one))) {
                let (client, name) = who(&example.last);
                match found.entry((kind.clone(), (client.into(), name.map(Into::into)))) {
                    Entry::Occupied(mut known) => known.get_mut().add(example),
                    Entry::Vacant(place) => drop(place.insert(example.clone())),
                }
            }
        }
        let mut found: Vec<Example> = found.into_values().collect();
        found.sort_by_key(|example| std::cmp::Reverse(example.last.time));
        found
    }

    /// How often each kind has failed since the last call, with the newest example.
    pub fn news(&self) -> News {
        let mut news = News::default();
        for shard in &self.shards {
            let News { kinds, unknown_names } = lock(shard).news();
            kinds.into_iter().for_each(|(kind, counted)| merge(&mut news.kinds, kind, counted));
            unknown_names.into_iter().for_each(|(name, counted)| merge(&mut news.unknown_names, name, counted));
        }
        news
    }

    /// Forgets hosts that are gone.
    pub fn retain_hosts(&self, exists: impl Fn(&HostName) -> bool) {
        for shard in &self.shards {
            let keep = |kind: &Kind| kind.0.as_ref().is_none_or(&exists);
            let mut shard = lock(shard);
            shard.kinds.retain(|kind, _| keep(kind));
            shard.total = shard.kinds.values().map(VecDeque::len).sum();
            shard.new.retain(|kind, _| keep(kind));
        }
    }
}

/// Whose failures are one example: a client's, and of names that no host has each name's.
fn who(failure: &Failure) -> (&str, Option<&str>) {
    let name = failure.server_name.as_deref().filter(|_| is_about_name(failure.reason));
    (&failure.client, name)
}

/// Whether each server name is a story of its own.
fn is_about_name(reason: Reason) -> bool {
    [Reason::MalformedServerName, Reason::UnknownHost].contains(&reason)
}

/// How often something has failed, and the newest failure.
pub type Counted = (u64, Arc<Failure>);

/// What has failed since somebody asked last.
#[derive(Debug, Default)]
pub struct News {
    /// How often each kind has, with the newest example.
    pub kinds: HashMap<Kind, Counted>,
    /// The same for server names that no host has, as far as they are not too many: one of them may be misspelt.
    pub unknown_names: HashMap<Box<str>, Counted>,
}

fn merge<K: Eq + Hash>(into: &mut HashMap<K, Counted>, key: K, (count, failure): Counted) {
    match into.entry(key) {
        Entry::Occupied(mut known) => {
            let (total, newest) = known.get_mut();
            *total += count;
            if newest.time < failure.time {
                *newest = failure;
            }
        }
        Entry::Vacant(place) => drop(place.insert((count, failure))),
    }
}

/// Clients that are kept for one kind.
const CLIENTS: usize = 8;

/// The same for names that no host has: each is another story.
const UNKNOWN: usize = 32;

/// Examples that all shards keep together; each takes about a kilobyte, and four at most.
const EXAMPLES: usize = 8192;

#[derive(Default)]
struct Shard {
    /// Oldest first.
    kinds: HashMap<Kind, VecDeque<Example>>,
    total: usize,
    /// Examples that it keeps.
    capacity: usize,
    /// Counts since they were last asked for.
    new: HashMap<Kind, u64>,
    /// The same for names that no host has, with the newest failure.
    unknown_names: HashMap<Box<str>, Counted>,
}

impl Shard {
    fn record(&mut self, failure: Failure) {
        let kind: Kind = (failure.host.clone(), failure.reason);
        let failure = Arc::new(failure);
        // No more kinds than examples; a kind that is left out here is only left out of the summary.
        if self.new.len() < self.capacity || self.new.contains_key(&kind) {
            *self.new.entry(kind.clone()).or_default() += 1;
        }
        let (is_unknown, is_about_name) = (kind.1 == Reason::UnknownHost, is_about_name(kind.1));
        if is_unknown && let Some(name) = &failure.server_name {
            let has_room = self.unknown_names.len() < UNKNOWN || self.unknown_names.contains_key(name);
            if has_room {
                merge(&mut self.unknown_names, name.clone(), (1, failure.clone()));
            }
        }
        let examples = self.kinds.entry(kind).or_default();
        let known = examples.iter().position(|example| who(&example.last) == who(&failure));
        let example = match known.and_then(|at| examples.remove(at)) {
            Some(before) => Example { last: failure, first: before.first, count: before.count + 1 },
            None => {
                self.total += 1;
                Example { first: failure.time, last: failure, count: 1 }
            }
        };
        examples.push_back(example);
        if examples.len() > if is_about_name { UNKNOWN } else { CLIENTS } {
            examples.remove(surplus(examples));
            self.total -= 1;
        }
        if self.total > self.capacity {
            self.make_room();
        }
    }

    /// Drops some examples, so that it need not be done for each failure: first of the kinds that have most; of kinds
    /// with as many, the oldest that are the client's own fault.
    fn make_room(&mut self) {
        let kept = self.capacity - self.capacity / 16;
        let is_clients = |examples: &VecDeque<Example>| examples.iter().any(|one| one.last.blame == Blame::Client);
        let age = |examples: &VecDeque<Example>| examples.back().map(|one| std::cmp::Reverse(one.last.time));
        let mut ranking: Vec<(usize, bool, Option<std::cmp::Reverse<SystemTime>>, Kind)> = self
            .kinds
            .iter()
            .map(|(kind, examples)| (examples.len(), is_clients(examples), age(examples), kind.clone()))
            .collect();
        ranking.sort_unstable();
        // Each takes from what is fullest, down to one example a kind; then whole kinds go.
        for least in (0..UNKNOWN.max(CLIENTS)).rev() {
            for (.., kind) in ranking.iter().rev() {
                if self.total <= kept {
                    self.kinds.retain(|_, examples| !examples.is_empty());
                    return;
                }
                if let Some(examples) = self.kinds.get_mut(kind)
                    && examples.len() > least
                {
                    examples.remove(surplus(examples));
                    self.total -= 1;
                }
            }
        }
    }

    fn news(&mut self) -> News {
        let new = std::mem::take(&mut self.new);
        let newest = |kind: &Kind| Some(self.kinds.get(kind)?.back()?.last.clone());
        let kinds = new.into_iter().filter_map(|(kind, count)| newest(&kind).map(|failure| (kind, (count, failure))));
        News { kinds: kinds.collect(), unknown_names: std::mem::take(&mut self.unknown_names) }
    }
}

/// The example that is missed least: the oldest of those that offer the same as a newer one, else the oldest.
fn surplus(examples: &VecDeque<Example>) -> usize {
    let is_repeated = |at: &usize| examples.range(at + 1..).any(|newer| offer_the_same(newer, &examples[*at]));
    (0..examples.len()).find(is_repeated).unwrap_or(0)
}

fn offer_the_same(one: &Example, other: &Example) -> bool {
    match (&one.last.offer, &other.last.offer) {
        (Some(one), Some(other)) => {
            (&one.suites, &one.groups, &one.schemes) == (&other.suites, &other.groups, &other.schemes)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A thread that panicked here leaves at worst a wrong total.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    pub(crate) fn failure(client: &str, host: Option<&str>, reason: Reason, seconds: u64) -> Failure {
        Failure {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            client: client.into(),
            server_name: host.map(Into::into),
            host: host.map(|host| host.parse().unwrap()),
            reason,
            blame: reason.blame(),
            alert_sent: reason.alert(),
            alert_received: None,
            offer: None,
            served: None,
            detail: "".into(),
            remedy: reason.remedy().into(),
        }
    }

    #[test]
    fn a_scanner_does_not_push_out_a_client_that_fails_in_another_way_or_in_the_same() {
        let failures = Failures::new(1);
        let host = Some("shop.example");
        failures.record(0, failure("192.0.2.1", host, Reason::RejectedUnknownCa, 1));
        failures.record(0, failure("192.0.2.1", host, Reason::NoSharedVersion, 2));
        for seconds in 10..5_000 {
            failures.record(0, failure("198.51.100.9", host, Reason::NoSharedVersion, seconds));
            failures.record(0, failure("198.51.100.9", None, Reason::UnknownHost, seconds));
        }
        let found = failures.examples(Some(&"shop.example".parse().unwrap()));
        let seen: Vec<_> = found.iter().map(|one| (&*one.last.client, one.last.reason, one.count)).collect();
        assert_eq!(
            seen,
            [
                ("198.51.100.9", Reason::NoSharedVersion, 4_990),
                ("192.0.2.1", Reason::NoSharedVersion, 1),
                ("192.0.2.1", Reason::RejectedUnknownCa, 1),
            ]
        );
        assert_eq!(failures.examples(None).len(), 4);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_fault_of_clients_goes_first() {
        let failures = Failures::new(1);
        failures.record(0, failure("192.0.2.1", Some("old.example"), Reason::RejectedExpired, 1));
        for index in 0..12_000 {
            let host = format!("h{index}.example");
            failures.record(0, failure("192.0.2.2", Some(&host), Reason::NoSharedVersion, 10 + index));
        }
        let found = failures.examples(None);
        assert!((EXAMPLES * 15 / 16..=EXAMPLES).contains(&found.len()), "{}", found.len());
        assert_eq!(found.last().unwrap().last.reason, Reason::RejectedExpired);
        for client in 0..100 {
            failures.record(0, failure(&format!("192.0.2.{client}"), None, Reason::Ssh, 20_000));
        }
        let ssh = failures.examples(None).into_iter().filter(|one| one.last.reason == Reason::Ssh).count();
        assert!((1..=CLIENTS).contains(&ssh), "{ssh}");
        assert!(failures.examples(None).len() <= EXAMPLES);
    }

    #[test]
    fn a_scanner_with_many_addresses_does_not_push_out_a_client_of_another_make() {
        let failures = Failures::new(1);
        let host = Some("shop.example");
        let offer = |id: &str| Some(Box::new(crate::tls::clients::client(id).unwrap().offer.clone()));
        let java = failure("192.0.2.1", host, Reason::NoSharedVersion, 1);
        failures.record(0, Failure { offer: offer("java-8u161"), ..java });
        for index in 0..100 {
            let one = failure(&format!("198.51.100.{index}"), host, Reason::NoSharedVersion, 10 + index);
            failures.record(0, Failure { offer: offer("android-7-0"), ..one });
        }
        let found = failures.examples(None);
        assert_eq!(found.len(), CLIENTS);
        assert!(found.iter().any(|one| &*one.last.client == "192.0.2.1"));
    }

    #[test]
    fn each_unknown_name_of_one_client_is_an_example_and_a_flood_of_names_is_bounded() {
        let failures = Failures::new(1);
        let named = |name: String, seconds| {
            let one = failure("192.0.2.1", None, Reason::UnknownHost, seconds);
            failures.record(0, Failure { server_name: Some(name.into()), ..one });
        };
        named("shpo.example".into(), 1);
        named("shpo.example".into(), 2);
        named("other.example".into(), 3);
        let found = failures.examples(None);
        assert_eq!((found.len(), found[1].count), (2, 2));
        (0..1_000).for_each(|index| named(format!("n{index}.example"), 10 + index));
        assert_eq!(failures.examples(None).len(), UNKNOWN);
        let news = failures.news();
        assert_eq!((news.unknown_names.len(), news.unknown_names["shpo.example"].0), (UNKNOWN, 2));
    }

    #[test]
    fn news_are_told_once_and_merged_over_workers() {
        let failures = Failures::new(2);
        let host = Some("shop.example");
        failures.record(0, failure("192.0.2.1", host, Reason::RejectedUnknownCa, 1));
        failures.record(1, failure("192.0.2.2", host, Reason::RejectedUnknownCa, 2));
        failures.record(1, failure("192.0.2.2", None, Reason::UnknownHost, 2));
        let news = failures.news();
        let (count, newest) = &news.kinds[&(Some("shop.example".parse().unwrap()), Reason::RejectedUnknownCa)];
        assert_eq!((*count, &*newest.client), (2, "192.0.2.2"));
        assert_eq!((news.kinds.len(), news.unknown_names.len()), (2, 0));
        assert!(failures.news().kinds.is_empty());
        failures.record(0, failure("192.0.2.2", host, Reason::RejectedUnknownCa, 3));
        let found = failures.examples(None);
        let is_two = |one: &&Example| &*one.last.client == "192.0.2.2" && one.last.host.is_some();
        let of_two: Vec<_> = found.iter().filter(is_two).collect();
        assert_eq!((of_two.len(), of_two[0].count), (1, 2), "one client is one example, whichever worker served it");
        failures.retain_hosts(|_| false);
        assert!(failures.examples(None).iter().all(|one| one.last.host.is_none()));
    }
}
