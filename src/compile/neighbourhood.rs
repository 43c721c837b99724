//! A change that has not been made: what it touches, taken out of the compiler and judged apart.
//!
//! ```text
//! Proposal ──Compiler::sample──▶ Sample ──judge──▶ what the change brings
//!                                  ▲         │ what it asked about and the sample does not hold
//!                                  └─answer──┘
//! ```
//!
//! A sample holds the hosts that the change can touch, and every object that these had asked about: cheap to take out,
//! because objects are shared. It is compiled twice, by the same code that serves, without the change and with it; what
//! is said afterwards and was not said before is what the change brings. Nobody lists what a host may depend on: the
//! units say what they have asked, and as long as the sample has no answer to some of it, the compiler is asked for
//! more. Only the hosts of the sample are built, whatever else its Ingresses claim, so the cost follows from what the
//! change touches, and everything is bounded: a host more or less, never the size of the cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::{Ingress, IngressRule};
use rustls::pki_types::UnixTime;

use super::store::trim;
use super::view::{Read, Unit};
use super::{Compiled, Compiler, Diagnostic, Effect, Held, Kind, Object, ObjectKey, Options, Problem, Severity};
use crate::snapshot::HostName;

/// A change of one object that has not been made.
#[derive(Clone, Debug)]
pub struct Proposal {
    key: ObjectKey,
    before: Option<Object>,
    after: Option<Object>,
    /// Nobody has to use the object for something to be said about it.
    by_itself: bool,
}

impl Proposal {
    /// What the object is, and what it is to be; `None` if it does not exist. `by_itself` asks for a word about a
    /// Secret that cannot be used for TLS although no host uses it yet. `None` if there is no object on either side.
    pub fn new(before: Option<Object>, after: Option<Object>, by_itself: bool) -> Option<Self> {
        let [before, after] = [before, after].map(|object| object.map(trim));
        let key = after.as_ref().or(before.as_ref())?.key();
        // Two objects are no change of one.
        let before = before.filter(|before| before.key() == key);
        Some(Self { key, before, after, by_itself })
    }

    /// The object.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// True if nothing changes of what is used: another status, label, or field of another controller.
    pub fn is_idle(&self) -> bool {
        self.before == self.after
    }
}

/// How large a sample may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Hosts that are judged; more are counted.
    pub hosts: usize,
    /// Objects, and questions about them.
    pub objects: usize,
    /// What they weigh together, about as many bytes.
    pub weight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hosts: 50, objects: 4_000, weight: 8 << 20 }
    }
}

/// A change touches more than a sample may hold.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
#[error("the change affects too many objects to check")]
pub struct TooMuch;

/// What a change touches.
#[derive(Clone)]
pub struct Sample {
    proposal: Proposal,
    limits: Limits,
    options: Options,
    /// The hosts that are judged.
    hosts: Arc<BTreeSet<HostName>>,
    /// Further hosts that the change touches.
    left_out: usize,
    users: Users,
    objects: BTreeMap<ObjectKey, Object>,
    /// What was usable last, of all of these.
    held: Held,
    /// Questions that the objects answer.
    known: HashSet<Read>,
    /// Questions that have come up since.
    missing: HashSet<Read>,
    weight: usize,
}

/// Who uses an object now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// The first of the hosts.
    pub hosts: Vec<HostName>,
    /// How many there are.
    pub count: usize,
    /// It is the operator's default.
    pub is_default: bool,
    /// TlsPolicies that name it.
    pub policies: Vec<ObjectKey>,
}

/// What a change brings.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What is wrong with it and was not wrong before.
    pub brought: Vec<Diagnostic>,
    /// Who uses the object now.
    pub users: Users,
    /// Some host uses the object, or would.
    pub is_used: bool,
    /// Hosts that the change touches and that were not judged.
    pub left_out: usize,
    /// Units that were built for it, in both compilations.
    pub built: usize,
}

