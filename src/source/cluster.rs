//! A cluster as a source: one watch per kind and namespace.
//!
//! ```text
//! API server ──watch──▶ trim ──digest──▶ Upsert, Delete      one task per watch (watch.rs)
//!                 │                          ▲
//!                 │                   --watch-namespace-selector (namespaces.rs)
//!                 ├──▶ names of Secrets ──get──▶ Upsert      those that something refers to (referenced.rs)
//!                 ├──▶ Seen                                   what stands in statuses (seen.rs)
//!                 └──▶ Health ──▶ metrics, log lines          whether the watch works (health.rs)
//! ```
//!
//! **What is kept.** Objects are trimmed on arrival and sent on; of each only a digest stays here, so that what did not
//! change in a field that is used (a status, say) wakes nobody, and a relist sends what differs. A relist deletes what
//! it does not name when it is complete, and not before.
//!
//! **Secrets.** Those of type `kubernetes.io/tls` come whole. Of the others only names are watched, and those that an
//! Ingress or a TlsPolicy names are fetched: Secrets of Helm alone would be more than all the rest.
//!
//! **The start** waits for every kind, because half of a configuration is a wrong one. A definite no of the API server
//! (403, 404) is an answer: that kind is done without, and it is said. Where there is no answer at all, what
//! `--state-dir` has from before is served after a while; without it the start goes on waiting.
//!
//! **Afterwards** nothing that happens to the API server takes anything away.

mod attempts;
mod endless;
mod health;
mod kinds;
mod namespaces;
mod referenced;
pub mod seen;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::{Api, Resource};
use rustls::pki_types::UnixTime;
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::api::tls_policy::TlsPolicy;
use crate::clock;
use crate::compile::{Change, Kind, Object, ObjectKey, Scope};
use crate::kubernetes::{Cluster, ConnectError};
use crate::metrics::Metrics;

use super::{Event, Events};
use attempts::{Answer, Report, Reporter};
use endless::Endless;
use health::Board;
use kinds::Watched;
use namespaces::{Namespaces, Outlet};
use referenced::{Need, Referenced};
use seen::Seen;
use watch::{Selection, Target, Watch};

/// What of a cluster is watched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only these namespaces; all if there is none.
    pub namespaces: BTreeSet<String>,
    /// Only Ingresses of namespaces with these labels.
    pub selector: Option<String>,
    /// A class that is served by its name where IngressClasses may not be read.
    pub class: (String, String),
    /// Namespace and name of the Secret with the default certificate.
    pub default_tls_secret: Option<(String, String)>,
    /// Namespaces and names of the policies that the operator names.
    pub tls_policies: BTreeSet<(String, String)>,
    /// How long the start waits for kinds that the cluster does not list.
    pub sync_timeout: Duration,
}

/// Objects by scope.
type Objects = Vec<(Scope, Vec<Object>)>;

/// What a cluster held when this was last written down.
#[derive(Default)]
pub struct Saved {
    /// Reads it, which takes a while. `None` if there is nothing.
    load: Option<Box<dyn FnOnce() -> Objects + Send>>,
    at: Option<UnixTime>,
}

impl Saved {
    /// What `load` finds, if it is asked.
    pub fn later(at: UnixTime, load: impl FnOnce() -> Objects + Send + 'static) -> Self {
        Self { load: Some(Box::new(load)), at: Some(at) }
    }
}

/// How long the start waits at least before it serves what was saved, if nothing answers.
const SAVED_PATIENCE: Duration = Duration::from_secs(5);

/// Events on their way to the reconciler.
const INBOX: usize = 1024;

