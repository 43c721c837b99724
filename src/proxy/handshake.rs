//! One TLS handshake: ClientHello → virtual host → [`TlsStream`], or exactly one [`Reason`].
//!
//! `bytes ──first_bytes──▶ Acceptor ──server name──▶ Snapshot::tls ──▶ ServerConnection ──▶ TlsStream`
//!
//! The driver is our own, over rustls' `Acceptor` and `ServerConnection`, for three reasons: the configuration is
//! chosen by name between hello and answer; the bytes of the hello are kept, because rustls exposes too little of
//! them; and the stage at which a client leaves says as much as the error that comes of it. One deadline covers all.
//!
//! Two traps of rustls are handled here: bytes behind the hello stay unread until `process_new_packets` is called
//! after `into_connection`; and for one error rustls queues no alert, so we write ours.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::server::{Accepted, Acceptor};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::stream::TlsStream;
use crate::keylog::KeyLog;
use crate::snapshot::{Reader, TlsChoice, VirtualHost};
use crate::tls::negotiate::shares_suite;
use crate::tls::offer::{FirstBytes, Offer, first_bytes, legacy_version};
use crate::tls::reason::Reason;
use crate::tls::{ServerTls, Version};

/// An established TLS connection and what it was established with.
pub struct Handshake<S> {
    /// The plaintext side.
    pub stream: TlsStream<S>,
    /// The server name that the client sent, lower case.
    pub server_name: Option<Arc<str>>,
    /// The virtual host that it is counted under; see [`TlsChoice::Serve`].
    pub host: Option<Arc<VirtualHost>>,
    /// What was served.
    pub tls: Arc<ServerTls>,
    /// Protocol version.
    pub version: Version,
    /// True if a session was resumed (RFC 8446 section 2.2).
    pub resumed: bool,
    /// True if HTTP/2 was negotiated by ALPN.
    pub http2: bool,
    /// True if the client has shown a certificate, which was verified.
    pub client_certificate: bool,
    /// The bytes of the ClientHello as they came, with record headers.
    pub hello: Vec<u8>,
}

/// Why there is no TLS connection.
pub enum NotEstablished<S> {
    /// A handshake failed.
    Failed(Box<HandshakeFailure<S>>),
    /// The client closed or reset the connection before it had sent a byte: a port check, no failure.
    Probe,
}

/// A failed handshake.
pub struct HandshakeFailure<S> {
    /// The one reason.
    pub reason: Reason,
    /// The virtual host that it was for, as far as it came to be known.
    pub host: Option<Arc<VirtualHost>>,
    /// The server name that the client sent, as far as it came to be known.
    pub server_name: Option<Arc<str>>,
    /// The cause, in the words of the TLS library or the operating system.
    pub source: Option<io::Error>,
    /// What the client had sent of its ClientHello.
    pub hello: Vec<u8>,
    /// The connection, to be closed with [`linger`] after the failure has been recorded.
    pub io: S,
}

/// A limited number of places for handshakes in progress. A handshake takes its place when the ClientHello is complete,
/// because that is when work begins: a connection that says nothing costs no more than any other open connection.
#[derive(Debug)]
pub struct Slots {
    taken: AtomicUsize,
    limit: usize,
}

impl Slots {
    /// No place is taken.
    pub fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    fn take(&self) -> Option<Slot<'_>> {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Slot(self))
    }
}

/// One place; given back when dropped.
struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes that a client may send before its hello is complete: one handshake message at most, with record headers.
const MAX_HELLO: usize = 80 * 1024;
const READ_SIZE: usize = 4096;

