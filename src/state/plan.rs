//! What is to stand in the Secret that keeps what is held: from what is held and what stands there.
//!
//! `held × entries that are there × those to be respected ──▶ entries to put, entries to remove, and who has no place`
//!
//! The API server takes a Secret of 1 MiB, so there is a limit. What has been held for longest goes first: somebody has
//! had the time to mend it. What stands there and holds the same stays as it is, so that replicas whose clocks differ do
//! not write it again and again.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rustls::pki_types::UnixTime;

use super::stored::{self, Entry};
use crate::compile::Held;

/// An entry that was found.
pub(super) struct Found {
    /// `None` if it is not what this version writes. Then it stays until it is in the way.
    pub(super) entry: Option<Entry>,
    /// Bytes of name and text.
    pub(super) size: usize,
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Plan {
    /// Entries that are to be written, by name.
    pub(super) put: BTreeMap<String, (Entry, Vec<u8>)>,
    pub(super) remove: Vec<String>,
    /// How many entries are there then …
    pub(super) entries: usize,
    /// … and how many bytes, names included.
    pub(super) bytes: usize,
    /// What has no place, that held for longest last.
    pub(super) dropped: Vec<Dropped>,
}

/// Something that has no place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dropped {
    /// What it is.
    pub(super) title: String,
    /// It would have none either if it were alone.
    pub(super) is_too_large: bool,
}

