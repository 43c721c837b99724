//! Replicas that want one Lease of an API server in memory; time is tokio's and stands still until all wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use http::Method;
use serde_json::json;

use super::*;
use crate::kubernetes::fake::{Fake, Fault};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/edge/leases/handfast-leader";
const TTL: Duration = Duration::from_secs(15);

/// The time of day goes on by itself, and differs from call to call, as renewals do.
fn time_of_day() -> SystemTime {
    static SECONDS: AtomicU64 = AtomicU64::new(1_700_000_000);
    UNIX_EPOCH + Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed))
}

fn replica(fake: &Fake, name: &str) -> Election {
    let end = CancellationToken::new();
    let (terms, receiver) = watch::channel(Term::default());
    let elector = Elector {
        leases: Leases::new(&fake.client(), "edge", "handfast-leader"),
        candidate: Candidate::new(name.to_owned(), TTL),
        terms,
        metrics: Metrics::default(),
        complaints: Complaints::default(),
        clock: time_of_day,
    };
    let task = tokio::spawn(elector.run(end.clone()));
    Election { leadership: Leadership { terms: receiver }, end, task }
}

impl Election {
    fn leads(&self) -> bool {
        self.leadership.term().at(Instant::now()).is_some()
    }

    async fn until_it_leads(&mut self) {
        while !self.leads() {
            self.leadership.changed().await;
        }
    }

