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
mod backend;
mod claims;
mod class;
mod diagnostic;
mod held;
mod ingress;
mod objects;
mod store;
mod tls;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rustls::pki_types::UnixTime;

use self::backend::BackendProblem;
use self::ingress::BackendUse;
use self::store::Store;
use self::tls::Certificates;
use self::view::{Graph, Read, Unit, View};
use crate::snapshot::{BackendKey, HostName, HostTls, Snapshot, VirtualHost};
use crate::tls::chain::TrustAnchors;

pub use diagnostic::{BadAddress, BadBackend, Diagnostic, Effect, Problem, Severity};
pub use held::{Held, HeldPolicy, HeldSecret};
pub use objects::{Change, Kind, Object, ObjectKey, Scope, SecretObject};

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `spec.controller` of the IngressClasses that are ours.
    pub controller: String,
    /// The value of the old annotation `kubernetes.io/ingress.class` that is ours.
    pub ingress_class: String,
    /// Serve Ingresses that name no class, and those that name `ingress_class` while no IngressClass of that name
    /// exists: manifests in a directory rarely bring one along.
    pub watch_without_class: bool,
    /// Say of each Ingress of another class that it is not served. In a cluster this is nobody's business.
    pub report_other_classes: bool,
    /// Use Services of type ExternalName.
    pub allow_external_name: bool,
    /// Send traffic to endpoints on this machine.
    pub allow_loopback_endpoints: bool,
    /// Namespace and name of the Secret with the default certificate.
    pub default_tls_secret: Option<(String, String)>,
    /// Who may claim paths on a host.
    pub host_ownership: HostOwnership,
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
            watch_without_class: false,
            report_other_classes: false,
            allow_external_name: false,
            allow_loopback_endpoints: false,
            default_tls_secret: None,
            host_ownership: HostOwnership::default(),
            trust_anchors: Arc::new(TrustAnchors::public()),
        }
    }
}

/// What came of a compilation.
#[derive(Clone)]
pub struct Compiled {
    /// What is served.
    pub snapshot: Arc<Snapshot>,
    /// Everything that is wrong now, sorted.
    pub diagnostics: Arc<[Diagnostic]>,
    /// When time alone changes the result: a certificate begins to be valid, or expires.
    pub recompile_at: Option<UnixTime>,
    /// End of validity of the leaf in each Secret that is served. The same `Arc` as before if nothing changed.
    pub certificates: Arc<BTreeMap<ObjectKey, UnixTime>>,
    /// What is served in place of what cannot be. The same `Arc` as before if nothing changed.
    pub held: Arc<Held>,
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
    store: Store,
    graph: Graph,
    index: claims::Index,
    certificates: Certificates,
    hosts: HashMap<HostName, HostUses>,
    backends: HashMap<BackendKey, BackendUsers>,
    secrets: HashMap<ObjectKey, SecretUsers>,
    /// End of validity of the leaf in each Secret that is served.
    ends: Arc<BTreeMap<ObjectKey, UnixTime>>,
    held: Arc<Held>,
    /// When time alone changes what is to be said about a Secret.
    schedule: BTreeSet<(UnixTime, ObjectKey)>,
    /// What units report. No list is empty, so that healthy units cost nothing when reports are put together.
    reports: HashMap<Unit, Vec<Diagnostic>>,
    reports_changed: bool,
    snapshot: Arc<Snapshot>,
    diagnostics: Arc<[Diagnostic]>,
    /// The time of the last compilation.
    compiled_at: Option<UnixTime>,
}

/// What a host uses.
#[derive(Default, PartialEq)]
struct HostUses {
    secrets: Vec<ObjectKey>,
    backends: Vec<BackendUse>,
}

/// Who uses a backend, and what is wrong with it.
#[derive(Default)]
struct BackendUsers {
    places: BTreeMap<HostName, Vec<BackendUse>>,
    problems: Vec<BackendProblem>,
}

/// Who uses a Secret, and when time changes what is to be said about it.
#[derive(Default)]
struct SecretUsers {
    hosts: BTreeSet<HostName>,
    changes_at: Option<UnixTime>,
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
    secrets: BTreeSet<ObjectKey>,
}

impl Dirty {
    fn unit(&mut self, unit: &Unit) {
        match unit {
            Unit::Backend(key) => drop(self.backends.insert(key.clone())),
            Unit::Default => self.default = true,
            Unit::Host(host) => drop(self.hosts.insert(host.clone())),
            Unit::Ingress(key) => drop(self.ingresses.insert(key.clone())),
            Unit::Secret(key) => drop(self.secrets.insert(key.clone())),
        }
    }
}

