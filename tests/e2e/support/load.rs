//! Clients that send requests again and again, and what came of it.
//!
//! Each connection is a thread with a runtime of its own. A request fails if no answer comes, or not the one that was
//! asked for. A kept connection that the server has closed in time (`Connection: close`, GOAWAY, a close before the
//! request was sent) is replaced, and is no failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub host: String,
    pub path: String,
    /// The roots that the server's certificate has to lead to, PEM.
    pub roots: String,
}

/// How many connections of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub kept_http1: usize,
    pub new_http1: usize,
    pub kept_http2: usize,
    pub new_http2: usize,
    /// Between two requests of a connection.
    pub pause: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self { kept_http1: 2, new_http1: 2, kept_http2: 2, new_http2: 2, pause: Duration::from_millis(5) }
    }
}

/// What has come of a load so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub requests: u64,
    /// How often each error happened, in words.
    pub failures: BTreeMap<String, u64>,
    /// When the first failures happened, since the load began, and which.
    pub first: Vec<(Duration, String)>,
    pub slowest: Duration,
    /// The serial numbers of the certificates that were seen, hexadecimal, with the time of their first handshake.
    pub certificates: BTreeMap<String, Duration>,
    /// How often each backend has answered.
    pub backends: BTreeMap<String, u64>,
}

impl Report {
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Fails unless there were requests, and none of them failed.
    pub fn assert_flawless(&self) {
        assert!(self.requests > 0, "no request was made");
        assert!(self.failures.is_empty(), "{} of {} requests failed: {self:#?}", self.failed(), self.requests);
    }
}

/// A load that goes on until it is stopped.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    started: Instant,
    report: Mutex<Report>,
}

#[derive(Clone, Copy)]
enum Kind {
    KeptHttp1,
    NewHttp1,
    KeptHttp2,
    NewHttp2,
}

impl Load {
    /// Every target gets connections of this shape.
    pub fn start(targets: &[Target], shape: Shape) -> Self {
        let shared =
            Arc::new(Shared { stop: AtomicBool::new(false), started: Instant::now(), report: Mutex::default() });
        let kinds = [
            (Kind::KeptHttp1, shape.kept_http1),
            (Kind::NewHttp1, shape.new_http1),
            (Kind::KeptHttp2, shape.kept_http2),
            (Kind::NewHttp2, shape.new_http2),
        ];
        let mut threads = Vec::new();
        for target in targets {
            for (kind, count) in kinds {
                for _ in 0..count {
                    let (target, shared) = (target.clone(), shared.clone());
                    threads.push(std::thread::spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        runtime.block_on(ask_on(&target, kind, shape.pause, &shared));
                    }));
                }
            }
        }
        Self { shared, threads }
    }

    /// So far.
    pub fn report(&self) -> Report {
        self.shared.report.lock().unwrap().clone()
    }

    /// Since the load began.
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Waits until so many more requests were made.
    pub fn wait_for(&self, more: u64) {
        let wanted = self.report().requests + more;
        super::wait_until(&format!("{more} more requests"), || self.report().requests >= wanted);
    }

    /// Lets running requests end, and tells.
    pub fn stop(mut self) -> Report {
        self.end();
        self.report()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// How long a request may take, handshake included.
const LIMIT: Duration = Duration::from_secs(20);

async fn ask_on(target: &Target, kind: Kind, pause: Duration, shared: &Shared) {
    let config = client_config(&target.roots, kind);
    let mut connection = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = tokio::time::timeout(LIMIT, ask(target, kind, &config, &mut connection, shared)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
        let failed = answer.is_err();
        shared.note(kind, begun, answer);
        if failed {
            connection = None;
        }
        if matches!(kind, Kind::NewHttp1 | Kind::NewHttp2) {
            connection = None;
        }
        tokio::time::sleep(pause).await;
    }
}

impl Shared {
    /// Counts a request.
    fn note(&self, kind: Kind, begun: Instant, answer: Result<String, String>) {
        let mut report = self.report.lock().unwrap();
        report.requests += 1;
        report.slowest = report.slowest.max(begun.elapsed());
        match answer {
            Ok(backend) => *report.backends.entry(backend).or_default() += 1,
            Err(failure) => {
                let name = match kind {
                    Kind::KeptHttp1 => "HTTP/1.1, kept",
                    Kind::NewHttp1 => "HTTP/1.1, new",
                    Kind::KeptHttp2 => "HTTP/2, kept",
                    Kind::NewHttp2 => "HTTP/2, new",
                };
                let failure = format!("{name}: {failure}");
                if report.first.len() < 20 {
                    report.first.push((self.started.elapsed(), failure.clone()));
                }
                *report.failures.entry(failure).or_default() += 1;
            }
        }
    }
}

/// An open connection.
enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    fn is_usable(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready() && !sender.is_closed(),
            Self::Http2(sender) => sender.is_ready() && !sender.is_closed(),
        }
    }
}

