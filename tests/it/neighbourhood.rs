//! Changes that have not been made: what is said about them is what would be said if they were made, and costs no more
//! than what they touch.

use std::sync::Arc;

use handfast::compile::{
    Change, Compiler, Diagnostic, Judged, Kind, Limits, Object, ObjectKey, Options, Proposal, Scope, brought,
};
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

fn upsert(before: Option<&Object>, after: &Object) -> Proposal {
    Proposal::new(before.cloned(), Some(after.clone()), false).unwrap()
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
