//! Incremental compilation: the same result as from scratch, and no more work than the change asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use handfast::compile::{
    Change, Compiled, Compiler, Diagnostic, Effect, Held, HostOwnership, Kind, Object, ObjectKey, Options, Problem,
    Scope, SecretObject, Units, compile,
};
use handfast::snapshot::{HostName, HostTls, Traffic};
use handfast::tls::{ServerTls, Version};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::manifests::{NOW, at, objects, trust_anchors};

fn scope(name: &str) -> Scope {
    Scope(name.into())
}

fn directory() -> Options {
    Options { watch_without_class: true, trust_anchors: trust_anchors(), ..Options::default() }
}

fn upsert(compiler: &mut Compiler, yaml: &str) {
    for object in objects(yaml) {
        compiler.apply(Change::Upsert(scope("test"), object));
    }
}

fn delete(compiler: &mut Compiler, kind: Kind, name: &str) {
    compiler.apply(Change::Delete(scope("test"), ObjectKey::new(kind, "default", name)));
}

fn codes(compiled: &Compiled) -> Vec<&'static str> {
    compiled.diagnostics.iter().map(|diagnostic| diagnostic.problem.code()).collect()
}

fn tls_of(compiled: &Compiled, host: &str) -> Arc<ServerTls> {
    match &compiled.snapshot.hosts[host].tls {
        HostTls::Terminate(tls) => tls.clone(),
        HostTls::Absent | HostTls::Refuse => panic!("{host} has no certificate"),
    }
}

fn ingress(name: &str, host: &str, secret: &str, service: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: {name}, namespace: default}}, spec: {{
           tls: [{{hosts: ['{host}'], secretName: {secret}}}],
           rules: [{{host: '{host}', http: {{paths: [{{path: /, pathType: Prefix,
             backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]}}}}\n---\n"
    )
}

fn secret(name: &str, names: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: default}},
           stringData: {{tls.crt: '$CERT({names})', tls.key: '$KEY({names})'}}}}\n---\n"
    )
}

fn service(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, spec: {{ports: [{{port: 80}}]}}}}\n---\n"
    )
}

fn slice(name: &str, service: &str, address: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
           metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: {service}}}}},
           ports: [{{name: '', port: 8080}}], endpoints: [{{addresses: [{address}]}}]}}\n---\n"
    )
}

/// 10,000 hosts in 100 domains; each domain has one wildcard Secret, each host a Service of its own.
fn ten_thousand() -> (Compiler, Compiled) {
    let mut yaml = String::new();
    for domain in 0..100 {
        yaml += &secret(&format!("tls-{domain}"), &format!("*.d{domain}.example"));
    }
    for host in 0..10_000 {
        let domain = host % 100;
        let service_name = format!("web-{host}");
        yaml += &ingress(
            &format!("i-{host}"),
            &format!("h{host}.d{domain}.example"),
            &format!("tls-{domain}"),
            &service_name,
        );
        yaml += &service(&service_name);
        yaml += &slice(&format!("{service_name}-1"), &service_name, "10.0.0.1");
    }
    let mut compiler = Compiler::new(directory());
    compiler.apply(Change::Replace(scope("test"), yaml.split("---\n").flat_map(objects).collect()));
    let compiled = compiler.compile(at(NOW));
    (compiler, compiled)
}

