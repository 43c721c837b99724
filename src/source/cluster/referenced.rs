//! Secrets of other types than `kubernetes.io/tls`: watched by name, fetched when something names them.
//!
//! ```text
//! metadata of Secrets ──▶ which exist, in which version ─┐
//! Ingresses, TlsPolicies ──▶ which are needed ───────────┴──get──▶ Upsert
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::Pin;

use futures_util::FutureExt as _;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::Phase;
use super::attempts::{Answer, Backoff, Reporter};
use super::endless::Endless;
use super::health::Health;
use super::kinds::{self, Watched as _};
use super::namespaces::Outlet;
use super::watch::{WATCH_TIMEOUT, digest_of};
use crate::compile::{Kind, ObjectKey, Scope, trim};
use crate::kubernetes::cause;

/// What other watches say about Secrets that are needed.
#[derive(Debug)]
pub(super) enum Need {
    /// One watch has said all that is needed at the start.
    Complete,
    /// The Secrets that an object needs, in the place of those that it needed before.
    Of { by: ObjectKey, secrets: Vec<ObjectKey> },
}

/// Requests at a time.
const FETCHES: usize = 16;

type Metadata = PartialObjectMeta<Secret>;
type Looks = Pin<Box<dyn futures_util::Stream<Item = watcher::Event<Metadata>> + Send>>;
type Fetched = (ObjectKey, Result<Option<Secret>, kube::Error>);

/// Types of Secrets that nobody refers to from an Ingress or a TlsPolicy; the first is watched apart, whole.
const FIELDS: &str = "type!=kubernetes.io/tls,type!=helm.sh/release.v1,type!=kubernetes.io/dockerconfigjson,\
    type!=kubernetes.io/dockercfg,type!=kubernetes.io/service-account-token,type!=bootstrap.kubernetes.io/token";

/// How many watches say what is needed: of Ingresses and of TlsPolicies.
const NEEDING: usize = 2;

/// Of one namespace, or of all.
pub(super) struct Referenced {
    scope: Scope,
    names: Api<Metadata>,
    /// For whole Secrets.
    client: Client,
    health: Health,
    outlet: Outlet,
    phase: Phase,
    reporter: Reporter,
    inbox: mpsc::UnboundedReceiver<Need>,
    /// Watches that have not said yet what is needed at the start.
    incomplete: usize,
    /// All names have been told.
    is_known: bool,
    was_listed: bool,
    /// Resource versions of the Secrets that exist.
    existing: HashMap<ObjectKey, String>,
    /// By whom each is needed.
    needed: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    needs: HashMap<ObjectKey, Vec<ObjectKey>>,
    /// What the reconciler has, in which form.
    sent: HashMap<ObjectKey, Option<[u8; 32]>>,
    /// To be fetched.
    wanted: BTreeSet<ObjectKey>,
    /// Being fetched; changes meanwhile are wanted again.
    fetching: HashSet<ObjectKey>,
    /// Could not be fetched, which was said. They keep nobody waiting.
    failed: HashSet<ObjectKey>,
}

impl Endless for Referenced {
    fn name(&self) -> String {
        format!("watch of {}", self.scope.0)
    }

    async fn run(&mut self) {
        let mut looks = looks(self.names.clone(), self.health.clone(), self.reporter.clone());
        let mut listed: HashSet<ObjectKey> = HashSet::new();
        let mut fetches = FuturesUnordered::new();
        let mut backoff = Backoff::default();
        // When to try again what could not be fetched.
        let mut retry: Option<Instant> = None;
        loop {
            tokio::select! {
                need = self.inbox.recv() => match need {
                    Some(Need::Complete) => self.incomplete = self.incomplete.saturating_sub(1),
                    Some(Need::Of { by, secrets }) => self.note(by, secrets).await,
                    None => return,
                },
                look = looks.next() => match look {
                    Some(watcher::Event::Init) => listed.clear(),
                    Some(watcher::Event::InitApply(secret)) => {
                        let key = kinds::key(Kind::Secret, &secret.metadata);
                        listed.insert(key.clone());
                        self.exists(key, secret);
                    }
                    Some(watcher::Event::InitDone) => {
                        let gone = self.existing.keys().filter(|key| !listed.contains(*key));
                        let gone: Vec<ObjectKey> = gone.cloned().collect();
                        for key in gone {
                            self.is_gone(&key).await;
                        }
                        listed = HashSet::new();
                        self.is_known = true;
                        self.take_over().await;
                        self.forget_unexpected().await;
                    }
                    Some(watcher::Event::Apply(secret)) => {
                        self.exists(kinds::key(Kind::Secret, &secret.metadata), secret);
                    }
                    Some(watcher::Event::Delete(secret)) => {
                        self.is_gone(&kinds::key(Kind::Secret, &secret.metadata)).await;
                    }
                    None => return,
                },
                Some((key, fetched)) = fetches.next(), if !fetches.is_empty() => {
                    match self.take(key, fetched).await {
                        Ok(()) => backoff = Backoff::default(),
                        Err(answer) if retry.is_none() => {
                            retry = Some(Instant::now() + backoff.next(self.reporter.longest_wait(answer)));
                        }
                        Err(_) => {}
                    }
                }
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => retry = None,
            }
            while fetches.len() < FETCHES {
                // Those that failed before wait for their time, and stand in nobody's way.
                let is_due = |key: &&ObjectKey| {
                    !self.fetching.contains(*key) && (retry.is_none() || !self.failed.contains(*key))
                };
                let first =
                    |failed: bool| self.wanted.iter().filter(is_due).find(|key| self.failed.contains(*key) == failed);
                let Some(key) = first(false).or_else(|| first(true)).cloned() else { break };
                self.wanted.remove(&key);
                self.fetching.insert(key.clone());
                fetches.push(fetch(self.client.clone(), key).boxed());
            }
            let is_listed = self.is_known
                && self.incomplete == 0
                && self.wanted.iter().all(|key| self.failed.contains(key))
                && self.fetching.iter().all(|key| self.failed.contains(key));
            if is_listed && !std::mem::replace(&mut self.was_listed, true) {
                self.reporter.tell(Answer::Listed);
            }
        }
    }

