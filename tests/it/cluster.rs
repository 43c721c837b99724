//! A cluster as a source, against an API server that misbehaves on demand.

mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use handfast::api::tls_policy::TlsPolicy;
use handfast::compile::{Change, Diagnostic, Object, ObjectKey, Scope, SecretObject};
use handfast::config::{Environment, RunArgs};
use handfast::kubernetes;
use handfast::metrics::Metrics;
use handfast::source::cluster::seen::Seen;
use handfast::source::cluster::{self, Saved, Settings};
use handfast::source::{Event, Events};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use crate::binary::PATIENCE;
use fake::{Api, CLASSES, INGRESSES, Manner, NAMESPACES, POLICIES, SECRET_NAMES, SECRETS, SERVICES, SLICES};

/// What the events of a source come to.
struct World {
    events: Events,
    objects: BTreeMap<(Scope, ObjectKey), Object>,
    rejected: BTreeMap<Scope, Vec<Diagnostic>>,
    synced: bool,
    upserts: usize,
    /// Diagnostics in all that was said about what was rejected.
    complaints: usize,
    seen: Seen,
    metrics: Metrics,
    _place: tempfile::TempDir,
}

fn settings() -> Settings {
    Settings {
        namespaces: BTreeSet::new(),
        selector: None,
        class: ("handfast".into(), "handfast.dev/ingress-controller".into()),
        default_tls_secret: None,
        tls_policies: BTreeSet::new(),
        sync_timeout: Duration::from_secs(20),
    }
}

impl World {
    async fn open(api: &Api, settings: &Settings, saved: Saved) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut args = RunArgs::defaults().cluster;
        args.kubeconfig = Some(api.kubeconfig(&place));
        // kube asks for a provider of the process.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let reached = kubernetes::connect(&args, &Environment::default()).await.unwrap();
        assert_eq!(&*reached.namespace, "ingress");
        let (seen, metrics) = (Seen::default(), Metrics::new(true));
        let events = cluster::open(&reached, settings, saved, &seen, &metrics).unwrap();
        Self {
            events,
            objects: BTreeMap::new(),
            rejected: BTreeMap::new(),
            synced: false,
            upserts: 0,
            complaints: 0,
            seen,
            metrics,
            _place: place,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Remember(_) => {}
            Event::Synced => self.synced = true,
            Event::Change(Change::Delete(scope, key)) => drop(self.objects.remove(&(scope, key))),
            Event::Change(Change::Rejected(scope, diagnostics)) => {
                self.complaints += diagnostics.len();
                self.rejected.insert(scope, diagnostics);
            }
            Event::Change(Change::Replace(scope, objects)) => {
                self.objects.retain(|(of, _), _| *of != scope);
                self.objects.extend(objects.into_iter().map(|object| ((scope.clone(), object.key()), object)));
            }
            Event::Change(Change::Upsert(scope, object)) => {
                self.upserts += 1;
                self.objects.insert((scope, object.key()), object);
            }
        }
    }

    /// Takes events until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                let event = self.events.next().await.unwrap();
                self.take(event);
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} does not come");
    }

    /// Several deadlines of the start pass, and it is not over.
    async fn still_waits(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        while let Ok(event) = tokio::time::timeout_at(deadline, self.events.next()).await {
            self.take(event.unwrap());
            assert!(!self.synced, "the start is over: {:?}", self.names());
        }
    }

    /// The names of all objects, with their scopes.
    fn names(&self) -> Vec<String> {
        self.objects.keys().map(|(scope, key)| format!("{}: {}", scope.0, key.path())).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.names().iter().any(|known| known == name)
    }

    /// Codes and subjects of all that was rejected.
    fn problems(&self) -> Vec<String> {
        let all = self.rejected.values().flatten();
        all.map(|diagnostic| format!("{}: {}", diagnostic.problem.code(), diagnostic.subject)).collect()
    }
}

fn ingress(namespace: &str, name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}"), "labels": {"a": "b"}},
        "spec": {
            "ingressClassName": "handfast",
            "tls": [{"hosts": [format!("{name}.example")], "secretName": secret}],
            "rules": [{"host": format!("{name}.example")}],
        },
    })
}

fn secret(namespace: &str, name: &str, kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"namespace": namespace, "name": name}, "data": {"tls.crt": "YQ==", "tls.key": "Yg=="}})
}

