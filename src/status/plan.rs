//! What is to be written: pure. What should stand in the cluster, against what does.
//!
//! ```text
//! Wanted × Objects ──differing──▶ keys ──Queue──▶ Plans::next ──▶ write, wait, or nothing
//! ```
//!
//! What we have written takes a moment to be seen, so it is remembered until it is. If something else is seen than what
//! we wrote, somebody has changed it: it is written again, at growing intervals, and in the end left alone. Two controllers
//! that both claim an Ingress would otherwise write for ever. The conditions of a policy that two installations serve are
//! those of one of them.
//!
//! An Ingress that is no longer ours has its addresses taken away after a moment, and if that would be most of all at once,
//! after a minute: an IngressClass that a deployment replaces must not take every DNS record with it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress as Address;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::conditions;
use crate::compile::{Kind, ObjectKey, PolicyStatus};
use crate::source::cluster::seen::{Objects, SeenIngress, SeenPolicy};
use crate::trie::Trie;

/// How long what was written may take to be seen.
const LAG: Duration = Duration::from_secs(60);

/// What another writer changes back is written again after this time, then after [`GROWTH`] times that, and so on.
const FIRST_ROUND: Duration = Duration::from_secs(5);
const GROWTH: u32 = 4;
/// Then it is left alone.
const ROUNDS: u32 = 5;

/// How long an Ingress is not ours before its addresses are taken away; and if that is most of them.
const UNOWNED: Duration = Duration::from_secs(5);
const MOST_UNOWNED: Duration = Duration::from_secs(60);

/// Between two writes of a policy's status: counts of hosts change fast.
const POLICY_PACE: Duration = Duration::from_secs(1);

/// What should stand in the cluster.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    /// Ingresses that are served.
    pub(super) ingresses: Trie<ObjectKey, ()>,
    /// What is to be said about policies.
    pub(super) policies: Trie<ObjectKey, Arc<PolicyStatus>>,
    /// Sorted; `None` if they are not known, or nobody wants them published.
    pub(super) addresses: Option<Arc<[Address]>>,
}

/// What to do about an object when it is its turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Apply this.
    Write(Write),
    /// Look again then.
    At(Instant),
    /// Another writer has prevailed. Said once.
    Contested,
    /// All is as it should be.
    Nothing,
}

/// A status to be applied.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub(super) uid: Arc<str>,
    pub(super) status: Value,
    pub(super) what: What,
}

/// What a write says, and what stood there when it was planned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Addresses(Arc<[Address]>, SeenIngress),
    /// What is ours is taken away.
    Clear,
    Conditions(Arc<PolicyStatus>, SeenPolicy),
}

/// What has been written in this term, and what has been seen of it.
#[derive(Default)]
pub(super) struct Plans {
    looked: Option<Looked>,
    /// Objects whose status was not as it should be.
    differing: BTreeSet<ObjectKey>,
    /// How many Ingresses had a status of ours.
    ours: usize,
    ingresses: HashMap<ObjectKey, Written>,
    policies: HashMap<ObjectKey, (Arc<PolicyStatus>, SeenPolicy, Instant)>,
    /// Policies whose conditions are another installation's word.
    left: HashMap<ObjectKey, Left>,
    /// Ingresses with addresses of ours that are not ours, and since when.
    unowned: BTreeMap<ObjectKey, Instant>,
    /// How long they keep them.
    patience: Duration,
    /// The process ends: nothing is ours any more, at once.
    leaving: bool,
}

/// What should have stood there at the last look, and what did.
#[derive(Default)]
struct Looked {
    wanted: Wanted,
    ingresses: Trie<ObjectKey, SeenIngress>,
    policies: Trie<ObjectKey, SeenPolicy>,
}

struct Written {
    uid: Arc<str>,
    addresses: Arc<[Address]>,
    at: Instant,
    /// What was there before, until something else is seen.
    before: Option<SeenIngress>,
    /// How often it was written because somebody had changed it.
    rounds: u32,
    /// It has been said that it is left alone.
    left: bool,
    /// It stood there as it was written, at the last look.
    stands: bool,
}

#[derive(Default)]
struct Left {
    /// Since when they are about an earlier version.
    older: Option<Instant>,
    /// It has been said that it is left alone.
    said: bool,
}

