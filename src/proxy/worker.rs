//! Workers: threads that own their connections.
//!
//! ```text
//! Workers ──┬── worker-0: runtime, listeners, pool ── connection tasks
//!           └── worker-1: …
//! ```
//!
//! A worker is a thread with a current-thread runtime, listeners of its own (SO_REUSEPORT), an upstream pool and
//! counts of its own. Workers share the snapshot and the atomic metrics, nothing else, so no request waits for a lock
//! or another core. The number of workers never changes at run time: closing a listener would drop the connections
//! that the kernel has queued for it.
//!
//! A connection to the port for plain HTTP that begins with TLS is a failed handshake, and ends as one.
//!
//! Connections have places, and both listeners a reserve of them. When all are taken, the connection that has waited
//! longest for its client ends: one between two requests, or without a hello. The same holds for handshakes.
//!
//! The end of a worker, in order: stop accepting but serve what is queued; let each connection finish what runs
//! (HTTP/2 GOAWAY, `Connection: close`); drop the rest at the deadline.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::handshake::{Handshake, NotEstablished, Terms, Trace, handshake, linger, refuse_misplaced, turn_away};
use super::http::{self, Connection, HttpService, Security, TlsConnection};
use super::proxy_protocol::{self, ProxyProtocolError};
use super::record::{HandshakeRecord, Observer, Observers, Unused};
use super::stream::Prefixed;
use crate::keylog::KeyLog;
use crate::metrics::{Metrics, places};
use crate::open_files;
use crate::places::{Notice, Place, Places};
use crate::snapshot::{Reader, canonical_ip};
use crate::tls::reason::Reason;

/// Limits of one worker, and how its listeners are spoken to.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Places for client connections per worker.
    pub max_connections: usize,
    /// Places for TLS handshakes in progress per worker, which are taken with the complete ClientHello.
    pub max_handshakes: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Whether connections begin with a PROXY protocol header (version 1 or 2), on both listeners.
    pub proxy_protocol: bool,
    /// From accept to the end of the PROXY protocol header.
    pub proxy_protocol_timeout: Duration,
    /// Whose TLS secrets are written.
    pub keylog: KeyLog,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_handshakes: 1_024,
            handshake_timeout: Duration::from_secs(10),
            proxy_protocol: false,
            proxy_protocol_timeout: Duration::from_secs(5),
            keylog: KeyLog::default(),
        }
    }
}

/// The steps towards the end, each taken once, in this order.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Serve as before, and tell load balancers to look away.
    pub unready: CancellationToken,
    /// Stop accepting; serve what is queued; then let connections finish.
    pub drain: CancellationToken,
    /// Drop what is left.
    pub abort: CancellationToken,
}

/// The running threads.
pub struct Workers {
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts one worker per pair of listeners. `service` makes each worker's own HTTP service.
    pub fn start(
        listeners: Vec<(StdListener, StdListener)>,
        settings: &WorkerSettings,
        reader: &Reader,
        observers: &Observers,
        shutdown: &Shutdown,
        service: impl Fn() -> HttpService,
    ) -> io::Result<Self> {
        let mut threads = Vec::new();
        for (index, (http, https)) in listeners.into_iter().enumerate() {
            let worker = Worker {
                settings: settings.clone(),
                reader: reader.clone(),
                metrics: observers.metrics.clone(),
                observer: Arc::new(observers.worker(index)),
                shutdown: shutdown.clone(),
                service: Arc::new(service()),
                connections: TaskTracker::new(),
                places: connections(settings.max_connections, &observers.metrics),
                handshakes: observers.metrics.places("handshakes", settings.max_handshakes, &[(0, places::HANDSHAKES)]),
                index,
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let body = move || runtime.block_on(worker.run(http, https));
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(body)?);
        }
        Ok(Self { threads })
    }

    /// Waits until all workers have ended; they end after [`Shutdown::drain`] or [`Shutdown::abort`].
    pub fn join(self) {
        for thread in self.threads {
            // A panic of a worker's own loop has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Worker {
    settings: WorkerSettings,
    reader: Reader,
    metrics: Metrics,
    observer: Arc<Observer>,
    shutdown: Shutdown,
    service: Arc<HttpService>,
    connections: TaskTracker,
    /// For connections of this worker.
    places: Places,
    /// For handshakes in progress on this worker.
    handshakes: Places,
    index: usize,
}

/// A listener of a worker: what it is called, and the group that its connections belong to.
#[derive(Clone, Copy)]
enum Listener {
    Http,
    Https,
}

impl Listener {
    fn name(self) -> &'static str {
        match self {
            Listener::Http => places::HTTP,
            Listener::Https => places::HTTPS,
        }
    }

    fn group(self) -> usize {
        match self {
            Listener::Http => 0,
            Listener::Https => 1,
        }
    }
}

/// Places for connections. What one listener cannot take of them is the reserve of the other: a quarter.
fn connections(limit: usize, metrics: &Metrics) -> Places {
    let group = |listener: Listener| (limit / 4, listener.name());
    metrics.places("connections", limit, &[group(Listener::Http), group(Listener::Https)])
}

impl Worker {
    async fn run(self, http: StdListener, https: StdListener) {
        let plain = self.accept(http, Listener::Http, Worker::serve_plain);
        let tls = self.accept(https, Listener::Https, Worker::serve_tls);
        tokio::join!(plain, tls);
        self.connections.close();
        tokio::select! {
            () = self.connections.wait() => {}
            () = self.shutdown.abort.cancelled() => {}
        }
        // Dropping the runtime drops the tasks that are left.
    }