/// Starts watching, on the current runtime.
pub fn open(
    cluster: &Cluster,
    settings: &Settings,
    saved: Saved,
    seen: &Seen,
    metrics: &Metrics,
) -> Result<Events, ConnectError> {
    let (events, receiver) = mpsc::channel(INBOX);
    let (reports, inbox) = mpsc::unbounded_channel();
    let mut start = Start {
        cluster,
        settings,
        seen,
        outlet: Outlet::new(events.clone(), settings.selector.is_some(), seen),
        needs: HashMap::new(),
        board: Board::new(metrics),
        reports,
        has_begun: Arc::default(),
        pending: Vec::new(),
        tasks: Tasks::default(),
    };
    start.all()?;
    let Start { mut tasks, pending, board, has_begun, .. } = start;
    tasks.spawn(board.pulse(cluster.client.clone()));
    tasks.spawn(board);
    tasks.spawn(Gate {
        pending,
        saved,
        events,
        inbox,
        has_begun,
        timeout: settings.sync_timeout,
        address: cluster.address.clone(),
        metrics: metrics.clone(),
    });
    Ok(Events::new(receiver, tasks))
}

/// Ends the watches when dropped.
#[derive(Default)]
struct Tasks(Vec<AbortHandle>);

impl Tasks {
    fn spawn(&mut self, task: impl Endless) {
        self.0.push(tokio::spawn(endless::keep(task).boxed()).abort_handle());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Starts one watch after the other.
struct Start<'a> {
    cluster: &'a Cluster,
    settings: &'a Settings,
    seen: &'a Seen,
    outlet: Outlet,
    /// Ways to the tasks that fetch Secrets, by namespace; the one of all namespaces has no name.
    needs: HashMap<String, mpsc::UnboundedSender<Need>>,
    board: Board,
    reports: mpsc::UnboundedSender<Report>,
    has_begun: Arc<AtomicBool>,
    pending: Vec<Pending>,
    tasks: Tasks,
}

impl Start<'_> {
    fn all(&mut self) -> Result<(), ConnectError> {
        if let Some(selector) = self.settings.selector.clone() {
            self.namespaces(&selector)?;
        }
        self.referenced()?;
        self.everywhere::<Ingress>(Selection::default())?;
        self.everywhere::<TlsPolicy>(Selection::default())?;
        self.everywhere::<Secret>(Selection::fields("type=kubernetes.io/tls"))?;
        self.everywhere::<Service>(Selection::default())?;
        self.everywhere::<EndpointSlice>(Selection::labels("kubernetes.io/service-name"))?;
        let classes = |client| Api::all(client);
        self.watch::<IngressClass>("", Selection::default(), classes)?;
        // What the operator names may lie outside of the namespaces that are watched.
        if let Some((namespace, name)) = self.outside(self.settings.default_tls_secret.as_ref()) {
            self.namespaced::<Secret>(&namespace, Selection::name(&name))?;
        }
        let policies = self.settings.tls_policies.iter().filter_map(|named| self.outside(Some(named)));
        for (namespace, name) in policies.collect::<Vec<_>>() {
            self.namespaced::<TlsPolicy>(&namespace, Selection::name(&name))?;
        }
        Ok(())
    }

    /// That a kind is refused is as it should be: Roles, which cannot allow to read IngressClasses, are all that it takes to
    /// serve some namespaces.
    fn is_optional(&self, kind: Option<Kind>) -> bool {
        kind == Some(Kind::IngressClass) && !self.settings.namespaces.is_empty()
    }

    fn outside(&self, named: Option<&(String, String)>) -> Option<(String, String)> {
        let namespaces = &self.settings.namespaces;
        named.filter(|(namespace, _)| !namespaces.is_empty() && !namespaces.contains(namespace)).cloned()
    }

