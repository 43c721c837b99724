//! Which well-known clients connect to a server that was asked with their own hellos.
//!
//! `Client × the server's answer × the chain it got ──judge──▶ ClientReport`
//!
//! Pure. The handshake is not the model's to judge here: the server has answered. What the model adds is whether the
//! client finds its way up the chain, and what the same client would come to with Handfast.

use super::findings::some_of;
use super::survey::{Refusal, Survey, version_name};
use crate::check::clients::{ClientReport, ObstacleReport};
use crate::tls::Severity;
use crate::tls::about::About;
use crate::tls::answer::{Flight, ServerShare};
use crate::tls::chain::Outline;
use crate::tls::clients::{Client, Obstacle, trusts};
use crate::tls::codes::{GroupFacts, SuiteFacts, alert_name};
use crate::tls::negotiate::{CredentialKind, negotiate};
use crate::tls::policy::{Policy, Suite};
use crate::tls::reason::Reason;

/// What is to be said of a client that a server refuses, when its lists do not say why.
pub(crate) static REFUSED: About = About {
    code: "refused-by-server",
    severity: Severity::Warning,
    meaning: "The server refuses the client's ClientHello, although both sides share versions, suites and groups. Usual causes are a certificate type that the client cannot verify, and a device in front of the server.",
    fault: "the operator of the server",
    remedy: "look at the server's log for the time of the probe; for clients that cannot verify ECDSA, add a certificate with an RSA key",
};

/// What came of a client's hello: the flight, and the outline of the chain that this client gets.
pub type Answer<'a> = Result<(Flight, Option<&'a Outline>), Refusal>;

/// Judges one client. `kinds` are those of the server's keys.
pub fn judge(client: &Client, survey: &Survey, kinds: &[CredentialKind], answer: &Answer<'_>) -> ClientReport {
    let (flight, outline) = match answer {
        Ok((flight, outline)) => (flight, outline),
        Err(refusal) => return fails(client, refused(client, survey, kinds, refusal)),
    };
    let Some(hello) = &flight.hello else { return fails(client, refused(client, survey, kinds, &Refusal::Closed)) };
    if let Some(Err(obstacle)) = outline.map(|outline| trusts(client, outline)) {
        let remedy = match &obstacle {
            Obstacle::LacksRoot { .. } => {
                "send a cross-sign of the root by an older one, if the CA has a valid one, or use a certificate of another CA"
            }
            Obstacle::MissingIntermediate { .. } => "send the missing intermediate with the certificate",
            Obstacle::UntrustedChain { .. } => {
                "if the clients have the private root, name it with --trust-anchors; otherwise use a certificate of a public CA"
            }
            Obstacle::Handshake(_) | Obstacle::NoServerName => REFUSED.remedy,
        };
        let (code, message) = (obstacle.code(), obstacle.message(client));
        return fails(client, ObstacleReport { code, message, remedy: remedy.to_owned() });
    }
    let group = match (hello.group, flight.key_exchange) {
        (Some(group), _) | (None, Some(ServerShare::Curve(group))) => GroupFacts::of(group).map(|group| group.name),
        (None, Some(ServerShare::Field(_))) => Some("DHE"),
        (None, None) => None,
    };
    ClientReport {
        client: client.id,
        name: client.name,
        connects: true,
        version: Some(version_label(hello.version)),
        suite: SuiteFacts::of(hello.suite).map(|suite| suite.name),
        group,
        certificate: outline.and_then(|outline| outline.path.first()).map(|leaf| leaf.key.to_string()),
        obstacle: None,
    }
}

/// The clients that connect to this server and would not to Handfast with its default policy and keys of these kinds.
pub fn lost(reports: &[ClientReport], kinds: &[CredentialKind], clients: &[Client]) -> Vec<&'static str> {
    let policy = Policy::default();
    let connects = |id: &str| reports.iter().any(|report| report.client == id && report.connects);
    let is_lost = |client: &&Client| connects(client.id) && negotiate(&policy, kinds, &client.offer).is_err();
    clients.iter().filter(is_lost).map(|client| client.name).collect()
}