#[test]
fn at_ten_thousand_hosts_a_change_rebuilds_what_had_asked_about_it() {
    let (mut compiler, first) = ten_thousand();
    assert_eq!(codes(&first), [""; 0]);
    let all = Units { built: 10_000, reused: 0 };
    assert_eq!((first.stats.hosts, first.stats.backends, first.stats.ingresses), (all, all, all));
    assert_eq!(first.stats.tls, Units { built: 100, reused: 0 });
    let none = Units { built: 0, reused: 10_000 };
    let one = Units { built: 1, reused: 9_999 };

    let again = compiler.compile(at(NOW));
    assert_eq!((again.stats.hosts, again.stats.backends, again.stats.ingresses), (none, none, none));
    assert!(Arc::ptr_eq(&first.snapshot, &again.snapshot));

    upsert(&mut compiler, &slice("web-7-1", "web-7", "10.0.0.2"));
    let endpoints = compiler.compile(at(NOW));
    assert_eq!((endpoints.stats.hosts, endpoints.stats.backends, endpoints.stats.ingresses), (none, one, none));

    upsert(&mut compiler, &secret("tls-7", "*.d7.example other"));
    let rotated = compiler.compile(at(NOW));
    assert_eq!(rotated.stats.hosts, Units { built: 100, reused: 9_900 });
    assert_eq!((rotated.stats.backends, rotated.stats.ingresses), (none, none));
    assert_eq!(rotated.stats.tls, Units { built: 1, reused: 99 });
    for host in 0..10_000 {
        let name = format!("h{host}.d{}.example", host % 100);
        let same = Arc::ptr_eq(&first.snapshot.hosts[name.as_str()], &rotated.snapshot.hosts[name.as_str()]);
        assert_eq!(same, host % 100 != 7, "{name}");
    }
    assert!(Arc::ptr_eq(&tls_of(&rotated, "h7.d7.example"), &tls_of(&rotated, "h107.d7.example")));

    upsert(&mut compiler, &ingress("i-9", "h9.d9.example", "tls-9", "web-10"));
    let moved = compiler.compile(at(NOW));
    assert_eq!((moved.stats.hosts, moved.stats.ingresses), (one, one));
    assert_eq!(moved.snapshot.backends.len(), 9_999);
}

#[test]
fn an_upsert_that_is_equal_in_what_is_used_changes_nothing() {
    let mut compiler = Compiler::new(directory());
    let yaml = ingress("shop", "shop.example", "tls", "web") + &secret("tls", "shop.example") + &service("web");
    upsert(&mut compiler, &yaml);
    let first = compiler.compile(at(NOW));
    for object in objects(&yaml) {
        let noisy = match object {
            Object::Ingress(mut ingress) => {
                let changed = Arc::make_mut(&mut ingress);
                changed.metadata.resource_version = Some("2".into());
                changed.metadata.managed_fields = Some(vec![ManagedFieldsEntry::default()]);
                changed.metadata.annotations = Some([("example.com/seen".into(), "today".into())].into());
                changed.status = Some(Default::default());
                Object::Ingress(ingress)
            }
            Object::Secret(SecretObject(mut secret)) => {
                Arc::make_mut(&mut secret).string_data.as_mut().unwrap().insert("extra".into(), "x".into());
                Object::Secret(SecretObject(secret))
            }
            Object::EndpointSlice(_) | Object::IngressClass(_) | Object::Service(_) | Object::TlsPolicy(_) => object,
        };
        compiler.apply(Change::Upsert(scope("test"), noisy));
    }
    let again = compiler.compile(at(NOW));
    assert_eq!(again.stats.hosts.built + again.stats.ingresses.built + again.stats.tls.built, 0);
    assert!(Arc::ptr_eq(&first.snapshot, &again.snapshot));
}

#[test]
fn a_certificate_keeps_its_identity_as_long_as_its_content_is_there() {
    let mut compiler = Compiler::new(directory());
    upsert(&mut compiler, &(ingress("shop", "shop.example", "tls", "web") + &secret("tls", "shop.example")));
    let first = tls_of(&compiler.compile(at(NOW)), "shop.example");

    delete(&mut compiler, Kind::Secret, "tls");
    upsert(&mut compiler, &secret("tls", "shop.example"));
    let recreated = compiler.compile(at(NOW));
    assert!(Arc::ptr_eq(&first, &tls_of(&recreated, "shop.example")));
    assert_eq!(recreated.stats.tls, Units { built: 0, reused: 1 });

    // The same bytes under another name are the same certificate.
    upsert(&mut compiler, &(ingress("shop", "shop.example", "copy", "web") + &secret("copy", "shop.example")));
    delete(&mut compiler, Kind::Secret, "tls");
    assert!(Arc::ptr_eq(&first, &tls_of(&compiler.compile(at(NOW)), "shop.example")));

    upsert(&mut compiler, &secret("copy", "shop.example other"));
    let rotated = compiler.compile(at(NOW));
    assert!(!Arc::ptr_eq(&first, &tls_of(&rotated, "shop.example")));
    assert_eq!(rotated.stats.tls, Units { built: 1, reused: 0 });
}

