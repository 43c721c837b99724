//! Each finding about a chain, brought about by a real certificate.

use std::collections::BTreeSet;

use handfast::demo::pki::{KeyType, generate};
use handfast::tls::Severity;
use handfast::tls::chain::{AnchorSource, Chain, Credential, Finding, Name, OutlineEnd, Role, TrustAnchors};
use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};

use crate::manifests::{NOW, at};
use crate::pki::{
    Ca, Leaf, OpenSsl, anchors, ca, ca_with, codes, codes_at, cross_signed, domain_validated, issuer_url, leaf,
    leaf_params, leaf_with, load, must_staple, root, sct_list, soon, valid,
};

fn no(codes: &[&str]) {
    assert_eq!(codes, [""; 0]);
}

#[test]
fn a_chain_is_complete_at_any_kind_of_anchor_and_at_no_other() {
    let (trusted, stranger) = (root("Root"), root("Stranger"));
    let intermediate = ca("Intermediate", &trusted);
    let leaf = leaf(&intermediate);
    let chain = format!("{}{}", leaf.pem, intermediate.pem());
    no(&codes(&chain, &leaf, &trusted.pem()));
    assert_eq!(codes(&chain, &leaf, &stranger.pem()), ["missing-intermediate"]);
    assert_eq!(codes(&chain, &leaf, ""), ["unanchored"]);
    // An anchor need not have signed itself (RFC 5280 section 6.1.1 d).
    no(&codes(&leaf.pem, &leaf, &intermediate.pem()));
    let in_secret = |ca_crt: &str| {
        let anchors = TrustAnchors::public();
        let loaded = Credential::load(chain.as_bytes(), leaf.key.as_bytes(), ca_crt.as_bytes(), &anchors);
        let credential = loaded.credential.unwrap();
        assert_eq!(credential.chain().len(), 2, "what is in ca.crt is never served");
        (loaded.findings.iter().map(Finding::code).collect::<Vec<_>>(), credential.summary().outline.end.clone())
    };
    let (found, end) = in_secret(&trusted.pem());
    no(&found);
    let subject = "CN=Root".into();
    assert_eq!(end, OutlineEnd::Anchor { subject, source: AnchorSource::Secret });
    assert_eq!(in_secret(&stranger.pem()).0, ["missing-intermediate"]);
    assert_eq!(in_secret("not PEM").0, ["unusable-ca", "unanchored"]);
    let key_in_place_of_root = in_secret(&leaf.key);
    assert_eq!(key_in_place_of_root.0, ["unusable-ca", "unanchored"]);
}

#[test]
fn public_roots_are_packaged_and_can_be_left_out() {
    assert!(TrustAnchors::public().len() > 100);
    assert_eq!(TrustAnchors::public(), TrustAnchors::default());
    assert!(TrustAnchors::none().is_empty() && TrustAnchors::none() != TrustAnchors::public());
    let error = |text: &str| TrustAnchors::none().with_file(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error("hello"), "it has no PEM certificate");
    assert_eq!(error(""), "it has no PEM certificate");
    let key = generate(KeyType::EcdsaP256).unwrap().serialize_pem();
    let text = format!("{}{key}", root("Root").pem());
    assert!(error(&text).starts_with("block 2 at byte ") && error(&text).contains("PRIVATE KEY, not a CERTIFICATE"));
}