/// Decides. `respected` says of entries that are there, and that differ from what is held, whether they are to stay;
/// `limit` is for all bytes, `foreign` of which others use.
pub(super) fn plan(
    held: &Held,
    there: &BTreeMap<String, Found>,
    respected: impl Fn(&str, &Entry) -> bool,
    limit: usize,
    foreign: usize,
) -> Plan {
    let mut plan = Plan::default();
    // What is wanted: by name, since when, whether as it is there.
    let mut wanted: BTreeMap<String, (UnixTime, Option<Entry>)> = BTreeMap::new();
    for ours in stored::entries(held) {
        let name = ours.name();
        let theirs = there.get(&name).and_then(|found| found.entry.as_ref());
        match theirs {
            Some(theirs)
                if theirs.holds_the_same(&ours) || (theirs.since() > ours.since() && respected(&name, theirs)) =>
            {
                wanted.insert(name, (theirs.since(), None));
            }
            Some(_) | None => drop(wanted.insert(name, (ours.since(), Some(ours)))),
        }
    }
    let mut fixed = foreign;
    for (name, found) in there {
        match &found.entry {
            _ if wanted.contains_key(name) => {}
            Some(entry) if respected(name, entry) => drop(wanted.insert(name.clone(), (entry.since(), None))),
            Some(_) => plan.remove.push(name.clone()),
            None => {
                plan.entries += 1;
                fixed += found.size;
            }
        }
    }
    let limit = limit.saturating_sub(foreign);
    plan.bytes = fixed - foreign;
    let mut newest_first: Vec<(String, (UnixTime, Option<Entry>))> = wanted.into_iter().collect();
    newest_first.sort_by_key(|(_, (since, _))| Reverse(since.as_secs()));
    for (name, (_, ours)) in newest_first {
        let left = limit.saturating_sub(plan.bytes);
        let found = there.get(&name);
        // Nothing is made into text that has no place anyway.
        let text = ours.as_ref().filter(|ours| ours.at_least() <= left).map(Entry::text);
        let size = match (&ours, &text) {
            (None, _) => found.map_or(0, |found| found.size),
            (Some(_), Some(text)) => name.len() + text.len(),
            (Some(ours), None) => name.len() + ours.at_least(),
        };
        if size <= left && (ours.is_none() || text.is_some()) {
            plan.entries += 1;
            plan.bytes += size;
            if let (Some(ours), Some(text)) = (ours, text) {
                plan.put.insert(name, (ours, text));
            }
            continue;
        }
        let entry = ours.as_ref().or_else(|| found.and_then(|found| found.entry.as_ref()));
        let title = entry.map_or_else(|| name.clone(), Entry::title);
        plan.dropped.push(Dropped { title, is_too_large: size > limit });
        if found.is_some() {
            plan.remove.push(name);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{held_since, large_secret, policy, secret, since};

    fn there(entries: impl IntoIterator<Item = Entry>) -> BTreeMap<String, Found> {
        let found = |entry: Entry| {
            let (name, text) = (entry.name(), entry.text());
            (name.clone(), Found { size: name.len() + text.len(), entry: Some(entry) })
        };
        entries.into_iter().map(found).collect()
    }

    fn nobody(_: &str, _: &Entry) -> bool {
        false
    }

    fn everybody(_: &str, _: &Entry) -> bool {
        true
    }

    const LIMIT: usize = 100_000;

    #[test]
    fn what_is_held_is_put_what_is_not_is_removed_and_what_is_the_same_stays() {
        let held =
            held_since([(secret("a", "new", None), 7), (secret("a", "same", None), 5), (policy("b.test", true), 5)]);
        let there = there([since(secret("a", "same", None), 3), since(secret("a", "old", None), 2)]);
        let plan = plan(&held, &there, nobody, LIMIT, 0);
        assert_eq!(plan.put.keys().collect::<Vec<_>>(), ["policy_b.test.json", "secret_a_new.json"]);
        assert_eq!(plan.remove, ["secret_a_old.json"]);
        assert_eq!((plan.entries, plan.dropped.len()), (3, 0));
        let size = |(name, (_, text)): (&String, &(Entry, Vec<u8>))| name.len() + text.len();
        let put: usize = plan.put.iter().map(size).sum();
        assert_eq!(plan.bytes, put + there["secret_a_same.json"].size);
    }

    #[test]
    fn what_another_replica_has_put_there_stays_while_it_is_respected() {
        let newer = since(large_secret("a", "both", 9), 9);
        let there = there([newer.clone(), since(secret("a", "theirs", None), 2)]);
        let held = held_since([(secret("a", "both", None), 5)]);
        let respected = plan(&held, &there, everybody, LIMIT, 0);
        assert!(respected.put.is_empty() && respected.remove.is_empty());
        assert_eq!(respected.entries, 2);
        let alone = plan(&held, &there, nobody, LIMIT, 0);
        assert_eq!((alone.put.len(), alone.remove), (1, vec!["secret_a_theirs.json".to_owned()]));
        // What this replica has held for less long is newer than what stands there.
        let held = held_since([(secret("a", "both", None), 10)]);
        assert_eq!(plan(&held, &there, everybody, LIMIT, 0).put.len(), 1);
    }

    #[test]
    fn what_has_been_held_for_longest_has_no_place_first() {
        let size = |plan: &Plan| plan.put.values().map(|(_, text)| text.len()).max().unwrap();
        let all = ["a", "b", "c"].map(|name| (large_secret("x", name, 3000), 0));
        let times = [2, 1, 3];
        let held = held_since(all.into_iter().zip(times).map(|((entry, _), since)| (entry, since)));
        let one = size(&plan(&held, &BTreeMap::new(), nobody, LIMIT, 0));
        let two = plan(&held, &BTreeMap::new(), nobody, 2 * one + 100, 0);
        assert_eq!(two.put.keys().collect::<Vec<_>>(), ["secret_x_a.json", "secret_x_c.json"]);
        assert_eq!(two.dropped, [Dropped { title: "Secret x/b".into(), is_too_large: false }]);
        assert!(two.bytes <= 2 * one + 100);
        // What was there is removed if it has none any more, and what others use counts.
        let there = there([since(large_secret("x", "b", 3000), 1)]);
        let crowded = plan(&held, &there, nobody, 2 * one + 100, one);
        assert_eq!(crowded.remove, ["secret_x_b.json"]);
        assert_eq!((crowded.put.len(), crowded.dropped.len()), (1, 2));
    }

    #[test]
    fn what_is_too_large_alone_is_named_and_costs_no_other_its_place() {
        let held = held_since([(large_secret("x", "huge", LIMIT), 9), (secret("x", "small", None), 1)]);
        let plan = plan(&held, &BTreeMap::new(), nobody, LIMIT, 0);
        assert_eq!(plan.put.keys().collect::<Vec<_>>(), ["secret_x_small.json"]);
        assert_eq!(plan.dropped, [Dropped { title: "Secret x/huge".into(), is_too_large: true }]);
    }

    #[test]
    fn what_this_version_does_not_read_stays_and_counts() {
        let mut there = there([]);
        there.insert("secret_a_b.json".into(), Found { entry: None, size: 60 });
        there.insert("secret_a_c.json".into(), Found { entry: None, size: 60 });
        let held = held_since([(secret("a", "b", None), 1)]);
        let plan = plan(&held, &there, nobody, LIMIT, 0);
        assert_eq!((plan.put.len(), plan.remove.len(), plan.entries), (1, 0, 2));
        assert_eq!(plan.bytes, 60 + plan.put["secret_a_b.json"].1.len() + "secret_a_b.json".len());
    }
}
