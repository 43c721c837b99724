//! The keeper of the Secret in conversation with an API server that knows one Secret, by a clock that stands still
//! until everybody waits.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};

use http::{Method, Response, StatusCode};
use kube::client::Body;

use super::*;
use crate::leader::Term;
use crate::state::tests::{held, held_since, large_secret, policy, secret, since};

/// One Secret, and what goes wrong with it.
#[derive(Default)]
struct Server {
    data: Option<BTreeMap<String, String>>,
    version: u64,
    /// Verbs that are forbidden.
    denied: Vec<&'static str>,
    /// It takes requests and never answers.
    is_silent: bool,
    /// Answers that nobody can read.
    is_confused: bool,
    /// Somebody else writes before each of the next patches.
    rivals: usize,
    requests: Vec<&'static str>,
}

impl Server {
    fn with(entries: impl IntoIterator<Item = Entry>) -> Self {
        let data = entries.into_iter().map(|entry| (entry.name(), BASE64.encode(entry.text())));
        Self { data: Some(data.collect()), version: 1, ..Self::default() }
    }

    fn put(&mut self, entry: &Entry) {
        self.data.as_mut().unwrap().insert(entry.name(), BASE64.encode(entry.text()));
        self.version += 1;
    }

    fn answer(&mut self, verb: &'static str, body: &[u8]) -> (StatusCode, Value) {
        let failure = |code: u16, reason: &str| {
            let status =
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
            (StatusCode::from_u16(code).unwrap(), status)
        };
        self.requests.push(verb);
        if self.denied.contains(&verb.split(' ').next().unwrap()) {
            return failure(403, "Forbidden");
        }
        if self.data.is_none() {
            return failure(404, "NotFound");
        }
        if verb == "patch" {
            if self.rivals > 0 {
                self.rivals -= 1;
                self.put(&secret("rival", "rival", None));
            }
            let patch: Value = serde_json::from_slice(body).unwrap();
            if patch["metadata"]["resourceVersion"] != json!(self.version.to_string()) {
                return failure(409, "Conflict");
            }
            let data = self.data.as_mut().unwrap();
            for (name, value) in patch["data"].as_object().unwrap() {
                match value.as_str() {
                    Some(text) => drop(data.insert(name.clone(), text.to_owned())),
                    None => drop(data.remove(name)),
                }
            }
            let bytes: usize = data.values().map(|text| BASE64.decode(text).unwrap().len()).sum();
            assert!(bytes <= 1 << 20, "the API server would not take it");
            self.version += 1;
        }
        let metadata = json!({"name": "kept", "namespace": "ingress", "resourceVersion": self.version.to_string()});
        match verb {
            _ if self.is_confused => (StatusCode::OK, json!({"metadata": 1})),
            "get" => {
                let data = self.data.as_ref().filter(|data| !data.is_empty());
                (StatusCode::OK, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}))
            }
            _ => (StatusCode::OK, json!({"metadata": metadata})),
        }
    }
}

/// A replica's keeper, and what is around it.
struct Replica {
    server: Arc<Mutex<Server>>,
    /// What was read at the start.
    start: Held,
    holdings: watch::Sender<Option<Holding>>,
    terms: watch::Sender<Term>,
    inbox: Receiver<Message>,
    metrics: Metrics,
    told: u64,
}

fn shared(server: Server) -> Arc<Mutex<Server>> {
    Arc::new(Mutex::new(server))
}

