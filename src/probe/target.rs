//! Where to look: what people write, to a host and a port.
//!
//! `"example.com", "[::1]:8443", "https://shop.example/cart" ──▶ Target`, or what to write instead
//!
//! Pure.

use std::fmt;
use std::str::FromStr;

use crate::tls::chain::Name;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host as it is looked up.
    pub host: Name,
    /// The port; 443 if nothing else was written.
    pub port: u16,
}

/// Why a text is no target.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadTarget {
    /// Nothing is there.
    #[error("no host is named: write HOST or HOST:PORT")]
    Empty,
    /// A host that cannot be one.
    #[error("{host:?} is not a host: {error}")]
    Host {
        /// As it was written.
        host: String,
        /// What is wrong with it.
        error: String,
    },
    /// A port that cannot be one.
    #[error("{0:?} is not a port: write a number from 1 to 65535")]
    Port(String),
    /// A URL of something else than HTTPS.
    #[error(
        "a URL with {0:?} does not name a TLS port: write HOST:PORT with a port that speaks TLS from the first byte on"
    )]
    Scheme(String),
    /// A pattern.
    #[error("{0:?} stands for many hosts: name one of them")]
    Wildcard(String),
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let text = text.trim();
        let authority = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") => rest,
            Some((scheme, _)) => return Err(BadTarget::Scheme(scheme.to_owned())),
        };
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // An address of IPv6 has colons of its own, and brackets where a port follows.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None | Some("") => 443,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| BadTarget::Port(port.to_owned()))?,
        };
        if host.is_empty() {
            return Err(BadTarget::Empty);
        }
        let name: Name = host.parse().map_err(|error: crate::snapshot::BadHostName| BadTarget::Host {
            host: host.to_owned(),
            error: error.to_string(),
        })?;
        match &name {
            Name::Host(host) if host.is_wildcard() => Err(BadTarget::Wildcard(host.to_string())),
            Name::Host(_) | Name::Address(_) => Ok(Target { host: name, port }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Name::Address(address) if address.is_ipv6() => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_every_way_that_people_write_them() {
        let rows = [
            ("shop.example", "shop.example:443"),
            ("Shop.Example.:8443", "shop.example:8443"),
            ("my_app.example.", "my_app.example:443"),
            ("https://my_app.example.:8443/a_b", "my_app.example:8443"),
            ("localhost:1", "localhost:1"),
            ("192.0.2.1", "192.0.2.1:443"),
            ("192.0.2.1:65535", "192.0.2.1:65535"),
            ("::1", "[::1]:443"),
            ("[::1]", "[::1]:443"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("https://shop.example", "shop.example:443"),
            ("HTTPS://user:secret@shop.example:8443/cart?x=1:2#top", "shop.example:8443"),
            ("wss://[::1]:9/", "[::1]:9"),
            ("shop.example/cart", "shop.example:443"),
            ("bücher.example:443", "xn--bcher-kva.example:443"),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_says_what_to_write() {
        let rows = [
            ("", "no host is named"),
            (":443", "no host is named"),
            ("https:///x", "no host is named"),
            ("shop.example:0", "\"0\" is not a port"),
            ("shop.example:https", "\"https\" is not a port"),
            ("shop.example:70000", "from 1 to 65535"),
            ("http://shop.example/", "\"http\" does not name a TLS port"),
            ("smtp://mx.example", "a port that speaks TLS from the first byte on"),
            ("a!b.example", "the character '!'"),
            ("shop.example..", "a label between two dots is empty"),
            ("a b", "is not a host"),
            ("*.shop.example", "name one of them"),
        ];
        for (text, words) in rows {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
