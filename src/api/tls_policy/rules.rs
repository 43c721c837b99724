//! What the types of a policy cannot say: limits, forms of text, and which values go together.
//!
//! `Rule ──▶ a CEL rule of the schema, for API servers`
//! `     └─▶ the same in Rust, for directories of manifests`
//!
//! Every list and text has a limit, because an API server refuses rules whose cost it cannot bound. A rule is here only
//! if what it refuses is certainly wrong: whether a policy can be served is for the compiler to say, which knows the
//! annotations and the certificates.

use std::sync::LazyLock;

use super::{FindingAction, Preset, ProtocolVersion, TlsPolicySpec};
use crate::api::annotations::is_label;
use crate::quote::shown;
use crate::tls::chain::Finding;

/// Items of a list, entries of a map.
pub(super) const LIST_ITEMS: u32 = 64;
/// Characters of one entry of cipherSuites, which may be a whole list for OpenSSL.
pub(super) const CIPHERS_LENGTH: u32 = 2_048;
/// Characters of one entry of groups, which may be a whole list for nginx.
pub(super) const GROUP_LENGTH: u32 = 256;
/// Application protocols.
pub(super) const ALPN_ITEMS: u32 = 2;
/// Characters of a Secret's name (RFC 1123).
pub(super) const NAME_LENGTH: u32 = 253;
/// Ten years. More is a mistake of the unit.
pub(super) const HSTS_MAX_AGE: i64 = 315_360_000;
/// Conditions of a status.
pub(super) const CONDITION_ITEMS: u32 = 8;

/// The least maxAge that hstspreload.org takes: a year.
const PRELOAD_MAX_AGE: i64 = 31_536_000;

pub(super) const CIPHERS_PATTERN: &str = "^[A-Za-z0-9_.+!@=:;, -]+$";
pub(super) const GROUP_PATTERN: &str = "^[A-Za-z0-9_.:/?*, -]+$";
pub(super) const NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A form of text.
pub(super) struct Pattern {
    regex: &'static str,
    /// The same without regular expressions.
    pub(super) holds: fn(&str) -> bool,
    /// How the text should be, after "and".
    pub(super) wanted: &'static str,
}

/// The pattern with this regular expression.
pub(super) fn pattern(regex: &str) -> &'static Pattern {
    let found = PATTERNS.iter().find(|pattern| pattern.regex == regex);
    found.expect("invariant: the schema has no other patterns")
}

static PATTERNS: [Pattern; 3] = [
    Pattern {
        regex: CIPHERS_PATTERN,
        holds: |text| consists_of(text, "_.+!@=:;, -"),
        wanted: "must be names of cipher suites, joined with ':'",
    },
    Pattern {
        regex: GROUP_PATTERN,
        holds: |text| consists_of(text, "_.:/?*, -"),
        wanted: "must be the name of a group, such as X25519",
    },
    Pattern {
        regex: NAME_PATTERN,
        holds: |text| text.split('.').all(is_label),
        wanted: "must be a name of lower-case letters, digits, '-' and '.'",
    },
];

