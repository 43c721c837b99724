//! The functional core: Kubernetes objects in, a [`Snapshot`] and diagnostics out.
//!
//! ```text
//! Change ──apply──▶ Store ──which reads changed──▶ dirty units ──build──▶ Snapshot + diagnostics
//!                                                      │  ▲
//!                                                      ▼  │ recorded reads
//!                                                      View
//! ```
//!
//! It cannot fail, does no I/O and reads no clock: the same objects and the same time give the same result. The result
//! is made of units that are built apart: what an Ingress claims, a host, a backend, the default certificate. A unit
//! sees the world through a `View` that notes each question, so a change rebuilds exactly the units that had asked
//! about it. What is wrong with an object is data beside the result, never a reason to stop.

mod about;
mod absent;
mod backend;
mod claims;
mod class;
mod diagnostic;
mod held;
mod ingress;
mod laxer;
mod neighbourhood;
mod objects;
mod pattern;
mod policy;
mod references;
mod report;
mod reports;
mod shadow;
mod store;
mod terminate;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;
mod users;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use self::held::{History, InForce, LastGood};
use self::ingress::Foreseen;
use self::policy::Policies;
use self::report::backend_diagnostics;
use self::reports::Reports;
use self::store::Store;
use self::terminate::{DefaultCertificate, SecretUse, default_key};
use self::tls::Certificates;
use self::traffic::Losses;
use self::users::{BackendUsers, HostUses, PolicyUsers, SecretUsers};
use self::view::{Graph, Read, Unit, World};
use crate::snapshot::{BackendKey, HostName, HostTls, Reach, Snapshot, VirtualHost};
use crate::tls::chain::{Candidates, TrustAnchors};
use crate::tls::policy::Policy;
use crate::tls::{ServerTls, Version};
use crate::trie::Trie;

pub use absent::Absent;
pub use diagnostic::{BadAddress, BadBackend, Diagnostic, Effect, Problem, Severity, event_reason};
pub use held::{ClientCa, Held, HeldPolicy, HeldSecret, PolicyOfHost};
pub use neighbourhood::{Judged, Limits, Proposal, Sample, TooMuch, Users, brought};
pub use objects::{Change, Kind, Object, ObjectKey, Scope, SecretObject};
pub use references::secrets as referenced_secrets;
pub use report::{PolicyCondition, PolicyStatus};
pub use reports::{Diagnostics, Renewed};
pub use store::trim;

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `spec.controller` of the IngressClasses that are ours.
    pub controller: String,
    /// The value of the old annotation `kubernetes.io/ingress.class` that is ours.
    pub ingress_class: String,
    /// Classes whose Ingresses are ours as well, whichever controller they belong to, and whether they exist or not.
    pub adopted_classes: Vec<String>,
    /// Serve Ingresses that name no class, and those that name `ingress_class` while no IngressClass of that name
    /// exists: manifests in a directory rarely bring one along.
    pub watch_without_class: bool,
    /// Say of each Ingress of another class that it is not served. In a cluster this is nobody's business.
    pub report_other_classes: bool,
    /// Treat Ingresses of all classes as ours: for judging what another controller serves today.
    pub every_class: bool,
    /// Use Services of type ExternalName.
    pub allow_external_name: bool,
    /// Which addresses endpoints may have.
    pub reach: Arc<Reach>,
    /// Namespace and name of the Service through which clients reach the controller, if it is known. It and its addresses
    /// are no backend.
    pub own_service: Option<(String, String)>,
    /// Namespace and name of the Secret with the default certificate.
    pub default_tls_secret: Option<(String, String)>,
    /// Namespace and name of the TlsPolicy of hosts for which neither an Ingress nor its class names one.
    pub default_tls_policy: Option<(String, String)>,
    /// Namespace and name of the TlsPolicy that hosts try out which name none to be tried out.
    pub default_shadow_tls_policy: Option<(String, String)>,
    /// The oldest version that is served, whatever policies and annotations say.
    pub min_tls_version: Version,
    /// Who may claim paths on a host.
    pub host_ownership: HostOwnership,
    /// Certificates that may complete chains, where a policy says `fromBundle`.
    pub intermediates: Arc<Candidates>,
    /// How long the last usable version of a Secret is served after the Secret was deleted.
    pub last_good_ttl: Duration,
    /// Whom clients are taken to trust, beside the `ca.crt` of each Secret.
    pub trust_anchors: Arc<TrustAnchors>,
}