impl Compiler {
    /// Without any object.
    pub fn new(options: Options) -> Self {
        Self {
            certificates: Certificates::new(options.trust_anchors.clone()),
            options,
            store: Store::default(),
            graph: Graph::default(),
            index: claims::Index::default(),
            hosts: HashMap::new(),
            backends: HashMap::new(),
            secrets: HashMap::new(),
            ends: Arc::default(),
            held: Arc::default(),
            schedule: BTreeSet::new(),
            reports: HashMap::new(),
            reports_changed: false,
            snapshot: Arc::default(),
            diagnostics: Arc::default(),
            compiled_at: None,
        }
    }

    /// Takes over what another compiler held. To be called before the first compilation.
    pub fn remember(&mut self, held: Held) {
        self.held = Arc::new(held);
    }

    /// Takes a change in. Cheap: nothing is built before [`Compiler::compile`].
    pub fn apply(&mut self, change: Change) {
        self.store.apply(change);
    }

    /// Builds what the changes since the last compilation touch, and what time has changed.
    pub fn compile(&mut self, now: UnixTime) -> Compiled {
        let mut dirty = Dirty { default: self.compiled_at.is_none(), ..Dirty::default() };
        for read in self.store.take_changed() {
            match &read {
                Read::Object(key) if key.kind == Kind::Ingress => drop(dirty.ingresses.insert(key.clone())),
                Read::Object(key) if key.kind == Kind::Secret => {
                    self.certificates.retire(key);
                    dirty.secrets.insert(key.clone());
                }
                Read::Classes | Read::Host(_) | Read::Object(_) | Read::Slices(..) => {}
            }
            self.graph.readers(&read).for_each(|unit| dirty.unit(unit));
        }
        if self.compiled_at.is_some_and(|before| now < before) {
            // A clock that was set back makes what was said about any certificate doubtful.
            dirty.secrets.extend(self.secrets.keys().cloned());
        } else {
            let due = self.schedule.iter().take_while(|(at, _)| *at <= now);
            dirty.secrets.extend(due.map(|(_, key)| key.clone()));
        }
        self.compiled_at = Some(now);

        // Each step may make later ones dirty, and no earlier one.
        let ingresses = self.build_ingresses(&mut dirty);
        self.prepare_certificates(&dirty);
        self.build_default(&mut dirty);
        let hosts = self.build_hosts(&mut dirty);
        let backends = self.build_backends(&mut dirty);
        for key in std::mem::take(&mut dirty.secrets) {
            self.report_secret(key, now);
        }
        let (tls_built, tls_total) = self.certificates.finish();
        if self.reports_changed || self.store.reports_changed {
            self.reports_changed = false;
            let mut diagnostics = self.store.diagnostics();
            diagnostics.extend(self.reports.values().flatten().cloned());
            self.diagnostics = diagnostic::settle(diagnostics).into();
        }
        Compiled {
            snapshot: self.snapshot.clone(),
            diagnostics: self.diagnostics.clone(),
            recompile_at: self.schedule.first().map(|(at, _)| *at),
            certificates: self.ends.clone(),
            held: self.held.clone(),
            stats: Stats {
                backends: Units::new(backends, self.backends.len()),
                hosts: Units::new(hosts, self.hosts.len()),
                ingresses: Units::new(ingresses, self.index.len()),
                tls: Units::new(tls_built, tls_total),
            },
        }
    }

    fn build_ingresses(&mut self, dirty: &mut Dirty) -> usize {
        let keys = std::mem::take(&mut dirty.ingresses);
        let built = keys.len();
        for key in keys {
            let mut view = View::new(&self.store, &self.index, &mut self.certificates);
            let (claims, diagnostics) = match view.object(&key) {
                Some(Object::Ingress(ingress)) => claims::claims(&mut view, &self.options, &key, ingress),
                Some(_) | None => (None, Vec::new()),
            };
            // An Ingress that is gone asks for nothing; it is found again by its own key when it comes back.
            let reads = if self.store.object(&key).is_some() { view.into_reads() } else { Default::default() };
            for host in self.index.replace(&key, claims) {
                self.graph.readers(&Read::Host(host.clone())).for_each(|unit| dirty.unit(unit));
                dirty.hosts.insert(host);
            }
            self.record(Unit::Ingress(key), reads, diagnostics);
        }
        built
    }

    /// Builds certificates in parallel before hosts ask for them one by one, if they are many.
    fn prepare_certificates(&mut self, dirty: &Dirty) {
        let mut wanted: BTreeSet<ObjectKey> = BTreeSet::new();
        for host in &dirty.hosts {
            // The oldest claim wins, so its Secret will be asked for.
            let claims = self.index.on_host(host);
            let entry = claims.iter().find_map(|claims| Some((claims, &claims.tls[claims.hosts.get(host)?.tls?])));
            if let Some((claims, entry)) = entry
                && let Some(secret) = &entry.secret
            {
                wanted.insert(ObjectKey::new(Kind::Secret, &claims.ingress.namespace, secret));
            }
        }
        let secrets = wanted.iter().filter_map(|key| match self.store.object(key) {
            Some(Object::Secret(secret)) => Some((key, secret)),
            Some(_) | None => None,
        });
        self.certificates.prepare(secrets);
    }

