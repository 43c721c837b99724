//! How units see the world: every question is noted, found or not.
//!
//! `unit ──asks──▶ View ──reads──▶ Graph: read → units`
//!
//! Nobody maintains "which hosts use this Secret"; it follows from what was asked. A Secret that appears later wakes
//! the hosts that missed it, because asking in vain is noted as well.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::IngressClass;

use rustls::pki_types::UnixTime;

use super::claims::{Claims, Index};
use super::held::History;
use super::policy::{Policies, Resolved};
use super::store::Store;
use super::tls::{Certificate, Certificates};
use super::{HeldPolicy, Object, ObjectKey, SecretObject};
use crate::api::tls_policy::{ChainCompletion, TlsPolicy};
use crate::snapshot::{BackendKey, HostName};
use crate::tls::ServerTls;
use crate::tls::chain::Candidates;
use crate::tls::policy::Policy;

/// A question that a unit asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Read {
    /// Which IngressClasses are there?
    Classes,
    /// What do Ingresses claim on this host?
    Host(HostName),
    /// What is this object?
    Object(ObjectKey),
    /// Which namespaces have a TlsPolicy of this name?
    Policies(Arc<str>),
    /// Which Secrets are there in this namespace?
    Secrets(Arc<str>),
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
    /// What is to be said about a TlsPolicy.
    Policy(ObjectKey),
    /// What is to be said about a Secret that hosts use. Reads nothing.
    Secret(ObjectKey),
}

/// Everything that units see.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) index: Index,
    pub(super) certificates: Certificates,
    pub(super) policies: Policies,
    pub(super) history: History,
}

impl World {
    /// For one unit, at the time of the compilation.
    pub(super) fn view(&mut self, now: UnixTime) -> View<'_> {
        let Self { store, index, certificates, policies, history } = self;
        View { store, index, certificates, policies, history, now, until: None, reads: HashSet::new() }
    }
}

/// What a unit may ask, and what it has asked.
pub(super) struct View<'a> {
    store: &'a Store,
    index: &'a Index,
    certificates: &'a mut Certificates,
    policies: &'a mut Policies,
    history: &'a mut History,
    /// The time of the compilation. A unit whose result depends on it says until when the result holds.
    pub(super) now: UnixTime,
    until: Option<UnixTime>,
    reads: HashSet<Read>,
}

impl<'a> View<'a> {
    /// Notes that what the unit has seen holds only until this time.
    pub(super) fn note_until(&mut self, until: Option<UnixTime>) {
        self.until = [self.until, until].into_iter().flatten().min();
    }

    /// The last usable version of a Secret, if there is one, and until when it may be used. Not a question that is
    /// noted: it changes only with the Secret, and with the units that use it.
    pub(super) fn last_good(
        &mut self,
        key: &ObjectKey,
        exists: bool,
        ttl: Duration,
    ) -> Option<(SecretObject, Option<UnixTime>)> {
        let (held, until) = self.history.secret(key, exists, self.now, ttl)?;
        Some((held.secret, until))
    }

    /// The policy that was in force for a host of this namespace. Not a question that is noted: it changes only with
    /// the unit that asks.
    pub(super) fn previous_policy(&mut self, host: &HostName, owner: &str) -> Option<Arc<Resolved>> {
        let held = self.history.policy(host).filter(|held| *held.owner == *owner)?;
        let source = HeldPolicy::clone(&held.policy);
        Some(self.policies.resolve(source))
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

    pub(super) fn secret(&mut self, key: &ObjectKey) -> Option<&'a SecretObject> {
        match self.object(key) {
            Some(Object::Secret(secret)) => Some(secret),
            Some(_) | None => None,
        }
    }

    pub(super) fn policy(&mut self, key: &ObjectKey) -> Option<&'a Arc<TlsPolicy>> {
        match self.object(key) {
            Some(Object::TlsPolicy(policy)) => Some(policy),
            Some(_) | None => None,
        }
    }

    pub(super) fn namespaces_with_policy(&mut self, name: &Arc<str>) -> Vec<Arc<str>> {
        self.reads.insert(Read::Policies(name.clone()));
        self.store.namespaces_with_policy(name)
    }

    /// True if a document names the object and is not valid.
    pub(super) fn is_refused(&mut self, key: &ObjectKey) -> bool {
        self.reads.insert(Read::Object(key.clone()));
        self.store.is_refused(key)
    }

    /// What a Secret holds for TLS; `None` if it does not exist.
    pub(super) fn certificate(&mut self, key: &ObjectKey) -> Option<Arc<Certificate>> {
        let secret = self.secret(key)?;
        Some(self.certificates.of_secret(key, secret))
    }

    /// What a version of a Secret holds that need not be the one that is there now.
    pub(super) fn certificate_of(&mut self, secret: &SecretObject) -> Arc<Certificate> {
        self.certificates.of_content(secret)
    }

    /// The certificate with its chain completed, as far as the certificates at hand allow.
    pub(super) fn completed(
        &mut self,
        key: &ObjectKey,
        secret: &SecretObject,
        certificate: Arc<Certificate>,
        from: ChainCompletion,
        bundle: &Candidates,
    ) -> Arc<Certificate> {
        if certificate.credential.as_ref().is_none_or(|credential| !credential.has_gap()) {
            return certificate;
        }
        match from {
            ChainCompletion::FromBundle => self.certificates.completed(secret, certificate, bundle),
            ChainCompletion::FromCluster => {
                self.reads.insert(Read::Secrets(key.namespace.clone()));
                let pool = self.certificates.pool(&key.namespace, self.store.secrets(&key.namespace));
                self.certificates.completed(secret, certificate, &pool)
            }
        }
    }

    /// How these certificates are served under the policy.
    pub(super) fn server(
        &mut self,
        certificates: &[Arc<Certificate>],
        policy: &Policy,
    ) -> Result<Arc<ServerTls>, String> {
        self.certificates.server(certificates, policy)
    }

    /// What a policy with everything that it refers to comes to.
    pub(super) fn resolve(&mut self, policy: HeldPolicy) -> Arc<Resolved> {
        self.policies.resolve(policy)
    }

    /// What a TlsPolicy comes to.
    pub(super) fn resolve_object(
        &mut self,
        key: &ObjectKey,
        policy: &Arc<TlsPolicy>,
        client_ca: Option<&SecretObject>,
    ) -> Arc<Resolved> {
        self.policies.resolve_object(key, policy, client_ca)
    }

    pub(super) fn into_reads(self) -> HashSet<Read> {
        self.reads
    }

    /// What was asked, and until when the result holds if time alone changes it.
    pub(super) fn into_parts(self) -> (HashSet<Read>, Option<UnixTime>) {
        (self.reads, self.until)
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

    /// What a unit asked when it was built last.
    pub(super) fn reads(&self, unit: &Unit) -> impl Iterator<Item = &Read> {
        self.reads.get(unit).into_iter().flatten()
    }

    /// Everything that some unit asked.
    pub(super) fn questions(&self) -> impl Iterator<Item = &Read> {
        self.readers.keys()
    }
}
