//! What is told on which object, in which order, and what is left out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::events::v1::Event;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::book::LeftOut;
use super::*;
use crate::compile::{Compiler, Options, Problem};
use crate::config::StatusArgs;
use crate::failures::{Failure, tests::failure};
use crate::kubernetes::fake::{Fake, Fault};
use crate::leader::{Leadership, Term};
use crate::metrics::Metrics;
use crate::reconcile::Publication;
use crate::snapshot::{
    BackendKey, HostName, HostTls, NormalPath, PathMatch, PortKey, Route, RouteTable, Snapshot, Target, VirtualHost,
};
use crate::source::cluster::seen::{Seen, SeenIngress, SeenPolicy};
use crate::status::cluster::{Inputs, tests::cluster};

fn ingress(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Ingress, "shop", name)
}

fn secret(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Secret, "shop", name)
}

/// An error about a Secret, or about what else stands there.
fn broken(subject: ObjectKey, hosts: &[&str]) -> Diagnostic {
    Diagnostic {
        field: "tls.key".into(),
        problem: Problem::NoDefaultCertificate,
        subject,
        effect: Effect::HostRefused,
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
    }
}

fn trifle(subject: ObjectKey) -> Diagnostic {
    let problem = Problem::UnknownAnnotation { annotation: "nginx.ingress.kubernetes.io/no".into(), nearest: None };
    Diagnostic { field: "".into(), subject, problem, effect: Effect::None, hosts: Vec::new() }
}

/// Hosts with the Ingresses that make them up, oldest first: `namespace/name`.
fn snapshot(hosts: &[(&str, &[&str])]) -> Snapshot {
    let host = |(name, ingresses): &(&str, &[&str])| {
        let name: HostName = name.parse().unwrap();
        let mut host = VirtualHost::new(name.clone(), HostTls::Refuse, RouteTable::default());
        let split = |path: &&str| path.split_once('/').map(|(one, other)| (one.into(), other.into())).unwrap();
        host.ingresses = ingresses.iter().map(split).collect();
        (name, Arc::new(host))
    };
    Snapshot { hosts: hosts.iter().map(host).collect(), ..Snapshot::default() }
}

fn look(book: &mut Book, diagnostics: &[Diagnostic], snapshot: &Snapshot) -> LeftOut {
    look_at(book, diagnostics, snapshot, Instant::now())
}

fn look_at(book: &mut Book, diagnostics: &[Diagnostic], snapshot: &Snapshot, now: Instant) -> LeftOut {
    book.look(Arc::new(diagnostics.iter().cloned().collect()), snapshot, now)
}

/// Everything that may be told now, as `object reason`.
fn told(book: &mut Book, now: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    while let (Some((note, id)), _) = book.next(now) {
        lines.push(format!("{} {}", note.on, note.text.reason));
        book.told(&note, id, now);
    }
    lines
}

#[test]
fn a_problem_of_a_secret_is_told_on_the_ingresses_of_its_namespace_that_it_touches() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let snapshot = snapshot(&[
        ("a.example", &["shop/old", "shop/new"]),
        ("b.example", &["other/b", "shop/new"]),
        ("c.example", &["shop/c"]),
    ]);
    let problem = [broken(secret("tls"), &["a.example", "b.example", "gone.example"])];
    assert_eq!(look(&mut book, &problem, &snapshot), LeftOut::default());
    let expected = ["Ingress shop/new NoDefaultCertificate", "Ingress shop/old NoDefaultCertificate"];
    assert_eq!(told(&mut book, now), expected);
    // What stays is not told again; what stays and touches one more host is told there.
    look(&mut book, &problem, &snapshot);
    assert_eq!(told(&mut book, now), [""; 0]);
    look(&mut book, &[broken(secret("tls"), &["a.example", "b.example", "c.example"])], &snapshot);
    assert_eq!(told(&mut book, now), ["Ingress shop/c NoDefaultCertificate"]);
}

#[test]
fn what_nobody_in_its_namespace_uses_is_told_on_the_oldest_and_a_policy_is_told_itself() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let snapshot = snapshot(&[("a.example", &["shop/old", "team/new"])]);
    let default = ObjectKey::new(Kind::Secret, "edge", "default");
    let policy = ObjectKey::new(Kind::TlsPolicy, "edge", "strict");
    look(&mut book, &[broken(default, &["a.example"])], &snapshot);
    assert_eq!(told(&mut book, now), ["Ingress shop/old NoDefaultCertificate"]);
    look(&mut book, &[broken(policy, &["a.example"])], &snapshot);
    let lines = told(&mut book, now);
    assert_eq!(lines[..2], ["Ingress shop/old NoDefaultCertificate", "TlsPolicy edge/strict NoDefaultCertificate"]);
    assert_eq!(lines[2..], ["Ingress shop/old NoDefaultCertificateSolved"]);
}

