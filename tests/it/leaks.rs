//! No output holds any of a private key, however broken the key and wherever it stands.
//!
//! Keys are put into every field that messages are about, in every way in which people spoil them, and all outputs are
//! searched for six bytes in a row of what is secret in them: raw, in hexadecimal, in decimal, and in base64 at any
//! alignment, encoded once or twice. Public parts may be shown.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use handfast::api::annotations::{HANDFAST, NGINX, OWN, TABLE};
use handfast::check;
use handfast::compile::{Change, Compiler, Options, Scope};
use handfast::demo::pki::{Issued, KeyType, generate};
use handfast::source::manifest;
use handfast::status::events;
use handfast::tls::chain::{Chain, Credential, TrustAnchors};
use handfast::webhook::judge::{Rules, review};
use serde_json::{Value, json};

use crate::binary::{Server, host, issue, service, soak, wait_until};
use crate::manifests::{NOW, at};
use crate::pki::{OpenSsl, leaf, root};

/// What is secret in keys, as everything that it may look like.
#[derive(Default)]
struct Detector {
    /// Runs of bytes.
    raw: HashSet<Vec<u8>>,
    /// Runs of hexadecimal digits, in small letters.
    hexadecimal: HashSet<Vec<u8>>,
    /// Runs of base64.
    once: HashSet<Vec<u8>>,
    /// Runs of base64 of base64.
    twice: HashSet<Vec<u8>>,
    /// Base64 in small letters, as host names are compared: longer, since a letter says less.
    small: HashSet<Vec<u8>>,
}

const RUN: usize = 6;
const HEXADECIMAL: usize = 2 * RUN;
const ONCE: usize = 4 * RUN / 3;
const TWICE: usize = 16 * RUN / 9;
const SMALL: usize = 11;

fn runs(text: &[u8], length: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    text.windows(length).map(<[u8]>::to_vec)
}

impl Detector {
    fn add(&mut self, secret: &[u8]) {
        self.raw.extend(runs(secret, RUN));
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.hexadecimal.extend(runs(hexadecimal.as_bytes(), HEXADECIMAL));
        // Without the last letter where it depends on the byte behind.
        let encode = |engine: &GeneralPurpose, part: &[u8]| {
            let mut text = engine.encode(part);
            text.truncate(part.len() * 8 / 6);
            text
        };
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            for start in 0..3 {
                let once = encode(engine, &secret[start..]);
                self.once.extend(runs(once.as_bytes(), ONCE));
                self.small.extend(runs(once.to_ascii_lowercase().as_bytes(), SMALL));
                for start in 0..3 {
                    let twice = encode(engine, &once.as_bytes()[start..]);
                    self.twice.extend(runs(twice.as_bytes(), TWICE));
                }
            }
        }
    }

    /// The first run that stands in an output.
    fn find(&self, output: &str) -> Option<String> {
        // However lines are broken, and with the bytes between the letters of UTF-16 taken away.
        let plain = output.replace("\\n", "").replace("\\u{0}", "").replace("\\u0000", "");
        let joined: Vec<u8> = plain.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != 0).collect();
        let small = joined.to_ascii_lowercase();
        // As `Debug` writes bytes.
        let numbers: Vec<u8> = joined
            .split(|byte| b",[]".contains(byte))
            .map(|part| str::from_utf8(part).ok()?.parse().ok())
            .map(|number: Option<u8>| number.unwrap_or_default())
            .collect();
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
        let in_base64 = |text: &[u8], length: usize, runs: &HashSet<Vec<u8>>| {
            let parts = text.split(|byte| !is_digit(byte));
            parts.flat_map(|part| part.windows(length)).find(|window| runs.contains(*window)).map(<[u8]>::to_vec)
        };
        let in_bytes = |text: &[u8]| text.windows(RUN).find(|window| self.raw.contains(*window)).map(<[u8]>::to_vec);
        let found = in_bytes(output.as_bytes())
            .or_else(|| in_bytes(&numbers))
            .or_else(|| in_base64(&small, HEXADECIMAL, &self.hexadecimal))
            .or_else(|| in_base64(&joined, ONCE, &self.once))
            .or_else(|| in_base64(&joined, TWICE, &self.twice))
            .or_else(|| in_base64(&small, SMALL, &self.small))?;
        Some(String::from_utf8_lossy(&found).into_owned())
    }

    #[track_caller]
    fn clean(&self, output: &str, what: &str) {
        if let Some(found) = self.find(output) {
            panic!("{what}: {found:?} is of a private key: {output}");
        }
    }
}

