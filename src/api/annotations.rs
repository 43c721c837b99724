//! The one table of annotations: every `nginx.ingress.kubernetes.io/` name, and what Handfast does with it.
//!
//! `annotations of one Ingress ──read──▶ Settings (route options, what is dropped) + findings`
//!
//! `handfast.dev/NAME` wins over `nginx.ingress.kubernetes.io/NAME`. A name is in one of three states. *Working*: it
//! does what ingress-nginx does. *Ignored*: it is reported and changes nothing. *Restricting*: it keeps requests away
//! from a backend in a way that is not supported, so the routes are dropped; otherwise a migration would open what
//! was closed. Restrictions never touch routes below `/.well-known/acme-challenge/`; the compiler sees to that.

mod instead;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::quote::{about, may_hold_a_key, shown};
use crate::snapshot::{AddressList, Redirect, RouteOptions};

pub use instead::{explain, instead, why_ignored};
pub use table::{OWN, TABLE};

/// The prefix of Handfast's own annotations.
pub const HANDFAST: &str = "handfast.dev/";
/// The prefix of ingress-nginx's annotations.
pub const NGINX: &str = "nginx.ingress.kubernetes.io/";

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// The name behind the prefix.
    pub name: &'static str,
    /// The name that it is an older form of; that name wins where both are set.
    pub alias_of: Option<&'static str>,
    /// What may be written, for people.
    pub value: &'static str,
    /// What holds without it, for people; empty if nothing does.
    pub default: &'static str,
    /// What it does in ingress-nginx, and here if it works.
    pub doc: &'static str,
    /// What Handfast does with it.
    pub state: State,
}

/// What Handfast does with an annotation.
#[derive(Clone, Copy, Debug)]
pub enum State {
    /// Reported, without effect. Values in the list ask for what happens anyway and are not reported.
    Ignored(&'static [&'static str]),
    /// What it restricts is dropped, if the function says that the value restricts.
    Restricting(Drops, fn(&str) -> bool),
    /// It works. The function stores the value; what a wrong value costs stands beside it.
    Working(Wrong, Setter),
}

/// Stores a value, or says what is wrong with it. The flag tells Handfast's own form (`handfast.dev/`).
pub type Setter = fn(&mut Draft, &str, bool) -> Result<(), String>;

/// What an annotation that is not supported takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// The Ingress claims nothing: its paths are meant to stand beside those of another Ingress.
    Claims,
    /// Paths are patterns or are rewritten: each route is dropped at the literal beginning of its path.
    Patterns,
    /// All routes of the Ingress.
    Routes,
}

/// What a wrong value of a working annotation costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The default is used.
    Default,
    /// The routes are dropped: serving them without the annotation could open what it closes.
    Drops,
}

impl State {
    /// The word used in docs.
    pub fn word(&self) -> &'static str {
        match self {
            State::Ignored(_) => "ignored",
            State::Restricting(..) => "restricting",
            State::Working(..) => "working",
        }
    }
}

/// A table for documents: name, values, default, state and what it does, sorted by name.
pub fn rows(table: &'static [Annotation]) -> impl Iterator<Item = [&'static str; 5]> {
    table.iter().map(|row| [row.name, row.value, row.default, row.state.word(), row.doc])
}

/// What the annotations of one Ingress ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// What it says about the TLS of its hosts, as text.
    pub tls: TlsSettings,
    /// Options of its routes. `ssl_redirect` is the wish; whether the host has TLS is for the compiler to know.
    pub options: RouteOptions,
    /// The routes are dropped.
    pub drop_routes: bool,
    /// The Ingress claims nothing.
    pub drop_claims: bool,
    /// Paths are regular expressions, or are rewritten.
    pub patterns: bool,
    /// What is to be reported.
    pub findings: Vec<Finding>,
}

/// What annotations say about TLS. They mean something only together with a policy, so they stay text here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Name of the TlsPolicy.
    pub policy: Option<Written<String>>,
    /// Protocol versions, as nginx lists them.
    pub protocols: Option<Written<String>>,
    /// Cipher suites, as openssl-ciphers(1) lists them.
    pub ciphers: Option<Written<String>>,
    /// Key exchange groups, as OpenSSL lists them.
    pub curves: Option<Written<String>>,
    /// Whether the server's order of cipher suites decides.
    pub prefer_server_ciphers: Option<Written<bool>>,
    /// Name of a TlsPolicy that is tried out and not put in force.
    pub shadow_policy: Option<Written<String>>,
    /// Names of further Secrets with certificates for the same hosts.
    pub additional_secrets: Option<Written<Vec<String>>>,
}

