//! Whether a certificate covers a name (RFC 9525 section 6.3).
//!
//! `Name × names of the leaf ──▶ covered, or what it has instead and why that does not count`
//!
//! The name itself, a wildcard for exactly its first label, or the IP address. A common name never counts; it is only
//! told, because tools show it and people believe it.

use std::net::IpAddr;

use super::certificate::Names;
use super::finding::Finding;
use crate::snapshot::{BadHostName, HostName};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name, or a wildcard host of an Ingress.
    Host(HostName),
}

impl std::str::FromStr for Name {
    type Err = BadHostName;

    /// International names may be written as they are read; they become A-labels (RFC 5890 section 2.3.2.1). What clients
    /// ask for counts, so there may be underscores and a final dot ([`HostName::asked_for`]).
    fn from_str(text: &str) -> Result<Self, BadHostName> {
        match text.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => Ok(Name::Address(address)),
            Err(_) => HostName::asked_for(&to_ascii(text)).map(Name::Host),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Address(address) => address.fmt(f),
            Name::Host(host) => host.fmt(f),
        }
    }
}

/// Whether the leaf's names cover the name. Rules without a host need none.
pub(super) fn covers(names: &Names, name: &Name) -> Result<(), Finding> {
    let covered = match name {
        Name::Address(address) => names.addresses.contains(address),
        Name::Host(host) if host.is_catch_all() => true,
        Name::Host(host) => {
            let wildcard = host.wildcard();
            let covers = |name: &str| name == host.as_str() || wildcard.as_ref().is_some_and(|w| name == w.as_str());
            names.dns.iter().any(|name| covers(name))
        }
    };
    if covered {
        return Ok(());
    }
    Err(Finding::NameNotCovered { host: name.to_string(), names: instead(names, name) })
}

/// Names that no client looks for, each with what it is; `None` if there are none. Clients that connect to an address
/// look at iPAddress names only (RFC 9525 section 6.5), and a host is a name of labels, whatever else stands in a URL.
pub(super) fn useless(names: &Names) -> Option<String> {
    const SHOWN: usize = 5;
    let what = |name: &str| -> Option<&'static str> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_numeric = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_numeric || bare.parse::<IpAddr>().is_ok() {
            Some("an address, which must be an iPAddress name")
        } else if name.contains("://") {
            Some("a URL")
        } else if name.contains([':', '/', '@']) {
            Some("more than a host")
        } else if name.is_empty() {
            Some("empty")
        } else if name.contains(|c: char| c.is_whitespace() || c == '?') {
            Some("with a character that hosts do not have")
        } else if is_partial_wildcard(name) && name != "*" {
            Some("a wildcard that is not the whole first label")
        } else if name.trim_end_matches('.').split('.').any(|label| label.is_empty() || label.len() > 63) {
            Some("with a label that is empty or has more than 63 characters")
        } else {
            None
        }
    };
    let found: Vec<String> =
        names.dns.iter().filter_map(|name| what(name).map(|what| format!("{name:?} ({what})"))).collect();
    match found.len() {
        0 => None,
        1..=SHOWN => Some(found.join(", ")),
        many => Some(format!("{} and {} more", found[..SHOWN].join(", "), many - SHOWN)),
    }
}

/// What the certificate has, and the trap that the reader may have stepped into.
fn instead(names: &Names, name: &Name) -> String {
    const SHOWN: usize = 20;
    let all: Vec<String> =
        names.dns.iter().map(|name| name.to_string()).chain(names.addresses.iter().map(IpAddr::to_string)).collect();
    let mut text = match (all.is_empty(), all.len().saturating_sub(SHOWN)) {
        (true, _) => "it has no DNS name".to_owned(),
        (false, 0) => format!("it has {}", all.join(", ")),
        (false, more) => format!("it has {} and {more} more", all[..SHOWN].join(", ")),
    };
    let common_name = names.common_name.as_deref().unwrap_or_default();
    match name {
        Name::Address(address) => {
            let is_same = |name: &str| name.trim_matches(['[', ']']).parse() == Ok(*address);
            if names.dns.iter().any(|name| is_same(name)) {
                text += "; the address must be an iPAddress name, and is a DNS name there";
            }
            // ::ffff:192.0.2.1 and 192.0.2.1 are one address for Go and Java, and two for OpenSSL, which compares bytes.
            if names.addresses.iter().any(|other| other.to_canonical() == address.to_canonical()) {
                text += "; the address is there in its other form, as IPv4 within IPv6, and OpenSSL takes that for \
                         another address";
            }
        }
        Name::Host(host) => {
            let host = host.as_str();
            let below = |name: &str| {
                let parent = name.strip_prefix("*.")?;
                let labels = host.strip_suffix(parent)?;
                let labels = if labels.is_empty() { labels } else { labels.strip_suffix('.')? };
                Some((name.to_owned(), labels.to_owned()))
            };
            if let Some((wildcard, labels)) = names.dns.iter().find_map(|name| below(name)) {
                text += &match labels.as_str() {
                    "" => format!("; {wildcard} does not cover the name without a label in front"),
                    _ => format!("; {wildcard} covers exactly one label, and {labels} has more"),
                };
            } else if let Some(unicode) = names.dns.iter().find(|name| !name.is_ascii() && to_ascii(name) == host) {
                text += &format!("; {unicode} must be written there as {host}");
            } else if let Some(partial) = names.dns.iter().find(|name| is_partial_wildcard(name)) {
                text += &format!("; clients ignore a wildcard inside a label, as in {partial}");
            }
            if common_name.eq_ignore_ascii_case(host) {
                text += "; its common name is the host, and clients ignore common names";
            }
        }
    }
    text
}

