//! The task that tells Events, one after another, if this replica leads.
//!
//! `publications ──▶ Book ──note──▶ create ──409──▶ what is there ──▶ known, or one more of a series`

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::apply::names;
use super::super::cluster::{Inputs, wake};
use super::book::{Note, REPEAT};
use super::{Book, CONTROLLER, Rank, Remark, Text, Told, fingerprint};
use crate::clock;
use crate::compile::{Kind, ObjectKey};
use crate::kubernetes::{Complaints, cause};
use crate::leader::Leadership;
use crate::metrics::{EVENT, Metrics};
use crate::reconcile::Publication;
use crate::source::cluster::seen::Seen;

/// How long one Event may take, with the client's own retries.
const PATIENCE: Duration = Duration::from_secs(10);

/// Diagnostics that change faster are looked at together.
const QUIET: Duration = Duration::from_millis(500);

/// The longest name of an object.
const NAME: usize = 253;

/// Tells Events.
pub(in super::super) struct Teller {
    client: Client,
    /// `reportingInstance`.
    instance: Arc<str>,
    seen: Seen,
    publications: watch::Receiver<Option<Publication>>,
    leadership: Leadership,
    remarks: mpsc::Receiver<Remark>,
    metrics: Metrics,
    complaints: Complaints,
    /// That some problems are not told everywhere, and that some objects have too many, is said once in a while.
    left_out: Complaints,
    crowded: Complaints,
}

impl Teller {
    pub(in super::super) fn new(inputs: &Inputs, remarks: mpsc::Receiver<Remark>) -> Self {
        Self {
            client: inputs.cluster.client.clone(),
            instance: inputs.cluster.identity.clone(),
            seen: inputs.seen.clone(),
            publications: inputs.publications.clone(),
            leadership: inputs.leadership.clone(),
            remarks,
            metrics: inputs.metrics.clone(),
            complaints: Complaints::default(),
            left_out: Complaints::default(),
            crowded: Complaints::default(),
        }
    }

    pub(in super::super) async fn run(mut self, end: CancellationToken) {
        let mut term = None;
        let mut book = Book::new(Instant::now());
        let mut look_at = None;
        loop {
            let now = Instant::now();
            let leads = self.leadership.term().at(now);
            if leads != term {
                term = leads;
                book = Book::new(now);
                look_at = term.map(|_| now);
            }
            if term.is_some() {
                if look_at.is_some_and(|at| at <= now) {
                    look_at = None;
                    self.look(&mut book);
                }
                tokio::select! {
                    () = end.cancelled() => return,
                    () = self.tell_next(&mut book) => {}
                }
            }
            let waiting = i64::try_from(book.len()).unwrap_or(i64::MAX);
            self.metrics.status_queue.with_label_values(&[EVENT]).set(waiting);
            let now = Instant::now();
            let wake_at = term.and_then(|_| super::super::cluster::earliest(look_at, book.next_at(now)));
            tokio::select! {
                () = end.cancelled() => return,
                changed = self.publications.changed() => match changed {
                    Ok(()) => look_at = look_at.or(Some(now + QUIET)),
                    Err(_) => end.cancelled().await,
                },
                () = self.leadership.changed() => {}
                Some(remark) = self.remarks.recv() => if term.is_some() {
                    self.remark(&mut book, &remark);
                },
                () = wake(wake_at) => {}
            }
        }
    }

    fn look(&mut self, book: &mut Book) {
        let Some(publication) = self.publications.borrow_and_update().clone() else { return };
        let compiled = &publication.compiled;
        let left_out = book.look(compiled.diagnostics.clone(), &compiled.snapshot, Instant::now());
        let all = left_out.shared + left_out.crowded;
        self.count(Told::Dropped, all);
        if all > 0 && self.left_out.is_due("left out", Instant::now()) {
            warn!(
                more = all,
                "Not every problem gets an Event on each of its Ingresses. The log lines about problems name all hosts."
            );
        }
    }

    fn remark(&self, book: &mut Book, remark: &Remark) {
        let publication = self.publications.borrow().clone();
        let Some(publication) = publication else { return };
        if let Some((on, text)) = Text::remark(remark, &publication.compiled.snapshot)
            && !book.remark(on, text)
        {
            self.count(Told::Dropped, 1);
        }
    }

    fn count(&self, told: Told, count: usize) {
        self.metrics.events.with_label_values(&[told.label()]).inc_by(count as u64);
    }

