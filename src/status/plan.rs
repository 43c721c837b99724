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
    pub(super) ingresses: Arc<BTreeSet<ObjectKey>>,
    /// What is to be said about policies.
    pub(super) policies: Arc<BTreeMap<ObjectKey, PolicyStatus>>,
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
    Conditions(PolicyStatus, SeenPolicy),
}

/// What has been written in this term, and what has been seen of it.
#[derive(Default)]
pub(super) struct Plans {
    ingresses: HashMap<ObjectKey, Written>,
    policies: HashMap<ObjectKey, (PolicyStatus, SeenPolicy, Instant)>,
    /// Policies whose conditions are another installation's word.
    left: HashMap<ObjectKey, Left>,
    /// Ingresses with addresses of ours that are not ours, and since when.
    unowned: BTreeMap<ObjectKey, Instant>,
    /// How long they keep them.
    patience: Duration,
    /// The process ends: nothing is ours any more, at once.
    leaving: bool,
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
    }

    /// Objects whose status is not as it should be; and when to look again without any change. Looks at everything, and
    /// at no more than a few fields of each.
    pub(super) fn differing(
        &mut self,
        wanted: &Wanted,
        seen: &Objects,
        now: Instant,
    ) -> (Vec<ObjectKey>, Option<Instant>) {
        let mut differing = Vec::new();
        let mut ours = 0;
        if !self.leaving {
            for key in &*wanted.ingresses {
                let Some(seen) = seen.ingresses.get(key) else { continue };
                ours += usize::from(seen.is_ours);
                let Some(addresses) = &wanted.addresses else { continue };
                if !is_same(&seen.addresses, addresses) {
                    differing.push(key.clone());
                } else if let Some(written) = self.ingresses.get_mut(key) {
                    written.before = None;
                    if now > written.at + 2 * round(ROUNDS) {
                        (written.rounds, written.left) = (0, false);
                    }
                }
            }
            for (key, status) in &*wanted.policies {
                let there = seen.policies.get(key);
                if there.is_some_and(|there| !conditions::says(there.status.as_ref(), status)) {
                    differing.push(key.clone());
                }
            }
        }
        let later = self.look_for_unowned(wanted, seen, ours, now);
        let due = self.unowned.iter().filter(|(_, since)| now >= **since + self.patience);
        differing.extend(due.map(|(key, _)| key.clone()));
        if self.ingresses.len() > 2 * seen.ingresses.len() + 16 {
            self.ingresses.retain(|key, _| seen.ingresses.contains_key(key));
        }
        if self.policies.len() > 2 * seen.policies.len() + 16 {
            self.policies.retain(|key, _| seen.policies.contains_key(key));
        }
        (differing, later)
    }

    /// Notes Ingresses that have addresses of ours and are not among `ours`. Returns when the next of them has had its time.
    fn look_for_unowned(&mut self, wanted: &Wanted, seen: &Objects, ours: usize, now: Instant) -> Option<Instant> {
        const FEW: usize = 3;
        // Most of the time every status of ours is on an Ingress of ours, and nothing more is to be looked at.
        let all = seen.ingresses.values().filter(|seen| seen.is_ours).count();
        let before = std::mem::take(&mut self.unowned);
        if all > ours {
            let unowned = seen.ingresses.iter().filter(|(key, seen)| {
                seen.is_ours && !seen.addresses.is_empty() && (self.leaving || !wanted.ingresses.contains(*key))
            });
            self.unowned = unowned.map(|(key, _)| (key.clone(), before.get(key).copied().unwrap_or(now))).collect();
        }
        self.patience = if self.leaving {
            Duration::ZERO
        } else if self.unowned.len() > FEW && self.unowned.len() * 2 > all {
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
        if self.leaving || !wanted.ingresses.contains(key) {
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
                let written = Written { uid: write.uid, addresses, at: now, before: Some(before), rounds, left };
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