#[test]
fn what_was_asked_for_in_vain_wakes_its_readers_when_it_appears() {
    let mut compiler = Compiler::new(directory());
    upsert(&mut compiler, &ingress("shop", "shop.example", "tls", "web"));
    assert_eq!(codes(&compiler.compile(at(NOW))), ["service-not-found", "secret-not-found"]);
    upsert(&mut compiler, &(secret("tls", "shop.example") + &service("web")));
    assert_eq!(codes(&compiler.compile(at(NOW))), ["no-endpoints"]);
    upsert(&mut compiler, &slice("web-1", "web", "10.0.0.1"));
    assert_eq!(codes(&compiler.compile(at(NOW))), [""; 0]);
    delete(&mut compiler, Kind::Ingress, "shop");
    let empty = compiler.compile(at(NOW));
    assert_eq!((empty.snapshot.render().as_str(), empty.recompile_at), ("", None));
}

#[test]
fn a_host_follows_the_certificate_of_the_wildcard_host_above_it() {
    let mut compiler = Compiler::new(directory());
    let without_tls =
        ingress("shop", "shop.example", "none", "web").replace("[{hosts: ['shop.example'], secretName: none}]", "[]");
    upsert(&mut compiler, &(without_tls + &secret("wild", "*.example")));
    assert!(matches!(compiler.compile(at(NOW)).snapshot.hosts["shop.example"].tls, HostTls::Absent));
    upsert(&mut compiler, &ingress("wild", "*.example", "wild", "web"));
    let covered = compiler.compile(at(NOW));
    assert!(Arc::ptr_eq(&tls_of(&covered, "shop.example"), &tls_of(&covered, "*.example")));
    upsert(&mut compiler, &secret("wild", "*.example other"));
    let rotated = compiler.compile(at(NOW));
    assert!(Arc::ptr_eq(&tls_of(&rotated, "shop.example"), &tls_of(&rotated, "*.example")));
    assert!(!Arc::ptr_eq(&tls_of(&rotated, "shop.example"), &tls_of(&covered, "shop.example")));
    delete(&mut compiler, Kind::Ingress, "wild");
    assert!(matches!(compiler.compile(at(NOW)).snapshot.hosts["shop.example"].tls, HostTls::Absent));
}

#[test]
fn what_a_broken_secret_costs_follows_the_default_certificate() {
    let default_tls_secret = Some(("default".to_owned(), "default".to_owned()));
    let mut compiler = Compiler::new(Options { default_tls_secret, ..directory() });
    let broken = secret("tls", "shop.example").replacen("$KEY(", "$KEY(other ", 1);
    upsert(&mut compiler, &(ingress("shop", "shop.example", "tls", "web") + &broken));
    let effect = |compiled: &Compiled| {
        compiled.diagnostics.iter().find(|found| found.problem.code() == "key-mismatch").map(|found| found.effect)
    };
    assert_eq!(effect(&compiler.compile(at(NOW))), Some(Effect::HostRefused));
    upsert(&mut compiler, &secret("default", "default.example"));
    let rescued = compiler.compile(at(NOW));
    assert_eq!(effect(&rescued), Some(Effect::Default));
    assert_eq!(&*tls_of(&rescued, "shop.example").summary.names[0], "default.example");
    delete(&mut compiler, Kind::Secret, "default");
    // Deleted is not gone at once.
    let held = compiler.compile(at(NOW));
    assert_eq!(effect(&held), Some(Effect::Default));
    let until = held.recompile_at.unwrap();
    assert_eq!(until, at(NOW + 24 * 60 * 60));
    let refused = compiler.compile(until);
    assert_eq!(effect(&refused), Some(Effect::HostRefused));
    assert!(matches!(refused.snapshot.hosts["shop.example"].tls, HostTls::Refuse));
}

#[test]
fn time_alone_changes_what_is_said_and_never_what_is_served() {
    let mut compiler = Compiler::new(directory());
    upsert(&mut compiler, &(ingress("shop", "shop.example", "tls", "web") + &secret("tls", "shop.example ending")));
    upsert(&mut compiler, &(service("web") + &slice("web-1", "web", "10.0.0.1")));
    let valid = compiler.compile(at(NOW));
    assert_eq!(codes(&valid), ["expires-soon"]);
    let expiry = valid.recompile_at.unwrap();
    let expired = compiler.compile(expiry);
    assert_eq!(codes(&expired), ["expired"]);
    assert_eq!(expired.diagnostics[0].hosts, ["shop.example".parse::<HostName>().unwrap()]);
    assert!(expired.snapshot.hosts.is_copy(&valid.snapshot.hosts), "nothing is served otherwise");
    assert!(expired.snapshot.backends.is_copy(&valid.snapshot.backends));
    let traffic = |compiled: &Compiled| compiled.snapshot.traffic.get("shop.example").copied();
    assert_eq!((traffic(&valid), traffic(&expired)), (Some(Traffic::Works), Some(Traffic::WorksWithLosses)));
    assert_eq!(expired.stats.hosts.built, 0);
    let set_back = compiler.compile(at(NOW));
    assert_eq!((codes(&set_back), set_back.recompile_at), (vec!["expires-soon"], Some(expiry)));
}

