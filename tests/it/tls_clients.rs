//! The chain check against strict clients that exist: what it accepts they accept, what it refuses they refuse.
//!
//! The same chains go to `openssl verify`, to the JDK's trust manager and to Go's verifier. Each difference has to
//! stand in the table with its reason; one that does not is a failure, and so is a reason that has become untrue.

use std::fs;
use std::path::{Path, PathBuf};

use handfast::check;
use handfast::tls::chain::{Candidates, Chain};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::pki_types::pem::PemObject;

use crate::binary::program;
use crate::manifests::{NOW, at};
use crate::pki::{
    Ca, HOST, anchors, ca, ca_with, cross_signed, domain_validated, leaf, leaf_params, leaf_with, must_staple, root,
    sct_list, valid,
};

/// One chain as it stands in a file.
struct Case {
    name: &'static str,
    tls_crt: String,
    root: String,
    /// Clients that see it otherwise, and why.
    otherwise: &'static [(Client, &'static str)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Go,
    Java,
    OpenSsl,
}

use Client::{Go, Java, OpenSsl};

fn case(name: &'static str, tls_crt: String, root: &Ca, otherwise: &'static [(Client, &'static str)]) -> Case {
    Case { name, tls_crt, root: root.pem(), otherwise }
}

fn cases() -> Vec<Case> {
    let root = root("Root");
    let stranger = crate::pki::root("Stranger");
    let intermediate = ca("Intermediate", &root);
    let good = leaf(&intermediate);
    let chain = |parts: &[&str]| parts.concat();
    let (leaf_pem, middle) = (good.pem.as_str(), intermediate.pem());
    let mut cases = vec![
        case("complete", chain(&[leaf_pem, &middle]), &root, &[]),
        case("with-root", chain(&[leaf_pem, &middle, &root.pem()]), &root, &[]),
        case("duplicate", chain(&[leaf_pem, &middle, &middle]), &root, &[]),
        case("unrelated", chain(&[leaf_pem, &stranger.pem(), &middle]), &root, &[]),
        case("leaf-only", chain(&[leaf_pem]), &root, &[]),
        case("other-root", chain(&[leaf_pem, &middle]), &stranger, &[]),
        case("root-in-place-of-intermediate", chain(&[leaf_pem, &root.pem()]), &root, &[]),
        case("same-name-other-key", chain(&[leaf_pem, &ca("Intermediate", &root).pem()]), &root, &[]),
    ];
    let upper = ca("Upper", &root);
    let lower = ca("Lower", &upper);
    let deep = leaf(&lower);
    cases.push(case("three", chain(&[&deep.pem, &lower.pem(), &upper.pem()]), &root, &[]));
    cases.push(case("out-of-order", chain(&[&deep.pem, &upper.pem(), &lower.pem()]), &root, &[]));
    cases.push(case("gap-in-the-middle", chain(&[&deep.pem, &upper.pem()]), &root, &[]));
    cases.push(case("gap-at-the-top", chain(&[&deep.pem, &lower.pem()]), &root, &[]));

    // What is served after it was completed.
    let mut candidates = Candidates::new();
    candidates.add_pem(chain(&[&upper.pem(), &middle, &lower.pem()]).as_bytes(), "Secret shop/other");
    let served = |leaf: &str, anchors: &Ca, length: usize| {
        let anchors = crate::pki::anchors(&anchors.pem());
        let chain = Chain::load_completed(leaf.as_bytes(), b"", &anchors, &candidates).0.unwrap();
        assert_eq!(chain.certificates().len(), length);
        chain.certificates().iter().map(|der| pem(der)).collect::<String>()
    };
    cases.push(case("completed-by-one", served(leaf_pem, &root, 2), &root, &[]));
    cases.push(case("completed-by-two", served(&deep.pem, &root, 3), &root, &[]));
    cases.push(case("not-completed", served(&deep.pem, &stranger, 1), &root, &[]));

    let crossed = cross_signed("Root", root.key(), &stranger, |_| {});
    cases.push(case("cross-sign-for-the-new-root", chain(&[leaf_pem, &middle, &crossed.pem()]), &root, &[]));
    cases.push(case("cross-sign-for-the-old-root", chain(&[leaf_pem, &middle, &crossed.pem()]), &stranger, &[]));
    let expired_cross = cross_signed("Root", root.key(), &stranger, |params| valid(params, -900, -1));
    cases.push(case("expired-cross-sign", chain(&[leaf_pem, &middle, &expired_cross.pem()]), &root, &[]));
    cases.push(case("expired-cross-sign-needed", chain(&[leaf_pem, &middle, &expired_cross.pem()]), &stranger, &[]));

    let mut with_leaf = |name, otherwise, change: fn(&mut CertificateParams)| {
        let leaf = leaf_with(&intermediate, change);
        cases.push(case(name, chain(&[&leaf.pem, &middle]), &root, otherwise));
    };
    with_leaf("expired", &[], |params| valid(params, -80, -1));
    with_leaf("not-valid-yet", &[], |params| valid(params, 1, 80));
    with_leaf("expires-soon", &[], |params| valid(params, -80, 2));
    with_leaf("ten-years", &[], |params| valid(params, -1, 3650));
    with_leaf("public", &[], sct_list);
    with_leaf("public-too-long", &[], |params| {
        domain_validated(params);
        valid(params, -1, 600);
    });
    with_leaf("must-staple", &[], must_staple);
    with_leaf("no-extended-usage", &[], |params| params.extended_key_usages.clear());
    with_leaf("client-auth-only", &[], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    with_leaf("no-key-usage", &[], |params| params.key_usages.clear());
    with_leaf(
        "encipherment-only",
        &[
            (Go, "crypto/x509 does not look at the leaf's key usage"),
            (OpenSsl, "keyEncipherment will do for its purpose sslserver, as for static RSA"),
        ],
        |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
    );
    with_leaf("leaf-is-ca", &[], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    });
    with_leaf("wildcard", &[(OpenSsl, "it wants two labels behind a wildcard's star")], |params| {
        params.subject_alt_names = vec![SanType::DnsName("*.example".try_into().unwrap())];
    });
    const JAVA_NAMES: &[(Client, &str)] = &[(Java, "its trust manager checks names only within a connection")];
    with_leaf("other-name", JAVA_NAMES, |params| {
        params.subject_alt_names = vec![SanType::DnsName("other.example".try_into().unwrap())];
    });
    with_leaf("wildcard-one-label-short", JAVA_NAMES, |params| {
        params.subject_alt_names = vec![SanType::DnsName("*.shop.example".try_into().unwrap())];
    });
    with_leaf(
        "common-name-only",
        &[
            (Java, "its trust manager checks names only within a connection"),
            (OpenSsl, "it falls back to the common name where there is no subjectAltName"),
        ],
        |params| params.subject_alt_names.clear(),
    );
    with_leaf("unknown-critical-extension", &[], |params| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    });

    let mut with_issuer = |name, otherwise, change: fn(&mut CertificateParams)| {
        let intermediate = ca_with("Changed", &root, change);
        cases.push(case(name, chain(&[&leaf(&intermediate).pem, &intermediate.pem()]), &root, otherwise));
    };
    with_issuer("issuer-is-no-ca", &[], |params| params.is_ca = IsCa::ExplicitNoCa);
    with_issuer("issuer-without-key-cert-sign", &[], |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature]
    });
    with_issuer("issuer-expired", &[], |params| valid(params, -80, -1));
    with_issuer("issuer-expires-first", &[], |params| valid(params, -80, 40));
    with_issuer("issuer-not-valid-yet", &[], |params| valid(params, 1, 90));
    with_issuer("issuer-for-clients-only", &[(Java, "it does not look at extended key usages of CAs")], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    });
    with_issuer("issuer-for-other-names", &[], |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    with_issuer("issuer-for-these-names", &[], |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example".into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    with_issuer("issuer-excludes-these-names", &[], |params| {
        let excluded_subtrees = vec![GeneralSubtree::DnsName("shop.example".into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees });
    });
    for (name, depth) in [("path-length-exceeded", 0), ("path-length-kept", 1)] {
        let upper = ca_with("Limited", &root, |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth)));
        let lower = ca("Below", &upper);
        cases.push(case(name, chain(&[&leaf(&lower).pem, &lower.pem(), &upper.pem()]), &root, &[]));
    }
    let key = KeyPair::generate().unwrap();
    let own = leaf_params().self_signed(&key).unwrap().pem();
    cases.push(case("self-signed", own.clone(), &root, &[]));
    cases.push(Case { name: "self-signed-and-trusted", tls_crt: own.clone(), root: own, otherwise: &[] });
    cases
}

