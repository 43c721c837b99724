//! The admin listener: metrics, health, readiness, and a look inside.
//!
//! `/metrics`, `/healthz` and `/readyz` answer everyone who reaches the port. `/debug/…` answers loopback peers only,
//! which is where `kubectl port-forward` arrives.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::snapshot::Reader;

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
}

/// Connections to the admin listener at a time; a scraper and a probe need one each.
const MAX_CONNECTIONS: usize = 256;

/// From accept to the end of the answer. One request per connection, so that nobody holds a place for longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Serves until `end`.
pub async fn serve(listener: StdListener, admin: Admin, end: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "The admin listener cannot be used.");
            return;
        }
    };
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "An admin connection cannot be accepted.");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (admin, end) = (admin.clone(), end.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let response = answer(&admin, peer, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                result = connection => if let Err(error) = result {
                    debug!(%error, "An admin connection ended early.");
                },
                () = tokio::time::sleep(LONGEST) => debug!(%peer, "An admin connection was closed: it took too long."),
                () = end.cancelled() => {}
            }
        });
    }
}

fn answer(admin: &Admin, peer: SocketAddr, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    if path.starts_with("/debug") && !peer.ip().to_canonical().is_loopback() {
        return text(StatusCode::FORBIDDEN, "only for loopback peers: use kubectl port-forward\n");
    }
    match path {
        "/" => text(StatusCode::OK, "/metrics\n/healthz\n/readyz\n/debug/snapshot\n"),
        "/metrics" => {
            let mut response = text(StatusCode::OK, admin.metrics.render());
            let format = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match admin.readiness.check() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/debug/snapshot" => text(StatusCode::OK, admin.reader.load_full().render()),
        _ => text(StatusCode::NOT_FOUND, "no such page; / lists them\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