#[test]
fn a_changed_ca_crt_is_judged_anew_and_never_served() {
    let secret = |ca_crt: &str| {
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: tls, namespace: default}},
               stringData: {{tls.crt: $CRT(ca-crt), tls.key: $KEYOF(ca-crt), ca.crt: {ca_crt}}}}}\n---\n"
        )
    };
    let mut compiler = Compiler::new(directory());
    upsert(&mut compiler, &(ingress("shop", "shop.example.com", "tls", "web") + &secret("''")));
    upsert(&mut compiler, &(service("web") + &slice("web-1", "web", "10.0.0.1")));
    let without = compiler.compile(at(NOW));
    assert_eq!(codes(&without), ["missing-intermediate"]);
    upsert(&mut compiler, &secret("$CA(ca-crt)"));
    let with = compiler.compile(at(NOW));
    assert_eq!(codes(&with), [""; 0]);
    assert_eq!(tls_of(&with, "shop.example.com").summary.chain_length, 2);
}

#[test]
fn a_change_of_a_class_rebuilds_the_ingresses_that_asked_for_it() {
    let class = |name: &str, controller: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {{name: {name}}}, spec: {{controller: {controller}}}}}"
        )
    };
    let with_class = |name: &str, class: &str| {
        ingress(name, &format!("{name}.example"), "tls", "web")
            .replace("spec: {\n", &format!("spec: {{ingressClassName: {class},\n"))
    };
    let mut compiler = Compiler::new(Options::default());
    upsert(
        &mut compiler,
        &(with_class("a", "one") + &with_class("b", "two") + &class("two", "handfast.dev/ingress-controller")),
    );
    let first = compiler.compile(at(NOW));
    assert_eq!(first.snapshot.hosts.len(), 1);
    assert!(codes(&first).contains(&"unknown-ingress-class"));
    upsert(&mut compiler, &class("one", "handfast.dev/ingress-controller"));
    let second = compiler.compile(at(NOW));
    assert_eq!((second.stats.ingresses.built, second.stats.hosts.built), (1, 1));
    assert_eq!(second.snapshot.hosts.len(), 2);
}

#[test]
fn key_material_stays_out_of_everything_that_is_shown() {
    let objects = objects(&(ingress("shop", "shop.example", "tls", "web") + &secret("tls", "shop.example")));
    let key = objects.iter().find_map(|object| match object {
        Object::Secret(secret) => Some(secret.0.string_data.as_ref().unwrap()["tls.key"].clone()),
        _ => None,
    });
    let line = key.unwrap().lines().nth(1).unwrap().to_owned();
    let compiled = compile(&directory(), objects.clone(), at(NOW));
    let shown = format!("{objects:?} {:?} {}", compiled.diagnostics, compiled.snapshot.render());
    assert!(!shown.contains(&line));
}

// The property: after any sequence of changes, incremental and from scratch are the same.

#[derive(Clone, Debug)]
pub enum Step {
    Change(Change),
    Compile(u64),
}

