//! What every code means: `handfast explain`, and docs/findings.md.
//!
//! `findings, problems, handshake failures ──topics──▶ text`
//!
//! Pure. Nothing is described here: the tables beside each code are the one place, and this puts them together.

use std::fmt::Write as _;

use crate::check::clients;
use crate::compile::Problem;
use crate::probe::{clients as probe, findings};
use crate::tls::about::About;
use crate::tls::chain::Finding;
use crate::tls::reason::{self, Reason};
use crate::tls::shadow;

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Where it comes up.
    pub kind: Kind,
    /// The stable kebab-case word.
    pub code: &'static str,
    /// How bad it is, or who is to blame for a handshake.
    pub weight: &'static str,
    /// What it is and what comes of it, in whole sentences.
    pub meaning: &'static str,
    /// Who has to act.
    pub fault: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Where a code comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// About a certificate chain or its key.
    Chain,
    /// About well-known clients that cannot connect.
    Client,
    /// About a handshake that failed.
    Handshake,
    /// About objects: Ingresses, Services, Secrets, files.
    Object,
    /// About what is counted beside failures.
    Outcome,
    /// About a server that was probed.
    Server,
}

impl Kind {
    /// The heading of its codes.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Chain => "Certificates, chains and keys",
            Kind::Client => "Clients that cannot connect",
            Kind::Handshake => "Handshakes that failed",
            Kind::Object => "Objects and manifests",
            Kind::Outcome => "Outcomes that are counted and are no failures",
            Kind::Server => "Servers that are probed",
        }
    }
}

/// Every code, by kind and then by code.
pub fn topics() -> Vec<Topic> {
    let of = |kind: Kind| {
        move |about: &About| {
            let About { code, severity, meaning, fault, remedy } = *about;
            Topic { kind, code, weight: severity.code(), meaning, fault, remedy }
        }
    };
    let handshake = |reason: &Reason| Topic {
        kind: Kind::Handshake,
        code: reason.label(),
        weight: "handshake",
        meaning: reason.meaning(),
        fault: reason.blame().label(),
        remedy: reason.remedy(),
    };
    let chains = Finding::all().map(of(Kind::Chain));
    let objects = Problem::all().map(of(Kind::Object));
    let clients = clients::ABOUT.into_iter().chain([&probe::REFUSED]).map(of(Kind::Client));
    let servers = findings::ABOUT.iter().copied().map(of(Kind::Server));
    let failures = Reason::ALL.iter().map(handshake);
    let outcomes = shadow::ABOUT.iter().chain([&reason::PROBE]).map(of(Kind::Outcome));
    chains.chain(objects).chain(clients).chain(servers).chain(failures).chain(outcomes).collect()
}

/// Everything about a code; `None` if there is no such code. A code may be written as in Events (`KeyMismatch`), and as the
/// counter of shadow policies has it (`lost-no-shared-version`).
pub fn explain(code: &str) -> Option<String> {
    let word = kebab_case(code);
    let lost = word.strip_prefix("lost-").unwrap_or(&word);
    let is_meant = |topic: &Topic| topic.code == lost && (lost == word || topic.kind == Kind::Handshake);
    let found: Vec<Topic> = topics().into_iter().filter(is_meant).collect();
    if lost != word && !found.is_empty() {
        return Some([explain("lost")?, explain(lost)?].join("\n"));
    }
    let one = |topic: &Topic| {
        let Topic { kind, code, weight, meaning, fault, remedy } = topic;
        let about = match kind {
            Kind::Chain | Kind::Client | Kind::Object | Kind::Server => format!("severity: {weight}\n"),
            Kind::Handshake | Kind::Outcome => String::new(),
        };
        format!(
            "{code} ({})\n\n{meaning}\n\n{about}whose fault: {fault}\nwhat to do: {remedy}\n",
            kind.title().to_lowercase()
        )
    };
    let texts: Vec<String> = found.iter().map(one).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Every code with the first sentence about it.
pub fn list() -> String {
    let topics = topics();
    let width = topics.iter().map(|topic| topic.code.len()).max().unwrap_or_default();
    let mut out = String::new();
    let mut last = None;
    for Topic { kind, code, meaning, .. } in topics {
        if last.replace(kind) != Some(kind) {
            let _ = writeln!(out, "{}{}", if out.is_empty() { "" } else { "\n" }, kind.title());
        }
        let first = meaning.split_inclusive(". ").next().unwrap_or(meaning).trim_end().trim_end_matches('.');
        let _ = writeln!(out, "  {code:width$}  {first}");
    }
    let _ = writeln!(out, "\nhandfast explain CODE says more.");
    out
}

/// Codes that are written most alike, for a code that does not exist.
pub fn similar(code: &str) -> Vec<&'static str> {
    let word = kebab_case(code);
    let mut codes: Vec<&str> = topics().iter().map(|topic| topic.code).collect();
    codes.retain(|known| known.split('-').any(|part| part.len() > 3 && word.contains(part)));
    codes.dedup();
    codes
}

/// `KeyMismatch` to `key-mismatch`; kebab-case stays as it is.
fn kebab_case(code: &str) -> String {
    let mut word = String::new();
    for c in code.trim().chars() {
        if c.is_ascii_uppercase() && !word.is_empty() && !word.ends_with('-') {
            word.push('-');
        }
        word.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_every_way_of_writing_them() {
        for code in ["key-mismatch", "KeyMismatch", "key_mismatch", " Key-Mismatch "] {
            let text = explain(code).unwrap();
            assert!(text.starts_with("key-mismatch (") && text.contains("what to do: put the key"), "{text}");
        }
        assert!(explain("unknown-host").unwrap().contains("whose fault: client"));
        assert_eq!(explain("no-such-code"), None);
        let lost = explain("lost-no-shared-version").unwrap();
        assert!(lost.starts_with("lost (") && lost.contains("\nno-shared-version ("), "{lost}");
        assert_eq!(explain("lost-key-mismatch"), None);
        for word in ["failing", "gained", "kept", "probe"] {
            assert!(explain(word).unwrap().contains("whose fault: nobody"), "{word}");
        }
        assert!(similar("mismatch").contains(&"key-mismatch"));
    }

    #[test]
    fn every_topic_is_whole() {
        for Topic { code, meaning, fault, remedy, .. } in topics() {
            assert!(meaning.ends_with(['.', ')']) && !fault.is_empty() && !remedy.ends_with('.'), "{code}");
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{code}");
        }
    }

    #[test]
    fn the_list_names_every_code_under_its_heading() {
        let list = list();
        for kind in [Kind::Chain, Kind::Object, Kind::Client, Kind::Server, Kind::Handshake, Kind::Outcome] {
            assert!(list.contains(kind.title()));
        }
        assert!(topics().iter().all(|topic| list.contains(&format!("\n  {} ", topic.code))));
    }
}