    /// Tells one, if it is time for one.
    async fn tell_next(&mut self, book: &mut Book) {
        let now = Instant::now();
        let (next, dropped) = book.next(now);
        if dropped > 0 {
            self.count(Told::Dropped, dropped);
            if self.crowded.is_due("dropped", now) {
                warn!(dropped, "There are too many Events about one object. The log has a line about each problem.");
            }
        }
        let Some((note, id)) = next else { return };
        let Some(until) = self.leadership.term().until.filter(|until| now < *until) else { return };
        // What is not there any more is told nothing.
        let Some(uid) = self.uid(&note.on) else { return };
        let event = self.event(&note, &uid);
        let told = timeout_at(until.min(now + PATIENCE), tell(&self.client, &event, note.again)).await;
        let now = Instant::now();
        match told {
            Ok(Ok(told)) => {
                book.told(&note, id, now);
                self.count(told, 1);
                if self.complaints.settled() {
                    info!("Events are written again.");
                }
            }
            failed => {
                let error = match &failed {
                    Ok(Err(error)) => cause(error),
                    Ok(Ok(_)) | Err(_) => "no answer in time".to_owned(),
                };
                let kind = match &failed {
                    Ok(Err(kube::Error::Api(status))) => format!("status {}", status.code),
                    Ok(_) | Err(_) => error.clone(),
                };
                if self.complaints.is_due(&kind, now) {
                    warn!(object = %note.on, error, "Cannot write an Event.");
                }
                // What the API server does not want of this object it will not want later.
                let is_refused = matches!(&failed, Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 404 | 422));
                if is_refused || !book.failed(note, id, now) {
                    self.count(Told::Failed, 1);
                }
            }
        }
    }

    fn uid(&self, key: &ObjectKey) -> Option<Arc<str>> {
        let objects = self.seen.objects();
        match key.kind {
            Kind::Ingress => objects.ingresses.get(key).map(|seen| seen.uid.clone()),
            Kind::TlsPolicy => objects.policies.get(key).map(|seen| seen.uid.clone()),
            Kind::EndpointSlice | Kind::File | Kind::IngressClass | Kind::Other | Kind::Secret | Kind::Service => None,
        }
    }

    fn event(&self, note: &Note, uid: &str) -> Event {
        let Note { on, text, .. } = note;
        let reference = |key: &ObjectKey, uid: Option<&str>| {
            let (api_version, kind) = names(key.kind);
            ObjectReference {
                api_version: Some(api_version),
                kind: Some(kind.to_owned()),
                namespace: (!key.namespace.is_empty()).then(|| key.namespace.to_string()),
                name: Some(key.name.to_string()),
                uid: uid.map(str::to_owned),
                ..ObjectReference::default()
            }
        };
        let is_object = !matches!(text.about.kind, Kind::File | Kind::Other);
        let number = fingerprint(&[uid, &format!("{:016x}", text.fingerprint)]);
        let mut name: String = on.name.chars().take(NAME - 17).collect();
        name.truncate(name.trim_end_matches(['.', '-']).len());
        let kind = match text.rank {
            Rank::Error | Rank::Warning => "Warning",
            Rank::Info | Rank::Solved => "Normal",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{number:016x}")),
                namespace: Some(on.namespace.to_string()),
                ..ObjectMeta::default()
            },
            action: Some(text.action.to_owned()),
            event_time: Some(MicroTime(time())),
            note: Some(text.note.clone()),
            reason: Some(text.reason.clone()),
            regarding: Some(reference(on, Some(uid))),
            related: (text.about != *on && is_object).then(|| reference(&text.about, None)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            type_: Some(kind.to_owned()),
            ..Event::default()
        }
    }
}

/// Tells an Event, or one more of it. One that is there, and may be there for the same occasion, is known if it is not
/// old.
async fn tell(client: &Client, event: &Event, again: bool) -> Result<Told, kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let name = event.metadata.name.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let has_code = |error: &kube::Error, wanted| matches!(error, kube::Error::Api(status) if status.code == wanted);
    match events.create(&PostParams::default(), event).await {
        Ok(_) => return Ok(Told::Written),
        Err(error) if has_code(&error, 409) => {}
        Err(error) => return Err(error),
    }
    // A patch of nothing answers with what is there, and needs no permission to read.
    let patch = |patch| async move { events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await };
    let there = patch.clone()(json!({})).await?;
    let last = there.series.as_ref().map(|series| &series.last_observed_time).or(there.event_time.as_ref());
    let age = last.map_or(SignedDuration::MAX, |last| time().duration_since(last.0));
    let is_old = age >= SignedDuration::try_from(REPEAT).unwrap_or(SignedDuration::MAX);
    if !again && !is_old {
        return Ok(Told::Known);
    }
    let count = there.series.as_ref().map_or(1, |series| series.count).saturating_add(1);
    let series = EventSeries { count, last_observed_time: MicroTime(time()) };
    patch(json!({"series": series})).await?;
    Ok(Told::Repeated)
}

fn time() -> Timestamp {
    Timestamp::try_from(clock::system_time()).unwrap_or(Timestamp::UNIX_EPOCH)
}
