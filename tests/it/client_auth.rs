//! Certificates of clients: each way in which they fail, and what cannot get around them.

use std::collections::BTreeSet;
use std::sync::Arc;

use handfast::demo::pki::{Authority, KeyType, generate};
use handfast::snapshot::{HostTls, Snapshot, channel};
use handfast::tls::ServerTls;
use handfast::tls::chain::{Credential, RevocationLists, TrustAnchors};
use handfast::tls::policy::{ClientAuth, Policy, Settings, server_tls};
use handfast::tls::reason::{Blame, Reason};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SerialNumber};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::handshake::{Client, Failure, World, host, now, serve};
use crate::pki::{Ca, ca_params, crl, named, valid_around};

/// What a client shows: its chain and its key, PEM.
#[derive(Clone)]
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Identity {
    pub fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).map(Result::unwrap).collect();
        (chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }
}

/// A CA for clients, valid now.
pub fn client_ca(name: &str) -> Ca {
    let mut params = ca_params(name);
    valid_around(&mut params, now(), -100, 100);
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A good client certificate.
pub fn identity(issuer: &Ca) -> Identity {
    identity_with(issuer, |_| {})
}

pub fn identity_with(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("robot");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid_around(&mut params, now(), -10, 10);
    change(&mut params);
    let key = generate(KeyType::EcdsaP256).unwrap();
    Identity { chain: params.signed_by(&key, issuer).unwrap().pem(), key: key.serialize_pem() }
}

pub fn asking(required: bool, ca: &Ca) -> ClientAuth {
    let authorities = TrustAnchors::none().with_file(ca.pem().as_bytes()).unwrap();
    ClientAuth { required, authorities: Arc::new(authorities), revoked: None }
}

/// The same with these revocation lists, PEM.
pub fn asking_with(required: bool, ca: &Ca, lists: &str) -> ClientAuth {
    let asking = asking(required, ca);
    let lists = RevocationLists::parse(lists.as_bytes(), &asking.authorities).unwrap();
    ClientAuth { revoked: Some(Arc::new(lists)), ..asking }
}

/// A certificate for this name, under a policy that asks for client certificates or not.
pub fn tls_asking(authority: &Authority, name: &str, client_auth: Option<ClientAuth>) -> Arc<ServerTls> {
    let issued = authority.issue(&[name], KeyType::EcdsaP256, now(), -1..10).unwrap();
    let loaded = Credential::load(issued.chain().as_bytes(), issued.key.as_bytes(), b"", &TrustAnchors::none());
    let policy = Policy::new(Settings { client_auth, ..Settings::default() }).unwrap();
    Arc::new(server_tls(&loaded.credential.unwrap(), &policy).unwrap())
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// `required.example` and `optional.example`, which know `ca`, and `open.example`, which asks for nothing.
fn world(ca: &Ca) -> World {
    world_with([asking(true, ca), asking(false, ca)])
}

fn world_with([required, optional]: [ClientAuth; 2]) -> World {
    let authority = Authority::new("Test", now()).unwrap();
    let terminate = |name: &str, client_auth| host(name, HostTls::Terminate(tls_asking(&authority, name, client_auth)));
    let hosts = [
        terminate("required.example", Some(required)),
        terminate("optional.example", Some(optional)),
        terminate("open.example", None),
    ];
    let (publisher, reader) = channel(Arc::new(Snapshot { hosts: hosts.into(), ..Snapshot::default() }));
    World { authority, reader, publisher }
}

/// What came of a connection, on both sides.
struct Outcome {
    failure: Option<Failure>,
    resumed: bool,
    /// Whether a certificate was shown and verified.
    verified: bool,
    /// What the client was told, at the latest when it read: in TLS 1.3 its handshake ends before ours.
    told: Option<rustls::Error>,
}

async fn connect(
    world: &World,
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    identity: Option<&Identity>,
) -> Outcome {
    let client = Client { versions: vec![version], identity: identity.map(Identity::der), ..Client::default() };
    connect_with(world, name, client.config(&world.authority)).await
}

async fn connect_with(world: &World, name: &'static str, config: Arc<rustls::ClientConfig>) -> Outcome {
    let (established, failure, told) = serve(world, async move |io| {
        let told = match TlsConnector::from(config).connect(ServerName::try_from(name).unwrap(), io).await {
            Ok(mut stream) => match stream.shutdown().await {
                // A server that is content closes in good order; the tickets come before that.
                Ok(()) => stream.read(&mut [0; 16]).await.err(),
                Err(error) => Some(error),
            },
            Err(error) => Some(error),
        };
        told.map(|error| error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).unwrap().clone())
    })
    .await;
    let (resumed, verified) =
        established.map_or((false, false), |established| (established.resumed, established.client_certificate));
    Outcome { failure, resumed, verified, told }
}

/// Why a client is refused by a host that asks this, in both versions of the protocol; `None` if it is let in.
pub async fn admits(asking: ClientAuth, identity: Option<&Identity>) -> Option<Reason> {
    let world = world_with([asking.clone(), asking]);
    let mut found = Vec::new();
    for version in VERSIONS {
        let outcome = connect(&world, "required.example", version, identity).await;
        found.push(outcome.failure.map(|failure| failure.reason));
    }
    assert_eq!(found[0], found[1]);
    found[0]
}

/// Brings about each failure that is about a client's certificate, in both versions, where it is required and where it
/// is optional.
pub async fn every_failure() -> BTreeSet<Reason> {
    let ca = client_ca("Clients");
    let world = world(&ca);
    let namesake = client_ca("Clients");
    let days = |from, to| identity_with(&ca, |params| valid_around(params, now(), from, to));
    let rows = [
        (Reason::ClientCertificateExpired, days(-10, -1), AlertDescription::CertificateExpired),
        (
            Reason::ClientCertificateInvalid,
            identity_with(&ca, |params| params.is_ca = ca_params("").is_ca),
            AlertDescription::CertificateUnknown,
        ),
        (Reason::ClientCertificateBadSignature, identity(&namesake), AlertDescription::DecryptError),
        (Reason::ClientCertificateNotValidYet, days(2, 10), AlertDescription::CertificateExpired),
        (Reason::ClientCertificateUnknownCa, identity(&client_ca("Strangers")), AlertDescription::UnknownCA),
        (
            Reason::ClientCertificateWrongPurpose,
            identity_with(&ca, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            AlertDescription::UnsupportedCertificate,
        ),
    ];
    // The same with lists: of a current one, of one that has expired, and of one that another key has signed.
    let numbered = |issuer: &Ca, serial: u64| {
        identity_with(issuer, |params| params.serial_number = Some(SerialNumber::from(serial)))
    };
    let intermediate = {
        let mut params = ca_params("Clients Intermediate");
        valid_around(&mut params, now(), -100, 100);
        Ca::signed_by(params, KeyPair::generate().unwrap(), &ca).unwrap()
    };
    let mut below = identity(&intermediate);
    below.chain += &intermediate.pem();
    let current = crl(&ca, now(), -2..20, &[7]);
    let forged = crl(&client_ca("Clients Intermediate"), now(), -2..20, &[]);
    let listing = |lists: &str| world_with([asking_with(true, &ca, lists), asking_with(false, &ca, lists)]);
    let (listed, old) = (listing(&current), listing(&crl(&ca, now(), -20..-2, &[7])));
    let with_forged = listing(&(current + &forged));
    let (revoked, unknown) = (Reason::ClientCertificateRevoked, Reason::ClientCertificateRevocationUnknown);
    let (seventh, good) = (numbered(&ca, 7), numbered(&ca, 8));
    let lists = [
        (&listed, revoked, Some(&seventh), AlertDescription::CertificateRevoked),
        // Its intermediate has no list.
        (&listed, unknown, Some(&below), AlertDescription::UnknownCA),
        (&old, unknown, Some(&good), AlertDescription::UnknownCA),
        (&old, unknown, Some(&seventh), AlertDescription::UnknownCA),
        (&with_forged, unknown, Some(&below), AlertDescription::HandshakeFailure),
    ];
    let mut seen = BTreeSet::new();
    let rows = rows.iter().map(|(reason, identity, alert)| (&world, *reason, Some(identity), *alert));
    let missing = (&world, Reason::ClientCertificateMissing, None, AlertDescription::CertificateRequired);
    for (world, reason, identity, alert) in rows.chain([missing]).chain(lists) {
        for version in VERSIONS {
            for name in ["required.example", "optional.example"] {
                if identity.is_none() && name == "optional.example" {
                    continue;
                }
                let outcome = connect(world, name, version, identity).await;
                let failure = outcome.failure.unwrap_or_else(|| panic!("{reason} at {name} in {version:?}"));
                assert_eq!(failure.reason, reason, "{name} {version:?} {:?}", failure.source);
                assert_eq!(failure.trace.alert_sent, Some(alert), "{reason} {version:?}");
                assert_eq!(failure.trace.host.unwrap().name.as_str(), name);
                assert_eq!(reason.blame(), if reason == unknown { Blame::Policy } else { Blame::Client });
                assert_eq!(outcome.told, Some(rustls::Error::AlertReceived(alert)), "{reason} {version:?}");
                seen.insert(reason);
            }
        }
    }
    seen
}

#[tokio::test]
async fn clients_with_a_good_certificate_connect_and_without_one_where_it_is_optional() {
    let ca = client_ca("Clients");
    let world = world(&ca);
    let good = identity(&ca);
    // An intermediate may come from the client.
    let mut params = ca_params("Clients Intermediate");
    valid_around(&mut params, now(), -100, 100);
    let intermediate = Ca::signed_by(params, KeyPair::generate().unwrap(), &ca).unwrap();
    let mut long = identity(&intermediate);
    let alone = long.clone();
    long.chain += &intermediate.pem();
    for version in VERSIONS {
        for (name, identity) in [
            ("required.example", Some(&good)),
            ("required.example", Some(&long)),
            ("optional.example", Some(&good)),
            ("optional.example", None),
            ("open.example", None),
            // A host that does not ask is not told.
            ("open.example", Some(&good)),
        ] {
            let outcome = connect(&world, name, version, identity).await;
            assert!(outcome.failure.is_none() && outcome.told.is_none(), "{name} {version:?} {:?}", outcome.told);
            assert_eq!(outcome.verified, identity.is_some() && name != "open.example", "{name}");
        }
        let outcome = connect(&world, "required.example", version, Some(&alone)).await;
        assert_eq!(outcome.failure.unwrap().reason, Reason::ClientCertificateUnknownCa);
    }
}

/// A ticket stands for an earlier handshake, whose demands were others.
#[tokio::test]
async fn no_ticket_gets_around_the_verification() {
    let (old, new) = (client_ca("Old clients"), client_ca("New clients"));
    for version in VERSIONS {
        let world = world(&old);
        let good = identity(&old);
        let config = |identity: Option<&Identity>| {
            let client = Client { versions: vec![version], identity: identity.map(Identity::der), ..Client::default() };
            client.config(&world.authority)
        };
        let publish = |client_auth| {
            let mut snapshot = (*world.reader.load_full()).clone();
            let tls = tls_asking(&world.authority, "open.example", client_auth);
            snapshot.hosts.extend([host("open.example", HostTls::Terminate(tls))]);
            world.publisher.publish(Arc::new(snapshot));
        };

        // Whoever has a ticket from before the host asked for certificates is asked all the same.
        let (anonymous, known) = (config(None), config(Some(&good)));
        assert!(!connect_with(&world, "open.example", anonymous.clone()).await.resumed);
        assert!(connect_with(&world, "open.example", anonymous.clone()).await.resumed, "tickets work here");
        assert!(!connect_with(&world, "open.example", known.clone()).await.resumed);
        publish(Some(asking(true, &old)));
        let outcome = connect_with(&world, "open.example", anonymous).await;
        assert_eq!(outcome.failure.unwrap().reason, Reason::ClientCertificateMissing);

        // A host that asks gives none, so each handshake verifies, also against the CA of this moment.
        for _ in 0..3 {
            let outcome = connect_with(&world, "open.example", known.clone()).await;
            assert!(outcome.failure.is_none() && !outcome.resumed, "{version:?}");
        }
        publish(Some(asking(true, &new)));
        let outcome = connect_with(&world, "open.example", known.clone()).await;
        assert_eq!(outcome.failure.unwrap().reason, Reason::ClientCertificateUnknownCa);
        publish(Some(asking(false, &new)));
        let outcome = connect_with(&world, "open.example", known).await;
        assert_eq!(outcome.failure.unwrap().reason, Reason::ClientCertificateUnknownCa);
    }
}
