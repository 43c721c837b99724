//! What is held, in a Secret of our own namespace (`--last-good-secret`): a new replica serves it too.
//!
//! ```text
//! start:    Secret ──read──▶ Held ──▶ Compiler::remember
//! later:    Compiled.held ──holdings──▶ keeper ──plan──▶ patch, by the leader only
//!           Secret, when somebody else has written it ──▶ Event::Remember
//! ```
//!
//! Every replica computes what is held from the same objects and from what it remembers, and only one writes. Replicas may
//! know different things for a while: one that started when a Secret was broken already has never seen it good, and one
//! that has just become the leader may be behind. So each one looks from time to time whether the Secret was written by
//! another, and has its compiler remember what it did not know. The leader removes an entry at once when its own compiler
//! has let go of it; one that its compiler has never held stays for a while ([`GRACE`]), because whoever wrote it may have
//! seen more. Writes say which version they are about, so that two leaders cannot undo each other's work unseen.
//!
//! The Secret has to exist, so that no permission to create Secrets is needed: `get` and `patch` of this one are all.
//! Requests are made by hand, because the client library logs answers that it cannot read, and these hold private keys.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Holding;
use super::plan::{self, Dropped, Found, Plan};
use super::stored::{self, Entry};
use crate::compile::Held;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::reconcile::Message;
use crate::source::Event;

/// The Secret, and what is known about it.
pub struct LastGood {
    client: Client,
    namespace: String,
    name: String,
    metrics: Metrics,
    /// What is in it, as far as is known.
    there: Option<There>,
    looked_at: Option<Instant>,
    wrote_at: Option<Instant>,
    /// After a failure nothing is tried before.
    rest_until: Option<Instant>,
    /// Names of entries that our own compiler has held: what it does not hold any more it has judged.
    judged: BTreeSet<String>,
    /// When entries that we did not write were first seen, by name and since when they are held.
    strangers: HashMap<(String, u64), Instant>,
    /// How often the compiler was told what others hold.
    told: u64,
    /// In which term the Secret was looked at.
    term: Option<u64>,
    /// What does not work, to be said once.
    failing: Option<Failure>,
    /// What was said about entries.
    dropped: BTreeSet<Dropped>,
    unreadable: BTreeSet<String>,
}

/// How long the start waits for the Secret.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long the leader leaves entries alone that it knows nothing about: its own view of the cluster may be behind that
/// of whoever wrote them.
pub const GRACE: Duration = Duration::from_secs(30);

/// How often everybody looks whether somebody else has written, and how soon what failed is tried again.
const POLL: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);

/// Between two writes, so that a thousand Secrets that break one after another are not a thousand writes.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// All entries together, names included. The API server takes 1 MiB.
const LIMIT: usize = 900 << 10;

/// What is in the Secret.
struct There {
    resource_version: String,
    entries: BTreeMap<String, Found>,
    /// Bytes of entries that are not ours.
    foreign: usize,
}

/// Why a request came to nothing.
#[derive(Clone, Debug)]
enum Failure {
    /// Somebody else has written in between.
    Conflict,
    /// In the API server's words.
    Forbidden(String),
    Missing,
    Other(String),
}

impl LastGood {
    /// The Secret of this name. Asks for nothing yet.
    pub fn new(client: Client, namespace: &str, name: &str, metrics: &Metrics) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            metrics: metrics.clone(),
            there: None,
            looked_at: None,
            wrote_at: None,
            rest_until: None,
            judged: BTreeSet::new(),
            strangers: HashMap::new(),
            told: 0,
            term: None,
            failing: None,
            dropped: BTreeSet::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// What was held before, for the first compilation. Nothing if the Secret cannot be read in time; that is said.
    pub async fn read(&mut self, patience: Duration) -> Held {
        let result = timeout(patience, self.fetch()).await;
        let result = result.unwrap_or_else(|_| Err(Failure::Other(format!("no answer within {patience:?}"))));
        if let Err(failure) = result {
            self.report(&failure);
            return Held::default();
        }
        let mut held = Held::default();
        let entries = self.there.iter().flat_map(|there| there.entries.values());
        entries.filter_map(|found| found.entry.clone()).for_each(|entry| entry.put_into(&mut held));
        if !held.is_empty() {
            info!(
                secret = self.name,
                secrets = held.secrets.len(),
                policies = held.policies.len(),
                "What was held before is known again."
            );
        }
        held
    }

