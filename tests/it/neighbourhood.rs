//! Changes that have not been made: what is said about them is what would be said if they were made, and costs no more
//! than what they touch.

use std::sync::Arc;

use handfast::compile::{
    Change, Compiler, Diagnostic, Effect, Judged, Kind, Limits, Object, Options, Proposal, Scope, TooMuch, brought,
};
use k8s_openapi::api::networking::v1::IngressRule;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::incremental::{any_object, any_options, connected};
use crate::manifests::{NOW, at, objects, trust_anchors};

fn scope() -> Scope {
    Scope("test".into())
}

/// Asks as the webhook does, from the same compiler each time. Returns how often it was asked as well.
fn judge(compiler: &Compiler, proposal: Proposal, now: u64) -> (Judged, usize) {
    let mut sample = compiler.sample(proposal, Limits::default()).unwrap();
    for round in 1..10 {
        if let Some(judged) = sample.judge(at(now)) {
            return (judged, round);
        }
        compiler.answer(&mut sample).unwrap();
    }
    panic!("there is no end of questions");
}

fn shown(diagnostics: &[Diagnostic]) -> Vec<String> {
    let shown = |diagnostic: &Diagnostic| {
        let hosts: Vec<&str> = diagnostic.hosts.iter().map(|host| host.label()).collect();
        format!("{diagnostic} {hosts:?}")
    };
    diagnostics.iter().map(shown).collect()
}

/// What is said about a change, and what the whole compiler comes to say.
fn check(options: &Options, steps: Vec<(u64, Option<Object>, Object)>, last: Object, deletes: bool) {
    let mut compiler = Compiler::new(options.clone());
    let mut world: Vec<Object> = Vec::new();
    compiler.compile(at(NOW));
    for (now, gone, object) in steps {
        if let Some(gone) = gone {
            world.retain(|other| other.key() != gone.key());
            compiler.apply(Change::Delete(scope(), gone.key()));
        }
        world.retain(|other| other.key() != object.key());
        world.push(object.clone());
        compiler.apply(Change::Upsert(scope(), object));
        compiler.compile(at(now));
    }
    let before = compiler.compile(at(NOW));
    let there = world.iter().find(|object| object.key() == last.key());
    let proposal = match deletes {
        true => Proposal::new(there.cloned(), None, false),
        false => Proposal::new(there.cloned(), Some(last.clone()), false),
    };
    let Some(proposal) = proposal else { return };
    let (judged, rounds) = judge(&compiler, proposal, NOW);
    assert!(rounds <= 6, "{rounds}");
    match deletes {
        true => compiler.apply(Change::Delete(scope(), last.key())),
        false => compiler.apply(Change::Upsert(scope(), last)),
    }
    let after = compiler.compile(at(NOW));
    let expected = brought(&before.diagnostics, &after.diagnostics);
    assert_eq!(shown(&judged.brought), shown(&expected));
    assert_eq!(judged.brought, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_of_a_change_is_what_the_change_brings(
        options in any_options(),
        connects in prop::bool::weighted(0.7),
        steps in vec((select(vec![NOW - 86_400, NOW, NOW]), prop::option::weighted(0.2, any_object()), any_object()), 0..16),
        last in any_object().prop_filter("reviewed", |object| match object.kind() {
            Kind::Ingress | Kind::Secret | Kind::TlsPolicy => true,
            Kind::EndpointSlice | Kind::File | Kind::IngressClass | Kind::Other | Kind::Service => false,
        }),
        deletes in prop::bool::weighted(0.3),
    ) {
        let start = if connects { connected() } else { Vec::new() };
        let start = start.into_iter().map(|object| (NOW, None, object));
        check(&options, start.chain(steps).collect(), last, deletes);
    }
}

// The cost.

fn directory() -> Options {
    Options { watch_without_class: true, trust_anchors: trust_anchors(), ..Options::default() }
}

/// An Ingress with a rule and a path for each host, all with one Secret.
fn ingress(name: &str, hosts: &[String], service: &str) -> Object {
    let yaml = format!(
        "{{kind: Ingress, metadata: {{name: {name}, namespace: default}}, spec: {{tls: [{{secretName: tls}}], rules: [
           {{http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]}}}}"
    );
    let mut object = objects(&yaml).remove(0);
    let Object::Ingress(ingress) = &mut object else { panic!() };
    let rules = Arc::make_mut(ingress).spec.as_mut().unwrap().rules.as_mut().unwrap();
    let one = rules.remove(0);
    rules.extend(hosts.iter().map(|host| IngressRule { host: Some(host.clone()), ..one.clone() }));
    object
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("h{index}.example")).collect()
}

fn tls(key: &str) -> Object {
    let yaml = format!(
        "{{kind: Secret, metadata: {{name: tls, namespace: default}}, stringData: {{tls.crt: '$CERT(*.example)', tls.key: '$KEY({key})'}}}}"
    );
    objects(&yaml).remove(0)
}

