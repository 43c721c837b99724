//! How units see the world: every question is noted, found or not.
//!
//! `unit ──asks──▶ View ──reads──▶ Graph: read → units`
//!
//! Nobody maintains "which hosts use this Secret"; it follows from what was asked. A Secret that appears later wakes
//! the hosts that missed it, because asking in vain is noted as well.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::IngressClass;

use super::claims::{Claims, Index};
use super::store::Store;
use super::tls::{Certificate, Certificates};
use super::{Kind, Object, ObjectKey};
use crate::snapshot::{BackendKey, HostName};

/// A question that a unit asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Read {
    /// Which IngressClasses are there?
    Classes,
    /// What do Ingresses claim on this host?
    Host(HostName),
    /// What is this object?
    Object(ObjectKey),
    /// Which EndpointSlices does this Service (namespace, name) have?
    Slices(Arc<str>, Arc<str>),
}

/// A piece of the result that is built apart from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unit {
    /// A Service port and its endpoints.
    Backend(BackendKey),
    /// The default certificate.
    Default,
    /// A virtual host.
    Host(HostName),
    /// What one Ingress claims.
    Ingress(ObjectKey),
    /// What is to be said about a Secret that hosts use. Reads nothing.
    Secret(ObjectKey),
}

/// What a unit may ask, and what it has asked.
pub(super) struct View<'a> {
    store: &'a Store,
    index: &'a Index,
    certificates: &'a mut Certificates,
    reads: HashSet<Read>,
}

impl<'a> View<'a> {
    pub(super) fn new(store: &'a Store, index: &'a Index, certificates: &'a mut Certificates) -> Self {
        Self { store, index, certificates, reads: HashSet::new() }
    }

    pub(super) fn object(&mut self, key: &ObjectKey) -> Option<&'a Object> {
        self.reads.insert(Read::Object(key.clone()));
        self.store.object(key)
    }

    pub(super) fn classes(&mut self) -> impl Iterator<Item = &'a Arc<IngressClass>> {
        self.reads.insert(Read::Classes);
        self.store.classes()
    }

    pub(super) fn slices(
        &mut self,
        namespace: &Arc<str>,
        service: &Arc<str>,
    ) -> Vec<(&'a ObjectKey, &'a Arc<EndpointSlice>)> {
        self.reads.insert(Read::Slices(namespace.clone(), service.clone()));
        self.store.slices(namespace, service)
    }

    /// What Ingresses claim on a host, oldest first.
    pub(super) fn claims(&mut self, host: &HostName) -> &'a [Arc<Claims>] {
        self.reads.insert(Read::Host(host.clone()));
        self.index.on_host(host)
    }

    /// What a Secret holds for TLS; `None` if it does not exist.
    pub(super) fn certificate(&mut self, namespace: &str, name: &str) -> Option<Arc<Certificate>> {
        let key = ObjectKey::new(Kind::Secret, namespace, name);
        match self.object(&key) {
            Some(Object::Secret(secret)) => Some(self.certificates.of_secret(&key, secret)),
            Some(_) | None => None,
        }
    }

    pub(super) fn into_reads(self) -> HashSet<Read> {
        self.reads
    }
}

/// Who asked what.
#[derive(Default)]
pub(super) struct Graph {
    readers: HashMap<Read, HashSet<Unit>>,
    reads: HashMap<Unit, HashSet<Read>>,
}

impl Graph {
    /// Notes what a unit asked when it was built last. Returns the questions that nobody asks any more.
    pub(super) fn record(&mut self, unit: Unit, reads: HashSet<Read>) -> Vec<Read> {
        let mut dropped = Vec::new();
        let before = self.reads.remove(&unit).unwrap_or_default();
        for read in before.difference(&reads) {
            if let Some(units) = self.readers.get_mut(read) {
                units.remove(&unit);
                if units.is_empty() {
                    self.readers.remove(read);
                    dropped.push(read.clone());
                }
            }
        }
        for read in reads.difference(&before) {
            self.readers.entry(read.clone()).or_default().insert(unit.clone());
        }
        if !reads.is_empty() {
            self.reads.insert(unit, reads);
        }
        dropped
    }

    pub(super) fn readers(&self, read: &Read) -> impl Iterator<Item = &Unit> {
        self.readers.get(read).into_iter().flatten()
    }
}
