//! Where chains end: at roots that nobody trusts, that trust stores have removed, or whose own dates are past.

use std::time::Duration;

use handfast::check;
use handfast::tls::chain::{Chain, Credential, Finding, OutlineEnd, TrustAnchors};
use handfast::tls::reason::{Blame, Reason};
use handfast::tls::{Severity, rejection};
use rcgen::{CertificateParams, CustomExtension, KeyIdMethod, KeyPair};
use rustls::pki_types::UnixTime;

use crate::manifests::{NOW, at};
use crate::pki::{Ca, Leaf, ca, ca_params, leaf, leaf_with, root, sct_list, valid, withdrawn};

/// Judged with the public roots and a Secret's ca.crt.
fn findings(tls_crt: &str, leaf: &Leaf, ca_crt: &str) -> Vec<Finding> {
    let anchors = TrustAnchors::public();
    let loaded = Credential::load(tls_crt.as_bytes(), leaf.key.as_bytes(), ca_crt.as_bytes(), &anchors);
    let mut findings = loaded.findings;
    findings.extend(loaded.credential.unwrap().dated(at(NOW)).findings);
    findings
}

fn codes(tls_crt: &str, leaf: &Leaf, ca_crt: &str) -> Vec<&'static str> {
    findings(tls_crt, leaf, ca_crt).iter().map(Finding::code).collect()
}

/// The same root again, with other days.
fn again(root: &Ca, from: i64, to: i64) -> Ca {
    let mut params = ca_params("Root");
    valid(&mut params, from, to);
    Ca::self_signed(params, KeyPair::from_pem(&root.key().serialize_pem()).unwrap()).unwrap()
}

fn dated_root(from: i64, to: i64) -> Ca {
    let mut params = ca_params("Root");
    valid(&mut params, from, to);
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn a_root_that_is_none_of_the_stated_ones_is_an_error_and_without_a_statement_a_warning() {
    let (own, other) = (root("Own Root"), root("Other Root"));
    let issuer = ca("Intermediate", &own);
    let leaf = leaf(&issuer);
    let whole = format!("{}{}{}", leaf.pem, issuer.pem(), own.pem());
    assert_eq!(codes(&whole, &leaf, ""), ["unanchored"]);
    assert_eq!(codes(&whole, &leaf, &other.pem()), ["untrusted-root"]);
    assert_eq!(codes(&whole, &leaf, &own.pem()), ["root-included"]);
    let by_file = |anchors: TrustAnchors| {
        let (chain, findings) = Chain::load(whole.as_bytes(), b"", &anchors);
        let report = check::chain::judge(chain.as_ref(), findings, None, at(NOW));
        assert!(!report.accepted);
        report.findings.iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
    };
    let expected = [("untrusted-root", "error")];
    assert_eq!(by_file(TrustAnchors::public().with_file(other.pem().as_bytes()).unwrap()), expected);
    assert_eq!(by_file(TrustAnchors::none()), expected, "--only-anchors without any");
    // Two roots with one name: whoever renewed the CA with a new key has to hear of it.
    let namesake = root("Own Root");
    let found = findings(&whole, &leaf, &namesake.pem());
    assert_eq!(
        found[0].to_string(),
        "The chain leads to CN=Own Root, and the trust anchor of this name has another key"
    );
    let without_root = format!("{}{}", leaf.pem, issuer.pem());
    assert_eq!(codes(&without_root, &leaf, &namesake.pem()), ["untrusted-root"]);
}

#[test]
fn what_is_missing_is_told_where_the_certificate_says_it() {
    let (own, other) = (root("Own Root"), root("Other Root"));
    let issuer = ca("Intermediate", &own);
    type Change = fn(&mut CertificateParams);
    let rows: [(&str, Change, &str); 3] = [
        ("key identifier", |_| {}, "missing-intermediate"),
        (
            "AIA",
            |params| {
                params.use_authority_key_identifier_extension = false;
                crate::pki::issuer_url(params, "http://ca.example/i.cer");
            },
            "missing-intermediate",
        ),
        ("name alone", |params| params.use_authority_key_identifier_extension = false, "untrusted-root"),
    ];
    for (what, change, code) in rows {
        let leaf = leaf_with(&issuer, change);
        let found = findings(&leaf.pem, &leaf, &other.pem());
        assert_eq!((found[0].code(), found[0].severity()), (code, Severity::Error), "{what}");
        assert!(found[0].to_string().contains("CN=Intermediate"), "{}", found[0]);
        assert!(found[0].remedy().contains("root"), "{}", found[0].remedy());
    }
    // An authority key identifier that names a certificate which is its own issuer names a root.
    let leaf = leaf_with(&issuer, |params| {
        params.use_authority_key_identifier_extension = false;
        // keyIdentifier 1, authorityCertIssuer CN=Intermediate, authorityCertSerialNumber 1.
        let name = [b"\x30\x17\x31\x15\x30\x13\x06\x03\x55\x04\x03\x0c\x0c".as_slice(), b"Intermediate"].concat();
        let content = [b"\x30\x23\x80\x01\x01\xa1\x1b\xa4\x19".as_slice(), &name, b"\x82\x01\x01"].concat();
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 35], content));
    });
    assert_eq!(codes(&leaf.pem, &leaf, &other.pem()), ["untrusted-root"]);
}