#[test]
fn a_problem_that_many_share_is_told_on_a_few() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let names: Vec<(String, String)> = (0..500).map(|i| (format!("h{i}.example"), format!("shop/i{i}"))).collect();
    let ingresses: Vec<[&str; 1]> = names.iter().map(|(_, path)| [path.as_str()]).collect();
    let hosts: Vec<(&str, &[&str])> =
        names.iter().zip(&ingresses).map(|((host, _), paths)| (host.as_str(), &paths[..])).collect();
    let all: Vec<&str> = names.iter().map(|(host, _)| host.as_str()).collect();
    let left_out = look(&mut book, &[broken(secret("tls"), &all)], &snapshot(&hosts));
    assert_eq!(left_out, LeftOut { shared: 480, crowded: 0 });
    let first = told(&mut book, now);
    assert_eq!(first.len(), 20);
    // It spreads, and goes back: the same are told, and no others, and the rest is counted once.
    look(&mut book, &[broken(secret("tls"), &all[..250])], &snapshot(&hosts));
    assert_eq!(look(&mut book, &[broken(secret("tls"), &all)], &snapshot(&hosts)), LeftOut::default());
    assert_eq!(told(&mut book, now), [""; 0]);
    look(&mut book, &[], &snapshot(&hosts));
    assert_eq!(told(&mut book, now).len(), 20, "the solution, on those that were told");
}

#[test]
fn the_worst_comes_first_and_a_flood_is_slow_and_bounded() {
    let mut now = Instant::now();
    let mut book = Book::new(now);
    let trifles = (0..400).map(|index| trifle(ingress(&format!("t{index}"))));
    let broken = (0..300).map(|index| broken(ingress(&format!("b{index}")), &[]));
    let left_out = look(&mut book, &trifles.chain(broken).collect::<Vec<_>>(), &Snapshot::default());
    assert_eq!(left_out, LeftOut { shared: 0, crowded: 200 }, "500 may wait");
    let first = told(&mut book, now);
    assert_eq!(first.len(), 50);
    assert!(first.iter().all(|line| line.ends_with(" NoDefaultCertificate")), "{first:?}");
    let mut later = Vec::new();
    for _ in 0..60 {
        now += Duration::from_secs(1);
        later.extend(told(&mut book, now));
    }
    assert_eq!(later.len(), 120, "two a second");
}

#[test]
fn one_object_has_its_share_and_no_more() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let problems: Vec<Diagnostic> = (0..30)
        .map(|index| Diagnostic { field: format!("spec.rules[{index}]").into(), ..broken(ingress("a"), &[]) })
        .collect();
    look(&mut book, &problems, &Snapshot::default());
    let mut lines = 0;
    let dropped = loop {
        match book.next(now) {
            (Some((note, id)), 0) => {
                lines += 1;
                book.told(&note, id, now);
            }
            (_, dropped) => break dropped,
        }
    };
    assert_eq!((lines, dropped, book.len()), (10, 20, 0));
}

#[test]
fn what_flaps_before_its_turn_costs_nothing_and_what_was_told_is_told_to_be_solved() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let problem = [broken(ingress("a"), &[])];
    for _ in 0..10 {
        look(&mut book, &problem, &Snapshot::default());
        look(&mut book, &[], &Snapshot::default());
    }
    assert_eq!(told(&mut book, now), [""; 0]);
    look(&mut book, &problem, &Snapshot::default());
    assert_eq!(told(&mut book, now), ["Ingress shop/a NoDefaultCertificate"]);
    // Another effect is the same problem: it is told, and is not solved.
    let milder = [Diagnostic { effect: Effect::LastGood, ..problem[0].clone() }];
    look(&mut book, &milder, &Snapshot::default());
    assert_eq!(told(&mut book, now), ["Ingress shop/a NoDefaultCertificate"]);
    look(&mut book, &[], &Snapshot::default());
    assert_eq!(told(&mut book, now), ["Ingress shop/a NoDefaultCertificateSolved"]);
}

