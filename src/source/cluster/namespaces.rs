//! The way from watches to the reconciler, past `--watch-namespace-selector`.
//!
//! `Upsert of an Ingress ──is its namespace selected?──▶ Upsert, or kept until it is`
//!
//! Only Ingresses ask for anything, so they are all that has to be held back. They are kept here as well where there is
//! a selector, because a label that changes brings or takes all Ingresses of a namespace at once.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use tokio::sync::{Mutex, mpsc};

use super::attempts::{Answer, Backoff, Reporter};
use super::endless::Endless;
use super::health::Health;
use super::seen::Seen;
use super::watch::WATCH_TIMEOUT;
use crate::compile::{Change, Diagnostic, Object, ObjectKey, Scope};
use crate::source::Event;

/// Where watches send what they find.
#[derive(Clone)]
pub(super) struct Outlet {
    events: mpsc::Sender<Event>,
    /// `None` without a selector. The lock is held while events are sent, so that they come in the order of decisions.
    selected: Option<Arc<Mutex<Selected>>>,
    seen: Seen,
}

#[derive(Default)]
struct Selected {
    /// All namespaces have been told, so the others are not selected. Before, nobody knows.
    is_known: bool,
    namespaces: HashSet<Arc<str>>,
    ingresses: HashMap<Arc<str>, HashMap<ObjectKey, (Scope, Object)>>,
}

impl Outlet {
    pub(super) fn new(events: mpsc::Sender<Event>, with_selector: bool, seen: &Seen) -> Self {
        seen.objects().selected = with_selector.then(HashSet::new);
        Self { events, selected: with_selector.then(Arc::default), seen: seen.clone() }
    }

    pub(super) async fn upsert(&self, scope: &Scope, object: Object) {
        if let (Some(selected), Object::Ingress(_)) = (&self.selected, &object) {
            let mut selected = selected.lock().await;
            let key = object.key();
            let is_selected = selected.namespaces.contains(&key.namespace);
            let kept = selected.ingresses.entry(key.namespace.clone()).or_default();
            kept.insert(key, (scope.clone(), object.clone()));
            if is_selected {
                self.send(Change::Upsert(scope.clone(), object)).await;
            } else if selected.is_known {
                // It may have been served from what was saved.
                self.send(Change::Delete(scope.clone(), object.key())).await;
            }
            return;
        }
        self.send(Change::Upsert(scope.clone(), object)).await;
    }

    pub(super) async fn delete(&self, scope: &Scope, key: ObjectKey) {
        if let Some(selected) = &self.selected {
            let mut selected = selected.lock().await;
            if let Some(kept) = selected.ingresses.get_mut(&key.namespace) {
                kept.remove(&key);
            }
            // One that was held back is not known, and deleting it changes nothing.
            self.send(Change::Delete(scope.clone(), key)).await;
            return;
        }
        self.send(Change::Delete(scope.clone(), key)).await;
    }

    pub(super) async fn rejected(&self, scope: &Scope, diagnostics: Vec<Diagnostic>) {
        self.send(Change::Rejected(scope.clone(), diagnostics)).await;
    }

    async fn send(&self, change: Change) {
        // Without a receiver this task is about to be ended.
        let _ = self.events.send(Event::Change(change)).await;
    }

    async fn select(&self, namespace: &str, is_selected: bool) {
        let Some(selected) = &self.selected else { return };
        let mut selected = selected.lock().await;
        let changed = if is_selected {
            selected.namespaces.insert(namespace.into())
        } else {
            selected.namespaces.remove(namespace)
        };
        if !changed {
            return;
        }
        self.seen.objects().selected = Some(selected.namespaces.clone());
        for (key, (scope, object)) in selected.ingresses.get(namespace).into_iter().flatten() {
            let change = if is_selected {
                Change::Upsert(scope.clone(), object.clone())
            } else {
                Change::Delete(scope.clone(), key.clone())
            };
            self.send(change).await;
        }
    }

    /// All namespaces have been told: what was served from elsewhere and is not selected goes.
    async fn know(&self) {
        let Some(selected) = &self.selected else { return };
        let mut selected = selected.lock().await;
        if std::mem::replace(&mut selected.is_known, true) {
            return;
        }
        let others = selected.ingresses.iter().filter(|(namespace, _)| !selected.namespaces.contains(*namespace));
        for (key, (scope, _)) in others.flat_map(|(_, ingresses)| ingresses) {
            self.send(Change::Delete(scope.clone(), key.clone())).await;
        }
    }

    /// The namespaces that are selected now.
    async fn namespaces(&self) -> HashSet<Arc<str>> {
        match &self.selected {
            Some(selected) => selected.lock().await.namespaces.clone(),
            None => HashSet::new(),
        }
    }
}

/// Watches the names of the namespaces with the labels.
pub(super) struct Namespaces {
    pub(super) api: Api<PartialObjectMeta<Namespace>>,
    pub(super) selector: String,
    pub(super) outlet: Outlet,
    pub(super) health: Health,
    pub(super) reporter: Reporter,
}

impl Endless for Namespaces {
    fn name(&self) -> String {
        "watch of namespaces".into()
    }

    async fn run(&mut self) {
        let Self { api, selector, outlet, health, reporter } = &*self;
        let config = watcher::Config::default().timeout(WATCH_TIMEOUT).labels(selector);
        let mut stream = pin!(watcher::watcher(api.clone(), config));
        let mut backoff = Backoff::default();
        let mut listed = HashSet::new();
        while let Some(event) = stream.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    health.failed(&error);
                    let answer = Answer::of(&error);
                    reporter.tell(answer);
                    tokio::time::sleep(backoff.next(reporter.longest_wait(answer))).await;
                    continue;
                }
            };
            backoff.settle(&event);
            health.event();
            let name = |namespace: &PartialObjectMeta<Namespace>| namespace.metadata.name.clone().unwrap_or_default();
            match event {
                watcher::Event::Init => listed.clear(),
                watcher::Event::InitApply(namespace) => {
                    outlet.select(&name(&namespace), true).await;
                    listed.insert(name(&namespace));
                }
                watcher::Event::InitDone => {
                    for namespace in outlet.namespaces().await {
                        if !listed.contains(&*namespace) {
                            outlet.select(&namespace, false).await;
                        }
                    }
                    outlet.know().await;
                    health.relisted();
                    reporter.tell(Answer::Listed);
                }
                watcher::Event::Apply(namespace) => outlet.select(&name(&namespace), true).await,
                watcher::Event::Delete(namespace) => outlet.select(&name(&namespace), false).await,
            }
        }
    }

    fn ended(&mut self) {
        self.health.ended();
        self.reporter.tell(Answer::Failed);
    }
}
