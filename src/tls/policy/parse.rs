//! What people write about versions, groups, suites and protocols, in the words of nginx, OpenSSL and IANA.
//!
//! `"TLSv1 TLSv1.2" ──▶ (what can be served, what cannot and why)`, or an error if nothing can
//!
//! Nothing is dropped in silence: each name that does not lead to something served comes back as [`Unavailable`].

use std::fmt;

use super::{Alpn, Group, Settings, Suite};
use crate::tls::Version;
use crate::tls::ciphers::{self, BadList, Unserved};

/// Something that was asked for and cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The name, as it was written if it was written.
    pub name: String,
    /// Why, and what to do.
    pub why: Why,
    /// True if it was asked for by this name, false if it is one of the many behind an alias such as `HIGH`.
    pub named: bool,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

/// Why something cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// A protocol version before TLS 1.2.
    OldVersion,
    /// A suite; OpenSSL still knows it.
    Suite(Unserved),
    /// A suite or alias that OpenSSL itself has given up.
    RetiredSuite,
    /// A suite whose key is shorter than the list's own security level asks for.
    BelowLevel,
    /// A security level below what is always asked for.
    LowLevel,
    /// A security level that also speaks of keys and signatures.
    HighLevel,
    /// A group that the TLS library does not have.
    Group,
    /// Finite-field Diffie-Hellman.
    FiniteField,
    /// An application protocol that the proxy does not speak.
    Protocol,
    /// Nobody knows the name.
    Unknown,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::OldVersion => "no longer secure (RFC 8996); TLSv1.2 is the oldest supported version",
            Why::Suite(Unserved::Null) => "it does not encrypt",
            Why::Suite(Unserved::Anonymous) => "it works without a certificate, so everyone can intercept it",
            Why::Suite(Unserved::SharedSecret) => "it needs a shared key or password instead of a certificate",
            Why::Suite(Unserved::Dss) => "it needs a DSA certificate, which no CA issues any more",
            Why::Suite(Unserved::StaticRsa) => {
                "key exchange by RSA has no forward secrecy; use its ECDHE-RSA counterpart"
            }
            Why::Suite(Unserved::Dhe) => "finite-field Diffie-Hellman is not supported; use its ECDHE counterpart",
            Why::Suite(Unserved::Cbc) => "CBC suites are not supported; use its GCM or ChaCha20 counterpart",
            Why::Suite(Unserved::Rare) => "AES-CCM and ARIA are not supported; use AES-GCM or ChaCha20",
            Why::RetiredSuite => "broken or obsolete; OpenSSL no longer offers it either",
            Why::BelowLevel => "its key is shorter than @SECLEVEL of the same list requires",
            Why::LowLevel => "the level cannot be lowered: keys under 112 bits of strength and SHA-1 are never used",
            Why::HighLevel => "applies to cipher suites only; other settings decide about certificates and groups",
            Why::Group => "not supported; use X25519, prime256v1 or secp384r1",
            Why::FiniteField => "finite-field Diffie-Hellman is not supported; use X25519, prime256v1 or secp384r1",
            Why::Protocol => "not supported; use h2 or http/1.1",
            Why::Unknown => "unknown name; check the spelling",
        })
    }
}

/// Why a text yields nothing at all.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The text names nothing.
    #[error("names no {what}: write for example \"{example}\"")]
    Empty {
        /// What it should name.
        what: &'static str,
        /// A text that works.
        example: &'static str,
    },
    /// It is not a list of cipher suites.
    #[error("is not a list of cipher suites: {0}")]
    BadList(#[from] BadList),
    /// Nothing of it can be served.
    #[error("leaves no supported {what} ({}): write for example \"{example}\"", summary(unavailable))]
    NothingLeft {
        /// What it should name.
        what: &'static str,
        /// Each name with its reason.
        unavailable: Vec<Unavailable>,
        /// A text that works.
        example: &'static str,
    },
}

