//! OpenSSL's language for lists of cipher suites, as in nginx' `ssl_ciphers` (openssl-ciphers(1)).
//!
//! `"HIGH:!aNULL:!MD5" ──expand──▶ the suites that OpenSSL 3.0 makes of it, in its order`
//!
//! The list is a sequence of commands on one ranking of all suites, in which each suite is on, off or gone:
//!
//! | command | what it does to the suites it selects |
//! | --- | --- |
//! | `X` | those that are off go to the end and are on |
//! | `-X` | those that are on go to the front and are off, so that they come first when they are added again |
//! | `+X` | those that are on go to the end |
//! | `!X` | they are gone, whatever follows |
//! | `@STRENGTH` | those that are on are ordered by the length of their keys |
//! | `@SECLEVEL=n` | sets the security level |
//!
//! `X` is a suite, an alias, or several of them joined with `+`, which selects what all of them select. `DEFAULT` works
//! at the very beginning only. OpenSSL passes over names that it does not know, and over TLS 1.3 suites; here, unknown
//! names are reported, and TLS 1.3 suites have a ranking of their own, which changes only when they are named. Names of
//! the IANA registry work as well.

use std::sync::LazyLock;

use super::policy::Suite;

/// A suite up to TLS 1.2 that OpenSSL 3.0 knows.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownSuite {
    /// The code of the IANA registry.
    pub code: u16,
    /// OpenSSL's name.
    pub openssl: &'static str,
    /// The name of the IANA registry.
    pub iana: &'static str,
    since: &'static str,
    kx: &'static str,
    auth: &'static str,
    enc: &'static str,
    bits: u16,
    mac: &'static str,
    default: bool,
    fips: bool,
}

/// Why a suite cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unserved {
    /// No encryption at all.
    Null,
    /// No certificate: anybody can be in the middle.
    Anonymous,
    /// A key that both sides have beforehand, or a password, instead of a certificate.
    SharedSecret,
    /// A DSA certificate.
    Dss,
    /// The client encrypts to the certificate's key: no forward secrecy.
    StaticRsa,
    /// Finite-field Diffie-Hellman.
    Dhe,
    /// A block cipher with a separate hash, which many attacks have been about.
    Cbc,
    /// AES-CCM or ARIA: sound, rare, and not in the TLS library.
    Rare,
}

impl KnownSuite {
    /// The suite as it can be served, or why it cannot.
    pub fn serve(&self) -> Result<Suite, Unserved> {
        Err(match (self.kx, self.auth, self.enc, self.mac) {
            (_, _, "NULL", _) => Unserved::Null,
            (_, "NULL", _, _) => Unserved::Anonymous,
            ("PSK" | "RSAPSK" | "DHEPSK" | "ECDHEPSK" | "SRP", ..) => Unserved::SharedSecret,
            (_, "DSS", ..) => Unserved::Dss,
            ("RSA", ..) => Unserved::StaticRsa,
            ("DHE", ..) => Unserved::Dhe,
            (.., "SHA1" | "SHA256" | "SHA384" | "MD5") => Unserved::Cbc,
            _ => return Suite::of_code(self.code).ok_or(Unserved::Rare),
        })
    }
}

/// What a list comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The suites up to TLS 1.2, best first.
    pub suites: Vec<&'static KnownSuite>,
    /// The TLS 1.3 suites, best first: those that were there before, unless the list names one.
    pub tls13: Vec<Suite>,
    /// True if the list names a TLS 1.3 suite.
    pub names_tls13: bool,
    /// The security level, if the list sets it: 0 to 5.
    pub level: Option<u8>,
    /// Suites that were added by their own names, as they were written.
    pub named: Vec<(String, &'static KnownSuite)>,
    /// Names of suites and groups of suites that OpenSSL itself has given up, where the list adds them.
    pub retired: Vec<String>,
    /// Names that mean nothing, in any command: a misspelt exclusion excludes nothing.
    pub unknown: Vec<String>,
}

