//! What a change of a Secret does to handshakes: two certificates for one host, and what was usable last.
//!
//! As policies.rs, with the real binary on a directory: the certificate that a client meets proves what is served.

use handfast::demo::pki::{Authority, Issued, KeyType};
use rcgen::{DistinguishedName, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{AlertDescription, SignatureScheme};

use crate::binary::{Server, host, issue, secret, service, wait_until};
use crate::handshake::Client;
use crate::pki::{leaf_with, root, valid_around};
use crate::policies::{meet, s_client, wait_for_reports};

/// Files with the Ingress of a host and, apart from it, its Secret.
fn apart(name: &str, issued: &Issued, annotations: &str) -> Vec<(String, String)> {
    let (file, text) = host(name, &format!("{name}.test"), Some(issued), "echo", annotations);
    let (ingress, secret) = text.split_once("---\n").unwrap();
    vec![(file, ingress.to_owned()), (secret_file(name), secret.to_owned())]
}

fn secret_file(name: &str) -> String {
    format!("{name}-tls.yaml")
}

fn echo() -> (String, String) {
    service("echo", &["127.0.0.1:9".parse().unwrap()])
}

fn leaf_of(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.leaf.as_bytes()).unwrap()
}

/// What a client meets that verifies nothing: whether it should have connected is not its business.
fn leaf(server: &Server, name: &str) -> Result<CertificateDer<'static>, AlertDescription> {
    let everything = aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes();
    meet(server, name, Client { schemes: Some(everything), ..Client::default() }).map(|met| met.leaf)
}

fn delete(server: &Server, name: &str) {
    std::fs::remove_file(server.directory.path().join(secret_file(name))).unwrap();
}

/// How a host stands in the snapshot.
fn shown(server: &Server, name: &str) -> String {
    let text = server.admin("/debug/snapshot").1;
    let start = text.find(&format!("host {name}\n")).unwrap_or_else(|| panic!("{name}: {text}"));
    let rest = &text[start + 5..];
    rest[..rest.find("\nhost ").unwrap_or(rest.len())].to_owned()
}

/// The bits of the server's key, as a client with these options of `openssl s_client` meets it.
fn bits(server: &Server, name: &str, args: &[&str]) -> Option<u32> {
    let text = s_client(server, name, &[args, &["-verify_return_error"]].concat());
    let line = text.lines().find_map(|line| line.strip_prefix("Server public key is "));
    assert!(line.is_some() || text.contains("alert handshake failure"), "{name} {args:?}: {text}");
    line.map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
}

