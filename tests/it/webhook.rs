//! Verdicts on reviews: who is told what, and who is kept out.

use handfast::compile::{Change, Compiler, HostOwnership, Kind, Object, ObjectKey, Options, Scope};
use handfast::tls::Version;
use handfast::webhook::judge::{Ask, Outcome, Rules, Verdict, review};
use serde_json::{Value, json};

use crate::manifests::{NOW, at, objects, trust_anchors};

/// Reviews of one world.
struct World {
    compiler: Compiler,
    rules: Rules,
}

fn scope() -> Scope {
    Scope("test".into())
}

impl World {
    fn new(yaml: &str) -> Self {
        Self::with(yaml, Options { trust_anchors: trust_anchors(), ..Options::default() })
    }

    fn with(yaml: &str, options: Options) -> Self {
        let mut compiler = Compiler::new(options);
        let all = format!("{CLASS}\n---\n{SERVICE}\n---\n{yaml}");
        compiler.apply(Change::Replace(scope(), objects(&all)));
        compiler.compile(at(NOW));
        Self { compiler, rules: Rules::default() }
    }

    fn denying(mut self) -> Self {
        self.rules.deny = true;
        self
    }

    fn ask(&self, operation: &str, before: &str, after: &str) -> Verdict {
        self.send(&body(operation, before, after))
    }

    fn send(&self, body: &Value) -> Verdict {
        let is_watched = |namespace: &str| namespace != "elsewhere";
        let body = body.to_string();
        review(body.as_bytes(), self.rules, &is_watched, &&self.compiler, at(NOW)).unwrap().1
    }

    fn create(&self, after: &str) -> Verdict {
        self.ask("CREATE", "", after)
    }
}

const CLASS: &str =
    "{kind: IngressClass, metadata: {name: handfast}, spec: {controller: handfast.dev/ingress-controller}}";
const SERVICE: &str = "{kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}";

/// The objects as the API server sends them.
fn json_of(yaml: &str) -> Value {
    let Some(object) = objects(yaml).pop() else { return Value::Null };
    match object {
        Object::Ingress(object) => json!(*object),
        Object::Secret(secret) => {
            let mut secret = (*secret.0).clone();
            let texts = secret.string_data.take().unwrap_or_default();
            let data = texts.into_iter().map(|(name, text)| (name, k8s_openapi::ByteString(text.into_bytes())));
            secret.data.get_or_insert_default().extend(data);
            json!(secret)
        }
        Object::TlsPolicy(object) => json!(*object),
        other => panic!("{other:?} is not reviewed"),
    }
}

fn body(operation: &str, before: &str, after: &str) -> Value {
    let (before, after) = (json_of(before), json_of(after));
    let object = if after.is_null() { &before } else { &after };
    let kind = object["kind"].as_str().unwrap();
    let (group, version) = match kind {
        "Ingress" => ("networking.k8s.io", "v1"),
        "TlsPolicy" => ("handfast.dev", "v1alpha1"),
        _ => ("", "v1"),
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": "whatever"},
            "requestKind": {"group": group, "version": version, "kind": kind},
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
            "operation": operation, "userInfo": {"username": "somebody", "groups": ["system:authenticated"]},
            "object": after, "oldObject": before, "dryRun": true, "options": {"kind": "CreateOptions"},
        },
    })
}

fn ingress(name: &str, host: &str, secret: &str) -> String {
    format!(
        "{{kind: Ingress, metadata: {{name: {name}, namespace: shop, creationTimestamp: '2025-01-01T00:00:00Z', annotations: {{}}}}, spec: {{
           ingressClassName: handfast, tls: [{{hosts: ['{host}'], secretName: {secret}}}],
           rules: [{{host: '{host}', http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}}}"
    )
}

fn secret(name: &str, certificate: &str, key: &str) -> String {
    format!(
        "{{kind: Secret, type: kubernetes.io/tls, metadata: {{name: {name}, namespace: shop}},
           stringData: {{tls.crt: '$CERT({certificate})', tls.key: '$KEY({key})'}}}}"
    )
}

