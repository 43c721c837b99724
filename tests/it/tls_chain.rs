//! What the chain check says about keys and chains, and what would be served.

use std::time::Duration;

use handfast::demo::pki::{Authority, Issued, KeyType};
use handfast::snapshot::HostName;
use handfast::tls::Severity;
use handfast::tls::chain::{Credential, Finding, Loaded, TrustAnchors};
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;

const DAY: u64 = 86_400;
/// 2026-01-01T00:00:00Z
const NOW: u64 = 1_767_225_600;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn issue(names: &[&str], key: KeyType) -> (Authority, Issued) {
    let authority = Authority::new("Test", at(NOW)).unwrap();
    let issued = authority.issue(names, key, at(NOW), -10..80).unwrap();
    (authority, issued)
}

fn load(tls_crt: &str, tls_key: &str, root: &str) -> Loaded {
    Credential::load(tls_crt.as_bytes(), tls_key.as_bytes(), root.as_bytes(), &TrustAnchors::none())
}

fn loaded(issued: &Issued) -> std::sync::Arc<Credential> {
    load(&issued.chain(), &issued.key, &issued.root).credential.unwrap()
}

/// Codes of the findings, and how many certificates are served (0: none).
fn check(tls_crt: &str, tls_key: &str, root: &str) -> (Vec<&'static str>, usize) {
    let loaded = load(tls_crt, tls_key, root);
    for finding in &loaded.findings {
        assert!(!finding.remedy().is_empty());
        assert!(!format!("{finding} {finding:?} {}", finding.remedy()).contains("PRIVATE KEY-----\nM"), "{finding}");
    }
    let codes = loaded.findings.iter().map(Finding::code).collect();
    (codes, loaded.credential.map_or(0, |credential| credential.chain().len()))
}

#[test]
fn a_good_chain_has_no_finding_but_for_keys_that_clients_do_not_know() {
    let keys: [(KeyType, &str, &[&str]); 4] = [
        (KeyType::EcdsaP256, "ecdsa-p256", &[]),
        (KeyType::EcdsaP384, "ecdsa-p384", &[]),
        (KeyType::Ed25519, "ed25519", &["rarely-supported-key"]),
        (KeyType::Rsa2048, "rsa-2048", &[]),
    ];
    for (key, name, codes) in keys {
        let (_, issued) = issue(&["shop.example"], key);
        assert_eq!(check(&issued.chain(), &issued.key, &issued.root), (codes.to_vec(), 2), "{key:?}");
        assert_eq!(&*loaded(&issued).summary().key, name);
    }
}

#[test]
fn chains_are_served_leaf_first_without_root_duplicates_and_strangers() {
    let (authority, issued) = issue(&["shop.example"], KeyType::EcdsaP256);
    let (_, stranger) = issue(&["other.example"], KeyType::EcdsaP256);
    let (leaf, intermediate, root) = (&issued.leaf, &issued.intermediate, &authority.root());
    let rows: [(String, &[&str], usize); 9] = [
        (format!("{intermediate}{leaf}"), &["leaf-not-first"], 2),
        (format!("{leaf}{root}{intermediate}"), &["root-included", "out-of-order"], 2),
        (format!("{leaf}{intermediate}{root}"), &["root-included"], 2),
        (format!("{leaf}{leaf}{intermediate}"), &["duplicate-certificate"], 2),
        (format!("{leaf}{}{intermediate}", stranger.leaf), &["unrelated-certificate"], 2),
        (format!("{leaf}{root}"), &["unrelated-certificate", "missing-intermediate"], 1),
        (leaf.clone(), &["missing-intermediate"], 1),
        (format!("{leaf}{intermediate}{}", issued.key), &["not-a-certificate"], 2),
        // An intermediate of the same name with another key: the name fits, the signature does not.
        (format!("{leaf}{}", stranger.intermediate), &["not-the-issuer", "missing-intermediate"], 1),
    ];
    for (index, (tls_crt, codes, served)) in rows.iter().enumerate() {
        let (found, chain) = check(tls_crt, &issued.key, root);
        assert_eq!((found.as_slice(), chain), (*codes, *served), "row {index}");
    }
}

