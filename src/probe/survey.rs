//! Which versions, suites and groups a server speaks, and in whose order: found by asking.
//!
//! `offer all that is left ──▶ the server's choice ──▶ leave it out, ask again`, until the server refuses
//!
//! Pure: whoever calls brings the way to ask, so the same questions go to a server on the network and to the model. Each
//! question costs one connection. A refusal ends a list, whatever its cause, so the number of questions is bounded by the
//! tables of suites and groups.

use crate::tls::answer::{BadAnswer, Flight, ServerHello, ServerShare, Wanted};
use crate::tls::codes::{GroupFacts, KeyExchange, SuiteFacts, alert_name};
use crate::tls::offer::{NamedServer, Offer};
use crate::tls::policy::{Group, GroupOrder, SuiteOrder};

/// Why a hello got no ServerHello.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An alert, by its code.
    #[error("it answers with the alert {}", alert_name(*.0))]
    Alert(u8),
    /// What is no answer of TLS.
    #[error("{0}")]
    BadAnswer(BadAnswer),
    /// The connection was closed without a word.
    #[error("it closes the connection without an answer")]
    Closed,
    /// The TLS library that completes a handshake here gives up.
    #[error("the handshake fails here: {0}")]
    Library(String),
    /// No more questions are asked.
    #[error("it was not asked")]
    NotAsked,
    /// The connection was reset.
    #[error("it resets the connection")]
    Reset,
    /// Nothing came in time.
    #[error("no answer came in time")]
    Silent,
    /// There was no connection.
    #[error("no connection: {0}")]
    Unreachable(String),
}

/// How a question is asked: what it is about, the hello, and how much of the answer is wanted.
pub type Ask<'a> = dyn FnMut(&str, &Offer, Wanted) -> Result<Flight, Refusal> + 'a;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The versions that the server speaks, newest first.
    pub versions: Vec<VersionSurvey>,
    /// What it says about the newest of its versions up to TLS 1.2, if it has one.
    pub clear: Option<ClearFacts>,
    /// Size of the prime of its finite-field key exchange up to TLS 1.2.
    pub prime_bits: Option<usize>,
}

/// One protocol version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSurvey {
    /// Its code.
    pub version: u16,
    /// The suites in the order in which the server chose them.
    pub suites: Vec<u16>,
    /// Whose order decides; `None` if there is nothing to order.
    pub suite_order: Option<SuiteOrder>,
    /// The groups in the order in which the server chose them. Looked for in TLS 1.3, and in the newest older version.
    pub groups: Vec<u16>,
    /// Whose order decides; `None` if there is nothing to order.
    pub group_order: Option<GroupOrder>,
}

/// What the versions up to TLS 1.2 tell in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClearFacts {
    /// RFC 5746.
    pub secure_renegotiation: bool,
    /// RFC 7627.
    pub extended_master_secret: bool,
    /// RFC 5077.
    pub tickets: bool,
    /// Compression, which leaks what is secret (CRIME).
    pub compression: bool,
    /// An OCSP response is stapled.
    pub is_stapled: bool,
    /// The server wants a certificate of the client.
    pub asks_for_certificate: bool,
    /// Application protocols, preferred one first.
    pub alpn: Vec<String>,
}

impl Survey {
    /// What was found about a version.
    pub fn version(&self, version: u16) -> Option<&VersionSurvey> {
        self.versions.iter().find(|found| found.version == version)
    }

    /// The newest version up to TLS 1.2.
    pub fn newest_clear(&self) -> Option<&VersionSurvey> {
        self.versions.iter().find(|found| found.version <= 0x0303)
    }
}

/// Every version that is asked for, newest first.
pub const VERSIONS: [u16; 5] = [0x0304, 0x0303, 0x0302, 0x0301, 0x0300];

/// Every signature scheme that is in use.
pub const SCHEMES: [u16; 24] = [
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401, 0x0501, 0x0601,
    0x0904, 0x0905, 0x0906, 0x0303, 0x0301, 0x0203, 0x0201, 0x0402, 0x0302, 0x0202,
];