/// A key in one of its forms.
struct Key {
    name: &'static str,
    pem: String,
}

struct Keys {
    keys: Vec<Key>,
    detector: Detector,
}

/// The contents of the elements of a SEQUENCE.
fn elements(der: &[u8]) -> Vec<&[u8]> {
    let content = |der: &[u8]| -> (usize, usize) {
        match der[1] {
            short @ ..0x80 => (2, usize::from(short)),
            long => {
                let count = usize::from(long & 0x7f);
                (2 + count, der[2..2 + count].iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)))
            }
        }
    };
    let (start, length) = content(der);
    let mut rest = &der[start..start + length];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (start, length) = content(rest);
        found.push(&rest[start..start + length]);
        rest = &rest[start + length..];
    }
    found
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut keys = Vec::new();
    let mut detector = Detector::default();
    let openssl = OpenSsl::new();
    for (name, traditional, key_type) in [
        ("P-256, PKCS#8", "P-256, SEC1", KeyType::EcdsaP256),
        ("RSA, PKCS#8", "RSA, PKCS#1", KeyType::Rsa2048),
        ("Ed25519, PKCS#8", "", KeyType::Ed25519),
    ] {
        let key = generate(key_type).unwrap();
        let der = key.serialize_der();
        // PKCS#8: version, algorithm, and the key of the algorithm.
        let inner = elements(&der)[2];
        match key_type {
            KeyType::Ed25519 => detector.add(&inner[2..]),
            KeyType::EcdsaP256 | KeyType::EcdsaP384 => detector.add(elements(inner)[1]),
            // Behind the modulus and the public exponent: d, p, q, and what follows from them.
            KeyType::Rsa2048 => elements(inner)[3..].iter().for_each(|number| detector.add(number)),
        }
        let pem = key.serialize_pem();
        if !traditional.is_empty() {
            std::fs::write(openssl.path("key.pem"), &pem).unwrap();
            openssl.run("pkey -in key.pem -traditional -out traditional.pem");
            keys.push(Key { name: traditional, pem: openssl.read("traditional.pem") });
        }
        keys.push(Key { name, pem });
    }
    Keys { keys, detector }
});

/// The base64 text of a PEM block.
fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