/// Who may claim paths on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostOwnership {
    /// Every Ingress, oldest first.
    #[default]
    Merge,
    /// Ingresses of the namespace whose Ingress is the oldest on the host.
    Namespace,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller: "handfast.dev/ingress-controller".to_owned(),
            ingress_class: "handfast".to_owned(),
            adopted_classes: Vec::new(),
            watch_without_class: false,
            report_other_classes: false,
            every_class: false,
            allow_external_name: false,
            reach: Arc::default(),
            own_service: None,
            default_tls_secret: None,
            default_tls_policy: None,
            default_shadow_tls_policy: None,
            min_tls_version: Version::Tls12,
            host_ownership: HostOwnership::default(),
            intermediates: Arc::default(),
            last_good_ttl: Duration::from_secs(24 * 60 * 60),
            trust_anchors: Arc::new(TrustAnchors::public()),
        }
    }
}

/// What came of a compilation.
#[derive(Clone)]
pub struct Compiled {
    /// What is served.
    pub snapshot: Arc<Snapshot>,
    /// Everything that is wrong now, sorted. The same `Arc` as before if nothing changed.
    pub diagnostics: Arc<Diagnostics>,
    /// When time alone changes the result: a certificate begins to be valid, or expires.
    pub recompile_at: Option<UnixTime>,
    /// End of validity of each certificate of the chain in each Secret that is served, leaf first.
    pub certificates: Trie<ObjectKey, Vec<UnixTime>>,
    /// What is to be said about each TlsPolicy.
    pub policies: Trie<ObjectKey, Arc<PolicyStatus>>,
    /// What is served in place of what cannot be. The same `Arc` as before if nothing changed.
    pub held: Arc<Held>,
    /// The Ingresses that are served: ours, with at least one host.
    pub ingresses: Trie<ObjectKey, ()>,
    /// How much work it was.
    pub stats: Stats,
}

/// How many units a compilation built, and how many it took over as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Service ports.
    pub backends: Units,
    /// Virtual hosts.
    pub hosts: Units,
    /// Ingresses that are served.
    pub ingresses: Units,
    /// TLS configurations.
    pub tls: Units,
}

/// Units of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Built by this compilation, removals included.
    pub built: usize,
    /// Taken over as they were.
    pub reused: usize,
}

impl Units {
    fn new(built: usize, total: usize) -> Self {
        Self { built, reused: total.saturating_sub(built) }
    }
}

/// Compiles from scratch.
pub fn compile(options: &Options, objects: impl IntoIterator<Item = Object>, now: UnixTime) -> Compiled {
    let mut compiler = Compiler::new(options.clone());
    compiler.apply(Change::Replace(Scope("".into()), objects.into_iter().collect()));
    compiler.compile(now)
}

/// Objects, and everything that was made of them.
pub struct Compiler {
    options: Options,
    /// The only hosts that are built; all of them if there is none.
    focus: Option<Arc<BTreeSet<HostName>>>,
    world: World,
    graph: Graph,
    hosts: HashMap<HostName, HostUses>,
    backends: HashMap<BackendKey, BackendUsers>,
    secrets: HashMap<ObjectKey, SecretUsers>,
    policies: HashMap<ObjectKey, PolicyUsers>,
    /// What the default certificate for unknown names uses.
    default_uses: Vec<SecretUse>,
    /// End of validity of the chain in each Secret that is served.
    ends: Trie<ObjectKey, Vec<UnixTime>>,
    statuses: Trie<ObjectKey, Arc<PolicyStatus>>,
    held: Arc<Held>,
    /// Ingresses that are served.
    served: Trie<ObjectKey, ()>,
    /// When time alone changes a unit.
    schedule: BTreeSet<(UnixTime, Unit)>,
    scheduled: HashMap<Unit, UnixTime>,
    reports: Reports,
    losses: Losses,
    snapshot: Arc<Snapshot>,
    /// The time of the last compilation.
    compiled_at: Option<UnixTime>,
    /// Something was remembered since.
    remembers: bool,
    /// How many compilations a bug is going to end.
    #[cfg(test)]
    pub(crate) faults: Arc<std::sync::atomic::AtomicUsize>,
}