/// Suites in one hello: some servers take no more than 127.
const CHUNK: usize = 120;

/// Asks everything.
pub fn survey(ask: &mut Ask<'_>, name: &NamedServer) -> Survey {
    let mut survey = Survey::default();
    for version in VERSIONS {
        let suites = suites(ask, name, version);
        if suites.is_empty() {
            continue;
        }
        let suite_order = suite_order(ask, name, version, &suites);
        let groups = match version {
            0x0304 => groups_of_tls13(ask, name, &suites),
            _ if survey.newest_clear().is_none() => groups_of_ecdhe(ask, name, version, &suites),
            _ => Vec::new(),
        };
        let group_order = group_order(ask, name, version, &suites, &groups);
        survey.versions.push(VersionSurvey { version, suites, suite_order, groups, group_order });
    }
    if let Some(newest) = survey.newest_clear().cloned() {
        survey.clear = Some(clear_facts(ask, name, &newest));
        survey.prime_bits = prime_bits(ask, name, &survey);
    }
    survey
}

/// A hello that every server of today takes, then others for older ones. With the first answer, and with how the first
/// hello was refused, if one got an answer that has no more in it than an older version; or with what the first got.
pub fn greet(ask: &mut Ask<'_>, name: &NamedServer) -> Result<(Flight, Option<Refusal>), Refusal> {
    let is_sound = |suite: &&SuiteFacts| suite.weakness.is_none_or(|weakness| !weakness.is_broken());
    let common = || ranked(0x0303).filter(|suite| suite.is_common());
    let sound: Vec<u16> = common().filter(is_sound).map(|suite| suite.code).collect();
    let broken: Vec<u16> = common().filter(|suite| !is_sound(suite)).map(|suite| suite.code).collect();
    let tls13: Vec<u16> = ranked(0x0304).filter(|suite| suite.is_common()).map(|suite| suite.code).collect();
    let mut first = offer(name, 0x0304, &[&tls13, &sound[..]].concat());
    first.versions = Some(vec![0x0304, 0x0303, 0x0302, 0x0301]);
    let refused = match ask("hello", &first, Wanted::Hello) {
        Ok(flight) => return Ok((flight, None)),
        // Nothing else will make TLS of it.
        Err(refused @ (Refusal::BadAnswer(BadAnswer::NotTls(_)) | Refusal::Unreachable(_) | Refusal::NotAsked)) => {
            return Err(refused);
        }
        Err(refused) => refused,
    };
    let others = [(0x0303, &sound, true), (0x0301, &sound, true), (0x0303, &broken, false)];
    // Who is silent may be so each time: one more chance, not three.
    let chances = if refused == Refusal::Silent { 1 } else { others.len() };
    for (version, suites, differs_in_version_only) in others.into_iter().take(chances) {
        if let Ok(flight) = ask("hello", &offer(name, version, suites), Wanted::Hello) {
            return Ok((flight, differs_in_version_only.then_some(refused)));
        }
    }
    Err(refused)
}

/// A hello for one version.
pub fn offer(name: &NamedServer, version: u16, suites: &[u16]) -> Offer {
    let is_tls13 = version >= 0x0304;
    let groups: Vec<u16> = match is_tls13 {
        true => GroupFacts::all().iter().filter(|group| group.works_with_tls13()).map(|group| group.code).collect(),
        false => GroupFacts::all().iter().filter(|group| group.works_with_ecdhe()).map(|group| group.code).collect(),
    };
    let mut offer = Offer {
        legacy_version: version.min(0x0303),
        suites: suites.to_vec(),
        compressions: vec![0],
        // A stapled response, point formats, extended master secrets, secure renegotiation.
        extensions: vec![0x0005, 0x000b, 0x0017, 0xff01],
        server_name: name.clone(),
        versions: is_tls13.then(|| vec![version]),
        groups: Some(groups),
        key_shares: is_tls13.then(|| vec![Group::X25519.code(), Group::Secp256r1.code()]),
        repeated_shares: false,
        schemes: Some(SCHEMES.to_vec()),
        alpn: None,
        psk: None,
        psk_modes: is_tls13.then(|| vec![1]),
        session_ticket: Some(0),
        uncompressed_points: true,
        takes_x509: true,
        certificate_compressions: Vec::new(),
    };
    if version <= 0x0300 {
        // SSL 3.0 has no extensions; the signal stands for that of secure renegotiation (RFC 5746 section 3.3).
        offer.suites.push(0x00ff);
        offer.server_name = NamedServer::Absent;
        (offer.groups, offer.schemes, offer.session_ticket) = (None, None, None);
        offer.extensions.clear();
    }
    offer
}

