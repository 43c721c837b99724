//! What `handfast probe` says.
//!
//! `Observation + trust anchors + time ──report──▶ Report ──▶ table, or JSON`
//!
//! Pure. The JSON form is an interface: fields are only ever added.

use std::fmt::Write as _;

use rustls::pki_types::UnixTime;
use serde::Serialize;

use super::clients;
use super::findings::{self, ServerFinding, remarks, some_of};
use super::survey::{Refusal, Survey, VERSIONS, VersionSurvey, version_name};
use crate::check::Verdict;
use crate::check::chain::{self, ChainReport};
use crate::check::clients::{self as client_reports, ClientReport};
use crate::tls::Severity;
use crate::tls::answer::Flight;
use crate::tls::chain::{Chain, Name, Outline, TrustAnchors};
use crate::tls::clients::clients as known_clients;
use crate::tls::codes::{SuiteFacts, group_name, suite_name};
use crate::tls::negotiate::CredentialKind;
use crate::tls::policy::{GroupOrder, Policy, Settings, SuiteOrder};

/// A chain as it was sent, DER.
pub type Sent = Vec<Vec<u8>>;

/// What came of a client's hello: the flight, and the chain that this client gets.
pub type ClientAnswer = Result<(Flight, Option<Sent>), Refusal>;

/// All that was seen of a server.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Host and port, as they were asked for.
    pub target: String,
    /// The address that answered.
    pub address: String,
    /// The server name of the hellos.
    pub name: Option<Name>,
    /// What its certificate has to cover.
    pub covers: Name,
    /// Versions, suites and groups.
    pub survey: Survey,
    /// How it refused the hello of today's clients, if it took only an older one.
    pub intolerance: Option<String>,
    /// Application protocols, preferred one first.
    pub alpn: Vec<String>,
    /// Whether tickets come in TLS 1.3, if it is spoken.
    pub tls13_tickets: Option<bool>,
    /// Whether it asks for certificates of clients.
    pub asks_for_certificate: bool,
    /// Its chains: what a current client gets, and others that it has for clients with fewer kinds of signatures.
    pub chains: Vec<Sent>,
    /// What clients that name no server get.
    pub without_name: Result<Sent, Refusal>,
    /// What clients get that name a server which nobody has.
    pub unknown_name: Result<Sent, Refusal>,
    /// What came of the hellos of the well-known clients, in their order, with the chain that each got.
    pub clients: Option<Vec<ClientAnswer>>,
    /// Connections that were made.
    pub connections: usize,
    /// Why not everything was asked.
    pub incomplete: Option<String>,
}

/// The result. Serialises to the JSON that `--output json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of all findings; an error too if a strict client refuses a chain.
    pub verdict: Verdict,
    /// The time of the probe (RFC 3339, UTC).
    pub at: String,
    /// Host and port.
    pub target: String,
    /// The address that answered.
    pub address: String,
    /// The server name that was sent; null for none.
    pub server_name: Option<String>,
    /// Every version that was asked for, newest first.
    pub versions: Vec<VersionReport>,
    /// Application protocols, preferred one first.
    pub alpn: Vec<String>,
    /// Session tickets.
    pub tickets: Tickets,
    /// Whether certificates of clients are asked for.
    pub asks_for_certificate: bool,
    /// Whether an OCSP response is stapled; null if that was not seen (TLS 1.3 only).
    pub stapled: Option<bool>,
    /// What clients that name no server get.
    pub without_name: Served,
    /// What clients get that name a server which nobody has.
    pub unknown_name: Served,
    /// The chains, that of current clients first. The form of `handfast chain`.
    pub chains: Vec<ChainReport>,
    /// What is wrong with the server as a whole, worst first.
    pub findings: Vec<ServerFinding>,
    /// What would be otherwise with Handfast's default policy.
    pub handfast: Difference,
    /// Which well-known clients connect; only with `--clients`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<ClientReport>>,
    /// Connections that were made.
    pub connections: usize,
    /// Why the lists may lack something; null if they are complete.
    pub incomplete: Option<String>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionReport {
    /// Its name, such as `TLS 1.2`.
    pub version: &'static str,
    /// Whether it is spoken.
    pub spoken: bool,
    /// Suites, in the order in which the server chose them.
    pub suites: Vec<SuiteReport>,
    /// Whose order of suites decides: `server`, `client` or `server-unless-chacha20-first`; null if nothing tells.
    pub suite_order: Option<&'static str>,
    /// Groups, in the order in which the server chose them; of versions up to TLS 1.2 those of the newest.
    pub groups: Vec<String>,
    /// Whose order of groups decides: `server` or `client`; null if nothing tells.
    pub group_order: Option<&'static str>,
}

