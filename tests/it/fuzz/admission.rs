//! The fuzz target `admission`: any bytes as the body of a review, and objects that somebody has been at.
//!
//! What must hold for each of them: an answer, without a panic and with bounded work; lines that a terminal shows as
//! lines and that the API server passes on; nothing is kept out unless the operator asks for it, and nothing that is
//! deleted ever is.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use handfast::compile::{Change, Compiler, Options, Scope};
use handfast::demo::pki::{Authority, KeyType};
use handfast::source::manifest;
use handfast::webhook::judge::{Outcome, Rules, review};
use handfast::webhook::words::LONGEST;
use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

/// How an input begins.
pub mod mode {
    /// The rest is a body.
    pub const BODY: u8 = 0;
    /// The rest is a template, switches, and what is done to its text.
    pub const OBJECT: u8 = 1;
}

/// What an object is judged as.
pub mod switch {
    /// It takes the place of another.
    pub const UPDATE: u8 = 1;
    /// It goes.
    pub const DELETE: u8 = 2;
    /// What has errors is kept out.
    pub const DENY: u8 = 4;
}

/// What is done to the text of an object: each is followed by a place (two bytes) and one more byte.
pub mod edit {
    /// Puts a word of [`super::WORDS`] there.
    pub const WORD: u8 = 0;
    /// Takes as many bytes away.
    pub const CUT: u8 = 1;
    /// Repeats the 64 bytes before it as often.
    pub const REPEAT: u8 = 2;
    /// Puts the byte there.
    pub const BYTE: u8 = 3;
    /// Puts a word in place of the string around.
    pub const STRING: u8 = 4;
}

/// What people write, and what they should not.
pub const WORDS: [&str; 24] = [
    "*.a.example",
    "a.example",
    "b.example",
    "..",
    "",
    "/%2e%2e/",
    "/p(.*)|/q",
    "\\u0000\\u001b[31m\\u202e",
    "\",\"x\":\"",
    "null",
    "[]",
    "{}",
    "18446744073709551616",
    "-1",
    "handfast.dev/ssl-ciphers",
    "nginx.ingress.kubernetes.io/server-snippet",
    "ALL:!aNULL:@STRENGTH:+RSA:-AES",
    "TLSv1.2 TLSv1.3",
    "tls",
    "policy",
    "clients",
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==",
    "rejected",
    "2025-01-01T00:00:00Z",
];

/// How many objects there are to begin with.
pub const TEMPLATES: usize = 6;

/// 2026-01-01T00:00:00Z.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));

/// Runs the target.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((&mode::OBJECT, rest)) => object(rest),
        Some((_, rest)) => answer(rest, false, false),
        None => answer(b"", false, false),
    }
}

/// An object, edited as the input says.
fn object(data: &[u8]) {
    let [template, switches, edits @ ..] = data else { return };
    let template = usize::from(*template) % TEMPLATES;
    let (kind, before) = &templates()[template];
    let mut text = before.clone().into_bytes();
    // Enough to break anything; more would only be slower.
    for step in edits.chunks_exact(4).take(64) {
        let place = usize::from(u16::from_be_bytes([step[1], step[2]])) % (text.len() + 1);
        edit(&mut text, step[0], place, step[3]);
        text.truncate(64 << 10);
    }
    let text = String::from_utf8_lossy(&text);
    let has = |switch: u8| switches & switch != 0;
    let (operation, object, old) = match (has(switch::DELETE), has(switch::UPDATE)) {
        (true, _) => ("DELETE", "null", &*text),
        (false, true) => ("UPDATE", &*text, before.as_str()),
        (false, false) => ("CREATE", &*text, "null"),
    };
    let (group, version) = match kind.as_str() {
        "Ingress" => ("networking.k8s.io", "v1"),
        "TlsPolicy" => ("handfast.dev", "v1alpha1"),
        _ => ("", "v1"),
    };
    let body = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","operation":"{operation}",
        "kind":{{"group":"{group}","version":"{version}","kind":"{kind}"}},"namespace":"shop","name":"new",
        "object":{object},"oldObject":{old}}}}}"#
    );
    answer(body.as_bytes(), has(switch::DENY), has(switch::DELETE));
}

fn edit(text: &mut Vec<u8>, what: u8, place: usize, value: u8) {
    let word = || WORDS[usize::from(value) % WORDS.len()].bytes();
    match what % 5 {
        edit::WORD => drop(text.splice(place..place, word())),
        edit::CUT => drop(text.drain(place..text.len().min(place + usize::from(value)))),
        edit::REPEAT => {
            let piece = text[place.saturating_sub(64)..place].repeat(usize::from(value));
            text.splice(place..place, piece);
        }
        edit::BYTE => text.insert(place, value),
        _ => {
            let quote = |byte: &u8| *byte == b'"';
            let start = text[..place].iter().rposition(quote).map_or(0, |at| at + 1);
            let end = text[start..].iter().position(quote).map_or(text.len(), |at| start + at);
            text.splice(start..end, word());
        }
    }
}