    /// Accepts until the end begins, then what the kernel has queued already.
    async fn accept<F>(
        &self,
        listener: StdListener,
        kind: Listener,
        serve: impl Fn(Worker, TcpStream, SocketAddr, Entry) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = kind.name();
        let active = self.metrics.connections_active.with_label_values(&[name, &self.index.to_string()]);
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, listener = name, "A worker cannot use its listener.");
                return;
            }
        };
        let take = |stream: TcpStream, peer: SocketAddr| {
            let guard = ConnectionGuard::new(self.metrics.clone(), active.clone());
            let entry = match self.places.enter(kind.group(), &Notice::default()) {
                Ok(place) => Entry::Place(Arc::new(place)),
                Err(place) => Entry::Refused(place),
            };
            let notice = entry.notice().clone();
            let connection = serve(self.clone(), stream, peer, entry);
            let abort = self.shutdown.abort.clone();
            self.connections.spawn(async move {
                let _guard = guard;
                tokio::select! {
                    // First, so that whoever is told to end has said so before it is hurried.
                    biased;
                    () = connection => {}
                    () = notice.hurried() => {}
                    () = abort.cancelled() => {}
                }
            });
        };
        let mut warned = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.drain.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => take(stream, peer),
                // A connection that is gone before we take it is nobody's problem.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Saying it only now and then keeps it from filling the log.
                    if warned.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(10)) {
                        warn!(%error, listener = name, "Cannot accept connections. Is the limit on open files too low?");
                        warned = Some(Instant::now());
                    }
                    // Whoever waits has a file that a newcomer needs more. A pause keeps this from spinning.
                    let freed = open_files::are_used_up(&error) && self.places.evict_longest();
                    tokio::time::sleep(Duration::from_millis(if freed { 5 } else { 100 })).await;
                }
            }
        }
        // What the kernel has queued was promised to its clients. Asked directly: the runtime may not have heard of it.
        if let Err(error) = listener.into_std().and_then(|listener| accept_queued(&listener, take)) {
            warn!(%error, listener = name, "Queued connections are lost.");
        }
    }

    async fn serve_plain(self, stream: TcpStream, peer: SocketAddr, entry: Entry) {
        let place = match entry {
            Entry::Place(place) => place,
            Entry::Refused(_) => {
                self.metrics.connections_refused.with_label_values(&[Reason::Overloaded.label()]).inc();
                return debug!(%peer, "A plain connection was closed: all others are at work.");
            }
        };
        let Ok(mut arrived) = Arrived::new(stream, peer) else { return };
        if self.settings.proxy_protocol
            && let Err(error) = arrived.read_proxy_header(self.settings.proxy_protocol_timeout, place.notice()).await
        {
            if !matches!(error, ProxyProtocolError::Closed | ProxyProtocolError::Evicted) {
                self.metrics.connections_refused.with_label_values(&[Reason::ProxyHeaderMissing.label()]).inc();
            }
            debug!(%peer, %error, "A plain connection was closed: no PROXY protocol header.");
            return;
        }
        let connection =
            Connection { client: arrived.client, peer: arrived.peer, local: arrived.local, security: Security::Plain };
        let stream = Prefixed::new(arrived.received, arrived.stream);
        let (service, drain) = (self.service.clone(), self.shutdown.drain.clone());
        if let Some((stream, first)) = http::serve(stream, connection, service, place.clone(), drain).await {
            // Counted from here on as a connection of TLS, which it is but for its port.
            let client = arrived.client.ip();
            let mut record = HandshakeRecord::new(self.observer.clone(), client);
            let failure = refuse_misplaced(stream, first.into(), &self.terms(client, place.notice())).await;
            record.fail(failure.reason, failure.trace, client, failure.source);
            linger(failure.io).await;
        }
    }

    /// The terms of a handshake with this client.
    fn terms<'a>(&'a self, client: IpAddr, notice: &'a Notice) -> Terms<'a> {
        Terms {
            reader: &self.reader,
            places: &self.handshakes,
            notice,
            timeout: self.settings.handshake_timeout,
            keylog: &self.settings.keylog,
            client,
        }
    }

    /// Counted at once, before the connection's task is looked at for the first time.
    fn serve_tls(self, stream: TcpStream, peer: SocketAddr, entry: Entry) -> impl Future<Output = ()> + Send + 'static {
        let record = HandshakeRecord::new(self.observer.clone(), canonical_ip(peer.ip()));
        self.serve_recorded(stream, peer, entry, record)
    }

    async fn serve_recorded(self, mut stream: TcpStream, peer: SocketAddr, entry: Entry, mut record: HandshakeRecord) {
        let place = match entry {
            Entry::Place(place) => place,
            Entry::Refused(_place) => {
                // Kept until the end, so that not too many are on their way out.
                let alert_sent = turn_away(&mut stream, Reason::Overloaded).await;
                record.fail(Reason::Overloaded, Trace { alert_sent, ..Trace::default() }, peer.ip(), None);
                return linger(stream).await;
            }
        };
        let Ok(mut arrived) = Arrived::new(stream, peer) else {
            // The connection is gone before it is ours: a probe.
            record.probe();
            return;
        };
        if self.settings.proxy_protocol {
            match arrived.read_proxy_header(self.settings.proxy_protocol_timeout, place.notice()).await {
                Ok(()) => {}
                Err(ProxyProtocolError::Closed) => return record.probe(),
                Err(ProxyProtocolError::Evicted) => {
                    let alert_sent = turn_away(&mut arrived.stream, Reason::Evicted).await;
                    let cause = Some(io::Error::other(place.notice().why()));
                    record.fail(Reason::Evicted, Trace { alert_sent, ..Trace::default() }, arrived.peer.ip(), cause);
                    return linger(arrived.stream).await;
                }
                Err(error) => {
                    let cause = Some(io::Error::other(error));
                    record.fail(Reason::ProxyHeaderMissing, Trace::default(), arrived.peer.ip(), cause);
                    return linger(arrived.stream).await;
                }
            }
        }
        let Arrived { stream, received, client, peer, local } = arrived;
        let established = match handshake(stream, received, &self.terms(client.ip(), place.notice())).await {
            Ok(established) => established,
            Err(NotEstablished::Probe) => return record.probe(),
            Err(NotEstablished::Failed(failure)) => {
                record.fail(failure.reason, failure.trace, client.ip(), failure.source);
                return linger(failure.io).await;
            }
        };
        record.complete(&established, client.ip());
        // Heard of, and so no longer among those who have been silent since they came.
        place.wait();
        let Handshake { mut stream, tls, version, http2, client_certificate, trace, resumed: _, parameters: _ } =
            established;
        let security = Security::Tls(TlsConnection {
            server_name: trace.server_name.clone(),
            host: trace.host.clone(),
            tls,
            version: version.label(),
            http2,
            client_certificate,
        });
        let (drain, notice) = (self.shutdown.drain.clone(), place.notice().clone());
        stream.watch(Unused::new(self.observer.clone(), trace, client.ip(), drain, notice));
        let connection = Connection { client, peer, local, security };
        http::serve(stream, connection, self.service, place, self.shutdown.drain).await;
    }
}

