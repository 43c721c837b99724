//! Paths to targets: Ingress path rules as lookups.
//!
//! `request path ──NormalPath::parse──▶ RouteTable::find ──▶ Route`
//!
//! Exact paths and segment-wise prefixes (Kubernetes Ingress, "Path types") are two hash maps. A lookup tries the
//! exact map once and then at most as many prefixes as the deepest route has segments, so its cost does not grow
//! with the number of routes nor with the length of a hostile path.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::BackendKey;

/// A path in normal form (RFC 3986 section 6.2.2): escapes of unreserved characters decoded, other escapes in
/// upper case, characters that a path may not hold escaped, dot segments removed; and runs of slashes merged, as
/// ingress-nginx matches them, so that `//admin` cannot slip past the rules for `/admin`. Used for matching only;
/// requests are forwarded as received.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NormalPath(Box<str>);

/// Why a path has no normal form. The request is answered with 400; an Ingress path is reported and dropped.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// `..` leads above the root.
    #[error("'..' leads above the root")]
    AboveRoot,
    /// `?` or `#`, which end a path (RFC 3986 section 3.3).
    #[error("a path ends before '?' or '#', so it could never match")]
    Delimiter,
    /// `%` without two hexadecimal digits.
    #[error("'%' is not followed by two hexadecimal digits")]
    Escape,
    /// `%00`, or a control character.
    #[error("it holds a NUL or another control character")]
    Control,
    /// It does not begin with `/`.
    #[error("it does not begin with '/'")]
    Relative,
}

impl NormalPath {
    /// Normalises a path (without query).
    pub fn parse(raw: &str) -> Result<Self, BadPath> {
        if !raw.starts_with('/') {
            return Err(BadPath::Relative);
        }
        let bytes = raw.as_bytes();
        let mut decoded = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte != b'%' {
                match byte {
                    0..0x20 | 0x7f => return Err(BadPath::Control),
                    b'?' | b'#' => return Err(BadPath::Delimiter),
                    // RFC 3986 section 3.3: pchar, and the slashes between segments.
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => decoded.push(byte),
                    _ if b"-._~!$&'()*+,;=:@/".contains(&byte) => decoded.push(byte),
                    _ => decoded.extend(format!("%{byte:02X}").into_bytes()),
                }
                at += 1;
                continue;
            }
            let hex = |offset: usize| bytes.get(at + offset).and_then(|b| (*b as char).to_digit(16));
            let (Some(high), Some(low)) = (hex(1), hex(2)) else { return Err(BadPath::Escape) };
            let value = (high * 16 + low) as u8;
            match value {
                0 => return Err(BadPath::Control),
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.push(value),
                _ => decoded.extend([b'%', bytes[at + 1].to_ascii_uppercase(), bytes[at + 2].to_ascii_uppercase()]),
            }
            at += 3;
        }
        let decoded = String::from_utf8_lossy(&decoded);
        let mut segments: Vec<&str> = Vec::new();
        let mut directory = true;
        for segment in decoded.split('/').skip(1) {
            directory = matches!(segment, "" | "." | "..");
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop().ok_or(BadPath::AboveRoot)?;
                }
                name => segments.push(name),
            }
        }
        let mut path = String::with_capacity(decoded.len());
        for segment in &segments {
            path.push('/');
            path.push_str(segment);
        }
        if directory {
            path.push('/');
        }
        Ok(Self(path.into()))
    }

    /// Whether it is written as a pattern: with characters that paths do not have (RFC 3986 section 3.3), or with a star.
    /// Paths are compared as they are, so no request matches it.
    pub fn is_pattern(&self) -> bool {
        // In normal form: the brackets, braces, bar, backslash and caret are escaped.
        const MARKS: [&str; 9] = ["*", ".+", "%5B", "%5C", "%5D", "%5E", "%7B", "%7C", "%7D"];
        self.0.ends_with('$') || MARKS.iter().any(|mark| self.0.contains(mark))
    }

    /// The path as a backend may read it that decodes escaped slashes, takes backslashes for slashes, and cuts path
    /// parameters off (RFC 3986 section 3.3); `None` if it has none of these.
    fn read_leniently(raw: &str) -> Option<Result<Self, BadPath>> {
        let escaped = |text: &str| text.contains("%2F") || text.contains("%5C");
        let upper = raw.to_ascii_uppercase();
        if !escaped(&upper) && !raw.contains(['\\', ';']) {
            return None;
        }
        let mut text = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(character) = rest.chars().next() {
            let head = rest.get(..3).map(str::to_ascii_uppercase);
            if matches!(head.as_deref(), Some("%2F" | "%5C")) {
                text.push('/');
                rest = &rest[3..];
                continue;
            }
            text.push(if character == '\\' { '/' } else { character });
            rest = &rest[character.len_utf8()..];
        }
        let segments: Vec<&str> =
            text.split('/').map(|segment| segment.split_once(';').map_or(segment, |(name, _)| name)).collect();
        Some(Self::parse(&segments.join("/")))
    }

    /// The normal form; begins with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `/.well-known/acme-challenge/TOKEN` (RFC 8555 section 8.3), where neither redirects nor address lists
    /// apply: a certificate authority must reach it over plain HTTP. The token is one segment of base64url and nothing
    /// else, because what a backend makes of `..%2f` or `..;/` behind this prefix is not for us to guess.
    pub fn is_acme_challenge(&self) -> bool {
        let token = self.0.strip_prefix(ACME_CHALLENGE).and_then(|rest| rest.strip_prefix('/'));
        token.is_some_and(|token| {
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
    }

    /// True for the path that all challenges lie below; a rule for it is meant for nothing else.
    pub fn is_acme_prefix(&self) -> bool {
        self.prefix_key() == ACME_CHALLENGE
    }

    /// Without the trailing slash; the root is empty. This is the key of a prefix.
    fn prefix_key(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }
}

const ACME_CHALLENGE: &str = "/.well-known/acme-challenge";

/// How a route's path is compared (Kubernetes `pathType`; `ImplementationSpecific` is compiled to `Prefix`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathMatch {
    /// The whole path, letter by letter.
    Exact,
    /// Element by element; a trailing slash makes no difference.
    Prefix,
}