/// What has to be built again.
#[derive(Default)]
struct Dirty {
    backends: BTreeSet<BackendKey>,
    /// Backends that are the same, and used elsewhere than before.
    backend_users: BTreeSet<BackendKey>,
    default: bool,
    hosts: BTreeSet<HostName>,
    ingresses: BTreeSet<ObjectKey>,
    policies: BTreeSet<ObjectKey>,
    secrets: BTreeSet<ObjectKey>,
    /// Hosts whose requests may get something else than before.
    traffic: BTreeSet<HostName>,
}

impl Dirty {
    fn unit(&mut self, unit: &Unit) {
        match unit {
            Unit::Backend(key) => drop(self.backends.insert(key.clone())),
            Unit::Default => self.default = true,
            Unit::Host(host) => drop(self.hosts.insert(host.clone())),
            Unit::Ingress(key) => drop(self.ingresses.insert(key.clone())),
            Unit::Policy(key) => drop(self.policies.insert(key.clone())),
            Unit::Secret(key) => drop(self.secrets.insert(key.clone())),
        }
    }
}

impl Compiler {
    /// Without any object.
    pub fn new(options: Options) -> Self {
        let world = World {
            store: Store::default(),
            index: claims::Index::default(),
            certificates: Certificates::new(options.trust_anchors.clone()),
            policies: Policies::new(options.min_tls_version),
            history: History::default(),
        };
        Self {
            options,
            focus: None,
            world,
            graph: Graph::default(),
            hosts: HashMap::new(),
            backends: HashMap::new(),
            secrets: HashMap::new(),
            policies: HashMap::new(),
            default_uses: Vec::new(),
            ends: Trie::default(),
            statuses: Trie::default(),
            held: Arc::default(),
            served: Trie::default(),
            schedule: BTreeSet::new(),
            scheduled: HashMap::new(),
            reports: Reports::default(),
            losses: Losses::default(),
            snapshot: Arc::default(),
            compiled_at: None,
            remembers: false,
            #[cfg(test)]
            faults: Arc::default(),
        }
    }

    /// Takes over what another compiler held, as far as this one knows nothing better: of a Secret a version that it
    /// holds itself, of a host a policy that is in force as it was asked for.
    pub fn remember(&mut self, held: &Held) {
        // Whoever needs it may come later (a file that cannot be read at the start, say), so it is held as of now.
        for (key, secret) in &held.secrets {
            // A version that is there now is judged again: it may have been taken for want of a better one.
            let current = self.world.store.object(key);
            let is_current = |ours: &SecretObject| matches!(current, Some(Object::Secret(secret)) if secret == ours);
            if self.world.history.last_good(key).is_some_and(|ours| !is_current(ours)) {
                continue;
            }
            self.world.history.remember_secret(key, secret);
            Arc::make_mut(&mut self.held).secrets.insert(key.clone(), secret.clone());
            self.world.store.look_again(Read::Object(key.clone()));
        }
        for (host, policy) in &held.policies {
            let is_known = match self.hosts.get(host).filter(|_| !host.is_catch_all()) {
                Some(uses) => uses.policy.held || uses.policy.effect == Some(Effect::None),
                None => self.world.history.policy(host).is_some(),
            };
            if is_known {
                continue;
            }
            self.world.history.remember_policy(host, policy);
            Arc::make_mut(&mut self.held).policies.insert(host.clone(), policy.clone());
            self.world.store.look_again(Read::Host(host.clone()));
        }
        self.remembers = true;
    }