    fn ended(&mut self) {
        self.health.ended();
        self.reporter.tell(Answer::Failed);
        // The next list names all that exist as if they were new.
        self.existing.clear();
        self.wanted.clear();
        self.fetching.clear();
        self.sent.values_mut().for_each(|digest| *digest = None);
    }
}

impl Referenced {
    /// One, and the way to tell it what is needed.
    pub(super) fn new(
        scope: Scope,
        names: Api<Metadata>,
        client: Client,
        health: Health,
        outlet: Outlet,
        phase: Phase,
        reporter: Reporter,
    ) -> (Self, mpsc::UnboundedSender<Need>) {
        let (needs, inbox) = mpsc::unbounded_channel();
        let referenced = Self {
            scope,
            names,
            client,
            health,
            outlet,
            phase,
            reporter,
            inbox,
            incomplete: NEEDING,
            is_known: false,
            was_listed: false,
            existing: HashMap::new(),
            needed: HashMap::new(),
            needs: HashMap::new(),
            sent: HashMap::new(),
            wanted: BTreeSet::new(),
            fetching: HashSet::new(),
            failed: HashSet::new(),
        };
        (referenced, needs)
    }

    async fn note(&mut self, by: ObjectKey, secrets: Vec<ObjectKey>) {
        let before =
            if secrets.is_empty() { self.needs.remove(&by) } else { self.needs.insert(by.clone(), secrets.clone()) };
        for secret in &secrets {
            self.needed.entry(secret.clone()).or_default().insert(by.clone());
            if self.existing.contains_key(secret) && self.sent.get(secret).is_none_or(Option::is_none) {
                self.wanted.insert(secret.clone());
            }
        }
        for secret in before.into_iter().flatten().filter(|secret| !secrets.contains(secret)) {
            if let Some(users) = self.needed.get_mut(&secret) {
                users.remove(&by);
                if users.is_empty() {
                    self.needed.remove(&secret);
                    self.forget(&secret).await;
                }
            }
        }
    }

    fn exists(&mut self, key: ObjectKey, secret: Metadata) {
        let version = secret.metadata.resource_version.unwrap_or_default();
        let is_other = self.existing.insert(key.clone(), version.clone()) != Some(version);
        if is_other && self.needed.contains_key(&key) {
            self.wanted.insert(key);
        }
    }

    async fn is_gone(&mut self, key: &ObjectKey) {
        self.existing.remove(key);
        self.forget(key).await;
    }

    async fn forget(&mut self, key: &ObjectKey) {
        self.wanted.remove(key);
        self.failed.remove(key);
        if self.sent.remove(key).is_some() {
            self.outlet.delete(&self.scope, key.clone()).await;
        }
    }

    /// What was saved goes if it does not exist.
    async fn take_over(&mut self) {
        self.sent.extend(self.phase.take_over().await.into_iter().map(|key| (key, None)));
    }

    /// What came from elsewhere and does not exist here, or is not needed.
    async fn forget_unexpected(&mut self) {
        let stale = self.sent.iter().filter(|(key, digest)| digest.is_none() && !self.existing.contains_key(*key));
        let stale: Vec<ObjectKey> = stale.map(|(key, _)| key.clone()).collect();
        for key in stale {
            self.forget(&key).await;
        }
    }

