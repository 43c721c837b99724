//! Host names, parsed once.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::quote::Quoted;

/// A lower-case DNS name, or `*.` plus one; ASCII (IDNA A-labels), no trailing dot.
///
/// The empty name stands for rules without a host; only [`HostName::catch_all`] makes it, and it displays as `*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The name of the virtual host that collects rules without a host.
    pub fn catch_all() -> Self {
        Self(Arc::from(""))
    }

    /// A name as clients ask for it. Unlike the host of an Ingress it may have an underscore, which DNS allows, and one dot
    /// at its end, which stands for the root and is dropped (RFC 6066 section 3 has none on the wire).
    pub fn asked_for(text: &str) -> Result<Self, BadHostName> {
        Self::parse(text.strip_suffix('.').unwrap_or(text), "-_")
    }

    /// True for the virtual host that collects rules without a host.
    pub fn is_catch_all(&self) -> bool {
        self.0.is_empty()
    }

    /// True for `*.` names.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The `*.` name that covers this exact name, if it has at least two labels.
    pub fn wildcard(&self) -> Option<HostName> {
        if self.is_wildcard() {
            return None;
        }
        let (_, rest) = self.0.split_once('.')?;
        Some(Self(format!("*.{rest}").into()))
    }

    /// The name as it is matched; empty for [`HostName::catch_all`].
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of a `host` label: the name, or `*` for rules without a host. Never empty.
    pub fn label(&self) -> &str {
        if self.is_catch_all() { "*" } else { &self.0 }
    }
}

impl FromStr for HostName {
    type Err = BadHostName;

    /// Follows the Kubernetes Ingress rules (RFC 1123 subdomain, optionally `*.`), in any letter case.
    fn from_str(text: &str) -> Result<Self, BadHostName> {
        Self::parse(text, "-")
    }
}

impl HostName {
    /// `marks` may stand in a label, beside letters and digits.
    fn parse(text: &str, marks: &str) -> Result<Self, BadHostName> {
        let name = text.to_ascii_lowercase();
        let plain = name.strip_prefix("*.").unwrap_or(&name);
        if plain.is_empty() {
            return Err(BadHostName::Empty);
        }
        if name.len() > 253 {
            return Err(BadHostName::TooLong(name.len()));
        }
        if plain.parse::<std::net::IpAddr>().is_ok() {
            return Err(BadHostName::IpAddress);
        }
        for label in plain.split('.') {
            if label.is_empty() {
                return Err(BadHostName::EmptyLabel);
            }
            if label.len() > 63 {
                return Err(BadHostName::LongLabel(label.len()));
            }
            if let Some(bad) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || marks.contains(*c))) {
                return Err(BadHostName::Character(bad));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(BadHostName::Hyphen(label.into()));
            }
        }
        Ok(Self(name.into()))
    }
}

/// Why a text is no host name.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadHostName {
    /// A character outside letters, digits and hyphens.
    #[error(
        "the character {0:?} is not allowed: use letters, digits, '-' and '.', and the A-label (xn--…) of an international name"
    )]
    Character(char),
    /// Nothing, or nothing behind `*.`.
    #[error("the name is empty")]
    Empty,
    /// Two dots in a row, or one at an end.
    #[error("a label between two dots is empty, or the name ends with a dot")]
    EmptyLabel,
    /// A label that begins or ends with a hyphen.
    #[error("the label {} begins or ends with '-'", Quoted(.0))]
    Hyphen(Box<str>),
    /// An IP address; an Ingress host must be a DNS name.
    #[error("an IP address is not a host name: leave the host out and set --default-tls-secret")]
    IpAddress,
    /// A label of more than 63 bytes.
    #[error("a label of {0} characters is longer than 63")]
    LongLabel(usize),
    /// A name of more than 253 bytes.
    #[error("the name is {0} characters long, the limit is 253")]
    TooLong(usize),
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostName({})", self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_checked() {
        assert_eq!("Shop.Example.COM".parse::<HostName>().unwrap().as_str(), "shop.example.com");
        assert!("*.example.com".parse::<HostName>().unwrap().is_wildcard());
        for bad in ["", "*.", "*", "a..b", "a.", "a_b.c", "-a.b", "10.0.0.1", "a.*.b", "*.*.b", "ä.example"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn clients_may_ask_for_an_underscore_and_for_the_root() {
        for (text, name) in [
            ("My_App.example.com", "my_app.example.com"),
            ("_dmarc.example.com.", "_dmarc.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("localhost.", "localhost"),
            ("*.example.com.", "*.example.com"),
        ] {
            assert_eq!(HostName::asked_for(text).unwrap().as_str(), name);
            assert!(text.parse::<HostName>().is_err(), "no Ingress may have the host {text}");
        }
        for bad in ["", ".", "..", "shop.example.com..", ".example.com", "a b", "a:1", "10.0.0.1", "10.0.0.1.", "-a.b"]
        {
            assert!(HostName::asked_for(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_knows_the_wildcard_that_covers_it() {
        let wildcard = |name: &str| name.parse::<HostName>().unwrap().wildcard().map(|w| w.to_string());
        assert_eq!(wildcard("a.example.com").as_deref(), Some("*.example.com"));
        assert_eq!(wildcard("*.example.com"), None);
        assert_eq!(wildcard("localhost"), None);
    }
}