impl Compiler {
    /// Takes out what a change touches. To be called when everything that was applied has been compiled.
    pub fn sample(&self, proposal: Proposal, limits: Limits) -> Result<Sample, TooMuch> {
        let (hosts, left_out) = self.touched(&proposal, limits.hosts);
        let mut missing: HashSet<Read> = HashSet::from([Read::Classes]);
        missing.extend(hosts.iter().cloned().map(Read::Host));
        let mut reads_of = |unit: &Unit| missing.extend(self.graph.reads(unit).cloned());
        reads_of(&Unit::Default);
        for host in &hosts {
            reads_of(&Unit::Host(host.clone()));
            for claims in self.world.index.on_host(host) {
                reads_of(&Unit::Ingress(claims.ingress.clone()));
            }
            for used in self.hosts.get(host).iter().flat_map(|uses| &uses.backends) {
                reads_of(&Unit::Backend(used.backend.clone()));
            }
        }
        // What is said about a policy may hang on the Secret that it names.
        let itself = Read::Object(proposal.key.clone());
        let policies = self.graph.readers(&itself).filter_map(|unit| match unit {
            Unit::Policy(key) => Some(key.clone()),
            Unit::Backend(_) | Unit::Default | Unit::Host(_) | Unit::Ingress(_) | Unit::Secret(_) => None,
        });
        let policies: BTreeSet<ObjectKey> = policies.take(limits.objects).collect();
        for policy in &policies {
            reads_of(&Unit::Policy(policy.clone()));
        }
        missing.extend(policies.iter().cloned().map(Read::Object));
        let mut held = Held::default();
        for host in hosts.iter().chain([&HostName::catch_all()]) {
            if let Some(policy) = self.world.history.known_policy(host, self.last_compiled()) {
                held.policies.insert(host.clone(), policy);
            }
        }
        let users = self.users(&proposal.key, policies);
        let mut sample = Sample {
            proposal,
            limits,
            options: self.options.clone(),
            hosts: Arc::new(hosts),
            left_out,
            users,
            objects: BTreeMap::new(),
            held,
            known: HashSet::new(),
            missing,
            weight: 0,
        };
        self.answer(&mut sample)?;
        Ok(sample)
    }

