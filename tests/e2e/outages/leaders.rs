//! Replicas that write: one at a time, whatever happens between them and the API server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::runtime::watcher;

use super::{World, throughout};
use crate::support::runtime;
use crate::support::trial::trials;
use crate::support::{Handfast, Options, wait_until};

trials!(a_leader_that_is_cut_off_stops_writing_and_nobody_fights);

const TTL: Duration = Duration::from_secs(5);

fn a_leader_that_is_cut_off_stops_writing_and_nobody_fights() {
    let mut world = World::complete(Options::default());
    let history = addresses(&world, "shop");
    // As in the middle of a rolling update that changes the address.
    let replicas = ["192.0.2.1", "192.0.2.2"].map(|address| {
        let args = ["--source", "cluster", "--election-ttl", "5s", "--publish-status-address", address];
        Handfast::start(&world.plane, &args)
    });
    replicas.iter().for_each(Handfast::wait_until_ready);
    let leads = |replica: &Handfast| replica.metric("handfast_leader", &[]) == 1.0;
    wait_until("one leads", || replicas.iter().filter(|replica| leads(replica)).count() == 1);
    let first = replicas.iter().position(leads).unwrap();
    let (leader, other) = (&replicas[first], &replicas[1 - first]);
    let names = [format!("192.0.2.{}", first + 1), format!("192.0.2.{}", 2 - first)];
    wait_until("its address is there", || history.lock().unwrap().last() == Some(&names[0]));

    let cut = leader.cut_off(&world.plane);
    let begun = Instant::now();
    wait_until("another one leads", || {
        let (old, new) = (leads(leader), leads(other));
        // Asked in this order, so that a change between the two questions looks like none.
        assert!(!(new && old && leads(leader)), "two lead");
        new
    });
    assert!(!leads(leader), "it still believes that it may write");
    within_the_lease("cut off", begun);
    wait_until("the address of the other is there", || history.lock().unwrap().last() == Some(&names[1]));
    let changes = world.change();
    world.caught_up("the new leader", other, &changes, Instant::now());
    drop(cut);
    world.caught_up("the old leader", leader, &changes, Instant::now());
    // Longer than a Lease: each has had a turn to write if it wanted to.
    throughout(TTL + Duration::from_secs(2), || assert!(leads(other) && !leads(leader)));
    let history = history.lock().unwrap().clone();
    assert_eq!(history, ["", &names[0], &names[1]], "each address was written once");

    // Killed while the API server is away, too: the heir begins when it can.
    other.process.kill();
    let killed = Instant::now();
    wait_until("the first one leads again", || leads(leader));
    within_the_lease("killed", killed);
}

/// The Lease runs out, and others look at it now and then.
fn within_the_lease(how: &str, since: Instant) {
    let took = since.elapsed();
    println!("another one leads {:.1} s after the leader was {how}, with a Lease of {TTL:?}", took.as_secs_f64());
    assert!(took < 3 * TTL, "that is longer than a Lease");
}

/// All addresses that an Ingress's status has had, one after the other.
fn addresses(world: &World, name: &str) -> Arc<Mutex<Vec<String>>> {
    let history: Arc<Mutex<Vec<String>>> = Arc::default();
    let api: Api<Ingress> = Api::namespaced(world.plane.client(), "default");
    let (seen, config) = (history.clone(), watcher::Config::default().fields(&format!("metadata.name={name}")));
    runtime::handle().spawn(async move {
        let mut events = std::pin::pin!(watcher::watcher(api, config));
        while let Some(event) = events.next().await {
            let Ok(watcher::Event::InitApply(ingress) | watcher::Event::Apply(ingress)) = event else { continue };
            let balancer = ingress.status.and_then(|status| status.load_balancer);
            let all = balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
            let text: Vec<String> = all.into_iter().filter_map(|one| one.ip.or(one.hostname)).collect();
            let (text, mut seen) = (text.join(","), seen.lock().unwrap());
            if seen.last() != Some(&text) {
                seen.push(text);
            }
        }
    });
    wait_until("the Ingress is seen", || !history.lock().unwrap().is_empty());
    history
}