    /// An error if it is to be tried again.
    async fn take(&mut self, key: ObjectKey, fetched: Result<Option<Secret>, kube::Error>) -> Result<(), Answer> {
        self.fetching.remove(&key);
        match fetched {
            // One that was deleted while the answer was on its way does not come back.
            Ok(Some(secret)) if self.needed.contains_key(&key) && self.existing.contains_key(&key) => {
                let object = trim(secret.into_object());
                let digest = Some(digest_of(&object));
                self.failed.remove(&key);
                self.take_over().await;
                if self.sent.insert(key, digest) != Some(digest) {
                    self.outlet.upsert(&self.scope, object).await;
                }
                Ok(())
            }
            // Nobody needs it any more, or it is gone: the watch says so, too.
            Ok(_) => Ok(()),
            Err(error) => {
                if self.failed.insert(key.clone()) {
                    warn!(secret = %key.path(), error = %cause(&error), "Cannot fetch a Secret. It is tried again.");
                }
                self.wanted.insert(key);
                Err(Answer::to_request(&error))
            }
        }
    }
}

async fn fetch(client: Client, key: ObjectKey) -> Fetched {
    let secrets: Api<Secret> = Api::namespaced(client, &key.namespace);
    let found = secrets.get_opt(&key.name).await;
    (key, found)
}

/// What the watch of names finds. It waits after errors by itself, so that Secrets are fetched meanwhile.
fn looks(names: Api<Metadata>, health: Health, reporter: Reporter) -> Looks {
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT).fields(FIELDS);
    let events = watcher::watcher(names, config).boxed();
    stream::unfold(
        (events, health, reporter, Backoff::default()),
        |(mut events, health, reporter, mut backoff)| async move {
            loop {
                match events.next().await? {
                    Ok(event) => {
                        backoff.settle(&event);
                        health.event();
                        if matches!(event, watcher::Event::InitDone) {
                            health.relisted();
                        }
                        return Some((event, (events, health, reporter, backoff)));
                    }
                    Err(error) => {
                        health.failed(&error);
                        let answer = Answer::of(&error);
                        reporter.tell(answer);
                        tokio::time::sleep(backoff.next(reporter.longest_wait(answer))).await;
                    }
                }
            }
        },
    )
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Change;
    use crate::kubernetes::fake::Fake;
    use crate::metrics::Metrics;
    use crate::source::Event;
    use crate::source::cluster::health::Board;
    use crate::source::cluster::seen::Seen;
    use kube::core::ObjectMeta;

    fn named(name: &str) -> ObjectMeta {
        ObjectMeta { namespace: Some("shop".into()), name: Some(name.into()), ..ObjectMeta::default() }
    }

    fn key(kind: Kind, name: &str) -> ObjectKey {
        ObjectKey::new(kind, "shop", name)
    }

    #[tokio::test]
    async fn a_secret_that_is_deleted_while_it_is_fetched_does_not_come_back() {
        let (events, mut told) = mpsc::channel(8);
        let (reports, _inbox) = mpsc::unbounded_channel();
        let client = Fake::default().client();
        let health = Board::new(&Metrics::default()).health("Secret", "");
        let outlet = Outlet::new(events, false, &Seen::default());
        let reporter = Reporter { index: 0, reports, has_begun: Default::default() };
        let scope = Scope("secrets.referenced".into());
        let names = Api::all(client.clone());
        let (mut secrets, _needs) = Referenced::new(scope, names, client, health, outlet, Phase::default(), reporter);
        let names = ["kept", "deleted"];
        let exists = |name| PartialObjectMeta { metadata: named(name), ..PartialObjectMeta::default() };
        secrets.note(key(Kind::Ingress, "shop"), names.map(|name| key(Kind::Secret, name)).to_vec()).await;
        for name in names {
            secrets.exists(key(Kind::Secret, name), exists(name));
        }
        assert_eq!(secrets.wanted.len(), 2);
        secrets.is_gone(&key(Kind::Secret, "deleted")).await;
        for name in names {
            let answer = Secret { metadata: named(name), ..Secret::default() };
            assert_eq!(secrets.take(key(Kind::Secret, name), Ok(Some(answer))).await, Ok(()));
        }
        // Neither when its name is listed the next time, without it.
        secrets.ended();
        secrets.forget_unexpected().await;
        drop(secrets);
        let mut changes = Vec::new();
        while let Some(Event::Change(change)) = told.recv().await {
            changes.push(match change {
                Change::Upsert(_, object) => format!("upsert {}", object.key()),
                Change::Delete(_, key) => format!("delete {key}"),
                Change::Rejected(..) | Change::Replace(..) => unreachable!(),
            });
        }
        assert_eq!(changes, ["upsert Secret shop/kept", "delete Secret shop/kept"]);
    }
}
