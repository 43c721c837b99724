//! The admin listener: metrics, health, readiness, and a look inside.
//!
//! `request ──PAGES──▶ page ──gate──▶ may this peer? ──query──▶ parameters ──▶ answer`
//!
//! One table has every page: path, method, who may ask, parameters. `/metrics`, `/healthz` and `/readyz` answer everyone
//! who reaches the port. What shows clients or changes something (`/api/…`, `/debug/…`) answers loopback peers only,
//! unless `--admin-expose-api` is given; and nothing answers pages of other sites in a browser (`gate`).
//! Errors are one line of plain text that says what to do.
//!
//! Whoever reaches the port can open connections and say nothing. Then the one that has waited longest ends, and probes
//! have places that nothing else takes: a kubelet that gets no answer ends the process.

mod gate;
pub mod keylog;
pub mod page;
pub mod query;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::page::{Answer, Asked, Audience, Page, Refusal, text, typed};
use self::query::{Parameter, Query};
use crate::api::annotations::edit_distance;
use crate::failures::{Failures, report};
use crate::keylog::KeyLog;
use crate::metrics::{Metrics, places};
use crate::open_files;
use crate::places::{Notice, Place, Places};
use crate::snapshot::{HostName, Reader, Snapshot};

/// Whether this replica should get traffic.
#[derive(Clone, Default)]
pub struct Readiness(Arc<ReadinessFlags>);

#[derive(Default)]
struct ReadinessFlags {
    serving: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    /// The first snapshot is served. Later trouble with a source never takes this back: the last snapshot is served.
    pub fn serving(&self) {
        self.0.serving.store(true, Ordering::Release);
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// `Ok` if ready, or why not.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.0.stopping.load(Ordering::Acquire) {
            Err("stopping: connections are being drained")
        } else if !self.0.serving.load(Ordering::Acquire) {
            Err("starting: no configuration has been compiled yet")
        } else {
            Ok(())
        }
    }
}

