//! Everything that can be wrong with a server as a whole, beside its chains.
//!
//! `Survey, and what else was seen ──judge──▶ ServerFinding ──▶ code, severity, message, remedy`
//!
//! Pure. An error means that some client fails now, or that the protection is not what it seems.

use serde::Serialize;

use super::survey::{Survey, VersionSurvey, version_name};
use crate::tls::Severity;
use crate::tls::about::{About, sentence};
use crate::tls::codes::{GroupFacts, GroupKind, KeyExchange, SuiteFacts, Weakness, group_name};

const OPERATOR: &str = "the operator of the server";

macro_rules! abouts {
    ($($name:ident = $code:literal, $severity:ident, $meaning:literal, $remedy:literal;)*) => {
        $(static $name: About = About {
            code: $code,
            severity: Severity::$severity,
            meaning: $meaning,
            fault: OPERATOR,
            remedy: $remedy,
        };)*
        /// The text about each code, sorted by code.
        pub(crate) static ABOUT: &[&About] = &[$(&$name),*];
    };
}

abouts! {
    BROKEN_SUITE = "broken-suite", Error,
        "The server supports cipher suites that do not protect: without encryption, without a certificate, with short keys, or with RC4 (RFC 7465). An attacker on the network can make a client use them.",
        "remove them from the server's cipher suites";
    COMPRESSION = "compression", Error,
        "The server compresses what it encrypts. The length then reveals secrets such as cookies (CRIME, RFC 7457 section 2.6).",
        "disable TLS compression";
    LEGACY_VERSION = "legacy-version", Warning,
        "The server supports TLS 1.0 or TLS 1.1, which are deprecated (RFC 8996). Audits fail because of it, and only clients older than 2014 need it.",
        "disable TLS 1.0 and TLS 1.1 when the server's counters show that no client uses them";
    NO_AEAD = "no-aead", Error,
        "The server does not support TLS 1.3, and its newest version has no authenticated cipher suite (AES-GCM, ChaCha20-Poly1305). Strict clients such as rustls fail.",
        "add ECDHE suites with AES-GCM";
    NO_CURRENT_VERSION = "no-current-version", Error,
        "The server supports neither TLS 1.2 nor TLS 1.3. Browsers since 2020 and most libraries refuse it.",
        "enable TLS 1.2 and TLS 1.3; if the software supports neither, update it or put a proxy in front";
    NO_FORWARD_SECRECY = "no-forward-secrecy", Error,
        "No cipher suite of the server has an ephemeral key exchange. If the server's key leaks, all recorded traffic can be decrypted. Go, rustls and strict browsers fail.",
        "add ECDHE suites";
    NO_POST_QUANTUM_GROUP = "no-post-quantum-group", Info,
        "The server has no post-quantum key exchange, so quantum computers may one day decrypt traffic that is recorded today. Every current browser offers X25519MLKEM768.",
        "put X25519MLKEM768 first in the list of groups (OpenSSL 3.5, Go 1.24 and rustls have it)";
    NO_SECURE_RENEGOTIATION = "no-secure-renegotiation", Error,
        "The server does not support secure renegotiation (RFC 5746) in TLS 1.2 and older. Clients with OpenSSL 3 refuse it.",
        "update the server's TLS library";
    NO_TLS12 = "no-tls12", Info,
        "The server supports only TLS 1.3. Clients older than about 2018 fail.",
        "nothing, if there are no such clients; otherwise enable TLS 1.2";
    NO_TLS13 = "no-tls13", Warning,
        "The server does not support TLS 1.3. Handshakes take one more round trip, certificates are sent unencrypted, and there is no post-quantum key exchange.",
        "enable TLS 1.3";
    SSL3 = "ssl3", Error,
        "The server supports SSL 3.0, whose encryption is broken (POODLE, RFC 7568).",
        "disable SSL 3.0";
    STATIC_KEY_EXCHANGE = "static-key-exchange", Warning,
        "The server also has cipher suites without forward secrecy. Traffic of clients that use them can be decrypted later with the server's key.",
        "remove the cipher suites without ECDHE when the server's counters show that no client uses them";
    VERSION_INTOLERANT = "version-intolerant", Error,
        "The server closes the connection when a client offers a newer version than its own, instead of choosing an older one (RFC 8446 section 4.2.1). Current clients fail.",
        "update the server, or the device in front of it";
    WEAK_GROUP = "weak-group", Warning,
        "The server accepts a key exchange below 112 bits of strength: a prime shorter than 2048 bits, or an old curve. Browsers refuse primes below 1024 bits, and OpenSSL refuses those below 2048 bits by default.",
        "use a prime of 2048 bits or more, or disable DHE suites; disable old curves";
    WEAK_SUITE = "weak-suite", Warning,
        "The server has cipher suites with 64-bit blocks, such as 3DES. They leak data in long connections (Sweet32).",
        "remove them from the server's cipher suites";
}

