//! The model of the handshake against rustls itself: random policies, credentials and offers, as real bytes into the
//! real configuration.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use handfast::demo::pki::{Authority, KeyType};
use handfast::tls::Version;
use handfast::tls::chain::{Credential, TrustAnchors};
use handfast::tls::negotiate::{Agreement, CredentialKind, negotiate};
use handfast::tls::offer::{NamedServer, Offer};
use handfast::tls::policy::{Alpn, Group, GroupOrder, Policy, Settings, Suite, SuiteOrder, server_tls_of};
use handfast::tls::reason::Reason;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;
use rustls::pki_types::UnixTime;
use rustls::server::Acceptor;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};

use crate::hellos::{message, read_back, records};

/// One credential of each kind, made once.
pub fn credential(kind: CredentialKind) -> Arc<Credential> {
    static CREDENTIALS: LazyLock<Vec<Arc<Credential>>> = LazyLock::new(|| {
        let authority = Authority::new("Test", UnixTime::now()).unwrap();
        let credential = |key| {
            let issued = authority.issue(&["client.example"], key, UnixTime::now(), -1..30).unwrap();
            Credential::load(issued.chain().as_bytes(), issued.key.as_bytes(), b"", &TrustAnchors::none())
                .credential
                .unwrap()
        };
        [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Ed25519, KeyType::Rsa2048].map(credential).into()
    });
    let found = CREDENTIALS.iter().find(|credential| CredentialKind::of(credential) == kind);
    found.unwrap_or_else(|| panic!("the tests have no {kind:?} credential")).clone()
}

/// What rustls came to.
#[derive(Debug, PartialEq, Eq)]
struct Handshake {
    version: Version,
    suite: u16,
    group: u16,
    hello_retry: bool,
    /// The leaf, where it is sent in clear.
    leaf: Option<Vec<u8>>,
}

/// Gives an offer to rustls; a second hello as well, if rustls asks for one.
fn handshake(config: Arc<ServerConfig>, offer: &Offer) -> Result<Handshake, rustls::Error> {
    let hello = records(&message(offer), 16384);
    let mut acceptor = Acceptor::default();
    let mut unread = &hello[..];
    let accepted = loop {
        assert!(acceptor.read_tls(&mut unread).unwrap() > 0, "the hello is complete");
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error)? {
            break accepted;
        }
    };
    let mut connection = accepted.into_connection(config).map_err(|(error, _)| error)?;
    let mut flight = written(&mut connection);
    let hello_retry = connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
    if hello_retry {
        // A HelloRetryRequest is a ServerHello whose first extension, here, names the group.
        let at = flight.windows(4).position(|window| window == [0x00, 0x33, 0x00, 0x02]).unwrap();
        let group = u16::from_be_bytes([flight[at + 4], flight[at + 5]]);
        let second = Offer { key_shares: Some(vec![group]), ..offer.clone() };
        let hello = records(&message(&second), 16384);
        let mut unread = &hello[..];
        while !unread.is_empty() {
            connection.read_tls(&mut unread).unwrap();
            connection.process_new_packets()?;
        }
        flight = written(&mut connection);
    }
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
        Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
        other => panic!("negotiated {other:?}"),
    };
    let messages = messages_in_clear(&flight);
    let group = match version {
        Version::Tls13 => connection.negotiated_key_exchange_group().unwrap().name().into(),
        // ServerKeyExchange begins with the curve's type and name (RFC 8422 section 5.4).
        Version::Tls12 => {
            let message = &messages[&12];
            assert_eq!(message[0], 3);
            u16::from_be_bytes([message[1], message[2]])
        }
    };
    let leaf = messages.get(&11).map(|certificates| {
        let length = u32::from_be_bytes([0, certificates[3], certificates[4], certificates[5]]) as usize;
        certificates[6..6 + length].to_vec()
    });
    let suite = connection.negotiated_cipher_suite().unwrap().suite().into();
    Ok(Handshake { version, suite, group, hello_retry, leaf })
}

