//! The fuzz target `hello`: any bytes as the beginning of a connection.
//!
//! What must hold for each of them: however they are cut, the parser says the same; what rustls takes for a ClientHello
//! has an offer; the model never refuses a client that rustls would serve, because that client would lose a connection
//! for a mistake of ours; and it foresees each refusal of rustls' that comes of lists without a common entry.

use std::sync::{Arc, LazyLock};

use handfast::demo::pki::{Authority, KeyType};
use handfast::tls::ServerTls;
use handfast::tls::chain::{Credential, TrustAnchors};
use handfast::tls::negotiate::{CredentialKind, negotiate};
use handfast::tls::offer::{FirstBytes, HelloReader, NamedServer, Offer, Progress, first_bytes};
use handfast::tls::policy::{Alpn, Group, GroupOrder, Policy, Settings, SuiteOrder, server_tls_of};
use rustls::pki_types::UnixTime;
use rustls::server::{Accepted, Acceptor};
use rustls::{Error, HandshakeKind};

/// Runs the target.
pub fn run(data: &[u8]) {
    let whole = HelloReader::default().read(data);
    assert_eq!(read_in_pieces(data, |_| 1), whole, "byte by byte");
    // Pieces of sizes that the bytes themselves choose.
    assert_eq!(read_in_pieces(data, |at| usize::from(data[at]) + 1), whole, "in pieces");
    first_bytes_agree(data);
    let accepted = accept(data);
    let Progress::Complete(offer) = whole else {
        assert!(accepted.is_none(), "rustls takes this for a ClientHello: {whole:?}");
        return;
    };
    assert_eq!(first_bytes(data), FirstBytes::Tls);
    assert_eq!(Offer::parse(&in_records(data, 1 + data.len() % 700)).as_ref(), Ok(&Some((*offer).clone())));
    has_ja4_form(&offer);
    for (policy, _) in served() {
        for kinds in KINDS {
            let _ = negotiate(policy, kinds, &offer);
        }
    }
    if let Some(accepted) = accepted {
        agrees_with_rustls(data, &offer, accepted);
    }
}

fn read_in_pieces(data: &[u8], size: impl Fn(usize) -> usize) -> Progress {
    let mut reader = HelloReader::default();
    let mut progress = Progress::Incomplete;
    let mut at = 0;
    while at < data.len() && progress == Progress::Incomplete {
        let end = data.len().min(at + size(at));
        progress = reader.read(&data[at..end]);
        at = end;
    }
    // What is decided stays decided.
    assert_eq!(reader.read(&data[at..]), progress);
    progress
}

/// A decision about the first bytes is not taken back; of the one byte 0x16 nothing is known yet, and it passes for TLS.
fn first_bytes_agree(data: &[u8]) {
    let mut decided = None;
    for end in 2..=data.len().min(20) {
        let found = first_bytes(&data[..end]);
        if let Some(decided) = decided {
            assert_eq!(found, decided);
        } else if found != FirstBytes::Incomplete {
            decided = Some(found);
        }
    }
    if let Some(decided) = decided {
        assert_eq!(first_bytes(data), decided);
    }
}