/// The value of an annotation, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// With its prefix.
    pub annotation: String,
    /// What it says.
    pub value: T,
}

/// Something to report about one annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The annotation with its prefix.
    pub annotation: String,
    /// What there is to say.
    pub what: What,
    /// It costs routes.
    pub drops: bool,
}

/// What there is to say about an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The value is wrong.
    Bad {
        /// As written, cut if it is long.
        value: String,
        /// What is wrong with it.
        error: String,
    },
    /// A canary: the Ingress claims nothing.
    Canary,
    /// A restriction that is not supported.
    Restricting,
    /// No such name.
    Unknown {
        /// The known name that is written most alike, with its prefix, if one is.
        nearest: Option<String>,
    },
    /// Known, and without effect.
    Unsupported,
}

/// Values on their way into [`RouteOptions`].
#[derive(Clone, Debug)]
pub struct Draft {
    options: RouteOptions,
    tls: TlsSettings,
    permanent: Option<Box<str>>,
    permanent_code: u16,
    temporal: Option<Box<str>>,
    temporal_code: u16,
}

/// Reads the annotations of one Ingress. Names with other prefixes are passed over.
pub fn read<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
    // Nobody writes more by mistake, and each is compared with every known name.
    const MOST_UNKNOWN: usize = 100;
    let mut findings = Vec::new();
    // Per table row (aliases share one) the annotation that counts: our own prefix first, then the current name.
    let mut chosen: BTreeMap<&'static str, (bool, bool, &'static Annotation, &'a str)> = BTreeMap::new();
    for (key, value) in annotations {
        let (name, own) = match (key.strip_prefix(HANDFAST), key.strip_prefix(NGINX)) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => continue,
        };
        let rows = TABLE.iter().chain(if own { OWN } else { &[] });
        let Some(row) = rows.into_iter().find(|row| row.name == name) else {
            if findings.len() < MOST_UNKNOWN {
                let what = What::Unknown { nearest: nearest(name, own) };
                findings.push(Finding { annotation: shown(key).to_owned(), what, drops: false });
            }
            continue;
        };
        let value = value.trim();
        // An empty value counts as not set, as in ingress-nginx: templates often leave one behind.
        if value.is_empty() {
            continue;
        }
        let candidate = (own, row.alias_of.is_none(), row, value);
        let best = chosen.entry(row.alias_of.unwrap_or(row.name)).or_insert(candidate);
        if (candidate.0, candidate.1) > (best.0, best.1) {
            *best = candidate;
        }
    }

    let mut settings = Settings::default();
    let mut draft = Draft {
        options: RouteOptions { ssl_redirect: true, ..RouteOptions::default() },
        tls: TlsSettings::default(),
        permanent: None,
        permanent_code: 301,
        temporal: None,
        temporal_code: 302,
    };
    for (own, _, row, value) in chosen.into_values() {
        let annotation = format!("{}{}", if own { HANDFAST } else { NGINX }, row.name);
        match row.state {
            State::Ignored(quiet) => {
                if !quiet.iter().any(|quiet| value.eq_ignore_ascii_case(quiet)) {
                    findings.push(Finding { annotation, what: What::Unsupported, drops: false });
                }
            }
            State::Restricting(drops, restricts) => {
                if !restricts(value) {
                    continue;
                }
                let what = match drops {
                    Drops::Claims => {
                        settings.drop_claims = true;
                        What::Canary
                    }
                    Drops::Patterns => {
                        settings.patterns = true;
                        What::Restricting
                    }
                    Drops::Routes => {
                        settings.drop_routes = true;
                        What::Restricting
                    }
                };
                findings.push(Finding { annotation, what, drops: true });
            }
            State::Working(wrong, set) => {
                if let Err(error) = set(&mut draft, value, own) {
                    let drops = wrong == Wrong::Drops;
                    settings.drop_routes |= drops;
                    let what = What::Bad { value: shorten(value), error: about(value, error) };
                    findings.push(Finding { annotation, what, drops });
                }
            }
        }
    }
    // An Ingress that claims nothing has nothing else to report.
    if settings.drop_claims {
        findings.retain(|finding| finding.what == What::Canary);
    }
    let Draft { options, tls, permanent, permanent_code, temporal, temporal_code } = draft;
    // The temporary redirect wins, as in ingress-nginx.
    let redirect = temporal.map(|location| Redirect { status: temporal_code, location });
    let redirect = redirect.or_else(|| permanent.map(|location| Redirect { status: permanent_code, location }));
    settings.options = RouteOptions { redirect, ..options };
    settings.tls = tls;
    findings.sort_by(|a, b| a.annotation.cmp(&b.annotation));
    settings.findings = findings;
    settings
}