    /// The objects of a kind, as they are kept, with the scopes that define them. Sorted, so that the same objects
    /// make the same list; cheap, because objects are shared.
    pub fn objects(&self, kind: Kind) -> Vec<(ObjectKey, Scope, Object)> {
        self.world.store.objects(kind)
    }

    /// Counts the changes of the objects of each kind: where it is the same as before, so are [`Compiler::objects`].
    pub fn revisions(&self) -> &BTreeMap<Kind, u64> {
        &self.world.store.revisions
    }

    /// Forgets all that was built, and what it was built from not: the next compilation is like a first one, with the memory
    /// of what was good. For after one that a bug has ended in the middle.
    pub fn begin_anew(&mut self) {
        let mut anew = Self::new(self.options.clone());
        anew.world.store = std::mem::take(&mut self.world.store);
        anew.world.store.look_at_everything();
        anew.world.history = std::mem::take(&mut self.world.history);
        anew.held = std::mem::take(&mut self.held);
        #[cfg(test)]
        anew.faults.clone_from(&self.faults);
        *self = anew;
    }

    /// Takes a change in. Cheap: nothing is built before [`Compiler::compile`].
    pub fn apply(&mut self, change: Change) {
        self.world.store.apply(change);
    }

    /// Builds what the changes since the last compilation touch, and what time has changed.
    pub fn compile(&mut self, now: UnixTime) -> Compiled {
        let is_first = self.compiled_at.is_none();
        let mut dirty = Dirty { default: is_first || self.remembers, ..Dirty::default() };
        self.remembers = false;
        for read in self.world.store.take_changed() {
            match &read {
                Read::Object(key) if key.kind == Kind::Ingress => drop(dirty.ingresses.insert(key.clone())),
                Read::Object(key) if key.kind == Kind::TlsPolicy => drop(dirty.policies.insert(key.clone())),
                Read::Object(key) if key.kind == Kind::Secret => {
                    self.world.certificates.retire(key);
                    dirty.secrets.insert(key.clone());
                }
                Read::Secrets(namespace) => self.world.certificates.forget_pool(namespace),
                Read::Classes | Read::Host(_) | Read::Object(_) | Read::Policies(_) | Read::Slices(..) => {}
            }
            self.graph.readers(&read).for_each(|unit| dirty.unit(unit));
        }
        if self.compiled_at.is_some_and(|before| now < before) {
            // A clock that was set back makes what was said about any certificate or list doubtful.
            dirty.policies.extend(self.statuses.keys().cloned());
            dirty.secrets.extend(self.secrets.keys().cloned());
            dirty.hosts.extend(self.hosts.keys().cloned());
            dirty.default = true;
        } else {
            self.schedule.iter().take_while(|(at, _)| *at <= now).for_each(|(_, unit)| dirty.unit(unit));
        }
        self.compiled_at = Some(now);

        // Each step may make later ones dirty, and no earlier one.
        let ingresses = self.build_ingresses(&mut dirty, now);
        if let Some(focus) = &self.focus {
            dirty.hosts.retain(|host| focus.contains(host));
        }
        self.prepare_certificates(&dirty, now);
        self.build_default(&mut dirty, now);
        let hosts = self.build_hosts(&mut dirty, now);
        #[cfg(test)]
        tests::fail_if_told(&self.faults);
        let backends = self.build_backends(&mut dirty, now);
        for key in std::mem::take(&mut dirty.policies) {
            self.report_policy(key, now);
        }
        for key in std::mem::take(&mut dirty.secrets) {
            self.report_secret(key, now);
        }
        let forget_at = self.forget_unclaimed(now);
        let (tls_built, tls_total) = self.world.certificates.finish();
        if self.world.store.reports_changed {
            self.reports.report(None, self.world.store.diagnostics());
        }
        let diagnostics = self.reports.settle();
        self.judge_traffic(dirty.traffic, &diagnostics);
        Compiled {
            snapshot: self.snapshot.clone(),
            diagnostics,
            recompile_at: terminate::earliest(self.schedule.first().map(|(at, _)| *at), forget_at),
            certificates: self.ends.clone(),
            policies: self.statuses.clone(),
            held: self.held.clone(),
            ingresses: self.served.clone(),
            stats: Stats {
                backends: Units::new(backends, self.backends.len()),
                hosts: Units::new(hosts, self.hosts.len()),
                ingresses: Units::new(ingresses, self.world.index.len()),
                tls: Units::new(tls_built, tls_total),
            },
        }
    }

