//! A host whose handshakes are refused, or answered by a fallback, has an error that explains it: whatever its Secrets
//! hold. And text that is almost what should stand there is told by name.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use handfast::check::{self, Verdict};
use handfast::compile::{Change, Compiled, Compiler, Effect, Object, Options, Scope, SecretObject, Severity};
use handfast::demo::pki::{KeyType, generate};
use handfast::snapshot::{HostName, Serving};
use handfast::tls::chain::{BadAnchors, Credential, Finding, RevocationLists, TrustAnchors};
use handfast::webhook::judge::{Outcome, Rules, review};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rcgen::CertificateParams;
use serde_json::json;

use crate::cases;
use crate::manifests::{NOW, at, objects};
use crate::pki::{Ca, HOST, Leaf, ca, leaf, root};

/// Hosts for which an Ingress names a Secret.
fn wishes(objects: &[Object]) -> Vec<HostName> {
    let specs = objects.iter().filter_map(|object| match object {
        Object::Ingress(ingress) => ingress.spec.as_ref(),
        _ => None,
    });
    let entries = specs.flat_map(|spec| spec.tls.iter().flatten()).filter(|entry| entry.secret_name.is_some());
    entries.flat_map(|entry| entry.hosts.iter().flatten()).filter_map(|host| host.parse().ok()).collect()
}

/// How many hosts get something else than what they ask for. Each has an error with that effect.
#[track_caller]
fn explained(compiled: &Compiled, wishes: &[HostName], what: &dyn std::fmt::Debug) -> usize {
    let report = check::report(&check::Input::new(&compiled.snapshot, &compiled.diagnostics, at(NOW)));
    let mut count = 0;
    for host in compiled.snapshot.hosts.values() {
        let effect = match host.serving {
            Serving::Refused => Effect::HostRefused,
            Serving::LastGood => Effect::LastGood,
            Serving::Default if wishes.contains(&host.name) => Effect::Default,
            Serving::Default | Serving::Current | Serving::None => continue,
        };
        count += 1;
        let explains = compiled.diagnostics.iter().filter(|found| found.effect == effect);
        let mut explains = explains.filter(|found| found.hosts.contains(&host.name));
        let all: Vec<String> = compiled.diagnostics.iter().map(ToString::to_string).collect();
        assert!(explains.any(|found| found.severity() == Severity::Error), "{what:?} {}: {all:#?}", host.name);
        let judged = report.hosts.iter().find(|judged| judged.host == host.name.as_str()).unwrap();
        assert_eq!((judged.verdict, report.verdict), (Verdict::Error, Verdict::Error), "{what:?} {}", host.name);
    }
    for found in compiled.diagnostics.iter() {
        let is_harmless = matches!(found.effect, Effect::None | Effect::PolicyHeld | Effect::Repaired);
        let is_error = found.severity() == Severity::Error;
        assert!(is_error || is_harmless || found.effect == Effect::RouteDropped, "{what:?}: {found}");
    }
    count
}

#[test]
fn each_case_explains_what_its_hosts_do_not_get() {
    let mut count = 0;
    for folder in cases::folders() {
        let objects: Vec<Object> = cases::files(&folder).iter().flat_map(|(_, text)| objects(text)).collect();
        count += explained(&cases::compile(&folder), &wishes(&objects), &folder);
    }
    assert!(count >= 25, "{count}");
}

/// What Secrets are made of.
struct Pieces {
    root: Ca,
    intermediate: Ca,
    leaf: Leaf,
    other: Leaf,
    request: String,
    pkcs7: String,
    crl: String,
}

static PIECES: LazyLock<Pieces> = LazyLock::new(|| {
    let root = root("Root");
    let intermediate = ca("Intermediate", &root);
    let key = generate(KeyType::EcdsaP256).unwrap();
    let request = CertificateParams::new(vec![HOST.to_owned()]).unwrap().serialize_request(&key).unwrap();
    Pieces {
        leaf: leaf(&intermediate),
        other: leaf(&intermediate),
        request: request.pem().unwrap(),
        pkcs7: "-----BEGIN PKCS7-----\nMAUGA1UEA6AA\n-----END PKCS7-----\n".to_owned(),
        crl: crate::pki::crl(&root, at(NOW), -2..30, &[1]),
        root,
        intermediate,
    }
});