/// The known name that is written most alike, if one is close, with the prefix that it has.
fn nearest(name: &str, own: bool) -> Option<String> {
    let limit = (name.len() / 3).min(4);
    let rows = TABLE.iter().map(|row| (row, own)).chain(OWN.iter().map(|row| (row, true)));
    let scored = rows.map(|(row, own)| (edit_distance(name, row.name), row.name, own));
    let (_, name, own) = scored.filter(|(distance, ..)| *distance <= limit).min()?;
    Some(format!("{}{name}", if own { HANDFAST } else { NGINX }))
}

/// Insertions, deletions and substitutions between two names (Levenshtein), over the first 64 bytes.
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| &text.as_bytes()[..text.len().min(64)]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn shorten(value: &str) -> String {
    const LIMIT: usize = 80;
    // Half a key may not look like one.
    if may_hold_a_key(value) {
        return shown(value).to_owned();
    }
    match value.char_indices().nth(LIMIT) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

// The setters. `own` tells the `handfast.dev/` form.

fn ssl_redirect(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.options.ssl_redirect = boolean(value)?;
    Ok(())
}

fn force_ssl_redirect(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.options.force_ssl_redirect = boolean(value)?;
    Ok(())
}

fn access_log(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.options.access_log = boolean(value)?;
    Ok(())
}

fn allow(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.options.allow = Some(addresses(value)?);
    Ok(())
}

fn deny(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.options.deny = Some(addresses(value)?);
    Ok(())
}

fn connect_timeout(draft: &mut Draft, value: &str, own: bool) -> Result<(), String> {
    draft.options.connect_timeout = Some(duration(value, own)?);
    Ok(())
}

fn read_timeout(draft: &mut Draft, value: &str, own: bool) -> Result<(), String> {
    draft.options.read_timeout = Some(duration(value, own)?);
    Ok(())
}

fn send_timeout(draft: &mut Draft, value: &str, own: bool) -> Result<(), String> {
    draft.options.send_timeout = Some(duration(value, own)?);
    Ok(())
}

fn body_size(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    let bytes = size(value)?;
    draft.options.body_limit = (bytes > 0).then_some(bytes);
    Ok(())
}

fn permanent_redirect(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.permanent = Some(location(value)?);
    Ok(())
}

fn permanent_redirect_code(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.permanent_code = redirect_code(value)?;
    Ok(())
}

fn temporal_redirect(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.temporal = Some(location(value)?);
    Ok(())
}

fn temporal_redirect_code(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    draft.temporal_code = redirect_code(value)?;
    Ok(())
}

/// Only plain HTTP is spoken to endpoints. Sending it to a port that expects something else would leak the request
/// or break it.
fn backend_protocol(_: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    if value.eq_ignore_ascii_case("HTTP") { Ok(()) } else { Err("only HTTP to endpoints is supported".to_owned()) }
}

fn shadow_tls_policy(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    if value.contains('/') {
        return Err("write the name of a TlsPolicy in the Ingress's own namespace".to_owned());
    }
    draft.tls.shadow_policy = Some(written("shadow-tls-policy", true, object_name(value)?));
    Ok(())
}

fn tls_policy(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    // A policy that cannot be meant is kept all the same: it is a policy that does not exist, and what it might have
    // demanded of clients is not known.
    draft.tls.policy = Some(written("tls-policy", true, value.to_owned()));
    if value.contains('/') {
        return Err(
            "write the name of a TlsPolicy in the Ingress's own namespace; only the parameters of the IngressClass and \
                    --default-tls-policy can name a policy of another namespace"
                .to_owned(),
        );
    }
    object_name(value).map(drop)
}

fn additional_tls_secrets(draft: &mut Draft, value: &str, _own: bool) -> Result<(), String> {
    // Each is a certificate of another kind of key, and there are few kinds.
    const LIMIT: usize = 4;
    let names = value.split([',', ' ']).filter(|name| !name.is_empty()).map(object_name);
    let mut names = names.collect::<Result<Vec<String>, String>>()?;
    names.dedup();
    if names.is_empty() || names.len() > LIMIT {
        return Err(format!("write the names of 1 to {LIMIT} Secrets, separated by commas"));
    }
    draft.tls.additional_secrets = Some(written("additional-tls-secrets", true, names));
    Ok(())
}

fn ssl_protocols(draft: &mut Draft, value: &str, own: bool) -> Result<(), String> {
    bounded(value)?;
    draft.tls.protocols = Some(written("ssl-protocols", own, value.to_owned()));
    Ok(())
}

fn ssl_ciphers(draft: &mut Draft, value: &str, own: bool) -> Result<(), String> {
    bounded(value)?;
    draft.tls.ciphers = Some(written("ssl-ciphers", own, value.to_owned()));
    Ok(())
}

fn ssl_ecdh_curve(draft: &mut Draft, value: &str, own: bool) -> Result<(), String> {
    bounded(value)?;
    draft.tls.curves = Some(written("ssl-ecdh-curve", own, value.to_owned()));
    Ok(())
}

fn ssl_prefer_server_ciphers(draft: &mut Draft, value: &str, own: bool) -> Result<(), String> {
    let value = match value.to_ascii_lowercase().as_str() {
        "on" => true,
        "off" => false,
        _ => boolean(value)?,
    };
    draft.tls.prefer_server_ciphers = Some(written("ssl-prefer-server-ciphers", own, value));
    Ok(())
}

/// Each host of the Ingress has the list to itself.
fn bounded(value: &str) -> Result<(), String> {
    const LIMIT: usize = 4096;
    if value.len() > LIMIT { Err(format!("write at most {LIMIT} characters")) } else { Ok(()) }
}

fn written<T>(name: &str, own: bool, value: T) -> Written<T> {
    Written { annotation: format!("{}{name}", if own { HANDFAST } else { NGINX }), value }
}

// The forms of values.

/// Whether Kubernetes takes it as a part of a name: an RFC 1123 label, of whatever length.
pub(crate) fn is_label(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(good)
}

/// Whether Kubernetes takes it as the name of an object (RFC 1123 subdomain).
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A name as Kubernetes takes it.
fn object_name(value: &str) -> Result<String, String> {
    match is_subdomain(value) {
        true => Ok(value.to_owned()),
        false => Err(format!("{value:?} is not the name of an object: use lower-case letters, digits, '-' and '.'")),
    }
}

/// As Go's `strconv.ParseBool` reads it, in any letter case.
fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Networks and addresses, separated by commas.
fn addresses(value: &str) -> Result<AddressList, String> {
    let mut networks = Vec::new();
    for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let network = item.parse::<IpNet>().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from));
        networks.push(network.ok_or_else(|| format!("{item:?} is neither an address nor a network like 10.0.0.0/8"))?);
    }
    if networks.is_empty() {
        return Err("the list names no address".to_owned());
    }
    Ok(AddressList::new(networks))
}

