//! The webhook's own small HTTPS server, on a thread of its own.
//!
//! `accept ──TLS──▶ POST /validate ──body──▶ one review after the other ──▶ answer`
//!
//! Everything is bounded: connections, the time for a handshake, a head, a body and a verdict, and the size of a body.
//! One review is judged at a time, on one more thread, so that the webhook never takes more than one processor from those
//! who serve. Whoever has to wait for too long is let in with a warning.
//!
//! When all places are taken, the connection that has waited longest for its client ends, be it for a hello, a head or
//! a body; so who only holds places keeps nobody out.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::BoxError;
use tracing::{debug, warn};

use super::Watched;
use super::judge::{self, Ask, Outcome, Rules, Verdict};
use super::review::{Head, Kind};
use crate::clock::Clock;
use crate::compile::Compiler;
use crate::metrics::{Metrics, places};
use crate::places::{Notice, Place, Places};
use crate::reconcile::Message;

/// Everything that an answer needs.
pub(super) struct Server {
    pub(super) rules: Rules,
    pub(super) watched: Watched,
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    /// Reviews that are judged at a time.
    judging: Arc<Semaphore>,
    /// For bodies that are held.
    bodies: Places,
}

impl Server {
    pub(super) fn new(
        rules: Rules,
        watched: Watched,
        inbox: mpsc::Sender<Message>,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let judging = Arc::new(Semaphore::new(1));
        let bodies = metrics.places("bodies of reviews", MAX_BODIES, &[(0, places::WEBHOOK_BODIES)]);
        Self { rules, watched, inbox, clock, metrics, judging, bodies }
    }
}

/// Connections at a time. The API server keeps a few.
const MAX_CONNECTIONS: usize = 64;

/// Bodies at a time, of the largest size 24 MiB together.
const MAX_BODIES: usize = 8;

/// Largest body: a review holds two versions of an object, and the API server takes requests of 3 MiB.
const MAX_BODY: usize = 3 << 20;

/// How long a handshake and the first head after it may take together: whoever asks nothing holds no place for longer.
const OPENING: Duration = Duration::from_secs(5);

/// How long a connection may be silent between requests, and how long a later head may take.
const IDLE: Duration = Duration::from_secs(30);

/// How long a body may take.
const BODY: Duration = Duration::from_secs(3);

/// How long a verdict may take, the wait for earlier ones included. The API server waits for 5 s by default.
const VERDICT: Duration = Duration::from_secs(2);

/// How long a connection is used. Another replica may have come meanwhile, and nobody holds a place for ever.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// How long what has begun may take when a connection, or everything, is to end.
const LAST: Duration = Duration::from_secs(3);

/// Serves until `end`, and then for a moment whatever has begun.
pub(super) async fn serve(
    listener: StdListener,
    server: Arc<Server>,
    mut offered: watch::Receiver<Option<Arc<ServerConfig>>>,
    end: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "The webhook's listener cannot be used."),
    };
    let places = server.metrics.places("the webhook", MAX_CONNECTIONS, &[(0, places::WEBHOOK)]);
    loop {
        // Those who come before there is a certificate, or while all others work, wait in the kernel: all but one.
        let next = async {
            let config = offered.wait_for(Option::is_some).await.ok()?.clone()?;
            let accepted = listener.accept().await;
            Some((places.enter_when_free(0, &Notice::default()).await, config, accepted))
        };
        let next = tokio::select! {
            () = end.cancelled() => break,
            next = next => next,
        };
        let Some((place, config, accepted)) = next else { break };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "A connection to the webhook cannot be accepted.");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // What is offered may have changed while nobody came.
        let config = offered.borrow().clone().unwrap_or(config);
        let (server, end) = (server.clone(), end.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = connection(stream, peer, config, &server, &place, &end) => {}
                () = place.notice().hurried() => {}
            }
            if place.notice().is_told() {
                debug!(%peer, "A connection to the webhook was closed: {}.", place.notice().why());
            }
        });
    }
    drop(listener);
    let _ = timeout(LAST, places.emptied()).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    server: &Arc<Server>,
    place: &Place,
    end: &CancellationToken,
) {
    let opened = tokio::time::Instant::now() + OPENING;
    let handshake = timeout_at(opened, TlsAcceptor::from(config).accept(stream));
    let handshake = tokio::select! {
        () = end.cancelled() => return,
        () = place.notice().told() => return,
        handshake = handshake => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%peer, %error, "A handshake with the webhook has failed."),
        Err(_) => return debug!(%peer, "A handshake with the webhook took too long."),
    };
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        // Heard of; it works when all of the review is here.
        place.wait();
        let server = server.clone();
        async move {
            let response = answer(&server, place, request).await;
            place.wait();
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let asks = tokio::select! {
        ended = connection.as_mut() => return tell(peer, Ok(ended)),
        asks = timeout_at(opened, asked.notified()) => asks,
        () = place.notice().told() => return,
    };
    if asks.is_err() {
        return debug!(%peer, "A connection to the webhook sent no request.");
    }
    tokio::select! {
        ended = connection.as_mut() => return tell(peer, Ok(ended)),
        _ = timeout(LIFETIME, end.cancelled()) => {}
        () = place.notice().told() => {}
    }
    // What is asked is still answered, and nothing more is.
    connection.as_mut().graceful_shutdown();
    tell(peer, timeout(LAST, connection).await);
}