    /// Keeps the Secret as `holdings` says, whenever this replica leads, until `end`; without an election it never
    /// writes. What others have written goes to the compiler through `inbox`.
    pub fn start(
        self,
        holdings: watch::Receiver<Option<Holding>>,
        leadership: Option<Leadership>,
        inbox: Sender<Message>,
        end: CancellationToken,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = self.keep(holdings, leadership, inbox) => {}
            }
        })
    }

    /// Ends with the reconciler.
    async fn keep(
        mut self,
        mut holdings: watch::Receiver<Option<Holding>>,
        mut leadership: Option<Leadership>,
        inbox: Sender<Message>,
    ) {
        loop {
            let holding = holdings.borrow_and_update().clone();
            let next = Instant::now() + self.step(holding, leadership.as_ref(), &inbox).await;
            tokio::select! {
                changed = holdings.changed() => if changed.is_err() {
                    return;
                },
                () = changed(&mut leadership) => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Does what is to be done now. Returns when to come again if nothing happens.
    async fn step(
        &mut self,
        holding: Option<Holding>,
        leadership: Option<&Leadership>,
        inbox: &Sender<Message>,
    ) -> Duration {
        // Before the first compilation nobody knows what is needed.
        let Some(Holding { held, remembered }) = holding else { return POLL };
        self.judged.extend(stored::entries(&held).map(|entry| entry.name()));
        let term = term(leadership);
        let leads = term.is_some();
        if leads && self.term != term {
            // The last words of the leader before count.
            self.looked_at = None;
            self.there = None;
            self.strangers.clear();
            self.rest_until = None;
        }
        self.term = term;
        let rest = self.rest_until.map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            return rest;
        }
        // Conflicts in a row mean that somebody else writes all the time. Then it is their turn.
        for _ in 0..3 {
            let result = match self.look(&held, inbox).await {
                // What the compiler makes of what it was just told is still to come, and wakes us.
                Ok(()) if !leads || remembered < self.told => Ok(None),
                Ok(()) => self.write(&held, leadership).await.map(Some),
                Err(failure) => Err(failure),
            };
            match result {
                Ok(wait) => {
                    if self.failing.take().is_some() {
                        info!(secret = self.name, "The Secret for what is held works again.");
                    }
                    return wait.unwrap_or(POLL);
                }
                Err(Failure::Conflict) => {
                    self.there = None;
                    self.looked_at = None;
                }
                Err(failure) => {
                    self.metrics.last_good_secret_failures.inc();
                    self.report(&failure);
                    self.looked_at = None;
                    let rest = match failure {
                        Failure::Forbidden(_) | Failure::Missing => POLL,
                        Failure::Conflict | Failure::Other(_) if leads => RETRY,
                        Failure::Conflict | Failure::Other(_) => POLL,
                    };
                    self.rest_until = Some(Instant::now() + rest);
                    return rest;
                }
            }
        }
        PAUSE
    }

    /// Looks, if it is time to, whether somebody else has written, and tells the compiler what that is.
    async fn look(&mut self, held: &Held, inbox: &Sender<Message>) -> Result<(), Failure> {
        if self.looked_at.is_some_and(|at| at.elapsed() < POLL) {
            return Ok(());
        }
        if let Some(there) = &self.there {
            let request = self.requests().get_metadata(&self.name, &GetParams::default());
            let version: Version = self.ask(request).await?;
            if version.metadata.resource_version == there.resource_version {
                self.looked_at = Some(Instant::now());
                return Ok(());
            }
        }
        self.there = None;
        match timeout(REQUEST, self.fetch()).await {
            Ok(result) => result?,
            Err(_) => return Err(Failure::Other("no answer in time".to_owned())),
        }
        let mut unknown = Held::default();
        let found = self.there.iter().flat_map(|there| there.entries.values());
        let unheld = found.filter_map(|found| found.entry.as_ref()).filter(|entry| match entry {
            Entry::Policy(host, _) => !held.policies.contains_key(host),
            Entry::Secret(key, _) => !held.secrets.contains_key(key),
        });
        unheld.cloned().for_each(|entry| entry.put_into(&mut unknown));
        if !unknown.is_empty() && inbox.send(Event::Remember(Arc::new(unknown)).into()).is_ok() {
            self.told += 1;
        }
        Ok(())
    }

    /// Makes the Secret what it is to be, if it is not. Returns when to come again.
    async fn write(&mut self, held: &Held, leadership: Option<&Leadership>) -> Result<Duration, Failure> {
        let Some(there) = &self.there else { return Ok(POLL) };
        let is_new = |name: &str, entry: &Entry| {
            let seen = self.strangers.get(&(name.to_owned(), entry.since().as_secs()));
            seen.is_some_and(|at| at.elapsed() < GRACE)
        };
        let is_held = |entry: &Entry| match entry {
            Entry::Policy(host, _) => held.policies.contains_key(host),
            Entry::Secret(key, _) => held.secrets.contains_key(key),
        };
        let respected =
            |name: &str, entry: &Entry| is_new(name, entry) && (is_held(entry) || !self.judged.contains(name));
        let Plan { put, remove, dropped, entries, bytes } =
            plan::plan(held, &there.entries, respected, LIMIT, there.foreign);
        if !(put.is_empty() && remove.is_empty()) {
            let since = self.wrote_at.map(|at| at.elapsed());
            if let Some(since) = since.filter(|since| *since < PAUSE) {
                return Ok(PAUSE - since);
            }
            let mut data = serde_json::Map::new();
            data.extend(remove.iter().map(|name| (name.clone(), Value::Null)));
            data.extend(put.iter().map(|(name, (_, text))| (name.clone(), BASE64.encode(text).into())));
            let patch = json!({"metadata": {"resourceVersion": there.resource_version}, "data": data});
            let parameters = PatchParams { field_manager: Some("handfast".to_owned()), ..PatchParams::default() };
            let request = self.requests().patch_metadata(&self.name, &parameters, &Patch::Merge(patch));
            // It may be over since we were asked.
            if term(leadership) != self.term {
                return Ok(POLL);
            }
            self.wrote_at = Some(Instant::now());
            let version: Version = self.ask(request).await?;
            let Some(there) = &mut self.there else { return Ok(POLL) };
            there.resource_version = version.metadata.resource_version;
            there.entries.retain(|name, _| !remove.contains(name));
            for (name, (entry, text)) in put {
                self.strangers.remove(&(name.clone(), entry.since().as_secs()));
                there.entries.insert(name.clone(), Found { entry: Some(entry), size: name.len() + text.len() });
            }
        }
        self.measure(entries, bytes);
        self.report_dropped(dropped);
        let graces = self.strangers.values().map(|at| GRACE.saturating_sub(at.elapsed()));
        Ok(graces.filter(|left| !left.is_zero()).min().unwrap_or(POLL).min(POLL))
    }

    /// Reads the whole Secret.
    async fn fetch(&mut self) -> Result<(), Failure> {
        let secret: Secret = self.ask(self.requests().get(&self.name, &GetParams::default())).await?;
        let mut there = There {
            resource_version: secret.metadata.resource_version.unwrap_or_default(),
            entries: BTreeMap::new(),
            foreign: 0,
        };
        let now = Instant::now();
        let mut unreadable = BTreeSet::new();
        for (name, ByteString(text)) in secret.data.unwrap_or_default() {
            let size = name.len() + text.len();
            if !stored::is_name(&name) {
                there.foreign += size;
                continue;
            }
            let entry = Entry::parse(&name, &text)
                .map_err(|fault| {
                    unreadable.insert(name.clone());
                    if !self.unreadable.contains(&name) {
                        warn!(
                            secret = self.name,
                            entry = name,
                            "An entry for what is held is not used: {fault}; remove it, and what it held is kept again when that is usable once more."
                        );
                    }
                })
                .ok();
            if let Some(entry) = &entry {
                self.strangers.entry((name.clone(), entry.since().as_secs())).or_insert(now);
            }
            there.entries.insert(name, Found { entry, size });
        }
        let is_there = |(name, since): &(String, u64)| {
            let entry = there.entries.get(name).and_then(|found| found.entry.as_ref());
            entry.is_some_and(|entry| entry.since().as_secs() == *since)
        };
        self.strangers.retain(|key, _| is_there(key));
        self.unreadable = unreadable;
        self.measure(there.entries.len(), there.entries.values().map(|found| found.size).sum());
        self.looked_at = Some(now);
        self.there = Some(there);
        Ok(())
    }

    fn requests(&self) -> Request {
        Request::new(Secret::url_path(&(), Some(&self.namespace)))
    }

    /// Makes one request. Never shows what came of it.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, Failure> {
        let request = request.map_err(|_| Failure::Other("the request cannot be made".to_owned()))?;
        let answer = timeout(REQUEST, self.client.request_text(request)).await;
        let text = answer.map_err(|_| Failure::Other("no answer in time".to_owned()))?.map_err(Failure::of)?;
        serde_json::from_str(&text).map_err(|_| Failure::Other("the answer cannot be read".to_owned()))
    }

    fn measure(&self, entries: usize, bytes: usize) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.last_good_secret_entries.set(gauge(entries));
        self.metrics.last_good_secret_bytes.set(gauge(bytes));
    }

    /// Says once what does not work, and what to do about it.
    fn report(&mut self, failure: &Failure) {
        let is_known = self.failing.as_ref().is_some_and(|known| known.is_like(failure));
        self.failing = Some(failure.clone());
        if is_known {
            return;
        }
        let (secret, namespace) = (&self.name, &self.namespace);
        const MEANWHILE: &str = "Until then a new replica would not know what is served in place of unusable Secrets";
        match failure {
            Failure::Conflict => {}
            Failure::Forbidden(message) => warn!(
                secret,
                namespace,
                error = message,
                "The Secret for what is held may not be used: let a Role of this service account get and patch it by name, as the chart does. {MEANWHILE}."
            ),
            Failure::Missing => warn!(
                secret,
                namespace,
                "The Secret for what is held does not exist: create it empty, as the chart does, or with kubectl create secret generic. {MEANWHILE}."
            ),
            Failure::Other(error) => warn!(
                secret,
                namespace, error, "The Secret for what is held cannot be reached; it is tried again. {MEANWHILE}."
            ),
        }
    }

    /// Says what has no place, when something is added to it.
    fn report_dropped(&mut self, dropped: Vec<Dropped>) {
        const SHOWN: usize = 10;
        self.metrics.last_good_secret_dropped.set(i64::try_from(dropped.len()).unwrap_or(i64::MAX));
        let new: Vec<&Dropped> = dropped.iter().filter(|one| !self.dropped.contains(one)).collect();
        for one in new.iter().filter(|one| one.is_too_large).take(SHOWN) {
            warn!(
                secret = self.name,
                "{} is too large to be kept in a Secret: a new replica would not serve it.", one.title
            );
        }
        let oldest: Vec<&str> = new.iter().filter(|one| !one.is_too_large).map(|one| &*one.title).collect();
        if !oldest.is_empty() {
            let more = if oldest.len() > SHOWN { ", …" } else { "" };
            let names = oldest[..oldest.len().min(SHOWN)].join(", ");
            warn!(
                secret = self.name,
                "More is held than fits into a Secret ({LIMIT} bytes). What has been held for longest is not kept, so a new replica would not serve it: {names}{more}."
            );
        }
        self.dropped = dropped.into_iter().collect();
    }
}