/// A key in all the ways in which it may be spoilt.
fn forms(pem: &str) -> Vec<(String, Vec<u8>)> {
    let label = pem.lines().next().unwrap().trim_matches('-').trim_start_matches("BEGIN ").to_owned();
    let body = body(pem);
    let der = STANDARD.decode(&body).unwrap();
    let certificate = &LazyLock::force(&CERTIFICATE).pem;
    let relabelled = |with: &str| pem.replace(&label, with);
    let hexadecimal: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms: Vec<(String, Vec<u8>)> = [
        ("as it is", pem.to_owned()),
        ("spaces for line breaks", pem.replace('\n', " ")),
        ("no line breaks", pem.replace('\n', "")),
        ("tabs", pem.replace('\n', "\t")),
        ("carriage returns", pem.replace('\n', "\r")),
        ("literal line breaks", pem.replace('\n', "\\n")),
        ("no-break spaces", pem.replace(' ', "\u{a0}")),
        ("no-break spaces at the ends of lines", pem.replace('\n', "\u{a0}\n")),
        ("line separators", pem.replace('\n', "\u{2028}")),
        ("byte order mark", format!("\u{feff}{pem}")),
        ("dashes", pem.replace("-----", "\u{2014}\u{2014}-")),
        ("four hyphens", pem.replace("-----", "----")),
        ("no hyphens", pem.replace('-', "")),
        ("hyphens at the front only", pem.replace("-----\n", "\n")),
        ("small letters", relabelled(&label.to_lowercase())),
        ("label of a certificate", relabelled("CERTIFICATE")),
        ("label of a list", relabelled("X509 CRL")),
        ("label of a request", relabelled("CERTIFICATE REQUEST")),
        ("label of another form", relabelled("RSA PRIVATE KEY")),
        ("unknown label", relabelled("SOMETHING")),
        ("other label at the end", pem.replace(&format!("END {label}"), "END CERTIFICATE")),
        ("key as label", format!("-----BEGIN {body}-----\nAAEB\n-----END {body}-----\n")),
        ("key behind the label", format!("-----BEGIN {label} {body}\n-----END {label}-----\n")),
        ("key as header", format!("-----BEGIN {label}-----\nProc-Type: {body}\n\n-----END {label}-----\n")),
        ("no BEGIN line", pem.split_once('\n').unwrap().1.to_owned()),
        ("no END line", pem[..pem.rfind("-----END").unwrap()].to_owned()),
        ("no lines at all", body.clone()),
        ("in quotes", format!("\"{pem}\"")),
        ("as JSON text", json!(pem).to_string()),
        ("in JSON", json!({"privateKey": pem, "d": body}).to_string()),
        ("in YAML", format!("tls.key: |\n  {}", pem.replace('\n', "\n  "))),
        ("indented", format!("    {}", pem.replace('\n', "\n    "))),
        ("commented", format!("# {}", pem.replace('\n', "\n# "))),
        ("base64 twice", STANDARD.encode(pem)),
        ("base64 three times", STANDARD.encode(STANDARD.encode(pem))),
        ("URL-safe base64", pem.replace('+', "-").replace('/', "_")),
        ("hexadecimal", hexadecimal),
        ("behind a certificate without a line break", format!("{}{pem}", certificate.trim_end())),
        ("before a certificate without a line break", format!("{}{certificate}", pem.trim_end())),
        ("behind a certificate", format!("{certificate}{pem}")),
        ("twice", format!("{pem}{pem}")),
        ("a strange character", pem.replacen("M", "\u{fc}", 1)),
        ("a wrong character", pem.replacen("A", "!", 1)),
    ]
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .into();
    let units = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    forms.push(("UTF-16, little end first".into(), units(pem, u16::to_le_bytes)));
    forms.push(("UTF-16, big end first".into(), units(&format!("\u{feff}{pem}"), u16::to_be_bytes)));
    forms.push(("DER".into(), der.clone()));
    // Cut off, shifted, and rotated.
    for part in 1..12 {
        let [in_text, in_der] = [pem.len(), der.len()].map(|length| part * length / 12);
        forms.push((format!("cut at {in_text}"), pem.as_bytes()[..in_text].to_vec()));
        forms.push((format!("from {in_text} on"), pem.as_bytes()[in_text..].to_vec()));
        forms.push((format!("DER cut at {in_der}"), der[..in_der].to_vec()));
        forms.push((format!("DER from {in_der} on"), der[in_der..].to_vec()));
        let shifted = [&der[..part], &der[part + 1..]].concat();
        let label = if part % 2 == 0 { "CERTIFICATE" } else { label.as_str() };
        let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(shifted));
        forms.push((format!("without byte {part}, as {label}"), text.into_bytes()));
    }
    forms
}

static CERTIFICATE: LazyLock<crate::pki::Leaf> = LazyLock::new(|| leaf(&root("Root")));

const CLASS: &str = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: handfast}, spec: {controller: handfast.dev/ingress-controller}}";

