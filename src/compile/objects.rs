//! The input language: Kubernetes objects, and changes to them.
//!
//! `source/ ──Change──▶ Compiler::apply`
//!
//! `k8s_openapi` types are the input as they are; there are no mirror structs.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Diagnostic;
use crate::api::tls_policy::TlsPolicy;
use crate::quote::shown;

/// One object that the compiler understands.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// `networking.k8s.io/v1` Ingress.
    Ingress(Arc<Ingress>),
    /// `networking.k8s.io/v1` IngressClass.
    IngressClass(Arc<IngressClass>),
    /// `v1` Secret. Its `Debug` output never shows `data`.
    Secret(SecretObject),
    /// `v1` Service.
    Service(Arc<Service>),
    /// `handfast.dev/v1alpha1` TlsPolicy.
    TlsPolicy(Arc<TlsPolicy>),
}

/// A Secret whose `Debug` output names it and nothing else.
#[derive(Clone, PartialEq)]
pub struct SecretObject(pub Arc<Secret>);

impl fmt::Debug for SecretObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?}/{:?})", self.0.metadata.namespace, self.0.metadata.name)
    }
}

/// The kind of an object, or of a thing that a diagnostic can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// EndpointSlice.
    EndpointSlice,
    /// A file of a directory source. Only diagnostics are about files.
    File,
    /// Ingress.
    Ingress,
    /// IngressClass.
    IngressClass,
    /// An object of a kind that the compiler does not know. Only diagnostics are about these.
    Other,
    /// Secret.
    Secret,
    /// Service.
    Service,
    /// TlsPolicy.
    TlsPolicy,
}

/// Names an object. The namespace is empty for objects without one (IngressClass) and for files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub namespace: Arc<str>,
    /// Its name, or a file's path.
    pub name: Arc<str>,
}

/// Where objects come from: one watch, or one file. A file's scope is its path relative to the source directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub Arc<str>);

/// A change to the set of objects.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is gone from this scope.
    Delete(Scope, ObjectKey),
    /// What this scope holds that could not be read. Takes the place of what the scope had reported before;
    /// an empty list says that all is well. Objects of the scope stay as they are.
    Rejected(Scope, Vec<Diagnostic>),
    /// The scope holds exactly these objects (a relist, a file read again). If it names an object twice, the first
    /// counts and the others are reported.
    Replace(Scope, Vec<Object>),
    /// The object is new, or has a new version, in this scope.
    Upsert(Scope, Object),
}

impl Object {
    /// The object's name.
    pub fn key(&self) -> ObjectKey {
        let metadata = self.metadata();
        let text = |field: &Option<String>| Arc::from(field.as_deref().unwrap_or_default());
        ObjectKey { kind: self.kind(), namespace: text(&metadata.namespace), name: text(&metadata.name) }
    }

    /// The object's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::Ingress(_) => Kind::Ingress,
            Object::IngressClass(_) => Kind::IngressClass,
            Object::Secret(_) => Kind::Secret,
            Object::Service(_) => Kind::Service,
            Object::TlsPolicy(_) => Kind::TlsPolicy,
        }
    }

    /// The object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::EndpointSlice(object) => &object.metadata,
            Object::Ingress(object) => &object.metadata,
            Object::IngressClass(object) => &object.metadata,
            Object::Secret(object) => &object.0.metadata,
            Object::Service(object) => &object.metadata,
            Object::TlsPolicy(object) => &object.metadata,
        }
    }
}

impl ObjectKey {
    /// `NAMESPACE/NAME`, as people write it where the kind is clear.
    pub fn path(&self) -> String {
        format!("{}/{}", shown(&self.namespace), shown(&self.name))
    }

    /// Names an object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl Kind {
    /// Whether its objects are in namespaces.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Kind::EndpointSlice | Kind::Ingress | Kind::Secret | Kind::Service | Kind::TlsPolicy => true,
            Kind::File | Kind::IngressClass | Kind::Other => false,
        }
    }

    /// The kind as manifests write it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::EndpointSlice => "EndpointSlice",
            Kind::File => "File",
            Kind::Ingress => "Ingress",
            Kind::IngressClass => "IngressClass",
            Kind::Other => "Object",
            Kind::Secret => "Secret",
            Kind::Service => "Service",
            Kind::TlsPolicy => "TlsPolicy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, shown(&self.name))
        } else {
            write!(f, "{} {}/{}", self.kind, shown(&self.namespace), shown(&self.name))
        }
    }
}