/// One suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuiteReport {
    /// Its code, in hexadecimal.
    pub code: String,
    /// The name of the IANA registry.
    pub name: String,
    /// Whether its key exchange is ephemeral.
    pub forward_secrecy: bool,
    /// Whether encryption and integrity are one.
    pub aead: bool,
    /// `anonymous`, `null`, `rc4`, `short-key` or `small-block`; null if it is sound.
    pub weakness: Option<&'static str>,
}

/// Session tickets by version; null for a version that is not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tickets {
    /// Up to TLS 1.2.
    pub tls12: Option<bool>,
    /// In TLS 1.3.
    pub tls13: Option<bool>,
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    /// `same-certificate`, `other-certificate`, `refused` or `not-asked`.
    pub outcome: &'static str,
    /// The certificate's subject, or how it is refused.
    pub detail: String,
}

/// What is spoken here and not with Handfast's default policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Versions.
    pub versions_lost: Vec<&'static str>,
    /// Suites of the versions that stay.
    pub suites_lost: Vec<String>,
    /// Groups of the versions that stay.
    pub groups_lost: Vec<String>,
    /// Well-known clients that connect here and would not there; null without `--clients`.
    pub clients_lost: Option<Vec<&'static str>>,
}

/// Judges what was seen.
pub fn report(seen: &Observation, anchors: &TrustAnchors, at: UnixTime) -> Report {
    let loaded: Vec<(Option<Chain>, ChainReport)> = seen
        .chains
        .iter()
        .map(|sent| {
            let (chain, findings) = Chain::served(sent, anchors);
            let report = chain::judge(chain.as_ref(), findings, Some(&seen.covers), at).of_server();
            (chain, report)
        })
        .collect();
    let findings = findings::judge(&seen.survey, seen.intolerance.as_deref());
    let kinds: Vec<CredentialKind> = loaded
        .iter()
        .filter_map(|(chain, _)| clients::kind_of_key(&chain.as_ref()?.outline().path.first()?.key))
        .collect();
    let clients = seen.clients.as_ref().map(|answers| client_table(seen, answers, &kinds, anchors));
    let lost = clients.as_ref().map(|reports| clients::lost(reports, &kinds, known_clients()));
    let chains: Vec<ChainReport> = loaded.into_iter().map(|(_, report)| report).collect();
    let worst = Verdict::of(findings.iter().map(|finding| finding.level).max());
    let of_chain = |chain: &ChainReport| if chain.accepted { chain.verdict } else { Verdict::Error };
    // What was not asked may be wrong.
    let incomplete =
        seen.incomplete.as_ref().map(|_| if chains.is_empty() { Verdict::Error } else { Verdict::Warning });
    let served = |result: &Result<Sent, Refusal>| served(result, seen, anchors);
    Report {
        verdict: chains.iter().map(of_chain).chain(incomplete).fold(worst, Verdict::max),
        at: crate::tls::rfc3339(at),
        target: seen.target.clone(),
        address: seen.address.clone(),
        server_name: seen.name.as_ref().map(Name::to_string),
        versions: VERSIONS.into_iter().map(|version| version_report(version, seen.survey.version(version))).collect(),
        alpn: seen.alpn.clone(),
        tickets: Tickets { tls12: seen.survey.clear.as_ref().map(|clear| clear.tickets), tls13: seen.tls13_tickets },
        asks_for_certificate: seen.asks_for_certificate,
        stapled: seen.survey.clear.as_ref().map(|clear| clear.is_stapled),
        without_name: served(&seen.without_name),
        unknown_name: served(&seen.unknown_name),
        chains,
        findings,
        handfast: difference(&seen.survey, lost),
        clients,
        connections: seen.connections,
        incomplete: seen.incomplete.clone(),
    }
}

fn client_table(
    seen: &Observation,
    answers: &[ClientAnswer],
    kinds: &[CredentialKind],
    anchors: &TrustAnchors,
) -> Vec<ClientReport> {
    // A few chains, and many clients that get them.
    let mut outlines: Vec<(&Sent, Option<std::sync::Arc<Outline>>)> = Vec::new();
    for (_, sent) in answers.iter().flatten() {
        if let Some(sent) = sent
            && !outlines.iter().any(|(known, _)| *known == sent)
        {
            outlines.push((sent, Chain::served(sent, anchors).0.map(|chain| chain.outline().clone())));
        }
    }
    let outline = |sent: &Sent| {
        let known = outlines.iter().find(|(known, _)| *known == sent);
        known.and_then(|(_, outline)| outline.as_deref())
    };
    let judged = |(client, answer): (_, &ClientAnswer)| {
        let answer = match answer {
            Ok((flight, sent)) => Ok((flight.clone(), sent.as_ref().and_then(outline))),
            Err(refusal) => Err(refusal.clone()),
        };
        clients::judge(client, &seen.survey, kinds, &answer)
    };
    known_clients().iter().zip(answers).map(judged).collect()
}

