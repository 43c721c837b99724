//! The set of objects: who defines what, and which reads a change touches.
//!
//! `Change ──apply──▶ Store ──take_changed──▶ the reads whose answer is another one now`
//!
//! An object that two scopes define counts from the scope that sorts first, so the result does not depend on the
//! order in which scopes were read. Objects are trimmed when they enter; one that is equal after that changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service, ServicePort, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::class::{CLASS_ANNOTATION, DEFAULT_CLASS_ANNOTATION};
use super::view::Read;
use super::{Change, Diagnostic, Effect, Kind, Object, ObjectKey, Problem, Scope, SecretObject};
use crate::api::annotations::{HANDFAST, NGINX};
use crate::api::tls_policy::TlsPolicy;

/// The label that ties an EndpointSlice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// All objects, as they were trimmed, and indexes over those that count.
#[derive(Default)]
pub(super) struct Store {
    /// Definitions by object, sorted by scope. The first one counts. Never empty.
    definitions: HashMap<ObjectKey, Vec<(Scope, Object)>>,
    scopes: HashMap<Scope, ScopeState>,
    /// Scopes with something to report.
    reporting: BTreeSet<Scope>,
    /// Objects with more than one definition.
    contested: BTreeSet<ObjectKey>,
    classes: BTreeSet<ObjectKey>,
    /// TlsPolicies that exist.
    policies: BTreeSet<ObjectKey>,
    /// Objects whose documents are not valid, and in how many scopes.
    refused: HashMap<ObjectKey, usize>,
    /// EndpointSlices by namespace and Service.
    slices: HashMap<(Arc<str>, Arc<str>), BTreeSet<ObjectKey>>,
    /// Secrets by namespace.
    secrets: HashMap<Arc<str>, BTreeSet<ObjectKey>>,
    changed: HashSet<Read>,
    /// How often the definitions of each kind have changed.
    pub(super) revisions: BTreeMap<Kind, u64>,
    /// What scopes report differs from what it was when [`Store::diagnostics`] was last asked.
    pub(super) reports_changed: bool,
}

#[derive(Default)]
struct ScopeState {
    objects: HashSet<ObjectKey>,
    /// Objects that the scope names more than once.
    repeated: BTreeSet<ObjectKey>,
    rejected: Vec<Diagnostic>,
}