#[test]
fn an_error_that_goes_on_is_told_again_before_its_event_vanishes_and_a_trifle_is_not() {
    let start = Instant::now();
    let mut book = Book::new(start);
    look(&mut book, &[broken(ingress("a"), &[]), trifle(ingress("a"))], &Snapshot::default());
    assert_eq!(told(&mut book, start).len(), 2);
    assert_eq!(book.next_at(start), Some(start + book::REPEAT));
    let later = start + book::REPEAT;
    assert_eq!(told(&mut book, later), ["Ingress shop/a NoDefaultCertificate"]);
    look(&mut book, &[trifle(ingress("a"))], &Snapshot::default());
    assert_eq!(told(&mut book, later), ["Ingress shop/a NoDefaultCertificateSolved"]);
    assert_eq!(book.next_at(later), None);
}

/// Nothing is behind a Service, which a host without certificate has a route to.
fn empty(service: &str, host: &str) -> Diagnostic {
    Diagnostic {
        subject: ObjectKey::new(Kind::Service, "shop", service),
        field: "".into(),
        problem: Problem::NoEndpoints { port: "8089".into() },
        effect: Effect::RouteDropped,
        hosts: vec![host.parse().unwrap()],
    }
}

#[test]
fn what_solves_itself_within_seconds_is_told_nowhere_and_what_lasts_is_told_and_told_to_be_solved() {
    let start = Instant::now();
    let mut book = Book::new(start);
    let missing = Problem::ServiceNotFound { service: "shop/solver".into() };
    let missing = Diagnostic { problem: missing, effect: Effect::RouteDropped, ..broken(ingress("solver"), &[]) };
    let nothing = Snapshot::default();
    look_at(&mut book, &[], &nothing, start);
    for round in 0..3 {
        let now = start + Duration::from_secs(60 * round);
        look_at(&mut book, std::slice::from_ref(&missing), &nothing, now);
        assert_eq!(told(&mut book, now), [""; 0]);
        let almost = now + super::super::GRACE - Duration::from_millis(1);
        assert_eq!((told(&mut book, almost), book.next_at(almost)), (vec![], Some(now + super::super::GRACE)));
        look_at(&mut book, &[], &nothing, almost);
        assert_eq!((told(&mut book, now + 2 * super::super::GRACE), book.next_at(almost)), (vec![], None));
    }
    let now = start + Duration::from_secs(600);
    look_at(&mut book, std::slice::from_ref(&missing), &nothing, now);
    let later = now + super::super::GRACE;
    assert_eq!(told(&mut book, later), ["Ingress shop/solver ServiceNotFound"]);
    look_at(&mut book, &[], &nothing, later);
    assert_eq!(told(&mut book, later), ["Ingress shop/solver ServiceNotFoundSolved"]);
    // What was there when we began to lead may be old.
    let mut book = Book::new(start);
    look_at(&mut book, &[missing], &nothing, start);
    assert_eq!(told(&mut book, start), ["Ingress shop/solver ServiceNotFound"]);
}

#[test]
fn a_service_without_endpoints_is_told_on_the_ingress_that_leads_there_and_told_to_be_solved() {
    let now = Instant::now();
    let mut book = Book::new(now);
    let mut snapshot = snapshot(&[("a.example", &["shop/main", "shop/solver"])]);
    let host: HostName = "a.example".parse().unwrap();
    let mut routes = RouteTable::default();
    for (ingress, path, service) in [("main", "/", "web"), ("solver", "/.well-known/acme-challenge/x", "solver")] {
        let backend = BackendKey { namespace: "shop".into(), service: service.into(), port: PortKey::Number(8089) };
        let route = Route {
            path: NormalPath::parse(path).unwrap(),
            matches: PathMatch::Prefix,
            ingress: ("shop".into(), ingress.into()),
            target: Target::Backend(backend),
            options: Arc::default(),
        };
        routes.insert(Arc::new(route)).unwrap();
    }
    let mut virtual_host = VirtualHost::clone(snapshot.hosts.get("a.example").unwrap());
    virtual_host.routes = routes;
    snapshot.hosts.insert(host, Arc::new(virtual_host));
    let problem = [empty("solver", "a.example")];
    look_at(&mut book, &problem, &snapshot, now);
    assert_eq!(told(&mut book, now), ["Ingress shop/solver NoEndpoints"], "not on the main one");
    look_at(&mut book, &[], &snapshot, now);
    assert_eq!(told(&mut book, now), ["Ingress shop/solver NoEndpointsSolved"]);
}