/// One path rule of one Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path, normalised.
    pub path: NormalPath,
    /// How it is compared.
    pub matches: PathMatch,
    /// Namespace and name of the Ingress that brought it.
    pub ingress: (Arc<str>, Arc<str>),
    /// Where requests go.
    pub target: Target,
    /// What its Ingress's annotations ask for.
    pub options: Arc<RouteOptions>,
}

/// Where the requests of a route go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a backend.
    Backend(BackendKey),
    /// Nowhere: 503. The route keeps its path, so that dropping a restricted path never lets a shorter, open
    /// prefix answer in its place.
    Dropped,
}

/// What annotations ask for on a route. The default is what an Ingress without annotations gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOptions {
    /// Write requests to the access log.
    pub access_log: bool,
    /// Only these client addresses may pass (403 for others).
    pub allow: Option<AddressList>,
    /// Largest request body in bytes (413 above); `None` is no limit.
    pub body_limit: Option<u64>,
    /// Longest wait for a connection to an endpoint; `None` is the configured default.
    pub connect_timeout: Option<Duration>,
    /// These client addresses may not pass (403).
    pub deny: Option<AddressList>,
    /// Redirect plain HTTP to HTTPS even if the host has no TLS here.
    pub force_ssl_redirect: bool,
    /// Longest gap between two reads from an endpoint; `None` is the configured default.
    pub read_timeout: Option<Duration>,
    /// Answer every request with this redirect.
    pub redirect: Option<Redirect>,
    /// Longest gap between two writes to an endpoint; `None` is the configured default.
    pub send_timeout: Option<Duration>,
    /// Redirect plain HTTP to HTTPS. Already false where the host asks for no TLS.
    pub ssl_redirect: bool,
}

/// A fixed redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// A 3xx status.
    pub status: u16,
    /// The value of `Location`.
    pub location: Box<str>,
}

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            access_log: true,
            allow: None,
            body_limit: None,
            connect_timeout: None,
            deny: None,
            force_ssl_redirect: false,
            read_timeout: None,
            redirect: None,
            send_timeout: None,
            ssl_redirect: false,
        }
    }
}

impl RouteOptions {
    /// Whether the address lists let this client pass. A deny entry wins over an allow entry, as in ingress-nginx.
    pub fn admits(&self, client: IpAddr) -> bool {
        let listed = |list: &Option<AddressList>| list.as_ref().map(|list| list.contains(client));
        listed(&self.deny) != Some(true) && listed(&self.allow) != Some(false)
    }
}

