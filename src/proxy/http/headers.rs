//! Which headers pass, and which are ours to set.
//!
//! Towards endpoints they are those of ingress-nginx: `Host` as received, `X-Request-ID`, `X-Real-IP`,
//! `X-Forwarded-For`, `-Host`, `-Port`, `-Proto` and `-Scheme`, `X-Scheme`, and `X-Original-Forwarded-For` and
//! `-Host` where the client sent one. What a client claims about itself in `X-Forwarded-*`, `X-Real-IP`, `X-Scheme`
//! or `Forwarded` is dropped, unless the client is a trusted proxy: then `X-Forwarded-For` is extended, the others
//! are kept, and the client is the right-most address of `X-Forwarded-For` that is no trusted proxy.
//!
//! `ssl-client-*` is ours alone: what a client sends of it is dropped from every request, over TLS and over plain HTTP,
//! trusted proxies included, since those verify nothing that this host's policy asks for. Where a host asks clients
//! for certificates, `ssl-client-verify` is then `SUCCESS` or `NONE`, and `NONE` over plain HTTP. Elsewhere there is none.
//!
//! Headers about one connection stay on it (RFC 9110 section 7.6.1). Names with an underscore are dropped, as nginx
//! does by default (`enable-underscores-in-headers`): many servers cannot tell `X_Forwarded_For` from
//! `X-Forwarded-For`. `Proxy` is dropped, because CGI programs take it for a setting.
//!
//! `Handfast-Hops` counts how often a request has been through Handfast. An endpoint that is Handfast itself would
//! otherwise send one request round for ever. The value of any sender counts: who forges it ends only the own request.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{Connection, Security};
use crate::proxy::settings::Settings;
use crate::snapshot::canonical_ip;

const FORWARDED: HeaderName = header::FORWARDED;
const HANDFAST_HOPS: HeaderName = HeaderName::from_static("handfast-hops");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY: HeaderName = HeaderName::from_static("proxy");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// What all headers about a client's certificate begin with.
const SSL_CLIENT_PREFIX: &str = "ssl-client-";
const SSL_CLIENT_VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const X_ORIGINAL_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-original-forwarded-for");
const X_ORIGINAL_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-original-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");

/// What came of asking a client for its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// It showed none.
    No,
    /// It showed one, which was verified.
    Yes,
}

impl Verified {
    /// The value of `ssl-client-verify`, in nginx' words.
    fn word(self) -> &'static str {
        match self {
            Verified::No => "NONE",
            Verified::Yes => "SUCCESS",
        }
    }
}

/// Who sent a request, and how it reached the first proxy that we trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The client, behind trusted proxies.
    pub(super) client: IpAddr,
    /// `http` or `https`, as the client used it.
    pub(super) scheme: &'static str,
    /// The port that the client connected to.
    pub(super) port: u16,
    /// Whether the sender of the request is a trusted proxy.
    pub(super) trusted: bool,
}

impl Origin {
    /// Reads it from the connection and, if a trusted proxy sent the request, from its headers.
    pub(super) fn of(connection: &Connection, headers: &HeaderMap, settings: &Settings) -> Self {
        let (scheme, port) = match &connection.security {
            Security::Plain => ("http", connection.local.port()),
            Security::Tls(_) => ("https", settings.https_public_port.unwrap_or(443)),
        };
        let sender = canonical_ip(connection.client.ip());
        let own = Self { client: sender, scheme, port, trusted: settings.trusted_proxies.contains(sender) };
        if !own.trusted {
            return own;
        }
        let scheme = match first_item(headers, &X_FORWARDED_PROTO) {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
            Some(_) | None => own.scheme,
        };
        let port = first_item(headers, &X_FORWARDED_PORT).and_then(|port| port.parse().ok());
        let port = port.unwrap_or(match (own.scheme == scheme, scheme) {
            (true, _) => own.port,
            (false, "https") => 443,
            (false, _) => 80,
        });
        Self { client: forwarded_client(headers, sender, settings), scheme, port, trusted: true }
    }
}