#[test]
fn a_policy_that_is_tried_out_comes_changes_and_goes_and_sessions_keep_resuming() {
    let mut compiler = Compiler::new(directory());
    let plain = ingress("shop", "shop.example", "tls", "web");
    let tries = plain
        .replace("namespace: default}", "namespace: default, annotations: {handfast.dev/shadow-tls-policy: next}}");
    let policy =
        |spec: &str| format!("{{kind: TlsPolicy, metadata: {{name: next, namespace: default}}, spec: {{{spec}}}}}");
    upsert(&mut compiler, &(plain.clone() + &secret("tls", "shop.example") + &service("web")));
    let first = tls_of(&compiler.compile(at(NOW)), "shop.example");
    let missing = vec!["unusable-shadow-policy", "no-endpoints"];
    let steps: [(&str, Option<&str>, Vec<&str>); 5] = [
        (&tries, None, missing.clone()),
        (&policy("preset: modern"), Some("versions=1.3"), vec!["no-endpoints"]),
        (&policy("maxVersion: TLSv1.2"), Some("versions=1.2"), vec!["no-endpoints"]),
        (&policy("groups: [nonsense]"), None, missing),
        (&plain, None, vec!["no-endpoints"]),
    ];
    for (change, expected, expected_codes) in steps {
        upsert(&mut compiler, change);
        let compiled = compiler.compile(at(NOW));
        let host = &compiled.snapshot.hosts["shop.example"];
        let found = host.shadow.as_ref().map(|shadow| (&*shadow.name, shadow.policy.to_string()));
        match expected {
            Some(versions) => {
                let (name, policy) = found.unwrap();
                assert!(name == "default/next" && policy.starts_with(versions), "{name} {policy}");
            }
            None => assert_eq!(found, None, "{change}"),
        }
        let codes: Vec<&str> = codes(&compiled).into_iter().filter(|code| *code != "bad-tls-policy").collect();
        assert_eq!(codes, expected_codes, "{change}");
        assert!(Arc::ptr_eq(&tls_of(&compiled, "shop.example"), &first), "{change}");
        assert_eq!(compiled.stats.tls.built, 0, "{change}");
    }
}

/// What the scopes hold now, as a list of documents each.
#[derive(Default)]
struct Model {
    objects: BTreeMap<Scope, Vec<Object>>,
    rejected: BTreeMap<Scope, Vec<Diagnostic>>,
}

impl Model {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Delete(scope, key) => self.objects.entry(scope).or_default().retain(|object| object.key() != key),
            Change::Rejected(scope, diagnostics) => drop(self.rejected.insert(scope, diagnostics)),
            Change::Replace(scope, objects) => drop(self.objects.insert(scope, objects)),
            Change::Upsert(scope, object) => {
                let objects = self.objects.entry(scope).or_default();
                objects.retain(|other| other.key() != object.key());
                objects.push(object);
            }
        }
    }

    fn compiler(&self, options: &Options, held: &Held) -> Compiler {
        let mut compiler = Compiler::new(options.clone());
        compiler.remember(held);
        for (scope, objects) in self.objects.iter().rev() {
            compiler.apply(Change::Replace(scope.clone(), objects.clone()));
        }
        for (scope, diagnostics) in &self.rejected {
            compiler.apply(Change::Rejected(scope.clone(), diagnostics.clone()));
        }
        compiler
    }
}

fn check(options: &Options, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut compiler = Compiler::new(options.clone());
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Change(change) => {
                compiler.apply(change.clone());
                model.apply(change);
            }
            Step::Compile(now) => {
                let incremental = compiler.compile(at(now));
                let scratch = model.compiler(options, &incremental.held).compile(at(now));
                prop_assert_eq!(&incremental.held, &scratch.held);
                prop_assert_eq!(incremental.snapshot.render(), scratch.snapshot.render());
                prop_assert_eq!(&incremental.snapshot.traffic, &scratch.snapshot.traffic);
                prop_assert_eq!(&incremental.diagnostics, &scratch.diagnostics);
                prop_assert_eq!(incremental.recompile_at, scratch.recompile_at);
                // What is told late comes to the same, as far as no policy was in force meanwhile that judged otherwise.
                let mut late = model.compiler(options, &Held::default());
                late.compile(at(now));
                late.remember(&incremental.held);
                let late = late.compile(at(now));
                if incremental.held.policies.is_empty() && late.held.policies.is_empty() {
                    prop_assert_eq!(&incremental.held, &late.held);
                    prop_assert_eq!(incremental.snapshot.render(), late.snapshot.render());
                    prop_assert_eq!(&incremental.diagnostics, &late.diagnostics);
                }
                let again = compiler.compile(at(now));
                prop_assert!(Arc::ptr_eq(&incremental.snapshot, &again.snapshot));
                prop_assert!(Arc::ptr_eq(&incremental.diagnostics, &again.diagnostics));
                // Every backend that a route names is there.
                let routes = incremental.snapshot.hosts.values().flat_map(|host| host.routes.routes());
                for route in routes {
                    if let handfast::snapshot::Target::Backend(key) = &route.target {
                        prop_assert!(incremental.snapshot.backend(key).is_some());
                    }
                }
            }
        }
    }
    Ok(())
}

