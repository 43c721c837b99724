//! The API server dies, stands still, comes and goes, and is slow.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{World, length, staleness, throughout};
use crate::support::load::{Load, Shape};
use crate::support::trial::{scratch, trials};
use crate::support::{Handfast, Options, wait_until};

trials!(
    a_server_that_is_killed_or_stands_still_costs_no_request,
    a_server_that_comes_and_goes_or_is_slow_is_not_stormed,
);

const SHAPE: Shape =
    Shape { kept_http1: 1, new_http1: 1, kept_http2: 1, new_http2: 1, pause: Duration::from_millis(10) };

fn a_server_that_is_killed_or_stands_still_costs_no_request() {
    let mut world = World::complete(Options::default());
    let handfast = world.handfast(&[]);
    handfast.wait_until_ready();
    let load = Load::start(&[world.target(&handfast)], SHAPE);
    load.wait_for(50);
    let mut serials = HashSet::new();

    for how in ["killed", "stopped"] {
        // Right before: it may have been heard of, or not.
        let before = world.rotate();
        let outage = length(15, 60);
        if how == "killed" {
            world.plane.kill()
        } else {
            world.plane.stop()
        }
        let mut stalest: f64 = 0.0;
        throughout(outage, || {
            assert!(handfast.is_ready(), "it has lost its readiness");
            stalest = stalest.max(staleness(&handfast));
        });
        println!("{how} for {outage:?}: the watches were stale for {stalest:.0} s");
        assert!(stalest > 0.0, "nobody could tell that nothing was heard");
        assert_eq!(handfast.metric("handfast_diagnostics", &[]), 0.0, "an outage is no problem of the configuration");
        if how == "killed" {
            world.plane.revive()
        } else {
            world.plane.resume()
        }
        world.plane.wait_until_ready();
        let back = Instant::now();
        wait_until("the certificate of before the outage", || {
            world.serial(&handfast, "shop.test").as_ref() == Some(&before)
        });
        println!("{how}: what was changed before is served {:.1} s after the return", back.elapsed().as_secs_f64());
        let changes = world.change();
        world.caught_up(how, &handfast, &changes, back);
        wait_until("the watches work", || staleness(&handfast) == 0.0);
        serials.extend([before, changes.serial]);
        load.wait_for(50);
    }
    let report = load.stop();
    println!("{} requests, slowest {:?}", report.requests, report.slowest);
    report.assert_flawless();
    let seen: HashSet<String> = report.certificates.into_keys().collect();
    assert!(seen.is_superset(&serials), "{seen:?} and not all of {serials:?}");
    let lines = handfast.process.said();
    for line in ["The API server does not answer", "The API server answers again"] {
        assert!(lines.matches(line).count() >= 2, "{line}: {lines}");
    }
}

fn a_server_that_comes_and_goes_or_is_slow_is_not_stormed() {
    let policy = scratch().join("audit.yaml");
    let audit = scratch().join("audit.log");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n").unwrap();
    let flags = [("policy-file", &policy), ("log-path", &audit)];
    let api_flags = flags.iter().map(|(flag, path)| format!("--audit-{flag}={}", path.display())).collect();
    let mut world = World::complete(Options { api_flags, ..Options::default() });
    let handfast = world.handfast(&[]);
    handfast.wait_until_ready();
    let load = Load::start(&[world.target(&handfast)], SHAPE);
    let requests = || requests(&std::fs::read_to_string(&audit).unwrap(), &handfast);
    let watches = requests().len();
    assert!(watches >= 7, "the audit log shows what is asked: {:?}", requests());

    let begun = Instant::now();
    for _ in 0..5 {
        world.plane.kill();
        throughout(Duration::from_millis(500), || assert!(handfast.is_ready()));
        world.plane.revive();
    }
    let changes = world.change();
    world.caught_up("killed five times", &handfast, &changes, Instant::now());
    let flapping = requests();
    let total: usize = flapping.values().sum();
    println!("killed five times in {:.0?}: {total} requests of {watches} watches: {flapping:?}", begun.elapsed());
    // A list and a watch or two for each start of the server, and what it answers with errors until it is up.
    for (what, count) in &flapping {
        assert!(*count <= 5 * 12, "{what} was asked {count} times");
    }

    // It stands still most of the time.
    for _ in 0..10 {
        world.plane.stop();
        throughout(Duration::from_millis(800), || {});
        world.plane.resume();
        throughout(Duration::from_millis(200), || {});
    }
    let changes = world.change();
    world.caught_up("slow", &handfast, &changes, Instant::now());
    let slow: usize = requests().values().sum::<usize>() - total;
    println!("slow: {slow} requests");
    assert!(slow <= 2 * watches, "{:?}", requests());
    load.wait_for(50);
    load.stop().assert_flawless();
}

/// How often each list and watch of a controller has reached the server.
fn requests(audit: &str, handfast: &Handfast) -> BTreeMap<String, usize> {
    let address = handfast.sandbox.address.to_string();
    let mut seen = HashSet::new();
    let mut counts = BTreeMap::new();
    for line in audit.lines() {
        // The last one may be half written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let is_ours = event["sourceIPs"].as_array().is_some_and(|from| from.iter().any(|ip| *ip == *address));
        let verb = event["verb"].as_str().unwrap_or_default();
        if is_ours && matches!(verb, "list" | "watch") && seen.insert(event["auditID"].to_string()) {
            let uri = event["requestURI"].as_str().unwrap_or_default();
            let kind = uri.split(['&', '?']).find(|part| part.starts_with("fieldSelector")).unwrap_or_default();
            let path = uri.split('?').next().unwrap_or_default();
            *counts.entry(format!("{path} {kind}")).or_default() += 1;
        }
    }
    counts
}
