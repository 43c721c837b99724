//! One watch: everything of one kind in one namespace or in all of them.
//!
//! `watcher ──▶ trim ──▶ digest known? ──▶ Upsert │ Delete │ Rejected`

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;

use aws_lc_rs::digest;
use futures_util::StreamExt as _;
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassSpec};
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Resource as _};
use tokio::sync::mpsc;
use tracing::warn;

use super::Phase;
use super::attempts::{Answer, Backoff, Reporter, status};
use super::endless::Endless;
use super::health::Health;
use super::kinds::{self, Watched};
use super::namespaces::Outlet;
use super::referenced::Need;
use super::seen::Seen;
use crate::compile::{Diagnostic, Effect, Kind, Object, ObjectKey, Problem, Scope, referenced_secrets, trim};

/// How long the server may keep a watch open, in seconds: less than what load balancers before it allow.
pub(super) const WATCH_TIMEOUT: u32 = 200;

/// Which objects of a kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    fields: Option<String>,
    labels: Option<String>,
    /// Only the object of this name.
    pub(super) only: Option<String>,
}

impl Selection {
    pub(super) fn fields(selector: &str) -> Self {
        Self { fields: Some(selector.to_owned()), ..Self::default() }
    }

    pub(super) fn labels(selector: &str) -> Self {
        Self { labels: Some(selector.to_owned()), ..Self::default() }
    }

    pub(super) fn name(name: &str) -> Self {
        Self { fields: Some(format!("metadata.name={name}")), only: Some(name.to_owned()), ..Self::default() }
    }

    fn config(&self) -> watcher::Config {
        watcher::Config {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            ..watcher::Config::default().timeout(WATCH_TIMEOUT)
        }
    }
}

type Digest = [u8; 32];

/// The watch and what it has sent.
pub(super) struct Watch<K: Watched> {
    api: Api<DeserializeGuard<K>>,
    scope: Scope,
    selection: Selection,
    health: Health,
    phase: Phase,
    target: Target,
    /// Everything that the reconciler has of this scope; without a digest if it is not known in which form.
    known: HashMap<ObjectKey, Option<Digest>>,
    /// Objects that do not parse.
    unreadable: BTreeMap<ObjectKey, String>,
    /// Why the server does not list the kind.
    refused: Option<String>,
    /// What is wrong with what this watch brings is something else than was said.
    is_report_due: bool,
    was_listed: bool,
    /// It was said that everything that is needed is known.
    was_complete: bool,
}

/// Where things go.
pub(super) struct Target {
    pub(super) outlet: Outlet,
    pub(super) seen: Seen,
    /// `None` where nobody fetches Secrets.
    pub(super) needs: Option<mpsc::UnboundedSender<Need>>,
    /// A class that is supposed where IngressClasses may not be read, and its controller.
    pub(super) class: (String, String),
    /// That the server refuses to list the kind is as it should be.
    pub(super) is_optional: bool,
    pub(super) reporter: Reporter,
}

impl<K: Watched> Watch<K> {
    pub(super) fn new(
        api: Api<DeserializeGuard<K>>,
        scope: Scope,
        selection: Selection,
        health: Health,
        phase: Phase,
        target: Target,
    ) -> Self {
        Self {
            api,
            scope,
            selection,
            health,
            phase,
            target,
            known: HashMap::new(),
            unreadable: BTreeMap::new(),
            refused: None,
            is_report_due: false,
            was_listed: false,
            was_complete: false,
        }
    }

    /// What was saved goes if the list does not name it.
    async fn take_over(&mut self) {
        self.known.extend(self.phase.take_over().await.into_iter().map(|key| (key, None)));
    }

    fn need(&self, need: Need) {
        // Without a receiver this task is about to be ended.
        let _ = self.target.needs.as_ref().map(|needs| needs.send(need));
    }

    async fn upsert(&mut self, object: DeserializeGuard<K>) {
        let key = kinds::key(K::OBJECT, object.meta());
        let object = match object.0 {
            Ok(object) => object,
            Err(invalid) => {
                // What it was before stays as it is.
                if self.unreadable.insert(key, invalid.error.clone()) != Some(invalid.error) {
                    self.is_report_due = true;
                }
                return;
            }
        };
        if self.unreadable.remove(&key).is_some() {
            self.is_report_due = true;
        }
        if object.see(&key, &mut self.target.seen.objects()) {
            self.target.seen.changed();
        }
        let object = trim(object.into_object());
        let digest = digest_of(&object);
        if self.known.insert(key.clone(), Some(digest)) == Some(Some(digest)) {
            return;
        }
        if K::NEEDS_SECRETS {
            self.need(Need::Of { by: key, secrets: referenced_secrets(&object) });
        }
        self.target.outlet.upsert(&self.scope, object).await;
    }

