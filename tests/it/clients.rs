//! Well-known clients: the table, and what they connect with, each replayed into rustls.

use std::collections::BTreeSet;

use handfast::tls::clients::{client, clients, would_connect};
use handfast::tls::negotiate::CredentialKind;
use handfast::tls::policy::{Group, GroupOrder, Policy, Settings, Suite, SuiteOrder};
use handfast::tls::reason::Reason;

use crate::negotiate::check;

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
        [java7, ("chrome-49-xp", Reason::NoSharedSuite)]
    );
    assert_eq!(
        locked_out(&Policy::default(), &[CredentialKind::Rsa]),
        [java7, ("ie-11-net-schannel-win-7", Reason::NoSharedSuite), ("ie-11-schannel-win-8-1", Reason::NoSharedSuite),]
    );
    let modern = Policy::new(Settings::modern()).unwrap();
    let out: BTreeSet<&str> = locked_out(&modern, &both).into_iter().map(|(id, _)| id).collect();
    assert!(out.contains("android-8-1") && out.contains("safari-12-1") && out.contains("java-8u161"));
    assert!(!out.contains("chrome-70") && !out.contains("android-10") && !out.contains("java-11-0-2"));
    assert!(locked_out(&modern, &both).iter().all(|(_, reason)| *reason == Reason::NoSharedVersion));
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