/// Whole seconds; Handfast's own form also takes units (`1m 30s`).
fn duration(value: &str, own: bool) -> Result<Duration, String> {
    // The upper limit is what ingress-nginx can read; it also keeps every deadline representable.
    const LIMIT: Duration = Duration::from_secs(i32::MAX as u64);
    let parsed = match value.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) if own => humantime::parse_duration(value).ok(),
        Err(_) => None,
    };
    match parsed {
        Some(duration) if !duration.is_zero() && duration <= LIMIT => Ok(duration),
        Some(_) | None if own => Err("write a time like 90s or 2m, longer than 0s".to_owned()),
        Some(_) | None => Err("write a number of seconds without a unit, 1 or more".to_owned()),
    }
}

/// nginx sizes: bytes, or with one of the units `k`, `m`, `g` (powers of 1024).
fn size(value: &str) -> Result<u64, String> {
    let error = || "write a number of bytes, or a size like 8k, 10m or 1g".to_owned();
    let (digits, factor) = match value.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'b') => (&value[..value.len() - 1], 1),
        Some(b'k') => (&value[..value.len() - 1], 1 << 10),
        Some(b'm') => (&value[..value.len() - 1], 1 << 20),
        Some(b'g') => (&value[..value.len() - 1], 1 << 30),
        Some(_) | None => (value, 1_u64),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(error)
}