    /// Lets go what was remembered of Secrets and hosts that nobody asks for, after the time that deleted ones have.
    /// Returns when that is to be done again.
    fn forget_unclaimed(&mut self, now: UnixTime) -> Option<UnixTime> {
        let unclaimed = self.held.secrets.keys().filter(|key| !self.secrets.contains_key(*key));
        let unclaimed: Vec<ObjectKey> = unclaimed.cloned().collect();
        let mut next = None;
        for key in unclaimed {
            let held = self.world.history.secret(&key, false, now, self.options.last_good_ttl);
            let (kept, until) = held.unzip();
            next = terminate::earliest(next, until.flatten());
            self.hold_secret(&key, kept, now);
        }
        let is_claimed = |host: &HostName| match host.is_catch_all() {
            true => default_key(&self.options).is_some(),
            false => self.hosts.contains_key(host),
        };
        let unclaimed: Vec<HostName> = self.held.policies.keys().filter(|host| !is_claimed(host)).cloned().collect();
        for host in unclaimed {
            let Some(before) = self.held.policies.get(&host) else { continue };
            let unclaimed_at = held::not_after(before.unclaimed_at, now);
            let until = held::later(unclaimed_at, self.options.last_good_ttl);
            let kept = (now < until).then(|| PolicyOfHost { unclaimed_at: Some(unclaimed_at), ..before.clone() });
            match &kept {
                Some(_) => next = terminate::earliest(next, Some(until)),
                None => self.world.history.set_policy(&host, None),
            }
            if kept.as_ref() != Some(before) {
                held::put(&mut Arc::make_mut(&mut self.held).policies, &host, kept);
            }
        }
        next
    }

    /// Notes which version of a Secret stands in place of what is there now.
    fn hold_secret(&mut self, key: &ObjectKey, kept: Option<LastGood>, now: UnixTime) {
        let before = self.held.secrets.get(key);
        let since = held::not_after(before.map(|before| before.since), now);
        let held = kept.map(|LastGood { secret, deleted_at }| HeldSecret { secret, since, deleted_at });
        if before != held.as_ref() {
            held::put(&mut Arc::make_mut(&mut self.held).secrets, key, held);
        }
    }

    fn build_ingresses(&mut self, dirty: &mut Dirty, now: UnixTime) -> usize {
        let keys = std::mem::take(&mut dirty.ingresses);
        let built = keys.len();
        for key in keys {
            let mut view = self.world.view(now);
            let (claims, diagnostics) = match view.object(&key) {
                Some(Object::Ingress(ingress)) => claims::claims(&mut view, &self.options, &key, ingress),
                Some(_) | None => (None, Vec::new()),
            };
            // An Ingress that is gone asks for nothing; it is found again by its own key when it comes back.
            let reads = view.into_reads();
            let reads = if self.world.store.object(&key).is_some() { reads } else { HashSet::new() };
            let is_served = claims.as_ref().is_some_and(|claims| claims.is_ours && !claims.hosts.is_empty());
            if is_served != self.served.contains_key(&key) {
                self.served.set(&key, is_served.then_some(()));
            }
            for host in self.world.index.replace(&key, claims) {
                self.graph.readers(&Read::Host(host.clone())).for_each(|unit| dirty.unit(unit));
                dirty.hosts.insert(host);
            }
            self.record(Unit::Ingress(key), reads, diagnostics);
        }
        built
    }

