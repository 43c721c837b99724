//! The reconciler on scripted events, with a clock that the test sets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use handfast::clock::Clock;
use handfast::compile::{Change, Compiler, Options, Scope};
use handfast::metrics::Metrics;
use handfast::reconcile::{Batching, Message, Outputs, Publication, run};
use handfast::snapshot::{self, Reader};
use handfast::source::Event;
use handfast::state::Sink;
use tokio::sync::watch;

use crate::binary::wait_until;
use crate::manifests::{NOW, at, objects};

struct Reconciler {
    inbox: Sender<Message>,
    publications: watch::Receiver<Option<Publication>>,
    reader: Reader,
    metrics: Metrics,
    now: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// Starts with events that are waiting already, so that they are one batch.
fn start(events: Vec<Event>) -> Reconciler {
    start_with(events, Metrics::default())
}

fn start_with(events: Vec<Event>, metrics: Metrics) -> Reconciler {
    let (inbox, changes) = channel();
    for event in events {
        inbox.send(event.into()).unwrap();
    }
    let now = Arc::new(AtomicU64::new(NOW));
    let told = now.clone();
    let clock: Clock = Arc::new(move || at(told.load(Ordering::SeqCst)));
    let (publisher, reader) = snapshot::channel(Arc::default());
    let (sender, publications) = watch::channel(None);
    let outputs = Outputs { publisher, publications: sender, metrics: metrics.clone(), state: Sink::default() };
    let compiler = Compiler::new(Options {
        watch_without_class: true,
        trust_anchors: crate::manifests::trust_anchors(),
        ..Options::default()
    });
    let batching =
        Batching { quiet: Duration::from_millis(5), longest: Duration::from_millis(50), ..Batching::default() };
    let thread = std::thread::spawn(move || run(&changes, compiler, &clock, batching, &outputs));
    Reconciler { inbox, publications, reader, metrics, now, thread }
}

impl Reconciler {
    fn wait_for(&self, generation: u64) -> Publication {
        let current = || self.publications.borrow().clone();
        wait_until(&format!("generation {generation}"), || current().is_some_and(|p| p.generation >= generation));
        let publication = current().unwrap();
        assert_eq!(publication.generation, generation);
        publication
    }

    fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.reader.load().hosts.keys().map(ToString::to_string).collect();
        hosts.sort();
        hosts
    }

    fn end(self) {
        drop(self.inbox);
        self.thread.join().unwrap();
    }
}

fn ingress(host: &str, certificate: &str) -> Event {
    ingress_with(host, &format!("$CERT({certificate})"), &format!("$KEY({certificate})"))
}

fn ingress_with(host: &str, certificate: &str, key: &str) -> Event {
    let yaml = format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {host}, namespace: default}}
spec:
  tls: [{{secretName: {host}}}]
  rules:
  - host: {host}
    http:
      paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: echo, port: {{number: 80}}}}}}}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: {host}, namespace: default}}
stringData: {{tls.crt: {certificate}, tls.key: {key}}}
"
    );
    Event::Change(Change::Replace(Scope(host.into()), objects(&yaml)))
}

#[test]
fn nothing_is_published_before_the_source_has_told_everything() {
    let reconciler = start(vec![ingress("a.example", "a.example")]);
    reconciler.inbox.send(ingress("b.example", "b.example").into()).unwrap();
    reconciler.inbox.send(Event::Synced.into()).unwrap();
    let publication = reconciler.wait_for(1);
    assert_eq!(reconciler.hosts(), ["a.example", "b.example"]);
    assert_eq!(publication.compiled.stats.hosts.built, 2);
    reconciler.end();
}

#[test]
fn a_burst_of_changes_is_one_publication() {
    let mut events: Vec<Event> = (0..50).map(|index| ingress(&format!("h{index}.example"), "a.example")).collect();
    events.push(Event::Synced);
    let reconciler = start(events);
    reconciler.wait_for(1);
    assert_eq!(reconciler.hosts().len(), 50);
    // A later change builds its own host and no other.
    reconciler.inbox.send(ingress("h7.example", "b.example").into()).unwrap();
    let publication = reconciler.wait_for(2);
    assert_eq!(publication.compiled.stats.hosts.built, 1);
    reconciler.end();
}

#[test]
fn the_clock_alone_makes_a_certificate_expire() {
    let reconciler = start(vec![ingress("a.example", "a.example"), Event::Synced]);
    let first = reconciler.wait_for(1);
    assert!(!first.compiled.diagnostics.iter().any(|diagnostic| diagnostic.problem.code() == "expired"));
    let end = first.compiled.certificates.values().next().unwrap()[0].as_secs();
    let soon = first.compiled.recompile_at.unwrap().as_secs();
    assert!(soon < end, "the last third of its life begins before its end");
    // A second before; this change makes the reconciler look at the clock and wait for the second that is left.
    reconciler.now.store(end, Ordering::SeqCst);
    reconciler.inbox.send(ingress("b.example", "other b.example").into()).unwrap();
    reconciler.wait_for(2);
    reconciler.now.store(end + 1, Ordering::SeqCst);
    let third = reconciler.wait_for(3);
    assert!(third.compiled.diagnostics.iter().any(|diagnostic| diagnostic.problem.code() == "expired"));
    // Expired, and served all the same.
    assert!(reconciler.reader.load().render().contains("host a.example\n  tls: ecdsa-p256"));
    reconciler.end();
}

