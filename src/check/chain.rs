//! What `handfast chain` says: one chain as clients see it, without Kubernetes.
//!
//! `Chain + findings + name + time ──judge──▶ ChainReport ──▶ tree, or JSON`
//!
//! Pure. The JSON form is an interface: fields are only ever added.

use rustls::pki_types::UnixTime;
use serde::Serialize;

use super::{Verdict, write_total};
use crate::tls::about::sentence;
use crate::tls::chain::{Chain, Finding, Link, Name, Note, OutlineEnd};
use crate::tls::{Severity, rfc3339, sha256_hex};

/// The result. Serialises to the JSON that `--output json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// True if a strict client would accept the chain by RFC 5280 and RFC 9525 alone.
    pub accepted: bool,
    /// The worst of all findings. Severity does not decide whether the chain is accepted.
    pub verdict: Verdict,
    /// The time that it is judged at (RFC 3339, UTC).
    pub at: String,
    /// The name that it is judged for, if one was given.
    pub name: Option<String>,
    /// Subject alternative names of the leaf.
    pub names: Vec<String>,
    /// SHA-256 of the leaf, if there is one.
    pub fingerprint: Option<String>,
    /// The chain that would be served, then what stands beside it.
    pub certificates: Vec<CertificateReport>,
    /// Whom the chain leads to: `public`, `operator` or `secret`; or null.
    pub anchor: Option<AnchorReport>,
    /// Everything that is wrong.
    pub findings: Vec<ChainFinding>,
    #[serde(skip)]
    tree: String,
}

/// One certificate of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    /// Its place in the file, from 1; what was added comes behind the last block.
    pub place: usize,
    /// Where it was found, if it does not stand in the file and was added to the chain; else null.
    pub added_from: Option<String>,
    /// `leaf`, `intermediate`, `cross-sign`, `root` or `unrelated`.
    pub role: &'static str,
    /// Its subject, for people.
    pub subject: String,
    /// Its issuer, for people.
    pub issuer: String,
    /// Start of validity (RFC 3339, UTC).
    pub not_before: String,
    /// End of validity (RFC 3339, UTC).
    pub not_after: String,
    /// Type and size of its key.
    pub key: String,
}

/// The trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorReport {
    /// Its subject, for people.
    pub subject: String,
    /// `public`, `operator` or `secret`.
    pub source: &'static str,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainFinding {
    /// The stable kebab-case word for what is wrong.
    pub code: &'static str,
    /// `info`, `warning` or `error`.
    pub severity: &'static str,
    /// True if a strict client refuses the chain because of it.
    pub refused: bool,
    /// Place of the certificate in the file, from 1; null if it is about the whole.
    pub certificate: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Judges a chain for a name and a time; `findings` are those that came of loading it.
pub fn judge(chain: Option<&Chain>, mut findings: Vec<Finding>, name: Option<&Name>, at: UnixTime) -> ChainReport {
    if let Some(chain) = chain {
        findings.extend(chain.dated(at).findings);
        findings.extend(name.and_then(|name| chain.covers(name).err()));
    }
    // Stable: within one severity the order of discovery stays.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    let accepted = chain.is_some() && !findings.iter().any(Finding::is_refused);
    let verdict = Verdict::of(findings.iter().map(Finding::severity).max());
    let findings: Vec<ChainFinding> = findings.iter().map(|finding| told(finding, chain)).collect();
    let outline = chain.map(|chain| chain.outline());
    let links = || outline.into_iter().flat_map(|outline| outline.path.iter().chain(&outline.beside));
    let anchor = outline.and_then(|outline| match &outline.end {
        OutlineEnd::Anchor { subject, source } => {
            Some(AnchorReport { subject: subject.to_string(), source: source.code() })
        }
        OutlineEnd::Missing { .. }
        | OutlineEnd::SelfSigned
        | OutlineEnd::UnknownRoot { .. }
        | OutlineEnd::Withdrawn { .. } => None,
    });
    let notes: Vec<Note<'_>> = findings
        .iter()
        .map(|finding| Note {
            place: finding.certificate,
            severity: finding.severity,
            code: finding.code,
            message: &finding.message,
            remedy: &finding.remedy,
        })
        .collect();
    let tree = match outline {
        Some(outline) => outline.tree(&notes, ""),
        None => notes
            .iter()
            .map(|note| format!("{} {}: {}\n  remedy: {}\n", note.severity, note.code, note.message, note.remedy))
            .collect(),
    };
    ChainReport {
        accepted,
        verdict,
        at: rfc3339(at),
        name: name.map(Name::to_string),
        names: chain.map(Chain::names).unwrap_or_default(),
        fingerprint: chain.and_then(|chain| chain.certificates().first()).map(|leaf| sha256_hex(leaf)),
        certificates: links().map(certificate).collect(),
        anchor,
        tree,
        findings,
    }
}

fn told(finding: &Finding, chain: Option<&Chain>) -> ChainFinding {
    let is_certificate = |place: &usize| {
        let outline = chain.map(|chain| chain.outline());
        outline.is_some_and(|outline| outline.path.iter().chain(&outline.beside).any(|link| link.place == *place))
    };
    ChainFinding {
        code: finding.code(),
        severity: finding.severity().code(),
        refused: finding.is_refused(),
        certificate: finding.place().filter(is_certificate),
        message: sentence(finding),
        remedy: finding.remedy(),
    }
}

fn certificate(link: &Link) -> CertificateReport {
    CertificateReport {
        place: link.place,
        added_from: link.added_from.as_ref().map(ToString::to_string),
        role: link.role.code(),
        subject: link.subject.to_string(),
        issuer: link.issuer.to_string(),
        not_before: rfc3339(link.not_before),
        not_after: rfc3339(link.not_after),
        key: link.key.to_string(),
    }
}

impl ChainReport {
    /// The same about a chain that a server sends, which stands in no file.
    pub fn of_server(mut self) -> Self {
        const FILE: &str = "tls.crt";
        const SENT: &str = "what the server sends";
        self.tree = self.tree.replace(FILE, SENT);
        for finding in &mut self.findings {
            finding.message = finding.message.replace(FILE, SENT);
            finding.remedy = finding.remedy.replace(FILE, SENT);
        }
        self
    }

    /// For people: the tree, and nothing else.
    pub fn tree(&self) -> &str {
        &self.tree
    }

    /// For people: the tree, then the verdict.
    pub fn table(&self) -> String {
        let mut text = self.tree.clone();
        if !self.names.is_empty() {
            text.push_str(&format!("\nnames: {}\n", self.names.join(", ")));
        }
        let count =
            |severity: Severity| self.findings.iter().filter(|finding| finding.severity == severity.code()).count();
        let verdict = self.verdict_words();
        text.push('\n');
        write_total(&mut text, &verdict, &[], count(Severity::Error), count(Severity::Warning), &self.at);
        text
    }

    /// `accepted for shop.example`, or `refused` and because of what.
    pub fn verdict_words(&self) -> String {
        let mut verdict = if self.accepted { "accepted" } else { "refused" }.to_owned();
        if let Some(name) = &self.name {
            verdict.push_str(&format!(" for {name}"));
        }
        // Severity does not tell: a warning may refuse, and an error may not.
        let mut causes: Vec<&str> = Vec::new();
        for finding in self.findings.iter().filter(|finding| finding.refused) {
            if !causes.contains(&finding.code) {
                causes.push(finding.code);
            }
        }
        if !causes.is_empty() {
            verdict.push_str(&format!(" because of {}", causes.join(", ")));
        }
        verdict
    }
}
