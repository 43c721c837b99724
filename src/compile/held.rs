//! What was usable last: served where what is there now cannot be.
//!
//! `accepted by every host ──▶ Held ──▶ the next compilation, or the next process (state.rs)`
//!
//! The compiler remembers the last usable version of each Secret and the last policy that worked for each host. This
//! history is part of its input: what it holds can be taken out ([`Compiled::held`](super::Compiled::held)) and given
//! to another compiler ([`Compiler::remember`](super::Compiler::remember)), which then serves the same. What nobody asks
//! for there is kept for a while: whoever needs it may only not be known yet.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use rustls::pki_types::UnixTime;

use super::{ObjectKey, SecretObject};
use crate::api::tls_policy::TlsPolicySpec;
use crate::snapshot::HostName;

/// What is served in place of something that cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// The last usable version of Secrets that some host does not accept as they are now.
    pub secrets: BTreeMap<ObjectKey, HeldSecret>,
    /// The last policy that worked, of hosts whose policy does not work now.
    pub policies: BTreeMap<HostName, PolicyOfHost>,
}

/// The last policy that worked for a host. That of the default certificate stands under the host without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOfHost {
    /// The namespace of the host's oldest Ingress: a host that another namespace claims is another host.
    pub owner: Arc<str>,
    /// The policy.
    pub policy: Arc<HeldPolicy>,
    /// Since when it stands in place of what is asked for.
    pub since: UnixTime,
    /// Since when no Ingress is known that asks for the host; `None` if one is.
    pub unclaimed_at: Option<UnixTime>,
}

/// The last usable version of a Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldSecret {
    /// What it was.
    pub secret: SecretObject,
    /// Since when it stands in place of what is there.
    pub since: UnixTime,
    /// Since when the Secret does not exist; `None` if it does.
    pub deleted_at: Option<UnixTime>,
}

impl Held {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.policies.is_empty()
    }

    /// Takes from another what is not here, and what has been held there since later: it was usable for longer.
    pub fn merge(&mut self, other: Held) {
        for (key, secret) in other.secrets {
            match self.secrets.entry(key) {
                Entry::Occupied(mut ours) if ours.get().since < secret.since => drop(ours.insert(secret)),
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => drop(place.insert(secret)),
            }
        }
        for (host, policy) in other.policies {
            match self.policies.entry(host) {
                Entry::Occupied(mut ours) if ours.get().since < policy.since => drop(ours.insert(policy)),
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => drop(place.insert(policy)),
            }
        }
    }
}

/// A policy with everything that it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldPolicy {
    /// The policy, with annotations already in it.
    pub spec: TlsPolicySpec,
    /// What stands in its `clientAuth.caSecret`; empty without one.
    pub client_ca: ClientCa,
}

/// Certificates of authorities and what they have revoked, PEM, compared by their digest: a bundle may be large, and ten
/// thousand hosts may share it.
#[derive(Clone)]
pub struct ClientCa {
    pem: Arc<[u8]>,
    revoked: Option<Arc<[u8]>>,
    digest: [u8; 32],
}