#[test]
fn strict_clients_agree_about_every_chain() {
    let directory = tempfile::tempdir().unwrap();
    let cases = cases();
    let mut folders = Vec::new();
    let mut ours = Vec::new();
    for case in &cases {
        let folder = directory.path().join(case.name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("root.pem"), &case.root).unwrap();
        let (chain, findings) = Chain::load(case.tls_crt.as_bytes(), b"", &anchors(&case.root));
        // Clients get what would be served, which is what the verdict is about.
        let served = chain.as_ref().unwrap().certificates().iter().map(|der| pem(der)).collect::<String>();
        fs::write(folder.join("chain.pem"), &served).unwrap();
        let (first, rest) = served.split_once("-----END CERTIFICATE-----\n").unwrap();
        fs::write(folder.join("leaf.pem"), format!("{first}-----END CERTIFICATE-----\n")).unwrap();
        fs::write(folder.join("rest.pem"), rest).unwrap();
        let name = HOST.parse().unwrap();
        ours.push(check::chain::judge(chain.as_ref(), findings, Some(&name), at(NOW)));
        folders.push(folder);
    }
    assert!(ours.iter().filter(|report| report.accepted).count() >= 15);
    assert!(ours.iter().filter(|report| !report.accepted).count() >= 15);

    let mut surprises = Vec::new();
    for (client, answers) in
        [(OpenSsl, openssl(&folders)), (Java, java(directory.path(), &folders)), (Go, go(&folders))]
    {
        assert_eq!(answers.len(), cases.len(), "{client:?}: {answers:?}");
        for ((case, report), answer) in cases.iter().zip(&ours).zip(&answers) {
            let agrees = (answer == "OK") == report.accepted;
            let explained = case.otherwise.iter().find(|(other, _)| *other == client);
            if agrees == explained.is_some() {
                let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
                surprises.push(format!(
                    "{} {client:?}: it says {answer:?}, we say {} {codes:?}, explained by {explained:?}",
                    case.name, report.accepted
                ));
            }
        }
    }
    assert!(surprises.is_empty(), "\n{}", surprises.join("\n"));
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let text = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    assert_eq!(rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), der);
    text
}