/// Performs the server's side of a handshake within `timeout`. `received` are bytes read ahead from `io`. Without a place
/// among `slots` it fails as [`Reason::Overloaded`]. `keylog` writes its secrets if it covers the host or the address of
/// the `client`.
pub async fn handshake<S>(
    io: S,
    received: Vec<u8>,
    reader: &Reader,
    slots: &Slots,
    timeout: Duration,
    keylog: &KeyLog,
    client: IpAddr,
) -> Result<Handshake<S>, NotEstablished<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = Driver {
        io,
        buffer: received,
        hello: Vec::new(),
        stage: Stage::Connected,
        shares_suite: false,
        decided: None,
        server_name: None,
        host: None,
    };
    let failed = match tokio::time::timeout(timeout, driver.run(reader, slots, keylog, client)).await {
        Ok(Ok((connection, tls))) => return Ok(driver.established(connection, tls)),
        Ok(Err(failed)) => failed,
        Err(_elapsed) => Failed::from(match (driver.decided, driver.stage) {
            // The peer did not even take our last answer.
            (Some(reason), _) => reason,
            (None, Stage::Connected) => Reason::TimeoutBeforeHello,
            (None, Stage::Hello | Stage::Retried) => Reason::TimeoutInHello,
            (None, Stage::Answered) => Reason::TimeoutAfterCertificate,
        }),
    };
    let Failed::Because { reason, source } = failed else { return Err(NotEstablished::Probe) };
    let Driver { io, hello, server_name, host, .. } = driver;
    Err(NotEstablished::Failed(Box::new(HandshakeFailure { reason, host, server_name, source, hello, io })))
}

/// Closes a connection so that the alert in front of the end is not lost: an end with unread bytes is a reset, and a
/// reset discards what the peer has not read yet. Bounded in bytes and in time.
pub async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) {
    let wait = async {
        io.shutdown().await?;
        let mut discarded = 0;
        let mut buffer = [0; 512];
        while discarded < 64 * 1024 {
            match io.read(&mut buffer).await? {
                0 => break,
                read => discarded += read,
            }
        }
        io::Result::Ok(())
    };
    // Whatever comes of it, the connection ends here.
    let _ = tokio::time::timeout(Duration::from_millis(500), wait).await;
}

/// How far a handshake has come; tells what a silent end means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing received.
    Connected,
    /// Part of the hello received.
    Hello,
    /// We have asked for another hello (RFC 8446 section 4.1.4), and shown no certificate.
    Retried,
    /// Our answer is on its way.
    Answered,
}

enum Failed {
    Because { reason: Reason, source: Option<io::Error> },
    Probe,
}

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        Failed::Because { reason, source: None }
    }
}