/// Oldest and newest version of a list as in nginx' `ssl_protocols`: `TLSv1.2 TLSv1.3`.
pub fn parse_versions(text: &str) -> Result<((Version, Version), Vec<Unavailable>), ParseError> {
    let (what, example) = ("protocol version", "TLSv1.2 TLSv1.3");
    let (versions, unavailable) = each(text, &[' ', ',', ':'], |name| match name.to_ascii_lowercase().as_str() {
        "tlsv1.3" | "tls1.3" | "tlsv1_3" | "1.3" => Ok(Version::Tls13),
        "tlsv1.2" | "tls1.2" | "tlsv1_2" | "1.2" => Ok(Version::Tls12),
        "sslv2" | "sslv3" | "tlsv1" | "tlsv1.0" | "tls1.0" | "tlsv1_0" | "1.0" | "tlsv1.1" | "tls1.1" | "tlsv1_1"
        | "1.1" => Err(Why::OldVersion),
        _ => Err(Why::Unknown),
    });
    match (versions.iter().min(), versions.iter().max()) {
        (Some(min), Some(max)) => Ok(((*min, *max), unavailable)),
        _ => Err(nothing(what, example, unavailable)),
    }
}

/// Groups, best first, of a list as in nginx' `ssl_ecdh_curve`: `X25519:prime256v1`. Takes the marks of OpenSSL 3.5
/// as well: `?` (no complaint about an unknown name), `*` (send a key share: a client's matter), `-` (not this one),
/// and `/` between names. `auto` and `DEFAULT` stand for the default groups.
pub fn parse_groups(text: &str) -> Result<(Vec<Group>, Vec<Unavailable>), ParseError> {
    let (what, example) = ("key exchange group", "X25519MLKEM768:X25519:prime256v1:secp384r1");
    let mut groups: Vec<Group> = Vec::new();
    let (_, unavailable) = each(text, &[' ', ',', ':', '/'], |written| {
        let name = written.trim_start_matches(['?', '*', '-']);
        let marks = &written[..written.len() - name.len()];
        match (group_of_name(name), name.to_ascii_lowercase().as_str()) {
            (_, "auto" | "default") => groups.extend(Settings::default().groups),
            (Ok(group), _) if marks.contains('-') => groups.retain(|other| *other != group),
            (Ok(group), _) if groups.contains(&group) => {}
            (Ok(group), _) => groups.push(group),
            (Err(_), _) if marks.contains(['?', '-']) => {}
            (Err(why), _) => return Err(why),
        }
        Ok(())
    });
    match groups.is_empty() {
        true => Err(nothing(what, example, unavailable)),
        false => Ok((groups, unavailable)),
    }
}

/// Suites, best first, of a list as in nginx' `ssl_ciphers`, in the whole language of openssl-ciphers(1). The TLS 1.3
/// suites of `current` stay as they are unless the list names one.
pub fn parse_ciphers(text: &str, current: &[Suite]) -> Result<(Vec<Suite>, Vec<Unavailable>), ParseError> {
    let (what, example) = ("cipher suite", "ECDHE+AESGCM:ECDHE+CHACHA20");
    let before: Vec<Suite> = current.iter().copied().filter(|suite| suite.version() == Version::Tls13).collect();
    let expansion = ciphers::expand(text, &before)?;
    let mut unavailable = Vec::new();
    let mut refuse = |name: &str, why, named| unavailable.push(Unavailable { name: name.to_owned(), why, named });

    let strength = match expansion.level {
        Some(level @ (0 | 1)) => {
            refuse(&format!("@SECLEVEL={level}"), Why::LowLevel, true);
            0
        }
        Some(3) => {
            refuse("@SECLEVEL=3", Why::HighLevel, true);
            128
        }
        Some(level @ 4..) => {
            refuse(&format!("@SECLEVEL={level}"), Why::HighLevel, true);
            if level == 4 { 192 } else { 256 }
        }
        Some(2) | None => 0,
    };
    for name in &expansion.unknown {
        refuse(name, Why::Unknown, true);
    }
    for name in &expansion.retired {
        refuse(name, Why::RetiredSuite, true);
    }
    let mut suites = Vec::new();
    for known in &expansion.suites {
        let written = expansion.named.iter().find(|(_, suite)| suite == known).map(|(name, _)| name.as_str());
        let (name, named) = (written.unwrap_or(known.openssl), written.is_some());
        match known.serve() {
            Ok(suite) if suite.bits() < strength => refuse(name, Why::BelowLevel, named),
            Ok(suite) => suites.push(suite),
            Err(why) => refuse(name, Why::Suite(why), named),
        }
    }
    // A list that is only about TLS 1.3 says nothing about the others; any other has to leave one of them, as OpenSSL
    // demands as well.
    let about_tls13 = expansion.names_tls13 && expansion.suites.is_empty() && expansion.retired.is_empty();
    let mut tls13 = expansion.tls13;
    tls13.retain(|suite| {
        let strong = suite.bits() >= strength;
        if !strong {
            refuse(suite.openssl(), Why::BelowLevel, false);
        }
        strong
    });
    let enough = !suites.is_empty() || about_tls13 && !tls13.is_empty();
    if !enough {
        return Err(nothing(what, example, unavailable));
    }
    tls13.extend(suites);
    Ok((tls13, unavailable))
}