impl ClientCa {
    /// Takes copies of the certificates and, if there are any, of the revocation lists.
    pub fn new(pem: &[u8], revoked: Option<&[u8]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        // The length keeps bytes from moving between the two unnoticed.
        context.update(&(pem.len() as u64).to_be_bytes());
        context.update(pem);
        if let Some(revoked) = revoked {
            context.update(b"revoked");
            context.update(revoked);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self { pem: pem.into(), revoked: revoked.map(Into::into), digest }
    }

    /// The certificates as they stand in the Secret.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// The revocation lists as they stand in the Secret; `None` if it has no entry for them.
    pub fn revoked(&self) -> Option<&[u8]> {
        self.revoked.as_deref()
    }

    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl Default for ClientCa {
    fn default() -> Self {
        Self::new(b"", None)
    }
}

impl PartialEq for ClientCa {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ClientCa {}

impl Hash for ClientCa {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCa({} bytes", self.pem.len())?;
        match &self.revoked {
            Some(revoked) => write!(f, ", {} bytes of lists)", revoked.len()),
            None => write!(f, ")"),
        }
    }
}

/// What was usable last, of everything that is in use: what [`Held`] is taken from.
#[derive(Default)]
pub(super) struct History {
    /// Secrets that every host that uses them accepts, or accepted before they changed.
    secrets: HashMap<ObjectKey, LastGood>,
    /// Policies in force.
    policies: HashMap<HostName, InForce>,
}

/// The last usable version of a Secret.
#[derive(Clone)]
pub(super) struct LastGood {
    pub(super) secret: SecretObject,
    /// Since when the Secret does not exist; `None` if it does.
    pub(super) deleted_at: Option<UnixTime>,
}

/// The policy of a host, and the namespace that the host belongs to.
#[derive(Clone)]
pub(super) struct InForce {
    pub(super) owner: Arc<str>,
    pub(super) policy: Arc<HeldPolicy>,
}

impl History {
    /// Takes over what another compiler held.
    pub(super) fn remember_secret(&mut self, key: &ObjectKey, held: &HeldSecret) {
        self.secrets.insert(key.clone(), LastGood { secret: held.secret.clone(), deleted_at: held.deleted_at });
    }

    /// Takes over what another compiler held.
    pub(super) fn remember_policy(&mut self, host: &HostName, held: &PolicyOfHost) {
        self.policies.insert(host.clone(), InForce { owner: held.owner.clone(), policy: held.policy.clone() });
    }

    pub(super) fn last_good(&self, key: &ObjectKey) -> Option<&SecretObject> {
        self.secrets.get(key).map(|kept| &kept.secret)
    }

    /// The last usable version of a Secret. One that was deleted longer ago than `ttl` is forgotten; for the others
    /// the second value says when that will be.
    pub(super) fn secret(
        &mut self,
        key: &ObjectKey,
        exists: bool,
        now: UnixTime,
        ttl: Duration,
    ) -> Option<(LastGood, Option<UnixTime>)> {
        let held = self.secrets.get_mut(key)?;
        if exists {
            held.deleted_at = None;
            return Some((held.clone(), None));
        }
        let deleted_at = not_after(held.deleted_at, now);
        held.deleted_at = Some(deleted_at);
        let until = later(deleted_at, ttl);
        if now >= until {
            self.secrets.remove(key);
            return None;
        }
        Some((held.clone(), Some(until)))
    }

    /// The last usable version of a Secret as it is remembered, however long ago that was, for another compiler.
    pub(super) fn known_secret(&self, key: &ObjectKey, since: UnixTime) -> Option<HeldSecret> {
        let LastGood { secret, deleted_at } = self.secrets.get(key)?.clone();
        Some(HeldSecret { secret, since, deleted_at })
    }

    /// The policy in force for a host, for another compiler.
    pub(super) fn known_policy(&self, host: &HostName, since: UnixTime) -> Option<PolicyOfHost> {
        let InForce { owner, policy } = self.policies.get(host)?.clone();
        Some(PolicyOfHost { owner, policy, since, unclaimed_at: None })
    }

    /// Every host that uses the Secret accepts this version.
    pub(super) fn accept_secret(&mut self, key: &ObjectKey, secret: &SecretObject) {
        self.secrets.insert(key.clone(), LastGood { secret: secret.clone(), deleted_at: None });
    }

    /// Nobody uses the Secret any more.
    pub(super) fn forget_secret(&mut self, key: &ObjectKey) {
        self.secrets.remove(key);
    }

    pub(super) fn policy(&self, host: &HostName) -> Option<&InForce> {
        self.policies.get(host)
    }

    /// The host is served with this policy, or is gone.
    pub(super) fn set_policy(&mut self, host: &HostName, policy: Option<InForce>) {
        match policy {
            Some(policy) => drop(self.policies.insert(host.clone(), policy)),
            None => drop(self.policies.remove(host)),
        }
    }
}

/// Puts a value in its place, or takes it away.
pub(super) fn put<K: Clone + Ord, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
}

/// When something began, now if that was not noted. A clock that was set back must not make anything immortal.
pub(super) fn not_after(began: Option<UnixTime>, now: UnixTime) -> UnixTime {
    began.map_or(now, |at| at.min(now))
}

pub(super) fn later(at: UnixTime, by: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(at.as_secs()).saturating_add(by))
}
