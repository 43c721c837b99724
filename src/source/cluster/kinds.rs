//! What the kinds that are watched have in common.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::seen::{Objects, SeenIngress, SeenPolicy};
use crate::api::tls_policy::TlsPolicy;
use crate::compile::{Kind, Object, ObjectKey, SecretObject};
use crate::kubernetes::MANAGER;

/// A kind that is watched whole.
pub(super) trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// For diagnostics.
    const OBJECT: Kind;
    /// For labels of metrics and scopes.
    const KIND: &'static str = Self::OBJECT.name();
    /// The resource, as permissions name it.
    const RESOURCE: &'static str;
    /// Its objects may name Secrets.
    const NEEDS_SECRETS: bool = false;

    /// For the compiler.
    fn into_object(self) -> Object;

    /// Notes what of it does not go to the compiler. True if something is other than before.
    fn see(&self, _key: &ObjectKey, _seen: &mut Objects) -> bool {
        false
    }

    /// It is gone.
    fn forget(_key: &ObjectKey, _seen: &mut Objects) -> bool {
        false
    }
}

impl Watched for EndpointSlice {
    const OBJECT: Kind = Kind::EndpointSlice;
    const RESOURCE: &'static str = "endpointslices.discovery.k8s.io";

    fn into_object(self) -> Object {
        Object::EndpointSlice(Arc::new(self))
    }
}

impl Watched for Ingress {
    const OBJECT: Kind = Kind::Ingress;
    const RESOURCE: &'static str = "ingresses.networking.k8s.io";
    const NEEDS_SECRETS: bool = true;

    fn into_object(self) -> Object {
        Object::Ingress(Arc::new(self))
    }

    fn see(&self, key: &ObjectKey, seen: &mut Objects) -> bool {
        let load_balancer = self.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let look = SeenIngress {
            uid: uid(&self.metadata),
            addresses: load_balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default(),
            is_ours: has_our_status(&self.metadata, &seen.manager),
        };
        seen.ingresses.insert(key.clone(), look.clone()) != Some(look)
    }

    fn forget(key: &ObjectKey, seen: &mut Objects) -> bool {
        seen.ingresses.remove(key).is_some()
    }
}

impl Watched for IngressClass {
    const OBJECT: Kind = Kind::IngressClass;
    const RESOURCE: &'static str = "ingressclasses.networking.k8s.io";

    fn into_object(self) -> Object {
        Object::IngressClass(Arc::new(self))
    }
}

impl Watched for Secret {
    const OBJECT: Kind = Kind::Secret;
    const RESOURCE: &'static str = "secrets";

    fn into_object(self) -> Object {
        Object::Secret(SecretObject(Arc::new(self)))
    }
}

impl Watched for Service {
    const OBJECT: Kind = Kind::Service;
    const RESOURCE: &'static str = "services";

    fn into_object(self) -> Object {
        Object::Service(Arc::new(self))
    }
}

impl Watched for TlsPolicy {
    const OBJECT: Kind = Kind::TlsPolicy;
    const RESOURCE: &'static str = "tlspolicies.handfast.dev";
    const NEEDS_SECRETS: bool = true;

    fn into_object(self) -> Object {
        Object::TlsPolicy(Arc::new(self))
    }

    fn see(&self, key: &ObjectKey, seen: &mut Objects) -> bool {
        let look = SeenPolicy {
            uid: uid(&self.metadata),
            generation: self.metadata.generation.unwrap_or_default(),
            status: self.status.clone(),
            other: other_installation(&self.metadata, &seen.manager),
        };
        seen.policies.insert(key.clone(), look.clone()) != Some(look)
    }

    fn forget(key: &ObjectKey, seen: &mut Objects) -> bool {
        seen.policies.remove(key).is_some()
    }
}

fn uid(metadata: &ObjectMeta) -> Arc<str> {
    metadata.uid.as_deref().unwrap_or_default().into()
}

fn has_our_status(metadata: &ObjectMeta, manager: &str) -> bool {
    metadata
        .managed_fields
        .iter()
        .flatten()
        .any(|entry| entry.manager.as_deref() == Some(manager) && entry.subresource.as_deref() == Some("status"))
}

/// Whose word the conditions of a policy are, if it is another installation's and not ours. What two of them agree about
/// is of both, and the message of `Programmed` is what they do not agree about.
fn other_installation(metadata: &ObjectMeta, manager: &str) -> Option<Arc<str>> {
    const WORD: [&str; 4] = ["f:status", "f:conditions", r#"k:{"type":"Programmed"}"#, "f:message"];
    let entries = metadata.managed_fields.iter().flatten();
    let speakers = entries.filter_map(|entry| {
        let fields = &entry.fields_v1.as_ref()?.0;
        WORD.iter().try_fold(fields, |fields, name| fields.get(name))?;
        entry.manager.as_deref().filter(|manager| manager.starts_with(MANAGER))
    });
    let speakers: Vec<&str> = speakers.collect();
    if speakers.contains(&manager) { None } else { speakers.first().copied().map(Arc::from) }
}

/// The name of an object, whatever else is wrong with it.
pub(super) fn key(kind: Kind, metadata: &ObjectMeta) -> ObjectKey {
    let namespace = metadata.namespace.as_deref().filter(|_| kind.is_namespaced()).unwrap_or_default();
    ObjectKey::new(kind, namespace, metadata.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const OURS: &str = "handfast/edge/handfast-leader";
    const THEIRS: &str = "handfast/inner/handfast-leader";

    fn metadata(entries: Value) -> ObjectMeta {
        serde_json::from_value(json!({"name": "x", "managedFields": entries})).unwrap()
    }

    fn entry(manager: &str, subresource: Option<&str>, fields: Value) -> Value {
        json!({"manager": manager, "operation": "Apply", "subresource": subresource, "fieldsV1": {"f:status": fields}})
    }

    #[test]
    fn a_status_is_that_of_the_installation_that_wrote_it() {
        let addresses = json!({"f:loadBalancer": {"f:ingress": {}}});
        let written = metadata(json!([entry(THEIRS, Some("status"), addresses.clone())]));
        assert!(has_our_status(&written, THEIRS) && !has_our_status(&written, OURS));
        assert!(!has_our_status(&metadata(json!([entry(OURS, None, addresses)])), OURS), "the object, not its status");
        assert!(!has_our_status(&ObjectMeta::default(), OURS));
    }

    #[test]
    fn conditions_are_the_word_of_one_installation_or_of_both_if_they_agree() {
        let says = |manager: &str, field: &str| {
            let fields = json!({"f:conditions": {r#"k:{"type":"Programmed"}"#: {".": {}, field: {}, "f:type": {}}}});
            entry(manager, Some("status"), fields)
        };
        let other = |entries: Value| other_installation(&metadata(entries), OURS);
        let message = "f:message";
        assert_eq!(other(json!([says(THEIRS, message), says(OURS, "f:status")])).as_deref(), Some(THEIRS));
        assert_eq!(other(json!([says(OURS, message), says(THEIRS, "f:status")])), None);
        assert_eq!(other(json!([says(OURS, message), says(THEIRS, message)])), None);
        assert_eq!(other(json!([says("kubectl-edit", message)])), None, "what people write is put right");
        assert_eq!(other(json!([])), None);
    }
}