/// Most objects are in the first namespace, so that they meet.
const NAMESPACES: [&str; 4] = ["x", "x", "x", "z"];
const HOSTS: [&str; 5] = ["a.example", "b.example", "*.example", "c.other.test", "bad_host"];
const SECRETS: [&str; 3] = ["s1", "s2", "s3"];
const CONTENTS: [&str; 12] = [
    "tls.crt: '$CERT(a.example b.example)', tls.key: '$KEY(a.example b.example)'",
    "tls.crt: '$CERT(*.example)', tls.key: '$KEY(*.example)'",
    "tls.crt: '$CERT(*.example)', tls.key: '$KEY(a.example b.example)'",
    "tls.crt: '$CERT(a.example expired)', tls.key: '$KEY(a.example expired)'",
    "tls.crt: '$CERT(a.example ending)', tls.key: '$KEY(a.example ending)'",
    "tls.crt: '$REVERSED(a.example future)', tls.key: '$KEY(a.example future)'",
    "tls.crt: 'garbage'",
    "ca.crt: '$CLIENTCA(one two)', ca.crl: '$CRL(one)'",
    "ca.crt: '$CLIENTCA(one)', ca.crl: '$CRL(one ending)'",
    "ca.crt: '$CLIENTCA(one)', ca.crl: 'garbage'",
    "tls.crt: '$LEAF(a.example)', tls.key: '$KEY(a.example)', ca.crt: '$ROOT()'",
    "tls.crt: '$CERT(a.example rsa)', tls.key: '$KEY(a.example rsa)', ca.crt: '$ROOT()'",
];
const ANNOTATIONS: [&str; 16] = [
    "nginx.ingress.kubernetes.io/auth-type: basic",
    "nginx.ingress.kubernetes.io/canary: 'true'",
    "nginx.ingress.kubernetes.io/ssl-redirect: 'false'",
    "nginx.ingress.kubernetes.io/rewrite-target: /",
    "nginx.ingress.kubernetes.io/whitelist-source-range: nonsense",
    "handfast.dev/tls-policy: p1",
    "handfast.dev/tls-policy: p2",
    "handfast.dev/tls-policy: p2, handfast.dev/ssl-protocols: TLSv1.2",
    "handfast.dev/shadow-tls-policy: p1",
    "handfast.dev/shadow-tls-policy: p2, handfast.dev/tls-policy: p1",
    "handfast.dev/ssl-ciphers: AES128-SHA",
    "handfast.dev/ssl-ciphers: ECDHE-RSA-AES128-GCM-SHA256, handfast.dev/ssl-protocols: TLSv1.2",
    "handfast.dev/additional-tls-secrets: s3",
    "nginx.ingress.kubernetes.io/permanent-redirect: /new",
    "kubernetes.io/ingress.class: handfast",
    "kubernetes.io/ingress.class: other",
];

/// A world in which everything hangs together, for changes to pull at: a wildcard host with a certificate that other
/// hosts use, a broken Secret, and backends with endpoints.
pub(crate) fn connected() -> Vec<Object> {
    objects(
        "
{kind: Ingress, metadata: {name: i1, namespace: x}, spec: {tls: [{hosts: ['*.example'], secretName: s2}], rules: [
  {host: '*.example', http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}
---
{kind: Ingress, metadata: {name: i2, namespace: x}, spec: {rules: [
  {host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}
---
{kind: Ingress, metadata: {name: i3, namespace: x}, spec: {tls: [{hosts: [b.example], secretName: s3}], rules: [
  {host: b.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: api, port: {name: http}}}}]}}]}}
---
{kind: Secret, metadata: {name: s1, namespace: x}, stringData: {tls.crt: '$CERT(a.example b.example)', tls.key: '$KEY(a.example b.example)'}}
---
{kind: Secret, metadata: {name: s2, namespace: x}, stringData: {tls.crt: '$CERT(*.example)', tls.key: '$KEY(*.example)'}}
---
{kind: Secret, metadata: {name: s3, namespace: x}, stringData: {tls.crt: '$CERT(*.example)', tls.key: '$KEY(a.example b.example)'}}
---
{kind: Service, metadata: {name: web, namespace: x}, spec: {ports: [{port: 80}]}}
---
{kind: Service, metadata: {name: api, namespace: x}, spec: {ports: [{name: http, port: 80}]}}
---
{kind: EndpointSlice, addressType: IPv4, ports: [{name: '', port: 8080}], endpoints: [{addresses: [10.0.0.1]}],
 metadata: {name: e1, namespace: x, labels: {kubernetes.io/service-name: web}}}
---
{kind: EndpointSlice, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.0.2]}],
 metadata: {name: e2, namespace: x, labels: {kubernetes.io/service-name: api}}}
