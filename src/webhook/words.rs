//! Diagnostics as lines that `kubectl` shows.
//!
//! `diagnostics ──worst first──▶ lines, each cut and printable ──fit──▶ as many as the API server passes on`
//!
//! The API server passes on about 4096 characters of warnings, and cuts each to 256 if they are more. What users wrote
//! is only ever quoted: control characters and characters that turn text around are shown by their numbers, so that a
//! line is one line on every terminal.

use std::collections::HashMap;

use crate::compile::{Diagnostic, Effect, ObjectKey, Problem, Severity, Users};
use crate::snapshot::HostName;
use crate::tls::about::sentence;
use crate::tls::chain::Finding;

/// The longest line, in characters.
pub const LONGEST: usize = 256;

/// What all lines may come to, in characters; the API server's own limit is 4096.
const TOTAL: usize = 4_000;

/// What a denial may come to, in characters.
const DENIAL: usize = 2_000;

/// One problem of one object, wherever in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// With the field that comes first, and all hosts.
    pub diagnostic: Diagnostic,
    /// How many further fields have the same.
    pub elsewhere: usize,
}

/// Tells the same problem once, puts the worst first, and leaves out what is for information only.
pub fn told(diagnostics: Vec<Diagnostic>) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    let mut places: HashMap<(ObjectKey, &'static str, String, Effect), usize> = HashMap::new();
    for diagnostic in diagnostics {
        if diagnostic.severity() == Severity::Info {
            continue;
        }
        let Diagnostic { subject, problem, effect, .. } = &diagnostic;
        let place = places.entry((subject.clone(), problem.code(), problem.to_string(), *effect)).or_insert(all.len());
        match all.get_mut(*place) {
            Some(told) => {
                told.elsewhere += 1;
                told.diagnostic.hosts.extend(diagnostic.hosts);
            }
            None => all.push(Told { diagnostic, elsewhere: 0 }),
        }
    }
    for told in &mut all {
        told.diagnostic.hosts.sort_unstable();
        told.diagnostic.hosts.dedup();
    }
    all.sort_by_key(|told| {
        let severity = match told.diagnostic.severity() {
            Severity::Error => 0,
            Severity::Warning => 1,
            Severity::Info => 2,
        };
        let is_harmless = matches!(told.diagnostic.effect, Effect::None | Effect::Repaired);
        (severity, is_harmless)
    });
    all
}

/// One problem: how bad, which object and field, what is wrong, what that does to which hosts, and what to do.
pub fn line(told: &Told) -> String {
    let Diagnostic { subject, field, problem, effect, hosts } = &told.diagnostic;
    let severity = told.diagnostic.severity();
    let place = if field.is_empty() { String::new() } else { format!(" {field}") };
    let elsewhere = match told.elsewhere {
        0 => String::new(),
        1 => " (and 1 more place)".to_owned(),
        count => format!(" (and {count} more places)"),
    };
    let mut text = format!("{severity} {}: {subject}{place}{elsewhere}: {}", problem.code(), sentence(problem));
    match (effect, hosts.as_slice()) {
        (Effect::None, _) => {}
        (effect, []) => text.push_str(&format!(" Effect: {}.", effect.code())),
        (effect, hosts) => text.push_str(&format!(" Effect: {} ({}).", effect.code(), list(hosts, hosts.len()))),
    }
    text.push_str(&format!(" What to do: {}.", problem.remedy()));
    shown(&text)
}