fn openssl(folders: &[PathBuf]) -> Vec<String> {
    let verify = |folder: &PathBuf| {
        let mut command = program("openssl");
        command.args(["verify", "-no-CApath", "-no-CAstore", "-purpose", "sslserver", "-verify_hostname", HOST]);
        command.args(["-attime", &NOW.to_string(), "-CAfile", "root.pem"]).current_dir(folder);
        if fs::metadata(folder.join("rest.pem")).unwrap().len() > 0 {
            command.args(["-untrusted", "rest.pem"]);
        }
        let output = command.arg("leaf.pem").output().unwrap();
        match output.status.success() {
            true => "OK".to_owned(),
            false => format!("NO {}", String::from_utf8_lossy(&output.stderr).replace('\n', " ")),
        }
    };
    folders.iter().map(verify).collect()
}

fn java(directory: &Path, folders: &[PathBuf]) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/Verify.java");
    let compiled = program("javac").arg("-d").arg(directory).arg(source).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let mut command = program("java");
    // The JDK judges name constraints and algorithms as in production; only the roots are ours.
    lines(command.arg("-cp").arg(directory).arg("Verify").arg(NOW.to_string()).args(folders).output().unwrap())
}

fn go(folders: &[PathBuf]) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/verify.go");
    let mut command = program("go");
    lines(command.arg("run").arg(source).arg(HOST).arg(NOW.to_string()).args(folders).output().unwrap())
}

fn lines(output: std::process::Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
