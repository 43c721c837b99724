//! Chains with a gap, and what is taken from elsewhere to fill it.

use handfast::tls::Severity;
use handfast::tls::chain::{Candidates, Chain, Credential, Finding, Loaded, OutlineEnd, TrustAnchors};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use crate::manifests::{NOW, at};
use crate::pki::{Ca, Leaf, OpenSsl, anchors, ca, ca_with, cross_signed, leaf, leaf_with, root, sct_list, valid};

fn candidates(pems: &[String]) -> Candidates {
    let mut candidates = Candidates::new();
    for (index, pem) in pems.iter().enumerate() {
        assert_eq!(candidates.add_pem(pem.as_bytes(), &format!("Secret shop/{index}")), []);
    }
    candidates
}

fn completed(tls_crt: &str, leaf: &Leaf, trusted: &str, candidates: &Candidates) -> Loaded {
    let anchors = if trusted.is_empty() { TrustAnchors::public() } else { anchors(trusted) };
    Credential::load_completed(tls_crt.as_bytes(), leaf.key.as_bytes(), b"", &anchors, candidates)
}

/// Codes now, and how many certificates are served.
fn codes(loaded: &Loaded) -> (Vec<&'static str>, usize) {
    let credential = loaded.credential.as_ref().unwrap();
    let dated = credential.dated(at(NOW)).findings;
    (loaded.findings.iter().chain(&dated).map(Finding::code).collect(), credential.chain().len())
}

fn check(tls_crt: &str, leaf: &Leaf, trusted: &Ca, from: &[&Ca]) -> (Vec<&'static str>, usize) {
    let pems: Vec<String> = from.iter().map(|ca| ca.pem()).collect();
    codes(&completed(tls_crt, leaf, &trusted.pem(), &candidates(&pems)))
}

#[test]
fn a_missing_intermediate_comes_from_another_secret_and_is_served() {
    let root = root("Root");
    let intermediate = ca("Intermediate", &root);
    let (one, other) = (leaf_with(&intermediate, sct_list), leaf(&intermediate));
    // What the other Secret holds: a whole chain, in any order, with the root.
    let mut found = Candidates::new();
    let text = format!("{}{}{}", root.pem(), other.pem, intermediate.pem());
    assert_eq!(found.add_pem(text.as_bytes(), "Secret shop/other"), []);
    assert_eq!(found.len(), 1, "neither a root nor a server's certificate is ever missing");

    let without = completed(&one.pem, &one, &root.pem(), &Candidates::new());
    let without = without.credential.unwrap();
    assert!(without.has_gap() && without.depends_on_candidates());
    let loaded = completed(&one.pem, &one, &root.pem(), &found);
    let [finding] = loaded.findings.as_slice() else { panic!("{:?}", loaded.findings) };
    assert_eq!(finding.to_string(), "CN=Intermediate is missing from tls.crt and was added from Secret shop/other");
    assert_eq!(
        (finding.code(), finding.severity(), finding.is_repaired()),
        ("chain-completed", Severity::Warning, true)
    );
    let credential = loaded.credential.unwrap();
    assert!(!credential.has_gap() && credential.depends_on_candidates());
    assert_eq!(credential.chain()[1], *intermediate.der());
    let summary = credential.summary();
    assert_eq!((summary.chain_length, &summary.outline.path[1].added_from), (2, &Some("Secret shop/other".into())));
}

#[test]
fn several_levels_may_be_missing_and_gaps_may_lie_between() {
    let root = root("Root");
    let upper = ca("Upper", &root);
    let middle = ca("Middle", &upper);
    let lower = ca("Lower", &middle);
    let leaf = leaf(&lower);
    let both = (vec!["chain-completed"; 2], 4);
    assert_eq!(check(&format!("{}{}", leaf.pem, lower.pem()), &leaf, &root, &[&middle, &upper]), both);
    let between = format!("{}{}{}", leaf.pem, lower.pem(), upper.pem());
    assert_eq!(check(&between, &leaf, &root, &[&middle]), (vec!["chain-completed"], 4));
    // One certificate further into nowhere is no help.
    assert_eq!(check(&leaf.pem, &leaf, &root, &[&lower, &middle]), (vec!["missing-intermediate"], 1));
}

