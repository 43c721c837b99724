//! What the tests of the HTTP half share: a snapshot in a few words, a proxy on port 0, endpoints that echo or record,
//! and clients that send raw bytes.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use handfast::access_log::{AccessLog, Format, Writer};
use handfast::metrics::{Metrics, places};
use handfast::places::Notice;
use handfast::proxy::http::{Connection, HttpService, Security, TlsConnection, serve};
use handfast::proxy::settings::Settings;
use handfast::snapshot::{
    Address, Backend, BackendKey, BackendState, Endpoint, HostName, HostTls, NormalPath, PathMatch, PortKey, Publisher,
    Route, RouteOptions, RouteTable, Snapshot, Target, VirtualHost, channel,
};
use handfast::tls::{ServerTls, TlsSummary};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A snapshot under construction.
#[derive(Default)]
pub struct Site {
    hosts: HashMap<String, VirtualHost>,
    backends: HashMap<BackendKey, Arc<Backend>>,
    default_tls: Option<Arc<ServerTls>>,
}

impl Site {
    /// One prefix `/` on `host` to these endpoints.
    pub fn simple(host: &str, endpoints: &[SocketAddr]) -> Self {
        Self::default().route(host, "/", "shop", RouteOptions::default()).backend("shop", endpoints)
    }

    /// A prefix to the backend of this name.
    pub fn route(self, host: &str, path: &str, backend: &str, options: RouteOptions) -> Self {
        self.target(host, path, Target::Backend(key(backend)), options)
    }

    /// A prefix to anything. The host `""` is the one for rules without a host.
    pub fn target(mut self, host: &str, path: &str, target: Target, options: RouteOptions) -> Self {
        let route = Route {
            path: NormalPath::parse(path).unwrap(),
            matches: PathMatch::Prefix,
            ingress: ("default".into(), "shop".into()),
            target,
            options: Arc::new(options),
        };
        self.entry(host).routes.insert(Arc::new(route)).unwrap();
        self
    }

    pub fn tls(mut self, host: &str, tls: HostTls) -> Self {
        self.entry(host).tls = tls;
        self
    }

    /// What else there is to say about a host.
    pub fn with(mut self, host: &str, change: impl FnOnce(&mut VirtualHost)) -> Self {
        change(self.entry(host));
        self
    }

    fn entry(&mut self, host: &str) -> &mut VirtualHost {
        self.hosts.entry(host.into()).or_insert_with(|| {
            let name = if host.is_empty() { HostName::catch_all() } else { host.parse().unwrap() };
            VirtualHost::new(name, HostTls::Absent, RouteTable::default())
        })
    }

    pub fn default_tls(mut self, tls: &Arc<ServerTls>) -> Self {
        self.default_tls = Some(tls.clone());
        self
    }

    pub fn backend(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        let addresses = endpoints.iter().map(|address| Address::Ip(*address)).collect::<Vec<_>>();
        self.addresses(name, &addresses)
    }

    pub fn addresses(self, name: &str, endpoints: &[Address]) -> Self {
        let endpoints = endpoints.iter().map(|address| Endpoint { address: address.clone() });
        self.state(name, BackendState::Ready, endpoints.collect())
    }

    pub fn state(mut self, name: &str, state: BackendState, endpoints: Arc<[Endpoint]>) -> Self {
        self.backends.insert(key(name), Arc::new(Backend { key: key(name), state, endpoints }));
        self
    }

    pub fn build(self) -> Arc<Snapshot> {
        let hosts = self.hosts.into_values().map(|host| (host.name.clone(), Arc::new(host)));
        Arc::new(Snapshot {
            hosts: hosts.collect(),
            backends: self.backends.into_iter().collect(),
            default_tls: self.default_tls,
            ..Snapshot::default()
        })
    }
}

fn key(name: &str) -> BackendKey {
    BackendKey { namespace: "default".into(), service: name.into(), port: PortKey::Number(80) }
}

/// A configuration that no handshake ever uses: these tests begin behind it.
pub fn some_tls() -> Arc<ServerTls> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let config = Arc::new(config);
    let time = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::ZERO);
    let summary = TlsSummary {
        fingerprint: "".into(),
        names: Vec::new(),
        not_before: time,
        not_after: time,
        key: "".into(),
        chain_length: 0,
        outline: Arc::default(),
    };
    Arc::new(ServerTls::fixed(config, summary))
}

/// The HTTP half behind a listener.
pub struct Proxy {
    pub address: SocketAddr,
    pub metrics: Metrics,
    pub publisher: Publisher,
    pub drain: CancellationToken,
    /// Tells load balancers to look away.
    pub unready: CancellationToken,
    /// Connections that are being served.
    pub open: Arc<AtomicUsize>,
    serving: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
    log: Option<Writer>,
    lines: Lines,
}

/// How to start one.
pub struct Start {
    pub settings: Settings,
    pub security: Security,
    /// In place of the TCP client's address.
    pub client: Option<SocketAddr>,
    pub log: Format,
    /// Places for connections.
    pub places: usize,
}

impl Default for Start {
    fn default() -> Self {
        Self { settings: Settings::default(), security: Security::Plain, client: None, log: Format::Off, places: 1_000 }
    }
}

impl Proxy {
    pub async fn start(site: Site) -> Self {
        Self::start_with(site, Start::default()).await
    }