#[test]
fn what_cannot_be_served_says_why() {
    let (_, issued) = issue(&["shop.example"], KeyType::EcdsaP256);
    let (_, other) = issue(&["shop.example"], KeyType::EcdsaP256);
    let chain = issued.chain();
    let broken = chain.replacen("MII", "!!!", 1);
    let cut = &chain[..chain.len() / 4];
    let rows: [(&str, &str, &[&str]); 11] = [
        (&chain, &other.key, &["key-mismatch"]),
        ("", &issued.key, &["no-certificate"]),
        ("hello", &issued.key, &["no-certificate"]),
        (&chain, "", &["no-key"]),
        (&chain, &chain, &["no-key"]),
        (&chain, &format!("{}{}", issued.key, other.key), &["several-keys"]),
        (&chain, &issued.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), &["encrypted-key"]),
        (&chain, &issued.key.replace("END", "FIN"), &["unparsable-key"]),
        (cut, &issued.key, &["unparsable-certificate"]),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &issued.key, &["unparsable-certificate"]),
        (&chain, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &["unparsable-key"]),
    ];
    for (index, (tls_crt, tls_key, codes)) in rows.iter().enumerate() {
        assert_eq!(check(tls_crt, tls_key, ""), (codes.to_vec(), 0), "row {index}");
    }
    // A damaged block does not take the good ones with it; the damaged leaf is the one that the key needs.
    let (codes, served) = check(&broken, &issued.key, "");
    assert_eq!((codes[0], served), ("unparsable-certificate", 0));
    let finding = load(&format!("hi\n{broken}"), &issued.key, "").findings.remove(0);
    assert_eq!(finding.to_string(), "Block 1 in tls.crt (at byte 3) cannot be parsed: its base64 text is damaged");
}

#[test]
fn dates_are_judged_for_each_member_and_name_their_next_change() {
    let (_, issued) = issue(&["shop.example"], KeyType::EcdsaP256);
    let credential = loaded(&issued);
    let summary = credential.summary();
    let judged = |time: u64| {
        let dated = credential.dated(at(time));
        (dated.findings.iter().map(Finding::code).collect::<Vec<_>>(), dated.changes_at.map(|time| time.as_secs()))
    };
    assert_eq!(summary.not_after.as_secs(), NOW + 80 * DAY);
    // 90 days of life: the last third begins one second after the 50th day.
    let soon = NOW + 50 * DAY + 1;
    assert_eq!(judged(NOW), (vec![], Some(soon)));
    assert_eq!(judged(soon - 1), (vec![], Some(soon)), "a third is not less than a third");
    assert_eq!(judged(soon), (vec!["expires-soon"], Some(NOW + 80 * DAY + 1)));
    assert_eq!(judged(NOW + 80 * DAY), (vec!["expires-soon"], Some(NOW + 80 * DAY + 1)), "notAfter itself is valid");
    let root_end = NOW + 1825 * DAY + 1;
    let root_soon = root_end - 3650 * DAY / 3;
    assert_eq!(judged(NOW + 80 * DAY + 1), (vec!["expired"], Some(root_soon)));
    assert_eq!(judged(root_soon), (vec!["expired", "expires-soon"], Some(root_end)));
    assert_eq!(judged(NOW - 11 * DAY), (vec!["not-valid-yet"], Some(NOW - 10 * DAY)));
    // The root ends on the same day as the intermediate.
    assert_eq!(judged(root_end), (vec!["expired", "expired", "expired-root"], None));
}

#[test]
fn names_are_covered_exactly_or_by_one_wildcard_label() {
    let (_, issued) = issue(&["Shop.example", "*.apps.example"], KeyType::EcdsaP256);
    let credential = loaded(&issued);
    let covers = |host: &str| credential.covers(&host.parse::<HostName>().unwrap()).is_ok();
    assert!(covers("shop.example") && covers("a.apps.example") && covers("*.apps.example"));
    assert!(!covers("apps.example") && !covers("a.b.apps.example") && !covers("other.example"));
    assert!(!covers("*.example"), "a certificate for one name does not cover a wildcard host");
    assert!(credential.covers(&HostName::catch_all()).is_ok());
    let finding = credential.covers(&"other.example".parse().unwrap()).unwrap_err();
    assert_eq!(finding.severity(), Severity::Error);
    assert_eq!(
        finding.to_string(),
        "The certificate does not cover other.example: it has shop.example, *.apps.example"
    );
}

#[test]
fn a_common_name_does_not_count() {
    let authority = Authority::new("Test", at(NOW)).unwrap();
    let issued = authority.issue(&[], KeyType::EcdsaP256, at(NOW), -1..10).unwrap();
    let finding = loaded(&issued).covers(&"no-name.example".parse().unwrap()).unwrap_err();
    assert_eq!(finding.to_string(), "The certificate does not cover no-name.example: it has no DNS name");
}

#[test]
fn keys_are_accepted_in_every_common_pem_form() {
    let (_, issued) = issue(&["shop.example"], KeyType::EcdsaP256);
    // Text around the blocks, as `openssl s_client -showcerts` and some CAs write it, is no fault.
    let chatty = format!("subject=CN = shop\n{}\nBag Attributes\n", issued.chain());
    assert_eq!(check(&chatty, &format!("# key\n{}", issued.key), &issued.root), (vec![], 2));
    let windows = |text: &str| text.replace('\n', "\r\n");
    assert_eq!(check(&windows(&issued.chain()), &windows(&issued.key), &windows(&issued.root)), (vec![], 2));
    assert!(rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(issued.key.as_bytes()).is_ok());
}