#[test]
fn nothing_is_added_where_nothing_is_missing() {
    let (root, stranger) = (root("Root"), root("Stranger"));
    let intermediate = ca("Intermediate", &root);
    let shorter_lived = cross_signed("Intermediate", intermediate.key(), &root, |params| valid(params, -1, 100));
    let leaf = leaf(&intermediate);
    let whole = format!("{}{}", leaf.pem, shorter_lived.pem());
    let loaded = completed(&whole, &leaf, &root.pem(), &candidates(&[intermediate.pem()]));
    assert!(!loaded.credential.unwrap().depends_on_candidates());
    assert_eq!(check(&whole, &leaf, &root, &[&intermediate]), (vec![], 2));
    let self_signed_above = format!("{}{}{}", leaf.pem, intermediate.pem(), root.pem());
    assert_eq!(check(&self_signed_above, &leaf, &stranger, &[&shorter_lived]), (vec!["untrusted-root"], 2));
}

#[test]
fn only_the_key_that_signed_fits() {
    let root = root("Root");
    let intermediate = ca("Intermediate", &root);
    let leaf = leaf(&intermediate);
    let impostor = ca("Intermediate", &root);
    assert_eq!(check(&leaf.pem, &leaf, &root, &[&impostor]), (vec!["missing-intermediate"], 1));
    // Without key identifiers only the signature tells them apart.
    let plain = |params: &mut CertificateParams| params.use_authority_key_identifier_extension = false;
    let anonymous = leaf_with(&intermediate, plain);
    assert_eq!(
        check(&anonymous.pem, &anonymous, &root, &[&impostor]),
        (vec!["untrusted-root", "strict-clients-refuse"], 1)
    );
    let found = check(&anonymous.pem, &anonymous, &root, &[&impostor, &intermediate]);
    assert_eq!(found, (vec!["chain-completed", "strict-clients-refuse"], 2));
    // One that stands in tls.crt with the wrong key is told as before, and the right one is added all the same.
    let wrong = format!("{}{}", leaf.pem, impostor.pem());
    assert_eq!(check(&wrong, &leaf, &root, &[&intermediate]), (vec!["chain-completed", "unrelated-certificate"], 2));
}

#[test]
fn of_several_the_one_that_lives_longest_is_added() {
    let root = root("Root");
    let old = ca_with("Intermediate", &root, |params| valid(params, -900, -1));
    let short = cross_signed("Intermediate", old.key(), &root, |params| valid(params, -10, 40));
    let long = cross_signed("Intermediate", old.key(), &root, |_| {});
    let leaf = leaf(&old);
    assert_eq!(check(&leaf.pem, &leaf, &root, &[&old, &long, &short]), (vec!["chain-completed"], 2));
    let found = check(&leaf.pem, &leaf, &root, &[&old, &short]);
    assert_eq!(found, (vec!["chain-completed", "intermediate-expires-first"], 2));
    // A longer way that is valid is better than a short one that is not.
    let upper = ca("Upper", &root);
    let around = cross_signed("Intermediate", old.key(), &upper, |_| {});
    let found = check(&leaf.pem, &leaf, &root, &[&old, &upper, &around]);
    assert_eq!(found, (vec!["chain-completed", "chain-completed"], 3));
    // An expired one alone is added, and said to be expired in words that look for it in the right place.
    let loaded = completed(&leaf.pem, &leaf, &root.pem(), &candidates(&[old.pem()]));
    assert_eq!(codes(&loaded).0, ["chain-completed", "intermediate-expires-first", "expired"]);
    let expired = loaded.credential.unwrap().dated(at(NOW)).findings.remove(0).to_string();
    assert!(expired.starts_with("The added certificate 2 (CN=Intermediate) expired on "), "{expired}");
}