",
    )
}

fn one(yaml: &str) -> Object {
    objects(yaml).remove(0)
}

fn any_ingress() -> impl Strategy<Value = Object> {
    let backend = (select(vec!["web", "api"]), select(vec!["number: 80", "name: http", "number: 81"]))
        .prop_map(|(name, port)| format!("{{service: {{name: {name}, port: {{{port}}}}}}}"));
    let path = (
        select(vec!["/", "/p", "/p/q", "bad", "/.well-known/acme-challenge/t", "/p(.*)"]),
        select(vec!["Exact", "Prefix"]),
        backend.clone(),
    )
        .prop_map(|(path, kind, backend)| format!("{{path: '{path}', pathType: {kind}, backend: {backend}}}"));
    let rule = (option::weighted(0.8, select(HOSTS.to_vec())), vec(path, 0..3)).prop_map(|(host, paths)| {
        let host = host.map(|host| format!("host: '{host}', ")).unwrap_or_default();
        format!("{{{host}http: {{paths: [{}]}}}}", paths.join(", "))
    });
    let tls = (vec(select(HOSTS.to_vec()), 0..3), option::weighted(0.8, select(SECRETS.to_vec()))).prop_map(
        |(hosts, secret)| {
            let hosts: Vec<String> = hosts.iter().map(|host| format!("'{host}'")).collect();
            let secret = secret.map(|secret| format!(", secretName: {secret}")).unwrap_or_default();
            format!("{{hosts: [{}]{secret}}}", hosts.join(", "))
        },
    );
    (
        (select(vec!["i1", "i2", "i3"]), select(NAMESPACES.to_vec())),
        option::of(select(vec!["2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"])),
        option::weighted(0.4, select(ANNOTATIONS.to_vec())),
        option::weighted(0.3, select(vec!["handfast", "k1", "k2"])),
        vec(rule, 0..4),
        vec(tls, 0..3),
        option::weighted(0.3, backend),
    )
        .prop_map(|((name, namespace), created, annotation, class, rules, tls, default)| {
            let created = created.map(|time| format!(", creationTimestamp: '{time}'")).unwrap_or_default();
            let annotation = annotation.map(|text| format!(", annotations: {{{text}}}")).unwrap_or_default();
            let class = class.map(|class| format!("ingressClassName: {class}, ")).unwrap_or_default();
            let default = default.map(|backend| format!("defaultBackend: {backend}, ")).unwrap_or_default();
            one(&format!(
                "{{kind: Ingress, metadata: {{name: {name}, namespace: {namespace}{created}{annotation}}},
                   spec: {{{class}{default}rules: [{}], tls: [{}]}}}}",
                rules.join(", "),
                tls.join(", ")
            ))
        })
}

pub(crate) fn any_object() -> impl Strategy<Value = Object> {
    let namespace = || select(NAMESPACES.to_vec());
    let secret =
        (select(SECRETS.to_vec()), namespace(), select(CONTENTS.to_vec())).prop_map(|(name, namespace, content)| {
            one(&format!(
                "{{kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, stringData: {{{content}}}}}"
            ))
        });
    let spec = select(vec![
        "ports: [{port: 80}]",
        "ports: [{name: http, port: 80}]",
        "type: ExternalName, externalName: api.test",
        "type: ExternalName, externalName: localhost",
    ]);
    let service = (select(vec!["web", "api"]), namespace(), spec).prop_map(|(name, namespace, spec)| {
        one(&format!("{{kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}"))
    });
    let endpoints = select(vec![
        "",
        "{addresses: [10.0.0.1]}",
        "{addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}",
        "{addresses: [127.0.0.1]}",
    ]);
    let slice = (select(vec!["e1", "e2"]), namespace(), select(vec!["web", "api"]), select(vec!["''", "http"]), endpoints)
        .prop_map(|(name, namespace, service, port, endpoints)| {
            one(&format!(
                "{{kind: EndpointSlice, addressType: IPv4, ports: [{{name: {port}, port: 8080}}], endpoints: [{endpoints}],
                   metadata: {{name: {name}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}}}"
            ))
        });
    let class = (select(vec!["k1", "k2"]), any::<bool>(), any::<bool>()).prop_map(|(name, ours, default)| {
        let controller = if ours { "handfast.dev/ingress-controller" } else { "example.com/other" };
        one(&format!(
            "{{kind: IngressClass, spec: {{controller: {controller}}},
               metadata: {{name: {name}, annotations: {{ingressclass.kubernetes.io/is-default-class: '{default}'}}}}}}"
        ))
    });
    let policy = select(vec![
        "preset: modern",
        "minVersion: TLSv1.3, hsts: {maxAge: 60}",
        "cipherSuites: [DHE-RSA-AES128-GCM-SHA256]",
        "cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], maxVersion: TLSv1.2",
        "allowOverrides: false, findingActions: {expired: reject, name-not-covered: holdLastGood}",
        "findingActions: {expired: holdLastGood, expires-soon: reject}",
        "clientAuth: {mode: required, caSecret: s3}",
        "clientAuth: {mode: optional, caSecret: s1}, requiredClients: [java-8u31]",
        "preset: modern, requiredClients: [java-8u31]",
        "chain: {complete: fromCluster}",
    ]);
    let policy = (select(vec!["p1", "p2"]), namespace(), policy).prop_map(|(name, namespace, spec)| {
        one(&format!("{{kind: TlsPolicy, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}"))
    });
    prop_oneof![4 => any_ingress(), 3 => secret, 2 => policy, 2 => service, 2 => slice, 1 => class]
}