#[test]
fn a_private_chain_with_a_gap_names_the_issuers_key_and_where_it_is() {
    let root = root("Root");
    let intermediate = ca("Private CA", &root);
    let leaf = leaf_with(&intermediate, |params| issuer_url(params, "http://pki.internal/ca.cer"));
    let findings = load(&leaf.pem, &leaf, "").findings;
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let text = finding.to_string();
    assert_eq!((finding.code(), finding.severity()), ("unanchored", Severity::Warning));
    assert!(
        text.contains("CN=Private CA, key identifier ") && text.contains(", published at http://pki.internal/ca.cer,"),
        "{text}"
    );
    let remedy = finding.remedy();
    assert!(
        remedy.ends_with(
            "the file of --trust-anchors; get it with curl -s http://pki.internal/ca.cer | openssl x509 -inform der"
        ),
        "{remedy}"
    );
    // Where somebody has said whom the clients trust, it is certain that they refuse.
    let findings = load(&leaf.pem, &leaf, &root.pem()).findings;
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((finding.code(), finding.severity()), ("missing-intermediate", Severity::Error));
    assert!(finding.to_string().contains("CN=Private CA, key identifier "), "{finding}");
    assert!(finding.remedy().contains("curl -s http://pki.internal/ca.cer"), "{}", finding.remedy());
    // Of a root that is there, nothing has to be got.
    let chain = format!("{}{}{}", leaf.pem, intermediate.pem(), root.pem());
    let findings = load(&chain, &leaf, "").findings;
    let unanchored = findings.iter().find(|finding| finding.code() == "unanchored").unwrap();
    assert!(
        !unanchored.to_string().contains("key identifier") && !unanchored.remedy().contains("curl"),
        "{findings:?}"
    );
}

#[test]
fn a_public_certificate_without_its_intermediate_names_it_and_where_it_is() {
    let root = root("Root");
    let intermediate = ca("Issuing CA", &root);
    let marks: [fn(&mut rcgen::CertificateParams); 2] = [sct_list, domain_validated];
    for mark in marks {
        let leaf = leaf_with(&intermediate, |params| {
            mark(params);
            issuer_url(params, "http://ca.example/issuing.cer");
        });
        let loaded = load(&leaf.pem, &leaf, &root.pem());
        let [finding] = loaded.findings.as_slice() else { panic!("{:?}", loaded.findings) };
        let text = finding.to_string();
        assert_eq!((finding.code(), finding.severity()), ("missing-intermediate", Severity::Error));
        assert!(
            text.contains("CN=Issuing CA, key identifier ") && text.contains("http://ca.example/issuing.cer"),
            "{text}"
        );
        assert!(finding.remedy().contains("http://ca.example/issuing.cer"));
        // Incomplete, and served all the same.
        assert_eq!(loaded.credential.unwrap().chain().len(), 1);
    }
    // A URL that a shell would take apart is shown, and no command is made of it.
    for (url, command) in [
        ("http://ca.example/x.p7c", "curl -s http://ca.example/x.p7c | openssl pkcs7"),
        ("http://ca.example/x;reboot", ""),
        ("ldap://ca.example/x", ""),
    ] {
        let leaf = leaf_with(&intermediate, |params| {
            sct_list(params);
            issuer_url(params, url);
        });
        let findings = load(&leaf.pem, &leaf, &root.pem()).findings;
        assert!(findings[0].to_string().ends_with(url), "{findings:?}");
        let remedy = findings[0].remedy();
        assert!(remedy.contains(command) && (remedy.contains("curl") != command.is_empty()), "{remedy}");
    }
    // The root in its place does not help.
    let leaf = leaf_with(&intermediate, sct_list);
    let chain = format!("{}{}", leaf.pem, root.pem());
    assert_eq!(codes(&chain, &leaf, &root.pem()), ["unrelated-certificate", "missing-intermediate"]);
}

#[test]
fn a_cross_sign_above_a_trusted_root_is_surplus_and_served() {
    let (new, old) = (root("New Root"), root("Old Root"));
    let crossed = cross_signed("New Root", new.key(), &old, |_| {});
    let intermediate = ca("Intermediate", &new);
    let leaf = leaf(&intermediate);
    let chain = format!("{}{}{}", leaf.pem, intermediate.pem(), crossed.pem());
    assert_eq!(codes(&chain, &leaf, &new.pem()), ["surplus-cross-sign"]);
    assert_eq!(load(&chain, &leaf, &new.pem()).credential.unwrap().chain().len(), 3);
    // Clients that only know the old root need it: there it is on the path.
    no(&codes(&chain, &leaf, &old.pem()));
    // An expired one, as AddTrust's in 2020, harms old clients only, if another root is trusted.
    let expired = cross_signed("New Root", new.key(), &old, |params| valid(params, -900, -1));
    let chain = format!("{}{}{}", leaf.pem, intermediate.pem(), expired.pem());
    assert_eq!(codes(&chain, &leaf, &new.pem()), ["surplus-cross-sign", "expired-cross-sign"]);
    let by_old = codes(&chain, &leaf, &old.pem());
    assert_eq!(by_old, ["intermediate-expires-first", "expired"]);
}