#[test]
fn a_note_that_fails_is_tried_a_few_times_while_its_problem_is_there() {
    let mut now = Instant::now();
    let mut book = Book::new(now);
    let problem = [broken(ingress("a"), &[])];
    look(&mut book, &problem, &Snapshot::default());
    let mut tries = 0;
    loop {
        let (Some((note, id)), _) = book.next(now) else { panic!("nothing after {tries}") };
        tries += 1;
        if !book.failed(note, id, now) {
            break;
        }
        assert!(book.next(now).0.is_none(), "not at once");
        now = book.next_at(now).unwrap();
    }
    assert_eq!(tries, 4);
}

#[test]
fn notes_name_what_is_wrong_where_and_what_to_do_and_fit() {
    let text = Text::of(&broken(secret("tls"), &[]));
    assert_eq!((&*text.reason, text.action, text.rank), ("NoDefaultCertificate", "RefuseHandshakes", Rank::Error));
    assert!(text.note.starts_with("Secret shop/tls tls.key: "), "{}", text.note);
    assert!(text.note.contains(" Effect: host-refused. What to do: "), "{}", text.note);
    let text = Text::of(&broken(ingress("a"), &[]));
    assert!(text.note.starts_with("tls.key: "), "{}", text.note);
    let annotation = "x".repeat(3000);
    let long = Diagnostic { problem: Problem::UnknownAnnotation { annotation, nearest: None }, ..trifle(ingress("a")) };
    assert_eq!(Text::of(&long).note.len(), 1024);
    assert_ne!(Text::of(&long).fingerprint, Text::of(&trifle(ingress("a"))).fingerprint);
    assert_eq!(fingerprint(&["a", "b"]), 0x8fb2_0ef6_3ced_4145, "another version of Handfast must find it again");
}

/// A teller on a server in memory, with what a test feeds it.
struct Running {
    fake: Fake,
    publications: watch::Sender<Option<Publication>>,
    terms: watch::Sender<Term>,
    metrics: Metrics,
    end: CancellationToken,
}

impl Running {
    fn start(fake: &Fake) -> Self {
        let (terms, leadership) = Leadership::channel();
        let (publications, receiver) = watch::channel(None);
        let seen = Seen::default();
        for name in ["a", "b"] {
            let look = SeenIngress { uid: format!("uid-{name}").into(), addresses: Vec::new(), is_ours: false };
            seen.objects().ingresses.insert(ingress(name), look);
        }
        let policy = SeenPolicy { uid: "uid-p".into(), generation: 1, status: None, other: None };
        seen.objects().policies.insert(ObjectKey::new(Kind::TlsPolicy, "shop", "p"), policy);
        let metrics = Metrics::default();
        let inputs = Inputs {
            cluster: cluster(fake),
            args: StatusArgs::default(),
            seen,
            publications: receiver,
            leadership,
            metrics: metrics.clone(),
        };
        let end = CancellationToken::new();
        let (_, remarks) = mpsc::channel(1);
        tokio::spawn(Teller::new(&inputs, remarks).run(end.clone()));
        Self { fake: fake.clone(), publications, terms, metrics, end }
    }

    fn lead(&self, number: u64) {
        self.terms.send_replace(Term { number, until: Some(Instant::now() + Duration::from_secs(86_400)) });
    }

    fn publish(&self, diagnostics: Vec<Diagnostic>) {
        let mut compiled = Compiler::new(Options::default()).compile(rustls::pki_types::UnixTime::now());
        compiled.diagnostics = Arc::new(diagnostics.into_iter().collect());
        self.publications.send_replace(Some(Publication { generation: 1, compiled: Arc::new(compiled) }));
    }

    fn events(&self) -> HashMap<String, Event> {
        let state = self.fake.state();
        let events = state.objects.iter().filter(|(path, _)| path.contains("/events/"));
        events.map(|(path, event)| (path.clone(), serde_json::from_value(event.clone()).unwrap())).collect()
    }