    async fn delete(&mut self, key: ObjectKey) {
        if K::forget(&key, &mut self.target.seen.objects()) {
            self.target.seen.changed();
        }
        if self.unreadable.remove(&key).is_some() {
            self.is_report_due = true;
        }
        if self.known.remove(&key).is_none() {
            return;
        }
        if K::NEEDS_SECRETS {
            self.need(Need::Of { by: key.clone(), secrets: Vec::new() });
        }
        self.target.outlet.delete(&self.scope, key).await;
    }

    /// What is needed by all objects that are there at the start has been said.
    fn complete(&mut self) {
        if K::NEEDS_SECRETS && !std::mem::replace(&mut self.was_complete, true) {
            self.need(Need::Complete);
        }
    }

    /// The server does not list the kind. What was sent stays.
    async fn refuse(&mut self, error: String) {
        if self.refused.as_ref() == Some(&error) {
            return;
        }
        self.refused = Some(error);
        self.is_report_due = true;
        self.report().await;
        // A Role cannot allow IngressClasses, which belong to no namespace: then the name alone decides.
        if K::OBJECT == Kind::IngressClass && !self.was_listed && !self.phase.is_saved().await {
            let (name, controller) = &self.target.class;
            warn!(
                class = name,
                "IngressClasses cannot be read, so Ingresses of this class are served, whichever controller the class belongs to."
            );
            let object = Object::IngressClass(std::sync::Arc::new(IngressClass {
                metadata: kube::core::ObjectMeta { name: Some(name.clone()), ..Default::default() },
                spec: Some(IngressClassSpec { controller: Some(controller.clone()), parameters: None }),
            }));
            self.known.insert(object.key(), None);
            self.target.outlet.upsert(&self.scope, object).await;
        }
    }

    /// Says all that is wrong with what this watch brings, if that is something else than before. Each time it is all of
    /// it, so this is for when many objects have been looked at.
    async fn report(&mut self) {
        if !std::mem::take(&mut self.is_report_due) {
            return;
        }
        let unreadable = self.unreadable.iter().map(|(key, error)| Diagnostic {
            subject: key.clone(),
            field: "".into(),
            problem: Problem::InvalidDocument { object: Some(key.clone()), error: error.clone() },
            effect: Effect::None,
            hosts: Vec::new(),
        });
        let refused = self.refused.iter().filter(|_| !self.target.is_optional).map(|error| Diagnostic {
            subject: ObjectKey::new(Kind::Other, "", K::RESOURCE),
            field: "".into(),
            problem: Problem::KindNotWatched { kind: K::KIND, error: error.clone() },
            effect: Effect::None,
            hosts: Vec::new(),
        });
        self.target.outlet.rejected(&self.scope, unreadable.chain(refused).collect()).await;
    }
}

impl<K: Watched> Endless for Watch<K> {
    fn name(&self) -> String {
        format!("watch of {}", self.scope.0)
    }

    async fn run(&mut self) {
        let mut stream = pin!(watcher::watcher(self.api.clone(), self.selection.config()));
        let mut backoff = Backoff::default();
        let mut listed = HashSet::new();
        let mut accepted = self.health.accepted();
        loop {
            let event = tokio::select! {
                biased;
                event = stream.next() => event,
                // Nothing else is waiting, so what there is to say is said once.
                () = std::future::ready(()), if self.is_report_due => {
                    self.report().await;
                    continue;
                }
                // Permission is back, and the watch goes on where it was: no list follows that would tell.
                Ok(()) = accepted.changed(), if self.refused.is_some() => {
                    self.refused = None;
                    self.is_report_due = true;
                    continue;
                }
            };
            let Some(event) = event else { return };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let answer = Answer::of(&error);
                    if answer == Answer::Refused && self.target.is_optional {
                        self.health.works();
                    } else {
                        self.health.failed(&error);
                    }
                    if answer == Answer::Refused {
                        accepted.mark_unchanged();
                        let message = status(&error).map(|status| status.message.clone());
                        self.refuse(message.unwrap_or_default()).await;
                        self.complete();
                    }
                    self.target.reporter.tell(answer);
                    tokio::time::sleep(backoff.next(self.target.reporter.longest_wait(answer))).await;
                    continue;
                }
            };
            backoff.settle(&event);
            self.health.event();
            match event {
                watcher::Event::Init => listed.clear(),
                watcher::Event::InitApply(object) => {
                    self.take_over().await;
                    listed.insert(kinds::key(K::OBJECT, object.meta()));
                    self.upsert(object).await;
                }
                watcher::Event::InitDone => {
                    self.take_over().await;
                    let gone = self.known.keys().chain(self.unreadable.keys());
                    let gone: Vec<ObjectKey> = gone.filter(|key| !listed.contains(*key)).cloned().collect();
                    for key in gone {
                        self.delete(key).await;
                    }
                    listed = HashSet::new();
                    self.was_listed = true;
                    self.is_report_due |= self.refused.take().is_some();
                    self.report().await;
                    self.health.relisted();
                    self.complete();
                    self.target.reporter.tell(Answer::Listed);
                }
                watcher::Event::Apply(object) => self.upsert(object).await,
                watcher::Event::Delete(object) => self.delete(kinds::key(K::OBJECT, object.meta())).await,
            }
        }
    }

    fn ended(&mut self) {
        self.health.ended();
        self.target.reporter.tell(Answer::Failed);
        self.known.values_mut().for_each(|digest| *digest = None);
        self.is_report_due = true;
    }
}