fn ingress(name: &str) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "annotations": {"handfast.dev/tls-policy": "strict"}},
        "spec": {
            "ingressClassName": "handfast",
            "tls": [{"hosts": ["shop.example"], "secretName": "tls"}],
            "rules": [{"host": "shop.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    })
}

fn secret(name: &str, data: &[(&str, &[u8])]) -> Value {
    let data: BTreeMap<&str, String> = data.iter().map(|(name, value)| (*name, STANDARD.encode(value))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "shop"}, "data": data,
    })
}

fn policy() -> Value {
    json!({
        "apiVersion": "handfast.dev/v1alpha1", "kind": "TlsPolicy", "metadata": {"name": "strict", "namespace": "shop"},
        "spec": {"clientAuth": {"mode": "required", "caSecret": "clients"}},
    })
}

/// Forms that are tried in all places; the others only in Secrets, but for `make soak`.
const ELSEWHERE: [&str; 9] = [
    "as it is",
    "spaces for line breaks",
    "no line breaks",
    "literal line breaks",
    "no lines at all",
    "in JSON",
    "base64 twice",
    "hexadecimal",
    "UTF-16, little end first",
];

/// How many worlds have a key in a Secret; they come first.
const SECRETS: usize = 6;

/// A world with a key where none belongs: the documents, the first of which is at fault.
fn worlds(text: &[u8]) -> Vec<(String, Vec<Value>)> {
    let Leafs { chain, key, ca, crl } = &*LEAFS;
    let (chain, key, ca, crl) = (chain.as_bytes(), key.as_bytes(), ca.as_bytes(), crl.as_bytes());
    let tls =
        |tls_crt, tls_key, ca_crt| secret("tls", &[("tls.crt", tls_crt), ("tls.key", tls_key), ("ca.crt", ca_crt)]);
    let clients = |ca_crt, ca_crl| secret("clients", &[("ca.crt", ca_crt), ("ca.crl", ca_crl)]);
    let others = |first: Value| {
        let kind = first["kind"].clone();
        let name = first["metadata"]["name"].clone();
        let all = [ingress("web"), tls(chain, key, ca), clients(ca, crl), policy()];
        let is_other = |other: &Value| (&other["kind"], &other["metadata"]["name"]) != (&kind, &name);
        std::iter::once(first).chain(all.into_iter().filter(is_other)).collect::<Vec<_>>()
    };
    let mut worlds = vec![
        ("tls.crt".to_owned(), others(tls(text, key, ca))),
        ("tls.key".to_owned(), others(tls(chain, text, ca))),
        ("ca.crt".to_owned(), others(tls(chain, key, text))),
        ("both".to_owned(), others(tls(text, text, text))),
        ("ca.crt of clients".to_owned(), others(clients(text, crl))),
        ("ca.crl of clients".to_owned(), others(clients(ca, text))),
    ];
    let Ok(text) = std::str::from_utf8(text) else { return worlds };
    let mut with = |what: &str, document: &Value, pointer: &str, value: Value| {
        let mut document = document.clone();
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        worlds.push((format!("{what} {pointer}"), others(document)));
    };
    let web = ingress("web");
    for pointer in [
        "/spec/tls",
        "/spec/tls/0/hosts",
        "/spec/tls/0/hosts/0",
        "/spec/tls/0/secretName",
        "/spec/ingressClassName",
        "/spec/rules/0/host",
        "/spec/rules/0/http/paths/0/path",
        "/spec/rules/0/http/paths/0/pathType",
        "/spec/rules/0/http/paths/0/backend/service/name",
        "/spec/rules/0/http/paths/0/backend/service/port",
        "/spec/rules/0/http/paths/0/backend",
        "/spec",
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/annotations",
        "/apiVersion",
        "/kind",
    ] {
        with("Ingress", &web, pointer, json!(text));
    }
    with("Ingress", &web, "/spec/rules/0/http/paths/0/path", json!(format!("/{text}")));
    with("Ingress", &web, "/spec/rules/0/http/paths/0/backend/service/port", json!({"name": text}));
    with("Ingress", &web, "/spec", json!({text: 1}));
    let names = TABLE
        .iter()
        .map(|row| format!("{NGINX}{}", row.name))
        .chain(OWN.iter().map(|row| format!("{HANDFAST}{}", row.name)));
    let all: BTreeMap<String, &str> = names.map(|name| (name, text)).collect();
    with("Ingress", &web, "/metadata/annotations", json!(all));
    let without = |prefix: &str| all.iter().filter(|(name, _)| !name.starts_with(prefix)).collect::<BTreeMap<_, _>>();
    with("Ingress without canaries", &web, "/metadata/annotations", json!(without(&format!("{NGINX}canary"))));
    for name in
        ["ssl-ciphers", "ssl-protocols", "ssl-ecdh-curve", "tls-policy", "shadow-tls-policy", "additional-tls-secrets"]
    {
        with("Ingress", &web, "/metadata/annotations", json!({format!("{HANDFAST}{name}"): text}));
    }
    with(
        "Ingress",
        &web,
        "/metadata/annotations",
        json!({format!("{HANDFAST}ssl-ciphers"): format!("ECDHE+AESGCM:{text}")}),
    );
    with("Ingress", &web, "/metadata/annotations", json!({format!("{HANDFAST}{text}"): "x"}));
    let strict = policy();
    for spec in [
        json!(text),
        json!({"minVersion": text}),
        json!({"cipherSuites": [text]}),
        json!({"cipherSuites": ["ECDHE+AESGCM", text]}),
        json!({"groups": [text]}),
        json!({"groups": ["x25519", text]}),
        json!({"alpn": [text]}),
        json!({"requiredClients": [text]}),
        json!({"findingActions": {text: "reject"}}),
        json!({"findingActions": {"expired": text}}),
        json!({"clientAuth": {"mode": "required", "caSecret": text}}),
        json!({"clientAuth": text}),
        json!({text: text}),
    ] {
        with("TlsPolicy", &strict, "/spec", spec);
    }
    let good = tls(chain, key, ca);
    with("Secret", &good, "/data", json!(text));
    with("Secret", &good, "/data/tls.key", json!(text));
    with("Secret", &good, "/data/tls.key", json!({text: text}));
    with("Secret", &good, "/type", json!(text));
    with("Secret", &good, "/metadata/name", json!(text));
    with("Secret", &good, "/metadata", json!({"name": "tls", "namespace": "shop", text: text}));
    with("Secret", &good, "/metadata", json!(text));
    worlds
}

