//! A chain as people see it: a tree from the leaf to whoever is trusted.
//!
//! `Outline + findings ──tree──▶ text with each finding at its certificate`

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::pki_types::UnixTime;

use super::anchors::AnchorSource;
use super::withdrawn::Withdrawn;
use crate::tls::rfc3339;

/// The whole name of the authority that cert-manager makes for one temporary certificate, and throws away. The certificate
/// has no other mark that is always there: the serial number 1234567890 is part of its subject in some versions only.
pub(super) const TEMPORARY_ISSUER: &str = "CN=cert-manager.local";

/// The certificates of one `tls.crt` in the order in which they are served, and what they lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Leaf first, each issued by the next.
    pub path: Vec<Link>,
    /// What the path ends at.
    pub end: OutlineEnd,
    /// Certificates that the path does not need: cross-signs, roots, unrelated ones.
    pub beside: Vec<Link>,
    /// When the anchor's own certificate is valid; several if there are several of it. Empty if nobody knows.
    pub anchor_validity: Vec<Validity>,
}

/// A time between two moments, which both belong to it (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its start.
    pub not_before: UnixTime,
    /// Its end.
    pub not_after: UnixTime,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its place among the blocks of `tls.crt`, from 1; what was added comes behind the last block.
    pub place: usize,
    /// Where it was found, if it does not stand in `tls.crt` and was added to the chain.
    pub added_from: Option<Arc<str>>,
    /// Its subject, for people.
    pub subject: Box<str>,
    /// The whole name of its issuer, for people.
    pub issuer: Box<str>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
    /// Type and size of its key.
    pub key: Box<str>,
    /// What it may be used for, if that does not include servers (RFC 5280 section 4.2.1.12).
    pub other_usage: Option<Box<str>>,
    /// What it is in the chain.
    pub role: Role,
}

/// What a certificate is in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A second way up, for clients that do not know the first one's root.
    CrossSign,
    /// Issued the one before it.
    Intermediate,
    /// The server's own.
    Leaf,
    /// A self-signed root above the path.
    Root,
    /// Nothing.
    Unrelated,
}

impl Role {
    /// The word used in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Role::CrossSign => "cross-sign",
            Role::Intermediate => "intermediate",
            Role::Leaf => "leaf",
            Role::Root => "root",
            Role::Unrelated => "unrelated",
        }
    }
}

/// What a path ends at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutlineEnd {
    /// A trust anchor.
    Anchor {
        /// Its subject, for people.
        subject: Box<str>,
        /// Why it is trusted.
        source: AnchorSource,
    },
    /// A name that is neither in `tls.crt` nor trusted.
    Missing {
        /// The issuer that is missing.
        issuer: Box<str>,
        /// The leaf has the marks of a public CA, so that the issuer can be got.
        is_public: bool,
    },
    /// The topmost certificate, which signed itself.
    #[default]
    SelfSigned,
    /// A root in `tls.crt` that nobody is known to trust.
    UnknownRoot {
        /// Its subject, for people.
        subject: Box<str>,
    },
    /// A public root that trust stores have removed.
    Withdrawn {
        /// Who has removed it, and who has not.
        root: &'static Withdrawn,
        /// Its certificate is not in `tls.crt`: a certificate of the same name from another CA may be missing.
        is_missing: bool,
    },
}

/// Why an anchor is not valid at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorDates {
    /// It was valid until then.
    Expired(UnixTime),
    /// It will be valid from then on.
    NotValidBefore(UnixTime),
}

/// A finding, as the tree shows it.
pub struct Note<'a> {
    /// The certificate it is about; without one it stands at the leaf.
    pub place: Option<usize>,
    /// `info`, `warning` or `error`.
    pub severity: &'a str,
    /// Its code.
    pub code: &'a str,
    /// What is wrong; empty to leave it out.
    pub message: &'a str,
    /// What to do about it; empty to leave it out.
    pub remedy: &'a str,
}