    async fn until_it_does_not(&mut self) {
        while let Some(until) = self.leadership.term().until.filter(|until| Instant::now() < *until) {
            tokio::select! {
                () = self.leadership.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

fn holder(fake: &Fake) -> String {
    let lease = fake.object(PATH).unwrap();
    lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_first_makes_the_lease_and_renews_it_and_the_second_waits() {
    let fake = Fake::default();
    let mut first = replica(&fake, "first");
    first.until_it_leads().await;
    let second = replica(&fake, "second");
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert!(first.leads() && !second.leads());
    }
    let spec = fake.object(PATH).unwrap()["spec"].clone();
    assert_eq!((&spec["leaseDurationSeconds"], &spec["leaseTransitions"]), (&json!(15), &json!(0)));
    assert_ne!(spec["renewTime"], spec["acquireTime"]);
    assert_eq!(first.leadership.term().number, 1);
    let renewals = fake.count(&Method::PUT);
    assert!((20..=31).contains(&renewals), "every 2 to 2.4 s, not {renewals} times in a minute");
}

#[tokio::test(start_paused = true)]
async fn who_ends_gives_the_lease_back_and_the_next_takes_over_at_once() {
    let fake = Fake::default();
    let mut first = replica(&fake, "first");
    first.until_it_leads().await;
    let mut second = replica(&fake, "second");
    sleep(Duration::from_secs(5)).await;
    let ended = Instant::now();
    first.finish().await;
    second.until_it_leads().await;
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
    let spec = fake.object(PATH).unwrap()["spec"].clone();
    assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("second"), &json!(1)));
    assert_eq!(second.leadership.term().number, 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_killed_is_replaced_when_its_lease_has_run_out_and_not_before() {
    let fake = Fake::default();
    let mut first = replica(&fake, "first");
    first.until_it_leads().await;
    let mut second = replica(&fake, "second");
    sleep(Duration::from_secs(5)).await;
    first.task.abort();
    let killed = Instant::now();
    second.until_it_leads().await;
    let took = killed.elapsed();
    assert!((TTL - Duration::from_secs(3)..TTL + Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(holder(&fake), "second");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
    let fake = Fake::default();
    let mut first = replica(&fake, "first");
    first.until_it_leads().await;
    let mut second = replica(&fake, "second");
    sleep(Duration::from_secs(5)).await;
    // The first is cut off in the worst way: its writes arrive nowhere, and it waits for an answer each time.
    fake.script(|asked| {
        let is_first = asked.body["spec"]["holderIdentity"] == "first";
        is_first.then_some(Fault::Silence)
    });
    first.until_it_does_not().await;
    let stopped = Instant::now();
    assert!(!second.leads());
    second.until_it_leads().await;
    assert!(stopped.elapsed() >= MARGIN / 2, "{:?}", stopped.elapsed());
    assert_eq!(holder(&fake), "second");
    // It comes back as one of those that wait.
    fake.script(|_| None);
    sleep(TTL * 2).await;
    assert!(second.leads() && !first.leads());
    assert_eq!(holder(&fake), "second");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_costs_nothing_but_a_look() {
    let fake = Fake::default();
    let mut first = replica(&fake, "first");
    first.until_it_leads().await;
    let mut puts = 0;
    fake.script(move |asked| {
        puts += usize::from(asked.method == Method::PUT);
        (asked.method == Method::PUT && puts == 1).then_some(Fault::AnswerLost)
    });
    for _ in 0..40 {
        sleep(Duration::from_secs(1)).await;
        assert!(first.leads());
    }
    assert_eq!(first.leadership.term().number, 1);
}

#[tokio::test(start_paused = true)]
async fn a_label_that_somebody_puts_on_the_lease_ends_no_term_and_stays() {
    let fake = Fake::default();
    let mut first = replica(&fake, "first");
    first.until_it_leads().await;
    let mut lease = fake.object(PATH).unwrap();
    lease["metadata"]["labels"] = json!({"team": "edge"});
    fake.put(PATH, lease);
    for _ in 0..30 {
        sleep(Duration::from_secs(1)).await;
        assert!(first.leads());
    }
    assert_eq!(first.leadership.term().number, 1);
    assert_eq!(fake.object(PATH).unwrap()["metadata"]["labels"]["team"], "edge");
}

#[tokio::test(start_paused = true)]
async fn without_permission_nobody_leads_and_with_it_somebody_does() {
    let fake = Fake::default();
    fake.script(|_| Some(Fault::Status(403)));
    let mut first = replica(&fake, "first");
    sleep(Duration::from_secs(600)).await;
    assert!(!first.leads());
    let asked = fake.state().asked.len();
    assert!((10..40).contains(&asked), "about twice a minute, not {asked} times in ten");
    fake.script(|_| None);
    first.until_it_leads().await;
}

#[tokio::test(start_paused = true)]
async fn of_many_that_begin_together_one_leads() {
    let fake = Fake::default();
    let replicas: Vec<Election> = (0..5).map(|index| replica(&fake, &format!("r{index}"))).collect();
    for _ in 0..50 {
        sleep(Duration::from_millis(500)).await;
        let leaders = replicas.iter().filter(|one| one.leads()).count();
        assert_eq!(leaders, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_vanishes_is_made_again() {
    let fake = Fake::default();
    let mut first = replica(&fake, "first");
    first.until_it_leads().await;
    fake.state().objects.clear();
    sleep(Duration::from_secs(5)).await;
    assert!(first.leads());
    assert_eq!(holder(&fake), "first");
}

#[test]
fn times_in_a_lease_do_not_matter_only_how_long_it_has_not_changed() {
    let mut candidate = Candidate::new("me".into(), TTL);
    let now = Instant::now();
    let time = |seconds| Timestamp::from_second(seconds).unwrap();
    let lease = |renewed: i64| -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": "handfast-leader", "resourceVersion": "7"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 20, "leaseTransitions": 4,
                "renewTime": MicroTimeText(renewed)},
        }))
        .unwrap()
    };
    // Its clock is a day behind, or ahead.
    for renewed in [1_000, 200_000] {
        assert_eq!(candidate.look(Some(lease(renewed)), now, time(100_000)), Step::Wait);
        assert_eq!(candidate.look(Some(lease(renewed)), now + Duration::from_secs(20), time(100_020)), Step::Wait);
    }
    // It has said itself that it may be silent for 20 s, whatever ours is.
    let late = now + Duration::from_secs(41);
    let Step::Replace(taken) = candidate.look(Some(lease(200_000)), late, time(100_041)) else { panic!("not taken") };
    let spec = taken.spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("me"), Some(5)));
    assert_eq!((spec.lease_duration_seconds, spec.acquire_time.unwrap().0), (Some(15), time(100_041)));
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"), "or another could be overwritten");
    assert_eq!(candidate.until(), None, "asking is not having");
}

/// As JSON has it.
struct MicroTimeText(i64);

impl serde::Serialize for MicroTimeText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
        MicroTime(Timestamp::from_second(self.0).unwrap()).serialize(serializer)
    }
}
