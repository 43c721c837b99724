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
//! The end of a worker, in order: stop accepting but serve what is queued; let each connection finish what runs
//! (HTTP/2 GOAWAY, `Connection: close`); drop the rest at the deadline.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::handshake::{Handshake, NotEstablished, Slots, Terms, Trace, handshake, linger, refuse_misplaced};
use super::http::{self, Connection, HttpService, Security, TlsConnection};
use super::proxy_protocol::{self, ProxyProtocolError};
use super::record::{HandshakeRecord, Observer, Observers, Unused};
use super::stream::Prefixed;
use crate::keylog::KeyLog;
use crate::metrics::Metrics;
use crate::snapshot::{Reader, canonical_ip};
use crate::tls::reason::Reason;

/// Limits of one worker, and how its listeners are spoken to.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Open client connections per worker; more are closed at once.
    pub max_connections: usize,
    /// TLS handshakes in progress per worker, counted from the complete ClientHello; more are closed at once.
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
                open: Arc::default(),
                handshakes: Arc::new(Slots::new(settings.max_handshakes)),
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
    /// Open connections of this worker.
    open: Arc<AtomicUsize>,
    /// Handshakes in progress on this worker.
    handshakes: Arc<Slots>,
    index: usize,
}

impl Worker {
    async fn run(self, http: StdListener, https: StdListener) {
        let plain = self.accept(http, "http", |worker, stream, peer| worker.serve_plain(stream, peer));
        let tls = self.accept(https, "https", |worker, stream, peer| worker.serve_tls(stream, peer));
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
        name: &'static str,
        serve: impl Fn(Worker, TcpStream, SocketAddr) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let active = self.metrics.connections_active.with_label_values(&[name, &self.index.to_string()]);
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, listener = name, "A worker cannot use its listener.");
                return;
            }
        };
        let take = |stream: TcpStream, peer: SocketAddr| {
            let guard = ConnectionGuard::new(self, active.clone());
            let connection = serve(self.clone(), stream, peer);
            let abort = self.shutdown.abort.clone();
            self.connections.spawn(async move {
                let _guard = guard;
                tokio::select! {
                    () = connection => {}
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
                    // Out of file descriptors, most likely. Waiting a moment keeps this from spinning, and saying it
                    // only now and then keeps it from filling the log.
                    if warned.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(10)) {
                        warn!(%error, listener = name, "Cannot accept connections. Is the limit on open files too low?");
                        warned = Some(Instant::now());
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // What the kernel has queued was promised to its clients. Asked directly: the runtime may not have heard of it.
        if let Err(error) = listener.into_std().and_then(|listener| accept_queued(&listener, take)) {
            warn!(%error, listener = name, "Queued connections are lost.");
        }
    }

    async fn serve_plain(self, stream: TcpStream, peer: SocketAddr) {
        if self.open.load(Ordering::Relaxed) > self.settings.max_connections {
            self.metrics.connections_refused.with_label_values(&[Reason::Overloaded.label()]).inc();
            debug!(%peer, "A plain connection was closed: too many are open.");
            return;
        }
        let Ok(mut arrived) = Arrived::new(stream, peer) else { return };
        if self.settings.proxy_protocol
            && let Err(error) = arrived.read_proxy_header(self.settings.proxy_protocol_timeout).await
        {
            if !matches!(error, ProxyProtocolError::Closed) {
                self.metrics.connections_refused.with_label_values(&[Reason::ProxyHeaderMissing.label()]).inc();
            }
            debug!(%peer, %error, "A plain connection was closed: no PROXY protocol header.");
            return;
        }
        let connection =
            Connection { client: arrived.client, peer: arrived.peer, local: arrived.local, security: Security::Plain };
        let stream = Prefixed::new(arrived.received, arrived.stream);
        let (service, drain) = (self.service.clone(), self.shutdown.drain.clone());
        if let Some((stream, first)) = http::serve(stream, connection, service, drain).await {
            // Counted from here on as a connection of TLS, which it is but for its port.
            let client = arrived.client.ip();
            let mut record = HandshakeRecord::new(self.observer.clone(), client);
            let failure = refuse_misplaced(stream, first.into(), &self.terms(client)).await;
            record.fail(failure.reason, failure.trace, client, failure.source);
            linger(failure.io).await;
        }
    }

    /// The terms of a handshake with this client.
    fn terms(&self, client: IpAddr) -> Terms<'_> {
        Terms {
            reader: &self.reader,
            slots: &self.handshakes,
            timeout: self.settings.handshake_timeout,
            keylog: &self.settings.keylog,
            client,
        }
    }

    /// Counted at once, before the connection's task is looked at for the first time.
    fn serve_tls(self, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + Send + 'static {
        let record = HandshakeRecord::new(self.observer.clone(), canonical_ip(peer.ip()));
        self.serve_recorded(stream, peer, record)
    }

    async fn serve_recorded(self, stream: TcpStream, peer: SocketAddr, mut record: HandshakeRecord) {
        if self.open.load(Ordering::Relaxed) > self.settings.max_connections {
            record.fail(Reason::Overloaded, Trace::default(), peer.ip(), None);
            return;
        }
        let Ok(mut arrived) = Arrived::new(stream, peer) else {
            // The connection is gone before it is ours: a probe.
            record.probe();
            return;
        };
        if self.settings.proxy_protocol {
            match arrived.read_proxy_header(self.settings.proxy_protocol_timeout).await {
                Ok(()) => {}
                Err(ProxyProtocolError::Closed) => return record.probe(),
                Err(error) => {
                    let cause = Some(io::Error::other(error));
                    record.fail(Reason::ProxyHeaderMissing, Trace::default(), arrived.peer.ip(), cause);
                    return linger(arrived.stream).await;
                }
            }
        }
        let Arrived { stream, received, client, peer, local } = arrived;
        let established = match handshake(stream, received, &self.terms(client.ip())).await {
            Ok(established) => established,
            Err(NotEstablished::Probe) => return record.probe(),
            Err(NotEstablished::Failed(failure)) => {
                record.fail(failure.reason, failure.trace, client.ip(), failure.source);
                return linger(failure.io).await;
            }
        };
        record.complete(&established, client.ip());
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
        stream.watch(Unused::new(self.observer.clone(), trace, client.ip(), self.shutdown.drain.clone()));
        let connection = Connection { client, peer, local, security };
        http::serve(stream, connection, self.service, self.shutdown.drain).await;
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

    async fn read_proxy_header(&mut self, timeout: Duration) -> Result<(), ProxyProtocolError> {
        let header = proxy_protocol::read(&mut self.stream, timeout).await?;
        self.received = header.rest;
        if let Some((client, local)) = header.addresses {
            // What the balancer says stands for both ends; the header's sender is the one whom we trust for more.
            (self.client, self.local) = (client, local);
        }
        Ok(())
    }
}

/// Counts a connection as open for as long as it lives, and a panic of its task.
struct ConnectionGuard {
    open: Arc<AtomicUsize>,
    active: IntGauge,
    metrics: Metrics,
}

impl ConnectionGuard {
    fn new(worker: &Worker, active: IntGauge) -> Self {
        worker.open.fetch_add(1, Ordering::Relaxed);
        active.inc();
        Self { open: worker.open.clone(), active, metrics: worker.metrics.clone() }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.active.dec();
        if std::thread::panicking() {
            self.metrics.panics.inc();
        }
    }
}