fn is_partial_wildcard(name: &str) -> bool {
    name.contains('*') && name.strip_prefix("*.").is_none_or(|rest| rest.contains('*'))
}

/// A name in A-labels; what is ASCII stays as it is.
fn to_ascii(name: &str) -> String {
    // RFC 3490 section 3.1: other characters that people type as a dot.
    let name = name.replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".").to_lowercase();
    let label = |label: &str| if label.is_ascii() { label.to_owned() } else { format!("xn--{}", punycode(label)) };
    name.split('.').map(label).collect::<Vec<_>>().join(".")
}

/// RFC 3492 section 6.3.
fn punycode(label: &str) -> String {
    let (base, t_min, t_max, skew, damp) = (36_u32, 1_u32, 26_u32, 38_u32, 700_u32);
    let mut output: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(output.len()).unwrap_or(u32::MAX);
    if basic > 0 {
        output.push('-');
    }
    let total = u32::try_from(label.chars().count()).unwrap_or(u32::MAX);
    let (mut n, mut delta, mut bias, mut handled) = (128_u32, 0_u32, 72_u32, basic);
    let digit = |value: u32| {
        char::from_digit(value, 36).map(|c| match value {
            // 0 to 25 are letters, 26 to 35 digits.
            0..=25 => char::from(b'a' + u8::try_from(value).unwrap_or_default()),
            26..=35 => char::from(b'0' + u8::try_from(value - 26).unwrap_or_default()),
            _ => c,
        })
    };
    while handled < total {
        let Some(next) = label.chars().map(u32::from).filter(|code| *code >= n).min() else { break };
        delta = delta.saturating_add((next - n).saturating_mul(handled + 1));
        n = next;
        for code in label.chars().map(u32::from) {
            if code < n {
                delta += 1;
            }
            if code != n {
                continue;
            }
            let mut q = delta;
            let mut k = base;
            loop {
                let threshold = k.saturating_sub(bias).clamp(t_min, t_max);
                if q < threshold {
                    break;
                }
                output.extend(digit(threshold + (q - threshold) % (base - threshold)));
                q = (q - threshold) / (base - threshold);
                k += base;
            }
            output.extend(digit(q));
            let mut change = if handled == basic { delta / damp } else { delta / 2 };
            change += change / (handled + 1);
            let mut steps = 0;
            while change > ((base - t_min) * t_max) / 2 {
                change /= base - t_min;
                steps += base;
            }
            bias = steps + (base - t_min + 1) * change / (change + skew);
            delta = 0;
            handled += 1;
        }
        delta += 1;
        n += 1;
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn international_names_become_a_labels() {
        // Vectors of RFC 3492 section 7.1 and of well-known names.
        for (name, ascii) in [
            ("bücher.example", "xn--bcher-kva.example"),
            ("Straße.example", "xn--strae-oqa.example"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("почемужеонинеговорятпорусски", "xn--b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("他们为什么不说中文", "xn--ihqwcrb4cv8a8dqg056pqjye"),
            ("plain.example", "plain.example"),
        ] {
            assert_eq!(to_ascii(name), ascii);
        }
    }

    fn told(dns: &[&str], common_name: Option<&str>, name: &str) -> Option<String> {
        let names = Names {
            dns: dns.iter().map(|name| Box::from(*name)).collect(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            common_name: common_name.map(Box::from),
        };
        match covers(&names, &name.parse().unwrap()) {
            Ok(()) => None,
            Err(Finding::NameNotCovered { names, .. }) => {
                Some(names.split_once("; ").map_or(String::new(), |(_, trap)| trap.to_owned()))
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn each_trap_is_told_apart() {
        let wild = &["*.shop.example"][..];
        assert_eq!(told(wild, None, "a.shop.example"), None);
        assert_eq!(told(wild, None, "*.shop.example"), None);
        assert_eq!(told(wild, None, "my_app.shop.example"), None);
        assert_eq!(told(wild, None, "a.shop.example."), None);
        assert_eq!(told(&["my_app.example"], None, "My_App.example."), None);
        assert_eq!(told(wild, None, "192.0.2.1"), None);
        assert_eq!(told(wild, None, "other.example").unwrap(), "");
        assert!(told(wild, None, "shop.example").unwrap().contains("without a label"));
        assert!(told(wild, None, "a.b.shop.example").unwrap().contains("exactly one label, and a.b has more"));
        assert!(told(&[], Some("Shop.example"), "shop.example").unwrap().contains("common name"));
        assert!(told(&["w*.shop.example"], None, "www.shop.example").unwrap().contains("inside a label"));
        assert!(told(&["bücher.example"], None, "bücher.example").unwrap().contains("xn--bcher-kva.example"));
        assert!(told(&["192.0.2.2"], None, "192.0.2.2").unwrap().contains("iPAddress"));
        assert!(told(wild, None, "notshop.example").unwrap().is_empty());
    }
}