fn written(connection: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// The handshake messages in clear, by type.
fn messages_in_clear(mut records: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut stream = Vec::new();
    while let [0x16, _, _, high, low, rest @ ..] = records {
        let (record, rest) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
        stream.extend_from_slice(record);
        records = rest;
    }
    let mut messages = BTreeMap::new();
    let mut rest = &stream[..];
    while let [kind, high, middle, low, after @ ..] = rest {
        let (message, after) = after.split_at(u32::from_be_bytes([0, *high, *middle, *low]) as usize);
        messages.insert(*kind, message.to_vec());
        rest = after;
    }
    messages
}

/// Holds the model against rustls, and returns what the model says.
pub fn check(policy: &Policy, kinds: &[CredentialKind], offer: &Offer) -> Result<Agreement, Reason> {
    let credentials: Vec<Arc<Credential>> = kinds.iter().map(|kind| credential(*kind)).collect();
    let borrowed: Vec<&Credential> = credentials.iter().map(|credential| &**credential).collect();
    let tls = server_tls_of(&borrowed, policy).unwrap();

    let read = Offer::parse(&records(&message(offer), 900)).unwrap().unwrap();
    let expected = Offer { extensions: read.extensions.clone(), ..read_back(offer) };
    assert_eq!(read, expected, "the offer survives the wire");

    let model = negotiate(policy, kinds, &read);
    let real = handshake(tls.config_for(Some(&read)).clone(), offer);
    match (&model, &real) {
        (Ok(model), Ok(real)) => {
            let modelled = Handshake {
                version: model.version,
                suite: model.suite.code(),
                group: model.group.code(),
                hello_retry: model.hello_retry,
                leaf: real.leaf.as_ref().map(|_| credentials[model.credential].chain()[0].to_vec()),
            };
            assert_eq!(&modelled, real, "{policy:?} {kinds:?} {offer:?}");
            assert_eq!(real.leaf.is_some(), real.version == Version::Tls12);
        }
        (Err(model), Err(error)) => {
            assert!(fits(*model, error), "{model} is not {error:?}: {policy:?} {kinds:?} {offer:?}");
        }
        _ => panic!("{model:?} is not {real:?}: {policy:?} {kinds:?} {offer:?}"),
    }
    model
}

/// Whether a reason is the class of an error of rustls. Where more than one thing is wrong, rustls asks in another
/// order; each pair says why.
fn fits(model: Reason, error: &rustls::Error) -> bool {
    let real = Reason::of(error);
    // The model is finer than rustls.
    let coarse: &[Reason] = match model {
        Reason::CbcOnly | Reason::StaticRsaOnly => &[Reason::NoSharedSuite],
        Reason::MalformedServerName => &[Reason::ProtocolViolation],
        Reason::WrongCertificateType => &[Reason::NoSharedSuite, Reason::NoSharedSignatureScheme],
        // A client that lists SHA-1 signatures alone is, to rustls, one that cannot verify ours.
        Reason::Sha1Only => &[Reason::Sha1Only, Reason::NoSharedSignatureScheme, Reason::NoSharedSuite],
        _ => std::slice::from_ref(&model),
    };
    let known = [
        // rustls wants signature algorithms before it looks at anything else.
        (Reason::Sha1Only, Reason::NoSharedVersion),
        (Reason::Sha1Only, Reason::NoSharedSuite),
        // It looks at groups before suites, so static-RSA clients lack a group there.
        (Reason::NoSharedGroup, Reason::NoSharedSuite),
        // It looks at point formats, application protocols and the parts of TLS 1.3 before it signs.
        (Reason::NoSharedGroup, Reason::NoSharedSignatureScheme),
        (Reason::NoSharedAlpn, Reason::NoSharedSignatureScheme),
        (Reason::ProtocolViolation, Reason::NoSharedSignatureScheme),
        (Reason::MissingExtension, Reason::NoSharedSignatureScheme),
        (Reason::ProtocolViolation, Reason::MissingExtension),
        // It looks at certificate types last, and at the compression list of TLS 1.3 late.
        (Reason::NoSharedVersion, Reason::ProtocolViolation),
        (Reason::Sha1Only, Reason::ProtocolViolation),
        (Reason::NoSharedSuite, Reason::ProtocolViolation),
        (Reason::NoSharedGroup, Reason::ProtocolViolation),
        (Reason::NoSharedAlpn, Reason::ProtocolViolation),
        (Reason::NoSharedSignatureScheme, Reason::ProtocolViolation),
        (Reason::MissingExtension, Reason::ProtocolViolation),
    ];
    coarse.iter().any(|model| real == *model || known.contains(&(real, *model)))
}

fn policy() -> impl Strategy<Value = Policy> {
    let versions = select(vec![
        (Version::Tls12, Version::Tls13),
        (Version::Tls12, Version::Tls12),
        (Version::Tls13, Version::Tls13),
    ]);
    let suites = subsequence(Suite::ALL.to_vec(), 1..=9).prop_shuffle();
    let groups = subsequence(Group::ALL.to_vec(), 1..=7).prop_shuffle();
    let suite_order = select(vec![SuiteOrder::Client, SuiteOrder::Server, SuiteOrder::ServerUnlessChaCha20First]);
    let group_order = select(vec![GroupOrder::Client, GroupOrder::Server]);
    let alpn = subsequence(Alpn::ALL.to_vec(), 0..=2).prop_shuffle();
    (versions, suites, groups, suite_order, group_order, alpn, any::<bool>()).prop_map(
        |((min, max), suites, groups, suite_order, group_order, alpn, tickets)| {
            let client_auth = None;
            let settings = Settings { min, max, suites, groups, suite_order, group_order, alpn, tickets, client_auth };
            // Where a version has nothing, give it what the default has.
            let filled = |settings: &Settings| Settings {
                suites: [settings.suites.clone(), Settings::default().suites].concat(),
                groups: [settings.groups.clone(), Settings::default().groups].concat(),
                ..settings.clone()
            };
            Policy::new(settings.clone()).unwrap_or_else(|_| Policy::new(filled(&settings)).unwrap())
        },
    )
}

/// Mostly one, sometimes two; RSA seldom, because it signs slowly.
fn kinds() -> impl Strategy<Value = Vec<CredentialKind>> {
    use CredentialKind::{EcdsaP256, EcdsaP384, Ed25519, Rsa};
    prop_oneof![
        6 => Just(vec![EcdsaP256]),
        2 => Just(vec![EcdsaP384]),
        3 => Just(vec![Ed25519]),
        1 => Just(vec![Rsa]),
        2 => Just(vec![Rsa, EcdsaP256]),
        1 => Just(vec![EcdsaP384, Rsa]),
        1 => Just(vec![Ed25519, EcdsaP384]),
    ]
}

const GREASE: u16 = 0x5a5a;

/// A list without repetition, in any order, mostly long.
fn codes(pool: &[u16]) -> impl Strategy<Value = Vec<u16>> + use<> {
    let (pool, all) = (pool.to_vec(), pool.len());
    prop_oneof![1 => subsequence(pool.clone(), 1..=all), 2 => subsequence(pool, all / 2..=all)].prop_shuffle()
}

fn offer() -> impl Strategy<Value = Offer> {
    let suites: Vec<u16> =
        Suite::ALL.iter().map(|suite| suite.code()).chain([0x002f, 0xc013, 0x00ff, 0x1304, GREASE]).collect();
    let groups: Vec<u16> = Group::ALL.iter().map(|group| group.code()).chain([0x0019, 0x0100, GREASE]).collect();
    let schemes =
        [0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0201, 0x0203, GREASE];
    let versions = prop_oneof![
        4 => Just(Some(vec![GREASE, 0x0304, 0x0303])),
        2 => Just(None),
        2 => codes(&[0x0304, 0x0303, 0x0302, GREASE]).prop_map(Some),
    ];
    let legacy = prop_oneof![9 => Just(0x0303), 1 => select(vec![0x0301, 0x0302, 0x0304])];
    let alpn = prop_oneof![
        2 => Just(None),
        4 => subsequence(vec!["h2", "http/1.1", "spdy/3.1"], 1..=3).prop_shuffle().prop_map(Some),
    ];
    let name = select(vec![
        NamedServer::Name("client.example".into()),
        NamedServer::Absent,
        NamedServer::Address("192.0.2.1".parse().unwrap()),
    ]);
    let shares = prop::option::weighted(0.93, subsequence(groups.clone(), 0..=4));
    // Faults that no working client has, each seldom.
    let fault = prop_oneof![
        20 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(4), 1 => Just(5), 1 => Just(6)
    ];
    let lists = (
        codes(&suites),
        prop::option::weighted(0.95, codes(&groups)),
        prop::option::weighted(0.95, codes(&schemes)),
        shares,
    );
    (legacy, versions, lists, alpn, name, fault).prop_map(
        |(legacy_version, versions, (suites, groups, schemes, key_shares), alpn, server_name, fault)| {
            let mut offer = Offer {
                legacy_version,
                suites,
                compressions: vec![0],
                extensions: Vec::new(),
                server_name,
                versions,
                groups,
                key_shares,
                repeated_shares: false,
                schemes,
                alpn: alpn.map(|protocols| protocols.iter().map(|id| id.as_bytes().into()).collect()),
                psk: None,
                psk_modes: Some(vec![1]),
                session_ticket: None,
                uncompressed_points: true,
                takes_x509: true,
                certificate_compressions: Vec::new(),
            };
            match fault {
                1 => offer.compressions = vec![1],
                2 => offer.compressions = vec![0, 1],
                3 => offer.uncompressed_points = false,
                4 => offer.takes_x509 = false,
                5 => offer.server_name = NamedServer::Malformed("a b".into()),
                6 => {
                    offer.key_shares = Some(vec![0x001d, 0x001d]);
                    offer.repeated_shares = true;
                }
                _ => {}
            }
            offer
        },
    )
}

#[test]
fn the_model_agrees_with_rustls() {
    const CASES: u32 = 10_000;
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let (agreed, retried) = (Cell::new(0_u32), Cell::new(0_u32));
    let reasons = std::cell::RefCell::new(BTreeMap::<&str, u32>::new());
    TestRunner::new(config)
        .run(&(policy(), kinds(), offer()), |(policy, kinds, offer)| {
            match check(&policy, &kinds, &offer) {
                Ok(agreement) => {
                    agreed.set(agreed.get() + 1);
                    retried.set(retried.get() + u32::from(agreement.hello_retry));
                }
                Err(reason) => *reasons.borrow_mut().entry(reason.label()).or_default() += 1,
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    // The cases are worth something only if they come out in all ways.
    let reasons = reasons.into_inner();
    assert!(agreed.get() > CASES / 4, "{} agreed", agreed.get());
    assert!(retried.get() > CASES / 50, "{} retried", retried.get());
    for reason in [
        Reason::NoSharedVersion,
        Reason::NoSharedSuite,
        Reason::NoSharedGroup,
        Reason::NoSharedSignatureScheme,
        Reason::NoSharedAlpn,
        Reason::Sha1Only,
        Reason::ProtocolViolation,
    ] {
        assert!(reasons.get(reason.label()).is_some_and(|count| *count > 50), "{reason}: {reasons:?}");
    }
}

fn chrome() -> Offer {
    handfast::tls::clients::client("chrome-99").unwrap().offer.clone()
}

fn with(change: impl FnOnce(&mut Settings)) -> Policy {
    let mut settings = Settings::default();
    change(&mut settings);
    Policy::new(settings).unwrap()
}

#[test]
fn the_servers_order_of_groups_decides_if_the_policy_says_so() {
    let p384_first = vec![Group::Secp384r1, Group::X25519];
    let client = with(|settings| settings.groups.clone_from(&p384_first));
    let agreement = check(&client, &[CredentialKind::EcdsaP256], &chrome()).unwrap();
    assert_eq!((agreement.group, agreement.hello_retry), (Group::X25519, false));
    let server = with(|settings| (settings.groups, settings.group_order) = (p384_first, GroupOrder::Server));
    let agreement = check(&server, &[CredentialKind::EcdsaP256], &chrome()).unwrap();
    assert_eq!((agreement.group, agreement.hello_retry), (Group::Secp384r1, true));
    let old = Offer { versions: None, key_shares: None, ..chrome() };
    let agreement = check(&server, &[CredentialKind::EcdsaP256], &old).unwrap();
    assert_eq!((agreement.version, agreement.group), (Version::Tls12, Group::Secp384r1));
}

#[test]
fn only_policies_that_need_variants_have_them() {
    let variants = |policy: &Policy, kinds: &[CredentialKind]| {
        let credentials: Vec<Arc<Credential>> = kinds.iter().map(|kind| credential(*kind)).collect();
        let borrowed: Vec<&Credential> = credentials.iter().map(|credential| &**credential).collect();
        server_tls_of(&borrowed, policy).unwrap().variants()
    };
    let one = [CredentialKind::EcdsaP256];
    assert_eq!(variants(&Policy::default(), &one), 2);
    assert_eq!(variants(&with(|settings| settings.suite_order = SuiteOrder::Client), &one), 1);
    let grouped = with(|settings| settings.group_order = GroupOrder::Server);
    assert_eq!(variants(&grouped, &one), 2 * 5);
    assert_eq!(variants(&grouped, &[CredentialKind::EcdsaP256, CredentialKind::Rsa]), 2 * 2 * 5);
}

#[test]
fn each_client_gets_the_best_certificate_that_it_can_use() {
    let both = [CredentialKind::Rsa, CredentialKind::EcdsaP256];
    let chosen = |offer: &Offer| check(&Policy::default(), &both, offer).unwrap().credential;
    assert_eq!(chosen(&chrome()), 1);
    // No ECDSA signatures in TLS 1.3.
    assert_eq!(chosen(&Offer { schemes: Some(vec![0x0804]), ..chrome() }), 0);
    // A TLS 1.2 client that lists TLS 1.3 suites, verifies ECDSA, and has no ECDSA suite: rustls' own resolver, which
    // does not know the version, would take the wrong one.
    let offer = Offer { versions: Some(vec![0x0303]), suites: vec![0x1301, 0xc02f], ..chrome() };
    assert_eq!(chosen(&offer), 0);
}

#[test]
fn tickets_are_off_if_the_policy_says_so() {
    let credential = credential(CredentialKind::EcdsaP256);
    for tickets in [true, false] {
        let policy = with(|settings| settings.tickets = tickets);
        let tls = server_tls_of(&[&credential], &policy).unwrap();
        let config = tls.config_for(None);
        assert_eq!(config.ticketer.enabled(), tickets);
        assert_eq!(config.send_tls13_tickets, usize::from(tickets));
    }
}