fn relabelled(pem: &str, from: &str, to: &str) -> String {
    pem.replace(&format!("{from}-----"), &format!("{to}-----"))
}

fn der_of(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A part of a Secret's field: what belongs there, and what does not.
fn piece(index: usize) -> Vec<u8> {
    let Pieces { root, intermediate, leaf, other, request, pkcs7, crl } = &*PIECES;
    let one_line = |text: &str| text.replace('\n', " ");
    match index {
        0..=2 => leaf.pem.clone(),
        3 => intermediate.pem(),
        4 => root.pem(),
        5 => other.pem.clone(),
        6 => leaf.key.clone(),
        7 => other.key.clone(),
        8 => request.clone(),
        9 => pkcs7.clone(),
        10 => crl.clone(),
        11 => relabelled(&leaf.pem, "CERTIFICATE", "TRUSTED CERTIFICATE"),
        12 => relabelled(&leaf.key, "PRIVATE KEY", "CERTIFICATE"),
        13 => relabelled(&leaf.pem, "CERTIFICATE", "SOMETHING ELSE"),
        14 => relabelled(&leaf.key, "PRIVATE KEY", "PUBLIC KEY"),
        15 => relabelled(&leaf.key, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        16 => one_line(&leaf.pem),
        17 => one_line(&leaf.key),
        18 => leaf.pem.trim_end().to_owned(),
        19 => leaf.pem.replace('\n', "\\n"),
        20 => leaf.pem[..leaf.pem.len() / 2].to_owned(),
        21 => leaf.key[leaf.key.len() / 2..].to_owned(),
        22 => "hello\n".to_owned(),
        _ => return der_of(&leaf.pem),
    }
    .into_bytes()
}

const PIECE_COUNT: usize = 24;

/// What is done to a whole field.
#[derive(Clone, Copy, Debug)]
enum Done {
    Nothing,
    Base64,
    CarriageReturns,
    Empty,
    NoBreakSpaces,
    NoBreaks,
    Utf16,
}

fn done(text: Vec<u8>, what: Done) -> Vec<u8> {
    let replaced = |part: &str, with: &str| String::from_utf8_lossy(&text).replace(part, with).into_bytes();
    match what {
        Done::Nothing => text,
        Done::Base64 => base64(text).into_bytes(),
        Done::CarriageReturns => replaced("\n", "\r"),
        Done::Empty => Vec::new(),
        Done::NoBreakSpaces => replaced(" ", "\u{a0}"),
        Done::NoBreaks => replaced("\n", ""),
        Done::Utf16 => String::from_utf8_lossy(&text).encode_utf16().flat_map(u16::to_le_bytes).collect(),
    }
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    use Done::*;
    let whole = prop_oneof![
        8 => Just(Nothing),
        2 => select(vec![Base64, CarriageReturns, Empty, NoBreakSpaces, NoBreaks, Utf16]),
    ];
    (vec(0..PIECE_COUNT, 1..4), whole)
        .prop_map(|(pieces, whole)| done(pieces.into_iter().flat_map(piece).collect(), whole))
}

fn good() -> BTreeMap<String, Vec<u8>> {
    let Pieces { intermediate, leaf, .. } = &*PIECES;
    BTreeMap::from([
        ("tls.crt".to_owned(), format!("{}{}", leaf.pem, intermediate.pem()).into_bytes()),
        ("tls.key".to_owned(), leaf.key.clone().into_bytes()),
    ])
}

fn content() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let key = prop_oneof![4 => Just(piece(6)), 1 => field()];
    let fields = (option::weighted(0.9, field()), option::weighted(0.95, key), option::weighted(0.3, field()));
    let fields = fields.prop_map(|(tls_crt, tls_key, ca_crt)| {
        let fields = [("tls.crt", tls_crt), ("tls.key", tls_key), ("ca.crt", ca_crt)];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    });
    prop_oneof![1 => Just(good()), 8 => fields]
}

fn secret(name: &str, data: &BTreeMap<String, Vec<u8>>) -> Object {
    let mut secret = Secret { type_: Some("kubernetes.io/tls".into()), ..Secret::default() };
    secret.metadata.namespace = Some("shop".into());
    secret.metadata.name = Some(name.into());
    secret.data = Some(data.iter().map(|(name, value)| (name.clone(), ByteString(value.clone()))).collect());
    Object::Secret(SecretObject(Arc::new(secret)))
}

fn review_of(before: Option<&Object>, after: &Object) -> Vec<u8> {
    let [before, after] = [before, Some(after)].map(|object| match object {
        Some(Object::Secret(secret)) => json!(*secret.0),
        _ => json!(null),
    });
    let operation = if before.is_null() { "CREATE" } else { "UPDATE" };
    let request = json!({
        "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Secret"}, "name": after["metadata"]["name"],
        "namespace": "shop", "operation": operation, "object": after, "oldObject": before,
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
}

/// A host, its policy, and a Secret that comes to hold something else.
fn world(actions: &BTreeMap<&'static str, &'static str>) -> Vec<Object> {
    let actions = json!(actions);
    objects(&format!(
        "{{kind: Ingress, metadata: {{name: web, namespace: shop, annotations: {{handfast.dev/tls-policy: strict}}}}, spec: {{
           tls: [{{hosts: [{HOST}], secretName: tls}}], rules: [{{host: {HOST}, http: {{paths: [
             {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}}}
         \n---\n{{kind: TlsPolicy, apiVersion: handfast.dev/v1alpha1, metadata: {{name: strict, namespace: shop}}, spec: {{findingActions: {actions}}}}}
         \n---\n{{kind: Service, metadata: {{name: web, namespace: shop}}, spec: {{ports: [{{port: 80}}]}}}}"
    ))
}

fn action() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    let codes: Vec<&'static str> = Finding::all().map(|about| about.code).collect();
    prop_oneof![
        1 => Just(BTreeMap::new()),
        2 => btree_map(select(codes), select(vec!["holdLastGood", "reject"]), 0..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_secret_holds_an_error_explains_what_its_host_does_not_get(
        before in option::of(content()),
        after in content(),
        default in option::of(content()),
        actions in action(),
    ) {
        let anchors = TrustAnchors::none().with_file(PIECES.root.pem().as_bytes()).unwrap();
        let mut options =
            Options { watch_without_class: true, trust_anchors: Arc::new(anchors), ..Options::default() };
        options.default_tls_secret = default.is_some().then(|| ("shop".to_owned(), "default".to_owned()));
        let mut compiler = Compiler::new(options);
        let mut objects = world(&actions);
        objects.extend(default.as_ref().map(|content| secret("default", content)));
        let old = before.as_ref().map(|content| secret("tls", content));
        objects.extend(old.clone());
        let wishes = wishes(&objects);
        let scope = Scope("test".into());
        compiler.apply(Change::Replace(scope.clone(), objects));
        let first = compiler.compile(at(NOW));
        let worked = explained(&first, &wishes, &before) == 0;

        let new = secret("tls", &after);
        let body = review_of(old.as_ref(), &new);
        let judged = |deny| review(&body, Rules { deny }, &|_| true, &&compiler, at(NOW)).unwrap().1;
        let (warned, denied) = (judged(false), judged(true));
        compiler.apply(Change::Upsert(scope, new));
        let second = compiler.compile(at(NOW));
        let works = explained(&second, &wishes, &after) == 0;
        // What the change brings, the webhook knows beforehand.
        if worked && !works {
            prop_assert_eq!(warned.outcome, Outcome::Warned, "{:?}", warned.answer);
            prop_assert_eq!(denied.outcome, Outcome::Denied, "{:?}", denied.answer);
        }
    }
}

/// The error about `tls.crt` beside a good key.
fn error_of(tls_crt: &[u8]) -> Finding {
    let loaded = Credential::load(tls_crt, PIECES.leaf.key.as_bytes(), b"", &TrustAnchors::none());
    assert!(loaded.credential.is_none());
    let mut errors = loaded.findings.into_iter().filter(|finding| finding.severity() == Severity::Error);
    errors.next().unwrap()
}

#[track_caller]
fn tells(finding: &Finding, code: &str, words: &str, remedy: &str) {
    let (message, advice) = (finding.to_string(), finding.remedy());
    assert_eq!(finding.code(), code, "{message}");
    assert!(message.contains(words) && advice.contains(remedy), "{words} / {remedy}: {message}: {advice}");
}

#[test]
fn what_stands_in_tls_crt_in_place_of_a_certificate_is_named_with_what_to_do() {
    let Pieces { leaf, request, pkcs7, crl, .. } = &*PIECES;
    let (pem, key) = (leaf.pem.as_str(), leaf.key.as_str());
    for (text, words, remedy) in [
        (request.clone(), "its only block is a CERTIFICATE REQUEST", "has issued for this request"),
        (pkcs7.clone(), "its only block is a PKCS7", "openssl pkcs7 -print_certs"),
        (crl.clone(), "its only block is an X509 CRL", "ca.crl"),
        (relabelled(pem, "CERTIFICATE", "TRUSTED CERTIFICATE"), "a TRUSTED CERTIFICATE", "openssl x509"),
        (relabelled(key, "PRIVATE KEY", "PUBLIC KEY"), "a PUBLIC KEY", "has issued for this key"),
        (key.to_owned(), "its only block is a PRIVATE KEY", "are the two exchanged?"),
        (format!("{key}{request}"), "none of its 2 blocks is one", "are the two exchanged?"),
        (
            relabelled(pem, "CERTIFICATE", "CERTIFCATE"),
            "a block whose label (10 bytes) is not known",
            "PEM certificate",
        ),
        ("<html>".to_owned(), "tls.crt has no certificate: it is HTML", "get the file itself"),
        ("${CRT}".to_owned(), "it is a placeholder", "placeholder"),
        (base64(request), "it is a certificate request (CSR) in base64 twice", "encode it once"),
        ("hello".to_owned(), "tls.crt has no certificate", "put the PEM certificate"),
        (String::new(), "tls.crt has no certificate", "put the PEM certificate"),
    ] {
        tells(&error_of(text.as_bytes()), "no-certificate", words, remedy);
    }
    let utf16: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (text, words, remedy) in [
        (
            pem.replace('\n', " ").into_bytes(),
            "(at byte 0) cannot be parsed: its line breaks are lost",
            "in lines of 64",
        ),
        (pem.replace('\n', "").into_bytes(), "its line breaks are lost", "in lines of 64"),
        (pem.replace('\n', "\t").into_bytes(), "its line breaks are lost", "in lines of 64"),
        (pem.replace('\n', "\\n").into_bytes(), "as the two characters \\n", "write line breaks in place"),
        (pem.replace('\n', "\r").into_bytes(), "CR alone", "tr '\\r' '\\n'"),
        (
            pem.replacen(' ', "\u{a0}", 2).into_bytes(),
            "tls.crt cannot be parsed: it is a certificate with a no-break",
            "copy",
        ),
        (pem.replace('\n', "\u{a0}\n").into_bytes(), "a no-break space (U+00A0)", "copy"),
        (pem.replace("-----", "\u{2013}\u{2013}").into_bytes(), "an en dash (U+2013)", "copy"),
        (pem.to_ascii_lowercase().into_bytes(), "has small letters", "in capital letters"),
        (format!("\"{pem}\"").into_bytes(), "it is a certificate in quotes", "leave the quotes out"),
        (format!("crt={pem}").into_bytes(), "does not begin with -----BEGIN", "begin a line"),
        (base64(pem).into_bytes(), "it is a certificate in base64 twice", "encode it once"),
        (base64(base64(pem)).into_bytes(), "it is a certificate in base64 3 times", "encode it once"),
        (base64(der_of(pem)).into_bytes(), "the base64 text of a certificate without BEGIN", "BEGIN line"),
        (der_of(pem), "tls.crt cannot be parsed: it is a certificate in DER, not PEM", "openssl x509 -inform der"),
        (utf16, "it is a certificate in UTF-16", "iconv"),
        (relabelled(key, "PRIVATE KEY", "CERTIFICATE").into_bytes(), "its content is a private key", "exchanged"),
        (format!("{}{pem}", pem.trim_end()).into_bytes(), "the next BEGIN line are one line", "put a line break"),
    ] {
        if words.contains("next BEGIN line") {
            // The one behind it is whole, so the host is served.
            let loaded = Credential::load(&text, key.as_bytes(), b"", &TrustAnchors::none());
            assert!(loaded.credential.is_some());
            tells(&loaded.findings[0], "unparsable-certificate", words, remedy);
            continue;
        }
        tells(&error_of(&text), "unparsable-certificate", words, remedy);
    }
}

#[test]
fn what_stands_in_tls_key_in_place_of_a_key_is_named_with_what_to_do() {
    let Pieces { leaf, .. } = &*PIECES;
    let key = leaf.key.as_str();
    let error = |text: &[u8]| {
        let loaded = Credential::load(leaf.pem.as_bytes(), text, b"", &TrustAnchors::none());
        assert!(loaded.credential.is_none());
        loaded.findings.into_iter().find(|finding| finding.field() == "data[tls.key]").unwrap()
    };
    for (text, words) in [
        (leaf.pem.clone(), "tls.key has no private key: its only block is a CERTIFICATE"),
        (base64(&leaf.pem), "it is a certificate in base64 twice"),
        ("{\"kty\": \"EC\"}".to_owned(), "it is JSON"),
        (String::new(), "tls.key has no private key"),
    ] {
        tells(&error(text.as_bytes()), "no-key", words, "put the PEM private key");
    }
    for (text, words, remedy) in [
        (key.replace('\n', " ").into_bytes(), "its line breaks are lost", "in lines of 64"),
        (key.replace('\n', "\\n").into_bytes(), "the two characters \\n", "write line breaks in place"),
        (key.replace('\n', "\r").into_bytes(), "CR alone", "tr"),
        (key.replacen(' ', "\u{a0}", 1).into_bytes(), "a private key with a no-break space", "copy"),
        (base64(key).into_bytes(), "it is a private key in base64 twice", "encode it once"),
        (der_of(key), "it is a private key in DER, not PEM", "openssl pkey -inform der"),
        (
            relabelled(key, "PRIVATE KEY", "RSA PRIVATE KEY").into_bytes(),
            "of another form than its label says",
            "PKCS#8",
        ),
        (
            relabelled(&leaf.pem, "CERTIFICATE", "PRIVATE KEY").into_bytes(),
            "its content is a certificate",
            "replace it",
        ),
    ] {
        tells(&error(&text), "unparsable-key", words, remedy);
    }
}

#[test]
fn what_stands_in_ca_crt_and_ca_crl_in_place_of_a_ca_and_a_list_is_named_with_what_to_do() {
    let Pieces { root, leaf, crl, .. } = &*PIECES;
    let pem = root.pem();
    let anchors = TrustAnchors::none().with_file(pem.as_bytes()).unwrap();
    for (text, words, remedy) in [
        (
            leaf.key.clone(),
            "block 1 at byte 0 cannot be used: it is a PRIVATE KEY, not a CERTIFICATE",
            "into tls.key only",
        ),
        (pem.replace('\n', " "), "its line breaks are lost", "in lines of 64"),
        (base64(&pem), "it has no PEM certificate: it is a certificate in base64 twice", "encode it once"),
        (relabelled(&leaf.key, "PRIVATE KEY", "CERTIFICATE"), "its content is a private key", "put the CA's root"),
    ] {
        let loaded = Credential::load(leaf.pem.as_bytes(), leaf.key.as_bytes(), text.as_bytes(), &anchors);
        let unusable = loaded.findings.iter().find(|finding| finding.code() == "unusable-ca").unwrap();
        tells(unusable, "unusable-ca", words, remedy);
        let error = TrustAnchors::none().with_file(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(words) && error.advice().is_none_or(|advice| advice.contains(remedy)));
    }
    assert_eq!(TrustAnchors::none().with_file(b"").unwrap_err(), BadAnchors::Empty { instead: None, advice: None });
    for (text, words) in [
        (crl.replace('\n', " "), "its line breaks are lost: it stands on one line: write it with its line breaks"),
        (base64(crl), "it is a revocation list in base64 twice: the value still is base64 of PEM: encode it once"),
        (pem, "it has no list in PEM (-----BEGIN X509 CRL-----): its only block is a CERTIFICATE"),
    ] {
        let error = RevocationLists::parse(text.as_bytes(), &anchors).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