/// The target of a redirect: an absolute http or https URL, or an absolute path, as plain visible ASCII.
fn location(value: &str) -> Result<Box<str>, String> {
    if value.contains('$') {
        return Err("nginx variables ($…) are not supported: write the whole URL".to_owned());
    }
    if let Some(bad) = value.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("the character {bad:?} is not allowed in a URL: write it percent-encoded"));
    }
    let lower = value.to_ascii_lowercase();
    let authority = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let usable = match authority {
        Some(rest) => !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':', '\\']),
        // Browsers read `//name` and `/\name` as another host.
        None => value.starts_with('/') && !value.starts_with("//") && !value.starts_with("/\\"),
    };
    if usable { Ok(value.into()) } else { Err("write an absolute http or https URL, or a path like /new".to_owned()) }
}

fn redirect_code(value: &str) -> Result<u16, String> {
    match value.parse::<u16>() {
        Ok(code @ (300..=303 | 307 | 308)) => Ok(code),
        Ok(_) | Err(_) => Err("write one of 300, 301, 302, 303, 307, 308".to_owned()),
    }
}

// When a value restricts.

fn always(_: &str) -> bool {
    true
}

/// Anything but a plain "no": a value that is not understood restricts.
fn unless_off(value: &str) -> bool {
    !["false", "f", "0", "off"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

fn unless_all(value: &str) -> bool {
    !value.eq_ignore_ascii_case("all")
}

/// Raw nginx configuration restricts if a word in it may: `auth_basic` holds the word `auth`.
fn snippet_restricts(value: &str) -> bool {
    const WORDS: [&str; 5] = ["allow", "auth", "deny", "if", "return"];
    const DIRECTIVES: [&str; 10] = [
        "internal",
        "limit_conn",
        "limit_except",
        "limit_req",
        "location",
        "rewrite",
        "satisfy",
        "secure_link",
        "ssl_client_certificate",
        "ssl_verify_client",
    ];
    let text = value.to_ascii_lowercase();
    let directive = |word: &str| DIRECTIVES.contains(&word) || word.contains("_by_lua");
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
        || text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(directive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(annotations: &[(&str, &str)]) -> Settings {
        let full: Vec<(String, &str)> = annotations
            .iter()
            .map(|(key, value)| (if key.contains('/') { (*key).to_owned() } else { format!("{NGINX}{key}") }, *value))
            .collect();
        read(full.iter().map(|(key, value)| (key.as_str(), *value)))
    }

    fn report(annotations: &[(&str, &str)]) -> Vec<String> {
        let say = |finding: &Finding| {
            let drops = if finding.drops { " drops" } else { "" };
            format!("{} {:?}{drops}", finding.annotation.rsplit('/').next().unwrap(), finding.what)
        };
        settings(annotations).findings.iter().map(say).collect()
    }

    #[test]
    fn without_annotations_the_redirect_to_https_is_wished_and_nothing_else_is_set() {
        let expected = RouteOptions { ssl_redirect: true, ..RouteOptions::default() };
        assert_eq!(settings(&[]), Settings { options: expected, ..Settings::default() });
    }

    #[test]
    fn our_own_prefix_wins_and_then_the_current_name() {
        let allow = |annotations: &[(&str, &str)]| settings(annotations).options.allow.unwrap().to_string();
        let own = "handfast.dev/whitelist-source-range";
        assert_eq!(
            allow(&[("whitelist-source-range", "10.0.0.1"), ("allowlist-source-range", "10.0.0.2")]),
            "10.0.0.2/32"
        );
        assert_eq!(allow(&[(own, "10.0.0.3"), ("allowlist-source-range", "10.0.0.2")]), "10.0.0.3/32");
    }

    #[test]
    fn sizes_times_and_codes_are_read_as_nginx_writes_them() {
        for (text, bytes) in
            [("8k", Some(8192)), ("1M", Some(1 << 20)), ("0", Some(0)), ("12", Some(12)), ("1g", Some(1 << 30))]
        {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        for text in ["", "k", "-1", "1.5m", "8kb", "99999999999999999999", "99999999999999g", "+1m"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(duration("60", false), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1m 30s", true), Ok(Duration::from_secs(90)));
        for text in ["60s", "0", "-1", "", "4294967296", "3000000000"] {
            assert!(duration(text, false).is_err(), "{text}");
        }
        assert!(redirect_code("304").is_err() && redirect_code("200").is_err() && redirect_code("308").is_ok());
    }

    #[test]
    fn a_redirect_stays_plain() {
        for good in ["https://new.example/", "http://new.example:81/a?b=c#d", "/new", "HTTPS://new.example"] {
            assert!(location(good).is_ok(), "{good}");
        }
        for bad in [
            "https://new.example$request_uri",
            "//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "https://",
            "https:///path",
            "new.example",
            "/a b",
            "/a\r\nSet-Cookie: x",
            "/ä",
        ] {
            assert!(location(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wrong_value_of_a_restriction_drops_and_of_others_does_not() {
        assert_eq!(
            report(&[("allowlist-source-range", "10.0.0.0/8,everyone"), ("proxy-read-timeout", "1m")]),
            [
                r#"allowlist-source-range Bad { value: "10.0.0.0/8,everyone", error: "\"everyone\" is neither an address nor a network like 10.0.0.0/8" } drops"#,
                r#"proxy-read-timeout Bad { value: "1m", error: "write a number of seconds without a unit, 1 or more" }"#,
            ]
        );
        assert!(settings(&[("proxy-body-size", "lots")]).drop_routes);
        assert!(settings(&[("backend-protocol", "GRPC")]).drop_routes);
        assert!(!settings(&[("backend-protocol", "http")]).drop_routes);
    }

    #[test]
    fn what_is_switched_off_restricts_nothing_and_is_not_reported() {
        let off = [
            ("auth-tls-verify-client", "off"),
            ("auth-type", ""),
            ("canary", "false"),
            ("enable-cors", "false"),
            ("enable-modsecurity", "false"),
            ("limit-rps", "0"),
            ("proxy-request-buffering", "off"),
            ("satisfy", "all"),
            ("ssl-passthrough", "False"),
            ("use-regex", "false"),
        ];
        assert_eq!(report(&off), [""; 0]);
    }

    #[test]
    fn snippets_restrict_by_their_words() {
        for closed in
            ["deny all;", "auth_basic on;", "if ($x) { }", "return 403;", "content_by_lua_block { }", "internal;"]
        {
            assert!(snippet_restricts(closed), "{closed}");
        }
        for open in ["more_set_headers \"X-Frame-Options: DENIED\";", "access_log off;", "gzip_disable notify;"] {
            assert!(!snippet_restricts(open), "{open}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        assert_eq!(
            report(&[("handfast.dev/ssl-redirct", "true"), ("global-rate-limit", "5")]),
            [
                r#"ssl-redirct Unknown { nearest: Some("handfast.dev/ssl-redirect") }"#,
                r#"global-rate-limit Unknown { nearest: None }"#
            ]
        );
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn what_annotations_say_about_tls_is_kept_as_text() {
        let tls = |annotations: &[(&str, &str)]| settings(annotations).tls;
        let both = tls(&[("ssl-ciphers", "HIGH"), ("handfast.dev/ssl-ciphers", "ECDHE"), ("ssl-protocols", "x")]);
        assert_eq!(both.ciphers, Some(written("ssl-ciphers", true, "ECDHE".to_owned())));
        // ingress-nginx has no such annotation.
        assert_eq!(both.protocols, None);
        for (text, expected) in [("on", Some(true)), ("False", Some(false)), ("maybe", None)] {
            let found = tls(&[("ssl-prefer-server-ciphers", text)]).prefer_server_ciphers.map(|found| found.value);
            assert_eq!(found, expected, "{text}");
        }
        let secrets = tls(&[("handfast.dev/additional-tls-secrets", "one, two")]).additional_secrets;
        assert_eq!(secrets.unwrap().value, ["one", "two"]);
        for (name, value) in [("tls-policy", "other/strict"), ("tls-policy", "A"), ("additional-tls-secrets", ",")] {
            let report = report(&[(&format!("handfast.dev/{name}"), value)]);
            assert!(report[0].contains("Bad"), "{report:?}");
        }
    }

    #[test]
    fn a_canary_claims_nothing_and_reports_nothing_else() {
        let canary = settings(&[("canary", "true"), ("canary-weight", "10"), ("auth-url", "https://auth.example")]);
        assert!(canary.drop_claims);
        assert_eq!(canary.findings.len(), 1);
    }

    #[test]
    fn the_table_is_sorted_and_documented() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name) && OWN.is_sorted_by(|a, b| a.name < b.name));
        for row in TABLE.iter().chain(OWN) {
            assert!(!row.value.is_empty() && row.doc.ends_with('.') && row.doc.len() > 10, "{}", row.name);
            if let Some(name) = row.alias_of {
                assert!(TABLE.iter().any(|other| other.name == name), "{name}");
            }
        }
    }
}
