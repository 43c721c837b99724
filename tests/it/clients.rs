//! Well-known clients: the table, and what they connect with, each replayed into rustls.

use std::collections::BTreeSet;
use std::sync::Arc;

use handfast::tls::ServerTls;
use handfast::tls::chain::Credential;
use handfast::tls::clients::{
    Obstacle, cannot_verify, client, clients, judge, judge_all, names, similar, would_connect,
};
use handfast::tls::negotiate::CredentialKind;
use handfast::tls::offer::NamedServer;
use handfast::tls::policy::{Group, GroupOrder, Policy, Settings, Suite, SuiteOrder, server_tls_of};
use handfast::tls::reason::Reason;

use crate::negotiate::{check, credential};
use crate::pki::{ca, leaf, leaf_with, load, root, sct_list};

fn policies() -> Vec<Policy> {
    let made = |settings| Policy::new(settings).unwrap();
    vec![
        Policy::default(),
        made(Settings::modern()),
        made(Settings::intermediate()),
        made(Settings { suite_order: SuiteOrder::Server, ..Settings::default() }),
        made(Settings {
            groups: vec![Group::Secp384r1, Group::X25519],
            group_order: GroupOrder::Server,
            ..Settings::default()
        }),
        made(Settings { suites: vec![Suite::Aes256GcmSha384, Suite::EcdheRsaAes256GcmSha384], ..Settings::default() }),
    ]
}

#[test]
fn each_client_does_with_rustls_what_the_model_says() {
    let credentials: [&[CredentialKind]; 5] = [
        &[CredentialKind::EcdsaP256],
        &[CredentialKind::EcdsaP384],
        &[CredentialKind::Ed25519],
        &[CredentialKind::Rsa],
        &[CredentialKind::EcdsaP256, CredentialKind::Rsa],
    ];
    for policy in policies() {
        for kinds in credentials {
            for (client, result) in would_connect(&policy, kinds) {
                assert_eq!(check(&policy, kinds, &client.offer), result, "{}", client.id);
            }
        }
    }
}