#[test]
fn metrics_say_what_was_compiled_and_forget_what_is_gone() {
    let reconciler =
        start(vec![ingress("a.example", "a.example"), ingress("b.example", "expired b.example"), Event::Synced]);
    reconciler.wait_for(1);
    reconciler.metrics.http_requests.with_label_values(&["b.example", "200"]).inc();
    let text = reconciler.metrics.render();
    let expected = [
        "handfast_snapshot_hosts 2",
        r#"handfast_diagnostics{reason="expired",severity="error"} 1"#,
        r#"handfast_compile_units_total{outcome="built",unit="host"} 2"#,
        r#"handfast_certificate_not_after_timestamp_seconds{namespace="default",position="0",secret="a.example"} "#,
        r#"handfast_certificate_not_after_timestamp_seconds{namespace="default",position="1",secret="b.example"} "#,
    ];
    for line in expected {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
    reconciler.inbox.send(Event::Change(Change::Replace(Scope("b.example".into()), Vec::new())).into()).unwrap();
    reconciler.wait_for(2);
    let text = reconciler.metrics.render();
    assert!(text.contains("handfast_snapshot_hosts 1"), "{text}");
    assert!(!text.contains("b.example") && !text.contains(r#"reason="expired""#), "{text}");
    reconciler.end();
}

/// The samples of a metric, without its name.
fn samples(metrics: &Metrics, name: &str) -> Vec<String> {
    let text = metrics.render();
    let found = text.lines().filter_map(|line| line.strip_prefix(name));
    found.filter(|line| line.starts_with('{')).map(str::to_owned).collect()
}

const SERVING: &str = "handfast_host_serving";
const FINDINGS: &str = "handfast_certificate_findings";
const HOST_END: &str = "handfast_host_certificate_not_after_timestamp_seconds";

#[test]
fn hosts_say_what_they_are_served_with_until_when_and_what_is_wrong_with_it() {
    let events = || {
        vec![
            ingress("a.example", "a.example"),
            ingress("b.example", "expired b.example"),
            ingress("c.example", "other.example"),
            Event::Synced,
        ]
    };
    let reconciler = start(events());
    let first = reconciler.wait_for(1);
    let metrics = &reconciler.metrics;
    let current = |host: &str| format!("{{host=\"{host}\",state=\"current\"}} 1");
    assert_eq!(samples(metrics, SERVING), ["a.example", "b.example", "c.example"].map(current));
    // Leaf and intermediate of each Secret; the host has the earlier end.
    let ends = &first.compiled.certificates;
    assert_eq!(samples(metrics, "handfast_certificate_not_after_timestamp_seconds").len(), 6);
    let expected: Vec<String> = ends
        .iter()
        .map(|(secret, ends)| {
            let end = ends.iter().map(|end| end.as_secs()).min().unwrap();
            format!("{{host=\"{}\"}} {end}", secret.name)
        })
        .collect();
    assert_eq!(samples(metrics, HOST_END), expected);
    let findings = samples(metrics, FINDINGS);
    for finding in [r#"{finding="expired",host="b.example"} 1"#, r#"{finding="name-not-covered",host="c.example"} 1"#] {
        assert!(findings.iter().any(|found| found == finding), "{finding} in {findings:?}");
    }
    assert!(!findings.iter().any(|found| found.contains("a.example")), "{findings:?}");

    // A host has the series of its state of the moment, and no other; one that is gone has none.
    let broken = ingress_with("b.example", "not a certificate", "not a key");
    reconciler.inbox.send(broken.into()).unwrap();
    reconciler.inbox.send(Event::Change(Change::Replace(Scope("c.example".into()), Vec::new())).into()).unwrap();
    reconciler.wait_for(2);
    let state = reconciler.reader.load().hosts.get("b.example").unwrap().serving.code();
    assert_ne!(state, "current");
    let expected = [current("a.example"), format!("{{host=\"b.example\",state=\"{state}\"}} 1")];
    assert_eq!(samples(metrics, SERVING), expected);
    assert!(!metrics.render().contains("c.example"));
    reconciler.end();

    // Without a series per host they are put together.
    let reconciler = start_with(events(), Metrics::new(false));
    let first = reconciler.wait_for(1);
    let metrics = &reconciler.metrics;
    assert_eq!(samples(metrics, SERVING), [r#"{host="",state="current"} 3"#]);
    let earliest = first.compiled.certificates.values().flatten().map(|end| end.as_secs()).min().unwrap();
    assert_eq!(samples(metrics, HOST_END), [format!("{{host=\"\"}} {earliest}")]);
    let findings = samples(metrics, FINDINGS);
    assert!(findings.contains(&r#"{finding="expired",host=""} 1"#.to_owned()), "{findings:?}");
    assert!(findings.iter().all(|found| found.contains(r#"host="""#)), "{findings:?}");
    reconciler.end();
}

#[test]
fn the_thread_ends_with_its_inbox() {
    let (inbox, changes) = mpsc::channel();
    drop::<Sender<Message>>(inbox);
    let (publisher, _) = snapshot::channel(Arc::default());
    let (publications, _) = watch::channel(None);
    let outputs = Outputs { publisher, publications, metrics: Metrics::default(), state: Sink::default() };
    run(&changes, Compiler::new(Options::default()), &handfast::clock::system(), Batching::default(), &outputs);
}
