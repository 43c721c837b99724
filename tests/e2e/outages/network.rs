//! Packets between a controller and the API server vanish, and what is connected looks as if nothing happened.

use std::time::{Duration, Instant};

use super::{Changes, World, length, staleness, throughout};
use crate::support::load::{Load, Shape};
use crate::support::trial::trials;
use crate::support::{Handfast, Options, wait_until};

trials!(
    packets_that_vanished_cost_ten_seconds_at_most_once_they_flow,
    what_is_compacted_meanwhile_is_listed_again_and_what_is_gone_is_gone,
    a_token_that_is_worth_nothing_any_more_is_replaced_by_the_next,
);

/// The promise.
const LIMIT: Duration = Duration::from_secs(10);

fn packets_that_vanished_cost_ten_seconds_at_most_once_they_flow() {
    let mut world = World::complete(Options::default());
    let [long, short] = [(); 2].map(|()| world.handfast(&[]));
    [&long, &short].into_iter().for_each(Handfast::wait_until_ready);
    let targets = [&long, &short].map(|handfast| world.target(handfast));
    let shape = Shape { new_http2: 0, kept_http1: 0, ..Shape::default() };
    let load = Load::start(&targets, shape);
    load.wait_for(50);

    let outage = Duration::from_secs(if crate::support::soak() { 120 } else { 25 });
    let cut = long.cut_off(&world.plane);
    let begun = Instant::now();
    let mut stalest: f64 = 0.0;
    let mut changes: Option<Changes> = None;
    // Long enough for connections to be given up, just so, and not: then the server's kernel sends again when it likes.
    for milliseconds in [8000, 4800, 2500] {
        let short_cut = short.cut_off(&world.plane);
        let made = world.change();
        throughout(Duration::from_millis(milliseconds), || {
            assert!(long.is_ready() && short.is_ready(), "one has lost its readiness");
            stalest = stalest.max(staleness(&long));
        });
        assert!(!world.is_at(&short, &made), "packets went through");
        drop(short_cut);
        let took = world.caught_up(&format!("{milliseconds} ms without packets"), &short, &made, Instant::now());
        assert!(took < LIMIT, "{took:?}");
        changes = Some(made);
    }
    throughout(outage.saturating_sub(begun.elapsed()), || stalest = stalest.max(staleness(&long)));
    let changes = changes.unwrap();
    assert!(!world.is_at(&long, &changes), "packets went through");
    println!("after {:.1?} without packets, watches are known to be stale for {stalest:.0} s", begun.elapsed());
    assert!(stalest > 0.0, "nobody could tell that nothing was heard");
    drop(cut);
    let took = world.caught_up("25 s without packets", &long, &changes, Instant::now());
    assert!(took < LIMIT, "{took:?}");
    wait_until("the watches work", || staleness(&long) == 0.0 && staleness(&short) == 0.0);
    load.stop().assert_flawless();
}

fn what_is_compacted_meanwhile_is_listed_again_and_what_is_gone_is_gone() {
    let api_flags = vec!["--etcd-compaction-interval=2s".to_owned()];
    let mut world = World::complete(Options { api_flags, ..Options::default() });
    let handfast = world.handfast(&[]);
    handfast.wait_until_ready();
    let load = Load::start(&[world.target(&handfast)], Shape { new_http2: 0, kept_http1: 0, ..Shape::default() });
    let relists = handfast.metric("handfast_watch_relists_total", &["kind=\"Ingress\""]);
    let expired = |kind: &str| handfast.metric("handfast_watch_errors_total", &["cause=\"expired\"", kind]);
    assert_eq!(expired(""), 0.0);

    // It hears of none of this, and afterwards there is nobody who remembers.
    let cut = handfast.cut_off(&world.plane);
    let mut changes = world.change();
    for _ in 0..length(2, 20).as_secs() {
        let last = world.change();
        throughout(Duration::from_secs(1), || {});
        changes = last;
    }
    world.plane.kill();
    world.plane.revive();
    assert!(!world.is_at(&handfast, &changes), "packets went through");
    drop(cut);
    world.caught_up("forgotten", &handfast, &changes, Instant::now());
    for kind in ["Ingress", "Secret"] {
        let label = format!("kind=\"{kind}\"");
        wait_until("it is counted", || expired(&label) >= 1.0);
    }
    assert!(handfast.metric("handfast_watch_relists_total", &["kind=\"Ingress\""]) > relists);
    // Nothing of the rounds that it never saw is left, nor of the one that it saw.
    for round in 0..world.rounds {
        assert_eq!(world.serial(&handfast, &format!("round-{round}.test")), None, "round {round}");
    }
    load.stop().assert_flawless();
}

fn a_token_that_is_worth_nothing_any_more_is_replaced_by_the_next() {
    const ACCOUNT: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: edge, namespace: default}\n";
    let mut world = World::complete(Options::default());
    let binding = "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: edge}\n\
                   roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n\
                   subjects: [{kind: ServiceAccount, name: edge, namespace: default}]\n";
    world.plane.apply(&format!("{ACCOUNT}{binding}"));
    let (kubeconfig, token_file) = world.plane.account_kubeconfig("default", "edge");
    let handfast = world.handfast(&["--kubeconfig", kubeconfig.to_str().unwrap()]);
    handfast.wait_until_ready();
    let load = Load::start(&[world.target(&handfast)], Shape { new_http2: 0, kept_http1: 0, ..Shape::default() });

    // An account that is made anew has none of the tokens of the old one. Watches that are open go on, so they are ended.
    world.plane.kubectl(&["delete", "serviceaccount", "edge"]);
    world.plane.apply(ACCOUNT);
    world.plane.kill();
    world.plane.revive();
    let refused = || handfast.metric("handfast_watch_errors_total", &["cause=\"start\""]);
    wait_until("the token is refused", || handfast.process.said().contains("Unauthorized"));
    let changes = world.change();
    let before = refused();
    wait_until("it is tried again", || refused() > before);
    assert!(handfast.is_ready() && staleness(&handfast) > 0.0);
    assert!(!world.is_at(&handfast, &changes), "the token is still good");
    load.wait_for(50);

    let token = world.plane.token("default", "edge", 3600).status.unwrap().token;
    let next = token_file.with_extension("next");
    std::fs::write(&next, token).unwrap();
    std::fs::rename(next, &token_file).unwrap();
    world.caught_up("a new token", &handfast, &changes, Instant::now());
    wait_until("the watches work", || staleness(&handfast) == 0.0);
    load.stop().assert_flawless();
    let lines = handfast.process.said();
    let token = std::fs::read_to_string(token_file).unwrap();
    assert!(!lines.contains(token.rsplit('.').next().unwrap()), "the token is in the log");
}