    fn build_default(&mut self, dirty: &mut Dirty) {
        if !std::mem::take(&mut dirty.default) {
            return;
        }
        let Some((namespace, name)) = &self.options.default_tls_secret else { return };
        let key = ObjectKey::new(Kind::Secret, namespace, name);
        let mut view = View::new(&self.store, &self.index, &mut self.certificates);
        let found = ingress::default_certificate(&mut view, &self.options).map(|(_, _, tls)| tls);
        let reads = view.into_reads();
        let mut diagnostics = Vec::new();
        if self.store.object(&key).is_none() {
            diagnostics.push(Diagnostic {
                subject: key.clone(),
                field: "".into(),
                problem: Problem::SecretNotFound { secret: format!("{namespace}/{name}") },
                effect: Effect::HostRefused,
                hosts: Vec::new(),
            });
        }
        if found.as_ref().map(Arc::as_ptr) != self.snapshot.default_tls.as_ref().map(Arc::as_ptr) {
            Arc::make_mut(&mut self.snapshot).default_tls = found;
        }
        self.secrets.entry(key.clone()).or_default();
        dirty.secrets.insert(key);
        self.record(Unit::Default, reads, diagnostics);
    }

    fn build_hosts(&mut self, dirty: &mut Dirty) -> usize {
        let names = std::mem::take(&mut dirty.hosts);
        let built = names.len();
        for name in names {
            let mut view = View::new(&self.store, &self.index, &mut self.certificates);
            let host = ingress::virtual_host(&mut view, &self.options, &name);
            let (reads, diagnostics, uses) = match host {
                Some(built) => {
                    let before = self.snapshot.hosts.get(&name);
                    if !before.is_some_and(|before| is_same(before, &built.host)) {
                        Arc::make_mut(&mut self.snapshot).hosts.insert(name.clone(), Arc::new(built.host));
                    }
                    let uses = HostUses { secrets: built.secrets, backends: built.backends };
                    (view.into_reads(), built.diagnostics, Some(uses))
                }
                None => {
                    if self.snapshot.hosts.contains_key(&name) {
                        Arc::make_mut(&mut self.snapshot).hosts.remove(&name);
                    }
                    // Nobody claims it; the next claim finds it by its name.
                    Default::default()
                }
            };
            self.note_uses(&name, uses, dirty);
            self.record(Unit::Host(name), reads, diagnostics);
        }
        built
    }

