//! The temporary certificate of cert-manager: never in place of a good one that is in date, and never good itself.

use handfast::compile::{Change, Compiled, Compiler, Kind, ObjectKey, Options, Scope};
use handfast::snapshot::{HostTls, Serving};

use crate::manifests::{NOW, at, objects, trust_anchors};

const INGRESS: &str = "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: shop, namespace: default},
    spec: {tls: [{hosts: [shop.example.com], secretName: shop-tls}], rules: [{host: shop.example.com}]}}";

fn secret(tls_crt: &str, tls_key: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: shop-tls, namespace: default}},
           stringData: {{tls.crt: '{tls_crt}', tls.key: '{tls_key}'}}}}"
    )
}

fn good() -> String {
    secret("$CERT(shop.example.com)", "$KEY(shop.example.com)")
}

fn temporary() -> String {
    secret("$CRT(temporary)", "$KEYOF(temporary)")
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::Secret, "default", "shop-tls")
}

fn start(options: Options) -> Compiler {
    let mut compiler = Compiler::new(Options { watch_without_class: true, trust_anchors: trust_anchors(), ..options });
    put(&mut compiler, INGRESS);
    compiler
}

fn put(compiler: &mut Compiler, yaml: &str) {
    objects(yaml).into_iter().for_each(|object| compiler.apply(Change::Upsert(Scope("test".into()), object)));
}

/// What becomes of the Secret.
fn after(compiler: &mut Compiler, yaml: &str) -> Compiled {
    put(compiler, yaml);
    compiler.compile(at(NOW))
}

fn serving(compiled: &Compiled) -> Serving {
    compiled.snapshot.hosts["shop.example.com"].serving
}

/// The fingerprint of what is served; `None` if handshakes are refused.
fn served(compiled: &Compiled) -> Option<Box<str>> {
    match &compiled.snapshot.hosts["shop.example.com"].tls {
        HostTls::Terminate(tls) => Some(tls.summary.fingerprint.clone()),
        HostTls::Absent | HostTls::Refuse => None,
    }
}

fn findings(compiled: &Compiled) -> Vec<(&'static str, &'static str)> {
    compiled.diagnostics.iter().map(|one| (one.problem.code(), one.effect.code())).collect()
}

#[test]
fn a_good_certificate_outlives_temporary_ones_until_the_real_one_comes() {
    let mut compiler = start(Options::default());
    let first = served(&after(&mut compiler, &good()));
    let held = after(&mut compiler, &temporary());
    assert_eq!((serving(&held), served(&held)), (Serving::LastGood, first.clone()));
    assert_eq!(findings(&held), [("temporary-certificate", "last-good")]);
    // A second one, with a key of its own, as after a failed order.
    let again = after(&mut compiler, &secret("$CRT(temporary-more)", "$KEYOF(temporary-more)"));
    assert_eq!(served(&again), first);
    let renewed = after(&mut compiler, &secret("$CERT(shop.example.com rsa)", "$KEY(shop.example.com rsa)"));
    assert_eq!((serving(&renewed), findings(&renewed).len()), (Serving::Current, 0));
    assert_ne!(served(&renewed), first);
}

#[test]
fn what_was_good_is_served_no_longer_than_it_is_in_date() {
    let mut compiler = start(Options::default());
    let ends = after(&mut compiler, &good()).certificates.get(&key()).unwrap().iter().min().copied().unwrap();
    let held = after(&mut compiler, &temporary());
    let now = |seconds: u64| at(ends.as_secs() + seconds);
    assert!(held.recompile_at.is_some_and(|at| at <= now(1)), "somebody has to look again");
    assert_eq!(serving(&compiler.compile(now(0))), Serving::LastGood);
    let expired = compiler.compile(now(1));
    assert_eq!(serving(&expired), Serving::Current);
    assert!(findings(&expired).contains(&("temporary-certificate", "none")), "{:?}", findings(&expired));
}

#[test]
fn a_temporary_certificate_is_served_where_there_is_nothing_else_and_is_never_what_was_good() {
    let mut compiler = start(Options::default());
    let only = after(&mut compiler, &temporary());
    assert_eq!((serving(&only), findings(&only)), (Serving::Current, vec![("temporary-certificate", "none")]));
    assert!(only.held.is_empty());
    compiler.apply(Change::Delete(Scope("test".into()), key()));
    let deleted = compiler.compile(at(NOW));
    assert_eq!((served(&deleted), findings(&deleted)), (None, vec![("secret-not-found", "host-refused")]));
}

#[test]
fn what_was_good_before_a_deletion_is_better_than_the_temporary_certificate_of_the_new_order() {
    let mut compiler = start(Options::default());
    let first = served(&after(&mut compiler, &good()));
    compiler.apply(Change::Delete(Scope("test".into()), key()));
    compiler.compile(at(NOW));
    let ordered = after(&mut compiler, &temporary());
    assert_eq!((serving(&ordered), served(&ordered)), (Serving::LastGood, first));
    // Where deleted Secrets are forgotten at once, so is this one.
    let mut compiler = start(Options { last_good_ttl: std::time::Duration::ZERO, ..Options::default() });
    after(&mut compiler, &good());
    compiler.apply(Change::Delete(Scope("test".into()), key()));
    compiler.compile(at(NOW));
    assert_eq!(serving(&after(&mut compiler, &temporary())), Serving::Current);
}

#[test]
fn a_replica_that_starts_meanwhile_is_told_what_was_good() {
    let mut old = start(Options::default());
    let first = served(&after(&mut old, &good()));
    let held = after(&mut old, &temporary()).held;
    assert_eq!(held.secrets.keys().collect::<Vec<_>>(), [&key()]);
    for is_before in [true, false] {
        let mut new = start(Options::default());
        put(&mut new, &temporary());
        if !is_before {
            assert_eq!(serving(&new.compile(at(NOW))), Serving::Current);
        }
        new.remember(&held);
        let compiled = new.compile(at(NOW));
        assert_eq!((serving(&compiled), served(&compiled)), (Serving::LastGood, first.clone()), "{is_before}");
        assert!(compiled.held.secrets.contains_key(&key()), "{is_before}: for the next one");
    }
}

#[test]
fn an_authority_of_this_name_that_is_kept_is_another_one() {
    let temporary = crate::faults::fault("temporary");
    let kept = crate::faults::fault("temporary-kept");
    let codes = |fault: &crate::faults::Fault| {
        let (crt, key, ca) = (fault.tls_crt.as_bytes(), fault.tls_key.as_bytes(), fault.ca_crt.as_bytes());
        let loaded = handfast::tls::chain::Credential::load(crt, key, ca, &trust_anchors());
        let is_temporary = loaded.credential.unwrap().is_temporary();
        (loaded.findings.iter().map(|finding| finding.code()).collect::<Vec<_>>(), is_temporary)
    };
    assert_eq!(codes(&temporary), (vec!["temporary-certificate"], true));
    assert_eq!(codes(&kept), (vec![], false), "it is in ca.crt");
    let beside =
        crate::faults::Fault { tls_crt: format!("{}{}", kept.tls_crt, kept.ca_crt), ca_crt: String::new(), ..kept };
    assert!(!codes(&beside).1, "it is in tls.crt");
}