/// The term in which this replica may write now.
fn term(leadership: Option<&Leadership>) -> Option<u64> {
    leadership.and_then(|leadership| leadership.term().at(Instant::now()))
}

async fn changed(leadership: &mut Option<Leadership>) {
    match leadership {
        Some(leadership) => leadership.changed().await,
        None => std::future::pending().await,
    }
}

impl Failure {
    fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                403 => Failure::Forbidden(status.message.clone()),
                404 => Failure::Missing,
                409 => Failure::Conflict,
                code => Failure::Other(format!("{code} {}", status.reason)),
            },
            kube::Error::HyperError(error) => Failure::Other(error.to_string()),
            kube::Error::Service(error) => {
                // The cause says more than what it came to.
                let mut innermost: &dyn std::error::Error = &*error;
                while let Some(source) = innermost.source() {
                    innermost = source;
                }
                Failure::Other(format!("{error}: {innermost}"))
            }
            // Their words may quote the answer.
            _ => Failure::Other("the request failed".to_owned()),
        }
    }

    /// What is to be done about it is the same.
    fn is_like(&self, other: &Failure) -> bool {
        match (self, other) {
            (Failure::Conflict, Failure::Conflict)
            | (Failure::Forbidden(_), Failure::Forbidden(_))
            | (Failure::Missing, Failure::Missing)
            | (Failure::Other(_), Failure::Other(_)) => true,
            (Failure::Conflict | Failure::Forbidden(_) | Failure::Missing | Failure::Other(_), _) => false,
        }
    }
}

/// What of an answer says which version it is.
#[derive(Deserialize)]
struct Version {
    metadata: VersionMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionMetadata {
    resource_version: String,
}
