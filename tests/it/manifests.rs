//! Manifests of test cases: YAML to objects, with certificates made at run time.
//!
//! A string in a manifest may be `$CERT(NAMES)`, `$KEY(NAMES)` and so on. Each distinct text between the parentheses
//! is one certificate, so `$CERT(a.example)` and `$KEY(a.example)` belong together. The words `expired`, `future`,
//! `ending` and `other` among the names choose dates, or merely make it another certificate. `$CRT(NAME)`, `$KEYOF(NAME)`
//! and `$CA(NAME)` are one of the faulty chains of faults.rs. `$CLIENTCA(NAMES)` are authorities for certificates of clients,
//! and `$CRL(NAMES)` their revocation lists; the words `expired`, `ending` and `more` choose their dates and content.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use handfast::compile::{Object, SecretObject};
use handfast::demo::pki::{Authority, Issued, KeyType};
use handfast::tls::chain::{Candidates, TrustAnchors};
use rustls::pki_types::UnixTime;
use serde_json::Value;

use crate::faults;
use crate::pki::{Ca, crl, root};

/// 2026-01-01T00:00:00Z: the clock of all cases.
pub(crate) const NOW: u64 = 1_767_225_600;

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// All objects of a multi-document YAML text.
pub(crate) fn objects(yaml: &str) -> Vec<Object> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).map(object).collect()
}

fn object(mut document: Value) -> Object {
    substitute(&mut document);
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    fn parse<T: serde::de::DeserializeOwned>(document: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(document).unwrap())
    }
    match kind.as_str() {
        "EndpointSlice" => Object::EndpointSlice(parse(document)),
        "Ingress" => Object::Ingress(parse(document)),
        "IngressClass" => Object::IngressClass(parse(document)),
        "Secret" => Object::Secret(SecretObject(parse(document))),
        "Service" => Object::Service(parse(document)),
        "TlsPolicy" => Object::TlsPolicy(parse(document)),
        other => panic!("no case has objects of kind {other:?}"),
    }
}

fn substitute(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(substitute),
        Value::Object(fields) => fields.values_mut().for_each(substitute),
        Value::String(text) => {
            let parts = text.strip_prefix('$').and_then(|rest| rest.strip_suffix(')')).and_then(|r| r.split_once('('));
            if let Some((what, names)) = parts {
                *text = certificate(what, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Test", at(NOW)).unwrap());

/// Public roots, and the root of all certificates, as if --trust-anchors named it.
pub(crate) fn trust_anchors() -> Arc<TrustAnchors> {
    static ANCHORS: LazyLock<Arc<TrustAnchors>> = LazyLock::new(|| {
        let roots = format!("{}{}", AUTHORITY.root(), faults::trusted());
        Arc::new(TrustAnchors::public().with_file(roots.as_bytes()).unwrap())
    });
    ANCHORS.clone()
}

/// The intermediate of all certificates, as if --intermediates named it.
pub(crate) fn intermediates() -> Arc<Candidates> {
    let issued = AUTHORITY.issue(&["any.example"], KeyType::EcdsaP256, at(NOW), -10..80).unwrap();
    let mut candidates = Candidates::new();
    assert!(candidates.add_pem(issued.intermediate.as_bytes(), "the bundle").is_empty());
    Arc::new(candidates)
}

/// The authority for certificates of clients that has this name.
fn client_ca(name: &str) -> Arc<Ca> {
    static ISSUED: LazyLock<Mutex<HashMap<String, Arc<Ca>>>> = LazyLock::new(Mutex::default);
    let mut issued = ISSUED.lock().unwrap();
    issued.entry(name.to_owned()).or_insert_with(|| Arc::new(root(name))).clone()
}

/// Made once, since each signature is another one.
fn revocation_lists(text: &str) -> String {
    static MADE: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let make = || {
        let (words, names): (Vec<&str>, Vec<&str>) =
            text.split(' ').partition(|name| ["expired", "ending", "more"].contains(name));
        let has = |word| words.contains(&word);
        let days = match (has("expired"), has("ending")) {
            (true, _) => -10..-1,
            (false, true) => -5..1,
            (false, false) => -2..30,
        };
        let revoked: &[u64] = if has("more") { &[1, 2] } else { &[1] };
        names.iter().map(|name| crl(&client_ca(name), at(NOW), days.clone(), revoked)).collect()
    };
    MADE.lock().unwrap().entry(text.to_owned()).or_insert_with(make).clone()
}

fn certificate(what: &str, names: &str) -> String {
    match what {
        "CRT" => return faults::fault(names).tls_crt,
        "KEYOF" => return faults::fault(names).tls_key,
        "CA" => return faults::fault(names).ca_crt,
        "ROOT" => return AUTHORITY.root().to_owned(),
        "CLIENTCA" => return names.split(' ').map(|name| client_ca(name).pem()).collect(),
        "CRL" => return revocation_lists(names),
        _ => {}
    }
    static ISSUED: LazyLock<Mutex<HashMap<String, Issued>>> = LazyLock::new(Mutex::default);
    let mut cache = ISSUED.lock().unwrap();
    let issued = cache.entry(names.to_owned()).or_insert_with(|| {
        let (words, dns): (Vec<&str>, Vec<&str>) =
            names.split_whitespace().partition(|name| ["expired", "future", "ending", "other", "rsa"].contains(name));
        let has = |word| words.contains(&word);
        let days = match () {
            () if has("expired") => -90..-1,
            () if has("future") => 1..90,
            () if has("ending") => -89..1,
            () => -10..80,
        };
        let key = if has("rsa") { KeyType::Rsa2048 } else { KeyType::EcdsaP256 };
        AUTHORITY.issue(&dns, key, at(NOW), days).unwrap()
    });
    match what {
        "CERT" => issued.chain(),
        "KEY" => issued.key.clone(),
        "LEAF" => issued.leaf.clone(),
        "REVERSED" => format!("{}{}", issued.intermediate, issued.leaf),
        "WITHROOT" => format!("{}{}", issued.chain(), AUTHORITY.root()),
        other => panic!("no placeholder ${other}"),
    }
}
