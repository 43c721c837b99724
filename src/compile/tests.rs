//! Compilations that a bug ends in the middle.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::demo::pki::{Authority, KeyType};

/// Stands for a bug.
pub(super) fn fail_if_told(faults: &AtomicUsize) {
    let fewer = faults.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    assert!(fewer.is_err(), "a bug");
}

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn what_begins_anew_in_the_middle_of_a_change_makes_the_same_and_remembers_what_was_good() {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let issued = Authority::new("Test", now).unwrap().issue(&["a.example"], KeyType::EcdsaP256, now, -1..9).unwrap();
    let secret = |certificate: &str| {
        let secret = serde_json::json!({
            "metadata": {"name": "tls", "namespace": "shop"}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(&issued.key)},
        });
        Change::Upsert(Scope("test".into()), Object::Secret(SecretObject(object(secret))))
    };
    let ingress = serde_json::json!({
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"rules": [{"host": "a.example"}], "tls": [{"hosts": ["a.example"], "secretName": "tls"}]},
    });
    let compile = |is_broken: bool| {
        let mut compiler = Compiler::new(Options { watch_without_class: true, ..Options::default() });
        compiler.apply(Change::Upsert(Scope("test".into()), Object::Ingress(object(ingress.clone()))));
        compiler.apply(secret(&issued.chain()));
        compiler.compile(now);
        compiler.apply(secret("garbage"));
        if is_broken {
            compiler.faults.store(1, Ordering::Relaxed);
            let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compiler.compile(now)));
            assert!(broken.is_err());
            compiler.begin_anew();
        }
        compiler.compile(now)
    };
    let (whole, anew) = (compile(false), compile(true));
    assert_eq!(whole.held.secrets.len(), 1, "the good version is served");
    assert_eq!(whole.snapshot.render(), anew.snapshot.render());
    assert!(*whole.held == *anew.held && whole.diagnostics == anew.diagnostics && whole.ingresses == anew.ingresses);
}