pub fn any_step() -> impl Strategy<Value = Step> {
    let scopes = || select(vec!["a.yaml", "b.yaml"]).prop_map(|name| Scope(name.into()));
    let rejected = any::<bool>().prop_map(|broken| {
        let diagnostic = Diagnostic {
            subject: ObjectKey::new(Kind::File, "", "a.yaml"),
            field: "".into(),
            problem: Problem::UnreadableFile { error: "broken".into() },
            effect: Effect::None,
            hosts: vec![],
        };
        if broken { vec![diagnostic] } else { vec![] }
    });
    // Before a certificate begins, between, and after others end.
    let time = select(vec![NOW - 86_400, NOW, NOW + 2 * 86_400, NOW + 100 * 86_400]);
    prop_oneof![
        6 => (scopes(), any_object()).prop_map(|(scope, object)| Change::Upsert(scope, object)),
        3 => (scopes(), any_object()).prop_map(|(scope, object)| Change::Delete(scope, object.key())),
        2 => (scopes(), vec(any_object(), 0..8)).prop_map(|(scope, objects)| Change::Replace(scope, objects)),
        1 => (scopes(), rejected).prop_map(|(scope, diagnostics)| Change::Rejected(scope, diagnostics)),
    ]
    .prop_map(Step::Change)
    .boxed()
    .prop_union(time.prop_map(Step::Compile).boxed())
}

pub(crate) fn any_options() -> impl Strategy<Value = Options> {
    let policies = [0.3, 0.3, 0.3].map(prop::bool::weighted);
    (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.8), policies).prop_map(
        |(default, owned, external, classless, [policy, shadow, floor])| Options {
            default_tls_secret: default.then(|| ("x".to_owned(), "s1".to_owned())),
            default_tls_policy: policy.then(|| ("x".to_owned(), "p1".to_owned())),
            default_shadow_tls_policy: shadow.then(|| ("x".to_owned(), "p2".to_owned())),
            min_tls_version: if floor { Version::Tls13 } else { Version::Tls12 },
            host_ownership: if owned { HostOwnership::Namespace } else { HostOwnership::Merge },
            allow_external_name: external,
            watch_without_class: classless,
            ..Options::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_changes_incremental_equals_from_scratch(
        options in any_options(),
        connects in prop::bool::weighted(0.7),
        steps in vec(any_step(), 1..24),
    ) {
        let world = connects.then(|| Step::Change(Change::Replace(scope("a.yaml"), connected())));
        let start = world.into_iter().chain([Step::Compile(NOW)]);
        check(&options, start.chain(steps).chain([Step::Compile(NOW)]).collect())?;
    }

    #[test]
    fn the_order_of_objects_does_not_matter(options in any_options(), objects in vec(any_object(), 0..12)) {
        let mut seen = std::collections::HashSet::new();
        let mut objects: Vec<Object> = objects.into_iter().filter(|object| seen.insert(object.key())).collect();
        let forward = compile(&options, objects.clone(), at(NOW));
        objects.reverse();
        let backward = compile(&options, objects, at(NOW));
        prop_assert_eq!(forward.snapshot.render(), backward.snapshot.render());
        prop_assert_eq!(forward.diagnostics, backward.diagnostics);
    }
}
