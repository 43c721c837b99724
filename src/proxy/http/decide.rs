//! From a request's head to what is done with it: an answer of our own, or a backend.
//!
//! `head ──host──▶ VirtualHost ──421?──▶ path ──▶ Route ──redirects, address lists──▶ Backend`
//!
//! The order is that of ingress-nginx: redirects come before address lists, and neither applies to ACME challenges.
//! A host whose clients have to show a certificate ([`VirtualHost::https_only`]) is reached over TLS that ends here, or
//! not at all: over plain HTTP nobody has verified anything, whatever a proxy in front says about the scheme.
//! `/healthz` is answered where no host and no rule is asked for: the checks of load balancers.
//! Everything here is computed from one snapshot, without waiting, and what is returned owns what it needs.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};

use super::head::Refusal;
use super::headers::{Origin, Verified};
use super::record::Record;
use super::{Connection, Security, TlsConnection};
use crate::proxy::settings::Settings;
use crate::proxy::upstream::UpstreamFailure;
use crate::snapshot::{
    Ambiguous, Backend, BackendState, HostTls, NormalPath, Route, Snapshot, Target, TlsChoice, VirtualHost,
};
use crate::tls::ServerTls;
use crate::tls::policy::ClientAuth;

/// What is done with a request.
pub(super) enum Decision {
    /// It is answered here.
    Answer(Answer),
    /// It goes to a backend.
    Forward(Forward),
}

/// A response of our own.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: StatusCode,
    /// One line that helps the user, and shows nothing of the inside. Empty for no body.
    pub(super) reason: &'static str,
    /// Where to go instead.
    pub(super) location: Option<HeaderValue>,
    /// Which methods work instead.
    pub(super) allow: Option<HeaderValue>,
    /// Whether the connection cannot be used any more (HTTP/1.1).
    pub(super) close: bool,
    /// Why no endpoint answered, if one was to.
    pub(super) failure: Option<UpstreamFailure>,
}

/// A request that goes to a backend.
pub(super) struct Forward {
    /// The rule that says so.
    pub(super) route: Arc<Route>,
    /// Where it goes; it has at least one endpoint.
    pub(super) backend: Arc<Backend>,
    /// Who sent it.
    pub(super) origin: Origin,
    /// `Host`, as the client wrote it.
    pub(super) authority: HeaderValue,
    /// What came of asking for the client's certificate; `None` if its host asks for none.
    pub(super) verified: Option<Verified>,
}

impl Answer {
    pub(super) fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, location: None, allow: None, close: false, failure: None }
    }

    /// And close the connection.
    pub(super) fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Answer::new(refusal.status(), refusal.reason()).closing()
    }
}

impl From<UpstreamFailure> for Answer {
    fn from(failure: UpstreamFailure) -> Self {
        Self { failure: Some(failure), ..Answer::new(failure.status(), failure.reason()) }
    }
}

/// Decides, and notes in the record what becomes known on the way.
pub(super) fn decide(
    snapshot: &Snapshot,
    settings: &Settings,
    connection: &Connection,
    request: &Parts,
    record: &mut Record,
) -> Decision {
    route(snapshot, settings, connection, request, record).unwrap_or_else(Decision::Answer)
}