/// The right-most address of `X-Forwarded-For` that is no trusted proxy. What cannot be read, and all to its left,
/// proves nothing.
fn forwarded_client(headers: &HeaderMap, sender: IpAddr, settings: &Settings) -> IpAddr {
    let mut client = sender;
    let lines: Vec<&HeaderValue> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { return client };
        for item in line.rsplit(',') {
            let item = item.trim();
            // Some proxies append the port.
            let address = IpAddr::from_str(item.trim_start_matches('[').trim_end_matches(']'));
            let Ok(address) = address.or_else(|_| SocketAddr::from_str(item).map(|address| address.ip())) else {
                return client;
            };
            client = canonical_ip(address);
            if !settings.trusted_proxies.contains(client) {
                return client;
            }
        }
    }
    client
}

/// How often a request may go through Handfast: more than any chain of clusters and edges needs.
const MAX_HOPS: u8 = 8;

/// How often the request has been through Handfast before, or `None` if that is too often. What is no number is no
/// count of ours and means nothing; of several lines the largest counts.
pub(super) fn hops(headers: &HeaderMap) -> Option<u8> {
    let lines = headers.get_all(HANDFAST_HOPS).iter().filter_map(|line| line.to_str().ok());
    let most = lines.filter_map(|line| line.parse::<u64>().ok()).max().unwrap_or(0);
    u8::try_from(most).ok().filter(|hops| *hops < MAX_HOPS)
}

fn first_item<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim).filter(|item| !item.is_empty())
}

/// The protocol that the client asks to change to, if it is one that we tunnel.
///
/// `h2c` is not: RFC 9113 section 3.1 withdrew it, and requests inside such a tunnel would escape the rules for
/// hosts, paths and headers. What an endpoint might read differently is none either: several lines, or bytes that are
/// not ASCII.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else { return None };
    let mut lines = headers.get_all(header::CONNECTION).iter().chain([protocol]);
    if lines.any(|line| line.to_str().is_err()) {
        return None;
    }
    let asked = tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let h2c = tokens(headers, &header::UPGRADE).any(|token| token.eq_ignore_ascii_case("h2c"));
    (asked && !h2c).then(|| protocol.clone())
}

/// Turns a client's request headers into those for an endpoint. Returns the request's id. Framing is not touched
/// here: the caller sets it from the body, after this has removed what the client said about it.
pub(super) fn for_endpoint(
    headers: &mut HeaderMap,
    authority: HeaderValue,
    origin: &Origin,
    connection: &Connection,
    verified: Option<Verified>,
    upgrade: Option<HeaderValue>,
) -> HeaderValue {
    let hops = hops(headers).unwrap_or(MAX_HOPS);
    let trailers = tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    strip_connection(headers);
    for name in [header::CONTENT_LENGTH, header::EXPECT, PROXY] {
        headers.remove(name);
    }
    join_cookies(headers);

    let forwarded_for = joined(headers, &X_FORWARDED_FOR);
    let forwarded_host = headers.get(X_FORWARDED_HOST).cloned();
    let kept_host = forwarded_host.clone().filter(|_| origin.trusted);
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.contains('_')
                || name.starts_with(SSL_CLIENT_PREFIX)
                || (!origin.trusted && name.starts_with("x-forwarded-"))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    if !origin.trusted {
        headers.remove(FORWARDED);
    }

    // Backends rely on it where a certificate is optional. What clients say of that kind was dropped above.
    if let Some(verified) = verified {
        headers.insert(SSL_CLIENT_VERIFY, HeaderValue::from_static(verified.word()));
    }

    let client = text(origin.client);
    let chain = match (&forwarded_for, origin.trusted) {
        (Some(chain), true) => {
            let mut extended = chain.as_bytes().to_vec();
            extended.extend_from_slice(b", ");
            extended.extend_from_slice(canonical_ip(connection.client.ip()).to_string().as_bytes());
            HeaderValue::from_bytes(&extended).unwrap_or_else(|_| client.clone())
        }
        (Some(_) | None, _) => client.clone(),
    };
    let scheme = HeaderValue::from_static(origin.scheme);
    replace(headers, X_ORIGINAL_FORWARDED_FOR, forwarded_for);
    replace(headers, X_ORIGINAL_FORWARDED_HOST, forwarded_host);
    headers.insert(X_FORWARDED_HOST, kept_host.unwrap_or_else(|| authority.clone()));
    headers.insert(X_FORWARDED_FOR, chain);
    headers.insert(X_FORWARDED_PORT, HeaderValue::from(origin.port));
    headers.insert(X_FORWARDED_PROTO, scheme.clone());
    headers.insert(X_FORWARDED_SCHEME, scheme.clone());
    headers.insert(X_SCHEME, scheme);
    headers.insert(X_REAL_IP, client);
    headers.insert(HANDFAST_HOPS, HeaderValue::from(u16::from(hops) + 1));
    headers.insert(header::HOST, authority);

    let mut options = Vec::new();
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        options.push("te");
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::UPGRADE, protocol);
        options.push("upgrade");
    }
    // RFC 9110 sections 7.8 and 10.1.4: both are about this connection and must say so.
    if let Ok(value) = HeaderValue::from_str(&options.join(", "))
        && !options.is_empty()
    {
        headers.insert(header::CONNECTION, value);
    }

    let id = headers.get(X_REQUEST_ID).filter(|id| is_request_id(id)).cloned().unwrap_or_else(random_id);
    // Also where several were sent: one is kept.
    headers.insert(X_REQUEST_ID, id.clone());
    id
}