/// One healthy host.
fn shop() -> String {
    format!("{}\n---\n{}", ingress("web", "a.example", "tls"), secret("tls", "a.example", "a.example"))
}

#[track_caller]
fn says(verdict: &Verdict, outcome: Outcome, parts: &[&str]) {
    let text = format!("{:?}", verdict.answer);
    assert_eq!(verdict.outcome, outcome, "{text}");
    let lines = verdict.answer.warnings.iter().chain(&verdict.answer.denial);
    assert_eq!(lines.count(), parts.len(), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[test]
fn a_key_that_is_not_the_certificates_is_told_with_what_it_does() {
    let world = World::new(&shop());
    let (good, bad) = (secret("tls", "a.example", "a.example"), secret("tls", "a.example", "other a.example"));
    let verdict = world.ask("UPDATE", &good, &bad);
    says(&verdict, Outcome::Warned, &["handfast: error key-mismatch: Secret shop/tls data[tls.key]: "]);
    assert!(verdict.answer.warnings[0].contains("Effect: last-good (a.example). What to do: "), "{verdict:?}");
    // Nobody knows what was there before this controller came.
    let nobody = World::new(&ingress("web", "a.example", "tls")).create(&bad);
    assert!(nobody.answer.warnings[0].contains("host-refused (a.example)"), "{nobody:?}");
    says(
        &world.denying().ask("UPDATE", &good, &bad),
        Outcome::Denied,
        &["\\n- handfast: error key-mismatch: Secret shop/tls"],
    );
}

#[test]
fn what_is_being_deleted_may_be_anything() {
    let world = World::new(&shop()).denying();
    let (good, bad) = (secret("tls", "a.example", "a.example"), secret("tls", "a.example", "other a.example"));
    let mut ending = body("UPDATE", &good, &bad);
    assert_eq!(world.send(&ending).outcome, Outcome::Denied);
    ending["request"]["object"]["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z".into();
    says(&world.send(&ending), Outcome::Allowed, &[]);
}

#[test]
fn what_was_wrong_before_is_not_told_again_and_what_is_mended_is_not_told_at_all() {
    let bad = secret("tls", "a.example", "other a.example");
    let world = World::new(&format!("{}\n---\n{bad}", ingress("web", "a.example", "tls"))).denying();
    let labelled = bad.replace("name: tls,", "name: tls, labels: {a: b},");
    says(&world.ask("UPDATE", &bad, &labelled), Outcome::Allowed, &[]);
    let with_ca = bad.replace("stringData: {", "stringData: {ca.crt: '$ROOT()', ");
    says(&world.ask("UPDATE", &bad, &with_ca), Outcome::Allowed, &[]);
    says(&world.ask("UPDATE", &bad, &secret("tls", "a.example", "a.example")), Outcome::Allowed, &[]);
    // Another Ingress that asks for it brings the trouble to another host.
    says(&world.create(&ingress("second", "b.example", "tls")), Outcome::Denied, &["host-refused (b.example)"]);
}

#[test]
fn a_secret_that_no_host_uses_is_told_of_only_if_it_is_useless_and_never_kept_out() {
    let world = World::new("").denying();
    let verdict = world.create(&secret("new", "a.example", "other a.example"));
    says(&verdict, Outcome::Warned, &["error key-mismatch: Secret shop/new"]);
    says(&world.create(&secret("new", "a.example expired", "a.example expired")), Outcome::Allowed, &[]);
    let opaque = secret("new", "a.example", "other a.example").replace("type: kubernetes.io/tls, ", "");
    says(&world.create(&opaque), Outcome::Allowed, &[]);
    // Charts make them, for somebody to fill.
    let empty = "{kind: Secret, type: kubernetes.io/tls, metadata: {name: new, namespace: shop}, stringData: {tls.crt: '', tls.key: ''}}";
    says(&world.create(empty), Outcome::Allowed, &[]);
}

#[test]
fn what_does_not_exist_yet_is_a_warning_and_never_a_denial() {
    let world = World::new("").denying();
    let verdict = world.create(&ingress("web", "a.example", "later"));
    says(
        &verdict,
        Outcome::Warned,
        &["error secret-not-found: Ingress shop/web spec.tls[0].secretName: Secret shop/later"],
    );
    let policy = ingress("web", "a.example", "later")
        .replace("annotations: {}", "annotations: {handfast.dev/tls-policy: later}");
    let verdict = world
        .create(&policy.replace("name: web,\n", "name: web,").replace("service: {name: web", "service: {name: later"));
    assert_eq!(verdict.outcome, Outcome::Warned);
    for code in ["service-not-found", "tls-policy-not-found"] {
        assert!(verdict.answer.warnings.iter().any(|line| line.contains(code)), "{verdict:?}");
    }
}

#[test]
fn an_issuers_challenge_is_let_in_without_a_word_while_the_secret_is_missing() {
    let owned =
        Options { host_ownership: HostOwnership::Namespace, trust_anchors: trust_anchors(), ..Options::default() };
    let world = World::with(&ingress("web", "a.example", "later"), owned).denying();
    let solver = "{kind: Ingress, metadata: {name: cm-acme-http-solver-x, namespace: shop, annotations: {
        nginx.ingress.kubernetes.io/whitelist-source-range: '0.0.0.0/0,::/0', kubernetes.io/ingress.class: handfast}},
        spec: {rules: [{host: a.example, http: {paths: [{path: /.well-known/acme-challenge/token, pathType: Exact,
        backend: {service: {name: web, port: {number: 80}}}}]}}]}}";
    says(&world.create(solver), Outcome::Allowed, &[]);
    // The certificate arrives.
    says(&world.create(&secret("later", "a.example", "a.example")), Outcome::Allowed, &[]);
}