fn client(server: &Arc<Mutex<Server>>) -> Client {
    let server = server.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let server = server.clone();
        async move {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/ingress/secrets/kept");
            let accepts = request.headers().get(http::header::ACCEPT).and_then(|accepts| accepts.to_str().ok());
            let verb = match (request.method(), accepts.is_some_and(|types| types.contains("PartialObjectMetadata"))) {
                (&Method::GET, false) => "get",
                (&Method::GET, true) => "get metadata",
                (&Method::PATCH, true) => "patch",
                other => panic!("{other:?}"),
            };
            let body = request.into_body().collect_bytes().await.unwrap();
            let answer = {
                let mut server = server.lock().unwrap();
                (!server.is_silent).then(|| server.answer(verb, &body))
            };
            let Some((status, answer)) = answer else { std::future::pending().await };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    Client::new(service, "ingress")
}

/// A term that lasts; 0 for none.
fn term(number: u64) -> Term {
    Term { number, until: (number > 0).then(|| Instant::now() + Duration::from_secs(1 << 20)) }
}

impl Replica {
    async fn start(server: &Arc<Mutex<Server>>, leads: bool) -> Self {
        let metrics = Metrics::default();
        let mut last_good = LastGood::new(client(server), "ingress", "kept", &metrics);
        let start = last_good.read(PATIENCE).await;
        let holdings = watch::Sender::new(None);
        let (terms, leadership) = Leadership::channel();
        terms.send_replace(term(if leads { 1 } else { 0 }));
        let (sender, inbox) = channel();
        last_good.start(holdings.subscribe(), Some(leadership), sender, CancellationToken::new());
        Self { server: server.clone(), start, holdings, terms, inbox, metrics, told: 0 }
    }

    /// The compiler holds this now, and knows all that it was told.
    fn hold(&self, held: Held) {
        self.holdings.send_replace(Some(Holding { held: Arc::new(held), remembered: self.told }));
    }

    /// What the compiler was told since this was last asked.
    fn remembered(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Ok(event) = self.inbox.try_recv() {
            let Message::Event(Event::Remember(held)) = event else { panic!("nothing else is told") };
            names.extend(stored::entries(&held).map(|entry| entry.name()));
            self.told += 1;
        }
        names
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.server().data.as_ref().unwrap().keys().cloned().collect()
    }

    fn patches(&self) -> usize {
        self.server().requests.iter().filter(|request| **request == "patch").count()
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const SHOP: &str = "secret_default_shop.json";

fn shop() -> Entry {
    secret("default", "shop", None)
}

#[tokio::test(start_paused = true)]
async fn the_leader_writes_what_is_held_and_removes_what_is_not_any_more() {
    let replica = Replica::start(&shared(Server::with([])), true).await;
    assert!(replica.start.is_empty());
    pass(POLL).await;
    assert_eq!(replica.server().requests, ["get"], "nothing is written before the first compilation");
    replica.hold(Held::default());
    pass(3 * POLL).await;
    assert_eq!(replica.patches(), 0);
    let all = held([shop(), policy("*.shop.example", true)]);
    replica.hold(all.clone());
    pass(PAUSE).await;
    assert_eq!(replica.names(), ["policy_X2a.shop.example.json", SHOP]);
    assert_eq!(replica.metrics.last_good_secret_entries.get(), 2);
    assert!(replica.metrics.last_good_secret_bytes.get() > 200);
    assert!(Replica::start(&replica.server, false).await.start == all, "a new replica knows it");
    replica.hold(held([policy("*.shop.example", true)]));
    pass(2 * PAUSE).await;
    assert_eq!(replica.names(), ["policy_X2a.shop.example.json"]);
    assert_eq!(replica.patches(), 2);
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_fast_are_one_write() {
    let replica = Replica::start(&shared(Server::with([])), true).await;
    for count in 1..50 {
        replica.hold(held((0..count).map(|number| secret("default", &format!("s{number}"), None))));
        pass(PAUSE / 10).await;
    }
    pass(PAUSE).await;
    assert_eq!(replica.names().len(), 49);
    assert!(replica.patches() <= 6, "{}", replica.patches());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing_and_learns_what_the_leader_holds() {
    let mut replica = Replica::start(&shared(Server::with([])), false).await;
    replica.hold(held([secret("default", "other", None)]));
    replica.server().put(&shop());
    pass(2 * POLL).await;
    assert_eq!(replica.remembered(), [SHOP]);
    pass(4 * POLL).await;
    assert_eq!(replica.remembered(), [""; 0], "once");
    assert_eq!(replica.patches(), 0);
    let full = replica.server().requests.iter().filter(|request| **request == "get").count();
    assert_eq!(full, 2, "to look whether there is something new does not take all of it");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_takes_over_what_the_old_one_wrote_last() {
    let mut replica = Replica::start(&shared(Server::with([])), false).await;
    replica.hold(Held::default());
    pass(POLL / 2).await;
    replica.server().put(&shop());
    replica.terms.send_replace(term(2));
    pass(PAUSE).await;
    assert_eq!(replica.remembered(), [SHOP]);
    // It writes nothing before its compiler has judged that.
    pass(4 * POLL).await;
    assert_eq!((replica.patches(), replica.names()), (0, vec![SHOP.to_owned()]));
    // The compiler needs it.
    replica.hold(held([shop()]));
    pass(4 * POLL).await;
    assert_eq!((replica.patches(), replica.names()), (0, vec![SHOP.to_owned()]));
    // It was mended.
    replica.hold(Held::default());
    pass(PAUSE).await;
    assert_eq!(replica.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_new_leader_sees_no_need_for_stays_until_its_view_has_caught_up() {
    let mut replica = Replica::start(&shared(Server::with([])), false).await;
    replica.hold(Held::default());
    replica.server().put(&shop());
    replica.terms.send_replace(term(2));
    pass(PAUSE).await;
    assert_eq!(replica.remembered(), [SHOP]);
    // To this replica the Secret is still good.
    replica.hold(Held::default());
    pass(GRACE / 2).await;
    assert_eq!(replica.names(), [SHOP]);
    pass(GRACE).await;
    assert_eq!(replica.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_since_later_stays_until_the_leaders_view_has_caught_up() {
    let mut replica = Replica::start(&shared(Server::with([])), false).await;
    let theirs = since(large_secret("default", "shop", 10), 200);
    let ours = since(shop(), 100);
    replica.hold(held([ours.clone()]));
    replica.server().put(&theirs);
    replica.terms.send_replace(term(2));
    pass(GRACE / 2).await;
    assert_eq!(replica.remembered(), [""; 0], "it holds one itself");
    assert_eq!(replica.patches(), 0);
    pass(GRACE).await;
    assert_eq!(replica.patches(), 1);
    assert!(Replica::start(&replica.server, false).await.start == held([ours]));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_read_again_and_merged() {
    let mut replica = Replica::start(&shared(Server { rivals: 2, ..Server::with([]) }), true).await;
    replica.hold(held([shop()]));
    pass(PAUSE).await;
    for _ in 0..2 {
        assert_eq!(replica.names(), ["secret_rival_rival.json"]);
        assert_eq!(replica.remembered(), ["secret_rival_rival.json"]);
        replica.hold(held([shop()]));
        pass(2 * PAUSE).await;
    }
    assert_eq!(replica.names(), [SHOP, "secret_rival_rival.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_none_any_more_writes_no_more() {
    let replica = Replica::start(&shared(Server::with([])), true).await;
    replica.hold(held([shop()]));
    pass(PAUSE).await;
    replica.terms.send_replace(term(0));
    replica.hold(Held::default());
    pass(4 * POLL).await;
    assert_eq!(replica.names(), [SHOP]);
}

#[tokio::test(start_paused = true)]
async fn without_permission_or_secret_the_start_goes_on_and_it_works_as_soon_as_it_may() {
    for missing in [false, true] {
        let mut server = Server { denied: vec!["get"], ..Server::with([]) };
        if missing {
            server = Server::default();
        }
        let replica = Replica::start(&shared(server), true).await;
        assert!(replica.start.is_empty());
        replica.hold(held([shop()]));
        pass(3 * POLL).await;
        let failures = replica.metrics.last_good_secret_failures.get();
        assert!((2..=5).contains(&failures), "{failures}");
        assert_eq!(replica.patches(), 0);
        replica.server().denied.clear();
        replica.server().data.get_or_insert_default();
        pass(2 * POLL).await;
        assert_eq!(replica.names(), [SHOP], "missing: {missing}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_forbidden_is_made_up_for() {
    let replica = Replica::start(&shared(Server { denied: vec!["patch"], ..Server::with([]) }), true).await;
    replica.hold(held([shop()]));
    pass(PAUSE).await;
    assert_eq!(replica.metrics.last_good_secret_failures.get(), 1);
    assert_eq!(replica.metrics.last_good_secret_entries.get(), 0);
    replica.server().denied.clear();
    pass(2 * POLL).await;
    assert_eq!(replica.names(), [SHOP]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_holds_up_neither_start_nor_end() {
    let server = shared(Server { is_silent: true, ..Server::with([shop()]) });
    let started = Instant::now();
    let mut replica = Replica::start(&server, true).await;
    assert!(replica.start.is_empty());
    assert_eq!(started.elapsed(), PATIENCE);
    replica.hold(held([policy("", true)]));
    pass(POLL).await;
    assert_eq!(replica.remembered(), [""; 0]);
    server.lock().unwrap().is_silent = false;
    pass(POLL).await;
    assert_eq!(replica.remembered(), [SHOP], "what the start has missed");
    replica.hold(held([policy("", true), shop()]));
    pass(PAUSE).await;
    assert_eq!(replica.names(), ["policy_.json", SHOP]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_a_failure() {
    let replica = Replica::start(&shared(Server { is_confused: true, ..Server::with([shop()]) }), true).await;
    assert!(replica.start.is_empty());
    replica.server().is_confused = false;
    replica.hold(Held::default());
    pass(2 * RETRY).await;
    assert_eq!(replica.metrics.last_good_secret_entries.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_stays_and_what_is_damaged_is_not_used() {
    let server = shared(Server::with([shop()]));
    {
        let mut server = server.lock().unwrap();
        let data = server.data.as_mut().unwrap();
        data.insert("notes".to_owned(), BASE64.encode("mine"));
        data.insert("secret_default_cut.json".to_owned(), BASE64.encode("{"));
    }
    let replica = Replica::start(&server, true).await;
    assert!(replica.start == held([shop()]));
    replica.hold(held([shop()]));
    pass(PAUSE).await;
    replica.hold(Held::default());
    pass(4 * POLL).await;
    assert_eq!(replica.names(), ["notes", "secret_default_cut.json"]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_is_kept_and_the_oldest_goes_first() {
    let replica = Replica::start(&shared(Server::with([])), true).await;
    let entries = (0..8).map(|number| (large_secret("x", &format!("s{number}"), 100_000), 10 + number));
    let held = held_since(entries.chain([(large_secret("x", "huge", 800_000), 99)]));
    replica.hold(held);
    pass(PAUSE).await;
    let newest: Vec<String> = (2..8).map(|number| format!("secret_x_s{number}.json")).collect();
    assert_eq!(replica.names(), newest);
    assert_eq!(replica.metrics.last_good_secret_dropped.get(), 3);
    assert!(replica.metrics.last_good_secret_bytes.get() <= LIMIT as i64);
}
