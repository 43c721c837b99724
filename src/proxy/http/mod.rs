//! Requests on one client connection: everything behind an established byte stream.
//!
//! ```text
//! stream ──framing──▶ hyper (HTTP/1.1 or 2) ──▶ decide ──▶ forward ──▶ upstream/
//!                                                  └──▶ answer: redirects, 400, 403, 404, 421, 503
//! ```
//!
//! Each request loads the newest snapshot, so changes of routes reach open connections at their next request.
//! HTTP/2 comes by ALPN over TLS and by prior knowledge in clear text. An `Upgrade` turns the connection into a tunnel
//! when its response has been sent. A record counts and logs each request exactly once, malformed ones included.

pub(super) mod body;
mod chunked;
mod decide;
mod flow;
mod forward;
mod framing;
mod head;
mod headers;
mod pace;
mod record;
mod stall;
mod tunnel;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::body::ResponseBody;
use self::decide::{Answer, Decision};
use self::flow::Flow;
use self::framing::{Framed, HeadLimits, Wire};
use self::head::Refusal;
use self::pace::Pace;
use self::record::Record;
pub(super) use self::stall::Stall;
use self::tunnel::Tunnel;
use super::settings::Settings;
use super::stream::Prefixed;
use super::upstream::Upstreams;
use crate::access_log::AccessLog;
use crate::metrics::Metrics;
use crate::places::Place;
use crate::snapshot::{Reader, VirtualHost};
use crate::tls::ServerTls;
use crate::tls::offer::begins_tls;

/// What begins an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest buffer for what a client is slow to read; nothing more is taken from an endpoint meanwhile.
const CLIENT_BUFFER: usize = 64 * 1024;

/// How long a new connection is waited for to send its first request when the drain has begun.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// How long what runs on a connection may go on after its host has come to ask for other certificates of clients: time
/// for short responses to end in good order. A download without end must not outlive what let its client in.
const OUTDATED_GRACE: Duration = Duration::from_secs(10);

/// How long a connection that is told to end because its place is needed may take to finish a head, or to take GOAWAY.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// How often idle connections are looked over.
const SWEEP: Duration = Duration::from_secs(5);

/// What is known about a client connection before its first request.
#[derive(Clone)]
pub struct Connection {
    /// The client's address, after PROXY protocol; never an IPv4-mapped IPv6 address.
    pub client: SocketAddr,
    /// The other end of the TCP connection.
    pub peer: SocketAddr,
    /// Our end of the TCP connection.
    pub local: SocketAddr,
    /// What protects it.
    pub security: Security,
}

/// What protects a client connection.
#[derive(Clone)]
pub enum Security {
    /// Nothing: HTTP in clear text.
    Plain,
    /// TLS that was terminated here.
    Tls(TlsConnection),
}

/// What the handshake settled.
#[derive(Clone)]
pub struct TlsConnection {
    /// The server name that the client asked for, in lower case.
    pub server_name: Option<Arc<str>>,
    /// The virtual host whose certificate was used; `None` if the default certificate answered for no host.
    pub host: Option<Arc<VirtualHost>>,
    /// What was served.
    pub tls: Arc<ServerTls>,
    /// The protocol version, for logs: `1.2` or `1.3`.
    pub version: &'static str,
    /// Whether ALPN chose `h2`.
    pub http2: bool,
    /// Whether the client has shown a certificate, which was verified.
    pub client_certificate: bool,
}

/// What serves requests. One per worker, with its own connections to endpoints.
pub struct HttpService {
    reader: Reader,
    upstreams: Upstreams,
    settings: Arc<Settings>,
    metrics: Metrics,
    access_log: AccessLog,
    sweeping: AtomicBool,
    /// Told when some host asks for other certificates of clients than before.
    asks_changed: Notify,
    /// Cancelled when load balancers are to look away.
    unready: CancellationToken,
}

impl HttpService {
    /// A service without connections.
    pub fn new(reader: Reader, settings: Arc<Settings>, metrics: Metrics, access_log: AccessLog) -> Self {
        let upstreams = Upstreams::new(settings.clone(), metrics.clone());
        let (sweeping, asks_changed) = (AtomicBool::new(false), Notify::new());
        let unready = CancellationToken::new();
        Self { reader, upstreams, settings, metrics, access_log, sweeping, asks_changed, unready }
    }