#[test]
fn the_table_has_the_clients_and_every_id_once() {
    let ids: BTreeSet<&str> = clients().iter().map(|client| client.id).collect();
    assert_eq!((ids.len(), clients().len()), (49, 49));
    assert_eq!(client("java-8u31").unwrap().name, "Java 8u31");
    assert_eq!(client("java-5"), None);
    for client in clients() {
        assert!(client.oldest <= client.newest, "{}", client.id);
        assert!(client.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{}", client.id);
    }
}

fn locked_out(policy: &Policy, kinds: &[CredentialKind]) -> Vec<(&'static str, Reason)> {
    would_connect(policy, kinds).into_iter().filter_map(|(client, result)| Some((client.id, result.err()?))).collect()
}

#[test]
fn who_is_locked_out_follows_from_certificate_and_policy() {
    let java7 = ("java-7-7u25-7u80-defaults", Reason::NoSharedVersion);
    let both = [CredentialKind::EcdsaP256, CredentialKind::Rsa];
    assert_eq!(locked_out(&Policy::default(), &both), [java7]);
    assert_eq!(
        locked_out(&Policy::default(), &[CredentialKind::EcdsaP256]),
        [java7, ("chrome-49-xp", Reason::WrongCertificateType)]
    );
    assert_eq!(
        locked_out(&Policy::default(), &[CredentialKind::Rsa]),
        [
            java7,
            ("ie-11-net-schannel-win-7", Reason::WrongCertificateType),
            ("ie-11-schannel-win-8-1", Reason::WrongCertificateType)
        ]
    );
    let modern = Policy::new(Settings::modern()).unwrap();
    let out: BTreeSet<&str> = locked_out(&modern, &both).into_iter().map(|(id, _)| id).collect();
    assert!(out.contains("android-8-1") && out.contains("safari-12-1") && out.contains("java-8u161"));
    assert!(!out.contains("chrome-70") && !out.contains("android-10") && !out.contains("java-11-0-2"));
    assert!(locked_out(&modern, &both).iter().all(|(_, reason)| *reason == Reason::NoSharedVersion));
}

#[test]
fn keys_that_clients_cannot_verify_follow_from_what_they_offer() {
    let without = |kind| cannot_verify(kind).iter().map(|client| client.id).collect::<Vec<_>>();
    for kind in [CredentialKind::EcdsaP256, CredentialKind::EcdsaP384, CredentialKind::Rsa] {
        assert_eq!(without(kind), [""; 0], "{kind:?}");
    }
    assert!(
        without(CredentialKind::Ed25519).contains(&"chrome-150")
            && !without(CredentialKind::Ed25519).contains(&"go-1-25")
    );
    assert!(without(CredentialKind::EcdsaP521).contains(&"chrome-150"));
    assert!(!without(CredentialKind::EcdsaP521).contains(&"firefox-147"));
    assert!(
        without(CredentialKind::MlDsa65).contains(&"java-8u442")
            && !without(CredentialKind::MlDsa65).contains(&"openssl-4-0-0")
    );
    // Chrome 49 on XP cannot use any ECDSA certificate: that is not the curve's fault.
    assert!(!without(CredentialKind::EcdsaP521).contains(&"chrome-49-xp"));
}

#[test]
fn a_misspelt_id_finds_the_one_that_is_meant() {
    assert_eq!(similar("java-8u3l").first(), Some(&"java-8u31"));
    assert_eq!(similar("Chrome150").first(), Some(&"chrome-150"));
    assert!(similar("android").contains(&"android-10"));
    assert_eq!(similar("netscape-navigator"), [""; 0]);
}

#[test]
fn names_are_few_and_the_newest_of_their_families() {
    let all: Vec<&_> = clients().iter().collect();
    assert_eq!(names(&all[..2]), format!("{}, {}", all[0].name, all[1].name));
    let many = names(&all);
    assert!(many.contains("Java 21") && many.contains("Android 15/16") && many.ends_with(" and 43 more"), "{many}");
    assert_eq!(names(&[]), "");
}

#[test]
fn a_remedy_lets_the_client_in() {
    let tls = |settings: Settings, kinds: &[CredentialKind]| {
        let credentials: Vec<_> = kinds.iter().map(|kind| credential(*kind)).collect();
        let borrowed: Vec<_> = credentials.iter().map(|credential| &**credential).collect();
        server_tls_of(&borrowed, &Policy::new(settings).unwrap()).unwrap()
    };
    let remedy = |tls: &ServerTls, id: &str| {
        let client = client(id).unwrap();
        let obstacle = judge(tls, None, client).unwrap_err();
        (obstacle.code(), obstacle.message(client), obstacle.remedy(tls, client), obstacle.can_be_removed(client))
    };
    let ecdsa = tls(Settings::default(), &[CredentialKind::EcdsaP256]);
    let (code, _, text, removable) = remedy(&ecdsa, "chrome-49-xp");
    assert_eq!(
        (code, &*text, removable),
        ("wrong-certificate-type", "add a certificate with an RSA key to the host", true)
    );
    let (code, message, text, removable) = remedy(&ecdsa, "java-7-7u25-7u80-defaults");
    assert_eq!((code, &*message, removable), ("no-shared-version", "supports at most TLS 1.0", false));
    assert!(text.starts_with("update the client: TLS 1.2 is the oldest"), "{text}");
    let modern = tls(Settings::modern(), &[CredentialKind::EcdsaP256, CredentialKind::Rsa]);
    let (_, message, text, _) = remedy(&modern, "java-8u161");
    assert_eq!((&*message, &*text), ("supports at most TLS 1.2", "enable TLS 1.2 in the policy"));
    let groups = Settings { groups: vec![Group::X25519], ..Settings::default() };
    let (code, _, text, _) = remedy(&tls(groups, &[CredentialKind::EcdsaP256]), "android-7-0");
    assert_eq!((code, &*text), ("no-shared-group", "add secp256r1 to the policy's groups"));
    let suites = vec![Suite::Aes128GcmSha256, Suite::EcdheEcdsaChaCha20Poly1305Sha256];
    let (_, _, text, _) =
        remedy(&tls(Settings { suites, ..Settings::default() }, &[CredentialKind::EcdsaP256]), "safari-9-macos-ios-9");
    assert_eq!(text, "add TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 to the policy's cipher suites");
    let ed25519 = tls(Settings::default(), &[CredentialKind::Ed25519]);
    let (code, _, text, _) = remedy(&ed25519, "chrome-150");
    assert_eq!((code, &*text), ("no-shared-signature-scheme", "add a certificate with an ECDSA P-256 key to the host"));
    // The tests' own CA is nobody's.
    let (code, ..) = remedy(&ecdsa, "chrome-150");
    assert_eq!(code, "untrusted-chain");
}

#[test]
fn what_a_credential_serves_is_found_by_its_index() {
    let (rsa, ecdsa) = (credential(CredentialKind::Rsa), credential(CredentialKind::EcdsaP256));
    let tls = server_tls_of(&[&rsa, &ecdsa], &Policy::default()).unwrap();
    assert_eq!((&*tls.summary_of(0).key, &*tls.summary_of(1).key), ("rsa-2048", "ecdsa-p256"));
    assert_eq!(&*tls.summary.key, "ecdsa-p256");
}

#[test]
fn a_client_that_names_no_server_gets_the_default_certificate() {
    let tls = server_tls_of(&[&*trusted()], &Policy::default()).unwrap();
    let other = server_tls_of(&[&*trusted()], &Policy::default()).unwrap();
    let mut nameless = client("openssl-3-0-s-client").unwrap().clone();
    assert!(judge(&tls, None, &nameless).is_ok());
    nameless.offer.server_name = NamedServer::Absent;
    assert_eq!(judge(&tls, None, &nameless), Err(Obstacle::NoServerName));
    assert_eq!(judge(&tls, Some(&other), &nameless), Err(Obstacle::NoServerName));
    assert!(judge(&tls, Some(&tls), &nameless).is_ok());
}

#[test]
fn a_missing_intermediate_stops_the_clients_that_do_not_fetch_it() {
    let root = root("Root");
    let intermediate = ca("Intermediate", &root);
    let leaf = leaf_with(&intermediate, sct_list);
    let out = |tls_crt: &str| {
        let credential = load(tls_crt, &leaf, &root.pem()).credential.unwrap();
        let tls = server_tls_of(&[&credential], &Policy::default()).unwrap();
        let results = judge_all(&tls, None);
        let lost = results.into_iter().filter_map(|(client, result)| Some((client, result.err()?)));
        lost.filter(|(_, obstacle)| !obstacle.is_about_policy()).collect::<Vec<_>>()
    };
    let lost = out(&leaf.pem);
    assert!(
        lost.iter()
            .all(|(client, obstacle)| !client.fetches_intermediates && obstacle.code() == "missing-intermediate")
    );
    let ids: Vec<&str> = lost.iter().map(|(client, _)| client.id).collect();
    assert!(ids.contains(&"go-1-25") && ids.contains(&"curl-7-88-1-openssl-3-0") && !ids.contains(&"chrome-150"));
    assert_eq!(lost[0].1.to_string(), "does not fetch the missing intermediate CN=Intermediate");
    assert_eq!(out(&format!("{}{}", leaf.pem, intermediate.pem())), []);
}

/// A credential whose root the operator names.
fn trusted() -> Arc<Credential> {
    let root = root("Root");
    let leaf = leaf(&root);
    load(&leaf.pem, &leaf, &root.pem()).credential.unwrap()
}

#[test]
fn a_group_that_a_client_did_not_share_costs_it_a_round_trip() {
    let without_x25519 = Settings { groups: vec![Group::Secp256r1, Group::Secp384r1], ..Settings::default() };
    let policy = Policy::new(without_x25519).unwrap();
    let retries = |id| {
        let client = client(id).unwrap();
        check(&policy, &[CredentialKind::EcdsaP256], &client.offer).unwrap().hello_retry
    };
    assert!(retries("chrome-150"));
    assert!(!retries("firefox-147"));
}
