//! Looks at any TLS server as a client sees it: `handfast probe`.
//!
//! ```text
//! Target ──wire──▶ hellos of our own ──survey──▶ versions, suites, groups ─┐
//!            └──session──▶ certificates, tickets ──────────────────────────┼──report──▶ table, JSON
//!            └──hellos of the well-known clients ──clients─────────────────┘
//! ```
//!
//! No TLS library speaks what old servers speak, and none would say a hello that offers one suite only. So the hellos are
//! written here and the answers are read in clear; a library comes in only where TLS 1.3 encrypts. `wire` and `session` do
//! I/O, the rest is pure. Connections are made one after the other, so that nobody's server is burdened.

pub mod clients;
pub mod findings;
pub mod report;
mod session;
pub mod survey;
pub mod target;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use self::report::{ClientAnswer, Observation, Sent};
use self::session::{Ability, session};
use self::survey::{Refusal, SCHEMES, Survey, VersionSurvey, greet, offer, survey};
use self::target::Target;
use self::wire::Wire;
use crate::tls::answer::{BadAnswer, Stranger, Wanted};
use crate::tls::chain::Name;
use crate::tls::clients::{Client, clients as known_clients};
use crate::tls::codes::alert_name;
use crate::tls::offer::{NamedServer, Offer};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server name of the hellos, if it is another than the host.
    pub name: Option<Name>,
    /// Whether the hellos of well-known clients are tried.
    pub clients: bool,
    /// The time of one connection.
    pub timeout: Duration,
}

/// Why nothing can be said of a server. Each says what to do about it.
#[derive(thiserror::Error, Debug)]
pub enum ProbeError {
    /// The resolver does not know the name.
    #[error("{host} cannot be looked up: check the spelling, or name an address and the host with --sni")]
    LookUp {
        /// The host.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The resolver does not answer.
    #[error("{host} cannot be looked up: the resolver gave no answer within {timeout:?}")]
    LookUpTimeout {
        /// The host.
        host: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The name stands for no address.
    #[error("no address for {target}")]
    NoAddress {
        /// Host and port.
        target: String,
    },
    /// Nothing listens.
    #[error("{target}: nothing listens at {address}. Is the port right, and does the server run?")]
    ConnectionRefused {
        /// Host and port.
        target: String,
        /// The last address that was tried.
        address: SocketAddr,
    },
    /// Packets are lost or dropped.
    #[error(
        "{target}: no connection to {address} within {timeout:?}. A firewall drops it, or the host is down (see --timeout)"
    )]
    ConnectTimeout {
        /// Host and port.
        target: String,
        /// The last address that was tried.
        address: SocketAddr,
        /// How long was waited.
        timeout: Duration,
    },
    /// No connection for another cause.
    #[error("{target}: no connection to {address}")]
    Connect {
        /// Host and port.
        target: String,
        /// The last address that was tried.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is no TLS that answers.
    #[error("{target}: {stranger}: {}", remedy_for(stranger))]
    NotTls {
        /// Host and port.
        target: String,
        /// What it is.
        stranger: Stranger,
    },
    /// It has answered once and never again.
    #[error(
        "{target}: the server answered one ClientHello, then {stopped}. It may limit connections: try again, or use a longer --timeout"
    )]
    Fickle {
        /// Host and port.
        target: String,
        /// What happened then.
        stopped: String,
    },
    /// It answers no hello with a ServerHello.
    #[error("{target}: {refusal}: {remedy}")]
    Refused {
        /// Host and port.
        target: String,
        /// What it does instead.
        refusal: Refusal,
        /// What to do about it.
        remedy: String,
    },
}

/// A server name that nobody has (RFC 6761 section 6.4).
const NOBODY: &str = "handfast-probe.invalid";