/// The suites of a version: those that are better come first, for servers that leave the choice to the client.
fn ranked(version: u16) -> impl Iterator<Item = &'static SuiteFacts> {
    let mut suites: Vec<&SuiteFacts> = SuiteFacts::all().iter().filter(|suite| suite.works_with(version)).collect();
    let exchange = |suite: &SuiteFacts| match suite.key_exchange {
        KeyExchange::Any | KeyExchange::Ecdhe => 0,
        KeyExchange::Dhe => 1,
        KeyExchange::Static => 2,
    };
    suites.sort_by_key(|suite| (!suite.is_common(), suite.weakness.is_some(), exchange(suite), !suite.aead));
    suites.into_iter()
}

/// The ServerHello, if it is about this version.
fn hello_of(flight: &Flight, version: u16) -> Option<&ServerHello> {
    flight.hello.as_ref().filter(|hello| hello.version == version)
}

fn suites(ask: &mut Ask<'_>, name: &NamedServer, version: u16) -> Vec<u16> {
    const PROTOCOL_VERSION: u8 = 70;
    let what = format!("{} suites", version_name(version));
    let (common, rare): (Vec<&SuiteFacts>, Vec<_>) = ranked(version).partition(|suite| suite.is_common());
    let mut found = Vec::new();
    for chunk in common.chunks(CHUNK).chain(rare.chunks(CHUNK)) {
        let mut left: Vec<u16> = chunk.iter().map(|suite| suite.code).collect();
        while !left.is_empty() {
            let answer = ask(&what, &offer(name, version, &left), Wanted::Hello);
            // The version itself is what is refused; and what is silent once is not asked for long.
            if found.is_empty() && matches!(answer, Err(Refusal::Alert(PROTOCOL_VERSION) | Refusal::Silent)) {
                return found;
            }
            let chosen = answer.ok().and_then(|flight| hello_of(&flight, version).map(|hello| hello.suite));
            let Some(at) = chosen.and_then(|chosen| left.iter().position(|code| *code == chosen)) else { break };
            found.push(left.remove(at));
        }
    }
    found
}

fn is_chacha20(suite: &u16) -> bool {
    SuiteFacts::of(*suite).is_some_and(|suite| suite.name.contains("CHACHA20"))
}

/// The same suites in two orders, and ChaCha20 by itself, because some servers heed the client's order only where it
/// puts that first.
fn suite_order(ask: &mut Ask<'_>, name: &NamedServer, version: u16, suites: &[u16]) -> Option<SuiteOrder> {
    let what = format!("{} order of suites", version_name(version));
    let mut choice = |suites: &[u16]| {
        let flight = ask(&what, &offer(name, version, suites), Wanted::Hello).ok()?;
        hello_of(&flight, version).map(|hello| hello.suite)
    };
    let (chacha20, mut others): (Vec<u16>, Vec<u16>) = suites.iter().copied().partition(is_chacha20);
    others.truncate(CHUNK);
    let forwards = if others.len() < 2 { return None } else { choice(&others)? };
    let backwards = choice(&others.iter().rev().copied().collect::<Vec<u16>>())?;
    if forwards != backwards {
        return Some(SuiteOrder::Client);
    }
    let heeds_chacha20 = !chacha20.is_empty()
        && choice(&[&others[..1], &chacha20].concat()).is_some_and(|suite| !is_chacha20(&suite))
        && choice(&[&chacha20, &others[..]].concat()).is_some_and(|suite| is_chacha20(&suite));
    Some(if heeds_chacha20 { SuiteOrder::ServerUnlessChaCha20First } else { SuiteOrder::Server })
}