/// As many Ingresses with one host each, one Secret for all of them, and one Service.
fn compiled(hosts: usize) -> Compiler {
    let mut all: Vec<Object> = names(hosts)
        .into_iter()
        .enumerate()
        .map(|(index, host)| ingress(&format!("i{index}"), &[host], "web"))
        .collect();
    all.push(tls("*.example"));
    all.extend(objects("{kind: Service, metadata: {name: web, namespace: default}, spec: {ports: [{port: 80}]}}"));
    let mut compiler = Compiler::new(directory());
    compiler.apply(Change::Replace(scope(), all));
    compiler.compile(at(NOW));
    compiler
}

#[test]
fn the_cost_follows_what_a_change_touches_and_not_the_size_of_the_cluster() {
    let cost = |hosts: usize| {
        let compiler = compiled(hosts);
        let before = ingress("i0", &names(1), "web");
        let after = ingress("i0", &names(1), "nowhere");
        let (judged, rounds) = judge(&compiler, Proposal::new(Some(before), Some(after), false).unwrap(), NOW);
        assert_eq!((judged.brought.len(), judged.left_out), (1, 0), "{:?}", judged.brought);
        assert_eq!(judged.brought[0].problem.code(), "service-not-found");
        (judged.built, rounds)
    };
    let small = cost(3);
    assert_eq!(small, cost(2_000));
    // One host, one Ingress, one backend, one TLS configuration: without the change and with it.
    assert_eq!(small.0, 8);
}

#[test]
fn of_an_ingress_with_ten_thousand_hosts_as_many_are_judged_as_of_one_with_fifty() {
    let cost = |hosts: usize| {
        let before = ingress("huge", &names(hosts), "web");
        let mut compiler = compiled(0);
        compiler.apply(Change::Upsert(scope(), before.clone()));
        compiler.compile(at(NOW));
        // The last host changes, so it has to be among those that are judged.
        let mut changed = names(hosts);
        changed[hosts - 1] = "other.elsewhere".to_owned();
        let after = ingress("huge", &changed, "web");
        let (judged, _) = judge(&compiler, Proposal::new(Some(before), Some(after), false).unwrap(), NOW);
        let found = judged.brought.iter().find(|found| found.problem.code() == "name-not-covered").unwrap();
        assert_eq!(found.hosts[0].as_str(), "other.elsewhere");
        (judged.built, judged.left_out)
    };
    let (built, left_out) = cost(50);
    assert_eq!(left_out, 1);
    assert_eq!(cost(10_000), (built, 9_951));
    assert!(built < 120, "{built}");
}

#[test]
fn of_a_secret_that_three_hundred_hosts_use_fifty_are_judged_and_all_are_counted() {
    let compiler = compiled(300);
    let proposal = Proposal::new(Some(tls("*.example")), Some(tls("other *.example")), false).unwrap();
    let (judged, _) = judge(&compiler, proposal, NOW);
    assert_eq!((judged.left_out, judged.users.count, judged.users.hosts.len()), (250, 300, 5));
    let [mismatch] = judged.brought.as_slice() else { panic!("{:?}", judged.brought) };
    assert_eq!(
        (mismatch.problem.code(), mismatch.effect, mismatch.hosts.len()),
        ("key-mismatch", Effect::LastGood, 50)
    );
}

#[test]
fn a_change_that_touches_too_much_is_not_judged() {
    let compiler = compiled(0);
    let fits = |objects, weight| {
        let proposal = Proposal::new(None, Some(ingress("new", &names(2), "web")), false).unwrap();
        let mut sample = compiler.sample(proposal, Limits { objects, weight, ..Limits::default() })?;
        while sample.judge(at(NOW)).is_none() {
            compiler.answer(&mut sample)?;
        }
        Ok::<_, TooMuch>(())
    };
    assert_eq!(fits(100, 1 << 20), Ok(()));
    assert_eq!(fits(3, 1 << 20), Err(TooMuch));
    assert_eq!(fits(100, 100), Err(TooMuch));
}

#[test]
fn annotations_of_an_object_with_many_hosts_cost_no_more_than_their_sum() {
    let mut huge = ingress("huge", &names(20_000), "web");
    let Object::Ingress(ingress) = &mut huge else { panic!() };
    let annotations = (0..5_000).map(|index| (format!("handfast.dev/a{index}"), "x".to_owned())).collect();
    Arc::make_mut(ingress).metadata.annotations = Some(annotations);
    let mut compiler = compiled(0);
    compiler.apply(Change::Upsert(scope(), huge));
    let compiled = compiler.compile(at(NOW));
    let unknown: Vec<&Diagnostic> =
        compiled.diagnostics.iter().filter(|found| found.problem.code() == "unknown-annotation").collect();
    // Two million places are not written down; that they are unknown is said.
    assert_eq!((unknown.len(), unknown.iter().map(|found| found.hosts.len()).sum::<usize>()), (100, 0));
}