#[test]
fn of_two_ways_up_the_one_to_an_anchor_is_taken() {
    let (known, unknown) = (root("Known"), root("Unknown"));
    let one = ca("Intermediate", &unknown);
    let other = cross_signed("Intermediate", one.key(), &known, |_| {});
    let leaf = leaf(&one);
    for chain in
        [format!("{}{}{}", leaf.pem, one.pem(), other.pem()), format!("{}{}{}", leaf.pem, other.pem(), one.pem())]
    {
        let loaded = load(&chain, &leaf, &known.pem());
        assert_eq!(loaded.findings.iter().map(Finding::code).collect::<Vec<_>>(), ["surplus-cross-sign"]);
        let outline = loaded.credential.unwrap().summary().outline;
        assert!(matches!(&outline.end, OutlineEnd::Anchor { subject, .. } if &**subject == "CN=Known"));
        assert_eq!(outline.beside[0].role, Role::CrossSign);
    }
}

#[test]
fn a_leaf_that_signed_itself_is_told_from_one_that_is_trusted() {
    let params = leaf_params();
    let key = KeyPair::generate().unwrap();
    let leaf = Leaf { pem: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
    assert_eq!(codes(&leaf.pem, &leaf, &root("Root").pem()), ["self-signed"]);
    assert_eq!(codes(&leaf.pem, &leaf, &leaf.pem), ["trusted-self-signed"]);
}

#[test]
fn what_an_issuer_may_not_do_is_found() {
    let root = root("Root");
    let found = |change: fn(&mut rcgen::CertificateParams)| {
        let intermediate = ca_with("Intermediate", &root, change);
        let leaf = leaf(&intermediate);
        let chain = format!("{}{}", leaf.pem, intermediate.pem());
        let findings = load(&chain, &leaf, &root.pem()).findings;
        (codes(&chain, &leaf, &root.pem()), findings.first().map(ToString::to_string).unwrap_or_default())
    };
    let (codes, text) = found(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(codes, ["issuer-not-ca"]);
    assert!(text.ends_with("issued the certificate below it, but is not a CA"), "{text}");
    let (codes, text) = found(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert_eq!(codes, ["issuer-not-ca"]);
    assert!(text.contains("its key usage lacks keyCertSign"), "{text}");
    let (codes, text) = found(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(codes, ["no-server-auth"]);
    assert!(text.contains("CN=Intermediate") && text.contains("clientAuth"), "{text}");
    no(&found(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]).0);
    let (codes, _) = found(|params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    assert_eq!(codes, ["name-constraint-violated"]);
    no(&found(|params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example".into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    })
    .0);
    let (codes, _) = found(|params| valid(params, -10, 20));
    assert_eq!(codes, ["intermediate-expires-first"]);
    let (codes, _) = found(|params| valid(params, 5, 200));
    assert_eq!(codes, ["not-valid-yet"]);
    let (codes, _) = found(|params| valid(params, -200, -5));
    assert_eq!(codes, ["intermediate-expires-first", "expired"]);
    let (codes, _) = found(|params| valid(params, -900, 100));
    assert_eq!(codes, ["expires-soon"]);
}

#[test]
fn a_path_longer_than_a_ca_allows_is_found() {
    let root = root("Root");
    let limited =
        |depth: u8| ca_with("Limited", &root, |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth)));
    let found = |upper: &Ca| {
        let lower = ca("Lower", upper);
        let leaf = leaf(&lower);
        codes(&format!("{}{}{}", leaf.pem, lower.pem(), upper.pem()), &leaf, &root.pem())
    };
    assert_eq!(found(&limited(0)), ["path-length-exceeded"]);
    no(&found(&limited(1)));
}

#[test]
fn fields_of_the_leaf_are_judged() {
    let root = root("Root");
    let found = |change: fn(&mut rcgen::CertificateParams)| {
        let leaf = leaf_with(&root, change);
        codes(&leaf.pem, &leaf, &root.pem())
    };
    no(&found(|_| {}));
    no(&found(|params| params.extended_key_usages.clear()));
    no(&found(|params| params.key_usages.clear()));
    type Change = fn(&mut rcgen::CertificateParams);
    let rows: [(Change, &[&str]); 14] = [
        (|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), &["leaf-is-ca"]),
        (|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth], &["no-server-auth"]),
        (|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment], &["wrong-key-usage"]),
        (must_staple, &["must-staple"]),
        (|params| valid(params, -10, -1), &["expired"]),
        (|params| valid(params, 1, 20), &["not-valid-yet"]),
        (|params| valid(params, -70, 20), &["expires-soon"]),
        (|params| valid(params, -1, 823), &[]),
        (|params| valid(params, -1, 900), &["long-validity"]),
        // Issued before 2026-03-15: 398 days are allowed.
        (
            |params| {
                sct_list(params);
                valid(params, -1, 396);
            },
            &[],
        ),
        (
            |params| {
                sct_list(params);
                valid(params, -1, 398);
            },
            &["validity-over-limit"],
        ),
        // Issued on 2026-04-01: 200 days are allowed.
        (
            |params| {
                domain_validated(params);
                valid(params, 90, 300);
            },
            &["validity-over-limit", "not-valid-yet"],
        ),
        (
            |params| params.subject_alt_names = vec![SanType::DnsName("other.example".try_into().unwrap())],
            &["name-not-covered"],
        ),
        (
            |params| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions.push(unknown);
            },
            &["path-refused"],
        ),
    ];
    for (index, (change, expected)) in rows.into_iter().enumerate() {
        assert_eq!(found(change), expected, "row {index}");
    }
}