struct Driver<S> {
    io: S,
    /// Bytes received and not yet given to rustls.
    buffer: Vec<u8>,
    hello: Vec<u8>,
    stage: Stage,
    /// Whether the client offers any suite that we have.
    shares_suite: bool,
    /// Why it failed, while the peer is being told.
    decided: Option<Reason>,
    server_name: Option<Arc<str>>,
    host: Option<Arc<VirtualHost>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    async fn run(
        &mut self,
        reader: &Reader,
        slots: &Slots,
        keylog: &KeyLog,
        client: IpAddr,
    ) -> Result<(ServerConnection, Arc<ServerTls>), Failed> {
        let accepted = self.client_hello().await?;
        let Some(_slot) = slots.take() else { return Err(Reason::Overloaded.into()) };
        let hello = accepted.client_hello();
        self.server_name = hello.server_name().map(Arc::from);
        let tls = match self.choose(reader) {
            Ok(tls) => tls,
            Err(reason) => return Err(self.refuse(reason, None).await),
        };
        // What rustls accepts, the parser accepts; if it ever did not, the policy's first configuration serves.
        let offer = Offer::parse(&self.hello).ok().flatten();
        self.shares_suite = offer.as_ref().is_none_or(|offer| shares_suite(tls.policy(), offer));
        let config = tls.config_for(offer.as_ref());
        let config = keylog.config_for(config, self.host.as_ref().map(|host| &host.name), client);
        self.stage = Stage::Answered;
        match accepted.into_connection(config) {
            Ok(connection) => Ok((self.finish(connection).await?, tls)),
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                let _ = alert.write_all(&mut bytes);
                Err(self.fail(error, bytes).await)
            }
        }
    }

    /// Reads until the ClientHello is complete, keeping its bytes.
    async fn client_hello(&mut self) -> Result<Accepted, Failed> {
        let mut acceptor = Acceptor::default();
        loop {
            if self.buffer.is_empty() {
                self.receive().await?;
            }
            self.stage = Stage::Hello;
            self.hello.extend_from_slice(&self.buffer);
            match first_bytes(&self.hello) {
                FirstBytes::Incomplete => {
                    self.buffer.clear();
                    continue;
                }
                // Whatever it says, it cannot speak of a certificate that has not been shown.
                FirstBytes::Alert(alert) => {
                    return Err(match Reason::of_alert(alert) {
                        Reason::ClientCancelled => Reason::ClientCancelled.into(),
                        _ => Reason::ClientAlert.into(),
                    });
                }
                FirstBytes::NotTls(reason) => return Err(self.refuse(reason, None).await),
                FirstBytes::Tls => {}
            }
            if self.hello.len() > MAX_HELLO {
                return Err(self.refuse(Reason::MalformedHello, None).await);
            }
            let mut unread = &self.buffer[..];
            while !unread.is_empty() {
                // Reading from a slice cannot fail; rustls' buffer can be full, and then `accept` says why.
                let taken = acceptor.read_tls(&mut unread).unwrap_or(0);
                match acceptor.accept() {
                    Ok(Some(accepted)) => {
                        self.buffer = unread.to_vec();
                        return Ok(accepted);
                    }
                    Ok(None) if taken > 0 => {}
                    Ok(None) => return Err(self.refuse(Reason::MalformedHello, None).await),
                    Err((error, mut alert)) => {
                        let mut bytes = Vec::new();
                        let _ = alert.write_all(&mut bytes);
                        return Err(self.fail(error, bytes).await);
                    }
                }
            }
            self.buffer.clear();
        }
    }

    /// The certificate for the client's server name, by the snapshot of this moment.
    fn choose(&mut self, reader: &Reader) -> Result<Arc<ServerTls>, Reason> {
        let snapshot = reader.load();
        let (host, tls) = match snapshot.tls(self.server_name.as_deref()) {
            TlsChoice::Serve { host, tls } => (host, Ok(tls.clone())),
            TlsChoice::Absent(host) => (Some(host), Err(Reason::HostWithoutTls)),
            TlsChoice::Refused(host) => (Some(host), Err(Reason::HostRefused)),
            TlsChoice::Unknown if self.server_name.is_none() => (None, Err(Reason::NoServerName)),
            TlsChoice::Unknown => (None, Err(Reason::UnknownHost)),
        };
        self.host = host.cloned();
        tls
    }

    /// Exchanges messages until the handshake is complete and our last bytes (tickets) are written.
    async fn finish(&mut self, mut connection: ServerConnection) -> Result<ServerConnection, Failed> {
        let mut answers = 0;
        loop {
            let mut unread = &self.buffer[..];
            loop {
                // Called at least once, also without new bytes: what came behind the hello is inside already.
                if let Err(error) = connection.process_new_packets() {
                    let mut bytes = Vec::new();
                    while connection.wants_write() && connection.write_tls(&mut bytes).is_ok() {}
                    return Err(self.fail(error, bytes).await);
                }
                if unread.is_empty() || !matches!(connection.read_tls(&mut unread), Ok(1..)) {
                    break;
                }
            }
            self.buffer.clear();
            let mut bytes = Vec::new();
            while connection.wants_write() && connection.write_tls(&mut bytes).is_ok() {}
            answers += usize::from(!bytes.is_empty());
            let retried = connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
            self.stage = if retried && answers == 1 { Stage::Retried } else { Stage::Answered };
            if !bytes.is_empty()
                && let Err(error) = self.io.write_all(&bytes).await
                // A client that leaves without its tickets has completed the handshake all the same.
                && connection.is_handshaking()
            {
                return Err(Failed::Because { reason: Reason::ClosedAfterCertificate, source: Some(error) });
            }
            if !connection.is_handshaking() {
                return Ok(connection);
            }
            self.receive().await?;
        }
    }

    /// Reads once into the empty buffer; an end becomes what it means at this stage.
    async fn receive(&mut self) -> Result<(), Failed> {
        self.buffer.resize(READ_SIZE, 0);
        let result = self.io.read(&mut self.buffer).await;
        self.buffer.truncate(*result.as_ref().unwrap_or(&0));
        match result {
            Ok(1..) => Ok(()),
            Ok(0) => Err(match self.stage {
                Stage::Connected => Failed::Probe,
                Stage::Hello | Stage::Retried => Reason::ClosedInHello.into(),
                Stage::Answered => Reason::ClosedAfterCertificate.into(),
            }),
            Err(error) => Err(match self.stage {
                Stage::Connected => Failed::Probe,
                Stage::Hello | Stage::Retried => Failed::Because { reason: Reason::ResetInHello, source: Some(error) },
                Stage::Answered => Failed::Because { reason: Reason::ClosedAfterCertificate, source: Some(error) },
            }),
        }
    }

    /// Ends the handshake after an error of rustls, with the alert that it queued (`alert`), or ours if it has none
    /// or the wrong one.
    async fn fail(&mut self, error: rustls::Error, alert: Vec<u8>) -> Failed {
        let mut reason = Reason::of(&error);
        let mut alert = alert;
        // rustls looks for signature algorithms before it looks at versions, so TLS 1.0 and 1.1 clients, which know
        // no such list, get there the wrong name and the wrong alert.
        if reason == Reason::Sha1Only && legacy_version(&self.hello).is_some_and(|version| version < 0x0303) {
            reason = Reason::NoSharedVersion;
            alert.clear();
        }
        // It also looks at groups before it looks at suites: a client with nothing but static RSA has neither.
        if reason == Reason::NoSharedGroup && !self.shares_suite {
            reason = Reason::NoSharedSuite;
        }
        if reason == Reason::MalformedHello && self.stage == Stage::Answered {
            reason = Reason::ProtocolViolation;
        }
        if alert.is_empty() && !matches!(error, rustls::Error::AlertReceived(_)) {
            return self.refuse(reason, Some(error)).await;
        }
        self.decided = Some(reason);
        // The peer may be gone; the reason stands.
        let _ = self.io.write_all(&alert).await;
        Failed::Because { reason, source: Some(io::Error::other(error)) }
    }

    /// Ends the handshake with the alert (or the HTTP answer) that the reason asks for.
    async fn refuse(&mut self, reason: Reason, error: Option<rustls::Error>) -> Failed {
        self.decided = Some(reason);
        let answer = match (reason, reason.alert()) {
            (Reason::PlainHttp, _) => PLAIN_HTTP_ANSWER.to_vec(),
            (_, Some(alert)) => alert_record(alert).to_vec(),
            (_, None) => Vec::new(),
        };
        let _ = self.io.write_all(&answer).await;
        Failed::Because { reason, source: error.map(io::Error::other) }
    }

    fn established(self, connection: ServerConnection, tls: Arc<ServerTls>) -> Handshake<S> {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => Version::Tls13,
        };
        Handshake {
            server_name: self.server_name,
            host: self.host,
            tls,
            version,
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            http2: connection.alpn_protocol() == Some(b"h2"),
            client_certificate: connection.peer_certificates().is_some(),
            hello: self.hello,
            stream: TlsStream::new(self.io, connection),
        }
    }
}

/// A fatal alert in a record of its own, in clear (RFC 8446 sections 5.1 and 6).
fn alert_record(alert: AlertDescription) -> [u8; 7] {
    [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, u8::from(alert)]
}

const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 61\r\n\
    Connection: close\r\n\r\n\
    This port speaks HTTPS. Use https:// in front of the address\n";