impl Store {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Delete(scope, key) => {
                let key = normal_key(key);
                if let Some(state) = self.scopes.get_mut(&scope) {
                    self.reports_changed |= state.repeated.remove(&key);
                    if state.objects.remove(&key) {
                        self.define(&scope, key, None);
                    }
                }
                self.settle_scope(&scope);
            }
            Change::Rejected(scope, diagnostics) => {
                self.reports_changed = true;
                let state = self.scopes.entry(scope.clone()).or_default();
                let before = std::mem::replace(&mut state.rejected, diagnostics.clone());
                self.refuse(&before, &diagnostics);
                self.settle_scope(&scope);
            }
            Change::Replace(scope, objects) => {
                let mut repeated = BTreeSet::new();
                let mut named: HashSet<ObjectKey> = HashSet::with_capacity(objects.len());
                for object in objects {
                    let object = trim(object);
                    let key = object.key();
                    if named.insert(key.clone()) {
                        self.define(&scope, key, Some(object));
                    } else {
                        repeated.insert(key);
                    }
                }
                let state = self.scopes.entry(scope.clone()).or_default();
                self.reports_changed |= state.repeated != repeated;
                state.repeated = repeated;
                let gone: Vec<ObjectKey> = state.objects.difference(&named).cloned().collect();
                state.objects = named;
                for key in gone {
                    self.define(&scope, key, None);
                }
                self.settle_scope(&scope);
            }
            Change::Upsert(scope, object) => {
                let object = trim(object);
                let key = object.key();
                let state = self.scopes.entry(scope.clone()).or_default();
                state.objects.insert(key.clone());
                self.reports_changed |= state.repeated.remove(&key);
                self.define(&scope, key, Some(object));
                self.settle_scope(&scope);
            }
        }
    }

    /// Takes in objects that have been trimmed before: those of another store.
    pub(super) fn take_trimmed(&mut self, objects: impl IntoIterator<Item = Object>) {
        let scope = Scope("".into());
        for object in objects {
            let key = object.key();
            self.scopes.entry(scope.clone()).or_default().objects.insert(key.clone());
            self.define(&scope, key, Some(object));
        }
    }

    /// The object that counts.
    pub(super) fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.definitions.get(key).map(|definitions| &definitions[0].1)
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = &Arc<IngressClass>> {
        self.classes.iter().filter_map(|key| match self.object(key) {
            Some(Object::IngressClass(class)) => Some(class),
            Some(_) | None => None,
        })
    }

    /// The namespaces that have a TlsPolicy of this name, sorted.
    pub(super) fn namespaces_with_policy(&self, name: &str) -> Vec<Arc<str>> {
        self.policies.iter().filter(|key| *key.name == *name).map(|key| key.namespace.clone()).collect()
    }

    /// True if a document names the object and is not valid.
    pub(super) fn is_refused(&self, key: &ObjectKey) -> bool {
        self.refused.contains_key(key)
    }

    /// Keeps count of objects with invalid documents, and has the units that asked for one look again.
    fn refuse(&mut self, before: &[Diagnostic], after: &[Diagnostic]) {
        let objects = |diagnostics: &[Diagnostic]| -> Vec<ObjectKey> {
            let object = |diagnostic: &Diagnostic| {
                let Problem::InvalidDocument { object, .. } = &diagnostic.problem else { return None };
                object.clone()
            };
            diagnostics.iter().filter_map(object).collect()
        };
        for key in objects(after) {
            let count = self.refused.entry(key.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.changed.insert(Read::Object(key));
            }
        }
        for key in objects(before) {
            let Some(count) = self.refused.get_mut(&key) else { continue };
            *count -= 1;
            if *count == 0 {
                self.refused.remove(&key);
                self.changed.insert(Read::Object(key));
            }
        }
    }

    /// The EndpointSlices of a Service, sorted by name.
    pub(super) fn slices(&self, namespace: &Arc<str>, service: &Arc<str>) -> Vec<(&ObjectKey, &Arc<EndpointSlice>)> {
        let keys = self.slices.get(&(namespace.clone(), service.clone()));
        let slice = |key| match self.object(key) {
            Some(Object::EndpointSlice(slice)) => Some((key, slice)),
            Some(_) | None => None,
        };
        keys.into_iter().flatten().filter_map(slice).collect()
    }

    /// All definitions of the objects of a kind, sorted by object and scope.
    pub(super) fn objects(&self, kind: Kind) -> Vec<(ObjectKey, Scope, Object)> {
        let definitions = self.definitions.iter().filter(|(key, _)| key.kind == kind);
        let each = definitions.flat_map(|(key, definitions)| {
            definitions.iter().map(move |(scope, object)| (key.clone(), scope.clone(), object.clone()))
        });
        let mut objects: Vec<(ObjectKey, Scope, Object)> = each.collect();
        objects.sort_unstable_by(|(key, scope, _), (other, other_scope, _)| (key, scope).cmp(&(other, other_scope)));
        objects
    }

    /// Has everything be looked at, as it is the first time.
    pub(super) fn look_at_everything(&mut self) {
        self.changed.extend(self.definitions.keys().cloned().map(Read::Object));
        self.reports_changed = true;
    }

    /// Has everybody who asked this ask again.
    pub(super) fn look_again(&mut self, read: Read) {
        self.changed.insert(read);
    }

    /// The Secrets of a namespace, sorted by name.
    pub(super) fn secrets(&self, namespace: &str) -> impl Iterator<Item = (&ObjectKey, &SecretObject)> {
        self.secrets.get(namespace).into_iter().flatten().filter_map(|key| match self.object(key) {
            Some(Object::Secret(secret)) => Some((key, secret)),
            Some(_) | None => None,
        })
    }

    /// The reads that would be answered otherwise than when this was last called.
    pub(super) fn take_changed(&mut self) -> HashSet<Read> {
        std::mem::take(&mut self.changed)
    }

    /// What scopes could not read, and what is defined more than once.
    pub(super) fn diagnostics(&mut self) -> Vec<Diagnostic> {
        self.reports_changed = false;
        let duplicate = |key: &ObjectKey, first: &Scope, again: &Scope| Diagnostic {
            subject: key.clone(),
            field: "".into(),
            problem: Problem::DuplicateObject { first: first.0.to_string(), again: again.0.to_string() },
            effect: Effect::None,
            hosts: Vec::new(),
        };
        let mut diagnostics: Vec<Diagnostic> = Vec::new();
        for scope in &self.reporting {
            let state = &self.scopes[scope];
            diagnostics.extend(state.rejected.iter().cloned());
            diagnostics.extend(state.repeated.iter().map(|key| duplicate(key, scope, scope)));
        }
        for key in &self.contested {
            let definitions = &self.definitions[key];
            let (first, _) = &definitions[0];
            diagnostics.extend(definitions[1..].iter().map(|(again, _)| duplicate(key, first, again)));
        }
        diagnostics
    }

    /// Puts a scope's definition of an object in place, or takes it away.
    fn define(&mut self, scope: &Scope, key: ObjectKey, object: Option<Object>) {
        let definitions = self.definitions.entry(key.clone()).or_default();
        let place = definitions.binary_search_by(|(other, _)| other.cmp(scope));
        // The one that is there stays, so that it is the same to everybody who shares it.
        if let (Ok(at), Some(object)) = (place, &object)
            && definitions[at].1 == *object
        {
            return;
        }
        *self.revisions.entry(key.kind).or_default() += 1;
        let counts = place.unwrap_or_else(|at| at) == 0;
        let before = if counts { definitions.first().map(|(_, object)| object.clone()) } else { None };
        match (place, object) {
            (Ok(at), Some(object)) => definitions[at].1 = object,
            (Err(at), Some(object)) => definitions.insert(at, (scope.clone(), object)),
            (Ok(at), None) => {
                definitions.remove(at);
            }
            (Err(_), None) => {}
        }
        let after = definitions.first().map(|(_, object)| object.clone());
        self.reports_changed |= match definitions.len() {
            0 | 1 => self.contested.remove(&key),
            _ => {
                self.contested.insert(key.clone());
                true
            }
        };
        if definitions.is_empty() {
            self.definitions.remove(&key);
        }
        if counts && before != after {
            self.touch(key, before.as_ref(), after.as_ref());
        }
    }

    /// Notes which reads an object that counts now answers otherwise, and keeps the indexes.
    fn touch(&mut self, key: ObjectKey, before: Option<&Object>, after: Option<&Object>) {
        match key.kind {
            Kind::EndpointSlice => {
                for (object, present) in [(before, false), (after, true)] {
                    let Some(Object::EndpointSlice(slice)) = object else { continue };
                    let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL))
                    else {
                        continue;
                    };
                    let index = (key.namespace.clone(), Arc::from(service.as_str()));
                    let slices = self.slices.entry(index.clone()).or_default();
                    if present {
                        slices.insert(key.clone());
                    } else {
                        slices.remove(&key);
                    }
                    if slices.is_empty() {
                        self.slices.remove(&index);
                    }
                    self.changed.insert(Read::Slices(index.0, index.1));
                }
            }
            Kind::IngressClass => {
                if after.is_some() {
                    self.classes.insert(key.clone());
                } else {
                    self.classes.remove(&key);
                }
                self.changed.insert(Read::Classes);
            }
            Kind::Secret => {
                let secrets = self.secrets.entry(key.namespace.clone()).or_default();
                if after.is_some() {
                    secrets.insert(key.clone());
                } else {
                    secrets.remove(&key);
                }
                if secrets.is_empty() {
                    self.secrets.remove(&key.namespace);
                }
                self.changed.insert(Read::Secrets(key.namespace.clone()));
            }
            Kind::TlsPolicy => {
                if after.is_some() {
                    self.policies.insert(key.clone());
                } else {
                    self.policies.remove(&key);
                }
                if before.is_some() != after.is_some() {
                    self.changed.insert(Read::Policies(key.name.clone()));
                }
            }
            Kind::File | Kind::Ingress | Kind::Other | Kind::Service => {}
        }
        self.changed.insert(Read::Object(key));
    }

    /// Notes whether a scope has something to report, and forgets it if it has nothing at all.
    fn settle_scope(&mut self, scope: &Scope) {
        let Some(state) = self.scopes.get(scope) else { return };
        let is_quiet = state.repeated.is_empty() && state.rejected.is_empty();
        if !is_quiet {
            self.reporting.insert(scope.clone());
            return;
        }
        self.reporting.remove(scope);
        if state.objects.is_empty() {
            self.scopes.remove(scope);
        }
    }
}