    fn last_compiled(&self) -> UnixTime {
        self.compiled_at.unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO))
    }

    /// Adds what the sample was found to lack.
    pub fn answer(&self, sample: &mut Sample) -> Result<(), TooMuch> {
        for read in std::mem::take(&mut sample.missing) {
            let store = &self.world.store;
            match &read {
                Read::Classes => {
                    for class in store.classes() {
                        sample.put(Object::IngressClass(class.clone()))?;
                    }
                }
                Read::Host(host) => {
                    for claims in self.world.index.on_host(host) {
                        if let Some(ingress) = store.object(&claims.ingress) {
                            sample.put(ingress.clone())?;
                        }
                    }
                }
                Read::Object(key) => {
                    if let Some(object) = store.object(key) {
                        sample.put(object.clone())?;
                    }
                    if let Some(known) = self.world.history.known_secret(key, self.last_compiled()) {
                        sample.held.secrets.insert(key.clone(), known);
                    }
                }
                Read::Policies(name) => {
                    for namespace in store.namespaces_with_policy(name) {
                        let key = ObjectKey { kind: Kind::TlsPolicy, namespace, name: name.clone() };
                        if let Some(policy) = store.object(&key) {
                            sample.put(policy.clone())?;
                        }
                    }
                }
                Read::Secrets(namespace) => {
                    for (_, secret) in store.secrets(namespace) {
                        sample.put(Object::Secret(secret.clone()))?;
                    }
                }
                Read::Slices(namespace, service) => {
                    for (_, slice) in store.slices(namespace, service) {
                        sample.put(Object::EndpointSlice(slice.clone()))?;
                    }
                }
            }
            sample.known.insert(read);
            if sample.known.len() > sample.limits.objects.saturating_mul(2) {
                return Err(TooMuch);
            }
        }
        Ok(())
    }

    /// Hosts whose result can depend on the change, the first ones, and how many more there are.
    fn touched(&self, proposal: &Proposal, limit: usize) -> (BTreeSet<HostName>, usize) {
        let mut first: BTreeSet<HostName> = BTreeSet::new();
        let mut others: BTreeSet<HostName> = BTreeSet::new();
        let mut add = |host: &HostName| {
            if first.contains(host) || others.contains(host) {
            } else if first.len() < limit {
                first.insert(host.clone());
            } else {
                others.insert(host.clone());
            }
        };
        let hosts_of = |read: &Read| {
            let hosts = self.graph.readers(read).filter_map(|unit| match unit {
                Unit::Host(host) => Some(host),
                Unit::Backend(_) | Unit::Default | Unit::Ingress(_) | Unit::Policy(_) | Unit::Secret(_) => None,
            });
            let mut hosts: Vec<&HostName> = hosts.collect();
            hosts.sort_unstable();
            hosts
        };
        let key = &proposal.key;
        match key.kind {
            Kind::Ingress => {
                let [before, after] = [&proposal.before, &proposal.after].map(|object| match object {
                    Some(Object::Ingress(ingress)) => asked_by(ingress),
                    Some(_) | None => BTreeMap::new(),
                });
                let all: BTreeSet<&HostName> = before.keys().chain(after.keys()).collect();
                // What the change is about comes first, should there be too much.
                let (changed, same): (Vec<&HostName>, Vec<&HostName>) =
                    all.iter().partition(|host| before.get(**host) != after.get(**host));
                changed.into_iter().chain(same).for_each(&mut add);
                for host in all {
                    hosts_of(&Read::Host(host.clone())).into_iter().for_each(&mut add);
                }
            }
            Kind::Secret => {
                self.secrets.get(key).iter().flat_map(|users| users.hosts()).for_each(&mut add);
                hosts_of(&Read::Object(key.clone())).into_iter().for_each(&mut add);
                hosts_of(&Read::Secrets(key.namespace.clone())).into_iter().for_each(&mut add);
            }
            Kind::TlsPolicy => {
                self.policies.get(key).iter().flat_map(|users| users.hosts.keys()).for_each(&mut add);
                hosts_of(&Read::Object(key.clone())).into_iter().for_each(&mut add);
                hosts_of(&Read::Policies(key.name.clone())).into_iter().for_each(&mut add);
            }
            // Nothing is proposed about these.
            Kind::EndpointSlice | Kind::File | Kind::IngressClass | Kind::Other | Kind::Service => {}
        }
        (first, others.len())
    }

    fn users(&self, key: &ObjectKey, policies: BTreeSet<ObjectKey>) -> Users {
        const NAMED: usize = 5;
        let named = |names: &Option<(String, String)>| {
            names.as_ref().is_some_and(|(namespace, name)| (&**namespace, &**name) == (&*key.namespace, &*key.name))
        };
        match key.kind {
            Kind::Secret => {
                let users = self.secrets.get(key);
                Users {
                    hosts: users.into_iter().flat_map(|users| users.hosts()).take(NAMED).cloned().collect(),
                    count: users.iter().flat_map(|users| &users.groups).map(|(_, hosts)| hosts.len()).sum(),
                    is_default: named(&self.options.default_tls_secret),
                    policies: policies.into_iter().take(NAMED).collect(),
                }
            }
            Kind::TlsPolicy => {
                let hosts = self.policies.get(key).map(|users| &users.hosts);
                Users {
                    hosts: hosts.into_iter().flat_map(BTreeMap::keys).take(NAMED).cloned().collect(),
                    count: hosts.map_or(0, BTreeMap::len),
                    is_default: named(&self.options.default_tls_policy)
                        || named(&self.options.default_shadow_tls_policy),
                    policies: Vec::new(),
                }
            }
            Kind::EndpointSlice | Kind::File | Kind::Ingress | Kind::IngressClass | Kind::Other | Kind::Service => {
                Users::default()
            }
        }
    }
}