#[test]
fn large_chains_are_measured() {
    let root = root("Root");
    let padded = |bytes: usize| {
        ca_with("Large", &root, |params| {
            let comment = CustomExtension::from_oid_content(&[2, 16, 840, 1, 113730, 1, 99], vec![0; bytes]);
            params.custom_extensions.push(comment);
        })
    };
    for (bytes, expected) in [(1_000, vec![]), (4_000, vec!["large-chain"]), (14_000, vec!["chain-over-window"])] {
        let intermediate = padded(bytes);
        let leaf = leaf(&intermediate);
        assert_eq!(codes(&format!("{}{}", leaf.pem, intermediate.pem()), &leaf, &root.pem()), expected, "{bytes}");
    }
}

#[test]
fn weak_and_odd_signatures_are_named_and_do_not_look_like_a_gap() {
    let openssl = OpenSsl::new();
    let rsa = |bits: usize| format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}");
    let pss = "-sigopt rsa_padding_mode:pss";
    let ec = |curve: &str| format!("-algorithm EC -pkeyopt ec_paramgen_curve:{curve}");
    let rows = [
        (rsa(2048), "-sha256".to_owned(), "", ""),
        (rsa(2048), format!("-sha256 {pss} -sigopt rsa_pss_saltlen:32"), "", ""),
        (rsa(2048), "-sha1".into(), "weak-signature", "SHA-1 with RSA"),
        (rsa(2048), "-md5".into(), "weak-signature", "MD5 with RSA"),
        (rsa(1024), "-sha256".into(), "weak-signature", "an RSA key of 1024 bits"),
        (
            rsa(2048),
            format!("-sha256 {pss} -sigopt rsa_pss_saltlen:10"),
            "unsupported-signature",
            "RSA-PSS with parameters",
        ),
        (ec("P-384"), "-sha1".into(), "weak-signature", "SHA-1 with ECDSA"),
        (ec("P-521"), "-sha512".into(), "", ""),
        (ec("secp256k1"), "-sha256".into(), "unsupported-signature", "a kind of key, which clients do not support"),
        ("-algorithm ED448".into(), String::new(), "unsupported-signature", "Ed448"),
    ];
    for (key, sign, code, words) in rows {
        openssl.ca(&key);
        let leaf = openssl.leaf(&sign);
        let expected: Vec<&str> = [code].into_iter().filter(|code| !code.is_empty()).collect();
        assert_eq!(codes_at(&leaf.pem, &openssl.read("ca.pem"), soon()), expected, "{key} {sign}");
        let findings = load(&leaf.pem, &leaf, &openssl.read("ca.pem")).findings;
        assert!(findings.iter().all(|finding| finding.to_string().contains(words)), "{findings:?}");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_named() {
    let openssl = OpenSsl::new();
    let certificate = leaf(&root("Root")).pem;
    let refused = |key: &str| {
        let loaded = Credential::load(certificate.as_bytes(), key.as_bytes(), b"", &TrustAnchors::none());
        let [finding] = loaded.findings.as_slice() else { panic!("{:?}", loaded.findings) };
        assert!(loaded.credential.is_none());
        (finding.code(), finding.to_string())
    };
    let rows = [
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out k", "an RSA key of 1024 bits"),
        ("genrsa -traditional -out k 1024", "an RSA key of 1024 bits"),
        ("genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out k", "restricted to RSA-PSS"),
        ("genpkey -algorithm ED448 -out k", "an Ed448 key"),
        ("genpkey -algorithm X25519 -out k", "an X25519 key, which cannot sign"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out k", "the curve secp256k1"),
        ("ecparam -genkey -noout -name secp256k1 -out k", "the curve secp256k1"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1 -out k", "the curve brainpoolP256r1"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp224r1 -out k", "the curve secp224r1"),
        ("ecparam -genkey -noout -name brainpoolP256r1 -param_enc explicit -out k", "explicit curve parameters"),
        ("ecparam -genkey -noout -name sect283k1 -out k", "the unknown curve 1.3.132.0.16"),
    ];
    for (make, words) in rows {
        openssl.run(make);
        let (code, text) = refused(&openssl.read("k"));
        assert_eq!(code, "unsupported-key", "{make}");
        assert!(text.contains(words), "{make}: {text}");
    }
    for encrypt in [
        "genpkey -algorithm ED25519 -aes128 -pass pass:secret -out k",
        "genrsa -traditional -aes128 -passout pass:secret -out k 2048",
    ] {
        openssl.run(encrypt);
        assert_eq!(refused(&openssl.read("k")).0, "encrypted-key", "{encrypt}");
    }
    // A certificate with a short key is found without its key as well.
    openssl.run("req -x509 -newkey rsa:1024 -nodes -subj /CN=short -days 5 -addext subjectAltName=DNS:shop.example -addext basicConstraints=critical,CA:FALSE -keyout k -out c");
    let short = openssl.read("c");
    assert!(codes_at(&short, &short, soon()).contains(&"weak-key"));
}

#[test]
fn a_key_that_browsers_cannot_verify_is_found_and_names_them() {
    let openssl = OpenSsl::new();
    for (key, label) in
        [("-algorithm ED25519", "ed25519"), ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "ecdsa-p521")]
    {
        openssl.run(&format!("genpkey {key} -out k"));
        openssl.run("req -x509 -new -key k -subj /CN=shop -days 5 -addext subjectAltName=DNS:shop.example -addext basicConstraints=critical,CA:FALSE -out c");
        let certificate = openssl.read("c");
        let findings = Chain::load(certificate.as_bytes(), b"", &anchors(&certificate)).1;
        let found = findings.iter().find(|finding| finding.code() == "rarely-supported-key").unwrap().to_string();
        assert!(found.contains(&format!("the certificate's {label} key (CN=shop): ")), "{found}");
        assert!(found.contains("Chrome 150") && found.contains(" more"), "{found}");
    }
}

#[test]
fn names_may_be_addresses_and_international() {
    let root = root("Root");
    let leaf = leaf_with(&root, |params| {
        params.subject_alt_names = vec![
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
            SanType::DnsName("xn--bcher-kva.example".try_into().unwrap()),
        ];
    });
    let (chain, _) = Chain::load(leaf.pem.as_bytes(), b"", &anchors(&root.pem()));
    let chain = chain.unwrap();
    for name in
        ["192.0.2.7", "2001:db8:0::7", "[2001:db8::7]", "bücher.example", "BÜCHER.example", "xn--bcher-kva.example"]
    {
        assert_eq!(chain.covers(&name.parse::<Name>().unwrap()), Ok(()), "{name}");
    }
    for name in ["192.0.2.8", "bucher.example", "a.bücher.example"] {
        assert!(chain.covers(&name.parse::<Name>().unwrap()).is_err(), "{name}");
    }
}

#[test]
fn hostile_files_cost_bounded_work_and_print_nothing_odd() {
    // Circles of CAs that sign each other, and many certificates with one name.
    let root = root("Root");
    let first = ca("A", &root);
    let mut chain = leaf(&first).pem;
    for _ in 0..40 {
        chain += &ca_with("A", &root, |_| {}).pem();
        chain += &cross_signed("A", first.key(), &ca("B", &first), |_| {}).pem();
    }
    let (found, findings) = Chain::load(chain.as_bytes(), b"", &anchors(&root.pem()));
    assert!(found.is_some() && !findings.is_empty());
    // Escape sequences in names do not reach a terminal.
    let odd = leaf_with(&root, |params| params.distinguished_name = crate::pki::named("a\u{1b}[2Jb\nc\u{202e}d"));
    let (chain, _) = Chain::load(odd.pem.as_bytes(), b"", &anchors(&root.pem()));
    let outline = chain.unwrap().outline().clone();
    assert_eq!(&*outline.path[0].subject, "CN=a?[2Jb?c?d");
}

#[test]
fn every_finding_is_brought_about_by_a_test() {
    let tests = [
        include_str!("temporary.rs"),
        include_str!("tls_chain.rs"),
        include_str!("tls_complete.rs"),
        include_str!("tls_findings.rs"),
        include_str!("tls_form.rs"),
        include_str!("tls_roots.rs"),
    ]
    .concat();
    let missing: BTreeSet<&str> =
        Finding::all().map(|about| about.code).filter(|code| !tests.contains(&format!("\"{code}\""))).collect();
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn a_tree_has_each_finding_at_its_certificate() {
    let root = root("Root");
    let intermediate = ca_with("Intermediate", &root, |params| valid(params, -10, 20));
    let leaf = leaf_with(&intermediate, must_staple);
    let stranger = ca("Stranger", &root);
    let text = format!("{}{}{}", leaf.pem, stranger.pem(), intermediate.pem());
    let (chain, findings) = Chain::load(text.as_bytes(), b"", &anchors(&root.pem()));
    let report = handfast::check::chain::judge(chain.as_ref(), findings, None, at(NOW));
    let lines: Vec<&str> = report
        .table()
        .lines()
        .map(|line| line.split(": The ").next().unwrap().trim_end())
        .map(|line| &*line.to_owned().leak())
        .collect();
    let shape: Vec<&str> = lines.iter().copied().filter(|line| !line.contains("remedy: ")).collect();
    assert_eq!(
        shape,
        [
            "1: CN=shop.example, ecdsa-p256, 2025-12-22 to 2026-03-22",
            "  error must-staple",
            "└─ 3: CN=Intermediate, ecdsa-p256, 2025-12-22 to 2026-01-21",
            "     warning intermediate-expires-first: Certificate 3 in tls.crt (CN=Intermediate) expires on 2026-01-21T00:00:00Z, before the certificate that it issued.",
            "   └─ CN=Root, trusted by --trust-anchors",
            "not in the chain:",
            "   2: CN=Stranger, ecdsa-p256, 2021-01-02 to 2035-12-30, unrelated",
            "     warning unrelated-certificate: Certificate 2 in tls.crt (CN=Stranger) does not belong to the chain.",
            "",
            "names: shop.example",
            "",
            "accepted: 1 error, 2 warnings at 2026-01-01T00:00:00Z",
        ]
    );
    assert!(report.accepted, "RFC 5280 knows nothing of must-staple");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["accepted"], &json["verdict"]), (&true.into(), &"error".into()));
    assert_eq!(json["anchor"], serde_json::json!({"subject": "CN=Root", "source": "operator"}));
    let roles: Vec<&str> =
        json["certificates"].as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["leaf", "intermediate", "unrelated"]);
}