fn all(api: &Api) {
    api.put(INGRESSES, ingress("shop", "a", "a"));
    api.put(INGRESSES, ingress("shop", "b", "opaque"));
    api.put(SECRETS, secret("shop", "a", "kubernetes.io/tls"));
    api.put(SECRET_NAMES, secret("shop", "opaque", "Opaque"));
    api.put(SECRET_NAMES, secret("shop", "private", "Opaque"));
}

#[tokio::test]
async fn everything_there_is_comes_before_the_source_is_synced_and_no_secret_that_nobody_names() {
    let api = Api::start().await;
    all(&api);
    let mut world = World::open(&api, &settings(), Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    assert_eq!(
        world.names(),
        ["Ingress: shop/a", "Ingress: shop/b", "Secret: shop/a", "secrets.referenced: shop/opaque"]
    );
    assert_eq!(api.requests("secrets/private"), 0);
    assert_eq!(world.problems(), Vec::<String>::new());
    // One that is named later is fetched then, and let go when nothing names it.
    api.put(INGRESSES, ingress("shop", "c", "private"));
    world.until("the Secret", |world| world.has("secrets.referenced: shop/private")).await;
    api.remove(INGRESSES, "shop/c");
    world.until("its end", |world| !world.has("secrets.referenced: shop/private")).await;
    api.put(
        SECRET_NAMES,
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": "shop", "name": "opaque"}, "data": {"tls.crt": "Yw=="}}),
    );
    let key = ObjectKey::new(handfast::compile::Kind::Secret, "shop", "opaque");
    let of = (Scope("secrets.referenced".into()), key);
    world
        .until("its new version", |world| match world.objects.get(&of) {
            Some(Object::Secret(secret)) => secret.0.data.as_ref().unwrap()["tls.crt"].0 == b"c",
            Some(_) | None => false,
        })
        .await;
}

#[tokio::test]
async fn a_change_of_a_status_alone_wakes_nobody_but_is_seen() {
    let api = Api::start().await;
    all(&api);
    let mut world = World::open(&api, &settings(), Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    let upserts = world.upserts;
    let mut with_status = ingress("shop", "a", "a");
    with_status["metadata"]["managedFields"] =
        json!([{"manager": "handfast", "operation": "Apply", "subresource": "status"}]);
    with_status["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let mut changes = world.seen.subscribe();
    changes.mark_unchanged();
    api.put(INGRESSES, with_status);
    tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    api.put(INGRESSES, ingress("shop", "marker", "a"));
    world.until("the marker", |world| world.has("Ingress: shop/marker")).await;
    assert_eq!(world.upserts, upserts + 1, "only the marker was sent");
    let objects = world.seen.objects();
    let look = &objects.ingresses[&ObjectKey::new(handfast::compile::Kind::Ingress, "shop", "a")];
    assert_eq!((&*look.uid, look.is_ours), ("uid-a", true));
    assert_eq!(look.addresses[0].ip.as_deref(), Some("192.0.2.1"));
}

#[tokio::test]
async fn what_went_while_nobody_looked_is_gone_after_the_next_list_and_not_before() {
    let api = Api::start().await;
    all(&api);
    let mut world = World::open(&api, &settings(), Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    api.remove_unseen(INGRESSES, "shop/b");
    api.remove_unseen(SECRETS, "shop/a");
    api.put_unseen(INGRESSES, ingress("shop", "c", "a"));
    // The server lists nothing: nothing may be taken for gone.
    api.manner(INGRESSES, Manner::Status(503));
    api.manner(SECRETS, Manner::Status(403));
    world.until("the refusal", |world| !world.problems().is_empty()).await;
    assert_eq!(world.problems(), ["kind-not-watched: Object secrets"]);
    assert!(world.has("Ingress: shop/b") && world.has("Secret: shop/a"));
    for resource in [INGRESSES, SECRETS] {
        api.manner(resource, Manner::Well);
    }
    // Watches begin where they were, so only a list can tell.
    let watches = |api: &Api| (api.requests("/ingresses?&watch=true"), api.requests("type=?&watch=true"));
    let before = watches(&api);
    let wait = async {
        while watches(&api).0 <= before.0 || watches(&api).1 <= before.1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    for resource in [INGRESSES, SECRETS] {
        api.expire(resource);
    }
    world.until("the new Ingress", |world| world.has("Ingress: shop/c")).await;
    world.until("the end of the old ones", |world| !world.has("Ingress: shop/b") && !world.has("Secret: shop/a")).await;
    world.until("no complaint", |world| world.problems().is_empty()).await;
}

#[tokio::test]
async fn a_kind_that_the_server_refuses_blocks_no_other_and_its_class_is_known_by_name() {
    let api = Api::start().await;
    all(&api);
    api.manner(CLASSES, Manner::Status(403));
    api.manner(POLICIES, Manner::Status(404));
    let quick = Settings { sync_timeout: Duration::from_secs(1), ..settings() };
    let mut world = World::open(&api, &quick, Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    let mut problems = world.problems();
    problems.sort();
    assert_eq!(
        problems,
        [
            "kind-not-watched: Object ingressclasses.networking.k8s.io",
            "kind-not-watched: Object tlspolicies.handfast.dev"
        ]
    );
    assert!(world.has("Ingress: shop/a") && world.has("IngressClass: /handfast"), "{:?}", world.names());
    // Permission comes, and the kind is there after all.
    api.manner(CLASSES, Manner::Well);
    api.manner(POLICIES, Manner::Well);
    world.until("no complaint", |world| world.problems().is_empty()).await;
    world.until("the end of what was only supposed", |world| !world.has("IngressClass: /handfast")).await;
}

#[tokio::test]
async fn an_object_that_does_not_parse_is_reported_stays_what_it_was_and_can_be_deleted() {
    let api = Api::start().await;
    all(&api);
    let mut world = World::open(&api, &settings(), Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    let mut broken = ingress("shop", "a", "a");
    broken["spec"]["rules"] = json!("none");
    api.put(INGRESSES, broken.clone());
    world.until("the complaint", |world| world.problems() == ["invalid-document: Ingress shop/a"]).await;
    assert!(world.has("Ingress: shop/a"));
    api.put(INGRESSES, ingress("shop", "z", "a"));
    world.until("another one", |world| world.has("Ingress: shop/z")).await;
    // A list with it in keeps it as well.
    api.expire(INGRESSES);
    api.put_unseen(INGRESSES, ingress("shop", "y", "a"));
    world.until("the list", |world| world.has("Ingress: shop/y")).await;
    assert!(world.has("Ingress: shop/a"));
    api.remove(INGRESSES, "shop/a");
    world.until("its end", |world| !world.has("Ingress: shop/a") && world.problems().is_empty()).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_or_done_without_if_something_was_saved() {
    let api = Api::start().await;
    let objects = || {
        let of = |value: Value| Object::Ingress(std::sync::Arc::new(serde_json::from_value::<Ingress>(value).unwrap()));
        vec![
            (Scope("Ingress".into()), vec![of(ingress("shop", "a", "a")), of(ingress("shop", "old", "a"))]),
            (Scope("Ingress/elsewhere".into()), vec![of(ingress("elsewhere", "x", "a"))]),
        ]
    };
    all(&api);
    EVERYTHING.iter().for_each(|resource| api.manner(resource, Manner::Status(503)));
    let quick = Settings { sync_timeout: Duration::from_secs(2), ..settings() };
    let mut world = World::open(&api, &quick, Saved::later(UnixTime::now(), objects)).await;
    world.until("the start", |world| world.synced).await;
    assert_eq!(world.names(), ["Ingress: shop/a", "Ingress: shop/old"], "and nothing of what is not watched");
    assert_eq!(world.metrics.serving_saved.get(), 1);
    EVERYTHING.iter().for_each(|resource| api.manner(resource, Manner::Well));
    world.until("what is there now", |world| world.has("Ingress: shop/b") && !world.has("Ingress: shop/old")).await;
    let metrics = world.metrics.clone();
    let wait = async {
        while metrics.serving_saved.get() != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn without_anything_saved_the_start_waits_as_long_as_it_takes() {
    let api = Api::start().await;
    all(&api);
    api.manner(SERVICES, Manner::Silent);
    let mut world = World::open(&api, &quick(), Saved::default()).await;
    world.until("the others", |world| world.has("secrets.referenced: shop/opaque")).await;
    world.still_waits().await;
}

/// With deadlines that pass soon.
fn quick() -> Settings {
    Settings { sync_timeout: Duration::from_millis(300), ..settings() }
}

fn saved_ingress(namespace: &str, name: &str) -> Object {
    let ingress: Ingress = serde_json::from_value(ingress(namespace, name, "a")).unwrap();
    Object::Ingress(Arc::new(ingress))
}

const EVERYTHING: [&str; 7] = [INGRESSES, CLASSES, POLICIES, SECRETS, SECRET_NAMES, SERVICES, SLICES];

#[tokio::test]
async fn what_was_saved_of_something_else_is_no_configuration_to_start_with() {
    for saved in [Vec::new(), vec![(Scope("Ingress/elsewhere".into()), vec![saved_ingress("elsewhere", "x")])]] {
        let api = Api::start().await;
        all(&api);
        EVERYTHING.iter().for_each(|resource| api.manner(resource, Manner::Status(503)));
        let mut world = World::open(&api, &quick(), Saved::later(UnixTime::now(), || saved)).await;
        world.still_waits().await;
        assert_eq!(world.names(), Vec::<String>::new());
        EVERYTHING.iter().for_each(|resource| api.manner(resource, Manner::Well));
        world.until("the start", |world| world.synced).await;
        assert!(world.has("Ingress: shop/a") && !world.has("Ingress/elsewhere: elsewhere/x"));
    }
}

#[tokio::test]
async fn without_permission_for_ingresses_the_start_waits_as_long_as_it_takes() {
    let api = Api::start().await;
    all(&api);
    api.manner(INGRESSES, Manner::Status(403));
    let mut world = World::open(&api, &quick(), Saved::default()).await;
    world.still_waits().await;
    assert_eq!(world.problems(), ["kind-not-watched: Object ingresses.networking.k8s.io"]);
    api.manner(INGRESSES, Manner::Well);
    world.until("the start", |world| world.synced).await;
    assert!(world.has("Ingress: shop/a"));
}

/// The path of a resource in a namespace.
fn of(namespace: &str, resource: &str) -> String {
    match (resource, resource.rsplit_once('/').unwrap()) {
        (CLASSES, _) => resource.to_owned(),
        (_, (group, kind)) => format!("{group}/namespaces/{namespace}/{kind}"),
    }
}

#[tokio::test]
async fn a_namespace_without_permission_leaves_the_others_alone_and_nothing_else_is_missed() {
    let api = Api::start().await;
    api.put(&of("shop", INGRESSES), ingress("shop", "a", "gone"));
    api.manner(CLASSES, Manner::Status(403));
    for namespace in ["poor", "shop"] {
        EVERYTHING.iter().for_each(|resource| api.manner(&of(namespace, resource), Manner::Status(403)));
    }
    let settings = Settings { namespaces: ["poor", "shop"].map(str::to_owned).into(), ..quick() };
    let mut world = World::open(&api, &settings, Saved::default()).await;
    world.still_waits().await;
    let namespaced = EVERYTHING.iter().filter(|resource| **resource != CLASSES);
    namespaced.for_each(|resource| api.manner(&of("shop", resource), Manner::Well));
    world.until("the start", |world| world.synced).await;
    assert!(world.has("Ingress/shop: shop/a") && world.has("IngressClass: /handfast"), "{:?}", world.names());
    world.until("what is missing", |world| world.problems().len() == 5).await;
    // A Role cannot allow this one.
    assert!(!world.problems().iter().any(|problem| problem.contains("ingressclasses")), "{:?}", world.problems());
    assert_eq!(world.metrics.watch_errors.with_label_values(&["IngressClass", "list"]).get(), 0);
    api.manner(&of("poor", INGRESSES), Manner::Well);
    world.until("its end", |world| world.problems().len() == 4).await;
}

#[tokio::test]
async fn a_class_that_was_saved_is_not_replaced_by_one_that_is_only_supposed() {
    let api = Api::start().await;
    all(&api);
    EVERYTHING.iter().for_each(|resource| api.manner(resource, Manner::Status(503)));
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": "handfast"}, "spec": {"controller": "handfast.dev/ingress-controller",
        "parameters": {"apiGroup": "handfast.dev", "kind": "TlsPolicy", "name": "strict", "namespace": "shop"}}});
    let saved = move || {
        let class: IngressClass = serde_json::from_value(class).unwrap();
        vec![
            (Scope("Ingress".into()), vec![saved_ingress("shop", "a")]),
            (Scope("IngressClass".into()), vec![Object::IngressClass(Arc::new(class))]),
        ]
    };
    let mut world = World::open(&api, &quick(), Saved::later(UnixTime::now(), saved)).await;
    world.until("the start", |world| world.synced).await;
    EVERYTHING.iter().for_each(|resource| api.manner(resource, Manner::Well));
    api.manner(CLASSES, Manner::Status(403));
    let is_refused = |world: &World| world.problems() == ["kind-not-watched: Object ingressclasses.networking.k8s.io"];
    world.until("the refusal", is_refused).await;
    // What would come in its place comes right after the refusal.
    api.put(INGRESSES, ingress("shop", "marker", "a"));
    world.until("the marker", |world| world.has("Ingress: shop/marker")).await;
    let key = ObjectKey::new(handfast::compile::Kind::IngressClass, "", "handfast");
    let Object::IngressClass(class) = &world.objects[&(Scope("IngressClass".into()), key)] else { unreachable!() };
    assert!(class.spec.as_ref().unwrap().parameters.is_some(), "the saved one, with its policy");
}

#[tokio::test]
async fn saved_ingresses_of_namespaces_that_are_not_selected_go_when_that_is_known() {
    // Namespaces are heard of before Ingresses, or after them.
    for order in [[NAMESPACES, INGRESSES], [INGRESSES, NAMESPACES]] {
        let api = Api::start().await;
        all(&api);
        api.put(INGRESSES, ingress("other", "o", "a"));
        api.put(NAMESPACES, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        EVERYTHING.iter().chain(&[NAMESPACES]).for_each(|resource| api.manner(resource, Manner::Status(503)));
        let saved = || {
            let ingresses = [("shop", "a"), ("other", "o"), ("other", "old")];
            let ingresses = ingresses.map(|(namespace, name)| saved_ingress(namespace, name));
            vec![(Scope("Ingress".into()), ingresses.to_vec())]
        };
        let selected = Settings { selector: Some("team=shop".into()), ..quick() };
        let mut world = World::open(&api, &selected, Saved::later(UnixTime::now(), saved)).await;
        world.until("the start", |world| world.synced).await;
        assert!(world.has("Ingress: shop/a") && world.has("Ingress: other/o"), "all that was saved is served");
        for resource in order {
            api.manner(resource, Manner::Well);
            // The watch begins when the list has been told.
            let wait = async {
                while api.watches(resource) == 0 {
                    let event = tokio::time::timeout(Duration::from_millis(10), world.events.next()).await;
                    event.into_iter().flatten().for_each(|event| world.take(event));
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.unwrap();
        }
        world.until("their end", |world| !world.has("Ingress: other/o") && !world.has("Ingress: other/old")).await;
        assert!(world.has("Ingress: shop/a"));
    }
}

#[tokio::test]
async fn a_namespace_whose_secrets_may_not_be_read_leaves_those_of_another_alone() {
    let api = Api::start().await;
    let manner = |manner| {
        for namespace in ["poor", "shop"] {
            EVERYTHING.iter().for_each(|resource| api.manner(&of(namespace, resource), manner));
        }
    };
    manner(Manner::Status(503));
    api.put(&of("shop", INGRESSES), ingress("shop", "a", "gone"));
    let saved = || {
        let secret = serde_json::from_value(secret("shop", "gone", "Opaque")).unwrap();
        vec![
            (Scope("Ingress/shop".into()), vec![saved_ingress("shop", "a")]),
            (Scope("secrets.referenced/shop".into()), vec![Object::Secret(SecretObject(Arc::new(secret)))]),
        ]
    };
    let settings = Settings { namespaces: ["poor", "shop"].map(str::to_owned).into(), ..quick() };
    let mut world = World::open(&api, &settings, Saved::later(UnixTime::now(), saved)).await;
    world.until("the start", |world| world.synced).await;
    assert!(world.has("secrets.referenced/shop: shop/gone"), "{:?}", world.names());
    manner(Manner::Well);
    api.manner(&of("poor", SECRET_NAMES), Manner::Status(403));
    world.until("its end", |world| !world.has("secrets.referenced/shop: shop/gone")).await;
    assert!(world.has("Ingress/shop: shop/a"));
}

#[tokio::test]
async fn a_list_with_many_objects_that_do_not_parse_complains_once_about_each() {
    let api = Api::start().await;
    for number in 0..300 {
        let mut broken = ingress("shop", &format!("broken-{number}"), "a");
        broken["spec"]["rules"] = json!("none");
        api.put(INGRESSES, broken);
    }
    let mut world = World::open(&api, &settings(), Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    assert_eq!((world.problems().len(), world.complaints), (300, 300));
}

#[tokio::test]
async fn a_kind_that_is_refused_for_a_while_is_asked_for_ever_less_often_and_missed_no_longer_than_that() {
    let api = Api::start().await;
    all(&api);
    let mut world = World::open(&api, &settings(), Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    // The watch goes on where it was, without a list.
    let lists = api.requests("/services?&limit");
    api.manner(SERVICES, Manner::Status(403));
    world.until("the complaint", |world| world.problems() == ["kind-not-watched: Object services"]).await;
    api.manner(SERVICES, Manner::Well);
    world.until("no complaint", |world| world.problems().is_empty()).await;
    assert_eq!(api.requests("/services?&limit"), lists);

    // A list that fails is no sign of life, although its beginning is an event.
    api.manner(SERVICES, Manner::Status(503));
    api.manner(SERVICES, Manner::Well);
    api.expire(SERVICES);
    api.manner(SERVICES, Manner::Status(503));
    let before = api.requests("/services?");
    let _ = tokio::time::timeout(Duration::from_secs(4), world.events.next()).await;
    let asked = api.requests("/services?") - before;
    assert!((1..=9).contains(&asked), "{asked} requests in four seconds");
}

#[tokio::test]
async fn a_server_that_ends_every_watch_at_once_is_not_asked_all_the_time() {
    let api = Api::start().await;
    api.manner(SERVICES, Manner::EndAtOnce);
    let mut world = World::open(&api, &settings(), Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    let _ = tokio::time::timeout(Duration::from_secs(2), world.events.next()).await;
    let watches = api.requests("/services?&watch=true");
    assert!((1..=5).contains(&watches), "{watches} watches in two seconds");
}

#[tokio::test]
async fn ingresses_of_namespaces_come_and_go_with_their_labels() {
    let api = Api::start().await;
    all(&api);
    api.put(INGRESSES, ingress("other", "o", "a"));
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    api.put(NAMESPACES, namespace("shop"));
    let selected = Settings { selector: Some("team=shop".into()), ..settings() };
    let mut world = World::open(&api, &selected, Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    assert!(api.requests("labelSelector=team%3Dshop") > 0);
    assert!(world.has("Ingress: shop/a") && !world.has("Ingress: other/o"));
    // The label appears on another namespace, and goes from the first.
    api.put(NAMESPACES, namespace("other"));
    world.until("the other namespace", |world| world.has("Ingress: other/o")).await;
    api.remove(NAMESPACES, "shop");
    world.until("the end of the first", |world| !world.has("Ingress: shop/a") && !world.has("Ingress: shop/b")).await;
    // While it is not selected, it is kept up to date, and comes as it is.
    api.put(INGRESSES, ingress("shop", "new", "a"));
    api.remove(INGRESSES, "shop/a");
    api.put(NAMESPACES, namespace("shop"));
    // Labels and Ingresses come by different watches, in any order.
    let is_current =
        |world: &World| world.has("Ingress: shop/new") && world.has("Ingress: shop/b") && !world.has("Ingress: shop/a");
    world.until("it again, as it is now", is_current).await;
}

#[tokio::test]
async fn only_the_namespaces_that_are_named_are_asked_for_and_what_the_operator_names_outside() {
    let api = Api::start().await;
    let in_shop = |resource: &str| resource.replace("/v1/", "/v1/namespaces/shop/");
    api.put(&in_shop(INGRESSES), ingress("shop", "a", "a"));
    for (namespace, name) in [("ingress", "strict"), ("ops", "next")] {
        let policy = TlsPolicy::new(name, serde_json::from_value(json!({})).unwrap());
        let mut policy = serde_json::to_value(policy).unwrap();
        policy["metadata"]["namespace"] = json!(namespace);
        api.put(&format!("/apis/handfast.dev/v1alpha1/namespaces/{namespace}/tlspolicies"), policy);
    }
    let scoped = Settings {
        namespaces: BTreeSet::from(["shop".into()]),
        default_tls_secret: Some(("ingress".into(), "default".into())),
        tls_policies: [("ingress".into(), "strict".into()), ("ops".into(), "next".into())].into(),
        ..settings()
    };
    let mut world = World::open(&api, &scoped, Saved::default()).await;
    world.until("the start", |world| world.synced).await;
    let outside = ["TlsPolicy/ingress/strict: ingress/strict", "TlsPolicy/ops/next: ops/next"];
    assert_eq!(world.names(), [&["Ingress/shop: shop/a"], &outside[..]].concat());
    for resource in [INGRESSES, POLICIES, SECRETS, SECRET_NAMES, SERVICES, SLICES] {
        assert_eq!(api.requests(&format!("{resource}?")), 0, "{resource} of all namespaces");
    }
    assert!(api.requests("namespaces/ingress/secrets?&fieldSelector=metadata.name%3Ddefault") > 0);
}