impl Sample {
    /// Compiles without the change and with it, and compares. `None` if the units asked about what the sample does not
    /// hold: then [`Compiler::answer`] adds it.
    pub fn judge(&mut self, now: UnixTime) -> Option<Judged> {
        let (after, with) = self.compile(self.proposal.after.as_ref(), now);
        self.note_questions(&after);
        // Most questions come up with the change, so this is known at half the price.
        if !self.missing.is_empty() {
            return None;
        }
        let (before, without) = self.compile(self.proposal.before.as_ref(), now);
        self.note_questions(&before);
        if !self.missing.is_empty() {
            return None;
        }
        let key = &self.proposal.key;
        let is_used = [&before, &after].iter().any(|compiler| match key.kind {
            Kind::Secret => {
                compiler.secrets.get(key).is_some_and(|users| !users.groups.is_empty())
                    || compiler.default_uses.iter().any(|used| used.secret == *key)
                    || compiler.graph.readers(&Read::Object(key.clone())).next().is_some()
            }
            Kind::TlsPolicy => compiler.policies.contains_key(key),
            Kind::EndpointSlice | Kind::File | Kind::Ingress | Kind::IngressClass | Kind::Other | Kind::Service => true,
        });
        let mut sides = [(before, without), (after, with)].map(|(compiler, compiled)| {
            let Compiled { stats, diagnostics, .. } = compiled;
            let built = stats.hosts.built + stats.backends.built + stats.ingresses.built + stats.tls.built;
            (compiler, diagnostics.to_vec(), built)
        });
        if self.proposal.by_itself && !is_used {
            for ((compiler, diagnostics, _), object) in
                sides.iter_mut().zip([&self.proposal.before, &self.proposal.after])
            {
                diagnostics.extend(useless(compiler, key, object.as_ref()));
            }
        }
        let [(_, without, first), (_, with, second)] = sides;
        Some(Judged {
            brought: brought(&without, &with),
            users: self.users.clone(),
            is_used,
            left_out: self.left_out,
            built: first + second,
        })
    }

    fn compile(&self, object: Option<&Object>, now: UnixTime) -> (Compiler, Compiled) {
        let mut compiler = Compiler::new(self.options.clone());
        compiler.focus = Some(self.hosts.clone());
        // From one and the same past: what was good before the change is what may be served after it.
        compiler.remember(&self.held);
        let others = self.objects.iter().filter(|(key, _)| **key != self.proposal.key).map(|(_, object)| object);
        compiler.world.store.take_trimmed(others.chain(object).cloned());
        let compiled = compiler.compile(now);
        (compiler, compiled)
    }

    fn note_questions(&mut self, compiler: &Compiler) {
        let asked = compiler.graph.questions().filter(|read| !self.known.contains(*read));
        self.missing.extend(asked.cloned());
    }

    fn put(&mut self, object: Object) -> Result<(), TooMuch> {
        let key = object.key();
        if self.objects.contains_key(&key) {
            return Ok(());
        }
        self.weight = self.weight.saturating_add(weight(&object));
        self.objects.insert(key, object);
        if self.weight > self.limits.weight || self.objects.len() > self.limits.objects {
            return Err(TooMuch);
        }
        Ok(())
    }
}

/// What is said afterwards and was not said before: of each diagnostic the hosts for which it is new, or worse. One that
/// touches no host is new if nobody had said the same at all. Places in the lists of an Ingress do not count, because
/// they move when others come and go.
pub fn brought(before: &[Diagnostic], after: &[Diagnostic]) -> Vec<Diagnostic> {
    type Said = (ObjectKey, String, String);
    let said = |diagnostic: &Diagnostic| -> Said {
        let Diagnostic { subject, field, problem, .. } = diagnostic;
        (subject.clone(), without_places(field), format!("{} {problem}", problem.code()))
    };
    let mut known: HashMap<Said, HashMap<Option<&HostName>, u8>> = HashMap::new();
    for diagnostic in before {
        let hosts = known.entry(said(diagnostic)).or_default();
        let mut note = |host| {
            let worst = hosts.entry(host).or_default();
            *worst = gravity(diagnostic.effect).max(*worst);
        };
        note(None);
        diagnostic.hosts.iter().for_each(|host| note(Some(host)));
    }
    let mut found = Vec::new();
    for diagnostic in after {
        let Some(hosts) = known.get(&said(diagnostic)) else {
            found.push(diagnostic.clone());
            continue;
        };
        let is_new = |host: &&HostName| hosts.get(&Some(*host)).is_none_or(|worst| *worst < gravity(diagnostic.effect));
        let new: Vec<HostName> = diagnostic.hosts.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            found.push(Diagnostic { hosts: new, ..diagnostic.clone() });
        }
    }
    found
}

/// How much of a host's traffic an effect costs.
fn gravity(effect: Effect) -> u8 {
    match effect {
        Effect::None => 0,
        Effect::Repaired => 1,
        Effect::PolicyHeld => 2,
        Effect::LastGood => 3,
        Effect::Default => 4,
        Effect::RouteDropped => 5,
        Effect::HostRefused => 6,
    }
}