    /// Builds certificates in parallel before hosts ask for them one by one, if they are many.
    fn prepare_certificates(&mut self, dirty: &Dirty, now: UnixTime) {
        let mut view = self.world.view(now);
        let mut policies: BTreeMap<ObjectKey, Option<Policy>> = BTreeMap::new();
        for host in &dirty.hosts {
            let Some(Foreseen { secrets, policy }) = ingress::foreseen(&mut view, &self.options, host) else {
                continue;
            };
            for secret in secrets {
                policies.entry(secret).or_insert_with(|| policy.clone());
            }
        }
        let World { store, certificates, .. } = &mut self.world;
        let wanted = policies.iter().filter_map(|(key, policy)| match store.object(key) {
            Some(Object::Secret(secret)) => Some((key, secret, policy.as_ref())),
            Some(_) | None => None,
        });
        certificates.prepare(wanted);
    }

    fn build_default(&mut self, dirty: &mut Dirty, now: UnixTime) {
        if !std::mem::take(&mut dirty.default) {
            return;
        }
        let mut view = self.world.view(now);
        let mut diagnostics = Vec::new();
        if let Some(policy) = policy::missing_default(&mut view, &self.options) {
            diagnostics.push(policy);
        }
        diagnostics.extend(shadow::unusable_default(&mut view, &self.options));
        let Some(key) = default_key(&self.options) else {
            let reads = view.into_reads();
            self.record(Unit::Default, reads, diagnostics);
            return;
        };
        let DefaultCertificate { server, uses, held } = terminate::default_certificate(&mut view, &self.options);
        let is_missing = view.secret(&key).is_none();
        let (reads, changes_at) = view.into_parts();
        if let Some((_, policy)) = &server {
            let policy = InForce { owner: "".into(), policy: policy.source.clone() };
            self.world.history.set_policy(&HostName::catch_all(), Some(policy));
        }
        self.hold_policy(&HostName::catch_all(), held, now);
        let found = server.map(|(server, _)| server);
        if is_missing {
            diagnostics.push(Diagnostic {
                subject: key.clone(),
                field: "".into(),
                problem: Problem::SecretNotFound { secret: key.path(), redirected: false },
                effect: uses.first().map_or(Effect::HostRefused, |used| used.outcome.effect()),
                hosts: Vec::new(),
            });
        }
        if found.as_ref().map(Arc::as_ptr) != self.snapshot.default_tls.as_ref().map(Arc::as_ptr) {
            found.iter().for_each(|after| self.world.certificates.use_server(after));
            let before = std::mem::replace(&mut Arc::make_mut(&mut self.snapshot).default_tls, found);
            before.iter().for_each(|before| self.world.certificates.release_server(before));
        }
        self.default_uses = uses;
        self.secrets.entry(key.clone()).or_default();
        dirty.secrets.insert(key);
        self.schedule(&Unit::Default, changes_at);
        self.record(Unit::Default, reads, diagnostics);
    }