    /// Says to load balancers that ask, from this moment on, that the end is near.
    pub fn unready_from(self, unready: CancellationToken) -> Self {
        Self { unready, ..self }
    }

    /// Starts the task that looks after idle connections, to endpoints and of clients. It ends with the service.
    fn start_sweeping(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut before = self.reader.load_full();
        let service = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(service) = service.upgrade() else { return };
                let now = service.reader.load_full();
                service.upstreams.sweep(&now);
                // Idle connections are looked at only if there is a cause, because there can be many of them.
                if decide::some_host_asks_otherwise(&before, &now) {
                    service.asks_changed.notify_waiters();
                }
                before = now;
            }
        });
    }
}

/// One client connection, shared by its requests.
struct Client {
    connection: Connection,
    service: Arc<HttpService>,
    /// For HTTP/1.1.
    wire: Arc<Wire>,
    /// For HTTP/2.
    pace: Arc<Pace>,
    /// What it has a place by: it works while a request runs, and waits in between.
    place: Arc<Place>,
    /// Requests that have not ended.
    active: AtomicUsize,
    /// Whether the client is waited for to take what was written.
    blocked: AtomicBool,
    /// When the last request ended.
    idle_since: Mutex<Instant>,
    /// Cancelled when the connection is to end.
    drain: CancellationToken,
    /// Whether there has been a request.
    used: AtomicBool,
    /// Told when a request begins.
    began: Notify,
    /// Whether the connection is to end because its host asks for other certificates of clients now.
    ended: AtomicBool,
    /// Told when that becomes so.
    end: Notify,
    /// What the connection becomes when its last response has been sent.
    tunnel: Mutex<Option<Tunnel>>,
}

impl Client {
    /// A request begins.
    fn begin(&self) {
        if self.active.fetch_add(1, Ordering::Relaxed) == 0 {
            self.place.work();
        }
        self.used.store(true, Ordering::Relaxed);
        self.began.notify_waiters();
    }

    /// Ends when it is time to tell the client that the connection ends: at the drain, but not between a client's
    /// connection and its first request, nor within the head of a request, where an end would be a failed request.
    async fn drained(&self) {
        self.drain.cancelled().await;
        let began = self.began.notified();
        if !self.used.load(Ordering::Relaxed) || self.wire.in_head() {
            // Both outcomes end the wait.
            let _ = tokio::time::timeout(DRAIN_GRACE, began).await;
        }
    }

    /// The host asks for other certificates of clients than when the connection was made: it ends, with what runs.
    fn outdated(&self) {
        self.ended.store(true, Ordering::Release);
        self.end.notify_waiters();
    }

    /// Ends when the connection is [outdated](Client::outdated), at the latest some seconds after the change. A request
    /// that comes before that finds out by itself.
    async fn until_outdated(&self) {
        let Security::Tls(tls) = &self.connection.security else { return std::future::pending().await };
        loop {
            // Listens before it looks, so that no change falls in between.
            let (changed, end) = (self.service.asks_changed.notified(), self.end.notified());
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            if decide::asks_otherwise(&self.service.reader.load(), tls, tls.server_name.as_deref()) {
                self.ended.store(true, Ordering::Release);
                return;
            }
            tokio::select! {
                () = changed => {}
                () = end => return,
            }
        }
    }

    /// A request has ended.
    fn end(&self) {
        *lock(&self.idle_since) = Instant::now();
        if self.active.fetch_sub(1, Ordering::Relaxed) == 1 && !self.blocked.load(Ordering::Relaxed) {
            self.place.wait();
        }
    }

    /// Something that was written is not taken: what is left of a response belongs to its request.
    fn blocked(&self) {
        if !self.blocked.swap(true, Ordering::Relaxed) && self.used.load(Ordering::Relaxed) {
            self.place.work();
        }
    }

    /// All that was written is taken.
    fn flushed(&self) {
        let was = self.blocked.load(Ordering::Relaxed) && self.blocked.swap(false, Ordering::Relaxed);
        if was && self.active.load(Ordering::Relaxed) == 0 {
            self.place.wait();
        }
    }