fn route(
    snapshot: &Snapshot,
    settings: &Settings,
    connection: &Connection,
    request: &Parts,
    record: &mut Record,
) -> Result<Decision, Answer> {
    // As in nginx: we are no forward proxy, and TRACE would show the client what we add to its request.
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        let answer = Answer::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not supported");
        return Err(Answer { allow: Some(allow), ..answer });
    }
    let authority = match request_host(request) {
        Ok(authority) => authority,
        Err(refused) => return Err(nameless_health(snapshot, connection, request, record).unwrap_or(refused)),
    };
    let Some(name) = authority.to_str().ok().and_then(host_name) else {
        return Err(Answer::new(StatusCode::BAD_REQUEST, "the host is malformed").closing());
    };
    let origin = Origin::of(connection, &request.headers, settings);
    record.identify(origin.client, &authority);
    let host = snapshot.virtual_host(&name);
    record.host = host.cloned();
    if let Security::Tls(tls) = &connection.security {
        if is_misdirected(snapshot, tls, &name, host) {
            return Err(Answer::new(
                StatusCode::MISDIRECTED_REQUEST,
                "this connection is for another host: connect again with its server name",
            ));
        }
        if asks_otherwise(snapshot, tls, Some(&name)) {
            record.client.outdated();
            let answer = "the client certificates that this host asks for have changed: connect again";
            return Err(Answer::new(StatusCode::MISDIRECTED_REQUEST, answer).closing());
        }
    }
    // RFC 6797 section 7.2: never where the client used plain HTTP. A refusal above does not speak for the host.
    if let Some(host) = host {
        record.hsts = host.hsts.as_ref().map(|_| origin.scheme == "https");
    }
    if request.uri.path() == "*" && request.method == Method::OPTIONS {
        // RFC 9110 section 9.3.7: about the server as a whole, so we answer for ourselves.
        return Err(Answer::new(StatusCode::OK, ""));
    }
    let Ok(path) = NormalPath::parse(request.uri.path()) else {
        return Err(Answer::new(StatusCode::BAD_REQUEST, "the path is malformed").closing());
    };
    let not_found = Answer::new(StatusCode::NOT_FOUND, "no rule matches this host and path");
    let Some(host) = host else { return Err(health(request, record).unwrap_or(not_found)) };
    let route = match host.routes.find_unambiguous(request.uri.path(), &path) {
        Ok(Some(route)) => route,
        Ok(None) if host.name.is_catch_all() => return Err(health(request, record).unwrap_or(not_found)),
        Ok(None) => return Err(not_found),
        Err(Ambiguous) => {
            return Err(Answer::new(
                StatusCode::BAD_REQUEST,
                "the path can also be read as another path, which is restricted",
            ));
        }
    };
    record.route = Some(route.clone());

    let options = &route.options;
    // On a host whose clients have to show a certificate, only a route of a challenge's own is open to a certificate
    // authority: one for all paths would let everybody reach the application there.
    let is_open = path.is_acme_challenge() && (!host.https_only || is_for_challenges(route));
    if !is_open {
        if let Some(redirect) = &options.redirect {
            let status = StatusCode::from_u16(redirect.status).ok().filter(StatusCode::is_redirection);
            return Err(redirect_to(status.unwrap_or(StatusCode::FOUND), &redirect.location));
        }
        let verifies = !host.https_only || matches!(connection.security, Security::Tls(_));
        if origin.scheme == "http" && (options.ssl_redirect || options.force_ssl_redirect || !verifies) {
            let port = settings.https_public_port.filter(|port| *port != 443);
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            return Err(redirect_to(StatusCode::PERMANENT_REDIRECT, &format!("https://{name}{port}{target}")));
        }
        if !verifies {
            // A proxy in front has terminated TLS: a redirect would come back to it, and to here, for ever.
            return Err(Answer::new(
                StatusCode::FORBIDDEN,
                "this host asks for client certificates, which only a TLS connection to this server can show",
            ));
        }
        if !options.admits(origin.client) {
            return Err(Answer::new(StatusCode::FORBIDDEN, "your address may not use this path"));
        }
    }
    match &route.target {
        Target::Dropped => {
            Err(Answer::new(StatusCode::SERVICE_UNAVAILABLE, "this path is closed by its configuration"))
        }
        Target::Backend(key) => {
            let backend = snapshot.backend(key);
            let failure = match backend {
                Some(backend) => match backend.state {
                    BackendState::Missing => UpstreamFailure::BackendMissing,
                    BackendState::NoEndpoints => UpstreamFailure::NoEndpoints,
                    BackendState::Ready if backend.endpoints.is_empty() => UpstreamFailure::NoEndpoints,
                    BackendState::Ready => {
                        let (route, backend) = (route.clone(), backend.clone());
                        let verified = verified(snapshot, &connection.security, &name);
                        return Ok(Decision::Forward(Forward { route, backend, origin, authority, verified }));
                    }
                },
                None => UpstreamFailure::BackendMissing,
            };
            record.client.service.upstreams.count(failure);
            Err(failure.into())
        }
    }
}

/// The answer to a load balancer that asks after us at a name of no host, where no rule of a user answers: ingress-nginx
/// has it at the same path. It goes into no access log, since such checks come every few seconds.
fn health(request: &Parts, record: &mut Record) -> Option<Answer> {
    if request.uri.path() != "/healthz" {
        return None;
    }
    record.leave_unlogged();
    Some(match record.client.service.unready.is_cancelled() {
        false => Answer::new(StatusCode::OK, ""),
        true => Answer::new(StatusCode::SERVICE_UNAVAILABLE, "this replica is about to end"),
    })
}