#[test]
fn a_withdrawn_public_root_is_told_with_who_removed_it_and_no_intermediate_is_asked_for() {
    let gone = withdrawn();
    let issuer = ca("Issuing CA", &gone);
    let leaf = leaf_with(&issuer, sct_list);
    let chain = format!("{}{}", leaf.pem, issuer.pem());
    for ca_crt in ["", &root("Other").pem()] {
        let found = findings(&chain, &leaf, ca_crt);
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (finding.code(), finding.severity(), finding.is_refused()),
            ("withdrawn-root", Severity::Error, true)
        );
        let text = finding.to_string();
        assert!(
            text.starts_with(
                "The chain leads to the public root CN=DigiCert Global Root CA: it was removed by Mozilla"
            )
        );
        assert!(
            text.contains("still in the list of Microsoft") && text.contains("until it ends on 2031-11-10"),
            "{text}"
        );
        assert!(!finding.remedy().starts_with("add"), "{}", finding.remedy());
    }
    // Whoever names it trusts it.
    assert_eq!(codes(&chain, &leaf, &gone.pem()), [""; 0]);
    // Without the intermediate, that is what is missing.
    assert_eq!(codes(&leaf.pem, &leaf, ""), ["missing-intermediate"]);
    // Its name with another key identifier is another root.
    let namesake = root("DigiCert Global Root CA");
    let issuer = ca("Issuing CA", &namesake);
    let leaf = crate::pki::leaf(&issuer);
    let chain = format!("{}{}", leaf.pem, issuer.pem());
    assert_eq!(codes(&chain, &leaf, ""), ["unanchored"]);
    let public = leaf_with(&issuer, sct_list);
    let chain = format!("{}{}{}", public.pem, issuer.pem(), namesake.pem());
    assert_eq!(codes(&chain, &public, ""), ["untrusted-root"], "the marks of a public CA, and no public root");
    // Without a key identifier the name has to do.
    let issuer =
        crate::pki::ca_with("Issuing CA", &gone, |params| params.use_authority_key_identifier_extension = false);
    let leaf = crate::pki::leaf(&issuer);
    assert_eq!(codes(&format!("{}{}", leaf.pem, issuer.pem()), &leaf, ""), ["withdrawn-root", "strict-clients-refuse"]);
}

#[test]
fn clients_that_reject_a_chain_below_a_withdrawn_root_are_not_to_blame() {
    let issuer = ca("Issuing CA", &withdrawn());
    let leaf = leaf_with(&issuer, sct_list);
    let chain = format!("{}{}", leaf.pem, issuer.pem());
    let loaded = Credential::load(chain.as_bytes(), leaf.key.as_bytes(), b"", &TrustAnchors::public());
    let credential = loaded.credential.unwrap();
    // An intermediate with a cross-sign may still come.
    assert!(credential.has_gap());
    let summary = credential.summary();
    assert!(matches!(&summary.outline.end, OutlineEnd::Withdrawn { is_missing: true, .. }));
    let told = rejection::explain(Reason::RejectedUnknownCa, &summary, Some("shop.example"), at(NOW)).unwrap();
    assert_eq!(told.blame, Blame::Certificate);
    assert!(told.detail.contains("DigiCert Global Root CA: it was removed by Mozilla"), "{}", told.detail);
    assert!(summary.outline.tree(&[], "").contains("a public root that was withdrawn"));
}