impl Plans {
    /// From now on every address of ours is taken away.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.looked = None;
    }

    /// Objects whose status is not as it should be; and when to look again without any change. Looks at what has changed
    /// since the last look, and at everything if that is the addresses.
    pub(super) fn differing(
        &mut self,
        wanted: &Wanted,
        seen: &Objects,
        now: Instant,
    ) -> (Vec<ObjectKey>, Option<Instant>) {
        let looked = self.looked.replace(Looked {
            wanted: wanted.clone(),
            ingresses: seen.ingresses.clone(),
            policies: seen.policies.clone(),
        });
        let before = looked.filter(|before| before.wanted.addresses == wanted.addresses).unwrap_or_else(|| {
            (self.differing, self.ours) = Default::default();
            self.unowned.retain(|key, _| seen.ingresses.contains_key(key));
            Looked::default()
        });
        let mut changed: BTreeSet<&ObjectKey> = BTreeSet::new();
        changed.extend(wanted.ingresses.since(&before.wanted.ingresses, |(), ()| true).iter().map(|found| found.key));
        for found in seen.ingresses.since(&before.ingresses, SeenIngress::eq) {
            let ours = |seen: Option<&SeenIngress>| usize::from(seen.is_some_and(|seen| seen.is_ours));
            self.ours = self.ours + ours(found.now) - ours(found.before);
            changed.insert(found.key);
        }
        changed.extend(wanted.policies.since(&before.wanted.policies, Arc::ptr_eq).iter().map(|found| found.key));
        changed.extend(seen.policies.since(&before.policies, SeenPolicy::eq).iter().map(|found| found.key));
        for key in changed {
            let differs = match key.kind == Kind::TlsPolicy {
                true => self.policy_differs(key, wanted, seen),
                false => self.ingress_differs(key, wanted, seen, now),
            };
            let _ = if differs { self.differing.insert(key.clone()) } else { self.differing.remove(key) };
        }
        let later = self.be_patient(now);
        let due = self.unowned.iter().filter(|(_, since)| now >= **since + self.patience).map(|(key, _)| key);
        let differing = self.differing.iter().chain(due).cloned().collect();
        if self.ingresses.len() > 2 * seen.ingresses.len() + 16 {
            self.ingresses.retain(|key, _| seen.ingresses.contains_key(key));
        }
        if self.policies.len() > 2 * seen.policies.len() + 16 {
            self.policies.retain(|key, _| seen.policies.contains_key(key));
        }
        (differing, later)
    }

    fn policy_differs(&self, key: &ObjectKey, wanted: &Wanted, seen: &Objects) -> bool {
        let (status, there) = (wanted.policies.get(key), seen.policies.get(key));
        let says = |(status, there): (&Arc<PolicyStatus>, &SeenPolicy)| conditions::says(there.status.as_ref(), status);
        !self.leaving && status.zip(there).is_some_and(|both| !says(both))
    }

    /// Notes as well whether it has addresses of ours without being ours, and since when.
    fn ingress_differs(&mut self, key: &ObjectKey, wanted: &Wanted, seen: &Objects, now: Instant) -> bool {
        let is_wanted = !self.leaving && wanted.ingresses.contains_key(key);
        let seen = seen.ingresses.get(key);
        if !is_wanted && seen.is_some_and(|seen| seen.is_ours && !seen.addresses.is_empty()) {
            self.unowned.entry(key.clone()).or_insert(now);
        } else {
            self.unowned.remove(key);
        }
        let (Some(seen), Some(addresses), true) = (seen, &wanted.addresses, is_wanted) else { return false };
        let stands = is_same(&seen.addresses, addresses);
        if let Some(written) = self.ingresses.get_mut(key).filter(|_| stands) {
            (written.before, written.stands) = (None, true);
        }
        !stands
    }

    /// How long Ingresses that are not ours keep addresses of ours. Returns when the next of them has had its time.
    fn be_patient(&mut self, now: Instant) -> Option<Instant> {
        const FEW: usize = 3;
        self.patience = if self.leaving {
            Duration::ZERO
        } else if self.unowned.len() > FEW && self.unowned.len() * 2 > self.ours {
            MOST_UNOWNED
        } else {
            UNOWNED
        };
        self.unowned.values().map(|since| *since + self.patience).filter(|at| now < *at).min()
    }

    /// What is to be done about an object now. The time of day is for conditions.
    pub(super) fn next(
        &mut self,
        key: &ObjectKey,
        wanted: &Wanted,
        seen: &Objects,
        now: Instant,
        time: Timestamp,
    ) -> Next {
        if key.kind == Kind::TlsPolicy {
            self.next_policy(key, wanted, seen, now, time)
        } else {
            self.next_ingress(key, wanted, seen, now)
        }
    }

    fn next_ingress(&mut self, key: &ObjectKey, wanted: &Wanted, seen: &Objects, now: Instant) -> Next {
        let Some(seen) = seen.ingresses.get(key) else {
            self.ingresses.remove(key);
            return Next::Nothing;
        };
        if self.leaving || !wanted.ingresses.contains_key(key) {
            let is_due = self.unowned.get(key).is_some_and(|since| now >= *since + self.patience);
            if !is_due || !seen.is_ours || seen.addresses.is_empty() {
                return Next::Nothing;
            }
            // Without the field, what is ours of it goes; what another writer has as well stays.
            return Next::Write(Write { uid: seen.uid.clone(), status: json!({}), what: What::Clear });
        }
        let Some(addresses) = &wanted.addresses else { return Next::Nothing };
        if is_same(&seen.addresses, addresses) {
            return Next::Nothing;
        }
        match self.ingresses.get_mut(key) {
            Some(written) if written.uid == seen.uid && written.addresses == *addresses => {
                if std::mem::take(&mut written.stands) && now > written.at + 2 * round(ROUNDS) {
                    // It stood there for long: whoever changes it now begins anew.
                    (written.rounds, written.left) = (0, false);
                }
                if written.before.as_ref() == Some(seen) && now < written.at + LAG {
                    return Next::At(written.at + LAG);
                }
                written.before = None;
                let due = written.at + round(written.rounds.min(ROUNDS));
                // Whoever prevailed may have gone, and have taken away what it wrote.
                if written.rounds >= ROUNDS && (!seen.addresses.is_empty() || now < due) {
                    return if std::mem::replace(&mut written.left, true) { Next::Nothing } else { Next::Contested };
                }
                if now < due {
                    return Next::At(due);
                }
            }
            Some(_) | None => drop(self.ingresses.remove(key)),
        }
        let status = json!({"loadBalancer": {"ingress": &**addresses}});
        let what = What::Addresses(addresses.clone(), seen.clone());
        Next::Write(Write { uid: seen.uid.clone(), status, what })
    }

    fn next_policy(&mut self, key: &ObjectKey, wanted: &Wanted, seen: &Objects, now: Instant, time: Timestamp) -> Next {
        let (Some(status), Some(seen)) = (wanted.policies.get(key), seen.policies.get(key)) else {
            self.policies.remove(key);
            self.left.remove(key);
            return Next::Nothing;
        };
        let there = seen.status.as_ref();
        if self.leaving || conditions::says(there, status) || conditions::is_newer(there, status) {
            return Next::Nothing;
        }
        if let Some(next) = self.leave_to_another(key, status, seen, now) {
            return next;
        }
        if let Some((written, before, at)) = self.policies.get(key) {
            let wait = if written == status && before == seen { LAG } else { POLICY_PACE };
            if now < *at + wait {
                return Next::At(*at + wait);
            }
        }
        let what = What::Conditions(status.clone(), seen.clone());
        let status = json!(conditions::wanted(status, there, time));
        Next::Write(Write { uid: seen.uid.clone(), status, what })
    }

    /// What to do about a policy that two installations serve: whoever has said something about it goes on doing so, as
    /// long as it follows the policy. But somebody with hosts knows more than somebody without.
    fn leave_to_another(
        &mut self,
        key: &ObjectKey,
        status: &PolicyStatus,
        seen: &SeenPolicy,
        now: Instant,
    ) -> Option<Next> {
        let there = seen.status.as_ref();
        if seen.other.is_none() || (status.hosts > 0 && conditions::is_of_nobody(there)) {
            self.left.remove(key);
            return None;
        }
        let left = self.left.entry(key.clone()).or_default();
        if !conditions::is_older(there, status) {
            left.older = None;
            return Some(if std::mem::replace(&mut left.said, true) { Next::Nothing } else { Next::Contested });
        }
        let due = *left.older.get_or_insert(now) + LAG;
        (now < due).then_some(Next::At(due))
    }

    /// The write has succeeded.
    pub(super) fn written(&mut self, key: &ObjectKey, write: Write, now: Instant) {
        match write.what {
            What::Addresses(addresses, before) => {
                let last = self.ingresses.get(key).map(|last| (last.rounds.saturating_add(1), last.left));
                let (rounds, left) = last.unwrap_or_default();
                // It may have been seen before the answer came.
                let seen = self.looked.as_ref().and_then(|looked| looked.ingresses.get(key));
                let stands = seen.is_some_and(|seen| seen.uid == write.uid && is_same(&seen.addresses, &addresses));
                let before = (!stands).then_some(before);
                let written = Written { uid: write.uid, addresses, at: now, before, rounds, left, stands };
                self.ingresses.insert(key.clone(), written);
            }
            What::Clear => {
                self.unowned.remove(key);
                self.ingresses.remove(key);
            }
            What::Conditions(status, before) => {
                self.policies.insert(key.clone(), (status, before, now));
            }
        }
    }
}

fn round(rounds: u32) -> Duration {
    FIRST_ROUND * GROWTH.pow(rounds)
}

/// The same addresses, in whatever order they stand. Ports are nobody's business here.
fn is_same(there: &[Address], wanted: &[Address]) -> bool {
    let names = |address: &Address| (address.hostname.clone(), address.ip.clone());
    if there.len() != wanted.len() {
        return false;
    }
    let mut there: Vec<_> = there.iter().map(names).collect();
    there.sort();
    there.iter().zip(wanted).all(|(there, wanted)| *there == names(wanted))
}