/// Without any key share the server has to name the group that it wants (RFC 8446 section 4.1.4), whatever it is.
fn groups_of_tls13(ask: &mut Ask<'_>, name: &NamedServer, suites: &[u16]) -> Vec<u16> {
    let mut choice = |groups: &[u16], shares: &[u16]| {
        let mut offer = offer(name, 0x0304, suites);
        (offer.groups, offer.key_shares) = (Some(groups.to_vec()), Some(shares.to_vec()));
        let flight = ask("TLS 1.3 groups", &offer, Wanted::Hello).ok()?;
        hello_of(&flight, 0x0304).and_then(|hello| hello.group)
    };
    let mut left: Vec<u16> =
        GroupFacts::all().iter().filter(|group| group.works_with_tls13()).map(|group| group.code).collect();
    let mut found = Vec::new();
    while let Some(at) = choice(&left, &[]).and_then(|chosen| left.iter().position(|code| *code == chosen)) {
        found.push(left.remove(at));
        if left.is_empty() {
            break;
        }
    }
    if found.is_empty() {
        // A server that never asks for a share: each group by itself, where a share can be made.
        let alone = |group: &u16| choice(&[*group], &[*group]) == Some(*group);
        found = Group::ALL.into_iter().map(Group::code).filter(alone).collect();
    }
    found
}

fn groups_of_ecdhe(ask: &mut Ask<'_>, name: &NamedServer, version: u16, suites: &[u16]) -> Vec<u16> {
    let facts = |code: &u16| SuiteFacts::of(*code);
    let is_ecdhe = |code: &u16| facts(code).is_some_and(|suite| suite.key_exchange == KeyExchange::Ecdhe);
    let suites: Vec<u16> = suites.iter().copied().filter(is_ecdhe).take(CHUNK).collect();
    if suites.is_empty() || version <= 0x0300 {
        return Vec::new();
    }
    let what = format!("{} groups", version_name(version));
    let mut choice = |groups: &[u16]| {
        let offer = Offer { groups: Some(groups.to_vec()), ..offer(name, version, &suites) };
        let flight = ask(&what, &offer, Wanted::Flight).ok()?;
        hello_of(&flight, version)?;
        match flight.key_exchange {
            Some(ServerShare::Curve(curve)) => Some(curve),
            Some(ServerShare::Field(_)) | None => None,
        }
    };
    let mut left: Vec<u16> =
        GroupFacts::all().iter().filter(|group| group.works_with_ecdhe()).map(|group| group.code).collect();
    let mut found = Vec::new();
    while !left.is_empty() {
        let chosen = choice(&left);
        let Some(at) = chosen.and_then(|chosen| left.iter().position(|code| *code == chosen)) else { break };
        found.push(left.remove(at));
    }
    // OpenSSL also wants the curve of an ECDSA certificate among the groups, so a list without it is refused whatever
    // else is in it. With it, one that the server likes better, or that the client's order puts first, shows.
    let is_ecdsa = |code: &u16| facts(code).is_some_and(|suite| suite.name.contains("_ECDSA_"));
    if !found.is_empty() && suites.iter().any(is_ecdsa) {
        const WIDESPREAD: [u16; 8] = [0x001d, 0x0017, 0x0018, 0x0019, 0x001e, 0x001a, 0x001b, 0x001c];
        for group in WIDESPREAD.into_iter().filter(|group| left.contains(group)) {
            if choice(&[&[group], &found[..]].concat()) == Some(group) {
                found.push(group);
            }
        }
    }
    found
}