    /// Ends when the place is needed, and the head of a request that is on its way has had time to come.
    async fn evicted(&self) {
        self.place.notice().told().await;
        let began = self.began.notified();
        if self.wire.in_head() {
            // Both outcomes end the wait.
            let _ = tokio::time::timeout(EVICTION_GRACE, began).await;
        }
    }

    /// Ends when the place is needed and nothing runs, but the connection has not ended in good order.
    async fn overdue(&self) {
        self.place.notice().told().await;
        loop {
            tokio::time::sleep(2 * EVICTION_GRACE).await;
            if self.active.load(Ordering::Relaxed) == 0 && !self.blocked.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Since when nothing goes on, if so.
    fn idle_since(&self) -> Option<Instant> {
        let busy = self.active.load(Ordering::Relaxed) > 0 || self.wire.in_head();
        (!busy).then(|| *lock(&self.idle_since))
    }

    /// How long the connection may be idle.
    fn longest_idle(&self) -> Duration {
        let settings = &self.service.settings;
        match self.used.load(Ordering::Relaxed) {
            true => settings.client_idle_timeout,
            // A keep-alive of 0 is about what follows the first request.
            false => settings.client_idle_timeout.max(settings.client_header_timeout),
        }
    }

    fn open_tunnel(&self, tunnel: Tunnel) {
        *lock(&self.tunnel) = Some(tunnel);
    }
}

/// Serves requests on one connection until it ends. When `drain` is cancelled, what runs is finished, the client is
/// told (GOAWAY, `Connection: close`), and then it ends; an upgraded connection goes on until this future is dropped.
/// When its host comes to ask for other certificates of clients, what runs has ten seconds more, and an upgraded
/// connection ends at once. When its `place` is needed, it ends as in a drain, unless a request runs.
///
/// A stream that begins with TLS where plain HTTP is expected is given back, with the bytes that have been read of it.
pub async fn serve<S>(
    stream: S,
    connection: Connection,
    service: Arc<HttpService>,
    place: Arc<Place>,
    drain: CancellationToken,
) -> Option<(S, BytesMut)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    service.start_sweeping();
    let client = Arc::new(Client {
        connection,
        service,
        wire: Arc::default(),
        pace: Arc::default(),
        place,
        active: AtomicUsize::new(0),
        blocked: AtomicBool::new(false),
        idle_since: Mutex::new(Instant::now()),
        drain: drain.clone(),
        used: AtomicBool::new(false),
        began: Notify::new(),
        end: Notify::new(),
        ended: AtomicBool::new(false),
        tunnel: Mutex::default(),
    });
    let mut stream = Flow::new(stream, client.clone());
    // One deadline for all that comes before the first request.
    let deadline = Instant::now() + client.service.settings.client_header_timeout;
    let by_alpn = match &client.connection.security {
        // RFC 9113 section 3.3: over TLS, HTTP/2 is chosen by ALPN only.
        Security::Tls(tls) if !tls.http2 => {
            serve_http1(stream, BytesMut::new(), deadline, client).await;
            return None;
        }
        Security::Tls(_) => true,
        Security::Plain => false,
    };
    // Also if ALPN has chosen: hyper would wait for the preface without limit, and not hear of the drain.
    let first = tokio::select! {
        first = read_preface(&mut stream, deadline) => first,
        () = async {
            drain.cancelled().await;
            tokio::time::sleep(DRAIN_GRACE).await;
        } => return None,
        () = client.place.notice().told() => None,
    };
    match first {
        Some(first) if first.as_ref() == PREFACE => serve_http2(stream, first, client).await,
        Some(first) if !by_alpn && begins_tls(&first) == Some(true) => {
            return Some((stream.into_inner(), first));
        }
        Some(first) if !by_alpn => serve_http1(stream, first, deadline, client).await,
        // RFC 9113 section 3.4: what does not begin with the preface is not HTTP/2, and nothing else was agreed on.
        Some(_) | None => {
            // With close_notify over TLS. Nothing else waits to be written.
            let _ = tokio::time::timeout(EVICTION_GRACE, stream.shutdown()).await;
        }
    }
    None
}

/// Reads until it is clear whether the client speaks HTTP/2, HTTP/1.1 or TLS: what it sent. `None` if it leaves or goes
/// silent while it may be HTTP/2.
async fn read_preface(stream: &mut (impl AsyncRead + Unpin), deadline: Instant) -> Option<BytesMut> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    let is_unclear = |first: &[u8]| {
        let may_be_http2 = first.len() < PREFACE.len() && PREFACE.starts_with(first);
        may_be_http2 || begins_tls(first).is_none()
    };
    let read = tokio::time::timeout_at(deadline, async {
        while is_unclear(&first) {
            let mut limited = (&mut *stream).take((PREFACE.len() - first.len()) as u64);
            if !limited.read_buf(&mut first).await.is_ok_and(|read| read > 0) {
                return;
            }
        }
    });
    // However it ends: what has come is judged by what it is.
    let _ = read.await;
    (first.as_ref() == PREFACE || !PREFACE.starts_with(&first)).then_some(first)
}

