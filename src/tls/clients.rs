//! Well-known clients, and which of them connect.
//!
//! `clients.tsv ──▶ Client ──▶ Offer ──negotiate──▶ Agreement, or the Reason why not`
//!
//! The table holds what clients offer and nothing else. With what they connect is computed, by the same model that
//! serves.

use std::sync::LazyLock;

use super::negotiate::{Agreement, CredentialKind, negotiate};
use super::offer::{NamedServer, Offer};
use super::policy::Policy;
use super::reason::Reason;

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
    let [id, name, oldest, newest, sni, alpn, suites, groups, schemes, shares, compressions, fetches] = fields[..]
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
    Some(Client { id, name, oldest, newest, fetches_intermediates: fetches == "yes", offer })
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