/// Looks at a server. `progress` is told what is being asked, and how many connections there were.
pub fn probe(target: &Target, options: &Options, progress: &dyn Fn(&str, usize)) -> Result<Observation, ProbeError> {
    let mut wire = Wire::new(target, options.timeout, progress)?;
    let address = wire.reach()?;
    let name = options.name.clone().or_else(|| match &target.host {
        Name::Host(_) => Some(target.host.clone()),
        // An address is no server name (RFC 6066 section 3).
        Name::Address(_) => None,
    });
    let named = named(name.as_ref());
    let (_, intolerance) = greet(&mut |what, offer, wanted| wire.ask(what, offer, wanted), &named)
        .map_err(|refusal| refused(target, name.as_ref(), refusal, options.timeout))?;
    let survey = survey(&mut |what, offer, wanted| wire.ask(what, offer, wanted), &named);
    if survey.versions.is_empty() {
        let stopped = wire.stopped().unwrap_or("it answered no further ClientHello").to_owned();
        return Err(ProbeError::Fickle { target: target.to_string(), stopped });
    }
    let clear = survey.clear.clone().unwrap_or_default();
    let mut seen = Observation {
        target: target.to_string(),
        address: address.to_string(),
        covers: name.clone().unwrap_or_else(|| target.host.clone()),
        intolerance: intolerance.map(|refusal| refusal.to_string()),
        alpn: clear.alpn,
        tls13_tickets: None,
        asks_for_certificate: clear.asks_for_certificate,
        chains: Vec::new(),
        without_name: Err(Refusal::NotAsked),
        unknown_name: Err(Refusal::NotAsked),
        clients: None,
        connections: 0,
        incomplete: None,
        name,
        survey,
    };
    chains(&mut wire, &mut seen);
    let nobody = NOBODY.parse().ok();
    seen.unknown_name = chain(&mut wire, "unknown server name", &seen.survey, nobody.as_ref(), &SCHEMES).0;
    seen.without_name = match (&seen.name, seen.chains.first()) {
        (None, Some(sent)) => Ok(sent.clone()),
        _ => chain(&mut wire, "no server name", &seen.survey, None, &SCHEMES).0,
    };
    if options.clients {
        seen.clients = Some(try_clients(&mut wire, &seen));
    }
    seen.connections = wire.connections();
    seen.incomplete = wire.stopped().map(str::to_owned);
    Ok(seen)
}

fn named(name: Option<&Name>) -> NamedServer {
    match name {
        Some(Name::Host(host)) => NamedServer::Name(host.as_str().into()),
        Some(Name::Address(_)) | None => NamedServer::Absent,
    }
}

/// Fills in the chains, and what else a whole handshake shows.
fn chains(wire: &mut Wire<'_>, seen: &mut Observation) {
    let name = seen.name.clone();
    let is_rsa = |scheme: &u16| matches!(scheme, 0x0804..=0x0806 | 0x0809..=0x080b) || scheme & 0xff == 1;
    let (rsa, others): (Vec<u16>, Vec<u16>) = SCHEMES.into_iter().partition(is_rsa);
    for schemes in [&SCHEMES[..], &others, &rsa] {
        let (sent, met) = chain(wire, "certificates", &seen.survey, name.as_ref(), schemes);
        if let Some(met) = met {
            seen.tls13_tickets = seen.tls13_tickets.max(met.tickets);
            seen.asks_for_certificate |= met.asks_for_certificate;
        }
        if let Ok(sent) = sent
            && !seen.chains.contains(&sent)
        {
            seen.chains.push(sent);
        }
    }
    // A server without a certificate has a chain too, which is refused.
    if seen.chains.is_empty() && wire.stopped().is_none() {
        seen.chains.push(Sent::new());
    }
    // Where nothing tells it in clear.
    if seen.survey.version(0x0304).is_some() && seen.survey.clear.is_none() {
        seen.alpn = survey::alpn(&mut |offered| {
            let ability = Ability { name: name.as_ref(), schemes: &SCHEMES, alpn: offered };
            session(wire, "application protocols", &ability).ok()?.alpn
        });
    }
}

/// The chain for a server name and a choice of signatures; and what a whole handshake showed, if there was one.
fn chain(
    wire: &mut Wire<'_>,
    what: &str,
    survey: &Survey,
    name: Option<&Name>,
    schemes: &[u16],
) -> (Result<Sent, Refusal>, Option<session::Session>) {
    let clear = survey.newest_clear();
    // Up to TLS 1.2 the certificate comes in clear, from whatever server; TLS 1.3 needs a library.
    let by_library = survey.version(0x0304).map(|_| session(wire, what, &Ability { name, schemes, alpn: &[] }));
    match (by_library, clear) {
        (Some(Ok(met)), _) => (Ok(met.chain.clone()), Some(met)),
        (Some(Err(refusal)), None) => (Err(refusal), None),
        (Some(Err(_)) | None, Some(found)) => (chain_in_clear(wire, what, found, name, schemes), None),
        (None, None) => (Err(Refusal::NotAsked), None),
    }
}