impl Outline {
    /// When the anchor's own certificate expired, or since when it is valid, if it is not valid now. Most clients look
    /// at these dates.
    pub fn anchor_dates(&self, now: UnixTime) -> Option<AnchorDates> {
        let is_valid = |validity: &Validity| (validity.not_before..=validity.not_after).contains(&now);
        if self.anchor_validity.iter().any(is_valid) {
            return None;
        }
        let ends = self.anchor_validity.iter().map(|validity| validity.not_after).max()?;
        let begins = self.anchor_validity.iter().map(|validity| validity.not_before).filter(|begin| *begin > now).min();
        Some(begins.map_or(AnchorDates::Expired(ends), AnchorDates::NotValidBefore))
    }

    /// True if a certificate is missing: the path ends at a name that is neither in `tls.crt` nor trusted.
    pub fn has_gap(&self) -> bool {
        match self.end {
            OutlineEnd::Missing { .. } => true,
            OutlineEnd::Withdrawn { is_missing, .. } => is_missing,
            OutlineEnd::Anchor { .. } | OutlineEnd::SelfSigned | OutlineEnd::UnknownRoot { .. } => false,
        }
    }

    /// True if this is the temporary certificate of cert-manager. Where the authority stands in `tls.crt` or is trusted,
    /// somebody has kept it, so it is another one of this name.
    pub fn is_temporary(&self) -> bool {
        match &self.end {
            OutlineEnd::Missing { issuer, .. } => self.path.len() == 1 && **issuer == *TEMPORARY_ISSUER,
            OutlineEnd::Anchor { .. }
            | OutlineEnd::SelfSigned
            | OutlineEnd::UnknownRoot { .. }
            | OutlineEnd::Withdrawn { .. } => false,
        }
    }

    /// The tree, each line indented by `indent`.
    pub fn tree(&self, notes: &[Note<'_>], indent: &str) -> String {
        let mut out = String::new();
        let leaf = self.path.first().map(|leaf| leaf.place);
        let end = match &self.end {
            OutlineEnd::Anchor { subject, source } => format!("{subject}, {}", source.words()),
            OutlineEnd::Missing { issuer, .. } => format!("? {issuer}, neither in tls.crt nor trusted"),
            OutlineEnd::SelfSigned => "itself".to_owned(),
            OutlineEnd::UnknownRoot { subject } => format!("? {subject}, which no known client trusts"),
            OutlineEnd::Withdrawn { root, .. } => format!("? {}, a public root that was withdrawn", root.name),
        };
        for (depth, link) in self.path.iter().enumerate() {
            let branch = if depth == 0 { "" } else { "└─ " };
            let padding = "   ".repeat(depth.saturating_sub(1));
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{indent}{padding}{branch}{}", line(link));
            let below = format!("{indent}{}", "   ".repeat(depth));
            for note in notes {
                let about_whole = note.place.is_none_or(|place| !self.has(place));
                if note.place == Some(link.place) || (about_whole && Some(link.place) == leaf) {
                    write_note(&mut out, note, &format!("{below}  "));
                }
            }
        }
        let _ = writeln!(out, "{indent}{}└─ {end}", "   ".repeat(self.path.len().saturating_sub(1)));
        if !self.beside.is_empty() {
            let _ = writeln!(out, "{indent}not in the chain:");
        }
        for link in &self.beside {
            let _ = writeln!(out, "{indent}   {}, {}", line(link), link.role.code());
            for note in notes.iter().filter(|note| note.place == Some(link.place)) {
                write_note(&mut out, note, &format!("{indent}     "));
            }
        }
        out
    }

    fn has(&self, place: usize) -> bool {
        self.path.iter().chain(&self.beside).any(|link| link.place == place)
    }
}

fn write_note(out: &mut String, note: &Note<'_>, indent: &str) {
    let message = if note.message.is_empty() { String::new() } else { format!(": {}", note.message) };
    let _ = writeln!(out, "{indent}{} {}{message}", note.severity, note.code);
    if !note.remedy.is_empty() {
        let _ = writeln!(out, "{indent}  remedy: {}", note.remedy);
    }
}

fn line(link: &Link) -> String {
    let day = |time: UnixTime| rfc3339(time).chars().take(10).collect::<String>();
    let Link { place, subject, key, not_before, not_after, added_from, .. } = link;
    let place = match added_from {
        Some(_) => "added".to_owned(),
        None => place.to_string(),
    };
    let origin = added_from.as_ref().map(|origin| format!(", from {origin}")).unwrap_or_default();
    format!("{place}: {subject}, {key}, {} to {}{origin}", day(*not_before), day(*not_after))
}