/// How a connection has ended.
fn tell(peer: SocketAddr, ended: Result<hyper::Result<()>, Elapsed>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "A connection to the webhook ended early."),
        Err(_) => debug!(%peer, "A connection to the webhook was cut off."),
    }
}

async fn answer(server: &Arc<Server>, place: &Place, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/validate" {
        return text(StatusCode::NOT_FOUND, "this server only has /validate\n");
    }
    if *request.method() != Method::POST {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "/validate takes POST\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let started = Instant::now();
    let (kind, outcome, response) = match review(server, place, request.into_body()).await {
        Ok(answered) => answered,
        Err((status, why)) => (Kind::Other, Outcome::Failed, text(status, why)),
    };
    server.metrics.webhook_requests.with_label_values(&[kind.code(), outcome.code()]).inc();
    server.metrics.webhook_request_duration.observe(started.elapsed().as_secs_f64());
    response
}

type Refused = (StatusCode, String);

async fn review(
    server: &Arc<Server>,
    place: &Place,
    body: Incoming,
) -> Result<(Kind, Outcome, Response<Full<Bytes>>), Refused> {
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("a review has at most {MAX_BODY} bytes\n"));
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let read = async {
        let held = server.bodies.enter_when_free(0, &Notice::default()).await;
        let body = tokio::select! {
            biased;
            body = Limited::new(body, MAX_BODY).collect() => body?.to_bytes(),
            () = held.notice().told() => return Ok(None),
        };
        held.work();
        Ok::<_, BoxError>(Some((held, body)))
    };
    // The place is kept until there is a verdict, because the body is.
    let (_held, body) = match timeout(BODY, read).await {
        Ok(Ok(Some(read))) => read,
        Ok(Ok(None)) => return Err((StatusCode::SERVICE_UNAVAILABLE, "the body came too slowly\n".to_owned())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, "the body is cut off\n".to_owned())),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the body takes too long\n".to_owned())),
    };
    place.work();
    let head = Head::parse(&body).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    let (kind, uid) = (head.kind, head.uid.clone());
    let until = Instant::now() + VERDICT;
    let verdict = match timeout(VERDICT, verdict(server, head, body, until)).await {
        Ok(verdict) => verdict,
        Err(_) => Verdict::failed("it takes too long"),
    };
    let outcome = verdict.outcome;
    debug!(kind = kind.code(), outcome = outcome.code(), built = verdict.built, "A review was answered.");
    let mut response = Response::new(Full::new(verdict.answer.into_review(&uid).into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((kind, outcome, response))
}

async fn verdict(server: &Arc<Server>, head: Head, body: Bytes, until: Instant) -> Verdict {
    let Ok(turn) = server.judging.clone().acquire_owned().await else {
        return Verdict::failed("Handfast is shutting down");
    };
    let server = server.clone();
    let metrics = server.metrics.clone();
    let judged = tokio::task::spawn_blocking(move || {
        // Kept until it is done, also when nobody waits for it any more.
        let _turn = turn;
        let compiler = Inbox { sender: &server.inbox, until };
        judge::judge(&head, &body, server.rules, &*server.watched, &compiler, (server.clock)())
    });
    judged.await.unwrap_or_else(|_| {
        metrics.panics.inc();
        Verdict::failed("of a bug in Handfast")
    })
}

/// The reconciler's inbox: questions are answered between two compilations.
struct Inbox<'a> {
    sender: &'a mpsc::Sender<Message>,
    until: Instant,
}

impl Ask for Inbox<'_> {
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Compiler) -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        let until = self.until;
        let ask = move |compiler: &Compiler| {
            // Nobody waits for late answers, and the reconciler has other things to do.
            if Instant::now() < until {
                let _ = reply.send(question(compiler));
            }
        };
        self.sender.send(Message::Ask(Box::new(ask))).ok()?;
        answer.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