/// Takes every connection that is queued, without waiting for more.
fn accept_queued(listener: &StdListener, take: impl Fn(TcpStream, SocketAddr)) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                take(TcpStream::from_std(stream)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A connection and the addresses at its ends, as far as they are known.
struct Arrived {
    stream: TcpStream,
    /// Bytes read behind a PROXY protocol header.
    received: Vec<u8>,
    client: SocketAddr,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Arrived {
    fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let canonical = |address: SocketAddr| SocketAddr::new(canonical_ip(address.ip()), address.port());
        let (peer, local) = (canonical(peer), canonical(stream.local_addr()?));
        Ok(Self { stream, received: Vec::new(), client: peer, peer, local })
    }

    async fn read_proxy_header(&mut self, timeout: Duration, notice: &Notice) -> Result<(), ProxyProtocolError> {
        let header = tokio::select! {
            biased;
            header = proxy_protocol::read(&mut self.stream, timeout) => header?,
            () = notice.told() => return Err(ProxyProtocolError::Evicted),
        };
        self.received = header.rest;
        if let Some((client, local)) = header.addresses {
            // What the balancer says stands for both ends; the header's sender is the one whom we trust for more.
            (self.client, self.local) = (client, local);
        }
        Ok(())
    }
}

/// What a new connection gets.
enum Entry {
    /// Shared by its requests.
    Place(Arc<Place>),
    /// All places are taken by connections at work.
    Refused(Place),
}

impl Entry {
    fn notice(&self) -> &Notice {
        match self {
            Entry::Place(place) => place.notice(),
            Entry::Refused(place) => place.notice(),
        }
    }
}

/// Counts a connection as open for as long as it lives, and a panic of its task.
struct ConnectionGuard {
    active: IntGauge,
    metrics: Metrics,
}

impl ConnectionGuard {
    fn new(metrics: Metrics, active: IntGauge) -> Self {
        active.inc();
        Self { active, metrics }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.active.dec();
        if std::thread::panicking() {
            self.metrics.panics.inc();
        }
    }
}