/// The same for a request of HTTP/1.0 that names no host, as it may (RFC 9112 section 3.2): so ask HAProxy and others.
fn nameless_health(
    snapshot: &Snapshot,
    connection: &Connection,
    request: &Parts,
    record: &mut Record,
) -> Option<Answer> {
    let is_nameless = request.version == Version::HTTP_10
        && request.uri.authority().is_none()
        && !request.headers.contains_key(header::HOST);
    let is_for_no_host = match &connection.security {
        Security::Plain => true,
        Security::Tls(tls) => tls.server_name.is_none(),
    };
    let path = NormalPath::parse(request.uri.path()).ok()?;
    let has_rule = snapshot.virtual_host("").is_some_and(|host| host.routes.find(&path).is_some());
    if is_nameless && is_for_no_host && !has_rule { health(request, record) } else { None }
}

fn redirect_to(status: StatusCode, location: &str) -> Answer {
    match HeaderValue::from_str(location) {
        Ok(location) => Answer { location: Some(location), ..Answer::new(status, "see Location") },
        Err(_) => Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "the redirect of this path is not a valid header"),
    }
}

/// Whether a request for `name` came over a connection that was made for another host (RFC 9110 section 15.5.20).
///
/// The handshake's own host is always served, even if its certificate or policy has changed since: its clients have
/// done nothing wrong. (But see [`asks_otherwise`].) Another host is served if in the current snapshot both have the same certificate under the
/// same policy, which is what clients that coalesce connections (RFC 9113 section 9.1.1) rely on. Everything else
/// would let a handshake for one host, under its policy, reach another.
fn is_misdirected(snapshot: &Snapshot, tls: &TlsConnection, name: &str, host: Option<&Arc<VirtualHost>>) -> bool {
    if tls.server_name.as_deref() == Some(name) {
        return false;
    }
    if let (Some(made_for), Some(asked)) = (&tls.host, host)
        && made_for.name == asked.name
    {
        return false;
    }
    let current = match &tls.host {
        // Rules without a host answer for names of no host of their own, whose handshakes get the default certificate.
        Some(host) if !host.name.is_catch_all() => snapshot.hosts.get(&host.name).and_then(|host| match &host.tls {
            HostTls::Terminate(tls) => Some(tls),
            HostTls::Absent | HostTls::Refuse => None,
        }),
        Some(_) | None => snapshot.default_tls.as_ref(),
    };
    match (current, snapshot.tls(Some(name))) {
        (Some(current), TlsChoice::Serve { tls, .. }) => !Arc::ptr_eq(current, tls),
        (_, TlsChoice::Absent(_) | TlsChoice::Refused(_) | TlsChoice::Serve { .. } | TlsChoice::Unknown) => true,
    }
}

/// Whether the answer to a ClientHello with this server name asks for other certificates of clients than the one that a
/// connection was made with: then nothing is known any more about who is at its other end.
pub(super) fn asks_otherwise(snapshot: &Snapshot, connection: &TlsConnection, name: Option<&str>) -> bool {
    match snapshot.tls(name) {
        TlsChoice::Serve { tls, .. } => {
            !Arc::ptr_eq(tls, &connection.tls) && !is_asked_the_same(client_auth(tls), client_auth(&connection.tls))
        }
        // What they ask for is not known. A host that only asks for nothing goes on being served.
        TlsChoice::Absent(host) | TlsChoice::Refused(host) => host.https_only,
        TlsChoice::Unknown => false,
    }
}

/// Whether, from one snapshot to the next, any name's answer may ask for other certificates of clients. Hosts that did
/// not change are the same in both, and not looked at.
pub(super) fn some_host_asks_otherwise(before: &Arc<Snapshot>, now: &Arc<Snapshot>) -> bool {
    let of_host = |host: &VirtualHost| match &host.tls {
        HostTls::Terminate(tls) => client_auth(tls).cloned(),
        HostTls::Absent | HostTls::Refuse => None,
    };
    let asks = |host: &Arc<VirtualHost>| host.https_only || of_host(host).is_some();
    let of_default = |snapshot: &Snapshot| snapshot.default_tls.as_deref().and_then(client_auth).cloned();
    let differ = |one: Option<ClientAuth>, other: Option<ClientAuth>| !is_asked_the_same(one.as_ref(), other.as_ref());
    if Arc::ptr_eq(before, now) {
        return false;
    }
    let changed = now.hosts.since(&before.hosts, Arc::ptr_eq).iter().any(|host| match (host.before, host.now) {
        (Some(old), Some(host)) => differ(of_host(old), of_host(host)) || old.https_only != host.https_only,
        // A new name may have been answered by a wildcard or by the default certificate, and one that is gone may be now.
        (host, None) | (None, host) => host.is_some_and(asks),
    });
    changed || differ(of_default(before), of_default(now))
}