fn chain_in_clear(
    wire: &mut Wire<'_>,
    what: &str,
    found: &VersionSurvey,
    name: Option<&Name>,
    schemes: &[u16],
) -> Result<Sent, Refusal> {
    let offer = Offer {
        schemes: (found.version > 0x0300).then(|| schemes.to_vec()),
        ..offer(&named(name), found.version, &found.suites)
    };
    let flight = wire.ask(what, &offer, Wanted::Flight)?;
    flight.certificates.filter(|sent| !sent.is_empty()).ok_or(Refusal::BadAnswer(BadAnswer::Malformed("Certificate")))
}

/// Says the hello of each well-known client, with the name of this server.
fn try_clients(wire: &mut Wire<'_>, seen: &Observation) -> Vec<ClientAnswer> {
    // With several chains, which one a client of TLS 1.3 gets depends on the signatures that it verifies.
    let mut by_schemes: Vec<(&[u16], Option<Sent>)> = Vec::new();
    let mut answers = Vec::new();
    for client in known_clients() {
        let Client { id, offer, .. } = client;
        let what = format!("hello of {id}");
        let offer = Offer { server_name: named(seen.name.as_ref()), ..offer.clone() };
        let answer = wire.ask(&what, &offer, Wanted::Flight).map(|flight| {
            let schemes = client.offer.schemes.as_deref().unwrap_or_default();
            let sent = match (&flight.certificates, seen.chains.as_slice()) {
                (Some(sent), _) => Some(sent.clone()),
                (None, []) => None,
                (None, [only]) => Some(only.clone()),
                (None, _) => match by_schemes.iter().find(|(known, _)| *known == schemes) {
                    Some((_, sent)) => sent.clone(),
                    None => {
                        let ability = Ability { name: seen.name.as_ref(), schemes, alpn: &[] };
                        let sent = session(wire, "certificates", &ability).ok().map(|met| met.chain);
                        by_schemes.push((schemes, sent.clone()));
                        sent
                    }
                },
            };
            (flight, sent)
        });
        answers.push(answer);
    }
    answers
}

/// What to do about a server that answers no hello.
fn refused(target: &Target, name: Option<&Name>, refusal: Refusal, timeout: Duration) -> ProbeError {
    const UNRECOGNIZED_NAME: u8 = 112;
    let target = target.to_string();
    let other_name = match name {
        Some(name) => format!("if it does not serve {name}, name a host that it serves with --sni"),
        None => "name the host with --sni, because no server name was sent".to_owned(),
    };
    let remedy = match &refusal {
        Refusal::BadAnswer(BadAnswer::NotTls(stranger)) => {
            return ProbeError::NotTls { target, stranger: stranger.clone() };
        }
        Refusal::Alert(UNRECOGNIZED_NAME) => other_name,
        Refusal::Alert(code) => {
            format!("the server's log may say why it sends {}; or {other_name}", alert_name(*code))
        }
        Refusal::BadAnswer(_) => "the answer is not from a TLS server".to_owned(),
        Refusal::Closed | Refusal::Reset => {
            format!(
                "the port may not speak TLS, may expect a PROXY protocol header, or limit connections; or {other_name}"
            )
        }
        Refusal::Silent => {
            format!(
                "the server accepted the connection and sent nothing within {timeout:?}; the port may not speak TLS (see --timeout)"
            )
        }
        Refusal::Library(_) | Refusal::NotAsked | Refusal::Unreachable(_) => "try again".to_owned(),
    };
    ProbeError::Refused { target, refusal, remedy }
}

fn remedy_for(stranger: &Stranger) -> &'static str {
    match stranger {
        Stranger::Http => "probe the port for HTTPS",
        Stranger::Greeting(_) => {
            "STARTTLS is not supported; probe the port that speaks TLS from the first byte on (465, 993, 995, 990)"
        }
        Stranger::Ssh => "probe another port",
        Stranger::Other(_) => "probe the port that speaks TLS from the first byte on",
    }
}