/// Application protocols, best first: `h2,http/1.1`.
pub fn parse_alpn(text: &str) -> Result<(Vec<Alpn>, Vec<Unavailable>), ParseError> {
    let (what, example) = ("application protocol", "h2,http/1.1");
    let (protocols, unavailable) =
        each(text, &[' ', ','], |name| Alpn::ALL.into_iter().find(|alpn| alpn.id() == name).ok_or(Why::Protocol));
    match protocols.is_empty() {
        true => Err(nothing(what, example, unavailable)),
        false => Ok((protocols, unavailable)),
    }
}

/// Reads each name; what cannot be served is put aside.
fn each<T>(
    text: &str,
    separators: &[char],
    mut read: impl FnMut(&str) -> Result<T, Why>,
) -> (Vec<T>, Vec<Unavailable>) {
    let (mut accepted, mut unavailable) = (Vec::new(), Vec::new());
    for name in text.split(separators).map(str::trim).filter(|name| !name.is_empty()) {
        match read(name) {
            Ok(value) => accepted.push(value),
            Err(why) => unavailable.push(Unavailable { name: name.to_owned(), why, named: true }),
        }
    }
    (accepted, unavailable)
}

fn nothing(what: &'static str, example: &'static str, unavailable: Vec<Unavailable>) -> ParseError {
    match unavailable.is_empty() {
        true => ParseError::Empty { what, example },
        false => ParseError::NothingLeft { what, unavailable, example },
    }
}

/// The first few with their reasons.
fn summary(unavailable: &[Unavailable]) -> String {
    const SHOWN: usize = 3;
    let mut parts: Vec<String> = unavailable.iter().take(SHOWN).map(Unavailable::to_string).collect();
    if unavailable.len() > SHOWN {
        parts.push(format!("and {} more", unavailable.len() - SHOWN));
    }
    parts.join("; ")
}

fn group_of_name(name: &str) -> Result<Group, Why> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "x25519mlkem768" => Ok(Group::X25519MlKem768),
        "secp256r1mlkem768" => Ok(Group::Secp256r1MlKem768),
        "x25519" => Ok(Group::X25519),
        "prime256v1" | "secp256r1" | "p-256" | "p256" => Ok(Group::Secp256r1),
        "secp384r1" | "p-384" | "p384" => Ok(Group::Secp384r1),
        "mlkem768" => Ok(Group::MlKem768),
        "mlkem1024" => Ok(Group::MlKem1024),
        "x448"
        | "p-521"
        | "p521"
        | "p-224"
        | "p-192"
        | "mlkem512"
        | "secp384r1mlkem1024"
        | "x25519kyber768draft00"
        | "sm2"
        | "curvesm2" => Err(Why::Group),
        _ if ["secp", "sect", "prime", "brainpool", "gc", "b-", "k-", "c2"]
            .iter()
            .any(|start| name.starts_with(start)) =>
        {
            Err(Why::Group)
        }
        _ if name.starts_with("ffdhe") || name.starts_with("modp") => Err(Why::FiniteField),
        _ => Err(Why::Unknown),
    }
}
