//! The keeper against an API server of a few lines: two objects, versions, and permissions.

use std::collections::BTreeMap;
use std::sync::Mutex;

use clap::Parser as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use rustls::pki_types::UnixTime;
use serde_json::Value;

use super::*;
use crate::config::{Cli, Command};

const NOW: u64 = 1_767_225_600;

/// What somebody else does to the Secret.
type Overtaking = Box<dyn FnOnce(&mut Value) + Send>;

/// What there is, and what is refused.
#[derive(Default)]
struct Objects {
    secret: Value,
    configuration: Value,
    refused: Vec<(Method, &'static str)>,
    /// Runs before the next write of the Secret: somebody else is quicker.
    overtaken: Option<Overtaking>,
    writes: Vec<String>,
}

#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<Objects>>);

impl ApiServer {
    /// As the chart leaves it: an empty Secret, and webhooks of several services.
    fn new() -> Self {
        let webhook = |name: &str, service: &str| {
            json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                   "clientConfig": {"service": {"namespace": "ingress", "name": service}}})
        };
        let server = Self::default();
        {
            let mut objects = server.objects();
            objects.secret =
                json!({"metadata": {"name": "handfast-webhook", "namespace": "ingress", "resourceVersion": "1"}});
            let webhooks = [
                webhook("ingresses.handfast.dev", "handfast-webhook"),
                webhook("others", "others"),
                webhook("secrets.handfast.dev", "handfast-webhook"),
            ];
            objects.configuration = json!({"metadata": {"name": "handfast"}, "webhooks": webhooks});
        }
        server
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.0.lock().unwrap()
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let (status, answer) = server.answer(&head.method, head.uri.path(), &body);
                let answer = Body::from(serde_json::to_vec(&answer)?);
                Ok::<_, tower::BoxError>(Response::builder().status(status).body(answer)?)
            }
        });
        Client::new(service, "ingress")
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let mut objects = self.objects();
        let status = |code: StatusCode, reason: &str| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": reason}),
            )
        };
        let is_secret = path.ends_with("/secrets/handfast-webhook");
        let kind = if is_secret { "secret" } else { "configuration" };
        if objects.refused.contains(&(method.clone(), kind)) {
            return status(StatusCode::FORBIDDEN, "Forbidden");
        }
        match (method, is_secret) {
            (&Method::GET, true) => (StatusCode::OK, objects.secret.clone()),
            (&Method::GET, false) => (StatusCode::OK, objects.configuration.clone()),
            (&Method::PUT, true) => {
                if let Some(overtaken) = objects.overtaken.take() {
                    overtaken(&mut objects.secret);
                }
                let mut new: Value = serde_json::from_slice(body).unwrap();
                let version = |secret: &Value| secret["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
                if version(&new) != version(&objects.secret) {
                    return status(StatusCode::CONFLICT, "Conflict");
                }
                let next = version(&new).parse::<u64>().unwrap() + 1;
                new["metadata"]["resourceVersion"] = next.to_string().into();
                objects.writes.push("secret".to_owned());
                objects.secret = new.clone();
                (StatusCode::OK, new)
            }
            (&Method::PATCH, false) => {
                let patch: Value = serde_json::from_slice(body).unwrap();
                for entry in patch["webhooks"].as_array().unwrap() {
                    let name = entry["name"].as_str().unwrap();
                    objects.writes.push(name.to_owned());
                    let webhooks = objects.configuration["webhooks"].as_array_mut().unwrap();
                    let webhook = webhooks.iter_mut().find(|webhook| webhook["name"] == name).unwrap();
                    webhook["clientConfig"]["caBundle"] = entry["clientConfig"]["caBundle"].clone();
                }
                (StatusCode::OK, objects.configuration.clone())
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn kept(&self) -> Option<Kept> {
        let data = serde_json::from_value(self.objects().secret["data"].clone()).unwrap_or_default();
        Kept::read(&data)
    }

    fn bundles(&self) -> Vec<Option<String>> {
        let objects = self.objects();
        let bundle = |webhook: &Value| {
            let text = webhook["clientConfig"]["caBundle"].as_str()?.to_owned();
            Some(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
        };
        objects.configuration["webhooks"].as_array().unwrap().iter().map(bundle).collect()
    }
}

fn data(kept: &Kept) -> Value {
    let mut data = BTreeMap::new();
    kept.write(&mut data);
    json!(data)
}

/// A keeper, and the time that it sees.
fn keeper(server: &ApiServer, day: u64) -> (Keeper, watch::Receiver<Option<Arc<ServerConfig>>>) {
    let (offered, offers) = watch::channel(None);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(NOW + day * 86_400));
    let keeper = Keeper {
        client: server.client(),
        namespace: "ingress".into(),
        args: arguments(&[]),
        files: Files::default(),
        clock: Arc::new(move || at),
        offered: Arc::new(offered),
    };
    (keeper, offers)
}

fn arguments(more: &[&str]) -> WebhookArgs {
    match Cli::parse_from(["handfast", "run"].iter().chain(more)).command {
        Command::Run(args) => args.webhook,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_makes_a_certificate_and_the_others_take_it_over() {
    let server = ApiServer::new();
    let (one, offers) = keeper(&server, 0);
    let mut shown = None;
    one.turn(&mut shown).await.unwrap();
    let kept = server.kept().unwrap();
    assert!(shown == Some(kept.clone()) && offers.borrow().is_some());
    let ours = Some(kept.ca.clone());
    assert_eq!(server.bundles(), [ours.clone(), None, ours]);
    assert_eq!(server.objects().writes, ["secret", "ingresses.handfast.dev", "secrets.handfast.dev"]);
    // Nothing is due for the second one, nor in the next turn.
    let (two, offers) = keeper(&server, 1);
    let mut shown_by_two = None;
    two.turn(&mut shown_by_two).await.unwrap();
    one.turn(&mut shown).await.unwrap();
    assert!(shown_by_two == shown && offers.borrow().is_some());
    assert_eq!(server.objects().writes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_comes_second_takes_over_what_the_first_one_wrote() {
    let server = ApiServer::new();
    let (keeper, _offers) = keeper(&server, 0);
    let other = certificate::make(None, Need::Everything, &keeper.names(), (keeper.clock)()).unwrap();
    let theirs = data(&other);
    server.objects().overtaken = Some(Box::new(move |secret| {
        secret["data"] = theirs;
        secret["metadata"]["resourceVersion"] = "7".into();
    }));
    let mut shown = None;
    keeper.turn(&mut shown).await.unwrap();
    assert!(shown == Some(other.clone()) && server.kept() == Some(other));
}

#[tokio::test(start_paused = true)]
async fn a_new_authority_is_announced_before_its_certificate_is_shown() {
    let server = ApiServer::new();
    let mut shown = None;
    keeper(&server, 0).0.turn(&mut shown).await.unwrap();
    keeper(&server, 2_400).0.turn(&mut shown).await.unwrap();
    let before = server.kept().unwrap();
    let (later, mut offers) = keeper(&server, 2_440);
    let started = tokio::time::Instant::now();
    later.turn(&mut shown).await.unwrap();
    assert_eq!(started.elapsed(), SETTLE);
    let after = server.kept().unwrap();
    assert!(after.ca != before.ca && offers.borrow_and_update().is_some());
    assert_eq!(server.bundles()[0].as_ref(), Some(&after.ca));
    // Another leaf of the same CA is nothing that has to be announced.
    server.objects().writes.clear();
    let (later, _offers) = keeper(&server, 2_510);
    later.turn(&mut shown).await.unwrap();
    assert!(server.kept().unwrap().certificate != after.certificate);
    assert_eq!(server.objects().writes, ["secret"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_authority_that_cannot_be_announced_is_shown_when_the_old_certificate_has_expired() {
    let server = ApiServer::new();
    let mut shown = None;
    keeper(&server, 0).0.turn(&mut shown).await.unwrap();
    let before = shown.clone();
    server.objects().refused = vec![(Method::PATCH, "configuration")];
    let (later, offers) = keeper(&server, 5);
    let new = certificate::make(before.as_ref(), Need::Everything, &later.names(), (later.clock)()).unwrap();
    server.objects().secret["data"] = data(&new);
    later.turn(&mut shown).await.unwrap_err();
    assert!(shown == before && offers.borrow().is_none());
    let (late, offers) = keeper(&server, 91);
    late.turn(&mut shown).await.unwrap_err();
    assert!(shown == server.kept() && shown != before && offers.borrow().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_another_replica_has_announced_first_stays_announced() {
    let server = ApiServer::new();
    let mut shown = None;
    let (one, _offers) = keeper(&server, 0);
    one.turn(&mut shown).await.unwrap();
    let old = shown.unwrap();
    let new = certificate::make(Some(&old), Need::Everything, &one.names(), (one.clock)()).unwrap();
    assert!(one.announce(&new.ca).await.unwrap());
    // This one had read the Secret before.
    assert!(!one.announce(&old.ca).await.unwrap());
    assert_eq!(server.bundles()[0].as_ref(), Some(&new.ca));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_somebody_has_emptied_gets_what_is_shown() {
    let server = ApiServer::new();
    let mut shown = None;
    keeper(&server, 0).0.turn(&mut shown).await.unwrap();
    let before = server.kept();
    server.objects().secret["data"] = Value::Null;
    server.objects().writes.clear();
    keeper(&server, 1).0.turn(&mut shown).await.unwrap();
    assert!(server.kept() == before && shown == before);
    assert_eq!(server.objects().writes, ["secret"]);
    // When something is due as well, whoever still shows the old one is believed.
    server.objects().secret["data"] = Value::Null;
    keeper(&server, 3_000).0.turn(&mut shown).await.unwrap();
    assert!(server.kept().unwrap().ca.ends_with(&before.unwrap().ca));
}

#[tokio::test(start_paused = true)]
async fn what_has_been_made_for_want_of_permission_is_made_again_when_it_has_expired() {
    let server = ApiServer::new();
    server.objects().refused = vec![(Method::GET, "secret")];
    let days = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (mut keeper, mut offers) = keeper(&server, 0);
    let seen = days.clone();
    keeper.clock = Arc::new(move || {
        let days = seen.load(std::sync::atomic::Ordering::Relaxed);
        UnixTime::since_unix_epoch(Duration::from_secs(NOW + days * 86_400))
    });
    let end = CancellationToken::new();
    let task = tokio::spawn(keeper.run(end.clone()));
    offers.changed().await.unwrap();
    tokio::time::sleep(AGAIN * 3).await;
    assert!(!offers.has_changed().unwrap());
    days.store(91, std::sync::atomic::Ordering::Relaxed);
    offers.changed().await.unwrap();
    end.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_permission_it_serves_all_the_same() {
    let server = ApiServer::new();
    server.objects().refused = vec![(Method::PATCH, "configuration")];
    let (one, offers) = keeper(&server, 0);
    let mut shown = None;
    let error = one.turn(&mut shown).await.unwrap_err();
    assert!(error.to_string().contains("ValidatingWebhookConfiguration handfast"), "{error}");
    assert!(shown == server.kept() && shown.is_some() && offers.borrow().is_some());

    server.objects().refused = vec![(Method::GET, "secret")];
    let (two, mut offers) = keeper(&server, 0);
    let end = CancellationToken::new();
    let task = tokio::spawn(two.run(end.clone()));
    offers.wait_for(Option::is_some).await.unwrap();
    // When it is allowed, what all replicas have is taken over.
    offers.mark_unchanged();
    server.objects().refused.clear();
    offers.changed().await.unwrap();
    end.cancel();
    task.await.unwrap();

    server.objects().configuration["webhooks"][0]["clientConfig"]["service"]["name"] = "x".into();
    server.objects().configuration["webhooks"][2]["clientConfig"]["service"]["name"] = "x".into();
    let error = one.turn(&mut shown).await.unwrap_err();
    assert!(error.to_string().contains("names the Service ingress/handfast-webhook"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_shown_as_long_as_it_is_usable() {
    let server = ApiServer::new();
    let mut shown = None;
    keeper(&server, 0).0.turn(&mut shown).await.unwrap();
    server.objects().refused = vec![(Method::PUT, "secret")];
    keeper(&server, 70).0.turn(&mut shown).await.unwrap();
    let error = keeper(&server, 95).0.turn(&mut shown).await.unwrap_err();
    assert!(error.to_string().contains("needs the right to update it"), "{error}");
}

#[tokio::test]
async fn the_authority_of_clients_is_followed_beside_a_certificate_of_our_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let made = || certificate::make(None, Need::Everything, &[], UnixTime::since_unix_epoch(Duration::from_secs(NOW)));
    write(&made().unwrap().ca);
    let server = ApiServer::new();
    let (mut keeper, mut offers) = keeper(&server, 0);
    keeper.args = arguments(&["--webhook-client-ca", file.to_str().unwrap()]);
    keeper.files = Files::read(&keeper.args).unwrap();
    let mut shown = None;
    keeper.turn(&mut shown).await.unwrap();
    let before = offers.borrow_and_update().clone().unwrap();
    keeper.follow_client_ca(shown.as_ref()).await.unwrap();
    assert!(!offers.has_changed().unwrap(), "nothing is new");
    write("garbage");
    let error = keeper.follow_client_ca(shown.as_ref()).await.unwrap_err().to_string();
    assert!(error.contains("--webhook-client-ca") && !offers.has_changed().unwrap(), "{error}");
    write(&made().unwrap().ca);
    keeper.follow_client_ca(shown.as_ref()).await.unwrap();
    assert!(!Arc::ptr_eq(&offers.borrow_and_update().clone().unwrap(), &before));
}

#[tokio::test(start_paused = true)]
async fn files_that_change_are_put_into_force_and_broken_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let names = vec!["x.y.svc".to_owned()];
    let at = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let write = |text: &dyn Fn(&Kept) -> (String, String)| {
        let kept = certificate::make(None, Need::Everything, &names, at).unwrap();
        let (certificate, key) = text(&kept);
        std::fs::write(folder.path().join("crt"), certificate).unwrap();
        std::fs::write(folder.path().join("key"), key).unwrap();
    };
    let good = |kept: &Kept| (kept.certificate.clone(), kept.key.clone());
    write(&good);
    let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
    let args = arguments(&["--webhook-cert", &path("crt"), "--webhook-key", &path("key")]);
    let files = Files::read(&args).unwrap();
    let (offered, mut offers) = watch::channel(None);
    let end = CancellationToken::new();
    let task = tokio::spawn(follow_files(args.clone(), files, Arc::new(offered), end.clone()));
    write(&|kept| ("garbage".to_owned(), kept.key.clone()));
    tokio::time::sleep(FILES_EVERY * 3).await;
    assert!(!offers.has_changed().unwrap());
    write(&good);
    offers.changed().await.unwrap();
    end.cancel();
    task.await.unwrap();
}