/// Namespaced objects without a namespace are in `default`, as `kubectl apply` puts them.
fn normal_key(key: ObjectKey) -> ObjectKey {
    if key.kind.is_namespaced() && key.namespace.is_empty() {
        return ObjectKey { namespace: "default".into(), ..key };
    }
    key
}

/// The object with nothing but the fields that are used: what is not kept cannot leak, cost memory, or look changed.
pub fn trim(object: Object) -> Object {
    match object {
        Object::EndpointSlice(slice) => {
            let slice = Arc::unwrap_or_clone(slice);
            let labels = slice.metadata.labels.clone().unwrap_or_default();
            let labels: BTreeMap<String, String> =
                labels.into_iter().filter(|(name, _)| name == SERVICE_LABEL).collect();
            let endpoint = |endpoint: Endpoint| Endpoint {
                addresses: endpoint.addresses,
                conditions: endpoint.conditions,
                ..Endpoint::default()
            };
            let port = |port: EndpointPort| EndpointPort { app_protocol: None, ..port };
            Object::EndpointSlice(Arc::new(EndpointSlice {
                metadata: ObjectMeta { labels: Some(labels), ..identity(&slice.metadata, true) },
                address_type: slice.address_type,
                endpoints: slice.endpoints.into_iter().map(endpoint).collect(),
                ports: slice.ports.map(|ports| ports.into_iter().map(port).collect()),
            }))
        }
        Object::Ingress(ingress) => {
            let ingress = Arc::unwrap_or_clone(ingress);
            let used = |name: &str| name.starts_with(HANDFAST) || name.starts_with(NGINX) || name == CLASS_ANNOTATION;
            Object::Ingress(Arc::new(Ingress {
                metadata: ObjectMeta {
                    annotations: annotations(&ingress.metadata, used),
                    creation_timestamp: ingress.metadata.creation_timestamp.clone(),
                    ..identity(&ingress.metadata, true)
                },
                spec: ingress.spec,
                status: None,
            }))
        }
        Object::IngressClass(class) => {
            let class = Arc::unwrap_or_clone(class);
            Object::IngressClass(Arc::new(IngressClass {
                metadata: ObjectMeta {
                    annotations: annotations(&class.metadata, |name| name == DEFAULT_CLASS_ANNOTATION),
                    ..identity(&class.metadata, false)
                },
                spec: class.spec,
            }))
        }
        Object::Secret(SecretObject(secret)) => {
            let secret = Arc::unwrap_or_clone(secret);
            let used = |name: &str| ["tls.crt", "tls.key", "ca.crt", "ca.crl"].contains(&name);
            let mut data = secret.data.unwrap_or_default();
            // A manifest's `stringData` wins over its `data`, as in the API server.
            data.extend(
                secret
                    .string_data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(name, text)| (name, k8s_openapi::ByteString(text.into_bytes()))),
            );
            data.retain(|name, _| used(name));
            Object::Secret(SecretObject(Arc::new(Secret {
                metadata: identity(&secret.metadata, true),
                data: Some(data),
                ..Secret::default()
            })))
        }
        Object::Service(service) => {
            let service = Arc::unwrap_or_clone(service);
            let spec = service.spec.unwrap_or_default();
            let balanced =
                service.status.and_then(|status| status.load_balancer).filter(|found| found.ingress.is_some());
            let port = |port: ServicePort| ServicePort {
                name: port.name,
                port: port.port,
                protocol: port.protocol,
                ..ServicePort::default()
            };
            Object::Service(Arc::new(Service {
                metadata: identity(&service.metadata, true),
                // Addresses are kept because those of our own Service are no endpoints.
                spec: Some(ServiceSpec {
                    cluster_ip: spec.cluster_ip.filter(|_| spec.cluster_ips.is_none()),
                    cluster_ips: spec.cluster_ips,
                    external_ips: spec.external_ips,
                    external_name: spec.external_name,
                    ports: spec.ports.map(|ports| ports.into_iter().map(port).collect()),
                    type_: spec.type_,
                    ..ServiceSpec::default()
                }),
                status: balanced.map(|load_balancer| ServiceStatus {
                    load_balancer: Some(load_balancer),
                    ..ServiceStatus::default()
                }),
            }))
        }
        Object::TlsPolicy(policy) => {
            let TlsPolicy { metadata, spec, status: _ } = Arc::unwrap_or_clone(policy);
            let generation = metadata.generation;
            let metadata = ObjectMeta { generation, ..identity(&metadata, true) };
            Object::TlsPolicy(Arc::new(TlsPolicy { metadata, spec, status: None }))
        }
    }
}

/// Name and, for namespaced objects, namespace.
fn identity(metadata: &ObjectMeta, namespaced: bool) -> ObjectMeta {
    let namespace = metadata.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = if namespaced { Some(namespace.unwrap_or_else(|| "default".to_owned())) } else { None };
    ObjectMeta { name: metadata.name.clone(), namespace, ..ObjectMeta::default() }
}

fn annotations(metadata: &ObjectMeta, used: impl Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let annotations = metadata.annotations.clone().unwrap_or_default();
    Some(annotations.into_iter().filter(|(name, _)| used(name)).collect())
}