/// What the admin listener shows.
#[derive(Clone)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/debug/snapshot`.
    pub reader: Reader,
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/api/failures`.
    pub failures: Arc<Failures>,
    /// For `/api/shadow`.
    pub lost: Arc<Failures>,
    /// Whether pages for loopback peers answer everyone: `--admin-expose-api`.
    pub expose_api: bool,
    /// For `/api/keylog`.
    pub keylog: KeyLog,
}

/// Every page. What is about clients, or changes something, is for loopback peers.
pub static PAGES: &[Page] = &[
    Page {
        path: "/",
        method: Method::GET,
        audience: Audience::Everyone,
        parameters: &[],
        about: "this list",
        answer: |_, _| Ok(text(StatusCode::OK, list())),
    },
    Page {
        path: "/metrics",
        method: Method::GET,
        audience: Audience::Everyone,
        parameters: &[],
        about: "metrics for Prometheus",
        answer: metrics,
    },
    Page {
        path: "/healthz",
        method: Method::GET,
        audience: Audience::Everyone,
        parameters: &[],
        about: "whether the process is alive",
        answer: |_, _| Ok(text(StatusCode::OK, "ok\n")),
    },
    Page {
        path: "/readyz",
        method: Method::GET,
        audience: Audience::Everyone,
        parameters: &[],
        about: "whether the process is ready for traffic",
        answer: ready,
    },
    keylog::SHOW,
    keylog::BEGIN,
    keylog::END,
    Page {
        path: "/api/failures",
        method: Method::GET,
        audience: Audience::Loopback,
        parameters: &[HOST, LIMIT],
        about: "the last failed handshakes, who must act and what to do; as JSON",
        answer: |admin, asked| {
            let (host, limit) = selection(admin, asked)?;
            let snapshot = admin.reader.load_full();
            page::json(&report::failures(&admin.failures, &admin.metrics, &snapshot, host.as_ref(), limit))
        },
    },
    Page {
        path: "/api/hosts",
        method: Method::GET,
        audience: Audience::Loopback,
        parameters: &[HOST, AFTER, LIMIT],
        about: "each virtual host: its certificates, and what its clients support; as JSON",
        answer: |admin, asked| {
            let (host, limit) = selection(admin, asked)?;
            let after = asked.query.value("after", query::host_name)?;
            let snapshot = admin.reader.load_full();
            page::json(&report::hosts(&admin.metrics, &snapshot, host.as_ref(), after.as_ref(), limit))
        },
    },
    Page {
        path: "/api/shadow",
        method: Method::GET,
        audience: Audience::Loopback,
        parameters: &[HOST, LIMIT],
        about: "which clients a shadow policy would lock out; as JSON",
        answer: |admin, asked| {
            let (host, limit) = selection(admin, asked)?;
            let snapshot = admin.reader.load_full();
            page::json(&report::shadow(&admin.lost, &admin.metrics, &snapshot, host.as_ref(), limit))
        },
    },
    Page {
        path: "/debug/snapshot",
        method: Method::GET,
        audience: Audience::Loopback,
        parameters: &[],
        about: "what is served, as text",
        answer: |admin, _| Ok(text(StatusCode::OK, admin.reader.load_full().render())),
    },
];

const HOST: Parameter = Parameter { name: "host", takes: "the name of a virtual host, or *" };
const AFTER: Parameter = Parameter { name: "after", takes: "the name of a virtual host: those behind it are shown" };
const LIMIT: Parameter = Parameter { name: "limit", takes: "a number from 1 to 1000 (200 if it is left out)" };

/// What `host` and `limit` select.
fn selection(admin: &Admin, asked: &Asked) -> Result<(Option<HostName>, usize), Refusal> {
    let host = asked.query.value("host", query::host_name)?;
    let limit = asked.query.value("limit", query::number(1..=1000))?.unwrap_or(200);
    if let Some(name) = &host {
        configured(&admin.reader.load(), name)?;
    }
    Ok((host, limit))
}

/// Refuses a host that is not configured: to select it would show nothing, which looks like good news.
fn configured(snapshot: &Snapshot, name: &HostName) -> Result<(), Refusal> {
    if snapshot.hosts.contains_key(name) {
        return Ok(());
    }
    let advice = match snapshot.named_host(name.as_str()) {
        Some(wildcard) => format!("{} serves this name. Ask for it", wildcard.name),
        None => match nearest(snapshot, name).as_slice() {
            [] => "no host is configured".to_owned(),
            names => format!("the nearest: {}", names.join(", ")),
        },
    };
    Err(Refusal::not_found(format!("no host {name} is configured; {advice}")))
}

fn nearest<'a>(snapshot: &'a Snapshot, name: &HostName) -> Vec<&'a str> {
    const SHOWN: usize = 3;
    let scored = snapshot.hosts.keys().map(|host| (edit_distance(host.as_str(), name.as_str()), host.label()));
    let mut scored: Vec<_> = scored.collect();
    scored.sort_unstable();
    scored.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

/// Pages that tell the kubelet whether to let the process live.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// A connection whose request has not come yet.
const OPENING: usize = 0;

/// A connection whose answer is on its way.
const ANSWERING: usize = 1;

/// The same for a probe.
const PROBING: usize = 2;

/// So many connections at a time, an eighth of them for probes, a quarter for other answers.
fn places(limit: usize, metrics: &Metrics) -> Places {
    let answering = (limit / 4, places::ADMIN_PAGES);
    let probing = ((limit / 8).max(1), places::ADMIN_PROBES);
    metrics.places("the admin port", limit, &[(0, places::ADMIN), answering, probing])
}

/// Files that are given up one by one where no other is left, so that probes are answered also then.
const SPARE_FILES: usize = 8;

/// From accept to the end of the answer. One request per connection, so that nobody holds a place for longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Serves so many connections at a time until `end`.
pub async fn serve(listener: StdListener, admin: Admin, limit: usize, end: CancellationToken) {
    let mut spare: Vec<OwnedFd> = Vec::new();
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "The admin listener does not work.");
            return;
        }
    };
    let places = places(limit, &admin.metrics);
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if open_files::are_used_up(&error) && (spare.pop().is_some() || places.evict_longest()) => {
                // Whoever is told to end does so meanwhile.
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            Err(error) => {
                warn!(%error, "An admin connection cannot be accepted.");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if spare.len() < SPARE_FILES {
            spare.extend(listener.as_fd().try_clone_to_owned());
        }
        // Nobody works here without an end, so there is a place.
        let Ok(place) = places.enter(OPENING, &Notice::default()) else { continue };
        let (admin, end) = (admin.clone(), end.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = connection(stream, peer, &admin, &place) => {}
                () = place.notice().told() => debug!(%peer, "An admin connection was closed: {}.", place.notice().why()),
                () = tokio::time::sleep(LONGEST) => debug!(%peer, "An admin connection was closed: it took too long."),
                () = end.cancelled() => {}
            }
        });
    }
}

/// Answers one request.
async fn connection(stream: TcpStream, peer: SocketAddr, admin: &Admin, place: &Place) {
    let service = service_fn(|request| {
        place.join(if PROBES.contains(&request.uri().path()) { PROBING } else { ANSWERING });
        let response = answer(admin, peer, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(Flow { stream, place }), service);
    if let Err(error) = connection.await {
        debug!(%error, "An admin connection ended early.");
    }
}

/// A peer that takes what is written to it has not waited for long.
struct Flow<'a> {
    stream: TcpStream,
    place: &'a Place,
}

impl Flow<'_> {
    fn written(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = outcome {
            self.place.wait();
        }
        outcome
    }
}

impl AsyncRead for Flow<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl AsyncWrite for Flow<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn answer<B>(admin: &Admin, peer: SocketAddr, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = try_answer(admin, peer, request).unwrap_or_else(Response::from);
    // Server names and header fields of clients are shown as they came; no browser may take them for something else.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn try_answer<B>(admin: &Admin, peer: SocketAddr, request: &Request<B>) -> Answer {
    let uri = request.uri();
    let rows = || PAGES.iter().filter(|page| page.path == uri.path());
    let Some(first) = rows().next() else {
        return Err(Refusal::not_found("no such page; / lists them"));
    };
    gate::admit(first.audience, admin.expose_api, peer.ip(), uri, request.headers())?;
    let method = match *request.method() {
        // hyper leaves the body out.
        Method::HEAD => &Method::GET,
        _ => request.method(),
    };
    let Some(page) = rows().find(|page| page.method == *method) else {
        return Ok(method_not_allowed(rows()));
    };
    // What monitoring asks for takes no parameters, and probes append whatever they like.
    let query = match page.audience {
        Audience::Everyone => "",
        Audience::Loopback => uri.query().unwrap_or_default(),
    };
    let query = Query::parse(query, page.parameters)?;
    (page.answer)(admin, &Asked { peer, query })
}

fn method_not_allowed<'a>(rows: impl Iterator<Item = &'a Page>) -> Response<Full<Bytes>> {
    let mut methods = Vec::new();
    for page in rows {
        methods.push(page.method.as_str());
        if page.method == Method::GET {
            methods.push(Method::HEAD.as_str());
        }
    }
    let allowed = methods.join(", ");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("this page takes {allowed}\n"));
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// The table, for people.
fn list() -> String {
    let line = |page: &Page| {
        let names: Vec<&str> = page.parameters.iter().map(|parameter| parameter.name).collect();
        let query = if names.is_empty() { String::new() } else { format!("?{}=", names.join("=&")) };
        format!("{:<6} {:<40} {}\n", page.method.as_str(), format!("{}{query}", page.path), page.about)
    };
    PAGES.iter().map(line).collect()
}

fn metrics(admin: &Admin, _: &Asked) -> Answer {
    Ok(typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", admin.metrics.render().into()))
}

fn ready(admin: &Admin, _: &Asked) -> Answer {
    match admin.readiness.check() {
        Ok(()) => Ok(text(StatusCode::OK, "ready\n")),
        Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot;

    fn admin(expose_api: bool) -> Admin {
        let (_, reader) = snapshot::channel(Arc::default());
        Admin {
            metrics: Metrics::new(true),
            reader,
            readiness: Readiness::default(),
            failures: Arc::new(Failures::new(1)),
            lost: Arc::new(Failures::new(1)),
            expose_api,
            keylog: KeyLog::default(),
        }
    }

    fn ask(admin: &Admin, peer: &str, method: Method, target: &str) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(target).header("host", "localhost").body(()).unwrap();
        answer(admin, SocketAddr::new(peer.parse().unwrap(), 1), &request)
    }

    #[test]
    fn pages_about_clients_are_for_loopback_peers_and_all_rows_of_a_path_agree() {
        for page in PAGES {
            let inside = page.path.starts_with("/api/") || page.path.starts_with("/debug/");
            assert_eq!(page.audience == Audience::Loopback, inside, "{}", page.path);
            let same = PAGES.iter().filter(|other| other.path == page.path);
            assert_eq!(same.filter(|other| other.method == page.method).count(), 1, "{} twice", page.path);
            let status = |expose: bool, peer: &str| ask(&admin(expose), peer, Method::GET, page.path).status();
            assert_eq!(status(false, "192.0.2.1") == StatusCode::FORBIDDEN, inside, "{}", page.path);
            assert_eq!(status(true, "192.0.2.1"), status(false, "127.0.0.1"), "{}", page.path);
        }
    }

    #[test]
    fn unknown_pages_methods_and_parameters_are_named() {
        let admin = admin(false);
        let status = |method, target| ask(&admin, "127.0.0.1", method, target).status();
        assert_eq!(status(Method::GET, "/metrics/"), StatusCode::NOT_FOUND);
        assert_eq!(status(Method::GET, "/debug/snapshot?x=1"), StatusCode::BAD_REQUEST);
        assert_eq!(status(Method::HEAD, "/metrics"), StatusCode::OK);
        let refused = ask(&admin, "127.0.0.1", Method::DELETE, "/debug/snapshot");
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
        assert_eq!(refused.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        // Who may not use a page does not learn what it takes.
        assert_eq!(ask(&admin, "192.0.2.1", Method::POST, "/debug/snapshot?x").status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn pages_for_everyone_answer_whatever_the_query() {
        let admin = admin(false);
        let answer = |target: &str| ask(&admin, "192.0.2.1", Method::GET, target).status();
        for page in PAGES.iter().filter(|page| page.audience == Audience::Everyone) {
            assert!(page.parameters.is_empty(), "{}: its parameters are never read", page.path);
            for query in ["x", "x=1", "verbose", "%zz&x=1&x=2", ""] {
                assert_eq!(answer(&format!("{}?{query}", page.path)), answer(page.path), "{} {query}", page.path);
            }
        }
        assert_eq!(answer("/healthz?x"), StatusCode::OK);
    }

    #[test]
    fn probes_are_pages_for_everyone() {
        for probe in PROBES {
            assert!(PAGES.iter().any(|page| page.path == probe && page.audience == Audience::Everyone), "{probe}");
        }
    }

    #[test]
    fn the_list_names_every_page() {
        let list = list();
        assert_eq!(list.lines().count(), PAGES.len());
        for page in PAGES {
            assert!(list.contains(&format!("{} ", page.path)) || list.contains(&format!("{}?", page.path)), "{list}");
        }
    }
}
