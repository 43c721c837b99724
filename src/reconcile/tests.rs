//! What a bug in the compiler costs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use k8s_openapi::api::networking::v1::Ingress;
use serde_json::json;

use super::*;
use crate::compile::{Change, Object, Options, Scope};
use crate::snapshot;
use crate::source::Event;

struct Running {
    faults: Arc<AtomicUsize>,
    inbox: Sender<Message>,
    metrics: Metrics,
    published: watch::Receiver<Option<Publication>>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(faults: usize) -> Self {
        let compiler = Compiler::new(Options { watch_without_class: true, ..Options::default() });
        let counter = compiler.faults.clone();
        counter.store(faults, Ordering::Relaxed);
        let (inbox, changes) = channel();
        let (publisher, _reader) = snapshot::channel(Arc::default());
        let (publications, published) = watch::channel(None);
        let metrics = Metrics::default();
        let outputs = Outputs { publisher, publications, metrics: metrics.clone(), state: Sink::default() };
        let clock = crate::clock::system();
        let thread = std::thread::spawn(move || run(&changes, compiler, &clock, Batching::default(), &outputs));
        Self { faults: counter, inbox, metrics, published, thread }
    }

    fn add(&self, host: &str) {
        let ingress: Ingress = serde_json::from_value(json!({
            "metadata": {"name": host, "namespace": "shop"}, "spec": {"rules": [{"host": host}]},
        }))
        .unwrap();
        let change = Change::Upsert(Scope("test".into()), Object::Ingress(Arc::new(ingress)));
        self.inbox.send(Event::Change(change).into()).unwrap();
    }

    /// Waits for a publication, and tells its hosts.
    async fn hosts(&mut self, generation: u64) -> Vec<String> {
        let is_it = |one: &Option<Publication>| one.as_ref().is_some_and(|one| one.generation == generation);
        let publication = self.published.wait_for(is_it).await.unwrap().clone().unwrap();
        let mut hosts: Vec<String> = publication.compiled.snapshot.hosts.keys().map(ToString::to_string).collect();
        hosts.sort();
        hosts
    }
}

#[tokio::test]
async fn a_bug_in_what_was_built_before_costs_one_more_compilation() {
    let mut running = Running::start(0);
    running.add("a.example");
    running.inbox.send(Event::Synced.into()).unwrap();
    assert_eq!(running.hosts(1).await, ["a.example"]);
    running.faults.store(1, Ordering::Relaxed);
    running.add("b.example");
    assert_eq!(running.hosts(2).await, ["a.example", "b.example"]);
    assert_eq!(running.metrics.panics.get(), 1);
    drop(running.inbox);
    running.thread.join().unwrap();
}

#[tokio::test]
async fn objects_that_no_compilation_survives_cost_nothing_that_is_served() {
    let mut running = Running::start(0);
    running.add("a.example");
    running.inbox.send(Event::Synced.into()).unwrap();
    running.hosts(1).await;
    running.faults.store(2, Ordering::Relaxed);
    running.add("b.example");
    // A question gets no answer from what is half done.
    let (answer, asked) = tokio::sync::oneshot::channel();
    running
        .inbox
        .send(Message::Ask(Box::new(move |_| {
            let _ = answer.send(());
        })))
        .unwrap();
    assert!(asked.await.is_err());
    assert_eq!((running.metrics.panics.get(), running.hosts(1).await), (2, vec!["a.example".to_owned()]));
    running.add("c.example");
    assert_eq!(running.hosts(2).await, ["a.example", "b.example", "c.example"]);
    drop(running.inbox);
    running.thread.join().unwrap();
}

#[tokio::test]
async fn a_start_that_no_compilation_survives_fails() {
    let mut running = Running::start(2);
    running.add("a.example");
    running.inbox.send(Event::Synced.into()).unwrap();
    assert!(running.published.wait_for(Option::is_some).await.is_err());
    running.thread.join().unwrap();
}