struct Leafs {
    chain: String,
    key: String,
    ca: String,
    crl: String,
}

static LEAFS: LazyLock<Leafs> = LazyLock::new(|| {
    let root = root("Root");
    let leaf = leaf(&root);
    Leafs { chain: leaf.pem, key: leaf.key, ca: root.pem(), crl: crate::pki::crl(&root, at(NOW), -2..30, &[1]) }
});

/// Everything that is said about some documents, but for what only a process says.
fn said(documents: &[Value]) -> String {
    let texts: Vec<String> = documents.iter().map(Value::to_string).collect();
    let text = format!("{CLASS}\n---\n{}", texts.join("\n---\n"));
    let scope = Scope("all.yaml".into());
    let mut compiler = Compiler::new(Options::default());
    let mut said = String::new();
    let mut rejected = Vec::new();
    match manifest::parse(&scope, text.as_bytes()) {
        Ok(manifest) => {
            rejected.extend(manifest.diagnostics);
            compiler.apply(Change::Replace(scope.clone(), manifest.objects));
        }
        Err(diagnostic) => rejected.push(*diagnostic),
    }
    // What a webhook is asked before there is anything.
    let nothing = Compiler::new(Options::default());
    let first = &documents[0];
    let (group, version) = match first["kind"].as_str() {
        Some("Ingress") => ("networking.k8s.io", "v1"),
        Some("TlsPolicy") => ("handfast.dev", "v1alpha1"),
        _ => ("", "v1"),
    };
    compiler.apply(Change::Rejected(scope, rejected));
    let compiled = compiler.compile(at(NOW));
    let request = json!({
        "uid": "1", "kind": {"group": group, "version": version, "kind": first["kind"]}, "operation": "CREATE",
        "name": first["metadata"]["name"], "namespace": "shop", "object": first,
    });
    let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string();
    for (compiler, deny) in [(&compiler, false), (&nothing, true)] {
        match review(body.as_bytes(), Rules { deny }, &|_| true, &compiler, at(NOW)) {
            Ok((_, verdict)) => said += &String::from_utf8(verdict.answer.into_review("1")).unwrap(),
            Err(error) => said += &error.to_string(),
        }
    }
    let report = check::report(&check::Input::new(&compiled.snapshot, &compiled.diagnostics, at(NOW)));
    said += &report.table();
    said += &serde_json::to_string_pretty(&report).unwrap();
    said += &check::sarif::log(&report, &BTreeMap::new()).to_string();
    said += &compiled.snapshot.render();
    for diagnostic in compiled.diagnostics.iter() {
        said += &format!("{diagnostic}\n{}\n", events::note(diagnostic));
    }
    said
}