/// Why a text is not a list of cipher suites.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadList {
    /// A command has no name, or a name has a character that no name has.
    #[error("cannot read {rest:?}: write names joined with ':', each with '!', '-' or '+' in front or nothing")]
    Syntax {
        /// From the place of the error on; its beginning if it is long.
        rest: String,
    },
    /// `@` with something else than what there is.
    #[error("there is no command {:?}: write @STRENGTH, or @SECLEVEL= with a digit from 0 to 5", format!("@{command}"))]
    Command {
        /// What follows `@`; its beginning if it is long.
        command: String,
    },
}

/// As much of a text as a message can show.
fn beginning(text: &str) -> String {
    const SHOWN: usize = 60;
    text.chars().take(SHOWN).collect()
}

/// Every suite up to TLS 1.2, as OpenSSL 3.0 ranks them.
pub fn known_suites() -> &'static [KnownSuite] {
    static SUITES: LazyLock<Vec<KnownSuite>> = LazyLock::new(|| {
        let lines = include_str!("ciphers/suites.tsv").lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| suite_of_line(line).expect("invariant: suites.tsv is well-formed")).collect()
    });
    &SUITES
}

/// What OpenSSL makes of the list, where `tls13` are the TLS 1.3 suites that are on. The first one that is added by
/// its name replaces them; one that is excluded is taken from them.
pub fn expand(list: &str, tls13: &[Suite]) -> Result<Expansion, BadList> {
    let mut ranking = Ranking {
        legacy: known_suites().iter().map(|suite| (suite, false)).collect(),
        tls13_killed: Vec::new(),
        tls13_replaced: false,
        expansion: Expansion { tls13: tls13.to_vec(), ..Expansion::default() },
    };
    let mut list = list;
    // Beginnings that stand for lists of their own; the first kind swallows the rest.
    let suite_b = [
        ("SUITEB128ONLY", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("SUITEB128", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("SUITEB192", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ];
    if let Some((_, meaning)) = suite_b.iter().find(|(name, _)| list.starts_with(name)) {
        list = meaning;
    }
    if let Some(rest) = list.strip_prefix("DEFAULT") {
        ranking.run("ALL:!COMPLEMENTOFDEFAULT:!eNULL")?;
        list = rest;
    }
    ranking.run(list)?;
    let Ranking { legacy, mut expansion, .. } = ranking;
    expansion.suites = legacy.into_iter().filter_map(|(suite, on)| on.then_some(suite)).collect();
    Ok(expansion)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Add,
    Delete,
    Last,
    Kill,
}

type Selects = fn(&KnownSuite) -> bool;

/// What a name stands for.
enum Meaning {
    Suite(&'static KnownSuite),
    Tls13(Suite),
    Alias(Selects),
    /// OpenSSL has, or had, the name, and no suite for it.
    Retired,
    Unknown,
}

struct Ranking {
    /// With whether it is on.
    legacy: Vec<(&'static KnownSuite, bool)>,
    tls13_killed: Vec<Suite>,
    tls13_replaced: bool,
    expansion: Expansion,
}

const SEPARATORS: [char; 4] = [':', ' ', ';', ','];

impl Ranking {
    fn run(&mut self, list: &str) -> Result<(), BadList> {
        for item in list.split(SEPARATORS).filter(|item| !item.is_empty()) {
            if let Some(command) = item.strip_prefix('@') {
                self.special(command)?;
                continue;
            }
            let (command, names) = match item.as_bytes()[0] {
                b'-' => (Command::Delete, &item[1..]),
                b'+' => (Command::Last, &item[1..]),
                b'!' => (Command::Kill, &item[1..]),
                _ => (Command::Add, item),
            };
            self.command(command, names)?;
        }
        Ok(())
    }

    fn special(&mut self, command: &str) -> Result<(), BadList> {
        if command == "STRENGTH" {
            // Stable, so that suites of one length keep their order. What is off stands in front, out of the way.
            let (mut on, off): (Vec<_>, Vec<_>) = self.legacy.drain(..).partition(|(_, on)| *on);
            on.sort_by_key(|(suite, _)| std::cmp::Reverse(suite.bits));
            self.legacy = off.into_iter().chain(on).collect();
            return Ok(());
        }
        let level = command.strip_prefix("SECLEVEL=").and_then(|level| match level.as_bytes() {
            [digit @ b'0'..=b'5'] => Some(digit - b'0'),
            _ => None,
        });
        self.expansion.level = Some(level.ok_or_else(|| BadList::Command { command: beginning(command) })?);
        Ok(())
    }

    fn command(&mut self, command: Command, names: &str) -> Result<(), BadList> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.', '='].contains(&c);
        let parts: Vec<&str> = names.split('+').collect();
        if let Some(bad) = parts.iter().find(|part| part.is_empty() || !part.chars().all(allowed)) {
            let rest = if bad.is_empty() { names } else { bad };
            return Err(BadList::Syntax { rest: beginning(rest) });
        }
        let mut meanings = Vec::with_capacity(parts.len());
        for &part in &parts {
            let meaning = meaning(part);
            match meaning {
                Meaning::Tls13(suite) if parts.len() == 1 => {
                    self.tls13(command, suite);
                    return Ok(());
                }
                Meaning::Suite(named) if command == Command::Add && parts.len() == 1 => {
                    self.expansion.named.push((part.to_owned(), named));
                }
                Meaning::Suite(_) | Meaning::Alias(_) => {}
                Meaning::Retired => {
                    if command == Command::Add {
                        self.expansion.retired.push(names.to_owned());
                    }
                    return Ok(());
                }
                Meaning::Tls13(_) | Meaning::Unknown => {
                    self.expansion.unknown.push(part.to_owned());
                    return Ok(());
                }
            }
            meanings.push(meaning);
        }
        // Aliases of strength are intersected apart from the rest, and one that follows COMPLEMENTOFDEFAULT replaces it.
        let mut strength = Strength::default();
        for (meaning, part) in meanings.iter().zip(&parts) {
            let further = Strength::of(part, meaning);
            if further.classes != 0 {
                let classes = if strength.classes == 0 { further.classes } else { strength.classes & further.classes };
                if classes == 0 {
                    return Ok(());
                }
                let not_default = strength.not_default && strength.classes != 0;
                strength = Strength { classes, not_default };
            }
            strength.not_default |= further.not_default;
        }
        let selected = |suite: &KnownSuite| {
            let own = Strength::of_suite(suite);
            let strong = strength.classes == 0 || strength.classes & own.classes != 0;
            strong
                && (own.not_default || !strength.not_default)
                && meanings.iter().all(|meaning| match meaning {
                    Meaning::Suite(named) => suite.code == named.code,
                    Meaning::Alias(selects) => selects(suite),
                    Meaning::Tls13(_) | Meaning::Retired | Meaning::Unknown => false,
                })
        };
        let (mut front, mut back) = (Vec::new(), Vec::new());
        self.legacy.retain(|(suite, on)| match (command, on, selected(suite)) {
            (Command::Kill, _, true) => false,
            (Command::Add, false, true) | (Command::Last, true, true) => {
                back.push((*suite, true));
                false
            }
            (Command::Delete, true, true) => {
                front.push((*suite, false));
                false
            }
            (Command::Add | Command::Last, ..) | (Command::Delete, ..) | (Command::Kill, ..) => true,
        });
        self.legacy.splice(..0, front);
        self.legacy.extend(back);
        Ok(())
    }

    fn tls13(&mut self, command: Command, suite: Suite) {
        let tls13 = &mut self.expansion.tls13;
        self.expansion.names_tls13 = true;
        if command == Command::Add && !self.tls13_replaced {
            self.tls13_replaced = true;
            tls13.clear();
        }
        let there = tls13.contains(&suite);
        if command == Command::Kill {
            self.tls13_killed.push(suite);
        }
        if command != Command::Add {
            tls13.retain(|other| *other != suite);
        }
        let adds = command == Command::Add && !there && !self.tls13_killed.contains(&suite);
        if adds || command == Command::Last && there {
            tls13.push(suite);
        }
    }
}

/// What OpenSSL keeps apart from the other properties of a suite.
#[derive(Clone, Copy, Default)]
struct Strength {
    classes: u8,
    not_default: bool,
}

impl Strength {
    const NONE: u8 = 1;
    const HIGH: u8 = 2;
    const FIPS: u8 = 4;

    fn of(name: &str, meaning: &Meaning) -> Self {
        match (name, meaning) {
            ("HIGH", _) => Strength { classes: Self::HIGH, not_default: false },
            ("FIPS", _) => Strength { classes: Self::FIPS, not_default: false },
            ("COMPLEMENTOFDEFAULT", _) => Strength { classes: 0, not_default: true },
            (_, Meaning::Suite(suite)) => Self::of_suite(suite),
            _ => Strength::default(),
        }
    }

    fn of_suite(suite: &KnownSuite) -> Self {
        let class = if suite.enc == "NULL" { Self::NONE } else { Self::HIGH };
        let fips = if suite.fips { Self::FIPS } else { 0 };
        Strength { classes: class | fips, not_default: !suite.default }
    }
}

fn meaning(name: &str) -> Meaning {
    let suite = known_suites().iter().find(|suite| suite.openssl == name || suite.iana == name);
    let tls13 = || {
        let named =
            |suite: &Suite| suite.iana() == name || name.strip_prefix("TLS13_") == suite.iana().strip_prefix("TLS_");
        Suite::ALL[..3].iter().copied().find(named)
    };
    if let Some(suite) = suite {
        Meaning::Suite(suite)
    } else if let Some((_, alias)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        Meaning::Alias(*alias)
    } else if let Some(suite) = tls13() {
        Meaning::Tls13(suite)
    } else if is_retired(name) {
        Meaning::Retired
    } else {
        Meaning::Unknown
    }
}

/// Each alias of OpenSSL 3.0 that selects something.
const ALIASES: &[(&str, Selects)] = &[
    ("ALL", |s| s.enc != "NULL"),
    ("COMPLEMENTOFALL", |s| s.enc == "NULL"),
    // What these three select is in `Strength`.
    ("COMPLEMENTOFDEFAULT", |_| true),
    ("HIGH", |_| true),
    ("FIPS", |s| s.enc != "NULL"),
    // Key exchange.
    ("kRSA", |s| s.kx == "RSA"),
    ("kEDH", |s| s.kx == "DHE"),
    ("kDHE", |s| s.kx == "DHE"),
    ("DH", |s| s.kx == "DHE"),
    ("kEECDH", |s| s.kx == "ECDHE"),
    ("kECDHE", |s| s.kx == "ECDHE"),
    ("ECDH", |s| s.kx == "ECDHE"),
    ("kPSK", |s| s.kx == "PSK"),
    ("kRSAPSK", |s| s.kx == "RSAPSK"),
    ("kECDHEPSK", |s| s.kx == "ECDHEPSK"),
    ("kDHEPSK", |s| s.kx == "DHEPSK"),
    ("kSRP", |s| s.kx == "SRP"),
    // The certificate.
    ("aRSA", |s| s.auth == "RSA"),
    ("aDSS", |s| s.auth == "DSS"),
    ("DSS", |s| s.auth == "DSS"),
    ("aNULL", |s| s.auth == "NULL"),
    ("aECDSA", |s| s.auth == "ECDSA"),
    ("ECDSA", |s| s.auth == "ECDSA"),
    ("aPSK", |s| s.auth == "PSK"),
    ("aSRP", |s| s.auth == "SRP"),
    // Both.
    ("EDH", |s| s.kx == "DHE" && s.auth != "NULL"),
    ("DHE", |s| s.kx == "DHE" && s.auth != "NULL"),
    ("EECDH", |s| s.kx == "ECDHE" && s.auth != "NULL"),
    ("ECDHE", |s| s.kx == "ECDHE" && s.auth != "NULL"),
    ("RSA", |s| s.kx == "RSA" && s.auth == "RSA"),
    ("ADH", |s| s.kx == "DHE" && s.auth == "NULL"),
    ("AECDH", |s| s.kx == "ECDHE" && s.auth == "NULL"),
    ("PSK", |s| s.kx.ends_with("PSK")),
    ("SRP", |s| s.kx == "SRP"),
    // Encryption.
    ("NULL", |s| s.enc == "NULL"),
    ("eNULL", |s| s.enc == "NULL"),
    ("AES", |s| s.enc.starts_with("AES")),
    ("AES128", |s| s.enc.starts_with("AES") && s.bits == 128),
    ("AES256", |s| s.enc.starts_with("AES") && s.bits == 256),
    ("AESGCM", |s| s.enc == "AESGCM"),
    ("AESCCM", |s| s.enc.starts_with("AESCCM")),
    ("AESCCM8", |s| s.enc == "AESCCM8"),
    ("CAMELLIA", |s| s.enc == "CAMELLIA"),
    ("CAMELLIA128", |s| s.enc == "CAMELLIA" && s.bits == 128),
    ("CAMELLIA256", |s| s.enc == "CAMELLIA" && s.bits == 256),
    ("CHACHA20", |s| s.enc == "CHACHA20"),
    ("ARIA", |s| s.enc == "ARIAGCM"),
    ("ARIAGCM", |s| s.enc == "ARIAGCM"),
    ("ARIA128", |s| s.enc == "ARIAGCM" && s.bits == 128),
    ("ARIA256", |s| s.enc == "ARIAGCM" && s.bits == 256),
    ("CBC", |s| s.enc != "NULL" && s.mac != "AEAD"),
    // The hash.
    ("MD5", |s| s.mac == "MD5"),
    ("SHA1", |s| s.mac == "SHA1"),
    ("SHA", |s| s.mac == "SHA1"),
    ("SHA256", |s| s.mac == "SHA256"),
    ("SHA384", |s| s.mac == "SHA384"),
    // The version that brought it.
    ("SSLv3", |s| s.since == "SSLv3"),
    ("TLSv1", |s| s.since == "TLSv1"),
    ("TLSv1.0", |s| s.since == "TLSv1"),
    ("TLSv1.2", |s| s.since == "TLSv1.2"),
];

/// Whether OpenSSL has, or once had, the name, and has no suite for it as distributions build it today. Such names
/// stand in many lists, mostly to be excluded.
fn is_retired(name: &str) -> bool {
    const GROUPS: &[&str] = &[
        "MEDIUM",
        "LOW",
        "EXP",
        "EXPORT",
        "EXPORT40",
        "EXPORT56",
        "3DES",
        "DES",
        "RC4",
        "RC2",
        "IDEA",
        "SEED",
        "GOST",
        "GOST89",
        "GOST89MAC",
        "GOST94",
        "kGOST",
        "kGOST18",
        "aGOST",
        "aGOST01",
        "aGOST12",
        "SSLv2",
        "TLSv1.1",
        "FZA",
        "kFZA",
        "aFZA",
        "eFZA",
        "KRB5",
        "kKRB5",
        "aKRB5",
        "kDH",
        "kDHr",
        "kDHd",
        "aDH",
        "kECDH",
        "kECDHr",
        "kECDHe",
        "aECDH",
        "GOST12",
        "KUZNYECHIK",
        "MAGMA",
    ];
    let openssl = ["EXP-", "EXP1024-", "ECDH-", "DH-RSA-", "DH-DSS-", "GOST", "IDEA-", "SEED-", "KRB5-", "FZA-"]
        .iter()
        .any(|beginning| name.starts_with(beginning))
        || ["DES-CBC", "RC4-", "-RC4", "RC2-", "-SEED-"].iter().any(|part| name.contains(part));
    let iana = (name.starts_with("TLS_") || name.starts_with("SSL_"))
        && (["_3DES_", "_DES", "_RC4_", "_RC2_", "_IDEA_", "_SEED_", "_EXPORT", "_KRB5_"]
            .iter()
            .any(|part| name.contains(part))
            || ["TLS_DH_RSA", "TLS_DH_DSS", "TLS_ECDH_RSA", "TLS_ECDH_ECDSA", "TLS_GOST"]
                .iter()
                .any(|beginning| name.starts_with(beginning)));
    GROUPS.contains(&name) || openssl || iana
}

fn suite_of_line(line: &'static str) -> Option<KnownSuite> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [code, openssl, iana, since, kx, auth, enc, bits, mac, default, fips] = fields[..] else { return None };
    Some(KnownSuite {
        code: u16::from_str_radix(code, 16).ok()?,
        openssl,
        iana,
        since,
        kx,
        auth,
        enc,
        bits: bits.parse().ok()?,
        mac,
        default: default == "yes",
        fips: fips == "yes",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls13_suites_change_only_when_they_are_named() {
        let before = [Suite::Aes128GcmSha256, Suite::ChaCha20Poly1305Sha256];
        let tls13 = |list| expand(list, &before).unwrap().tls13;
        assert_eq!(tls13("HIGH:!aNULL:!MD5"), before);
        assert_eq!(tls13("ALL:-AES128:!CHACHA20"), before);
        assert_eq!(
            tls13("TLS_AES_256_GCM_SHA384:ECDHE+AESGCM:TLS13_AES_128_GCM_SHA256"),
            [Suite::Aes256GcmSha384, Suite::Aes128GcmSha256]
        );
        assert_eq!(tls13("HIGH:!TLS_AES_128_GCM_SHA256"), [Suite::ChaCha20Poly1305Sha256]);
        assert_eq!(tls13("HIGH:+TLS_AES_128_GCM_SHA256"), [before[1], before[0]]);
        assert_eq!(
            tls13("!TLS_AES_128_GCM_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"),
            [Suite::Aes256GcmSha384]
        );
    }

    #[test]
    fn iana_names_select_what_openssl_names_select() {
        assert_eq!(
            expand("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:TLS_RSA_WITH_AES_128_CBC_SHA", &[]).unwrap().suites,
            expand("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA", &[]).unwrap().suites
        );
    }

    #[test]
    fn names_that_mean_nothing_are_told_from_names_that_have_had_their_day() {
        let expansion =
            expand("HIGH:!RC4:!aNUL:3DES:DES-CBC3-SHA:ECDHE+AESGCMM:TLS_RSA_WITH_RC4_128_MD5", &[]).unwrap();
        assert_eq!(expansion.unknown, ["aNUL", "AESGCMM"]);
        assert_eq!(expansion.retired, ["3DES", "DES-CBC3-SHA", "TLS_RSA_WITH_RC4_128_MD5"]);
    }

    #[test]
    fn lists_that_cannot_be_read_say_where() {
        let error = |list| expand(list, &[]).unwrap_err().to_string();
        assert_eq!(
            error("HIGH:aNULL?"),
            "cannot read \"aNULL?\": write names joined with ':', each with '!', '-' or '+' in front or nothing"
        );
        assert_eq!(
            error("HIGH:@SECLEVEL=9"),
            "there is no command \"@SECLEVEL=9\": write @STRENGTH, or @SECLEVEL= with a digit from 0 to 5"
        );
    }

    #[test]
    fn exactly_six_suites_up_to_tls12_can_be_served() {
        let served: Vec<Suite> = known_suites().iter().filter_map(|suite| suite.serve().ok()).collect();
        let expected: Vec<Suite> = Suite::ALL[3..].to_vec();
        assert!(served.len() == 6 && expected.iter().all(|suite| served.contains(suite)), "{served:?}");
        for suite in known_suites() {
            if let Ok(served) = suite.serve() {
                assert_eq!((served.openssl(), served.iana()), (suite.openssl, suite.iana));
            }
        }
    }
}