/// The kind of a key by its words in an outline.
pub fn kind_of_key(key: &str) -> Option<CredentialKind> {
    let starts = |kind: &CredentialKind| key.starts_with(kind.label());
    CredentialKind::ALL.into_iter().find(starts)
}

/// `1.2` as labels write it.
fn version_label(version: u16) -> &'static str {
    version_name(version).trim_start_matches("TLS ")
}

fn fails(client: &Client, obstacle: ObstacleReport) -> ClientReport {
    let (client, name, obstacle) = (client.id, client.name, Some(obstacle));
    ClientReport { client, name, connects: false, version: None, suite: None, group: None, certificate: None, obstacle }
}

/// Why a server refuses a client: what their lists have not in common, or only how it did.
fn refused(client: &Client, survey: &Survey, kinds: &[CredentialKind], refusal: &Refusal) -> ObstacleReport {
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    let offer = &client.offer;
    let speaks = |version: u16| match &offer.versions {
        Some(versions) => versions.contains(&version),
        None => (client.oldest..=offer.legacy_version).contains(&version),
    };
    let shared = survey.versions.iter().find(|found| speaks(found.version));
    let told = |reason: Reason, remedy: String| {
        let obstacle = Obstacle::Handshake(reason);
        ObstacleReport { code: obstacle.code(), message: obstacle.message(client), remedy }
    };
    let Some(shared) = shared.filter(|_| !survey.versions.is_empty()) else {
        return match survey.versions.is_empty() {
            true => only_that(refusal),
            false => {
                let remedy = match client.newest {
                    // RFC 8996: nobody should switch anything older on.
                    ..0x0303 => "update the client".to_owned(),
                    newest => format!("update the client, or enable {} at the server", version_name(newest)),
                };
                told(Reason::NoSharedVersion, remedy)
            }
        };
    };
    let names = |codes: &[u16]| {
        let names: Vec<&str> = codes.iter().filter_map(|code| SuiteFacts::of(*code)).map(|suite| suite.name).collect();
        some_of(&names)
    };
    if !shared.suites.iter().any(|suite| offer.suites.contains(suite)) {
        // Of what the client has, what can be recommended: suites that Handfast would serve with these keys.
        let is_good = |code: &u16| {
            let suite = Suite::of_code(*code);
            let works = |suite: Suite| kinds.is_empty() || kinds.iter().any(|kind| kind.works_with(suite));
            suite.is_some_and(works) && SuiteFacts::of(*code).is_some_and(|suite| suite.works_with(shared.version))
        };
        let known: Vec<u16> = offer.suites.iter().copied().filter(is_good).collect();
        let remedy = match known.as_slice() {
            [] => "update the client".to_owned(),
            known => format!("update the client, or add one of its cipher suites to the server: {}", names(known)),
        };
        return told(Reason::NoSharedSuite, remedy);
    }
    if let Some(groups) = &offer.groups
        && shared.version >= 0x0304
        && !shared.groups.is_empty()
        && !shared.groups.iter().any(|group| groups.contains(group))
    {
        return told(Reason::NoSharedGroup, "add x25519 and secp256r1 to the server's groups".to_owned());
    }
    if *refusal == Refusal::Alert(NO_APPLICATION_PROTOCOL) {
        return told(Reason::NoSharedAlpn, "add http/1.1 to the server's application protocols".to_owned());
    }
    only_that(refusal)
}

fn only_that(refusal: &Refusal) -> ObstacleReport {
    let message = match refusal {
        Refusal::Alert(code) => format!("gets the alert {}", alert_name(*code)),
        Refusal::BadAnswer(_) => "gets an answer that is not TLS".to_owned(),
        Refusal::Closed => "is cut off without an answer".to_owned(),
        Refusal::Library(error) => format!("could not be tried: {error}"),
        Refusal::NotAsked => "was not tried, because the server stopped answering".to_owned(),
        Refusal::Reset => "is cut off with a reset".to_owned(),
        Refusal::Silent => "gets no answer in time".to_owned(),
        Refusal::Unreachable(error) => format!("could not be tried: {error}"),
    };
    ObstacleReport { code: REFUSED.code, message, remedy: REFUSED.remedy.to_owned() }
}