/// Removes from an endpoint's response what was about our connection with it. `Server` goes too, as in ingress-nginx
/// (`allow-backend-server-header`): versions of backends are nobody's business.
pub(super) fn for_client(headers: &mut HeaderMap) {
    strip_connection(headers);
    headers.remove(header::SERVER);
}

/// Removes headers about one connection, and those that `Connection` names (RFC 9110 section 7.6.1). `Trailer` and
/// trailers are end to end.
fn strip_connection(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers, &header::CONNECTION).filter_map(|token| HeaderName::from_str(token).ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in [
        header::CONNECTION,
        HTTP2_SETTINGS,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Removes from trailers what must not stand there (RFC 9110 section 6.5.1): framing, routing, and all that the
/// receiver might trust because we set it in headers.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            let ours = [
                header::CONNECTION,
                header::CONTENT_LENGTH,
                header::FORWARDED,
                header::HOST,
                HTTP2_SETTINGS,
                KEEP_ALIVE,
                PROXY,
                PROXY_CONNECTION,
                header::TE,
                header::TRAILER,
                header::TRANSFER_ENCODING,
                header::UPGRADE,
                X_REAL_IP,
                X_REQUEST_ID,
                X_SCHEME,
            ];
            let text = name.as_str();
            ours.contains(name)
                || text.contains('_')
                || text.starts_with("x-forwarded-")
                || text.starts_with("x-original-forwarded-")
                || text.starts_with(SSL_CLIENT_PREFIX)
        })
        .cloned()
        .collect();
    for name in dropped {
        trailers.remove(name);
    }
}

/// RFC 9113 section 8.2.3: HTTP/2 may split `Cookie`; HTTP/1.1 knows one line only.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut all = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        all.extend_from_slice(b"; ");
        all.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert(header::COOKIE, value);
    }
}

/// The members of a comma-separated header, over all its lines. A member that is no text hides no other.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.filter_map(|member| std::str::from_utf8(member).ok()).map(str::trim)
}

/// All lines of a header as one value.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let mut rest = lines.peekable();
    if rest.peek().is_none() {
        return Some(first.clone());
    }
    let mut all = first.as_bytes().to_vec();
    for line in rest {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

fn replace(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => {
            headers.insert(name, value);
        }
        None => {
            headers.remove(name);
        }
    }
}

fn text(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).expect("invariant: an address is plain ASCII")
}

/// An id that a client chose goes into logs and headers of other systems, so it has to be short and plain.
fn is_request_id(id: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~|".contains(byte);
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(plain)
}

/// 32 hexadecimal digits, as nginx's `$request_id`.
fn random_id() -> HeaderValue {
    let mut digits = [0; 32];
    let number = fastrand::u128(..);
    for (index, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (index * 4)) as usize & 0xf];
    }
    HeaderValue::from_bytes(&digits).expect("invariant: hexadecimal digits are plain ASCII")
}