#[test]
fn a_root_in_ca_crt_that_is_past_or_to_come_is_an_error_that_names_who_refuses() {
    let day = 86_400;
    for (from, to, code, words) in [
        (-1825, -2, "expired-root", "The root CN=Root in ca.crt expired on 2025-12-30T00:00:00Z: "),
        (3, 1825, "root-not-valid-yet", "The root CN=Root in ca.crt is not valid before 2026-01-04T00:00:00Z: "),
    ] {
        let root = dated_root(from, to);
        let issuer = ca("Intermediate", &root);
        let leaf = leaf(&issuer);
        let chain = format!("{}{}", leaf.pem, issuer.pem());
        let found = findings(&chain, &leaf, &root.pem());
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((finding.code(), finding.severity(), finding.field()), (code, Severity::Error, "data[ca.crt]"));
        assert_eq!(finding.to_string(), format!("{words}OpenSSL, Go, GnuTLS and NSS refuse it"));
        // The same root again, beside it or in its place: some way is open.
        let renewed = again(&root, -1, 1825);
        assert_eq!(codes(&chain, &leaf, &renewed.pem()), [""; 0]);
        assert_eq!(codes(&chain, &leaf, &format!("{}{}", root.pem(), renewed.pem())), [""; 0]);
        // A file of the operator's is no field of the Secret.
        let anchors = TrustAnchors::public().with_file(root.pem().as_bytes()).unwrap();
        let (chain, _) = Chain::load(chain.as_bytes(), b"", &anchors);
        let dated = chain.unwrap().dated(at(NOW)).findings;
        assert!(dated[0].to_string().contains("in the file of --trust-anchors") && dated[0].field() == "data[tls.crt]");
    }
    // Time alone brings it about, to the second.
    let root = dated_root(-1825, 20);
    let issuer = ca("Intermediate", &root);
    let leaf = leaf(&issuer);
    let chain = format!("{}{}", leaf.pem, issuer.pem());
    let loaded = Credential::load(chain.as_bytes(), leaf.key.as_bytes(), root.pem().as_bytes(), &TrustAnchors::none());
    let credential = loaded.credential.unwrap();
    let end = NOW + 20 * day;
    let judged = |time| {
        let dated = credential.dated(at(time));
        (dated.findings.iter().map(Finding::code).collect::<Vec<_>>(), dated.changes_at)
    };
    assert_eq!(judged(end), (vec![], Some(at(end + 1))));
    assert_eq!(judged(end + 1).0, ["expired-root"]);
    assert!(judged(end + 1).1.is_some_and(|next| next > at(end + 1)));
    // A client that says "expired" then is right.
    let told = rejection::explain(Reason::RejectedExpired, &credential.summary(), None, at(end + 1)).unwrap();
    assert_eq!((told.blame, &*told.detail), (Blame::Certificate, "the root CN=Root expired at 2026-01-21T00:00:00Z"));
    let before = rejection::explain(Reason::RejectedExpired, &credential.summary(), None, at(end)).unwrap();
    assert_eq!(before.blame, Blame::Client);
}

#[test]
fn an_intermediate_in_ca_crt_is_an_anchor_whose_dates_count_as_well() {
    let upper = root("Upper");
    let anchor = crate::pki::ca_with("Anchor", &upper, |params| valid(params, -900, -1));
    let leaf = leaf(&anchor);
    assert_eq!(codes(&leaf.pem, &leaf, &anchor.pem()), ["expired-root"]);
}

#[test]
fn public_roots_have_no_dates_that_anybody_knows() {
    let outline = handfast::tls::chain::Outline::default();
    let later = UnixTime::since_unix_epoch(Duration::from_secs(10 * NOW));
    assert_eq!(outline.anchor_dates(later), None);
    // Two certificates with one name and key are one anchor for the walk as well.
    let mut params = ca_params("Root");
    params.key_identifier_method = KeyIdMethod::Sha384;
    let root = Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let leaf = leaf(&root);
    let twice = format!("{}{}", again(&root, -900, -1).pem(), root.pem());
    assert_eq!(codes(&leaf.pem, &leaf, &twice), [""; 0]);
}