/// A list of addresses and networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressList(Box<[IpNet]>);

impl AddressList {
    /// Networks in any order; overlaps are merged. Networks of IPv4-mapped IPv6 addresses mean the IPv4 addresses.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let canonical = |net: IpNet| match net.trunc() {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => {
                let v4 = v6.addr().to_ipv4_mapped().and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96).ok());
                v4.map_or(IpNet::V6(v6), IpNet::V4)
            }
            net => net,
        };
        let networks: Vec<IpNet> = networks.into_iter().map(canonical).collect();
        Self(IpNet::aggregate(&networks).into())
    }

    /// Whether the list holds this address. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

impl fmt::Display for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, net) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{net}")?;
        }
        Ok(())
    }
}

/// A path that a backend may read as one that is restricted. Answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// All routes of one host.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    exact: HashMap<Box<str>, Arc<Route>>,
    prefix: HashMap<Box<str>, Arc<Route>>,
    /// Segments of the deepest prefix: no longer prefix needs to be tried.
    depth: usize,
}

impl RouteTable {
    /// Adds a route, or returns the route that already has this path and kind.
    pub fn insert(&mut self, route: Arc<Route>) -> Result<(), Arc<Route>> {
        let (map, key) = match route.matches {
            PathMatch::Exact => (&mut self.exact, route.path.as_str()),
            PathMatch::Prefix => (&mut self.prefix, route.path.prefix_key()),
        };
        if let Some(taken) = map.get(key) {
            return Err(taken.clone());
        }
        if route.matches == PathMatch::Prefix {
            self.depth = self.depth.max(key.matches('/').count());
        }
        map.insert(key.into(), route);
        Ok(())
    }

    /// The route for a path: Exact first, then the longest prefix.
    pub fn find(&self, path: &NormalPath) -> Option<&Arc<Route>> {
        if let Some(route) = self.exact.get(path.as_str()) {
            return Some(route);
        }
        let path = path.prefix_key();
        // The ends of the first `depth` segments, and the whole path if it has no more than those.
        let mut ends: Vec<usize> = path.match_indices('/').skip(1).map(|(at, _)| at).take(self.depth).collect();
        if ends.len() < self.depth && !path.is_empty() {
            ends.push(path.len());
        }
        let longest_first = ends.into_iter().rev().chain([0]);
        longest_first.into_iter().find_map(|end| self.prefix.get(&path[..end]))
    }

    /// As [`RouteTable::find`], and `Err` if a backend may well read the path in another way that leads past a
    /// restriction: with `%2F`, `%5C` or `\` as separators, or with path parameters (`;x`) cut off.
    ///
    /// What a restriction closes must not be reached under another spelling; where nothing is restricted, spellings are
    /// the backend's business, and `%2F` stays what it is.
    pub fn find_unambiguous(&self, raw: &str, path: &NormalPath) -> Result<Option<&Arc<Route>>, Ambiguous> {
        let found = self.find(path);
        let Some(other) = NormalPath::read_leniently(raw) else { return Ok(found) };
        let restricts = |route: &Arc<Route>| {
            route.options.allow.is_some() || route.options.deny.is_some() || route.target == Target::Dropped
        };
        let same = match &other {
            Ok(other) => match (found, self.find(other)) {
                (Some(found), Some(other)) => Arc::ptr_eq(found, other) || !(restricts(found) || restricts(other)),
                (Some(route), None) | (None, Some(route)) => !restricts(route),
                (None, None) => true,
            },
            // Above the root: where it leads is anybody's guess.
            Err(_) => !self.exact.values().chain(self.prefix.values()).any(restricts),
        };
        if same { Ok(found) } else { Err(Ambiguous) }
    }

