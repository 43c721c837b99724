//! The writer on an API server in memory; time is tokio's and stands still until all wait.

use std::sync::Arc;

use http::Method;
use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::compile::{Compiler, Options};
use crate::kubernetes::fake::{Fake, Fault};
use crate::leader::Term;
use crate::source::cluster::seen::SeenIngress;

/// A way to a server in memory.
pub(in crate::status) fn cluster(fake: &Fake) -> Cluster {
    Cluster::with_client(fake.client(), "edge", "replica-1")
}

fn key(index: usize) -> ObjectKey {
    ObjectKey::new(Kind::Ingress, "shop", &format!("i{index}"))
}

fn path(index: usize) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/shop/ingresses/i{index}")
}

struct Running {
    fake: Fake,
    seen: Seen,
    publications: watch::Sender<Option<Publication>>,
    terms: watch::Sender<Term>,
    metrics: Metrics,
    end: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl Running {
    /// With this many Ingresses, all of them ours, and addresses from the command line.
    fn start(fake: &Fake, ingresses: usize) -> Self {
        Self::start_with(fake, ingresses, |_| {})
    }

    fn start_with(fake: &Fake, ingresses: usize, set: impl FnOnce(&mut StatusArgs)) -> Self {
        let (terms, leadership) = Leadership::channel();
        let (publications, receiver) = watch::channel(None);
        let seen = Seen::default();
        for index in 0..ingresses {
            fake.put(&path(index), json!({"metadata": {"name": format!("i{index}"), "uid": format!("uid-{index}")}}));
        }
        let metrics = Metrics::default();
        let mut args = StatusArgs { publish_status_address: vec!["192.0.2.1".into()], ..StatusArgs::default() };
        set(&mut args);
        let inputs = Inputs {
            cluster: cluster(fake),
            args,
            seen: seen.clone(),
            publications: receiver,
            leadership,
            metrics: metrics.clone(),
        };
        let end = CancellationToken::new();
        let (_, tasks) = spawn(inputs, &end);
        let running = Self { fake: fake.clone(), seen, publications, terms, metrics, end, tasks };
        running.watch();
        running.publish(0..ingresses);
        running
    }

    fn lead(&self, number: u64) {
        self.terms.send_replace(Term { number, until: Some(Instant::now() + Duration::from_secs(86_400)) });
    }

    fn publish(&self, ours: std::ops::Range<usize>) {
        let mut compiled = Compiler::new(Options::default()).compile(UnixTime::now());
        compiled.ingresses = ours.map(|index| (key(index), ())).collect();
        self.publications.send_replace(Some(Publication { generation: 1, compiled: Arc::new(compiled) }));
    }

    /// What a watch would bring.
    fn watch(&self) {
        let state = self.fake.state();
        let mut objects = self.seen.objects();
        objects.ingresses = Default::default();
        for (_, object) in state.objects.iter().filter(|(path, _)| path.contains("/ingresses/")) {
            let addresses = object["status"]["loadBalancer"]["ingress"].clone();
            let addresses: Vec<IngressLoadBalancerIngress> = serde_json::from_value(addresses).unwrap_or_default();
            let look = SeenIngress {
                uid: object["metadata"]["uid"].as_str().unwrap().into(),
                is_ours: addresses.iter().any(|one| one.ip.as_deref() == Some("192.0.2.1")),
                addresses,
            };
            let name = object["metadata"]["name"].as_str().unwrap();
            objects.ingresses.insert(ObjectKey::new(Kind::Ingress, "shop", name), look);
        }
        drop((objects, state));
        self.seen.changed();
    }

    fn count(&self, outcome: &str) -> u64 {
        self.metrics.status_writes.with_label_values(&["ingress", outcome]).get()
    }

    fn status(&self, index: usize) -> Value {
        self.fake.object(&path(index)).unwrap()["status"].clone()
    }
}

fn published() -> Value {
    json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})
}

#[tokio::test(start_paused = true)]
async fn a_leader_writes_every_status_once_and_others_write_nothing() {
    let fake = Fake::default();
    let running = Running::start(&fake, 3);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(fake.count(&Method::PATCH), 0);
    running.lead(1);
    sleep(Duration::from_secs(5)).await;
    assert!((0..3).all(|index| running.status(index) == published()));
    running.watch();
    running.publish(0..3);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((fake.count(&Method::PATCH), running.count("written")), (3, 3));
    let asked = fake.state().asked[0].clone();
    assert!(asked.path.ends_with("/status") && asked.query.contains("fieldManager=handfast"), "{asked:?}");
    assert!(!asked.query.contains("force=true"));
    assert_eq!(asked.body["metadata"]["uid"], "uid-0");
}

#[tokio::test(start_paused = true)]
async fn thousands_are_written_at_a_steady_rate() {
    let fake = Fake::default();
    let running = Running::start(&fake, 2000);
    let started = Instant::now();
    running.lead(1);
    while running.count("written") < 2000 {
        sleep(Duration::from_millis(100)).await;
        assert!(started.elapsed() < Duration::from_secs(60));
    }
    let took = started.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(11)).contains(&took), "{took:?}");
    assert_eq!(fake.count(&Method::PATCH), 2000);
}