fn group_order(
    ask: &mut Ask<'_>,
    name: &NamedServer,
    version: u16,
    suites: &[u16],
    groups: &[u16],
) -> Option<GroupOrder> {
    if groups.len() < 2 {
        return None;
    }
    let what = format!("{} order of groups", version_name(version));
    let suites: Vec<u16> = suites.iter().copied().take(CHUNK).collect();
    let mut choice = |groups: Vec<u16>| {
        let mut offer = Offer { groups: Some(groups), ..offer(name, version, &suites) };
        if version >= 0x0304 {
            offer.key_shares = Some(Vec::new());
        }
        let flight = ask(&what, &offer, Wanted::Flight).ok()?;
        match (hello_of(&flight, version)?.group, flight.key_exchange) {
            (Some(group), _) | (None, Some(ServerShare::Curve(group))) => Some(group),
            (None, Some(ServerShare::Field(_)) | None) => None,
        }
    };
    let forwards = choice(groups.to_vec())?;
    let backwards = choice(groups.iter().rev().copied().collect())?;
    Some(if forwards == backwards { GroupOrder::Server } else { GroupOrder::Client })
}

fn clear_facts(ask: &mut Ask<'_>, name: &NamedServer, found: &VersionSurvey) -> ClearFacts {
    let what = format!("{} extensions", version_name(found.version));
    let plain = offer(name, found.version, &found.suites[..found.suites.len().min(CHUNK)]);
    let mut facts = ClearFacts::default();
    if let Ok(flight) = ask(&what, &plain, Wanted::Flight)
        && let Some(hello) = hello_of(&flight, found.version)
    {
        let has = |kind: u16| hello.extensions.contains(&kind);
        facts.secure_renegotiation = has(0xff01);
        facts.extended_master_secret = has(0x0017);
        facts.tickets = has(0x0023);
        facts.is_stapled = flight.is_stapled;
        facts.asks_for_certificate = flight.asks_for_certificate;
    }
    let compressing = Offer { compressions: vec![1, 0], ..plain.clone() };
    let hello = ask(&what, &compressing, Wanted::Hello).ok().and_then(|flight| flight.hello);
    facts.compression = hello.is_some_and(|hello| hello.compression == 1);
    if found.version > 0x0300 {
        facts.alpn = alpn(&mut |offered| {
            let alpn = offered.iter().map(|id| id.as_bytes().into()).collect();
            let hello = ask(&what, &Offer { alpn: Some(alpn), ..plain.clone() }, Wanted::Hello).ok()?.hello?;
            String::from_utf8(hello.alpn?.into()).ok()
        });
    }
    facts
}

/// The application protocols of the web that a server chooses, preferred one first.
pub fn alpn(choice: &mut dyn FnMut(&[&str]) -> Option<String>) -> Vec<String> {
    let mut left = vec!["http/1.1", "h2"];
    let mut found = Vec::new();
    while let Some(at) = choice(&left).and_then(|chosen| left.iter().position(|id| *id == chosen)) {
        found.push(left.remove(at).to_owned());
        if left.is_empty() {
            break;
        }
    }
    found
}

fn prime_bits(ask: &mut Ask<'_>, name: &NamedServer, survey: &Survey) -> Option<usize> {
    let is_dhe = |code: &u16| SuiteFacts::of(*code).is_some_and(|suite| suite.key_exchange == KeyExchange::Dhe);
    let with_dhe = survey.versions.iter().find(|found| found.version <= 0x0303 && found.suites.iter().any(is_dhe))?;
    let suites: Vec<u16> = with_dhe.suites.iter().copied().filter(is_dhe).take(CHUNK).collect();
    let what = format!("{} prime", version_name(with_dhe.version));
    let flight = ask(&what, &offer(name, with_dhe.version, &suites), Wanted::Flight).ok()?;
    match flight.key_exchange? {
        ServerShare::Field(bits) => Some(bits),
        ServerShare::Curve(_) => None,
    }
}

/// The name of a version, by its code.
pub use crate::tls::clients::version_words as version_name;