    /// All routes, Exact before Prefix, sorted by path.
    pub fn routes(&self) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.exact.values().chain(self.prefix.values()).collect();
        routes.sort_by(|a, b| (a.matches, &a.path).cmp(&(b.matches, &b.path)));
        routes
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.exact.values().chain(self.prefix.values())
    }

    /// True if there is no route.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::PortKey;

    fn route(path: &str, matches: PathMatch) -> Arc<Route> {
        let key = BackendKey { namespace: "default".into(), service: path.into(), port: PortKey::Number(80) };
        Arc::new(Route {
            path: NormalPath::parse(path).unwrap(),
            matches,
            ingress: ("default".into(), "test".into()),
            target: Target::Backend(key),
            options: Arc::default(),
        })
    }

    fn table(routes: &[(&str, PathMatch)]) -> RouteTable {
        let mut table = RouteTable::default();
        for (path, matches) in routes {
            table.insert(route(path, *matches)).unwrap();
        }
        table
    }

    fn found<'a>(table: &'a RouteTable, path: &str) -> Option<(&'a str, PathMatch)> {
        table.find(&NormalPath::parse(path).unwrap()).map(|route| (route.path.as_str(), route.matches))
    }

    use PathMatch::{Exact, Prefix};

    /// The table of examples in the Kubernetes Ingress documentation, row by row.
    #[test]
    fn paths_match_as_the_ingress_specification_says() {
        let rows: &[(PathMatch, &[&str], &str, Option<&str>)] = &[
            (Prefix, &["/"], "/any/path", Some("/")),
            (Exact, &["/foo"], "/foo", Some("/foo")),
            (Exact, &["/foo"], "/bar", None),
            (Exact, &["/foo"], "/foo/", None),
            (Exact, &["/foo/"], "/foo", None),
            (Prefix, &["/foo"], "/foo", Some("/foo")),
            (Prefix, &["/foo"], "/foo/", Some("/foo")),
            (Prefix, &["/foo/"], "/foo", Some("/foo/")),
            (Prefix, &["/foo/"], "/foo/", Some("/foo/")),
            (Prefix, &["/aaa/bb"], "/aaa/bbb", None),
            (Prefix, &["/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
            (Prefix, &["/aaa/bbb/"], "/aaa/bbb", Some("/aaa/bbb/")),
            (Prefix, &["/aaa/bbb"], "/aaa/bbb/", Some("/aaa/bbb")),
            (Prefix, &["/aaa/bbb"], "/aaa/bbb/ccc", Some("/aaa/bbb")),
            (Prefix, &["/aaa/bbb"], "/aaa/bbbxyz", None),
            (Prefix, &["/", "/aaa"], "/aaa/ccc", Some("/aaa")),
            (Prefix, &["/", "/aaa", "/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
            (Prefix, &["/", "/aaa", "/aaa/bbb"], "/ccc", Some("/")),
            (Prefix, &["/aaa"], "/ccc", None),
        ];
        for (kind, paths, request, expected) in rows {
            let table = table(&paths.iter().map(|path| (*path, *kind)).collect::<Vec<_>>());
            assert_eq!(found(&table, request).map(|(path, _)| path), *expected, "{kind:?} {paths:?} {request}");
        }
    }

    #[test]
    fn exact_comes_before_prefix_and_the_longest_prefix_first() {
        let table = table(&[("/foo", Prefix), ("/foo", Exact), ("/foo/bar", Prefix), ("/", Prefix)]);
        assert_eq!(found(&table, "/foo"), Some(("/foo", Exact)));
        assert_eq!(found(&table, "/foo/"), Some(("/foo", Prefix)));
        assert_eq!(found(&table, "/foo/bar/baz"), Some(("/foo/bar", Prefix)));
        assert_eq!(found(&table, "/foo/barn/a/b/c/d/e"), Some(("/foo", Prefix)));
        assert_eq!(found(&table, "/"), Some(("/", Prefix)));
    }

    #[test]
    fn another_spelling_of_a_restricted_path_is_refused() {
        let mut table = table(&[("/", Prefix)]);
        let closed =
            RouteOptions { deny: Some(AddressList::new(["0.0.0.0/0".parse().unwrap()])), ..Default::default() };
        let admin = Route { options: Arc::new(closed), ..(*route("/admin", Prefix)).clone() };
        table.insert(Arc::new(admin)).unwrap();
        let find = |raw: &str| {
            let found = table.find_unambiguous(raw, &NormalPath::parse(raw).unwrap())?;
            Ok(found.map(|route| route.path.as_str()))
        };
        let spellings =
            ["/x/..%2fadmin", "/%2fadmin", "/admin%2f", "/x/..\\admin", "/a/%5c../admin", "/..;/admin", "/admin;x=1/y"];
        for raw in spellings {
            assert_eq!(find(raw), Err(Ambiguous), "{raw}");
        }
        // What leads to the same route either way, or to no restricted one, is nobody's concern.
        for (raw, path) in [("/admin/a%2Fb", "/admin"), ("/group%2Fproject", "/"), ("/a;v=1", "/"), ("/", "/")] {
            assert_eq!(find(raw), Ok(Some(path)), "{raw}");
        }
    }

    #[test]
    fn a_path_is_taken_once_per_kind() {
        let mut table = table(&[("/foo", Prefix)]);
        assert!(table.insert(route("/foo/", Prefix)).is_err());
        assert!(table.insert(route("/foo/", Exact)).is_ok());
    }

    #[test]
    fn paths_are_normalised_for_matching() {
        let rows = [
            ("/", "/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb/%2e%2e/c", "/c"),
            ("//admin///x", "/admin/x"),
            ("/~user/%7Euser", "/~user/~user"),
            ("/a%20b", "/a%20b"),
            ("/a b", "/a%20b"),
            ("/ä", "/%C3%A4"),
            ("/br{ce}", "/br%7Bce%7D"),
            ("/a;v=1,2:@x!$&'()*+", "/a;v=1,2:@x!$&'()*+"),
        ];
        for (raw, normal) in rows {
            assert_eq!(NormalPath::parse(raw).unwrap().as_str(), normal, "{raw}");
        }
        let bad = [
            ("/..", BadPath::AboveRoot),
            ("/a/../../b", BadPath::AboveRoot),
            ("/%2e%2E/x", BadPath::AboveRoot),
            ("/a%00", BadPath::Control),
            ("/a?b", BadPath::Delimiter),
            ("/a#b", BadPath::Delimiter),
            ("/a%0", BadPath::Escape),
            ("/a%zz", BadPath::Escape),
            ("a", BadPath::Relative),
            ("", BadPath::Relative),
        ];
        for (raw, error) in bad {
            assert_eq!(NormalPath::parse(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn a_path_that_is_written_as_a_pattern_is_told_from_one_that_is_not() {
        let is_pattern = |path: &str| NormalPath::parse(path).unwrap().is_pattern();
        for path in
            ["/*", "/api/*", "/api(/|$)(.*)", "/v[0-9]/x", "/users/{id}", "/file$", "/a|b", "/^x", "/a.+", "/\\d"]
        {
            assert!(is_pattern(path), "{path}");
        }
        for path in ["/", "/api", "/file.js", "/c++", "/$metadata", "/x(1)", "/~user", "/a;v=1", "/a:b", "/a b", "/ä"]
        {
            assert!(!is_pattern(path), "{path}");
        }
    }

    #[test]
    fn only_a_token_right_below_the_prefix_is_a_challenge() {
        let is_challenge = |path: &str| NormalPath::parse(path).unwrap().is_acme_challenge();
        assert!(is_challenge("/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA"));
        let others = ["", "/", "/a/b", "/..%2f..%2fadmin", "/..;/..;/admin", "/..%5cadmin", "/a.b", "/a%20", "/a/"];
        for rest in others {
            assert!(!is_challenge(&format!("/.well-known/acme-challenge{rest}")), "{rest}");
        }
        assert!(!is_challenge("/.well-known/acme-challenge/a/../../admin"));
        assert!(NormalPath::parse("/.well-known/acme-challenge/").unwrap().is_acme_prefix());
    }

    #[test]
    fn deny_wins_over_allow_and_mapped_addresses_count_as_ipv4() {
        let list = |text: &str| Some(AddressList::new([text.parse().unwrap()]));
        let options = RouteOptions { allow: list("10.0.0.0/8"), deny: list("10.1.0.0/16"), ..RouteOptions::default() };
        assert!(options.admits("10.2.0.1".parse().unwrap()));
        assert!(options.admits("::ffff:10.2.0.1".parse().unwrap()));
        let mapped = RouteOptions { deny: list("::ffff:10.0.0.0/104"), ..RouteOptions::default() };
        assert!(!mapped.admits("10.9.9.9".parse().unwrap()) && mapped.admits("11.0.0.1".parse().unwrap()));
        assert!(!options.admits("10.1.0.1".parse().unwrap()));
        assert!(!options.admits("192.0.2.1".parse().unwrap()));
    }
}