    pub async fn start_with(site: Site, start: Start) -> Self {
        let (publisher, reader) = channel(site.build());
        let metrics = Metrics::default();
        let lines = Lines::default();
        let clock: fn() -> SystemTime = || SystemTime::UNIX_EPOCH;
        let (access_log, log) =
            AccessLog::start(start.log, lines.clone(), clock, metrics.access_log_dropped.clone()).unwrap();
        let settings = Arc::new(start.settings);
        let unready = CancellationToken::new();
        let service = HttpService::new(reader, settings, metrics.clone(), access_log);
        let service = Arc::new(service.unready_from(unready.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = CancellationToken::new();
        let open = Arc::new(AtomicUsize::new(0));
        let serving: Arc<Mutex<Vec<tokio::task::AbortHandle>>> = Arc::default();
        let (stop, count, tasks) = (drain.clone(), open.clone(), serving.clone());
        let places = metrics.places("connections", start.places, &[(0, places::HTTP)]);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let connection = Connection {
                    client: start.client.unwrap_or(peer),
                    peer,
                    local: address,
                    security: start.security.clone(),
                };
                let place = Arc::new(places.enter(0, &Notice::default()).unwrap_or_else(|place| place));
                let (service, stop, count) = (service.clone(), stop.clone(), count.clone());
                count.fetch_add(1, Ordering::Relaxed);
                let task = tokio::spawn(async move {
                    serve(stream, connection, service, place, stop).await;
                    count.fetch_sub(1, Ordering::Relaxed);
                });
                tasks.lock().unwrap().push(task.abort_handle());
            }
        });
        Self { address, metrics, publisher, drain, unready, open, serving, log: Some(log), lines }
    }

    /// What the worker does at the drain deadline.
    pub fn abort(&self) {
        for task in self.serving.lock().unwrap().iter() {
            task.abort();
        }
    }

    pub async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes on a new connection and returns all that comes until it is closed.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// GET with `Connection: close`.
    pub async fn get(&self, host: &str, target: &str) -> String {
        self.raw(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }

    /// An HTTP/2 client with prior knowledge.
    pub async fn http2<B>(&self) -> hyper::client::conn::http2::SendRequest<B>
    where
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Requests counted for this host and status.
    pub fn requests(&self, host: &str, code: &str) -> u64 {
        self.metrics.http_requests.with_label_values(&[host, code]).get()
    }

    /// Requests counted in all.
    pub fn all_requests(&self) -> u64 {
        let text = self.metrics.render();
        let counts = text.lines().filter(|line| line.starts_with("handfast_http_requests_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub fn failures(&self, reason: &str) -> u64 {
        self.metrics.upstream_failures.with_label_values(&[reason]).get()
    }

    /// What the access log holds after everything was written. Ends the log.
    pub fn log(&mut self) -> String {
        if let Some(writer) = self.log.take() {
            writer.finish(std::time::Duration::from_secs(60));
        }
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A connection that came by TLS with this server name, and was answered by this host.
pub fn over_tls(server_name: Option<&str>, host: Option<Arc<VirtualHost>>, http2: bool) -> Security {
    made_with(&some_tls(), server_name, host, http2)
}

/// The same, with what the handshake was made with.
pub fn made_with(
    tls: &Arc<ServerTls>,
    server_name: Option<&str>,
    host: Option<Arc<VirtualHost>>,
    http2: bool,
) -> Security {
    let (server_name, tls) = (server_name.map(Arc::from), tls.clone());
    Security::Tls(TlsConnection { server_name, host, tls, version: "1.3", http2, client_certificate: false })
}

/// An endpoint: its address, how many connections it got, and all bytes that came.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub open: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<u8>>>,
}

impl Upstream {
    /// Hands each connection, with its number, to `handler`.
    pub async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(TcpStream, usize, Arc<Mutex<Vec<u8>>>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            open: Arc::default(),
            seen: Arc::default(),
        };
        let shared = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                shared.open.fetch_add(1, Ordering::Relaxed);
                let handled = handler(stream, number, shared.seen.clone());
                let open = shared.open.clone();
                tokio::spawn(async move {
                    handled.await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        upstream
    }

    /// Answers each request with its request line, headers and body as text.
    pub async fn echo() -> Self {
        Self::http(|request| async move {
            let (head, body) = request.into_parts();
            let mut text = format!("{} {} {:?}\n", head.method, head.uri, head.version);
            for (name, value) in &head.headers {
                text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
            }
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&body));
            Response::new(Full::from(text))
        })
        .await
    }

    /// A hyper server.
    pub async fn http<F, R, B>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
        R: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::start(move |stream, _, _| {
            let handler = handler.clone();
            async move {
                let service = service_fn(move |request| {
                    let response = handler(request);
                    async move { Ok::<_, std::convert::Infallible>(response.await) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            }
        })
        .await
    }

    /// Reads a request head (and whatever comes with it), then writes `response`, again and again.
    pub async fn answering(response: &'static str) -> Self {
        Self::start(move |mut stream, _, seen| async move {
            while read_head(&mut stream, &seen).await.is_some() {
                if stream.write_all(response.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads up to the end of a head, noting the bytes; what was read in this call. `None` at the end of the stream.
pub async fn read_head(stream: &mut TcpStream, seen: &Mutex<Vec<u8>>) -> Option<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        seen.lock().unwrap().extend_from_slice(&buffer[..read]);
        head.extend_from_slice(&buffer[..read]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// All that comes until the connection is closed or reset.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// One response with `Content-Length` (or none) on a connection that stays open.
pub async fn read_response(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text.into_owned();
            }
        }
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..read]);
    }
}

/// The status of a response.
pub fn status(response: &str) -> u16 {
    let line = response.lines().next().unwrap_or_default();
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {response:?}"))
}

/// A header of a response.
pub fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next().unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Lets other tasks run until the condition holds; fails after many turns without it.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never happened: {what}");
}