fn answer(body: &[u8], deny: bool, deletes: bool) {
    let world = world().lock().unwrap_or_else(PoisonError::into_inner);
    let Ok((head, verdict)) = review(body, Rules { deny }, &|_| true, &&*world, NOW) else { return };
    assert!(verdict.built < 20_000, "{} units", verdict.built);
    let denied = verdict.outcome == Outcome::Denied;
    assert_eq!(denied, verdict.answer.denial.is_some());
    assert!(!denied || (deny && !deletes));
    let lines = verdict.answer.warnings.iter().chain(&verdict.answer.denial);
    for line in lines.flat_map(|text| text.split('\n')) {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.chars().count() <= LONGEST + 2, "{line:?}");
        assert!(!line.contains("PRIVATE KEY"), "{line:?}");
    }
    let review: Value = serde_json::from_slice(&verdict.answer.into_review(&head.uid)).unwrap();
    assert_eq!((&review["response"]["uid"], &review["response"]["allowed"]), (&json!(head.uid), &json!(!denied)));
    let warnings = review["response"]["warnings"].as_array().cloned().unwrap_or_default();
    assert!(warnings.iter().map(|line| line.as_str().unwrap().chars().count()).sum::<usize>() < 4_096);
}

/// Objects to begin with, by kind: they fit into the world.
fn templates() -> &'static [(String, String)] {
    static TEMPLATES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let issued = issued();
        let objects = [
            ingress("new", "new.example", "tls", json!({})),
            ingress(
                "new",
                "a.example",
                "other",
                json!({"handfast.dev/tls-policy": "policy", "handfast.dev/ssl-protocols": "TLSv1.2", "nginx.ingress.kubernetes.io/use-regex": "true"}),
            ),
            secret("tls", &issued.0, &issued.1),
            secret("new", &issued.0, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            policy("policy", json!({"preset": "modern", "requiredClients": ["java-8u31"]})),
            policy(
                "new",
                json!({
                    "clientAuth": {"mode": "required", "caSecret": "clients"}, "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES128-SHA"],
                    "groups": ["X25519", "ffdhe2048"], "hsts": {"maxAge": 60}, "findingActions": {"expired": "reject"}, "chain": {"complete": "fromCluster"},
                }),
            ),
        ];
        objects.into_iter().map(|object| (object["kind"].as_str().unwrap().to_owned(), object.to_string())).collect()
    });
    &TEMPLATES
}

/// A certificate with its intermediate, its key, and its root.
fn issued() -> &'static (String, String, String) {
    static ISSUED: LazyLock<(String, String, String)> = LazyLock::new(|| {
        let authority = Authority::new("Fuzz", NOW).unwrap();
        let issued = authority.issue(&["a.example", "*.example"], KeyType::EcdsaP256, NOW, -1..80).unwrap();
        (issued.chain(), issued.key.clone(), issued.root)
    });
    &ISSUED
}

fn ingress(name: &str, host: &str, secret: &str, annotations: Value) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations, "creationTimestamp": "2025-02-01T00:00:00Z"},
        "spec": {
            "ingressClassName": "handfast",
            "tls": [{"hosts": [host], "secretName": secret}],
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    })
}

fn secret(name: &str, tls_crt: &str, tls_key: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "shop"}, "stringData": {"tls.crt": tls_crt, "tls.key": tls_key},
    })
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "handfast.dev/v1alpha1", "kind": "TlsPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// A small world in which the templates have neighbours.
fn world() -> &'static Mutex<Compiler> {
    static WORLD: LazyLock<Mutex<Compiler>> = LazyLock::new(|| {
        let (chain, key, root) = issued();
        let mut clients = secret("clients", "", "");
        clients["stringData"] = json!({"ca.crt": root});
        let documents = [
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "handfast"}, "spec": {"controller": "handfast.dev/ingress-controller"}}),
            ingress("web", "a.example", "tls", json!({})),
            ingress("wild", "*.example", "tls", json!({"handfast.dev/tls-policy": "policy"})),
            secret("tls", chain, key),
            clients,
            policy("policy", json!({"preset": "modern"})),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}),
        ];
        let mut compiler = Compiler::new(Options::default());
        for (index, document) in documents.iter().enumerate() {
            let scope = Scope(format!("{index}.json").into());
            let objects = manifest::parse(&scope, document.to_string().as_bytes()).unwrap().objects;
            assert_eq!(objects.len(), 1, "{document}");
            compiler.apply(Change::Replace(scope, objects));
        }
        compiler.compile(NOW);
        Mutex::new(compiler)
    });
    &WORLD
}