#[test]
fn the_detector_finds_six_bytes_however_they_are_written() {
    let secret: Vec<u8> = (0..32u8).map(|index| index.wrapping_mul(37).wrapping_add(11)).collect();
    let mut detector = Detector::default();
    detector.add(&secret);
    let other: Vec<u8> = (0..32u8).map(|index| index.wrapping_mul(41).wrapping_add(7)).collect();
    for start in 0..secret.len() - 9 {
        let hidden = [&other[..start % 7], &secret[start..start + 9], &other[..9]].concat();
        let hexadecimal: String = hidden.iter().map(|byte| format!("{byte:02X}")).collect();
        let once = STANDARD.encode(&hidden);
        for text in [
            format!("it is {once}"),
            format!("it is {}", once.chars().map(|c| format!("{c}\n")).collect::<String>()),
            URL_SAFE_NO_PAD.encode(&hidden),
            once.to_lowercase(),
            STANDARD.encode(format!("x{once}y{once}")),
            hexadecimal.to_lowercase(),
            hexadecimal,
            format!("{hidden:?}"),
            format!("Some({hidden:#?})"),
        ] {
            assert!(detector.find(&text).is_some(), "{start}: {text}");
        }
    }
    let public = STANDARD.encode(&other);
    assert_eq!(detector.find(&format!("{public}\n{other:?} {}", "words and numbers 1, 2, 3, 4, 5, 6, 7")), None);
    // Keys as they are would be found.
    let Keys { keys, detector } = &*KEYS;
    for Key { name, pem } in keys {
        for (form, text) in forms(pem) {
            let is_short = form.contains("cut at") || form.contains("from") || form == "UTF-16, big end first";
            let is_odd = form == "base64 three times" || form.starts_with("DER");
            let found = detector.find(&String::from_utf8_lossy(&text)).is_some();
            assert!(found || is_short || is_odd, "{name}, {form}");
        }
    }
}