fn served(result: &Result<Sent, Refusal>, seen: &Observation, anchors: &TrustAnchors) -> Served {
    let subject = |sent: &Sent| {
        let chain = Chain::served(sent, anchors).0;
        chain.and_then(|chain| chain.outline().path.first().map(|leaf| leaf.subject.to_string())).unwrap_or_default()
    };
    match result {
        Ok(sent) => {
            let is_same = seen.chains.iter().any(|chain| chain.first() == sent.first());
            let outcome = if is_same { "same-certificate" } else { "other-certificate" };
            Served { outcome, detail: subject(sent) }
        }
        Err(Refusal::NotAsked) => Served { outcome: "not-asked", detail: Refusal::NotAsked.to_string() },
        Err(refusal) => Served { outcome: "refused", detail: refusal.to_string() },
    }
}

fn version_report(version: u16, found: Option<&VersionSurvey>) -> VersionReport {
    let suite = |code: &u16| {
        let facts = SuiteFacts::of(*code);
        SuiteReport {
            code: format!("{code:04x}"),
            name: suite_name(*code),
            forward_secrecy: facts.is_some_and(SuiteFacts::has_forward_secrecy),
            aead: facts.is_some_and(|facts| facts.aead),
            weakness: facts.and_then(|facts| facts.weakness).map(|weakness| weakness.code()),
        }
    };
    let codes = |list: fn(&VersionSurvey) -> &Vec<u16>| found.map(list).into_iter().flatten();
    VersionReport {
        version: version_name(version),
        spoken: found.is_some(),
        suites: codes(|found| &found.suites).map(suite).collect(),
        suite_order: found.and_then(|found| found.suite_order).map(|order| match order {
            SuiteOrder::Client => "client",
            SuiteOrder::Server => "server",
            SuiteOrder::ServerUnlessChaCha20First => "server-unless-chacha20-first",
        }),
        groups: codes(|found| &found.groups).map(|code| group_name(*code)).collect(),
        group_order: found.and_then(|found| found.group_order).map(|order| match order {
            GroupOrder::Client => "client",
            GroupOrder::Server => "server",
        }),
    }
}

fn difference(survey: &Survey, clients_lost: Option<Vec<&'static str>>) -> Difference {
    let policy = Policy::default();
    let Settings { suites, groups, .. } = policy.settings();
    let mut difference = Difference { clients_lost, ..Difference::default() };
    for found in &survey.versions {
        if found.version < 0x0303 {
            difference.versions_lost.push(version_name(found.version));
            continue;
        }
        let is_lost = |code: &&u16| !suites.iter().any(|suite| suite.code() == **code);
        difference.suites_lost.extend(found.suites.iter().filter(is_lost).map(|code| suite_name(*code)));
        let is_lost = |code: &&u16| !groups.iter().any(|group| group.code() == **code);
        for group in found.groups.iter().filter(is_lost).map(|code| group_name(*code)) {
            if !difference.groups_lost.contains(&group) {
                difference.groups_lost.push(group);
            }
        }
    }
    difference
}