#[test]
fn what_is_none_of_our_business_is_let_in_without_a_word() {
    let world = World::new(&shop()).denying();
    let other =
        ingress("web2", "a.example", "missing").replace("ingressClassName: handfast", "ingressClassName: nginx");
    let other = format!(
        "{{kind: IngressClass, metadata: {{name: nginx}}, spec: {{controller: k8s.io/ingress-nginx}}}}\n---\n{other}"
    );
    let with_class = World::new(other.split("---").next().unwrap()).denying();
    says(&with_class.create(other.split("---").nth(1).unwrap()), Outcome::Allowed, &[]);

    let bad = secret("tls", "a.example", "other a.example");
    let mut elsewhere = body("CREATE", "", &bad);
    elsewhere["request"]["namespace"] = "elsewhere".into();
    says(&world.send(&elsewhere), Outcome::Allowed, &[]);

    let mut status = body("UPDATE", &ingress("web", "a.example", "tls"), &ingress("web", "a.example", "none"));
    status["request"]["subResource"] = "status".into();
    says(&world.send(&status), Outcome::Allowed, &[]);

    let mut pod = body("CREATE", "", &bad);
    pod["request"]["kind"]["kind"] = "Pod".into();
    says(&world.send(&pod), Outcome::Allowed, &[]);
}

#[test]
fn who_still_uses_what_is_deleted_is_said_and_it_goes_all_the_same() {
    let policy = "{kind: TlsPolicy, metadata: {name: strict, namespace: shop}, spec: {preset: modern, clientAuth: {mode: required, caSecret: clients}}}";
    let clients = "{kind: Secret, metadata: {name: clients, namespace: shop}, stringData: {ca.crt: '$CLIENTCA(one)'}}";
    let strict =
        ingress("web", "a.example", "tls").replace("annotations: {}", "annotations: {handfast.dev/tls-policy: strict}");
    let tls = secret("tls", "a.example", "a.example");
    let world = World::new(&format!("{strict}\n---\n{tls}\n---\n{policy}\n---\n{clients}")).denying();
    let gone = world.ask("DELETE", &tls, "");
    says(
        &gone,
        Outcome::Warned,
        &["warning still-used: Secret shop/tls is still used by host a.example", "secret-not-found"],
    );
    let gone = world.ask("DELETE", policy, "");
    says(&gone, Outcome::Warned, &["TlsPolicy shop/strict is still used by host a.example", "tls-policy-not-found"]);
    let gone = world.ask("DELETE", clients, "");
    assert!(gone.answer.warnings[0].contains("Secret shop/clients is still used by TlsPolicy shop/strict"), "{gone:?}");
    says(&world.ask("DELETE", &secret("idle", "a.example", "a.example"), ""), Outcome::Allowed, &[]);
}