fn consists_of(text: &str, others: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// Values that do not go together.
pub(super) struct Rule {
    /// The field below `spec` whose schema has the rule; empty for `spec` itself.
    pub(super) at: &'static str,
    /// True if all is well, where `self` is the value at `at`.
    pub(super) cel: String,
    /// The field to blame, below `at`; empty for `at` itself.
    pub(super) field: &'static str,
    /// What is wrong and what to write instead.
    pub(super) message: String,
    /// The same as `cel`, the other way round: what breaks the rule, in detail where there is more to say than the
    /// message does.
    pub(super) broken: fn(&TlsPolicySpec) -> Option<String>,
}

impl Rule {
    /// Where the fault is, as the API server writes it.
    pub(super) fn path(&self) -> String {
        let parts = ["spec", self.at, self.field];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }
}

/// All of them, by place.
pub(super) static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    vec![
        Rule {
            at: "",
            cel: "!(has(self.minVersion) && has(self.maxVersion) && self.minVersion == 'TLSv1.3' && \
                  self.maxVersion == 'TLSv1.2')"
                .into(),
            field: "minVersion",
            message: "minVersion is newer than maxVersion: swap them".into(),
            broken: |spec| {
                said(
                    (spec.min_version, spec.max_version)
                        == (Some(ProtocolVersion::Tls13), Some(ProtocolVersion::Tls12)),
                )
            },
        },
        Rule {
            at: "",
            cel: "!(has(self.preset) && self.preset == 'modern' && !has(self.minVersion) && has(self.maxVersion) && \
                  self.maxVersion == 'TLSv1.2')"
                .into(),
            field: "maxVersion",
            message: "preset modern begins with TLSv1.3, so maxVersion TLSv1.2 leaves no version: use preset \
                      intermediate"
                .into(),
            broken: |spec| {
                said(
                    (spec.preset, spec.min_version, spec.max_version)
                        == (Some(Preset::Modern), None, Some(ProtocolVersion::Tls12)),
                )
            },
        },
        Rule {
            at: "",
            cel: "!(has(self.minVersion) && self.minVersion == 'TLSv1.3' && has(self.cipherSuites) && \
                  self.cipherSuites.all(suite, suite.startsWith('ECDHE-') || suite.startsWith('TLS_ECDHE_')) && \
                  !self.cipherSuites.exists(suite, suite.contains('TLS_AES_') || suite.contains('TLS_CHACHA20_')))"
                .into(),
            field: "cipherSuites",
            message: "cipherSuites names only suites of TLS 1.2, and minVersion is TLSv1.3: add suites of TLS 1.3 \
                      (TLS_AES_128_GCM_SHA256), or remove cipherSuites"
                .into(),
            broken: |spec| {
                let suites = spec.cipher_suites.as_deref().unwrap_or_default();
                let tls12 = |suite: &String| suite.starts_with("ECDHE-") || suite.starts_with("TLS_ECDHE_");
                said(
                    spec.min_version == Some(ProtocolVersion::Tls13)
                        && spec.cipher_suites.is_some()
                        && suites.iter().all(tls12)
                        && !suites.iter().any(|suite| suite.contains("TLS_AES_") || suite.contains("TLS_CHACHA20_")),
                )
            },
        },
        Rule {
            at: "hsts",
            cel: "!(has(self.preload) && self.preload) || (has(self.includeSubDomains) && self.includeSubDomains)"
                .into(),
            field: "includeSubDomains",
            message: "preload needs includeSubDomains (hstspreload.org): set it to true, or remove preload".into(),
            broken: |spec| said(spec.hsts.is_some_and(|hsts| hsts.preload && !hsts.include_sub_domains)),
        },
        Rule {
            at: "hsts",
            cel: format!("!(has(self.preload) && self.preload) || self.maxAge >= {PRELOAD_MAX_AGE}"),
            field: "maxAge",
            message: format!(
                "preload needs a maxAge of at least {PRELOAD_MAX_AGE}, a year (hstspreload.org): raise it, or \
                 remove preload"
            ),
            broken: |spec| said(spec.hsts.is_some_and(|hsts| hsts.preload && hsts.max_age < PRELOAD_MAX_AGE)),
        },
        Rule {
            at: "findingActions",
            cel: format!("self.all(code, code in [{}])", quoted(finding_codes())),
            field: "",
            message: "a code here is not a finding about certificates: `handfast explain` lists them".into(),
            broken: |spec| {
                let code = spec.finding_actions.keys().find(|code| finding_codes().all(|known| known != *code))?;
                let code_shown: String = shown(code).chars().take(60).collect();
                let advice = super::nearest(code, finding_codes()).map(|name| format!(", do you mean {name}?"));
                Some(format!(" ({code_shown:?}{})", advice.unwrap_or_default()))
            },
        },
        Rule {
            at: "findingActions",
            cel: format!(
                "self.all(code, !(code in [{}]) || self[code] != 'serve')",
                quoted(WITHOUT_CREDENTIAL.into_iter())
            ),
            field: "",
            message: format!(
                "serve is not possible with {}, because nothing can be served then: write holdLastGood or reject",
                WITHOUT_CREDENTIAL.join(", ")
            ),
            broken: |spec| {
                let serves = |code: &&str| spec.finding_actions.get(*code) == Some(&FindingAction::Serve);
                said(WITHOUT_CREDENTIAL.iter().any(serves))
            },
        },
    ]
});

/// Findings with which there is no certificate and key to serve.
const WITHOUT_CREDENTIAL: [&str; 7] =
    ["encrypted-key", "key-mismatch", "no-certificate", "no-key", "several-keys", "unparsable-key", "unsupported-key"];

fn finding_codes() -> impl Iterator<Item = &'static str> {
    Finding::all().map(|about| about.code)
}

/// The items of a list in CEL.
fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// The message alone says it.
fn said(broken: bool) -> Option<String> {
    broken.then(String::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_without_a_credential_are_findings() {
        let unknown = WITHOUT_CREDENTIAL.iter().find(|code| finding_codes().all(|known| known != **code));
        assert_eq!(unknown, None);
        assert!(finding_codes().count() <= LIST_ITEMS as usize, "a policy has to be able to name them all");
    }

    #[test]
    fn every_known_client_can_be_required_at_once() {
        assert!(crate::tls::clients::clients().len() <= LIST_ITEMS as usize);
    }

    #[test]
    fn a_rule_blames_the_field_that_the_api_server_blames() {
        let paths: Vec<String> = RULES.iter().map(Rule::path).collect();
        assert_eq!(
            paths,
            [
                "spec.minVersion",
                "spec.maxVersion",
                "spec.cipherSuites",
                "spec.hsts.includeSubDomains",
                "spec.hsts.maxAge",
                "spec.findingActions",
                "spec.findingActions",
            ]
        );
    }
}