/// The first few of some hosts, and how many more there are.
fn list(hosts: &[HostName], count: usize) -> String {
    const NAMED: usize = 2;
    let named: Vec<&str> = hosts.iter().take(NAMED).map(HostName::label).collect();
    match count.saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// That an object which is deleted is still used; `None` if it is not.
pub fn still_used(key: &ObjectKey, users: &Users) -> Option<String> {
    let mut by: Vec<String> = Vec::new();
    match users.count {
        0 => {}
        1 => by.push(format!("host {}", list(&users.hosts, 1))),
        count => by.push(format!("hosts {}", list(&users.hosts, count))),
    }
    by.extend(users.policies.first().map(|policy| match users.policies.len() {
        1 => policy.to_string(),
        _ => format!("{policy} and others"),
    }));
    if users.is_default {
        by.push("the controller as its default".to_owned());
    }
    (!by.is_empty()).then(|| shown(&format!("warning still-used: {key} is still used by {}", by.join(", by "))))
}

/// Why an object is not let in.
pub fn denial(lines: &[String]) -> String {
    let mut text = String::from("Handfast cannot serve this as written:");
    let mut left = lines.len();
    for line in lines {
        if text.chars().count() + line.chars().count() > DENIAL {
            break;
        }
        text.push_str("\n- ");
        text.push_str(line);
        left -= 1;
    }
    if left > 0 {
        text.push_str(&format!("\n- and {left} more"));
    }
    text
}

/// As many lines as the API server passes on; the last one says how many more there are.
pub fn fit(lines: Vec<String>) -> Vec<String> {
    let size = |line: &String| line.chars().count();
    if lines.iter().map(size).sum::<usize>() <= TOTAL {
        return lines;
    }
    let count = lines.len();
    let mut kept = Vec::new();
    let mut total = 0;
    for line in lines {
        total += size(&line);
        // Room for the last line.
        if total > TOTAL - 100 {
            break;
        }
        kept.push(line);
    }
    let more = count - kept.len();
    kept.push(format!("handfast: and {more} more; `handfast check` shows all of them"));
    kept
}

/// Text for one line of a terminal, whoever wrote it.
pub fn shown(text: &str) -> String {
    let mut line = String::from("handfast: ");
    let mut length = line.len();
    for character in text.chars() {
        let piece = match is_printable(character) {
            true => character.to_string(),
            false => character.escape_unicode().to_string(),
        };
        length += piece.chars().count();
        if length >= LONGEST {
            line.push('…');
            break;
        }
        line.push_str(&piece);
    }
    line
}

/// Neither a control character nor one that has no place of its own on the screen, or turns what follows around.
fn is_printable(character: char) -> bool {
    let is_invisible = matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !character.is_control() && !is_invisible
}

/// Whether an object may be kept out for this. What refers to something that does not exist may come before it: the
/// Secret of a certificate that is still to be issued does, and cert-manager's temporary certificate stands in for it.
pub fn is_reason_to_deny(diagnostic: &Diagnostic) -> bool {
    let waits = matches!(
        diagnostic.problem,
        Problem::Chain(Finding::TemporaryCertificate)
            | Problem::NoDefaultCertificate
            | Problem::SecretNotFound { .. }
            | Problem::ServiceNotFound { .. }
            | Problem::TlsPolicyNotFound { .. }
    );
    diagnostic.severity() == Severity::Error && !waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Kind;

    fn diagnostic(problem: Problem, effect: Effect, hosts: &[&str]) -> Diagnostic {
        let subject = ObjectKey::new(Kind::Ingress, "shop", "web");
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Diagnostic { subject, field: "spec".into(), problem, effect, hosts }
    }

    #[test]
    fn a_line_says_what_where_and_what_to_do_and_is_one_line_whatever_it_quotes() {
        let found = diagnostic(
            Problem::SecretNotFound { secret: "shop/tls".into(), redirected: false },
            Effect::HostRefused,
            &["a.example", "b.example", "c.example"],
        );
        let text = line(&Told { diagnostic: found, elsewhere: 0 });
        assert!(text.starts_with("handfast: error secret-not-found: Ingress shop/web spec: Secret shop/tls does not exist. Effect: host-refused (a.example, b.example and 1 more). What to do: "), "{text}");
        assert_eq!(shown("a\nb\u{1b}[31m\u{202e}ü\0"), "handfast: a\\u{a}b\\u{1b}[31m\\u{202e}ü\\u{0}");
        let long = shown(&"ä".repeat(10_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (LONGEST, true));
        assert!(shown(&"\n".repeat(10_000)).chars().count() <= LONGEST);
    }

    #[test]
    fn more_than_the_api_server_passes_on_is_counted() {
        let lines = |count: usize| vec!["x".repeat(200); count];
        assert_eq!(fit(lines(20)).len(), 20);
        let cut = fit(lines(21));
        assert!(cut.iter().map(|line| line.chars().count()).sum::<usize>() < 4_096);
        assert_eq!(cut.last().unwrap(), "handfast: and 2 more; `handfast check` shows all of them");
        let text = denial(&lines(100));
        assert!(text.chars().count() < 2_100 && text.ends_with("\n- and 91 more"), "{text}");
    }

    #[test]
    fn what_may_come_later_is_no_reason_to_deny_and_errors_come_first() {
        let missing = diagnostic(Problem::ServiceNotFound { service: "x".into() }, Effect::RouteDropped, &[]);
        let unknown = diagnostic(
            Problem::UnknownAnnotation { annotation: "handfast.dev/x".into(), nearest: None },
            Effect::None,
            &[],
        );
        let bad = diagnostic(Problem::BadTlsPolicy { error: "x".into() }, Effect::PolicyHeld, &[]);
        assert_eq!([&missing, &unknown, &bad].map(is_reason_to_deny), [false, false, true]);
        let temporary = diagnostic(Problem::Chain(Finding::TemporaryCertificate), Effect::LastGood, &[]);
        assert!(!is_reason_to_deny(&temporary), "cert-manager has to be able to write it");
        let endpoints = diagnostic(Problem::NoEndpoints { port: "80".into() }, Effect::RouteDropped, &[]);
        let again = Diagnostic { field: "status".into(), hosts: vec!["a.example".parse().unwrap()], ..missing.clone() };
        let all = told(vec![endpoints, unknown.clone(), bad.clone(), missing.clone(), again.clone()]);
        let missing = Diagnostic { hosts: again.hosts, ..missing };
        let told = |diagnostic, elsewhere| Told { diagnostic, elsewhere };
        assert_eq!(all, [told(bad, 0), told(missing, 1), told(unknown, 0)]);
        assert!(line(&all[1]).contains(" Ingress shop/web spec (and 1 more place): Service x does not exist"));
    }
}