#[tokio::test(start_paused = true)]
async fn what_another_writer_has_is_taken_over_once_and_then_ever_later() {
    let fake = Fake::default();
    let running = Running::start(&fake, 1);
    let foreign = |ip: &str| {
        let mut object = fake.object(&path(0)).unwrap();
        object["status"] = json!({"loadBalancer": {"ingress": [{"ip": ip}]}});
        fake.put(&path(0), object);
        fake.managed_by(&path(0), "nginx-ingress-controller");
        running.watch();
    };
    foreign("203.0.113.9");
    running.lead(1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((running.status(0), running.count("taken-over")), (published(), 1));
    let started = Instant::now();
    // The other one writes whenever it sees something else than its own.
    while started.elapsed() < Duration::from_secs(3 * 3600) {
        if running.status(0) == published() {
            running.watch();
            sleep(Duration::from_secs(1)).await;
            foreign("203.0.113.9");
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((running.count("taken-over"), running.count("contested")), (6, 1));
    // Seen is the Ingress that the Event is told on.
    let events = fake.state().objects.keys().filter(|path| path.contains("/events/i0.")).count();
    assert_eq!(events, 1);
}

#[tokio::test(start_paused = true)]
async fn an_ingress_of_another_class_loses_its_address_and_one_that_is_gone_is_left() {
    let fake = Fake::default();
    let running = Running::start(&fake, 3);
    running.lead(1);
    sleep(Duration::from_secs(2)).await;
    running.watch();
    running.publish(0..2);
    fake.state().objects.remove(&path(1));
    sleep(Duration::from_secs(20)).await;
    assert_eq!((running.status(2), running.status(0)), (json!({}), published()));
    assert_eq!(running.count("cleared"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_overloaded_is_left_in_peace() {
    let fake = Fake::default();
    fake.script(|_| Some(Fault::Status(429)));
    let running = Running::start(&fake, 500);
    running.lead(1);
    sleep(Duration::from_secs(60)).await;
    let asked = fake.count(&Method::PATCH);
    assert!(asked <= 8 * IN_FLIGHT, "{asked} requests in a minute of refusals");
    fake.script(|_| None);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.count("written"), 500);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_written_does_not_keep_others_waiting() {
    let fake = Fake::default();
    fake.script(|asked| (asked.body["metadata"]["name"] == "i0").then_some(Fault::Status(403)));
    let running = Running::start(&fake, 50);
    running.lead(1);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(running.count("written"), 49);
    sleep(Duration::from_secs(3600)).await;
    let failed = running.count("failed");
    assert!((10..30).contains(&failed), "at growing intervals, not {failed} times in an hour");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_the_term_not_even_what_was_begun() {
    let fake = Fake::default();
    fake.script(|_| Some(Fault::Silence));
    let running = Running::start(&fake, 100);
    running.terms.send_replace(Term { number: 1, until: Some(Instant::now() + Duration::from_secs(5)) });
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fake.count(&Method::PATCH), IN_FLIGHT);
    fake.script(|_| None);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(fake.count(&Method::PATCH), IN_FLIGHT);
    running.lead(2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(running.count("written"), 100);
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_a_term_that_is_over() {
    let fake = Fake::default();
    fake.put("/api/v1/namespaces/edge/pods/replica-1", json!({"metadata": {"name": "replica-1", "labels": {}}}));
    fake.put("/api/v1/namespaces/edge/pods", json!({"metadata": {}, "items": []}));
    let running = Running::start_with(&fake, 30, |args| args.update_status_on_shutdown = true);
    running.lead(1);
    sleep(Duration::from_secs(5)).await;
    running.watch();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.count("written"), 30);
    fake.script(|asked| (asked.method == Method::PATCH).then_some(Fault::Silence));
    running.terms.send_replace(Term { number: 1, until: Some(Instant::now() + Duration::from_secs(2)) });
    sleep(Duration::from_secs(1)).await;
    let (began, metrics) = (Instant::now(), running.metrics.clone());
    running.end.cancel();
    for task in running.tasks {
        task.await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(metrics.status_writes.with_label_values(&["ingress", "failed"]).get() > 0, "it had begun");
}

#[tokio::test(start_paused = true)]
async fn at_the_end_addresses_stay_unless_this_is_the_last_replica_and_the_operator_wants_it() {
    const PODS: &str = "/api/v1/namespaces/edge/pods";
    let pod = |name: &str| {
        json!({"metadata": {"name": name, "labels": {"app.kubernetes.io/name": "handfast"}},
            "status": {"phase": "Running"}})
    };
    for (wanted, others, expected) in [(false, 0, published()), (true, 1, published()), (true, 0, json!({}))] {
        let fake = Fake::default();
        fake.put(&format!("{PODS}/replica-1"), pod("replica-1"));
        let mut pods = vec![pod("replica-1")];
        pods.extend((0..others).map(|_| pod("replica-2")));
        fake.put(PODS, json!({"metadata": {}, "items": pods}));
        let running = Running::start_with(&fake, 30, |args| args.update_status_on_shutdown = wanted);
        running.lead(1);
        sleep(Duration::from_secs(5)).await;
        running.watch();
        sleep(Duration::from_secs(1)).await;
        running.end.cancel();
        for task in running.tasks {
            task.await.unwrap();
        }
        for index in 0..30 {
            assert_eq!(fake.object(&path(index)).unwrap()["status"], expected, "{wanted} {others}");
        }
    }
}
