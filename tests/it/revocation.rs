//! Revocation lists of clients' CAs: what they say, which of them can be used, and that OpenSSL agrees.

use std::ops::Range;
use std::sync::Arc;

use handfast::compile::{Change, Compiled, Compiler, Options, Scope};
use handfast::snapshot::HostTls;
use handfast::tls::chain::{BadLists, RevocationLists, TrustAnchors};
use handfast::tls::reason::Reason;
use rcgen::{KeyPair, SerialNumber};

use crate::client_auth::{Identity, admits, asking, asking_with, client_ca, identity_with};
use crate::handshake::now;
use crate::manifests::{NOW, at, objects, trust_anchors};
use crate::pki::{Ca, OpenSsl, ca_params, crl, valid_around};

fn authorities(cas: &[&Ca]) -> TrustAnchors {
    let text: String = cas.iter().map(|ca| ca.pem()).collect();
    TrustAnchors::none().with_file(text.as_bytes()).unwrap()
}

fn parse(text: &str, cas: &[&Ca]) -> Result<RevocationLists, BadLists> {
    RevocationLists::parse(text.as_bytes(), &authorities(cas))
}

fn below(name: &str, issuer: &Ca, serial: u64) -> Ca {
    let mut params = ca_params(name);
    params.serial_number = Some(SerialNumber::from(serial));
    valid_around(&mut params, now(), -100, 100);
    Ca::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

fn numbered(issuer: &Ca, serial: u64) -> Identity {
    identity_with(issuer, |params| params.serial_number = Some(SerialNumber::from(serial)))
}

/// What becomes of each certificate with each set of lists, here and with `openssl verify -crl_check_all`, which is what
/// nginx does with `ssl_crl`.
#[tokio::test]
async fn clients_are_let_in_exactly_where_openssl_lets_them_in() {
    let root = client_ca("Root");
    let intermediate = below("Intermediate", &root, 5);
    let (direct, revoked) = (numbered(&root, 8), numbered(&root, 7));
    let (mut long, mut long_revoked) = (numbered(&intermediate, 8), numbered(&intermediate, 9));
    for identity in [&mut long, &mut long_revoked] {
        identity.chain += &intermediate.pem();
    }
    let list = |ca: &Ca, days: Range<i64>, serials: &[u64]| crl(ca, now(), days, serials);
    let of_root = list(&root, -2..20, &[7]);
    let of_intermediate = list(&intermediate, -2..20, &[9]);
    let namesake = client_ca("Intermediate");
    let both = of_root.clone() + &of_intermediate;
    let (known, unknown) = (Reason::ClientCertificateRevoked, Reason::ClientCertificateRevocationUnknown);
    // The lists, and what becomes of: a direct one, a revoked one, one below an intermediate, a revoked one there.
    type Row<'a> = (&'a str, String, [Option<Reason>; 4]);
    let rows: [Row<'_>; 8] = [
        ("of the root only", of_root.clone(), [None, Some(known), Some(unknown), Some(unknown)]),
        ("of both", both.clone(), [None, Some(known), None, Some(known)]),
        (
            "the intermediate is revoked",
            list(&root, -2..20, &[5]) + &of_intermediate,
            [None, None, Some(known), Some(known)],
        ),
        ("expired", list(&root, -20..-2, &[7]), [Some(unknown); 4]),
        (
            "expired for the intermediate",
            of_root.clone() + &list(&intermediate, -20..-2, &[9]),
            [None, Some(known), Some(unknown), Some(unknown)],
        ),
        (
            "of a namesake of the intermediate",
            of_root.clone() + &list(&namesake, -2..20, &[]),
            [None, Some(known), Some(unknown), Some(unknown)],
        ),
        ("an old one before the new one", list(&root, -20..-2, &[8]) + &both, [None, Some(known), None, Some(known)]),
        (
            "the new one before another that is still current",
            both.clone() + &list(&root, -9..20, &[8]),
            [None, Some(known), None, Some(known)],
        ),
    ];
    let files = OpenSsl::new();
    let write = |name: &str, text: &str| std::fs::write(files.path(name), text).unwrap();
    write("ca.pem", &root.pem());
    for (what, lists, expected) in rows {
        write("lists.pem", &lists);
        for (identity, expected) in [&direct, &revoked, &long, &long_revoked].into_iter().zip(expected) {
            for required in [true, false] {
                let found = admits(asking_with(required, &root, &lists), Some(identity)).await;
                assert_eq!(found, expected, "{what} {required}");
            }
            write("client.pem", &identity.chain);
            let verified = files
                .succeeds("verify -crl_check_all -CAfile ca.pem -CRLfile lists.pem -untrusted client.pem client.pem");
            assert_eq!(verified, expected.is_none(), "{what}: openssl");
        }
        // Who shows no certificate is not looked up.
        assert_eq!(admits(asking_with(false, &root, &lists), None).await, None, "{what}");
    }
    // Without lists nobody looks.
    assert_eq!(admits(asking(true, &root), Some(&revoked)).await, None);
}

