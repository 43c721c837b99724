//! Which Secrets an object names.
//!
//! `Ingress, TlsPolicy ──secrets──▶ names`
//!
//! A source that does not bring every Secret along asks here which ones to fetch. It may name one that is not used in
//! the end (the class of the Ingress may be another controller's), and never leaves one out.

use super::{Kind, Object, ObjectKey};
use crate::api::annotations;

/// The Secrets that the object names, whether they exist or not.
pub fn secrets(object: &Object) -> Vec<ObjectKey> {
    let namespace = object.metadata().namespace.as_deref().unwrap_or("default");
    let key = |name: &str| ObjectKey::new(Kind::Secret, namespace, name);
    match object {
        Object::Ingress(ingress) => {
            let entries = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
            let named = entries.filter_map(|entry| entry.secret_name.as_deref());
            let written = ingress.metadata.annotations.iter().flatten();
            let settings = annotations::read(written.map(|(name, value)| (name.as_str(), value.as_str())));
            let additional = settings.tls.additional_secrets.into_iter().flat_map(|names| names.value);
            let mut keys: Vec<ObjectKey> = named.filter(|name| !name.is_empty()).map(key).collect();
            keys.extend(additional.map(|name| key(&name)));
            keys.sort();
            keys.dedup();
            keys
        }
        Object::TlsPolicy(policy) => policy.spec.client_auth.iter().map(|auth| key(&auth.ca_secret)).collect(),
        Object::EndpointSlice(_) | Object::IngressClass(_) | Object::Secret(_) | Object::Service(_) => Vec::new(),
    }
}