    fn build_hosts(&mut self, dirty: &mut Dirty, now: UnixTime) -> usize {
        let names = std::mem::take(&mut dirty.hosts);
        let built = names.len();
        for name in names {
            let mut view = self.world.view(now);
            let host = ingress::virtual_host(&mut view, &self.options, &name);
            let (reads, changes_at) = view.into_parts();
            let (reads, diagnostics, uses, changes_at) = match host {
                Some(built) => {
                    let before = self.snapshot.hosts.get(&name);
                    if !before.is_some_and(|before| is_same(before, &built.host)) {
                        let host = Arc::new(built.host);
                        server(&host).for_each(|after| self.world.certificates.use_server(after));
                        let before = Arc::make_mut(&mut self.snapshot).hosts.insert(name.clone(), host);
                        let before = before.iter().flat_map(|before| server(before));
                        before.for_each(|before| self.world.certificates.release_server(before));
                    }
                    let uses = HostUses {
                        secrets: built.secrets,
                        policy: built.policy,
                        backends: built.backends,
                        owner: built.owner,
                    };
                    (reads, built.diagnostics, Some(uses), changes_at)
                }
                None => {
                    if self.snapshot.hosts.contains_key(&name) {
                        let before = Arc::make_mut(&mut self.snapshot).hosts.remove(&name);
                        let before = before.iter().flat_map(|before| server(before));
                        before.for_each(|before| self.world.certificates.release_server(before));
                    }
                    // Nobody claims it; the next claim finds it by its name.
                    Default::default()
                }
            };
            self.note_uses(&name, uses, dirty, now);
            dirty.traffic.insert(name.clone());
            self.schedule(&Unit::Host(name.clone()), changes_at);
            self.record(Unit::Host(name), reads, diagnostics);
        }
        built
    }

    /// Notes whether the policy that is in force for a host is one from before.
    fn hold_policy(&mut self, host: &HostName, is_held: bool, now: UnixTime) {
        let before = self.held.policies.get(host);
        let since = held::not_after(before.map(|before| before.since), now);
        let held = self.world.history.policy(host).filter(|_| is_held).cloned();
        let held = held.map(|InForce { owner, policy }| PolicyOfHost { owner, policy, since, unclaimed_at: None });
        if before != held.as_ref() {
            held::put(&mut Arc::make_mut(&mut self.held).policies, host, held);
        }
    }

    /// Keeps the users of backends, Secrets and policies.
    fn note_uses(&mut self, host: &HostName, uses: Option<HostUses>, dirty: &mut Dirty, now: UnixTime) {
        if uses.is_none() && !self.hosts.contains_key(host) {
            return;
        }
        // The host without a name is answered by the default certificate, whose policy stands in its place.
        if !host.is_catch_all() {
            let in_force = uses.as_ref().map(|uses| {
                let owner = uses.owner.clone();
                uses.policy.in_force.clone().map(|policy| InForce { owner, policy })
            });
            match in_force {
                Some(Some(policy)) => self.world.history.set_policy(host, Some(policy)),
                // Refused: what was in force before may be again.
                Some(None) => {}
                None => self.world.history.set_policy(host, None),
            }
            self.hold_policy(host, uses.as_ref().is_some_and(|uses| uses.policy.held), now);
        }
        if self.hosts.get(host) == uses.as_ref() {
            return;
        }
        let before = self.hosts.remove(host).unwrap_or_default();
        for used in before.secrets {
            if let Some(users) = self.secrets.get_mut(&used.secret) {
                users.remove(host);
            }
            dirty.secrets.insert(used.secret);
        }
        for used in before.backends {
            if let Some(users) = self.backends.get_mut(&used.backend) {
                users.places.remove(host);
            }
            dirty.backend_users.insert(used.backend);
        }
        if let Some(key) = before.policy.asked {
            if let Some(users) = self.policies.get_mut(&key) {
                users.remove(host);
            }
            dirty.policies.insert(key);
        }
        let Some(uses) = uses else { return };
        if let Some(key) = &uses.policy.asked {
            let users = self.policies.entry(key.clone()).or_default();
            users.insert(host, uses.policy.effect.unwrap_or(Effect::None));
            dirty.policies.insert(key.clone());
        }
        for used in &uses.secrets {
            let users = self.secrets.entry(used.secret.clone()).or_default();
            users.insert(host, used);
            dirty.secrets.insert(used.secret.clone());
        }
        for used in &uses.backends {
            let users = self.backends.entry(used.backend.clone()).or_insert_with(|| {
                dirty.backends.insert(used.backend.clone());
                BackendUsers::default()
            });
            users.places.entry(host.clone()).or_default().push(used.clone());
            dirty.backend_users.insert(used.backend.clone());
        }
        self.hosts.insert(host.clone(), uses);
    }