/// The ClientHello that rustls finds, if it does.
fn accept(data: &[u8]) -> Option<Accepted> {
    let mut acceptor = Acceptor::default();
    let mut unread = data;
    loop {
        let taken = acceptor.read_tls(&mut unread).unwrap_or(0);
        match acceptor.accept() {
            Ok(Some(accepted)) => return Some(accepted),
            Ok(None) if taken > 0 => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The first message in records of another size.
fn in_records(data: &[u8], size: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = data;
    let length = |message: &[u8]| match message {
        [_, high, middle, low, ..] => 4 + u32::from_be_bytes([0, *high, *middle, *low]) as usize,
        _ => usize::MAX,
    };
    while message.len() < length(&message) {
        let [_, _, _, high, low, content @ ..] = rest else { panic!("a complete message has complete records") };
        let (content, after) = content.split_at(u16::from_be_bytes([*high, *low]).into());
        message.extend_from_slice(content);
        rest = after;
    }
    let record = |content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x16, 3, 3], &length[..], content].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn has_ja4_form(offer: &Offer) {
    let ja4 = offer.ja4();
    let parts: Vec<&str> = ja4.split('_').collect();
    let [head, suites, rest] = parts[..] else { panic!("{ja4}") };
    assert!(head.len() == 10 && head.starts_with('t') && head.is_ascii(), "{ja4}");
    assert!(["13", "12", "11", "10", "s3", "s2", "00"].contains(&&head[1..3]), "{ja4}");
    assert!(["d", "i"].contains(&&head[3..4]), "{ja4}");
    assert!(head[4..8].bytes().all(|byte| byte.is_ascii_digit()), "{ja4}");
    assert!(head[8..].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{ja4}");
    for hash in [suites, rest] {
        assert!(hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ja4}");
    }
}

/// rustls answers this hello if, and as far as it is about common entries of lists only if, the model says so.
fn agrees_with_rustls(data: &[u8], offer: &Offer, accepted: Accepted) {
    // What stands for the root is not part of a name here.
    let name = accepted.client_hello().server_name().map(|name| name.strip_suffix('.').unwrap_or(name).to_owned());
    let ours = match &offer.server_name {
        NamedServer::Name(name) => Some(name.to_string()),
        NamedServer::Absent | NamedServer::Address(_) | NamedServer::Malformed(_) => None,
    };
    assert_eq!(name, ours);
    let (policy, servers) = &served()[data.len() % served().len()];
    let (kinds, tls) = &servers[data.last().map_or(0, |byte| usize::from(*byte)) % servers.len()];
    let model = negotiate(policy, kinds, offer);
    match (accepted.into_connection(tls.config_for(Some(offer)).clone()), model) {
        // It has only asked for another hello (RFC 8446 section 4.1.4), and looks at signatures when that has come.
        (Ok(connection), Err(_)) if connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest) => {}
        (Ok(_), Err(reason)) => panic!("rustls serves a client that the model refuses as {reason}: {offer:?}"),
        (Err((error @ (Error::PeerIncompatible(_) | Error::NoApplicationProtocol | Error::General(_)), _)), Ok(_)) => {
            panic!("the model did not foresee {error}: {offer:?}")
        }
        // Key shares that are no points, binders that do not fit: only the cryptography can tell.
        (Err(_), Ok(_)) | (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
    }
}

/// Credentials for the model alone.
const KINDS: [&[CredentialKind]; 5] = [
    &[CredentialKind::EcdsaP384],
    &[CredentialKind::Rsa],
    &[CredentialKind::MlDsa65],
    &[CredentialKind::Ed25519, CredentialKind::EcdsaP521],
    &[],
];

/// Policies, and what each is served with.
type Served = Vec<(Policy, Vec<(Vec<CredentialKind>, ServerTls)>)>;

fn served() -> &'static Served {
    static SERVED: LazyLock<Served> = LazyLock::new(|| {
        let authority = Authority::new("Fuzz", UnixTime::now()).unwrap();
        let credential = |key| {
            let issued = authority.issue(&["client.example"], key, UnixTime::now(), -1..30).unwrap();
            let loaded = Credential::load(issued.chain().as_bytes(), issued.key.as_bytes(), b"", &TrustAnchors::none());
            loaded.credential.unwrap()
        };
        let [p256, p384, rsa] = [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048].map(credential);
        let choices: [&[&Arc<Credential>]; 4] = [&[&p256], &[&p384], &[&p256, &rsa], &[&rsa]];
        let serve = |settings: Settings| {
            let policy = Policy::new(settings).unwrap();
            let server = |credentials: &&[&Arc<Credential>]| {
                let credentials: Vec<&Credential> = credentials.iter().map(|credential| &***credential).collect();
                let kinds = credentials.iter().map(|credential| CredentialKind::of(credential)).collect();
                (kinds, server_tls_of(&credentials, &policy).unwrap())
            };
            (policy.clone(), choices.iter().map(server).collect())
        };
        let groups = vec![Group::Secp384r1, Group::X25519, Group::X25519MlKem768];
        let policies = [
            Settings::default(),
            Settings::modern(),
            Settings::intermediate(),
            Settings { suite_order: SuiteOrder::Server, alpn: Vec::new(), ..Settings::default() },
            Settings { groups, group_order: GroupOrder::Server, ..Settings::default() },
            Settings { alpn: vec![Alpn::Http11], suite_order: SuiteOrder::Client, ..Settings::default() },
        ];
        policies.map(serve).into()
    });
    &SERVED
}