    /// A watch over all namespaces, or one for each that is to be watched.
    fn everywhere<K>(&mut self, selection: Selection) -> Result<(), ConnectError>
    where
        K: Watched + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        if self.settings.namespaces.is_empty() {
            return self.watch::<K>("", selection, Api::all);
        }
        for namespace in self.settings.namespaces.clone() {
            self.namespaced::<K>(&namespace, selection.clone())?;
        }
        Ok(())
    }

    fn namespaced<K>(&mut self, namespace: &str, selection: Selection) -> Result<(), ConnectError>
    where
        K: Watched + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.watch::<K>(namespace, selection, |client| Api::namespaced(client, namespace))
    }

    fn watch<K: Watched>(
        &mut self,
        namespace: &str,
        selection: Selection,
        api: impl FnOnce(kube::Client) -> Api<kube::core::DeserializeGuard<K>>,
    ) -> Result<(), ConnectError> {
        let scope = scope(K::KIND, namespace, &selection);
        let health = self.board.health(K::KIND, namespace);
        let client = self.cluster.watch_client(health.guard())?;
        let (reporter, phase) = self.pend(scope.clone(), Some(K::OBJECT));
        let target = Target {
            outlet: self.outlet.clone(),
            seen: self.seen.clone(),
            needs: self.needs.get(namespace).cloned(),
            class: self.settings.class.clone(),
            is_optional: self.is_optional(Some(K::OBJECT)),
            reporter,
        };
        self.tasks.spawn(Watch::<K>::new(api(client), scope, selection, health, phase, target));
        Ok(())
    }

    fn namespaces(&mut self, selector: &str) -> Result<(), ConnectError> {
        let health = self.board.health("Namespace", "");
        let api = Api::all(self.cluster.watch_client(health.guard())?);
        let (reporter, _) = self.pend(Scope("namespaces".into()), None);
        let (selector, outlet) = (selector.to_owned(), self.outlet.clone());
        self.tasks.spawn(Namespaces { api, selector, outlet, health, reporter });
        Ok(())
    }

    /// The tasks that fetch Secrets of other types, one for each namespace: what one may not read holds up no other.
    fn referenced(&mut self) -> Result<(), ConnectError> {
        let all = BTreeSet::from([String::new()]);
        let named = &self.settings.namespaces;
        for namespace in if named.is_empty() { &all } else { named } {
            let health = self.board.health(Secret::KIND, namespace);
            let client = self.cluster.watch_client(health.guard())?;
            let names = if namespace.is_empty() { Api::all(client) } else { Api::namespaced(client, namespace) };
            let scope = scope("secrets.referenced", namespace, &Selection::default());
            let (reporter, phase) = self.pend(scope.clone(), Some(Kind::Secret));
            let (client, outlet) = (self.cluster.client.clone(), self.outlet.clone());
            let (task, needs) = Referenced::new(scope, names, client, health, outlet, phase, reporter);
            if let Some((of, name)) = &self.settings.default_tls_secret
                && (namespace.is_empty() || namespace == of)
            {
                let secret = ObjectKey::new(Kind::Secret, of, name);
                // The receiver is in this function.
                let _ = needs.send(Need::Of { by: secret.clone(), secrets: vec![secret] });
            }
            self.needs.insert(namespace.clone(), needs);
            self.tasks.spawn(task);
        }
        Ok(())
    }

    fn pend(&mut self, scope: Scope, kind: Option<Kind>) -> (Reporter, Phase) {
        let phase = Phase::default();
        let (index, reports) = (self.pending.len(), self.reports.clone());
        let is_optional = self.is_optional(kind);
        self.pending.push(Pending { scope, kind, is_optional, answer: None, failures: 0, phase: phase.clone() });
        (Reporter { index, reports, has_begun: self.has_begun.clone() }, phase)
    }
}

/// The name of what one watch brings. Saved objects are found by it.
fn scope(kind: &str, namespace: &str, selection: &Selection) -> Scope {
    let mut text = kind.to_owned();
    for part in [Some(namespace), selection.only.as_deref()].into_iter().flatten().filter(|part| !part.is_empty()) {
        text.push('/');
        text.push_str(part);
    }
    Scope(text.into())
}

/// A watch that the start waits for.
struct Pending {
    scope: Scope,
    /// `None` for the names of namespaces.
    kind: Option<Kind>,
    /// That it is refused is as it should be.
    is_optional: bool,
    answer: Option<Answer>,
    failures: usize,
    phase: Phase,
}