/// One thing that is wrong with a server as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerFinding {
    /// A code that `handfast explain` knows.
    pub code: &'static str,
    /// `info`, `warning` or `error`.
    pub severity: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
    #[serde(skip)]
    pub(super) level: Severity,
}

fn finding(about: &'static About, message: String) -> ServerFinding {
    let About { code, severity, remedy, .. } = *about;
    ServerFinding { code, severity: severity.code(), message: sentence(message), remedy, level: severity }
}

/// Judges what was found, worst first. `intolerance` is how the server refused the hello of today's clients, if it did
/// and took an older one.
pub fn judge(survey: &Survey, intolerance: Option<&str>) -> Vec<ServerFinding> {
    let mut findings = Vec::new();
    let mut add = |about: &'static About, message: String| findings.push(finding(about, message));
    let speaks = |version: u16| survey.version(version).is_some();
    if let Some(refusal) = intolerance {
        add(
            &VERSION_INTOLERANT,
            format!("It accepts an older ClientHello, but to one that offers TLS 1.3 to TLS 1.0 {refusal}"),
        );
    }
    judge_versions(survey, &mut add);
    let of = |found: &VersionSurvey| found.suites.iter().filter_map(|code| SuiteFacts::of(*code)).collect::<Vec<_>>();
    let mut all: Vec<SuiteFacts> = survey.versions.iter().flat_map(of).collect();
    let mut seen = std::collections::HashSet::new();
    all.retain(|suite| seen.insert(suite.code));
    let names = |is_meant: &dyn Fn(&SuiteFacts) -> bool| {
        let names: Vec<&str> = all.iter().filter(|suite| is_meant(suite)).map(|suite| suite.name).collect();
        (!names.is_empty()).then(|| some_of(&names))
    };
    let weakness = |is_broken: bool| {
        move |suite: &SuiteFacts| suite.weakness.is_some_and(|weakness| weakness.is_broken() == is_broken)
    };
    if let Some(names) = names(&weakness(true)) {
        add(&BROKEN_SUITE, format!("It supports {names}"));
    }
    if let Some(names) = names(&weakness(false)) {
        add(&WEAK_SUITE, format!("It supports {names}"));
    }
    let is_sound = |suite: &SuiteFacts| suite.weakness.is_none_or(|weakness| !weakness.is_broken());
    if all.iter().any(is_sound_and_forward(is_sound)) {
        if let Some(names) = names(&|suite| is_sound(suite) && !suite.has_forward_secrecy()) {
            add(&STATIC_KEY_EXCHANGE, format!("It also supports {names}"));
        }
    } else if !all.is_empty() {
        add(&NO_FORWARD_SECRECY, "None of its cipher suites has an ephemeral key exchange".to_owned());
    }
    if !speaks(0x0304)
        && let Some(newest) = survey.newest_clear()
        && !of(newest).iter().any(|suite| suite.aead)
    {
        add(&NO_AEAD, format!("No cipher suite of {} is authenticated (AEAD)", version_name(newest.version)));
    }
    judge_groups(survey, &mut add);
    if let Some(clear) = &survey.clear {
        if clear.compression {
            add(&COMPRESSION, "It compresses when the client offers it".to_owned());
        }
        if !clear.secure_renegotiation {
            add(&NO_SECURE_RENEGOTIATION, "It does not answer the offer of secure renegotiation".to_owned());
        }
    }
    // Stable: within one severity the order above stays.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

fn is_sound_and_forward(is_sound: impl Fn(&SuiteFacts) -> bool) -> impl Fn(&SuiteFacts) -> bool {
    move |suite| is_sound(suite) && suite.has_forward_secrecy()
}

fn judge_versions(survey: &Survey, add: &mut dyn FnMut(&'static About, String)) {
    let speaks = |version: u16| survey.version(version).is_some();
    if survey.versions.is_empty() {
        return;
    }
    if speaks(0x0300) {
        add(&SSL3, "It supports SSL 3.0".to_owned());
    }
    let old: Vec<&str> = [0x0302, 0x0301].into_iter().filter(|version| speaks(*version)).map(version_name).collect();
    if !old.is_empty() {
        add(&LEGACY_VERSION, format!("It supports {}", old.join(" and ")));
    }
    match (speaks(0x0304), speaks(0x0303)) {
        (false, false) => {
            let newest = survey.versions.first().map_or(0, |found| found.version);
            add(&NO_CURRENT_VERSION, format!("Its newest version is {}", version_name(newest)));
        }
        (false, true) => add(&NO_TLS13, "Its newest version is TLS 1.2".to_owned()),
        (true, false) => add(&NO_TLS12, "It supports TLS 1.3, but not TLS 1.2".to_owned()),
        (true, true) => {}
    }
}

fn judge_groups(survey: &Survey, add: &mut dyn FnMut(&'static About, String)) {
    const STRONG_PRIME: usize = 2048;
    let is_kind = |kind: GroupKind| move |code: &u16| GroupFacts::of(*code).is_some_and(|group| group.kind == kind);
    if let Some(found) = survey.version(0x0304)
        && !found.groups.is_empty()
        && !found.groups.iter().any(is_kind(GroupKind::PostQuantum))
    {
        add(&NO_POST_QUANTUM_GROUP, "None of its groups of TLS 1.3 is post-quantum".to_owned());
    }
    let mut weak: Vec<String> = Vec::new();
    if let Some(bits) = survey.prime_bits.filter(|bits| *bits < STRONG_PRIME) {
        weak.push(format!("Its DHE suites use a prime of {bits} bits"));
    }
    let curves = survey.versions.iter().flat_map(|found| &found.groups).copied();
    let curves: Vec<String> = curves.filter(is_kind(GroupKind::WeakCurve)).map(group_name).collect();
    if !curves.is_empty() {
        weak.push(format!("{} {}", if weak.is_empty() { "It has" } else { "it has" }, curves.join(", ")));
    }
    if !weak.is_empty() {
        add(&WEAK_GROUP, weak.join("; "));
    }
}

/// All if they are few, else the first, and how many more there are.
pub(super) fn some_of(names: &[&str]) -> String {
    const FEW: usize = 4;
    match names.len().saturating_sub(FEW) {
        0 | 1 => names.join(", "),
        more => format!("{} and {more} more", names[..FEW].join(", ")),
    }
}

/// Remarks about a suite, in a few words; empty if there is nothing to say.
pub(super) fn remarks(suite: &SuiteFacts) -> Vec<&'static str> {
    let mut remarks = Vec::new();
    match suite.weakness {
        Some(Weakness::Anonymous) => remarks.push("no certificate"),
        Some(Weakness::Null) => remarks.push("no encryption"),
        Some(Weakness::Rc4) => remarks.push("RC4"),
        Some(Weakness::ShortKey) => remarks.push("short key"),
        Some(Weakness::SmallBlock) => remarks.push("64-bit blocks"),
        None => {}
    }
    match suite.key_exchange {
        KeyExchange::Static => remarks.push("no forward secrecy"),
        KeyExchange::Any | KeyExchange::Dhe | KeyExchange::Ecdhe => {}
    }
    if !suite.aead && suite.name.contains("_CBC_") {
        remarks.push("CBC");
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::super::survey::ClearFacts;
    use super::*;

    fn version(version: u16, suites: &[u16], groups: &[u16]) -> VersionSurvey {
        let (suites, groups) = (suites.to_vec(), groups.to_vec());
        VersionSurvey { version, suites, suite_order: None, groups, group_order: None }
    }

    fn codes(versions: &[VersionSurvey], change: impl FnOnce(&mut Survey)) -> Vec<&'static str> {
        let secure_renegotiation = true;
        let clear = Some(ClearFacts { secure_renegotiation, ..ClearFacts::default() });
        let mut survey = Survey { versions: versions.to_vec(), clear, prime_bits: None };
        change(&mut survey);
        judge(&survey, None).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_server_of_today_has_no_findings() {
        let tls13 = version(0x0304, &[0x1301], &[0x11ec, 0x001d]);
        let tls12 = version(0x0303, &[0xc02f], &[0x001d]);
        assert_eq!(codes(&[tls13.clone(), tls12], |_| {}), Vec::<&str>::new());
        assert_eq!(codes(&[tls13], |survey| survey.clear = None), ["no-tls12"]);
        assert_eq!(codes(&[], |_| {}), Vec::<&str>::new());
    }

    #[test]
    fn every_code_comes_up_worst_first() {
        let rows: &[(&[VersionSurvey], &[&str])] = &[
            (&[version(0x0304, &[0x1301], &[0x001d]), version(0x0303, &[0xc02f], &[])], &["no-post-quantum-group"]),
            (&[version(0x0303, &[0xc02f, 0x009c], &[])], &["no-tls13", "static-key-exchange"]),
            (&[version(0x0303, &[0x009c], &[])], &["no-forward-secrecy", "no-tls13"]),
            (&[version(0x0303, &[0xc013], &[])], &["no-aead", "no-tls13"]),
            (
                &[version(0x0301, &[0xc013, 0x000a, 0x0005], &[0x0001]), version(0x0300, &[0x0005], &[])],
                &[
                    "ssl3",
                    "no-current-version",
                    "broken-suite",
                    "no-aead",
                    "legacy-version",
                    "weak-suite",
                    "static-key-exchange",
                    "weak-group",
                ],
            ),
        ];
        for (versions, expected) in rows {
            assert_eq!(codes(versions, |_| {}), *expected);
        }
        let good = version(0x0303, &[0xc02f], &[]);
        let clear = |change: fn(&mut ClearFacts)| {
            codes(std::slice::from_ref(&good), |survey| change(survey.clear.as_mut().unwrap()))
        };
        assert_eq!(clear(|clear| clear.compression = true), ["compression", "no-tls13"]);
        assert_eq!(clear(|clear| clear.secure_renegotiation = false), ["no-secure-renegotiation", "no-tls13"]);
        assert_eq!(
            codes(std::slice::from_ref(&good), |survey| survey.prime_bits = Some(1024)),
            ["no-tls13", "weak-group"]
        );
        assert_eq!(codes(std::slice::from_ref(&good), |survey| survey.prime_bits = Some(2048)), ["no-tls13"]);
        let survey = Survey { versions: vec![good], ..Survey::default() };
        let intolerant = judge(&survey, Some("it resets the connection"));
        assert_eq!((intolerant[0].code, intolerant[0].severity), ("version-intolerant", "error"));
        assert!(ABOUT.is_sorted_by_key(|about| about.code));
    }
}