#[test]
fn lists_that_cannot_be_used_are_told_with_what_is_wrong() {
    let (one, two) = (client_ca("One"), client_ca("Two"));
    let namesake = client_ca("One");
    let good = crl(&one, now(), -2..20, &[7]);
    let error = |text: &str, cas: &[&Ca]| parse(text, cas).unwrap_err().to_string();
    let cut = good.replacen("\nM", "\n!", 1);
    for (text, cas, expected) in [
        ("", vec![&one], "it has no list in PEM (-----BEGIN X509 CRL-----)"),
        (
            "0\u{2}garbage",
            vec![&one],
            "it has no list in PEM (-----BEGIN X509 CRL-----): it is DER, not PEM: convert it to PEM with openssl, by -inform der",
        ),
        (one.pem().as_str(), vec![&one], "it has no list in PEM"),
        (cut.as_str(), vec![&one], "block 1 at byte 0 cannot be used: its base64 text is damaged"),
        ("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n", vec![&one], "cannot be used: it is damaged"),
        (good.as_str(), vec![&two], "none of its lists is of an authority in ca.crt"),
        (good.as_str(), vec![&namesake], "the list of CN=One is not signed with the key of each CN=One in ca.crt"),
        (
            good.as_str(),
            vec![&one, &namesake],
            "the list of CN=One is not signed with the key of each CN=One in ca.crt",
        ),
    ] {
        assert!(
            error(text, &cas).starts_with(expected) || error(text, &cas).ends_with(expected),
            "{}",
            error(text, &cas)
        );
    }
    // One bad list spoils all: what it revokes would be let in.
    let text = format!("{good}{cut}");
    assert!(
        error(&text, &[&one]).starts_with(&format!("block 2 at byte {} cannot", good.len())),
        "{}",
        error(&text, &[&one])
    );
    // Text around the blocks and other blocks are passed over.
    assert_eq!(
        parse(&format!("Revoked:\n{}{good}", one.pem()), &[&one, &two]).unwrap().missing(&authorities(&[&one, &two])),
        ["CN=Two"]
    );
}

/// What `openssl ca -gencrl` makes without a section of extensions, and with SHA-1, and with one.
#[test]
fn lists_of_openssl_are_taken_if_they_are_of_version_2() {
    let files = OpenSsl::new();
    files.ca("-algorithm RSA -pkeyopt rsa_keygen_bits:2048");
    let settings = |extensions: &str, digest: &str| {
        let text = format!(
            "[ca]\ndefault_ca=a\n[a]\ndatabase={0}/index\ncrlnumber={0}/number\ndefault_md={digest}\ndefault_crl_days=30\n\
             {extensions}[v2]\nauthorityKeyIdentifier=keyid:always\n",
            files.path("").display()
        );
        std::fs::write(files.path("ca.cnf"), text).unwrap();
        std::fs::write(files.path("index"), "").unwrap();
        std::fs::write(files.path("number"), "01\n").unwrap();
        files.run("ca -config ca.cnf -gencrl -cert ca.pem -keyfile ca.key -out list.pem");
        let authorities = TrustAnchors::none().with_file(files.read("ca.pem").as_bytes()).unwrap();
        RevocationLists::parse(files.read("list.pem").as_bytes(), &authorities).map_err(|error| error.to_string())
    };
    assert_eq!(settings("crl_extensions=v2\n", "sha256").unwrap().count(), 1);
    let error = settings("crl_extensions=v2\n", "sha1").unwrap_err();
    assert!(error.ends_with("it is signed with SHA-1 with RSA, which is no longer accepted"), "{error}");
    std::fs::write(files.path("number"), "").unwrap();
    let text = std::fs::read_to_string(files.path("ca.cnf")).unwrap();
    let old = text.replace("crl_extensions=v2\n", "").replace("sha1", "sha256");
    let old: String =
        old.lines().filter(|line| !line.starts_with("crlnumber")).map(|line| format!("{line}\n")).collect();
    std::fs::write(files.path("ca.cnf"), old).unwrap();
    files.run("ca -config ca.cnf -gencrl -cert ca.pem -keyfile ca.key -out list.pem");
    let authorities = TrustAnchors::none().with_file(files.read("ca.pem").as_bytes()).unwrap();
    let error = RevocationLists::parse(files.read("list.pem").as_bytes(), &authorities).unwrap_err().to_string();
    assert!(error.contains("it is of version 1: let the CA issue lists of version 2"), "{error}");
}

