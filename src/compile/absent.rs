//! Why a TlsPolicy that is named cannot be used: it is in another namespace, was refused, or does not exist.
//!
//! `View × name ──find──▶ Absent ──▶ message, remedy`
//!
//! "Does not exist" sends people to look for a policy that they have in front of them, so it is said only if it is true.

use std::sync::Arc;

use super::view::View;
use super::{Kind, ObjectKey};

/// Why a policy is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The IngressClass that named it is gone.
    ClassGone,
    /// There are policies of this name in other namespaces.
    Elsewhere {
        /// The namespaces, sorted.
        namespaces: Vec<Arc<str>>,
    },
    /// No namespace has a policy of this name.
    Nowhere,
    /// The parameters of the IngressClass do not name a policy.
    NotNamed,
    /// The annotation names a policy of another namespace, which exists.
    NotOwn,
    /// It is written down, and its document is not valid.
    Refused,
}

impl Absent {
    /// Looks for a policy that [`View::policy`] does not find.
    pub(super) fn find(view: &mut View<'_>, key: &ObjectKey) -> Self {
        if key.namespace.is_empty() {
            return Absent::NotNamed;
        }
        if view.is_refused(key) {
            return Absent::Refused;
        }
        if let Some((namespace, name)) = key.name.split_once('/') {
            let named = ObjectKey::new(Kind::TlsPolicy, namespace, name);
            return if view.policy(&named).is_some() { Absent::NotOwn } else { Absent::Nowhere };
        }
        let namespaces = view.namespaces_with_policy(&key.name);
        if namespaces.is_empty() { Absent::Nowhere } else { Absent::Elsewhere { namespaces } }
    }

    /// A sentence without its full stop.
    pub(super) fn message(&self, policy: &str) -> String {
        match self {
            Absent::ClassGone => "The IngressClass is gone, and with it the TlsPolicy that it named".to_owned(),
            Absent::Elsewhere { namespaces } => {
                let (own, name) = policy.split_once('/').unwrap_or(("", policy));
                let first = namespaces.first().map_or("", |first| &**first);
                let more = match namespaces.len() {
                    0 | 1 => String::new(),
                    count => format!(" and {} more", count - 1),
                };
                format!("TlsPolicy {name} exists in namespace {first}{more}, but not in namespace {own}")
            }
            Absent::Nowhere => format!("TlsPolicy {policy} does not exist"),
            Absent::NotNamed => "The parameters of the IngressClass do not name a TlsPolicy".to_owned(),
            Absent::NotOwn => {
                format!("TlsPolicy {policy} exists, but an Ingress can only name a TlsPolicy of its own namespace")
            }
            Absent::Refused => format!("TlsPolicy {policy} was refused, because its document is not valid"),
        }
    }

    /// What to do, if it is something else than to create the policy.
    pub(super) fn remedy(&self) -> Option<&'static str> {
        match self {
            Absent::ClassGone => Some("create the IngressClass again, or name the TlsPolicy in the Ingress"),
            Absent::Elsewhere { .. } | Absent::NotOwn => Some(
                "create the TlsPolicy in this namespace too, or correct the name; only the parameters of an IngressClass and \
                 --default-tls-policy can name a policy of another namespace",
            ),
            Absent::Nowhere => None,
            Absent::NotNamed => Some("correct the parameters of the IngressClass as its own finding says"),
            Absent::Refused => Some("correct the document of the TlsPolicy as its own finding says"),
        }
    }
}
