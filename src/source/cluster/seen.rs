//! What the cluster says about objects that we write to: who they are, and what stands in their status.
//!
//! `watches ──▶ Seen ──▶ status/`
//!
//! The compiler gets objects without their status, so that a status that somebody writes rebuilds nothing. Whoever
//! writes statuses looks here first, and writes what differs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use tokio::sync::watch;

use crate::api::tls_policy::TlsPolicyStatus;
use crate::compile::ObjectKey;
use crate::trie::Trie;

/// One look at an Ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenIngress {
    /// Of this object, not of one of the same name.
    pub uid: Arc<str>,
    /// `status.loadBalancer.ingress`.
    pub addresses: Vec<IngressLoadBalancerIngress>,
    /// We have written the status, by server-side apply, and nobody has taken it over.
    pub is_ours: bool,
}

/// One look at a TlsPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenPolicy {
    /// Of this object, not of one of the same name.
    pub uid: Arc<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// What stands there.
    pub status: Option<TlsPolicyStatus>,
    /// The field manager of another installation of Handfast, if what stands there is its word and not ours.
    pub other: Option<Arc<str>>,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Objects {
    /// Ingresses of every class.
    pub ingresses: Trie<ObjectKey, SeenIngress>,
    /// The field manager of our writes: statuses of this one are ours.
    pub manager: Arc<str>,
    /// Policies.
    pub policies: Trie<ObjectKey, SeenPolicy>,
    /// The namespaces whose Ingresses are served, as `--watch-namespace-selector` selects them; `None` without it.
    pub selected: Option<HashSet<Arc<str>>>,
}

/// Shared by the watches, which write it, and the status writer.
#[derive(Clone, Debug)]
pub struct Seen {
    objects: Arc<Mutex<Objects>>,
    changes: watch::Sender<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        Self::new("handfast")
    }
}

impl Seen {
    /// Of nothing yet. `manager` is the field manager of our writes.
    pub fn new(manager: &str) -> Self {
        let objects = Objects { manager: manager.into(), ..Objects::default() };
        Self { objects: Arc::new(Mutex::new(objects)), changes: watch::Sender::new(0) }
    }

    /// The field manager of our writes.
    pub fn manager(&self) -> Arc<str> {
        self.objects().manager.clone()
    }

    /// A look at it. To be short: watches wait meanwhile.
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something has changed.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes whenever something has changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