/// What came of asking the sender of a request for `name` for a certificate; `None` if that host asks for none. Over
/// plain HTTP nobody was asked, and so nothing is verified.
fn verified(snapshot: &Snapshot, security: &Security, name: &str) -> Option<Verified> {
    match security {
        // It asked for what the host asks for, or the request would not have come here.
        Security::Tls(tls) if client_auth(&tls.tls).is_none() => None,
        Security::Tls(tls) => Some(if tls.client_certificate { Verified::Yes } else { Verified::No }),
        Security::Plain => {
            let asks = match snapshot.tls(Some(name)) {
                TlsChoice::Serve { tls, .. } => client_auth(tls).is_some(),
                TlsChoice::Absent(host) | TlsChoice::Refused(host) => host.https_only,
                TlsChoice::Unknown => false,
            };
            asks.then_some(Verified::No)
        }
    }
}

/// Whether nothing new is asked of clients.
fn is_asked_the_same(one: Option<&ClientAuth>, other: Option<&ClientAuth>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.asks_the_same(other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn client_auth(tls: &ServerTls) -> Option<&ClientAuth> {
    tls.policy().settings().client_auth.as_ref()
}

/// Whether a route is there for challenges and nothing else, as those of cert-manager's solvers are.
fn is_for_challenges(route: &Route) -> bool {
    route.path.is_acme_challenge() || route.path.is_acme_prefix()
}

/// The authority as received.
fn request_host(request: &Parts) -> Result<HeaderValue, Answer> {
    let bad = |reason| Answer::new(StatusCode::BAD_REQUEST, reason).closing();
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("there is more than one Host header"));
    }
    if request.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(bad("the scheme of the request target is not http or https"));
    }
    match (request.uri.authority(), host) {
        // RFC 9113 section 8.3.1: a request in which they differ is malformed.
        (Some(authority), Some(host))
            if request.version == Version::HTTP_2
                && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err(bad("Host and :authority differ"))
        }
        // RFC 9112 section 3.2: a request of HTTP/1.1 must have Host, even if it is to be ignored.
        (Some(_), None) if request.version != Version::HTTP_2 => Err(bad("there is no Host header")),
        // RFC 9112 section 3.2.2: the target's authority wins.
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| bad("the host is malformed")),
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => Err(bad("there is no Host header")),
    }
}

/// The host of an authority, normalised; `None` if it is malformed. User information is refused: no client may send
/// it (RFC 9110 section 4.2.4), and it disguises the host.
fn host_name(authority: &str) -> Option<Cow<'_, str>> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (authority.get(..address.len() + 2)?, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
        }
        None => {
            let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
            let name = name.strip_suffix('.').unwrap_or(name);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) || name.split('.').any(str::is_empty) {
                return None;
            }
            (name, port)
        }
    };
    if !port.is_empty() && (!port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err()) {
        return None;
    }
    Some(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalised() {
        let rows = [
            ("shop.example.com", Some("shop.example.com")),
            ("Shop.Example.COM.:8443", Some("shop.example.com")),
            ("shop:", Some("shop")),
            ("my_host", Some("my_host")),
            ("10.0.0.1:80", Some("10.0.0.1")),
            ("[2001:DB8::1]:80", Some("[2001:db8::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (".", None),
            (":80", None),
            ("a..b", None),
            (".a", None),
            ("a..", None),
            ("user@shop.example.com", None),
            ("user:secret@shop.example.com", None),
            ("a b", None),
            ("a/b", None),
            ("a,b", None),
            ("a:80:80", None),
            ("a:x", None),
            ("a:+80", None),
            ("a:65536", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[::g]", None),
            ("ä.example", None),
        ];
        for (authority, name) in rows {
            assert_eq!(host_name(authority).as_deref(), name, "{authority}");
        }
    }
}