#[test]
fn nothing_that_is_said_about_a_broken_key_holds_any_of_it() {
    let Keys { keys, detector } = &*KEYS;
    // One example of each place, so that a new message does not hide the next.
    let mut leaks: BTreeMap<String, String> = BTreeMap::new();
    for Key { name, pem } in keys {
        for (form, text) in forms(pem) {
            // Other fields than those of a Secret show a text as it is, or not: the form of the key matters less.
            let is_first = name.ends_with("SEC1") || name.ends_with("PKCS#1");
            let few = if soak() || is_first && ELSEWHERE.contains(&form.as_str()) { usize::MAX } else { SECRETS };
            for (place, documents) in worlds(&text).into_iter().take(few) {
                let said = said(&documents);
                if let Some(found) = detector.find(&said) {
                    leaks.entry(place).or_insert_with(|| {
                        let small = said.to_ascii_lowercase();
                        let at = small.find(&found.to_ascii_lowercase()).unwrap_or_default();
                        let start = said.floor_char_boundary(at.saturating_sub(200));
                        let around = said[start..].chars().take(300).collect::<String>();
                        format!("{name}, {form}: {found:?} in …{around}…")
                    });
                }
            }
            let loaded = Credential::load(&text, &text, &text, &TrustAnchors::none());
            let (_, findings) = Chain::load(&text, &text, &TrustAnchors::none());
            let said: String =
                loaded.findings.iter().chain(&findings).map(|found| format!("{found} {found:?}")).collect();
            detector.clean(&said, &format!("{name}, {form}"));
        }
    }
    assert!(leaks.is_empty(), "parts of private keys: {leaks:#?}");
}

#[test]
fn a_running_process_says_nothing_of_a_broken_key_in_its_log_and_on_its_pages() {
    let Keys { keys, detector } = &*KEYS;
    let of = |text: &[u8]| {
        let text = text.to_vec();
        move |issued: &Issued| {
            let (chain, key, root) = (issued.chain(), issued.key.clone(), issued.root.clone());
            let fields = |tls_crt: &[u8], tls_key: &[u8], ca_crt: &[u8]| json!({"tls.crt": STANDARD.encode(tls_crt), "tls.key": STANDARD.encode(tls_key), "ca.crt": STANDARD.encode(ca_crt)});
            [
                fields(&text, key.as_bytes(), root.as_bytes()),
                fields(chain.as_bytes(), &text, root.as_bytes()),
                fields(chain.as_bytes(), key.as_bytes(), &text),
            ]
        }
    };
    // The forms that messages of some version have quoted, and those next to them.
    let chosen = |form: &str| !form.contains("cut at") && !form.contains("from");
    let spoilt: Vec<Vec<u8>> = keys
        .iter()
        .filter(|key| key.name.ends_with("SEC1") || key.name.ends_with("PKCS#1"))
        .flat_map(|key| forms(&key.pem).into_iter().filter(|(form, _)| chosen(form)).map(|(_, text)| text))
        .collect();
    let mut server = Server::start(&|_| vec![service("echo", &["127.0.0.1:9".parse().unwrap()])], &[]);
    let issued = issue(&server.authority, &["*.test"], KeyType::EcdsaP256);
    let fields: Vec<Value> = spoilt.iter().flat_map(|text| of(text)(&issued)).collect();
    let mut count = 0;
    // Of one compilation the log has a limited number of lines.
    for some in fields.chunks(60) {
        for data in some {
            let name = format!("h{count}");
            let (file, text) = host(&name, &format!("{name}.test"), Some(&issued), "echo", "");
            let (ingress, _) = text.split_once("---\n").unwrap();
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
            server.write(&file, &format!("{ingress}---\n{secret}\n"));
            count += 1;
        }
        let hosts = || server.admin("/debug/snapshot").1.matches("\nhost ").count();
        wait_until("all hosts are judged", || hosts() + 1 >= count);
    }
    // A last change, so that everything before it has been said.
    let (file, text) = host("last", "last.test", None, "nowhere", "");
    server.write(&file, &text);
    server.wait_for_line("service-not-found");
    let pages =
        ["/", "/metrics", "/healthz", "/readyz", "/api/failures", "/api/hosts", "/api/shadow", "/debug/snapshot"];
    let said: String = pages.iter().map(|page| server.admin(page).1).collect();
    detector.clean(&said, "pages");
    let log = server.log();
    assert!(log.contains("no-certificate") && log.contains("unparsable-key") && log.contains("unusable-ca"), "{log}");
    detector.clean(&log, "log");
}