    fn count(&self, outcome: &str) -> u64 {
        self.metrics.events.with_label_values(&[outcome]).get()
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_leader_tells_and_what_it_tells_is_complete() {
    let fake = Fake::default();
    let running = Running::start(&fake);
    running.publish(vec![broken(ingress("a"), &[])]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.events().len(), 0);
    running.lead(1);
    sleep(Duration::from_secs(5)).await;
    let events = running.events();
    let (path, event) = events.iter().next().unwrap();
    assert!(path.starts_with("/apis/events.k8s.io/v1/namespaces/shop/events/a."), "{path}");
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert_eq!(event.reporting_controller.as_deref(), Some(CONTROLLER));
    assert_eq!(event.reporting_instance.as_deref(), Some("replica-1"));
    let regarding = event.regarding.clone().unwrap();
    assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("Ingress"), Some("uid-a")));
    assert_eq!(regarding.api_version.as_deref(), Some("networking.k8s.io/v1"));
    assert_eq!(event.related, None, "it is about the object that it is told on");
    assert_eq!((events.len(), running.count("written")), (1, 1));
    running.end.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_finds_what_was_told_and_does_not_tell_it_again() {
    let fake = Fake::default();
    let first = Running::start(&fake);
    first.lead(1);
    first.publish(vec![broken(ingress("a"), &[]), trifle(ingress("b"))]);
    sleep(Duration::from_secs(5)).await;
    first.end.cancel();
    let second = Running::start(&fake);
    second.lead(1);
    second.publish(vec![broken(ingress("a"), &[]), trifle(ingress("b"))]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!((second.count("written"), second.count("known"), second.events().len()), (0, 2, 2));
    assert!(second.events().values().all(|event| event.series.is_none()));
    // Its own second term begins with nothing as well.
    second.lead(2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(second.count("known"), 4);
}

#[tokio::test(start_paused = true)]
async fn what_was_solved_and_appears_again_is_one_more_of_a_series() {
    let fake = Fake::default();
    let running = Running::start(&fake);
    running.lead(1);
    for _ in 0..3 {
        running.publish(vec![broken(ingress("a"), &[])]);
        sleep(Duration::from_secs(5)).await;
        running.publish(vec![]);
        sleep(Duration::from_secs(5)).await;
    }
    let events = running.events();
    let counts: Vec<i32> = events.values().map(|event| event.series.clone().unwrap().count).collect();
    assert_eq!(counts, [3, 3], "the problem and its solution");
}

#[test]
fn handshakes_are_told_on_the_oldest_ingress_if_its_owner_can_do_something() {
    let snapshot = snapshot(&[("a.example", &["shop/old", "shop/new"])]);
    let (sender, mut remarks) = mpsc::channel(8);
    let told = Remarks(sender);
    for (blame, host) in [
        (Blame::Certificate, Some("a.example")),
        (Blame::Client, Some("a.example")),
        (Blame::Network, Some("a.example")),
        (Blame::Certificate, None),
    ] {
        let failure = Failure { blame, ..failure("192.0.2.1", host, Reason::RejectedUnknownCa, 1) };
        let kind = (failure.host.clone(), failure.reason);
        told.handshakes(&Line { kind, count: 7, newest: Arc::new(failure) });
    }
    let remark = remarks.try_recv().unwrap();
    assert!(remarks.try_recv().is_err());
    let (on, text) = Text::remark(&remark, &snapshot).unwrap();
    assert_eq!((on, &*text.reason), (ingress("old"), "RejectedUnknownCa"));
    assert!(
        text.note.starts_with("TLS handshakes for a.example fail (rejected-unknown-ca). What to do: "),
        "{}",
        text.note
    );
    assert!(!text.note.contains("192.0.2.1"), "clients are nobody's business there");
    assert_eq!(Text::remark(&remark, &Snapshot::default()), None);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_goes_on_becomes_a_series() {
    let fake = Fake::default();
    let running = Running::start(&fake);
    running.lead(1);
    running.publish(vec![broken(ingress("a"), &[])]);
    sleep(2 * book::REPEAT + Duration::from_secs(60)).await;
    let events = running.events();
    assert_eq!(events.len(), 1);
    let series = events.values().next().unwrap().series.clone().unwrap();
    assert_eq!((series.count, running.count("repeated")), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_counted_and_an_outage_is_waited_for() {
    let fake = Fake::default();
    fake.script(|asked| match asked.body["regarding"]["name"].as_str() {
        Some("a") => Some(Fault::Status(403)),
        Some(_) => Some(Fault::Status(503)),
        None => None,
    });
    let running = Running::start(&fake);
    running.lead(1);
    running.publish(vec![broken(ingress("a"), &[]), broken(ingress("b"), &[])]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(running.count("failed"), 1);
    fake.script(|_| None);
    sleep(Duration::from_secs(30)).await;
    assert_eq!((running.count("failed"), running.count("written")), (1, 1));
    let created = fake.state().asked.iter().filter(|asked| asked.method == Method::POST).count();
    assert_eq!(created, 3, "one for a, two for b");
}