#[test]
fn a_policy_is_judged_by_itself_and_with_the_hosts_that_ask_for_it() {
    let policy = |spec: &str| format!("{{kind: TlsPolicy, metadata: {{name: p, namespace: shop}}, spec: {{{spec}}}}}");
    let world = World::new(&shop()).denying();
    says(&world.create(&policy("preset: modern")), Outcome::Allowed, &[]);
    says(
        &world.create(&policy("groups: [nonsense]")),
        Outcome::Denied,
        &["bad-tls-policy: TlsPolicy shop/p spec.groups"],
    );
    let asking =
        ingress("web", "a.example", "tls").replace("annotations: {}", "annotations: {handfast.dev/tls-policy: p}");
    let tls = secret("tls", "a.example", "a.example");
    let world = World::new(&format!("{asking}\n---\n{tls}\n---\n{}", policy("preset: intermediate")));
    let locks_out = policy("preset: modern, requiredClients: [java-8u31]");
    let verdict = world.ask("UPDATE", &policy("preset: intermediate"), &locks_out);
    says(
        &verdict,
        Outcome::Warned,
        &["error required-client-locked-out: TlsPolicy shop/p spec: The required client java-8u31"],
    );
    assert!(verdict.answer.warnings[0].contains("policy-held (a.example)"), "{verdict:?}");
}

#[test]
fn versions_below_the_operators_floor_are_told_and_let_in() {
    let floor = Options { trust_anchors: trust_anchors(), min_tls_version: Version::Tls13, ..Options::default() };
    let world = World::with(&shop(), floor).denying();
    let policy = "{kind: TlsPolicy, metadata: {name: old, namespace: shop}, spec: {minVersion: TLSv1.2}}";
    let line = "handfast: warning below-min-tls-version: TlsPolicy shop/old spec.minVersion: TLSv1.2 is not served";
    says(&world.create(policy), Outcome::Warned, &[line]);
    let before = ingress("web", "a.example", "tls");
    let after = before.replace("annotations: {}", "annotations: {handfast.dev/ssl-protocols: TLSv1.2 TLSv1.3}");
    let line = "below-min-tls-version: Ingress shop/web metadata.annotations[handfast.dev/ssl-protocols]: ";
    says(&world.ask("UPDATE", &before, &after), Outcome::Warned, &[line]);
}

#[test]
fn cert_manager_may_write_its_temporary_certificate() {
    let good = secret("tls", "shop.example.com", "shop.example.com");
    let world = World::new(&format!("{}\n---\n{good}", ingress("web", "shop.example.com", "tls"))).denying();
    let temporary = good.replace("$CERT(shop.example.com)", "$CRT(temporary)");
    let temporary = temporary.replace("$KEY(shop.example.com)", "$KEYOF(temporary)");
    let verdict = world.ask("UPDATE", &good, &temporary);
    says(&verdict, Outcome::Warned, &["handfast: error temporary-certificate: Secret shop/tls data[tls.crt]: "]);
}