#[test]
fn a_new_list_that_revokes_what_the_old_one_did_asks_for_nothing_new() {
    let (one, two) = (client_ca("One"), client_ca("Two"));
    let with = |text: &str| {
        let asking = asking(true, &one);
        let lists = RevocationLists::parse(text.as_bytes(), &authorities(&[&one, &two])).unwrap();
        handfast::tls::policy::ClientAuth { revoked: Some(Arc::new(lists)), ..asking }
    };
    let old = with(&crl(&one, now(), -9..20, &[7, 300]));
    let renewed = with(&crl(&one, now(), -2..20, &[300, 7]));
    assert!(old != renewed && old.asks_the_same(&renewed));
    for other in [
        with(&crl(&one, now(), -2..20, &[7])),
        with(&crl(&one, now(), -2..20, &[7, 300, 4])),
        with(&(crl(&one, now(), -2..20, &[7, 300]) + &crl(&two, now(), -2..20, &[]))),
        asking(true, &one),
    ] {
        assert!(!old.asks_the_same(&other) && !other.asks_the_same(&old));
    }
    assert!(asking(true, &one).asks_the_same(&asking(true, &one)));
    assert!(!asking(true, &one).asks_the_same(&asking(false, &one)));
}

/// Lists end without anybody doing something.
#[test]
fn time_alone_says_that_a_list_has_expired_and_a_new_one_ends_that() {
    let host = |annotation: &str| {
        format!(
            "{{kind: Ingress, metadata: {{name: shop, namespace: default{annotation}}}, spec: {{
               tls: [{{hosts: [shop.example], secretName: tls}}], rules: [{{host: shop.example}}]}}}}\n---
             {{kind: Secret, metadata: {{name: tls, namespace: default}},
               stringData: {{tls.crt: '$CERT(shop.example)', tls.key: '$KEY(shop.example)'}}}}\n---\n"
        )
    };
    let policy = "{kind: TlsPolicy, metadata: {name: strict, namespace: default},
                   spec: {clientAuth: {mode: required, caSecret: clients}}}\n---\n";
    let clients = |list: &str| {
        format!(
            "{{kind: Secret, metadata: {{name: clients, namespace: default}},
               stringData: {{ca.crt: '$CLIENTCA(one)', ca.crl: '{list}'}}}}"
        )
    };
    let mut compiler =
        Compiler::new(Options { watch_without_class: true, trust_anchors: trust_anchors(), ..Options::default() });
    let mut at_day = |list: &str, day: u64| {
        let text = host(", annotations: {handfast.dev/tls-policy: strict}") + policy + &clients(list);
        compiler.apply(Change::Replace(Scope("a".into()), objects(&text)));
        compiler.compile(at(NOW + day * 86_400))
    };
    let seen = |compiled: &Compiled| {
        let codes: Vec<String> = compiled
            .diagnostics
            .iter()
            .map(|diagnostic| {
                format!("{} {} {}", diagnostic.problem.code(), diagnostic.effect.code(), diagnostic.field)
            })
            .collect();
        let served = match &compiled.snapshot.hosts["shop.example"].tls {
            HostTls::Terminate(tls) => Some(tls.clone()),
            HostTls::Absent | HostTls::Refuse => None,
        };
        (codes, served.map(|tls| tls.policy().settings().client_auth.clone().unwrap()))
    };
    let day = |compiled: &Compiled| compiled.recompile_at.map(|time| (time.as_secs() - NOW) / 86_400);
    let expired = "expired-revocation-list none spec.clientAuth.caSecret".to_owned();

    let first = at_day("$CRL(one ending)", 0);
    let (codes, auth) = seen(&first);
    assert_eq!((codes, day(&first)), (vec![], Some(1)));
    // The host serves on, and the verifier refuses who is to be looked up.
    let later = at_day("$CRL(one ending)", 1);
    assert_eq!(seen(&later), (vec![expired.clone()], auth.clone()));
    let accepted = later.policies.values().next().unwrap().conditions();
    assert!(accepted.iter().all(|condition| condition.status == "True"), "{accepted:?}");
    // A clock that is set back takes the word back, and a new list ends it.
    assert_eq!(seen(&at_day("$CRL(one ending)", 0)).0, [""; 0]);
    assert_eq!(seen(&at_day("$CRL(one ending)", 1)).0, std::slice::from_ref(&expired));
    let renewed = at_day("$CRL(one more)", 1);
    let (codes, new) = seen(&renewed);
    assert!(codes.is_empty() && new.is_some() && new != auth, "{codes:?}");

    // An older one by mistake: what is still current stays, and when that has ended too, what is asked for is served.
    let mistake = at_day("$CRL(one expired)", 1);
    assert_eq!(
        seen(&mistake),
        (vec!["expired-revocation-list policy-held spec.clientAuth.caSecret".to_owned()], new.clone())
    );
    assert_eq!(day(&mistake), Some(30));
    let (codes, last) = seen(&at_day("$CRL(one expired)", 31));
    assert!(codes == [expired] && last.is_some() && last != new, "{codes:?}");

    // What cannot be used holds what was in force, and that ends as well.
    let held = at_day("garbage", 31);
    let (codes, still) = seen(&held);
    assert_eq!(still, last);
    assert_eq!(
        codes,
        [
            "tls-policy-not-accepted policy-held metadata.annotations[handfast.dev/tls-policy]",
            "expired-revocation-list none (previous policy)",
            "unusable-revocation-list policy-held spec.clientAuth.caSecret",
        ]
    );
}