impl Pending {
    fn is_of_ingresses(&self) -> bool {
        self.kind == Some(Kind::Ingress)
    }

    fn has_listed_ingresses(&self) -> bool {
        self.is_of_ingresses() && self.answer == Some(Answer::Listed)
    }

    fn is_class(&self) -> bool {
        self.kind == Some(Kind::IngressClass)
    }

    fn has_listed_or_is_class(&self) -> bool {
        self.answer == Some(Answer::Listed) || (self.answer.is_some() && self.is_class())
    }
}

/// Who has told the objects of a scope so far. Whoever sends the first ones holds the lock meanwhile, so that what was
/// saved never comes after what is.
#[derive(Clone, Default)]
struct Phase(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
enum Told {
    #[default]
    Nobody,
    /// The state directory, these.
    Saved(Vec<ObjectKey>),
    /// The watch.
    Watch,
}

impl Phase {
    /// From now on the objects of the scope are told by the watch. What had been told from what was saved, the first
    /// time.
    async fn take_over(&self) -> Vec<ObjectKey> {
        match std::mem::replace(&mut *self.0.lock().await, Told::Watch) {
            Told::Saved(keys) => keys,
            Told::Nobody | Told::Watch => Vec::new(),
        }
    }

    /// What was saved is served.
    async fn is_saved(&self) -> bool {
        matches!(*self.0.lock().await, Told::Saved(_))
    }
}

/// Decides when there is enough to begin with.
struct Gate {
    pending: Vec<Pending>,
    saved: Saved,
    events: mpsc::Sender<Event>,
    inbox: mpsc::UnboundedReceiver<Report>,
    timeout: Duration,
    address: Arc<str>,
    metrics: Metrics,
    /// See [`Reporter`].
    has_begun: Arc<AtomicBool>,
}

impl Endless for Gate {
    fn name(&self) -> String {
        "start".into()
    }

    async fn run(&mut self) {
        let started = Instant::now();
        let mut said = Instant::now();
        loop {
            if self.is_complete(started) {
                let missing = self.pending.iter().filter(|one| matches!(one.answer, Some(Answer::Refused)));
                let missing: Vec<&str> = missing.map(|one| &*one.scope.0).collect();
                info!(
                    address = %self.address,
                    took = ?started.elapsed(),
                    without = missing.join(","),
                    "All objects of the cluster are loaded."
                );
                if !missing.is_empty() && self.saved.load.is_some() {
                    self.use_saved().await;
                }
                break;
            }
            if self.may_use_saved(started) && self.use_saved().await {
                break;
            }
            let deadline = self.deadline(started);
            tokio::select! {
                report = self.inbox.recv() => match report {
                    Some(Report { index, answer }) => self.note(index, answer),
                    None => return,
                },
                () = sleep_until(deadline) => {}
            }
            if said.elapsed() >= self.timeout {
                said = Instant::now();
                let waiting = self.pending.iter().filter(|one| !matches!(one.answer, Some(Answer::Listed)));
                let waiting: Vec<&str> = waiting.map(|one| &*one.scope.0).collect();
                warn!(address = %self.address, waiting = waiting.join(","), "Still waiting for the objects of the cluster. Nothing is served yet.");
            }
        }
        self.has_begun.store(true, Ordering::Relaxed);
        let _ = self.events.send(Event::Synced).await;
        // What comes later is for nobody, and must not pile up.
        while let Some(Report { index, answer }) = self.inbox.recv().await {
            if let (Answer::Listed, Some(one)) = (answer, self.pending.get_mut(index)) {
                one.answer = Some(Answer::Listed);
            }
            if self.metrics.serving_saved.get() == 1 && self.pending.iter().all(|one| one.has_listed_or_is_class()) {
                self.metrics.serving_saved.set(0);
                info!(address = %self.address, "The cluster answers again. Saved objects are no longer used.");
            }
        }
    }
}

impl Gate {
    fn note(&mut self, index: usize, answer: Answer) {
        let Some(one) = self.pending.get_mut(index) else { return };
        match answer {
            Answer::Listed | Answer::Refused => one.answer = Some(answer),
            Answer::Failed => one.failures += 1,
        }
    }

    /// All have answered, and a no has had time to become a yes: permissions of a fresh installation may be on their way.
    fn is_complete(&self, started: Instant) -> bool {
        let is_late = started.elapsed() >= self.timeout;
        let serves_some = self.pending.iter().any(Pending::has_listed_ingresses);
        self.pending.iter().all(|one| match one.answer {
            Some(Answer::Listed) => true,
            Some(Answer::Refused) if one.kind.is_none() => false,
            // Without Ingresses there is nothing to serve, and a replica that serves nothing must not take over. Without
            // those of one namespace there are the others.
            Some(Answer::Refused) if one.is_of_ingresses() => is_late && serves_some,
            Some(Answer::Refused) => is_late || one.is_optional,
            Some(Answer::Failed) | None => false,
        })
    }

    fn may_use_saved(&self, started: Instant) -> bool {
        let is_silent = self.pending.iter().all(|one| one.answer.is_none() && one.failures > 1);
        let patience = if is_silent { SAVED_PATIENCE.min(self.timeout) } else { self.timeout };
        self.saved.load.is_some() && started.elapsed() >= patience
    }

    fn deadline(&self, started: Instant) -> Instant {
        let soon = started + SAVED_PATIENCE.min(self.timeout);
        let late = started + self.timeout;
        let now = Instant::now();
        [soon, late].into_iter().find(|at| *at > now).unwrap_or(now + self.timeout)
    }

    /// Serves what was saved of the scopes that have not been listed. False if that is no configuration: it has no
    /// Ingress, and none was listed.
    async fn use_saved(&mut self) -> bool {
        let Some(load) = self.saved.load.take() else { return false };
        // The file system may hang, and this runtime answers probes.
        let Ok(saved) = tokio::task::spawn_blocking(load).await else { return false };
        let is_saved = |one: &Pending| saved.iter().any(|(scope, objects)| *scope == one.scope && !objects.is_empty());
        let mut ingresses = self.pending.iter().filter(|one| one.is_of_ingresses());
        if !ingresses.any(|one| one.answer == Some(Answer::Listed) || is_saved(one)) {
            warn!("--state-dir has no saved Ingress that is watched now. Waiting for the cluster.");
            return false;
        }
        let mut count = 0;
        for (scope, objects) in saved {
            // The others are not watched any more.
            let Some(pending) = self.pending.iter().find(|one| one.scope == scope) else { continue };
            let mut told = pending.phase.0.lock().await;
            // The name of the class has been decided on already, where classes may not be read.
            let is_refused_class = pending.answer == Some(Answer::Refused) && pending.is_class();
            if !matches!(*told, Told::Nobody) || is_refused_class {
                continue;
            }
            count += objects.len();
            *told = Told::Saved(objects.iter().map(Object::key).collect());
            let _ = self.events.send(Event::Change(Change::Replace(scope, objects))).await;
        }
        if count == 0 {
            return true;
        }
        let now = (clock::system())();
        let age = self.saved.at.map(|at| Duration::from_secs(now.as_secs().saturating_sub(at.as_secs())));
        let waiting = self.pending.iter().filter(|one| one.answer != Some(Answer::Listed));
        let waiting: Vec<&str> = waiting.map(|one| &*one.scope.0).collect();
        self.metrics.serving_saved.set(1);
        warn!(
            address = %self.address,
            objects = count,
            age = %humantime::format_duration(age.unwrap_or_default()),
            waiting = waiting.join(","),
            "The API server does not list all kinds of objects. Handfast serves the saved objects of --state-dir until it does."
        );
        true
    }
}
