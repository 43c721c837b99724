//! Who uses what: what hosts make of Secrets, policies and backends, for what is to be said about those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Effect;
use super::backend::BackendProblem;
use super::ingress::BackendUse;
use super::terminate::{PolicyUse, SecretUse};
use crate::snapshot::HostName;

/// What a host uses.
#[derive(PartialEq)]
pub(super) struct HostUses {
    pub(super) secrets: Vec<SecretUse>,
    pub(super) policy: PolicyUse,
    pub(super) backends: Vec<BackendUse>,
    /// The namespace of its oldest Ingress.
    pub(super) owner: Arc<str>,
}

impl Default for HostUses {
    fn default() -> Self {
        Self { secrets: Vec::new(), policy: PolicyUse::default(), backends: Vec::new(), owner: "".into() }
    }
}

/// Who uses a backend, and what is wrong with it.
#[derive(Default)]
pub(super) struct BackendUsers {
    pub(super) places: BTreeMap<HostName, Vec<BackendUse>>,
    pub(super) problems: Vec<BackendProblem>,
}

/// What hosts make of a Secret. Those that make the same of it are told together, and most often that is all of them.
#[derive(Default)]
pub(super) struct SecretUsers {
    /// No group is empty.
    pub(super) groups: Vec<(SecretUse, BTreeSet<HostName>)>,
}

impl SecretUsers {
    pub(super) fn insert(&mut self, host: &HostName, used: &SecretUse) {
        match self.groups.iter_mut().find(|(other, _)| other == used) {
            Some((_, hosts)) => drop(hosts.insert(host.clone())),
            None => self.groups.push((used.clone(), BTreeSet::from([host.clone()]))),
        }
    }

    pub(super) fn remove(&mut self, host: &HostName) {
        self.groups.retain_mut(|(_, hosts)| !(hosts.remove(host) && hosts.is_empty()));
    }

    /// In an order that does not depend on who came first.
    pub(super) fn groups(&self) -> Vec<(&SecretUse, &BTreeSet<HostName>)> {
        let mut groups: Vec<_> = self.groups.iter().map(|(used, hosts)| (used, hosts)).collect();
        groups.sort_unstable_by_key(|(_, hosts)| hosts.first());
        groups
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.groups().into_iter().flat_map(|(_, hosts)| hosts)
    }
}

/// What has become of a TlsPolicy for the hosts that ask for it.
#[derive(Default)]
pub(super) struct PolicyUsers {
    pub(super) hosts: BTreeMap<HostName, Effect>,
    /// Those for which another policy is in force.
    pub(super) held: BTreeSet<HostName>,
}

impl PolicyUsers {
    pub(super) fn insert(&mut self, host: &HostName, effect: Effect) {
        self.hosts.insert(host.clone(), effect);
        let _ = if effect == Effect::None { self.held.remove(host) } else { self.held.insert(host.clone()) };
    }

    pub(super) fn remove(&mut self, host: &HostName) {
        self.hosts.remove(host);
        self.held.remove(host);
    }
}
