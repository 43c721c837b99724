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
use super::attempts::{Answer, Backoff, Report};
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
type Looks = Pin<Box<dyn futures_util::Stream<Item = Look> + Send>>;
type Fetched = (ObjectKey, Result<Option<Secret>, kube::Error>);

/// What one of the watches found, or what came of an attempt.
type Look = Result<watcher::Event<Metadata>, Answer>;

pub(super) struct Referenced {
    scope: Scope,
    client: Client,
    outlet: Outlet,
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
    phase: Phase,
}

impl Referenced {
    pub(super) fn new(scope: Scope, client: Client, outlet: Outlet, phase: Phase) -> Self {
        Self {
            scope,
            client,
            outlet,
            existing: HashMap::new(),
            needed: HashMap::new(),
            needs: HashMap::new(),
            sent: HashMap::new(),
            wanted: BTreeSet::new(),
            fetching: HashSet::new(),
            failed: HashSet::new(),
            phase,
        }
    }

    /// Watches and fetches, for ever. `incomplete` other watches say what is needed at the start.
    pub(super) async fn run(
        mut self,
        apis: Vec<(Api<Metadata>, Health)>,
        fields: &'static str,
        mut needs: mpsc::UnboundedReceiver<Need>,
        mut incomplete: usize,
        (index, reports): (usize, mpsc::UnboundedSender<Report>),
    ) {
        let report = |answer| drop(reports.send(Report { index, answer }));
        let mut was_listed = false;
        // Everything is known once each watch has listed; one that is refused has nothing.
        let mut waiting: HashSet<usize> = (0..apis.len()).collect();
        let mut listed: HashMap<usize, HashSet<ObjectKey>> = HashMap::new();
        let mut of_watch: HashMap<usize, HashSet<ObjectKey>> = HashMap::new();
        let looks = apis
            .into_iter()
            .enumerate()
            .map(|(at, (api, health))| looks(api, fields, health).map(move |look| (at, look)).boxed());
        let mut looks = stream::select_all(looks);
        let mut fetches = FuturesUnordered::new();
        let mut backoff = Backoff::default();
        // When to try again what could not be fetched.
        let mut retry: Option<Instant> = None;
        loop {
            tokio::select! {
                need = needs.recv() => match need {
                    Some(Need::Complete) => incomplete = incomplete.saturating_sub(1),
                    Some(Need::Of { by, secrets }) => self.note(by, secrets).await,
                    None => return,
                },
                Some((at, look)) = looks.next() => match look {
                    Err(answer) => report(answer),
                    Ok(watcher::Event::Init) => drop(listed.insert(at, HashSet::new())),
                    Ok(watcher::Event::InitApply(secret)) => {
                        let key = kinds::key(Kind::Secret, &secret.metadata);
                        listed.entry(at).or_default().insert(key.clone());
                        of_watch.entry(at).or_default().insert(key.clone());
                        self.exists(key, secret).await;
                    }
                    Ok(watcher::Event::InitDone) => {
                        let listed = listed.remove(&at).unwrap_or_default();
                        let before = of_watch.insert(at, listed.clone()).unwrap_or_default();
                        for key in before.difference(&listed) {
                            self.is_gone(key).await;
                        }
                        waiting.remove(&at);
                        if waiting.is_empty() {
                            self.take_over().await;
                            self.forget_unexpected().await;
                        }
                    }
                    Ok(watcher::Event::Apply(secret)) => {
                        let key = kinds::key(Kind::Secret, &secret.metadata);
                        of_watch.entry(at).or_default().insert(key.clone());
                        self.exists(key, secret).await;
                    }
                    Ok(watcher::Event::Delete(secret)) => {
                        let key = kinds::key(Kind::Secret, &secret.metadata);
                        of_watch.entry(at).or_default().remove(&key);
                        self.is_gone(&key).await;
                    }
                },
                Some((key, fetched)) = fetches.next(), if !fetches.is_empty() => {
                    if self.take(key, fetched).await {
                        backoff = Backoff::default();
                    } else if retry.is_none() {
                        retry = Some(Instant::now() + backoff.next());
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
            let is_listed = waiting.is_empty()
                && incomplete == 0
                && self.wanted.iter().all(|key| self.failed.contains(key))
                && self.fetching.iter().all(|key| self.failed.contains(key));
            if is_listed && !std::mem::replace(&mut was_listed, true) {
                report(Answer::Listed);
            }
        }
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

    async fn exists(&mut self, key: ObjectKey, secret: Metadata) {
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

    /// False if it failed and is to be tried again.
    async fn take(&mut self, key: ObjectKey, fetched: Result<Option<Secret>, kube::Error>) -> bool {
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
                true
            }
            // Nobody needs it any more, or it is gone: the watch says so, too.
            Ok(_) => true,
            Err(error) => {
                if self.failed.insert(key.clone()) {
                    warn!(secret = %key.path(), error = %cause(&error), "A Secret cannot be fetched; it is tried again.");
                }
                self.wanted.insert(key);
                false
            }
        }
    }
}

async fn fetch(client: Client, key: ObjectKey) -> Fetched {
    let secrets: Api<Secret> = Api::namespaced(client, &key.namespace);
    let found = secrets.get_opt(&key.name).await;
    (key, found)
}

/// One watch with its waits.
fn looks(api: Api<Metadata>, fields: &str, health: Health) -> Looks {
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT).fields(fields);
    let events = watcher::watcher(api, config).boxed();
    stream::unfold(
        (events, health, Backoff::default(), false),
        |(mut events, health, mut backoff, failed)| async move {
            if failed {
                tokio::time::sleep(backoff.next()).await;
            }
            let look = match events.next().await? {
                Ok(event) => {
                    backoff.settle(&event);
                    health.event();
                    if matches!(event, watcher::Event::InitDone) {
                        health.relisted();
                    }
                    Ok(event)
                }
                Err(error) => {
                    health.failed(&error);
                    Err(Answer::of(&error))
                }
            };
            let failed = look.is_err();
            Some((look, (events, health, backoff, failed)))
        },
    )
    .boxed()
}
