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
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// The server name that it asked for.
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
    /// What the client offered, if its hello was complete and no longer than those of real clients.
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
    pub last: Failure,
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
        Self { shards: (0..workers.max(1)).map(|_| Mutex::default()).collect() }
    }

    /// Puts a failure into a worker's shard.
    pub fn record(&self, worker: usize, mut failure: Failure) {
        failure.offer = failure.offer.filter(|offer| offer.is_short());
        lock(&self.shards[worker % self.shards.len()]).record(failure);
    }

    /// All examples, newest first; of one host if `host` is given.
    pub fn examples(&self, host: Option<&HostName>) -> Vec<Example> {
        let mut found: HashMap<(Kind, Box<str>), Example> = HashMap::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let kinds = shard.kinds.iter().filter(|((name, _), _)| host.is_none() || name.as_ref() == host);
            for (kind, example) in kinds.flat_map(|(kind, examples)| examples.iter().map(move |one| (kind, one))) {
                match found.entry((kind.clone(), example.last.client.clone())) {
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
    pub fn news(&self) -> HashMap<Kind, (u64, Failure)> {
        let mut news: HashMap<Kind, (u64, Failure)> = HashMap::new();
        for shard in &self.shards {
            for (kind, count) in lock(shard).news() {
                let (failure, count) = count;
                match news.get_mut(&kind) {
                    Some((total, newest)) => {
                        *total += count;
                        if newest.time < failure.time {
                            *newest = failure;
                        }
                    }
                    None => drop(news.insert(kind, (count, failure))),
                }
            }
        }
        news
    }

    /// Forgets one host.
    pub fn forget(&self, host: &HostName) {
        self.retain_hosts(|other| other != host);
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

/// Clients that are kept for one kind.
const CLIENTS: usize = 8;

/// Examples that one shard keeps; each takes about a kilobyte, and four at most.
const EXAMPLES: usize = 4096;

#[derive(Default)]
struct Shard {
    /// Oldest first.
    kinds: HashMap<Kind, VecDeque<Example>>,
    total: usize,
    /// Counts since they were last asked for.
    new: HashMap<Kind, u64>,
}

impl Shard {
    fn record(&mut self, failure: Failure) {
        let kind: Kind = (failure.host.clone(), failure.reason);
        // No more kinds than examples; a kind that is left out here is only left out of the summary.
        if self.new.len() < EXAMPLES || self.new.contains_key(&kind) {
            *self.new.entry(kind.clone()).or_default() += 1;
        }
        let examples = self.kinds.entry(kind).or_default();
        let known = examples.iter().position(|example| example.last.client == failure.client);
        let example = match known.and_then(|at| examples.remove(at)) {
            Some(before) => Example { last: failure, first: before.first, count: before.count + 1 },
            None => {
                self.total += 1;
                Example { first: failure.time, last: failure, count: 1 }
            }
        };
        if examples.len() >= CLIENTS {
            examples.pop_front();
            self.total -= 1;
        }
        examples.push_back(example);
        if self.total > EXAMPLES {
            self.drop_one();
        }
    }

    /// Makes room: takes from the kind that has most; if all have one, the oldest that is the client's own fault.
    fn drop_one(&mut self) {
        let is_clients = |examples: &VecDeque<Example>| examples.iter().any(|one| one.last.blame == Blame::Client);
        let age = |examples: &VecDeque<Example>| examples.back().map(|one| std::cmp::Reverse(one.last.time));
        let fullest =
            self.kinds.iter().max_by_key(|(_, examples)| (examples.len(), is_clients(examples), age(examples)));
        let Some(kind) = fullest.map(|(kind, _)| kind.clone()) else { return };
        let Some(examples) = self.kinds.get_mut(&kind) else { return };
        if examples.pop_front().is_some() {
            self.total -= 1;
        }
        if examples.is_empty() {
            self.kinds.remove(&kind);
        }
    }

    fn news(&mut self) -> Vec<(Kind, (Failure, u64))> {
        let new = std::mem::take(&mut self.new);
        let newest = |kind: &Kind| Some(self.kinds.get(kind)?.back()?.last.clone());
        new.into_iter().filter_map(|(kind, count)| newest(&kind).map(|failure| (kind, (failure, count)))).collect()
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
        for index in 0..6_000 {
            let host = format!("h{index}.example");
            failures.record(0, failure("192.0.2.2", Some(&host), Reason::NoSharedVersion, 10 + index));
        }
        let found = failures.examples(None);
        assert_eq!(found.len(), EXAMPLES);
        assert_eq!(found.last().unwrap().last.reason, Reason::RejectedExpired);
        for client in 0..100 {
            failures.record(0, failure(&format!("192.0.2.{client}"), None, Reason::Ssh, 10_000));
        }
        let ssh = failures.examples(None).into_iter().filter(|one| one.last.reason == Reason::Ssh).count();
        assert!((1..=CLIENTS).contains(&ssh), "{ssh}");
        assert_eq!(failures.examples(None).len(), EXAMPLES);
    }

    #[test]
    fn an_offer_that_no_client_makes_is_not_kept() {
        let failures = Failures::new(1);
        let chrome = &crate::tls::clients::client("chrome-150").unwrap().offer;
        let many = |count: u16| (0..count).collect::<Vec<u16>>();
        let offers = [
            (chrome.clone(), true),
            (Offer { suites: many(250), ..chrome.clone() }, true),
            (Offer { suites: many(30_000), ..chrome.clone() }, false),
            (Offer { key_shares: Some(many(15_000)), ..chrome.clone() }, false),
            (Offer { alpn: Some(vec![(*b"a").into(); 30_000]), ..chrome.clone() }, false),
        ];
        for (offer, kept) in offers {
            let failed = failure("192.0.2.1", None, Reason::UnknownHost, 1);
            failures.record(0, Failure { offer: Some(Box::new(offer)), ..failed });
            assert_eq!(failures.examples(None)[0].last.offer.is_some(), kept);
        }
    }

    #[test]
    fn news_are_told_once_and_merged_over_workers() {
        let failures = Failures::new(2);
        let host = Some("shop.example");
        failures.record(0, failure("192.0.2.1", host, Reason::RejectedUnknownCa, 1));
        failures.record(1, failure("192.0.2.2", host, Reason::RejectedUnknownCa, 2));
        let news = failures.news();
        let (count, newest) = &news[&(Some("shop.example".parse().unwrap()), Reason::RejectedUnknownCa)];
        assert_eq!((*count, &*newest.client), (2, "192.0.2.2"));
        assert!(failures.news().is_empty());
        failures.record(0, failure("192.0.2.2", host, Reason::RejectedUnknownCa, 3));
        let found = failures.examples(None);
        let of_two: Vec<_> = found.iter().filter(|one| &*one.last.client == "192.0.2.2").collect();
        assert_eq!((of_two.len(), of_two[0].count), (1, 2), "one client is one example, whoever served it");
        failures.retain_hosts(|_| false);
        assert!(failures.examples(None).is_empty());
    }
}