async fn serve_http1<S>(stream: S, first: BytesMut, deadline: Instant, client: Arc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = &client.service.settings;
    let limits =
        HeadLimits { count: settings.header_count, size: settings.header_size, time: settings.client_header_timeout };
    let framed = Framed::new(stream, first, client.wire.clone(), limits, deadline, settings.client_write_timeout);
    let mut builder = http1::Builder::new();
    // `Framed` has its own, finer timeout and limits; those of hyper must only not be smaller.
    builder.header_read_timeout(None).max_headers(settings.header_count);
    builder.max_buf_size(CLIENT_BUFFER.max(settings.header_size + 1024));
    let requests = client.clone();
    let service = service_fn(move |request| handle(requests.clone(), request));
    let tunnel = TunnelSlot(client.clone());
    {
        let connection = builder.serve_connection(TokioIo::new(framed), service).with_upgrades();
        let mut connection = pin!(connection);
        let (mut draining, mut deadline) = (false, None);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(client = %client.connection.client, %error, "client connection failed");
                    }
                    break;
                }
                () = client.until_outdated(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + OUTDATED_GRACE);
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = time_to_end(&client), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = passed(deadline) => break,
                () = client.overdue(), if draining => break,
            }
        }
    }
    if let Some(tunnel) = tunnel.take() {
        tunnel.run(client.until_outdated()).await;
    }
}

async fn serve_http2<S>(stream: S, first: BytesMut, client: Arc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = &client.service.settings;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    builder.max_concurrent_streams(settings.http2_streams);
    builder.max_header_list_size(u32::try_from(settings.header_size).unwrap_or(u32::MAX));
    builder.max_send_buf_size(CLIENT_BUFFER);
    builder.initial_stream_window_size(256 * 1024);
    builder.initial_connection_window_size(1024 * 1024);
    // Finds clients that vanished with streams open. Idle connections have their own end.
    let interval = settings.client_idle_timeout.max(settings.client_write_timeout);
    builder.keep_alive_interval(interval).keep_alive_timeout(settings.client_write_timeout);
    let requests = client.clone();
    let service = service_fn(move |request| handle(requests.clone(), request));
    let stream = Prefixed::new(first.into(), stream);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut pace = pin!(client.pace.keep(settings.client_write_timeout));
    let (mut draining, mut deadline) = (false, None);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(client = %client.connection.client, %error, "client connection failed");
                }
                return;
            }
            () = client.until_outdated(), if deadline.is_none() => {
                deadline = Some(Instant::now() + OUTDATED_GRACE);
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = time_to_end(&client), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = passed(deadline) => return,
            () = client.overdue(), if draining => return,
            () = stuck(&client, settings.client_write_timeout), if draining => return,
            () = pace.as_mut() => {}
        }
    }
}

/// Empties the place for the tunnel when the connection is dropped: a tunnel there would hold its own client, and so
/// itself and its connection to an endpoint, for ever.
struct TunnelSlot(Arc<Client>);

impl TunnelSlot {
    fn take(&self) -> Option<Tunnel> {
        lock(&self.0.tunnel).take()
    }
}

impl Drop for TunnelSlot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Ends when the client is to be told that the connection ends, and what runs may go on: at the drain, or after too long
/// without a request.
async fn time_to_end(client: &Client) {
    tokio::select! {
        biased;
        () = client.drained() => {}
        () = client.evicted() => {}
        () = idle(client) => {}
    }
}

