//! The meaning of every code, effect and annotation: `handfast explain`, and docs/findings.md.
//!
//! `findings, problems, handshake failures ──topics──▶ text`
//!
//! Pure. Nothing is described here: the tables of the codes are the one place, and this puts them together.

use std::fmt::Write as _;

use crate::api::annotations::{self, OWN, TABLE, edit_distance};
use crate::check::{clients, traffic};
use crate::compile::{Effect, Problem};
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
    /// How bad it is.
    pub weight: &'static str,
    /// What it means, in whole sentences.
    pub meaning: &'static str,
    /// Who must act.
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
            Kind::Handshake => "Failed handshakes",
            Kind::Object => "Objects and manifests",
            Kind::Outcome => "Outcomes that are counted but are not failures",
            Kind::Server => "Probed servers",
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
    let mut objects: Vec<Topic> = Problem::all().chain([&traffic::ANSWERS_503]).map(of(Kind::Object)).collect();
    objects.sort_by_key(|topic| topic.code);
    let clients = clients::ABOUT.into_iter().chain([&probe::REFUSED]).map(of(Kind::Client));
    let servers = findings::ABOUT.iter().copied().map(of(Kind::Server));
    let failures = Reason::ALL.iter().map(handshake);
    let outcomes = shadow::ABOUT.iter().chain([&reason::PROBE]).map(of(Kind::Outcome));
    chains.chain(objects).chain(clients).chain(servers).chain(failures).chain(outcomes).collect()
}

/// Everything about a code, an effect or an annotation; `None` if there is none of this name. A code may be written as in
/// Events (`KeyMismatch`), and as the counter of shadow policies has it (`lost-no-shared-version`); an annotation with
/// or without its prefix.
pub fn explain(name: &str) -> Option<String> {
    let word = kebab_case(name);
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
            "{code} ({})\n\n{meaning}\n\n{about}who must act: {fault}\nwhat to do: {remedy}\n",
            kind.title().to_lowercase()
        )
    };
    let effect = Effect::ALL.iter().find(|effect| effect.code() == word);
    let effect = effect.map(|effect| format!("{} (effect of a finding)\n\n{}\n", effect.code(), effect.meaning()));
    let texts: Vec<String> = found.iter().map(one).chain(effect).chain(annotations::explain(name.trim())).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Every code with the first sentence about it, every effect, and every annotation.
pub fn list() -> String {
    let topics = topics();
    let effects = Effect::ALL.map(|effect| (effect.code(), effect.meaning()));
    let width = topics.iter().map(|topic| topic.code.len()).max().unwrap_or_default();
    let mut out = String::new();
    let mut line = |heading: Option<&str>, code: &str, meaning: &str| {
        if let Some(heading) = heading {
            let _ = writeln!(out, "{}{heading}", if out.is_empty() { "" } else { "\n" });
        }
        let first = meaning.split_inclusive(". ").next().unwrap_or(meaning).trim_end().trim_end_matches('.');
        let _ = writeln!(out, "  {code:width$}  {first}");
    };
    let mut last = None;
    for Topic { kind, code, meaning, .. } in topics {
        let is_new = last.replace(kind) != Some(kind);
        line(is_new.then_some(kind.title()), code, meaning);
    }
    for (at, (code, meaning)) in effects.into_iter().enumerate() {
        line((at == 0).then_some("Effects of findings"), code, meaning);
    }
    for (heading, rows) in [
        ("Annotations of Ingresses (nginx.ingress.kubernetes.io/ or handfast.dev/)", TABLE),
        ("Annotations of Ingresses (handfast.dev/ only)", OWN),
    ] {
        for (at, row) in rows.iter().enumerate() {
            line((at == 0).then_some(heading), row.name, row.doc);
        }
    }
    let _ = writeln!(out, "\nhandfast explain NAME says more.");
    out
}

/// The names that are written most alike, best first, for one that does not exist.
pub fn similar(name: &str) -> Vec<&'static str> {
    const MOST: usize = 5;
    let word = kebab_case(name.rsplit_once('/').map_or(name, |(_, short)| short));
    let limit = (word.len() / 3).min(4);
    let has_part = |known: &str| known.split('-').any(|part| part.len() > 3 && word.contains(part));
    let score = |known: &'static str| {
        let distance = edit_distance(&word, known);
        (distance <= limit || has_part(known)).then_some((distance, known))
    };
    let mut scored: Vec<(usize, &str)> = names().filter_map(score).collect();
    scored.sort_unstable();
    scored.dedup();
    // What is written almost the same is meant; words in common are for when nothing is.
    if scored.first().is_some_and(|(distance, _)| *distance <= limit) {
        scored.retain(|(distance, _)| *distance <= limit);
    }
    scored.into_iter().map(|(_, known)| known).take(MOST).collect()
}

/// Everything that has an explanation.
fn names() -> impl Iterator<Item = &'static str> {
    let codes = topics().into_iter().map(|topic| topic.code);
    let effects = Effect::ALL.into_iter().map(Effect::code);
    codes.chain(effects).chain(TABLE.iter().chain(OWN).map(|row| row.name))
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
        assert!(explain("unknown-host").unwrap().contains("who must act: client"));
        assert_eq!(explain("no-such-code"), None);
        let lost = explain("lost-no-shared-version").unwrap();
        assert!(lost.starts_with("lost (") && lost.contains("\nno-shared-version ("), "{lost}");
        assert_eq!(explain("lost-key-mismatch"), None);
        for word in ["failing", "gained", "kept", "probe"] {
            assert!(explain(word).unwrap().contains("who must act: nobody"), "{word}");
        }
    }

    #[test]
    fn effects_and_annotations_are_explained_too() {
        let refused = explain("host-refused").unwrap();
        assert!(refused.starts_with("host-refused (failed handshakes)"), "{refused}");
        assert!(refused.contains("\nhost-refused (effect of a finding)\n"), "{refused}");
        assert!(explain("RouteDropped").unwrap().contains("answer 503"));
        let rewrite = explain("nginx.ingress.kubernetes.io/rewrite-target").unwrap();
        assert!(rewrite.starts_with("rewrite-target (annotation of an Ingress)"), "{rewrite}");
        // A name that is both is explained as both.
        assert!(explain("canary").unwrap().contains("\ncanary (annotation of an Ingress)\n"));
    }

    #[test]
    fn near_misses_find_the_name_that_is_meant() {
        for (wrong, meant) in [
            ("mismatch", "key-mismatch"),
            ("key-missmatch", "key-mismatch"),
            ("host-refussed", "host-refused"),
            ("last-god", "last-good"),
            ("rewrite-targt", "rewrite-target"),
            ("nginx.ingress.kubernetes.io/ssl-redirct", "ssl-redirect"),
            ("tls-polcy", "tls-policy"),
        ] {
            assert_eq!(similar(wrong).first(), Some(&meant), "{wrong}: {:?}", similar(wrong));
        }
        assert_eq!(similar("xyzzy"), [""; 0]);
        assert!(similar("certificate").len() <= 5);
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
        assert!(names().all(|name| list.contains(&format!("\n  {name} "))));
    }
}