#[test]
fn a_host_with_two_certificates_gives_each_client_the_one_that_it_can_use() {
    let manifests = |authority: &Authority| {
        let of = |name: &str, key| issue(authority, &[name], key);
        let two_entries = |name: &str, rsa: &Issued| {
            let domain = format!("{name}.test");
            let (file, text) = host(name, &domain, Some(&of(&domain, KeyType::EcdsaP256)), "echo", "");
            let entry = format!("    secretName: {name}\n");
            let both = format!("{entry}  - hosts: [\"{domain}\"]\n    secretName: {name}-rsa\n");
            let text = text.replacen(&entry, &both, 1);
            (file, format!("{text}---\n{}", secret(&format!("{name}-rsa"), rsa)))
        };
        let mut mismatched = of("half.test", KeyType::Rsa2048);
        mismatched.key = of("half.test", KeyType::Rsa2048).key;
        let more = of("more.test", KeyType::EcdsaP256);
        vec![
            two_entries("two", &of("two.test", KeyType::Rsa2048)),
            two_entries("half", &mismatched),
            host("more", "more.test", Some(&more), "echo", "handfast.dev/additional-tls-secrets: more-rsa"),
            ("more-rsa.yaml".into(), secret("more-rsa", &of("more.test", KeyType::Rsa2048))),
            echo(),
        ]
    };
    let server = Server::start(&manifests, &[]);
    let rsa_only: [&[&str]; 3] = [
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-sigalgs", "RSA+SHA256"],
        &["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"],
    ];
    let ecdsa_too: [&[&str]; 4] = [
        &["-tls1_2"],
        &["-tls1_3"],
        &["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256"],
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"],
    ];
    for name in ["two.test", "more.test"] {
        for args in rsa_only {
            assert_eq!(bits(&server, name, args), Some(2048), "{name} {args:?}");
        }
        for args in ecdsa_too {
            assert_eq!(bits(&server, name, args), Some(256), "{name} {args:?}");
        }
    }

    // The other certificate serves all that can use it, and the broken one is named.
    assert_eq!(server.metric("handfast_diagnostics", &[r#"reason="key-mismatch""#]), 1.0);
    for args in rsa_only {
        assert_eq!(bits(&server, "half.test", args), None, "{args:?}");
    }
    for args in ecdsa_too {
        assert_eq!(bits(&server, "half.test", args), Some(256), "{args:?}");
    }

    // A certificate that breaks while it is served goes on as it was, beside the other.
    let rsa_schemes = || Client { schemes: Some(vec![SignatureScheme::RSA_PSS_SHA256]), ..Client::default() };
    let served = meet(&server, "more.test", rsa_schemes()).unwrap().leaf;
    let mut broken = issue(&server.authority, &["more.test"], KeyType::Rsa2048);
    broken.key = "none".to_owned();
    server.write("more-rsa.yaml", &secret("more-rsa", &broken));
    wait_until("the host is served with what was good", || shown(&server, "more.test").contains("serving: last_good"));
    assert_eq!(meet(&server, "more.test", rsa_schemes()).unwrap().leaf, served);
    assert_eq!(bits(&server, "more.test", ecdsa_too[1]), Some(256));
}

#[test]
fn a_secret_that_breaks_is_served_as_it_was_until_it_is_mended() {
    let manifests = |authority: &Authority| {
        let of = |name: &str| issue(authority, &[name], KeyType::EcdsaP256);
        let mut files = apart("shop", &of("shop.test"), "");
        files.extend(apart("other", &of("other.test"), ""));
        files.push(echo());
        files
    };
    let server = Server::start(&manifests, &[]);
    let other = leaf(&server, "other.test");
    let mut good = leaf(&server, "shop.test").unwrap();
    let issued = || issue(&server.authority, &["shop.test"], KeyType::EcdsaP256);
    let garbage = Issued { leaf: "garbage".into(), intermediate: String::new(), ..issued() };
    let rows = [
        ("garbage", Some(secret("shop", &garbage)), "no-certificate"),
        ("the key of another", Some(secret("shop", &Issued { key: issued().key, ..issued() })), "key-mismatch"),
        ("no key", Some(secret("shop", &Issued { key: String::new(), ..issued() })), "no-key"),
        ("no data", Some("apiVersion: v1\nkind: Secret\nmetadata: {name: shop}\ndata: {}\n".into()), "no-certificate"),
        ("deleted", None, "secret-not-found"),
    ];
    for (what, text, reason) in rows {
        match text {
            Some(text) => server.write(&secret_file("shop"), &text),
            None => delete(&server, "shop"),
        }
        wait_for_reports(&server, reason, 1.0);
        assert_eq!(leaf(&server, "shop.test").as_ref(), Ok(&good), "{what}");
        assert!(shown(&server, "shop.test").contains("serving: last_good"), "{what}");
        assert!(!shown(&server, "other.test").contains("serving"), "{what}");
        assert_eq!(leaf(&server, "other.test"), other, "{what}");
        // A client that verifies has no objection to it.
        meet(&server, "shop.test", Client::default()).unwrap_or_else(|alert| panic!("{what}: {alert:?}"));

        let mended = issued();
        server.write(&secret_file("shop"), &secret("shop", &mended));
        wait_until(&format!("after {what}: the mended Secret is served"), || {
            leaf(&server, "shop.test").as_ref() == Ok(&leaf_of(&mended))
        });
        wait_for_reports(&server, reason, 0.0);
        assert!(!shown(&server, "shop.test").contains("serving"), "{what}");
        good = leaf_of(&mended);
    }
    assert_eq!(server.metric("handfast_tls_handshake_failures_total", &[]), 0.0);
}

/// A certificate as cert-manager makes it while an order is not finished.
fn temporary(name: &str) -> Issued {
    let leaf = leaf_with(&root("cert-manager.local"), |params| {
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        valid_around(params, UnixTime::now(), -1, 90);
    });
    Issued { leaf: leaf.pem, intermediate: String::new(), root: String::new(), key: leaf.key }
}

#[test]
fn the_temporary_certificate_of_cert_manager_replaces_nothing_good_and_is_told_where_clients_refuse_it() {
    let manifests = |authority: &Authority| {
        let mut files = apart("shop", &issue(authority, &["shop.test"], KeyType::EcdsaP256), "");
        files.extend(apart("fresh", &temporary("fresh.test"), ""));
        files.push(echo());
        files
    };
    let server = Server::start(&manifests, &[]);
    let good = leaf(&server, "shop.test").unwrap();
    server.write(&secret_file("shop"), &secret("shop", &temporary("shop.test")));
    wait_for_reports(&server, "temporary-certificate", 2.0);
    assert!(shown(&server, "shop.test").contains("serving: last_good"));
    // A client that verifies has no objection.
    assert_eq!(meet(&server, "shop.test", Client::default()).unwrap().leaf, good);
    assert_eq!(server.metric("handfast_tls_handshake_failures_total", &[]), 0.0);

    // Where there is nothing better it is served, and who refuses it gets the reason.
    assert!(leaf(&server, "fresh.test").is_ok());
    s_client(&server, "fresh.test", &["-verify_return_error"]);
    wait_until("the reason of the client that refuses it", || {
        let (_, failures) = server.admin("/api/failures?host=fresh.test");
        failures.contains("temporary one of cert-manager") && failures.contains("kubectl describe certificate")
    });

    for name in ["shop", "fresh"] {
        let real = issue(&server.authority, &[&format!("{name}.test")], KeyType::EcdsaP256);
        server.write(&secret_file(name), &secret(name, &real));
        wait_until("the real one is served", || leaf(&server, &format!("{name}.test")) == Ok(leaf_of(&real)));
    }
    wait_for_reports(&server, "temporary-certificate", 0.0);
}

#[test]
fn a_deleted_secret_is_not_served_any_more_where_the_operator_wants_it_so() {
    let manifests = |authority: &Authority| {
        let mut files = apart("shop", &issue(authority, &["shop.test"], KeyType::EcdsaP256), "");
        files.push(echo());
        files
    };
    let server = Server::start(&manifests, &["--last-good-ttl", "0s"]);
    let good = leaf(&server, "shop.test").unwrap();
    let broken = Issued { key: "none".into(), ..issue(&server.authority, &["shop.test"], KeyType::EcdsaP256) };
    // A Secret that is there was not deleted.
    server.write(&secret_file("shop"), &secret("shop", &broken));
    wait_until("the host is served with what was good", || shown(&server, "shop.test").contains("serving: last_good"));
    assert_eq!(leaf(&server, "shop.test"), Ok(good));
    delete(&server, "shop");
    wait_for_reports(&server, "secret-not-found", 1.0);
    assert_eq!(leaf(&server, "shop.test"), Err(AlertDescription::UnrecognisedName));
    server.wait_for_metric("handfast_tls_handshake_failures_total", &[r#"reason="host-refused""#], 1.0);
    // The broken one is back; what was good before the deletion is not.
    server.write(&secret_file("shop"), &secret("shop", &broken));
    wait_for_reports(&server, "secret-not-found", 0.0);
    assert_eq!(leaf(&server, "shop.test"), Err(AlertDescription::UnrecognisedName));
    let mended = issue(&server.authority, &["shop.test"], KeyType::EcdsaP256);
    server.write(&secret_file("shop"), &secret("shop", &mended));
    wait_until("the mended Secret is served", || leaf(&server, "shop.test") == Ok(leaf_of(&mended)));
}

#[test]
fn the_policy_says_whether_a_certificate_with_a_finding_is_served() {
    fn expired(authority: &Authority, name: &str) -> Issued {
        authority.issue(&[name], KeyType::EcdsaP256, UnixTime::now(), -60..-1).unwrap()
    }
    let manifests = |authority: &Authority| {
        let good = |name: &str| issue(authority, &[name], KeyType::EcdsaP256);
        let reject = "handfast.dev/tls-policy: reject";
        let hold = "handfast.dev/tls-policy: hold";
        let policy = |name: &str, action: &str| {
            let header = format!("apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {{name: {name}}}\n");
            (
                format!("policy-{name}.yaml"),
                format!("{header}spec: {{findingActions: {{expired: {action}, name-not-covered: {action}}}}}\n"),
            )
        };
        let files = [
            apart("always", &expired(authority, "always.test"), reject),
            apart("once", &good("once.test"), reject),
            apart("held", &good("held.test"), hold),
            apart("never", &expired(authority, "never.test"), hold),
            apart("plain", &good("plain.test"), ""),
            vec![policy("reject", "reject"), policy("hold", "holdLastGood"), echo()],
        ];
        files.into_iter().flatten().collect()
    };
    let server = Server::start(&manifests, &[]);
    wait_for_reports(&server, "expired", 2.0);
    assert_eq!(leaf(&server, "always.test"), Err(AlertDescription::UnrecognisedName));
    // There is nothing to hold.
    assert!(leaf(&server, "never.test").is_ok());
    let names = ["once", "held", "plain"];
    let good = names.map(|name| leaf(&server, &format!("{name}.test")).unwrap());

    let bad = names.map(|name| expired(&server.authority, &format!("{name}.test")));
    for (name, issued) in names.iter().zip(&bad) {
        server.write(&secret_file(name), &secret(name, issued));
    }
    wait_for_reports(&server, "expired", 5.0);
    assert_eq!(leaf(&server, "once.test").as_ref(), Ok(&good[0]));
    assert_eq!(leaf(&server, "held.test").as_ref(), Ok(&good[1]));
    assert!(shown(&server, "once.test").contains("serving: last_good"));
    // Without a policy it is served, and reported.
    assert_eq!(leaf(&server, "plain.test"), Ok(leaf_of(&bad[2])));

    let strangers = names.map(|_| issue(&server.authority, &["stranger.test"], KeyType::EcdsaP256));
    for (name, issued) in names.iter().zip(&strangers) {
        server.write(&secret_file(name), &secret(name, issued));
    }
    wait_for_reports(&server, "name-not-covered", 3.0);
    assert_eq!(leaf(&server, "once.test").as_ref(), Ok(&good[0]));
    assert_eq!(leaf(&server, "held.test").as_ref(), Ok(&good[1]));
    assert_eq!(leaf(&server, "plain.test"), Ok(leaf_of(&strangers[2])));

    let mended = names.map(|name| issue(&server.authority, &[&format!("{name}.test")], KeyType::EcdsaP256));
    for (name, issued) in names.iter().zip(&mended) {
        server.write(&secret_file(name), &secret(name, issued));
    }
    wait_for_reports(&server, "name-not-covered", 0.0);
    for (name, issued) in names.iter().zip(&mended) {
        assert_eq!(leaf(&server, &format!("{name}.test")), Ok(leaf_of(issued)), "{name}");
    }
    // Where nothing good was there before, nothing is served until it is.
    server.write(
        &secret_file("always"),
        &secret("always", &issue(&server.authority, &["always.test"], KeyType::Rsa2048)),
    );
    wait_until("the first good certificate is served", || leaf(&server, "always.test").is_ok());
}