/// Ends at the deadline, if there is one.
async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ends when the connection has been idle for too long.
async fn idle(client: &Client) {
    loop {
        let now = Instant::now();
        let deadline = match client.idle_since() {
            Some(since) if since + client.longest_idle() <= now => return,
            Some(since) => since + client.longest_idle(),
            // It cannot be idle for too long before that; and a keep-alive of 0 need not be exact.
            None => now + client.longest_idle().max(Duration::from_secs(1)),
        };
        tokio::time::sleep_until(deadline).await;
    }
}

/// Ends when nothing has gone on for `longest` since now. A connection that is still there then, after it was told to
/// end, has a client that does not take the rest of what hyper holds for it.
async fn stuck(client: &Client, longest: Duration) {
    let start = Instant::now();
    loop {
        let now = Instant::now();
        let deadline = client.idle_since().unwrap_or(now).max(start) + longest;
        if deadline <= now {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

/// Serves one request.
async fn handle(client: Arc<Client>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    let http1 = request.version() <= http::Version::HTTP_11;
    if !http1 {
        return Ok(respond(&client, request, None).await.map(|body| body.paced(&client.pace)));
    }
    let (number, refusal) = client.wire.next_request();
    let mut response = respond(&client, request, refusal).await;
    let last = client.drain.is_cancelled()
        || client.ended.load(Ordering::Acquire)
        || client.place.notice().is_told()
        || client.service.settings.client_idle_timeout.is_zero();
    if last && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        // hyper says so as well, but only of responses that begin after it was told.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    client.wire.decide_upgrade(number, response.status() == http::StatusCode::SWITCHING_PROTOCOLS);
    Ok(response)
}

async fn respond(client: &Arc<Client>, request: Request<Incoming>, refusal: Option<Refusal>) -> Response<ResponseBody> {
    let mut record = Record::start(client, &request, refusal.is_none());
    if let Some(refusal) = refusal {
        return answer(refusal.into(), false, record);
    }
    let (head, body) = request.into_parts();
    let service = &client.service;
    let decision = decide::decide(&service.reader.load(), &service.settings, &client.connection, &head, &mut record);
    let (host, hsts) = (record.hsts.and(record.host.clone()), record.hsts);
    let mut response = match decision {
        Decision::Answer(decided) => answer(decided, head.method == Method::HEAD, record),
        Decision::Forward(to) => forward::forward(Request::from_parts(head, body), to, record).await,
    };
    if let Some(host) = host {
        set_hsts(response.headers_mut(), host.hsts.as_deref().filter(|_| hsts == Some(true)));
    }
    response
}

/// Strict-Transport-Security is the host's to send, not its backends': of two lines, clients take the first (RFC 6797
/// section 8.1), and over plain HTTP there must be none (section 7.2). ingress-nginx replaces it as well.
fn set_hsts(headers: &mut HeaderMap, value: Option<&str>) {
    // The compiler makes values that are valid headers.
    match value.and_then(|value| HeaderValue::from_str(value).ok()) {
        Some(value) => drop(headers.insert(header::STRICT_TRANSPORT_SECURITY, value)),
        None => drop(headers.remove(header::STRICT_TRANSPORT_SECURITY)),
    }
}

/// A response of our own: a status, and one line of text that says why.
fn answer(answer: Answer, head: bool, mut record: Box<Record>) -> Response<ResponseBody> {
    record.status(answer.status);
    record.failure = answer.failure;
    let text = (!answer.reason.is_empty()).then(|| {
        let title = answer.status.canonical_reason().unwrap_or("Error");
        Bytes::from(format!("{} {title}: {}\n", answer.status.as_str(), answer.reason))
    });
    let length = text.as_ref().map_or(0, Bytes::len);
    let mut response = Response::new(ResponseBody::own(text.filter(|_| !head), record));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if length > 0 {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    if let Some(location) = answer.location {
        headers.insert(header::LOCATION, location);
    }
    if let Some(allow) = answer.allow {
        headers.insert(header::ALLOW, allow);
    }
    if answer.close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