    fn build_backends(&mut self, dirty: &mut Dirty, now: UnixTime) -> usize {
        let keys = std::mem::take(&mut dirty.backends);
        let mut users_changed = std::mem::take(&mut dirty.backend_users);
        let mut built = 0;
        for key in keys {
            users_changed.remove(&key);
            built += 1;
            let Some(users) = self.backends.get_mut(&key).filter(|users| !users.places.is_empty()) else {
                self.forget_backend(&key);
                continue;
            };
            let mut view = self.world.view(now);
            let result = backend::backend(&mut view, &self.options, &key);
            let reads = view.into_reads();
            users.problems = result.problems;
            let diagnostics = backend_diagnostics(users);
            let before = self.snapshot.backends.get(&key);
            if before.is_none_or(|before| before.state != result.backend.state) {
                dirty.traffic.extend(users.places.keys().cloned());
            }
            if before.is_none_or(|before| **before != result.backend) {
                Arc::make_mut(&mut self.snapshot).backends.insert(key.clone(), Arc::new(result.backend));
            }
            self.record(Unit::Backend(key), reads, diagnostics);
        }
        for key in users_changed {
            match self.backends.get(&key) {
                Some(users) if !users.places.is_empty() => {
                    let diagnostics = backend_diagnostics(users);
                    self.reports.report(Some(Unit::Backend(key)), diagnostics);
                }
                Some(_) | None => {
                    built += 1;
                    self.forget_backend(&key);
                }
            }
        }
        built
    }

    fn forget_backend(&mut self, key: &BackendKey) {
        self.backends.remove(key);
        if self.snapshot.backends.contains_key(key) {
            Arc::make_mut(&mut self.snapshot).backends.remove(key);
        }
        self.record(Unit::Backend(key.clone()), Default::default(), Vec::new());
    }

    /// Notes when time alone changes a unit.
    fn schedule(&mut self, unit: &Unit, at: Option<UnixTime>) {
        let before = match at {
            Some(at) => self.scheduled.insert(unit.clone(), at),
            None => self.scheduled.remove(unit),
        };
        if let Some(before) = before {
            self.schedule.remove(&(before, unit.clone()));
        }
        if let Some(at) = at {
            self.schedule.insert((at, unit.clone()));
        }
    }

    fn record(&mut self, unit: Unit, reads: HashSet<Read>, diagnostics: Vec<Diagnostic>) {
        for read in self.graph.record(unit.clone(), reads) {
            match read {
                Read::Object(key) if key.kind == Kind::Secret => self.world.certificates.retire(&key),
                Read::Secrets(namespace) => self.world.certificates.forget_pool(&namespace),
                Read::Classes | Read::Host(_) | Read::Object(_) | Read::Policies(_) | Read::Slices(..) => {}
            }
        }
        self.reports.report(Some(unit), diagnostics);
    }
}

/// What a host is served with.
fn server(host: &VirtualHost) -> impl Iterator<Item = &Arc<ServerTls>> {
    let server = match &host.tls {
        HostTls::Terminate(server) => Some(server),
        HostTls::Absent | HostTls::Refuse => None,
    };
    server.into_iter()
}

/// Equal in all that is served. The one that is there then stays, and with it everything that hangs on its identity.
fn is_same(before: &VirtualHost, after: &VirtualHost) -> bool {
    let tls = match (&before.tls, &after.tls) {
        (HostTls::Absent, HostTls::Absent) | (HostTls::Refuse, HostTls::Refuse) => true,
        (HostTls::Terminate(before), HostTls::Terminate(after)) => Arc::ptr_eq(before, after),
        (HostTls::Absent | HostTls::Refuse | HostTls::Terminate(_), _) => false,
    };
    tls && (&before.name, before.serving, &before.hsts, before.https_only, &before.shadow, &before.ingresses)
        == (&after.name, after.serving, &after.hsts, after.https_only, &after.shadow, &after.ingresses)
        && before.policy == after.policy
        && before.routes.routes() == after.routes.routes()
}
