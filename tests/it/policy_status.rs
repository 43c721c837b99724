//! What is said about a TlsPolicy: its conditions, by the compiler and by `handfast check`.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use handfast::compile::{Change, Compiler, Options, PolicyStatus, Scope, event_reason};

use crate::manifests::{NOW, at, objects};

const POLICY: &str =
    "apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {name: strict, namespace: default}\n";

fn ingress(host: &str, secret: &str) -> String {
    format!(
        "kind: Ingress\nmetadata: {{name: {secret}, annotations: {{handfast.dev/tls-policy: strict}}}}\n\
         spec: {{tls: [{{hosts: [{host}], secretName: {secret}}}], rules: [{{host: {host}}}]}}\n---\n\
         kind: Secret\nmetadata: {{name: {secret}}}\nstringData:\n"
    )
}

/// Two hosts, with an ECDSA and an RSA key, under one policy that was another one before.
fn status(before: &str, spec: &str) -> PolicyStatus {
    let hosts = ingress("ecdsa.example", "one")
        + "  tls.crt: $CERT(ecdsa.example)\n  tls.key: $KEY(ecdsa.example)\n---\n"
        + &ingress("rsa.example", "two")
        + "  tls.crt: $CERT(rsa.example rsa)\n  tls.key: $KEY(rsa.example rsa)\n---\n";
    let mut compiler = Compiler::new(Options { watch_without_class: true, ..Options::default() });
    let mut last = None;
    for spec in [before, spec] {
        let text = format!("{hosts}{POLICY}spec: {{{spec}}}");
        compiler.apply(Change::Replace(Scope("a.yaml".into()), objects(&text)));
        last = compiler.compile(at(NOW)).policies.values().next().cloned();
    }
    Arc::unwrap_or_clone(last.unwrap())
}

fn words(status: &PolicyStatus) -> Vec<String> {
    let conditions = status.conditions();
    conditions.iter().map(|one| format!("{} {} {}: {}", one.kind, one.status, one.reason, one.message)).collect()
}

#[test]
fn a_policy_that_is_in_force_everywhere_is_accepted_and_programmed() {
    assert_eq!(
        words(&status("", "minVersion: TLSv1.3")),
        ["Accepted True Accepted: The policy is valid.", "Programmed True Programmed: The policy applies to 2 hosts."]
    );
}

#[test]
fn a_policy_that_is_wrong_in_itself_is_neither() {
    let [accepted, programmed] = status("", "cipherSuites: [AES128-SHA]").conditions();
    assert_eq!((accepted.status, accepted.reason.as_str()), ("False", "BadTlsPolicy"));
    assert!(accepted.message.contains("AES128-SHA: key exchange by RSA"), "{}", accepted.message);
    assert_eq!((programmed.status, programmed.reason.as_str()), ("False", "PolicyHeld"));
}

#[test]
fn a_policy_that_one_host_cannot_have_is_accepted_and_says_which() {
    let only_rsa = "maxVersion: TLSv1.2, cipherSuites: [ECDHE+aRSA+AESGCM]";
    assert_eq!(
        words(&status("", only_rsa)),
        [
            "Accepted True Accepted: The policy is valid.",
            "Programmed False PolicyHeld: 1 of the 2 hosts that name this policy use another one: ecdsa.example.",
        ]
    );
}

#[test]
fn codes_and_reasons_are_the_same_words() {
    assert_eq!(event_reason("key-mismatch"), "KeyMismatch");
    assert_eq!(event_reason("san-1"), "San1");
    assert_eq!(event_reason(""), "");
}

#[test]
fn check_shows_the_conditions_of_each_policy() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), format!("{POLICY}spec: {{cipherSuites: [AES128-SHA]}}")).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_handfast"));
    let output = check.args(["check", "--output", "json"]).arg(directory.path()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &b""[..]));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let policy = &report["objects"][0];
    assert_eq!(policy["subject"], "TlsPolicy default/strict");
    assert_eq!(policy["conditions"][0]["type"], "Accepted");
    assert_eq!(policy["conditions"][0]["reason"], "BadTlsPolicy");
    assert_eq!(policy["findings"][0]["code"], "bad-tls-policy");
}

/// The way out of another controller: both Ingresses stand side by side, and only ours counts.
#[test]
fn check_judges_ingresses_of_every_class_and_ours_wins() {
    let ingress = |name: &str, class: &str, host: &str, secret: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\nspec:\n  ingressClassName: {class}\n  \
             tls: [{{hosts: [{host}], secretName: {secret}}}]\n  rules: [{{host: {host}, http: {{paths: [\
             {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]\n---\n"
        )
    };
    let text = ingress("a-old", "nginx", "both.example", "old-tls")
        + &ingress("new", "handfast", "both.example", "new-tls")
        + &ingress("only-old", "nginx", "old.example", "missing-tls");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_handfast"));
    let output = check.args(["check", "--output", "json"]).arg(directory.path()).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = |host: usize| {
        let findings = report["hosts"][host]["findings"].as_array().unwrap();
        let word = |finding: &serde_json::Value| {
            format!("{} {}", finding["code"].as_str().unwrap(), finding["subject"].as_str().unwrap())
        };
        findings.iter().map(word).collect::<Vec<_>>()
    };
    let has = |host: usize, code: &str, message: &str| {
        let findings = report["hosts"][host]["findings"].as_array().unwrap();
        findings.iter().any(|one| one["code"] == code && one["message"].as_str().unwrap().contains(message))
    };
    assert_eq!(report["hosts"][0]["host"], "both.example");
    assert!(has(0, "secret-not-found", "new-tls") && !has(0, "secret-not-found", "old-tls"), "{:?}", found(0));
    assert!(
        !found(0).iter().any(|one| one.starts_with("path-conflict") || one.starts_with("conflicting")),
        "{:?}",
        found(0)
    );
    assert!(has(1, "secret-not-found", "missing-tls"), "{:?}", found(1));
}
