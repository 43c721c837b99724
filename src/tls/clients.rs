//! Well-known clients, and which of them connect.
//!
//! `clients.tsv ──▶ Client ──▶ Offer ──negotiate──▶ Agreement, or the Reason why not`
//!
//! The table holds what clients offer and which roots they lack, and nothing else. With what they connect is computed, by
//! the same model that serves.

mod judge;

use std::sync::LazyLock;

use super::negotiate::{Agreement, CredentialKind, negotiate};
use super::offer::{NamedServer, Offer};
use super::policy::Policy;
use super::reason::Reason;
use crate::api::annotations::edit_distance;

pub use judge::{Obstacle, judge, judge_all, judge_under, trusts};

/// A well-known client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// A stable name for policies and JSON, such as `java-8u31`.
    pub id: &'static str,
    /// The name for people.
    pub name: &'static str,
    /// The oldest version that it offers, which may be older than anything that is served.
    pub oldest: u16,
    /// The newest version that it offers.
    pub newest: u16,
    /// Whether it gets a missing intermediate certificate by itself, so that an incomplete chain does not stop it.
    pub fetches_intermediates: bool,
    /// Public roots that its own store is known not to hold, by common name.
    pub lacks: Vec<&'static str>,
    /// What its ClientHello offers, with the server name `client.example` if it sends one.
    pub offer: Offer,
}

/// All of them, by family and age.
pub fn clients() -> &'static [Client] {
    static CLIENTS: LazyLock<Vec<Client>> = LazyLock::new(|| {
        let lines = include_str!("clients.tsv").lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| client_of_line(line).expect("invariant: clients.tsv is well-formed")).collect()
    });
    &CLIENTS
}

/// The client with this id.
pub fn client(id: &str) -> Option<&'static Client> {
    clients().iter().find(|client| client.id == id)
}

/// The ids that are written most like one that does not exist, best first: a few, or none.
pub fn similar(id: &str) -> Vec<&'static str> {
    const SHOWN: usize = 4;
    let id = id.to_ascii_lowercase();
    let family = id.split('-').next().unwrap_or_default();
    let mut scored: Vec<(usize, &str)> = clients()
        .iter()
        .map(|client| (edit_distance(&id, client.id), client.id))
        .filter(|(distance, known)| *distance <= id.len() / 3 || known.split('-').next() == Some(family))
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(SHOWN).map(|(_, id)| id).collect()
}

/// The clients that cannot verify signatures of a kind of key: they connect to a host with the default policy and a
/// P-256 key, and not with this one. None for RSA keys, which every client can verify.
pub fn cannot_verify(kind: CredentialKind) -> &'static [&'static Client] {
    static FOUND: LazyLock<Vec<Vec<&'static Client>>> = LazyLock::new(|| {
        let policy = Policy::default();
        let connects = |client: &Client, kind| negotiate(&policy, &[kind], &client.offer).is_ok();
        let found = |kind| {
            let fails = |client: &&Client| connects(client, CredentialKind::EcdsaP256) && !connects(client, kind);
            if kind == CredentialKind::Rsa { Vec::new() } else { clients().iter().filter(fails).collect() }
        };
        CredentialKind::ALL.into_iter().map(found).collect()
    });
    let index = CredentialKind::ALL.iter().position(|known| *known == kind);
    index.and_then(|index| FOUND.get(index)).map(Vec::as_slice).unwrap_or_default()
}

/// Names for a message: all if they are few, else the newest of each family, and how many more there are.
pub fn names(clients: &[&Client]) -> String {
    const FEW: usize = 6;
    let family = |client: &Client| client.id.split('-').next();
    let newest =
        |(index, client): &(usize, &&Client)| clients.get(index + 1).is_none_or(|next| family(next) != family(client));
    let mut shown: Vec<&str> = match clients.len() {
        ..=FEW => clients.iter().map(|client| client.name).collect(),
        _ => clients.iter().enumerate().filter(newest).map(|(_, client)| client.name).collect(),
    };
    shown.truncate(FEW);
    match clients.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// For each well-known client, with what it connects to a host with this policy and these credentials, or why it
/// cannot. Whether it then trusts the chain is another question.
pub fn would_connect(
    policy: &Policy,
    credentials: &[CredentialKind],
) -> Vec<(&'static Client, Result<Agreement, Reason>)> {
    clients().iter().map(|client| (client, negotiate(policy, credentials, &client.offer))).collect()
}

fn client_of_line(line: &'static str) -> Option<Client> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [id, name, oldest, newest, sni, alpn, suites, groups, schemes, shares, compressions, fetches, lacks] =
        fields[..]
    else {
        return None;
    };
    let (oldest, newest) = (version_of(oldest)?, version_of(newest)?);
    let listed = |text: &'static str| match text {
        "-" => Some(None),
        text => text.split(',').map(|code| u16::from_str_radix(code, 16).ok()).collect::<Option<Vec<_>>>().map(Some),
    };
    let (groups, schemes, key_shares) = (listed(groups)?, listed(schemes)?, listed(shares)?);
    let alpn: Option<Vec<Box<[u8]>>> = (alpn != "-").then(|| alpn.split(',').map(|id| id.as_bytes().into()).collect());
    // TLS 1.3 came with the list of versions; older clients say only their newest.
    let versions = (newest >= 0x0304).then(|| (oldest..=newest).rev().collect::<Vec<u16>>());
    let certificate_compressions = listed(compressions)?.unwrap_or_default();
    let present = [
        (0x0000, sni == "yes"),
        (0x000a, groups.is_some()),
        (0x000b, groups.is_some()),
        (0x000d, schemes.is_some()),
        (0x0010, alpn.is_some()),
        (0x001b, !certificate_compressions.is_empty()),
        (0x002b, versions.is_some()),
        (0x002d, versions.is_some()),
        (0x0033, key_shares.is_some()),
    ];
    let offer = Offer {
        legacy_version: newest.min(0x0303),
        suites: listed(suites)??,
        compressions: vec![0],
        extensions: present.iter().filter(|(_, present)| *present).map(|(kind, _)| *kind).collect(),
        server_name: match sni {
            "yes" => NamedServer::Name("client.example".into()),
            _ => NamedServer::Absent,
        },
        psk_modes: versions.is_some().then(|| vec![1]),
        versions,
        groups,
        key_shares,
        repeated_shares: false,
        schemes,
        alpn,
        psk: None,
        session_ticket: None,
        uncompressed_points: true,
        takes_x509: true,
        certificate_compressions,
    };
    let lacks = if lacks == "-" { Vec::new() } else { lacks.split(',').collect() };
    Some(Client { id, name, oldest, newest, fetches_intermediates: fetches == "yes", lacks, offer })
}

/// The name of a protocol version, by its code.
pub fn version_words(code: u16) -> &'static str {
    match code {
        ..=0x0300 => "SSL 3.0",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        0x0304.. => "TLS 1.3",
    }
}

fn version_of(text: &str) -> Option<u16> {
    match text {
        "ssl3" => Some(0x0300),
        "1.0" => Some(0x0301),
        "1.1" => Some(0x0302),
        "1.2" => Some(0x0303),
        "1.3" => Some(0x0304),
        _ => None,
    }
}