    /// Keeps the users of backends and Secrets.
    fn note_uses(&mut self, host: &HostName, uses: Option<HostUses>, dirty: &mut Dirty) {
        if self.hosts.get(host) == uses.as_ref() {
            return;
        }
        let before = self.hosts.remove(host).unwrap_or_default();
        for key in before.secrets {
            if let Some(users) = self.secrets.get_mut(&key) {
                users.hosts.remove(host);
            }
            dirty.secrets.insert(key);
        }
        for used in before.backends {
            if let Some(users) = self.backends.get_mut(&used.backend) {
                users.places.remove(host);
            }
            dirty.backend_users.insert(used.backend);
        }
        let Some(uses) = uses else { return };
        for key in &uses.secrets {
            self.secrets.entry(key.clone()).or_default().hosts.insert(host.clone());
            dirty.secrets.insert(key.clone());
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

    fn build_backends(&mut self, dirty: &mut Dirty) -> usize {
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
            let mut view = View::new(&self.store, &self.index, &mut self.certificates);
            let result = backend::backend(&mut view, &self.options, &key);
            let reads = view.into_reads();
            users.problems = result.problems;
            let diagnostics = backend_diagnostics(users);
            if self.snapshot.backends.get(&key).is_none_or(|before| **before != result.backend) {
                Arc::make_mut(&mut self.snapshot).backends.insert(key.clone(), Arc::new(result.backend));
            }
            self.record(Unit::Backend(key), reads, diagnostics);
        }
        for key in users_changed {
            match self.backends.get(&key) {
                Some(users) if !users.places.is_empty() => {
                    let diagnostics = backend_diagnostics(users);
                    self.report(Unit::Backend(key), diagnostics);
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

    /// Says what is wrong with a Secret that hosts use, at this time.
    fn report_secret(&mut self, key: ObjectKey, now: UnixTime) {
        let default = self.options.default_tls_secret.as_ref();
        let is_default = default.is_some_and(|(namespace, name)| {
            (namespace.as_str(), name.as_str()) == (key.namespace.as_ref(), key.name.as_ref())
        });
        let Some(users) = self.secrets.get_mut(&key) else { return };
        if let Some(at) = users.changes_at.take() {
            self.schedule.remove(&(at, key.clone()));
        }
        let mut diagnostics = Vec::new();
        let mut end = None;
        let is_used = is_default || !users.hosts.is_empty();
        if let Some(certificate) = self.certificates.known(&key).filter(|_| is_used) {
            let hosts: Vec<HostName> = users.hosts.iter().cloned().collect();
            let unusable = match (&certificate.tls, &self.snapshot.default_tls) {
                (Some(_), _) => Effect::None,
                (None, Some(_)) => Effect::Default,
                (None, None) => Effect::HostRefused,
            };
            let mut add = |finding: &crate::tls::chain::Finding| {
                let effect = match (finding.is_repaired(), finding.severity()) {
                    (true, _) if certificate.tls.is_some() => Effect::Repaired,
                    (true, _) => Effect::None,
                    (false, Severity::Error) => unusable,
                    (false, Severity::Info | Severity::Warning) => Effect::None,
                };
                diagnostics.push(Diagnostic {
                    subject: key.clone(),
                    field: finding.field().into(),
                    problem: Problem::Chain(finding.clone()),
                    effect,
                    hosts: hosts.clone(),
                });
            };
            certificate.findings.iter().for_each(&mut add);
            if let Some(credential) = certificate.credential.as_ref().filter(|_| certificate.tls.is_some()) {
                end = Some(credential.summary().not_after);
                let dated = credential.dated(now);
                dated.findings.iter().for_each(&mut add);
                users.changes_at = dated.changes_at;
            }
        }
        if let Some(at) = users.changes_at {
            self.schedule.insert((at, key.clone()));
        }
        if !is_used {
            self.secrets.remove(&key);
        }
        if self.ends.get(&key) != end.as_ref() {
            let ends = Arc::make_mut(&mut self.ends);
            match end {
                Some(end) => drop(ends.insert(key.clone(), end)),
                None => drop(ends.remove(&key)),
            }
        }
        self.report(Unit::Secret(key), diagnostics);
    }

    fn record(&mut self, unit: Unit, reads: std::collections::HashSet<Read>, diagnostics: Vec<Diagnostic>) {
        for read in self.graph.record(unit.clone(), reads) {
            if let Read::Object(key) = read
                && key.kind == Kind::Secret
            {
                self.certificates.retire(&key);
            }
        }
        self.report(unit, diagnostics);
    }

    fn report(&mut self, unit: Unit, diagnostics: Vec<Diagnostic>) {
        let before = self.reports.get(&unit).map_or(&[][..], Vec::as_slice);
        if before == diagnostics.as_slice() {
            return;
        }
        self.reports_changed = true;
        if diagnostics.is_empty() {
            self.reports.remove(&unit);
        } else {
            self.reports.insert(unit, diagnostics);
        }
    }
}

/// Equal in all that is served. The one that is there then stays, and with it everything that hangs on its identity.
fn is_same(before: &VirtualHost, after: &VirtualHost) -> bool {
    let tls = match (&before.tls, &after.tls) {
        (HostTls::Absent, HostTls::Absent) | (HostTls::Refuse, HostTls::Refuse) => true,
        (HostTls::Terminate(before), HostTls::Terminate(after)) => Arc::ptr_eq(before, after),
        (HostTls::Absent | HostTls::Refuse | HostTls::Terminate(_), _) => false,
    };
    tls && before.name == after.name && before.routes.routes() == after.routes.routes()
}

fn backend_diagnostics(users: &BackendUsers) -> Vec<Diagnostic> {
    if users.problems.is_empty() {
        return Vec::new();
    }
    let reached: Vec<(&HostName, &BackendUse)> = users
        .places
        .iter()
        .flat_map(|(host, uses)| uses.iter().map(move |used| (host, used)))
        .filter(|(_, used)| used.reached)
        .collect();
    if reached.is_empty() {
        return Vec::new();
    }
    let mut diagnostics = Vec::new();
    for problem in &users.problems {
        match problem {
            BackendProblem::Object(subject, field, problem, effect) => diagnostics.push(Diagnostic {
                subject: subject.clone(),
                field: field.clone(),
                problem: problem.clone(),
                effect: *effect,
                hosts: reached.iter().map(|(host, _)| (*host).clone()).collect(),
            }),
            BackendProblem::Reference(problem) => {
                diagnostics.extend(reached.iter().map(|(host, used)| Diagnostic {
                    subject: used.ingress.clone(),
                    field: used.field.clone(),
                    problem: problem.clone(),
                    effect: Effect::RouteDropped,
                    hosts: vec![(*host).clone()],
                }));
            }
        }
    }
    diagnostics
}