/// One request, over the connection that is there or a new one. Returns which backend has answered.
async fn ask(
    target: &Target,
    kind: Kind,
    config: &Arc<ClientConfig>,
    connection: &mut Option<Connection>,
    shared: &Shared,
) -> Result<String, String> {
    // What the server has said meanwhile is read first.
    tokio::task::yield_now().await;
    if !connection.as_ref().is_some_and(Connection::is_usable) {
        *connection = Some(open(target, kind, config, shared).await?);
    }
    let request = http::Request::get(format!("https://{}{}", target.host, target.path));
    let (response, closes) = match connection.as_mut().expect("it was opened") {
        Connection::Http1(sender) => {
            let request = request.uri(&target.path).header("host", &target.host);
            let response = sender.send_request(request.body(Empty::new()).unwrap()).await;
            let response = response.map_err(|error| chain("no response", &error))?;
            let closes = response.headers().get("connection").is_some_and(|value| value == "close");
            (response, closes)
        }
        Connection::Http2(sender) => {
            let response = sender.send_request(request.body(Empty::new()).unwrap()).await;
            (response.map_err(|error| chain("no response", &error))?, false)
        }
    };
    let status = response.status();
    let backend = response.headers().get("x-backend").map(|value| value.to_str().unwrap().to_owned());
    response.into_body().collect().await.map_err(|error| chain("the body broke off", &error))?;
    if closes {
        *connection = None;
    }
    if status != 200 {
        return Err(format!("status {}", status.as_u16()));
    }
    Ok(backend.unwrap_or_else(|| "nobody".to_owned()))
}

async fn open(target: &Target, kind: Kind, config: &Arc<ClientConfig>, shared: &Shared) -> Result<Connection, String> {
    let stream = connect(target.address, &target.host, config).await?;
    if let Some(serial) = serial(&stream) {
        shared.report.lock().unwrap().certificates.entry(serial).or_insert_with(|| shared.started.elapsed());
    }
    let io = TokioIo::new(stream);
    match kind {
        Kind::KeptHttp1 | Kind::NewHttp1 => {
            let (sender, connection) = http1::handshake(io).await.map_err(|error| chain("HTTP/1.1", &error))?;
            tokio::spawn(connection);
            Ok(Connection::Http1(sender))
        }
        Kind::KeptHttp2 | Kind::NewHttp2 => {
            let opened = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = opened.map_err(|error| chain("HTTP/2", &error))?;
            tokio::spawn(connection);
            Ok(Connection::Http2(sender))
        }
    }
}

async fn connect(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| chain("no connection", &error))?;
    stream.set_nodelay(true).map_err(|error| chain("no connection", &error))?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connected = TlsConnector::from(config.clone()).connect(name, stream).await;
    connected.map_err(|error| chain("handshake", &error))
}

fn client_config(roots: &str, kind: Kind) -> Arc<ClientConfig> {
    let protocol: &[u8] = match kind {
        Kind::KeptHttp1 | Kind::NewHttp1 => b"http/1.1",
        Kind::KeptHttp2 | Kind::NewHttp2 => b"h2",
    };
    config(roots, protocol)
}

fn config(roots: &str, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    // Each handshake shows the certificate of now.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// The serial number of the server's certificate.
fn serial(stream: &TlsStream<TcpStream>) -> Option<String> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    Some(serial_of(leaf))
}

/// The serial number of a certificate, hexadecimal.
pub fn serial_of(certificate: &CertificateDer<'_>) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The serial number of the first certificate of a PEM chain: what clients see of a Secret.
pub fn serial_of_chain(pem: &str) -> String {
    serial_of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
}

/// Shakes hands once, and tells the serial number of the certificate, or why there is none.
pub fn served(address: SocketAddr, host: &str, roots: &str) -> Result<String, String> {
    let (host, config) = (host.to_owned(), config(roots, b"http/1.1"));
    super::runtime::block_on(async move {
        let connected = tokio::time::timeout(Duration::from_secs(5), connect(address, &host, &config)).await;
        let stream = connected.map_err(|_| "no handshake within 5 s".to_owned())??;
        serial(&stream).ok_or_else(|| "no certificate".to_owned())
    })
}

/// One request on a connection of its own: status, and which backend has answered.
pub fn get(target: &Target) -> Result<(u16, String), String> {
    let version = &rustls::version::TLS13;
    let answer = handfast::demo::client::get(target.address, &target.host, &target.path, &target.roots, version);
    let answer = answer.map_err(|error| chain("no answer", &error))?;
    let line = answer.text.lines().find_map(|line| line.strip_prefix("x-backend: "));
    Ok((answer.status, line.unwrap_or("nobody").to_owned()))
}

/// An error with its causes.
fn chain(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