#[test]
fn what_may_not_issue_is_no_candidate() {
    let root = root("Root");
    let refused: [fn(&mut CertificateParams); 3] = [
        |params| params.is_ca = IsCa::ExplicitNoCa,
        |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
    ];
    for change in refused {
        assert!(candidates(&[ca_with("Intermediate", &root, change).pem()]).is_empty());
    }
    let upper = ca_with("Upper", &root, |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let lower = ca("Lower", &upper);
    let below = leaf(&lower);
    assert_eq!(check(&below.pem, &below, &root, &[&lower, &upper]), (vec!["missing-intermediate"], 1));
    let direct = leaf(&upper);
    assert_eq!(check(&direct.pem, &direct, &root, &[&upper]), (vec!["chain-completed"], 2));
    // Signed with SHA-1: clients would refuse the chain as they refuse the gap.
    let openssl = OpenSsl::new();
    openssl.ca("-algorithm RSA -pkeyopt rsa_keygen_bits:2048");
    openssl.run("req -new -key ca.key -subj /CN=Weak -out weak.csr");
    std::fs::write(openssl.path("weak.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n").unwrap();
    openssl.run(
        "x509 -req -in weak.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile weak.ext -sha1 -out weak.pem",
    );
    assert!(candidates(&[openssl.read("weak.pem")]).is_empty());
}

#[test]
fn a_private_chain_is_completed_up_to_ca_crt_or_to_the_root_in_tls_crt() {
    let private = root("Private");
    let intermediate = ca("Intermediate", &private);
    let leaf = leaf(&intermediate);
    let found = candidates(&[intermediate.pem()]);
    let loaded = Credential::load_completed(
        leaf.pem.as_bytes(),
        leaf.key.as_bytes(),
        private.pem().as_bytes(),
        &TrustAnchors::public(),
        &found,
    );
    assert_eq!(codes(&loaded), (vec!["chain-completed"], 2));
    // Nobody says where it should end: it stays as it is.
    assert_eq!(codes(&completed(&leaf.pem, &leaf, "", &found)), (vec!["unanchored"], 1));
    // A root in tls.crt says so.
    let with_root = format!("{}{}", leaf.pem, private.pem());
    let loaded = completed(&with_root, &leaf, "", &found);
    assert_eq!(codes(&loaded), (vec!["chain-completed", "unanchored"], 2));
    let outline = loaded.credential.unwrap().summary().outline;
    assert!(matches!(&outline.end, OutlineEnd::UnknownRoot { subject } if &**subject == "CN=Private"));
}

#[test]
fn circles_and_crowds_cost_bounded_work() {
    let root = root("Root");
    let first = ca("A", &root);
    let mut circle = Vec::new();
    for _ in 0..30 {
        let other = ca("B", &first);
        circle.push(cross_signed("A", first.key(), &other, |_| {}).pem());
        circle.push(other.pem());
    }
    let below = leaf(&first);
    let loaded = completed(&below.pem, &below, &root.pem(), &candidates(&circle));
    assert_eq!(codes(&loaded), (vec!["missing-intermediate"], 1));
    // A thousand with one name, of which one has the right key.
    let mut crowd: Vec<String> = Vec::new();
    let right = ca("Crowd", &root);
    let below = leaf(&right);
    for index in 0..1_000 {
        crowd.push(if index == 700 { right.pem() } else { ca("Crowd", &root).pem() });
    }
    let crowd = candidates(&crowd);
    assert_eq!(crowd.len(), 1_000);
    assert_eq!(codes(&completed(&below.pem, &below, &root.pem(), &crowd)), (vec!["chain-completed"], 2));
}

#[test]
fn equal_candidates_are_equal_in_whatever_order_they_came() {
    let root = root("Root");
    let (one, other) = (ca("One", &root).pem(), ca("Other", &root).pem());
    let mut first = Candidates::new();
    first.add_pem(one.as_bytes(), "a");
    first.add_pem(format!("{other}{one}").as_bytes(), "b");
    let mut second = Candidates::new();
    second.add_pem(format!("{other}{one}").as_bytes(), "b");
    assert_ne!(first, second, "one of them was seen elsewhere as well");
    let mut added = Candidates::new();
    added.add_pem(one.as_bytes(), "a");
    second.extend(&added);
    assert_eq!((&first, first.len()), (&second, 2));
    let errors = second.add_pem(format!("{}{one}", "-----BEGIN X-----\nAAAA\n-----END X-----\n").as_bytes(), "c");
    assert_eq!(
        errors[0].to_string(),
        "block 1 at byte 0 cannot be used: it is a block whose label (1 bytes) is not known, not a CERTIFICATE"
    );
    assert_eq!(format!("{second:?}"), "Candidates(2)");
}

#[test]
fn the_tree_shows_what_was_added_and_from_where() {
    let root = root("Root");
    let intermediate = ca("Intermediate", &root);
    let leaf = leaf(&intermediate);
    let found = candidates(&[intermediate.pem()]);
    let (chain, findings) = Chain::load_completed(leaf.pem.as_bytes(), b"", &anchors(&root.pem()), &found);
    let report = handfast::check::chain::judge(chain.as_ref(), findings, None, at(NOW));
    let table = report.table();
    let lines: Vec<&str> = table.lines().take(3).collect();
    assert_eq!(
        lines,
        [
            "1: CN=shop.example, ecdsa-p256, 2025-12-22 to 2026-03-22",
            "└─ added: CN=Intermediate, ecdsa-p256, 2021-01-02 to 2035-12-30, from Secret shop/0",
            "     warning chain-completed: CN=Intermediate is missing from tls.crt and was added from Secret shop/0.",
        ]
    );
    assert!(report.accepted, "{table}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["certificates"][1]["added_from"], "Secret shop/0");
    assert_eq!(json["certificates"][0]["added_from"], serde_json::Value::Null);
}