/// `spec.rules[3].host` as `spec.rules[].host`.
fn without_places(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    for part in field.split_inclusive('[') {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        text.push_str(if text.ends_with('[') && rest.starts_with(']') { rest } else { part });
    }
    text
}

/// What an Ingress says about each host, as far as it is told by name.
type AskedByHost<'a> = BTreeMap<HostName, (Vec<&'a IngressRule>, Vec<Option<&'a str>>)>;

fn asked_by(ingress: &Ingress) -> AskedByHost<'_> {
    let mut hosts = AskedByHost::new();
    let Some(spec) = &ingress.spec else { return hosts };
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() {
        // Its default backend is the rule.
        hosts.insert(HostName::catch_all(), Default::default());
    }
    let name = |text: Option<&str>| match text.filter(|text| !text.is_empty()) {
        None => Some(HostName::catch_all()),
        Some(text) => text.parse().ok(),
    };
    for rule in rules {
        if let Some(host) = name(rule.host.as_deref()) {
            hosts.entry(host).or_default().0.push(rule);
        }
    }
    for entry in spec.tls.iter().flatten() {
        for host in entry.hosts.iter().flatten().filter_map(|host| name(Some(host))) {
            if let Some((_, secrets)) = hosts.get_mut(&host) {
                secrets.push(entry.secret_name.as_deref());
            }
        }
    }
    hosts
}

/// What makes a Secret useless for TLS, whoever may use it one day. An empty one waits to be filled.
fn useless(compiler: &mut Compiler, key: &ObjectKey, object: Option<&Object>) -> Vec<Diagnostic> {
    let Some(Object::Secret(secret)) = object else { return Vec::new() };
    let is_empty = |name| super::tls::field(secret, name).is_empty();
    if is_empty("tls.crt") && is_empty("tls.key") {
        return Vec::new();
    }
    let certificate = compiler.world.certificates.of_content(secret);
    if certificate.credential.is_some() {
        return Vec::new();
    }
    let errors = certificate.findings.iter().filter(|finding| finding.severity() == Severity::Error);
    let diagnostic = |finding: &crate::tls::chain::Finding| Diagnostic {
        subject: key.clone(),
        field: finding.field().into(),
        problem: Problem::Chain(finding.clone()),
        effect: Effect::None,
        hosts: Vec::new(),
    };
    errors.map(diagnostic).collect()
}

/// About how many bytes an object has. What is left out costs little to compile.
fn weight(object: &Object) -> usize {
    const EACH: usize = 64;
    match object {
        Object::EndpointSlice(slice) => EACH * (1 + slice.endpoints.len()),
        Object::Ingress(ingress) => {
            let spec = ingress.spec.as_ref();
            let rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
            let paths: usize = rules.iter().filter_map(|rule| rule.http.as_ref()).map(|http| http.paths.len()).sum();
            let entries = spec.and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
            let named: usize = entries.iter().filter_map(|entry| entry.hosts.as_ref()).map(Vec::len).sum();
            let annotations = ingress.metadata.annotations.iter().flatten();
            let text: usize = annotations.map(|(name, value)| name.len() + value.len()).sum();
            EACH * (1 + rules.len() + paths + entries.len() + named) + text
        }
        Object::IngressClass(_) => EACH,
        Object::Secret(secret) => {
            let data = secret.0.data.iter().flatten();
            EACH + data.map(|(_, bytes)| bytes.0.len()).sum::<usize>()
        }
        Object::Service(service) => {
            let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
            EACH * (1 + ports.map_or(0, Vec::len))
        }
        Object::TlsPolicy(policy) => {
            let spec = &policy.spec;
            let lists = [&spec.cipher_suites, &spec.groups, &spec.alpn];
            EACH + lists.iter().filter_map(|list| list.as_ref()).flatten().map(String::len).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_lists_do_not_count_and_names_do() {
        assert_eq!(without_places("spec.rules[12].http.paths[0].backend"), "spec.rules[].http.paths[].backend");
        assert_eq!(without_places("metadata.annotations[handfast.dev/x1]"), "metadata.annotations[handfast.dev/x1]");
        assert_eq!(without_places("endpoints[1"), "endpoints[1");
    }
}