/// Of everything that the compiler gets.
pub(super) fn digest_of(object: &Object) -> Digest {
    let mut writer = DigestWriter(digest::Context::new(&digest::SHA256));
    // It is what came out of JSON, and the writer never fails.
    let _ = match object {
        Object::EndpointSlice(object) => serde_json::to_writer(&mut writer, &**object),
        Object::Ingress(object) => serde_json::to_writer(&mut writer, &**object),
        Object::IngressClass(object) => serde_json::to_writer(&mut writer, &**object),
        Object::Secret(object) => serde_json::to_writer(&mut writer, &*object.0),
        Object::Service(object) => serde_json::to_writer(&mut writer, &**object),
        Object::TlsPolicy(object) => serde_json::to_writer(&mut writer, &**object),
    };
    let mut digest = [0; 32];
    digest.copy_from_slice(writer.0.finish().as_ref());
    digest
}

struct DigestWriter(digest::Context);

impl std::io::Write for DigestWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Change;
    use crate::kubernetes::fake::{Fake, Fault};
    use crate::metrics::Metrics;
    use crate::source::Event;
    use crate::source::cluster::endless::keep;
    use crate::source::cluster::health::Board;
    use k8s_openapi::api::core::v1::{ConfigMap, Service};
    use serde_json::json;
    use std::sync::Arc;

    /// One kind with a bug.
    impl Watched for ConfigMap {
        const OBJECT: Kind = Kind::Service;
        const RESOURCE: &'static str = "configmaps";

        fn into_object(self) -> Object {
            assert!(self.metadata.name.as_deref() != Some("cursed"), "a bug");
            Object::Service(Arc::new(Service { metadata: self.metadata, ..Service::default() }))
        }
    }

    fn put(api: &Fake, names: &[&str]) {
        let item = |name: &&str| json!({"metadata": {"namespace": "shop", "name": name, "resourceVersion": "1"}});
        let items: Vec<_> = names.iter().map(item).collect();
        api.put("/api/v1/configmaps", json!({"kind": "ConfigMapList", "apiVersion": "v1", "items": items}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_whose_task_panics_begins_again_and_tells_what_has_gone_meanwhile() {
        let api = Fake::default();
        api.script(|asked| asked.query.contains("watch=true").then_some(Fault::Silence));
        put(&api, &["a", "b", "cursed"]);
        let (events, mut told) = mpsc::channel(8);
        let (reports, mut answers) = mpsc::unbounded_channel();
        let metrics = Metrics::default();
        let mut board = Board::new(&metrics);
        let health = board.health("Service", "");
        let seen = Seen::default();
        let target = Target {
            outlet: Outlet::new(events, false, &seen),
            seen,
            needs: None,
            class: Default::default(),
            is_optional: false,
            reporter: Reporter { index: 0, reports, has_begun: Arc::default() },
        };
        let scope = Scope("Service".into());
        let phase = Phase::default();
        let watch =
            Watch::<ConfigMap>::new(Api::all(api.client()), scope, Selection::default(), health.clone(), phase, target);
        let task = tokio::spawn(keep(watch));
        assert_eq!(answers.recv().await.unwrap().answer, Answer::Failed);
        assert!(health.is_stale());
        assert_eq!(metrics.watch_errors.with_label_values(&["Service", "bug"]).get(), 1);
        put(&api, &["b", "c"]);
        assert_eq!(answers.recv().await.unwrap().answer, Answer::Listed);
        assert!(!health.is_stale());
        task.abort();
        let _ = task.await;
        let mut changes = Vec::new();
        while let Some(Event::Change(change)) = told.recv().await {
            changes.push(match change {
                Change::Upsert(_, object) => format!("upsert {}", object.key().name),
                Change::Delete(_, key) => format!("delete {}", key.name),
                Change::Rejected(_, diagnostics) => format!("{} complaints", diagnostics.len()),
                Change::Replace(..) => unreachable!(),
            });
        }
        assert_eq!(changes, ["upsert a", "upsert b", "0 complaints", "upsert b", "upsert c", "delete a"]);
    }
}