#[test]
fn many_problems_are_cut_to_what_is_passed_on_with_the_worst_first() {
    let rules: Vec<String> = (0..500)
        .map(|index| format!("{{host: 'bad_{index}', http: {{paths: []}}}}"))
        .chain([String::from("{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}")])
        .collect();
    let yaml = format!(
        "{{kind: Ingress, metadata: {{name: web, namespace: shop, annotations: {{handfast.dev/nonsense: x}}}}, spec: {{ingressClassName: handfast, rules: [{}]}}}}",
        rules.join(", ")
    );
    let verdict = World::new("").create(&yaml);
    assert_eq!((verdict.outcome, verdict.answer.warnings.len()), (Outcome::Warned, 501));
    assert!(verdict.answer.warnings[500].contains("warning unknown-annotation"), "{:?}", verdict.answer.warnings[500]);
    let review: Value = serde_json::from_slice(&verdict.answer.into_review("u")).unwrap();
    let lines: Vec<&str> =
        review["response"]["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(lines.iter().map(|line| line.chars().count()).sum::<usize>() < 4_096);
    assert!(lines[0].contains("error bad-host") && lines.last().unwrap().contains("more"), "{lines:?}");
}

#[test]
fn a_secret_with_thousands_of_certificates_is_judged_within_bounds() {
    let world = World::new(&shop());
    let one = secret("tls", "a.example", "a.example");
    let mut huge = body("UPDATE", &one, &one);
    let chain = objects(&one).pop().unwrap();
    let Object::Secret(chain) = chain else { panic!() };
    let texts = chain.0.string_data.clone().unwrap();
    let mut long = texts["tls.crt"].clone();
    while long.len() < 1 << 20 {
        long.push_str(&texts["tls.crt"]);
    }
    huge["request"]["object"]["data"]["tls.crt"] =
        serde_json::to_value(k8s_openapi::ByteString(long.into_bytes())).unwrap();
    let verdict = world.send(&huge);
    assert_eq!(verdict.outcome, Outcome::Warned, "{verdict:?}");
    // One host and its parts, twice.
    assert!(verdict.built <= 8, "{}", verdict.built);
    let lines = verdict.answer.warnings.len();
    assert!(lines > 100 && verdict.answer.warnings[0].contains("Secret shop/tls data[tls.crt]"), "{lines}");
}

#[test]
fn what_cannot_be_judged_is_let_in_and_says_so() {
    struct Nobody;
    impl Ask for Nobody {
        fn ask<T: Send + 'static>(&self, _: impl FnOnce(&Compiler) -> T + Send + 'static) -> Option<T> {
            None
        }
    }
    let body = body("CREATE", "", &secret("tls", "a.example", "other a.example")).to_string();
    let deny = Rules { deny: true };
    let (_, verdict) = review(body.as_bytes(), deny, &|_| true, &Nobody, at(NOW)).unwrap();
    says(&verdict, Outcome::Failed, &["handfast: not checked: the controller was busy"]);

    let world = World::new(&shop()).denying();
    let mut wrong = serde_json::from_str::<Value>(&body).unwrap();
    wrong["request"]["object"]["data"] = json!({"tls.key": "%%% a secret %%%"});
    let verdict = world.send(&wrong);
    says(&verdict, Outcome::Failed, &["not checked: the object does not match the schema of its kind"]);
    assert!(!format!("{verdict:?}").contains("a secret"));
    wrong["request"]["object"] = Value::Null;
    says(&world.send(&wrong), Outcome::Failed, &["not checked: the review has no object"]);
}

#[test]
fn an_object_without_a_time_or_a_name_is_the_youngest_of_all() {
    let world = World::new(&shop());
    let mut young = body("CREATE", "", &ingress("unnamed", "a.example", "tls"));
    let object = &mut young["request"]["object"];
    object["metadata"] = json!({"generateName": "x-", "namespace": "shop"});
    young["request"]["name"] = "".into();
    let verdict = world.send(&young);
    says(&verdict, Outcome::Warned, &["path / already belongs to Ingress shop/web"]);
}

#[test]
fn questions_between_two_compilations_see_all_that_was_applied() {
    let mut world = World::new(&shop());
    world.compiler.apply(Change::Delete(scope(), ObjectKey::new(Kind::Secret, "shop", "tls")));
    world.compiler.compile(at(NOW));
    let verdict = world.create(&ingress("second", "b.example", "tls"));
    assert!(verdict.answer.warnings.iter().any(|line| line.contains("secret-not-found")), "{verdict:?}");
}