impl Difference {
    /// One line.
    fn words(&self) -> String {
        let list = |names: &[String], one: &str, many: &str| match names {
            [] => None,
            [name] => Some(format!("the {one} {name}")),
            names => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Some(format!("{} {many} ({})", names.len(), some_of(&names)))
            }
        };
        let versions = (!self.versions_lost.is_empty()).then(|| self.versions_lost.join(", "));
        let suites = list(&self.suites_lost, "suite", "suites");
        let groups = list(&self.groups_lost, "group", "groups");
        let lost: Vec<String> = [versions, suites, groups].into_iter().flatten().collect();
        let what = match lost.as_slice() {
            [] => "the default policy supports everything that this server does".to_owned(),
            lost => format!("the default policy does not support {}", lost.join("; ")),
        };
        match self.clients_lost.as_deref() {
            None => what,
            Some([]) => format!("{what}; all known clients could still connect"),
            Some(clients) => format!("{what}; {} could not connect any more", clients.join(", ")),
        }
    }
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_table(&mut out);
        out
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let name =
            self.server_name.as_ref().map_or_else(|| "no server name".to_owned(), |name| format!("server name {name}"));
        writeln!(out, "{} ({}), {name}\n", self.target, self.address)?;
        let (spoken, others): (Vec<&VersionReport>, Vec<_>) = self.versions.iter().partition(|found| found.spoken);
        for (index, found) in spoken.iter().enumerate() {
            let newer = index.checked_sub(1).map(|newer| spoken[newer]);
            write_version(out, found, newer)?;
        }
        let others: Vec<&str> = others.iter().map(|found| found.version).collect();
        if !others.is_empty() {
            writeln!(out, "not supported: {}", others.join(", "))?;
        }
        let alpn = if self.alpn.is_empty() { "neither h2 nor http/1.1".to_owned() } else { self.alpn.join(", ") };
        writeln!(out, "application protocols: {alpn}")?;
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let tickets = [("TLS 1.3", self.tickets.tls13), ("TLS 1.2 and older", self.tickets.tls12)];
        let tickets: Vec<String> =
            tickets.into_iter().filter_map(|(version, given)| Some(format!("{version} {}", yes(given?)))).collect();
        if !tickets.is_empty() {
            writeln!(out, "session tickets: {}", tickets.join(", "))?;
        }
        writeln!(out, "asks for a client certificate: {}", yes(self.asks_for_certificate))?;
        writeln!(out, "without a server name: {}", self.without_name.words())?;
        writeln!(out, "with an unknown server name: {}", self.unknown_name.words())?;
        for chain in &self.chains {
            writeln!(out, "\n{}{}", chain.tree(), chain.verdict_words())?;
        }
        if self.chains.is_empty() {
            writeln!(out, "\nno certificate was received")?;
        }
        if !self.findings.is_empty() {
            out.push('\n');
        }
        for ServerFinding { code, severity, message, remedy, .. } in &self.findings {
            writeln!(out, "{severity} {code}: {message}\n  remedy: {remedy}")?;
        }
        if let Some(clients) = &self.clients {
            write!(out, "\n{}", client_reports::text(clients, ""))?;
        }
        writeln!(out, "\nwith Handfast: {}", self.handfast.words())?;
        if let Some(incomplete) = &self.incomplete {
            writeln!(out, "incomplete: {incomplete}, so later results may be missing above")?;
        }
        let count = |severity: Severity| {
            let code = severity.code();
            let of_chains = self.chains.iter().flat_map(|chain| &chain.findings).filter(|one| one.severity == code);
            self.findings.iter().filter(|one| one.severity == code).count() + of_chains.count()
        };
        let counted = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        let verdict = self.verdict.code();
        let (errors, warnings) =
            (counted(count(Severity::Error), "error"), counted(count(Severity::Warning), "warning"));
        let connections = counted(self.connections, "connection");
        writeln!(out, "\n{verdict}: {errors}, {warnings} after {connections} at {}", self.at)
    }
}

/// A version with the suites of the one before it, which is newer, is told in one line.
fn write_version(out: &mut String, found: &VersionReport, newer: Option<&VersionReport>) -> std::fmt::Result {
    let order = |order: Option<&str>| match order {
        Some("client") => ", in the client's order".to_owned(),
        Some("server") => ", in the server's order".to_owned(),
        Some(_) => ", in the server's order unless the client puts ChaCha20 first".to_owned(),
        None => String::new(),
    };
    if let Some(newer) = newer.filter(|newer| newer.suites == found.suites) {
        writeln!(out, "{}{}, with the suites of {}", found.version, order(found.suite_order), newer.version)?;
        return Ok(());
    }
    writeln!(out, "{}{}", found.version, order(found.suite_order))?;
    for suite in &found.suites {
        let code = u16::from_str_radix(&suite.code, 16).unwrap_or_default();
        let remarks = SuiteFacts::of(code).map(|facts| remarks(&facts)).unwrap_or_default();
        let remarks = if remarks.is_empty() { String::new() } else { format!("  ({})", remarks.join(", ")) };
        writeln!(out, "  {}{remarks}", suite.name)?;
    }
    if !found.groups.is_empty() {
        writeln!(out, "  groups: {}{}", found.groups.join(", "), order(found.group_order))?;
    }
    Ok(())
}

impl Served {
    fn words(&self) -> String {
        match self.outcome {
            "same-certificate" => "the same certificate".to_owned(),
            "other-certificate" => format!("another certificate, {}", self.detail),
            _ => self.detail.clone(),
        }
    }
}
